"""Keras files against Keras itself: for every layer and option, the exported file gives what Keras gives.

torch.export takes about a second whatever it exports, so all cases with the same kind of input are exported together,
as one module with many branches; each case is then compared by itself.
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.keras_cases import CASES, Case
from support.keras_run import run_keras
from support.networks import build
from torch import Tensor, nn

from lstm_edge_exporters.artifact import Artifact
from lstm_edge_exporters.keras import KerasModel, load_keras
from lstm_edge_exporters.verify.open_model import OpenModel
from lstm_edge_runtime.errors import LstmEdgeError
from lstm_edge_runtime.session import Session

# Not importorskip: keras imports its backend, TensorFlow unless told otherwise, and slows every other test.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("keras") is None, reason="Keras is not installed"),
]

# float32 against float32: 4e-7 is seen over all cases; a wrong gate order or a mask that is forgotten gives 1e-2.
CLOSE = 1e-5

# The two largest groups, whose exports take half a minute each.
SLOW_GROUPS = ("floats-layers", "floats-masked")
FILES = [pytest.param(case, ".keras", id=case.name) for case in CASES]
LEGACY = [pytest.param(case, ".h5", id=f"{case.name}-h5") for case in CASES if case.legacy]


def group_of(case: Case) -> str:
    """Return with which others a case is exported: those with the same input."""
    kind = case.name.split("-")[0]
    base = "ids" if case.ids else f"floats-{case.time}" if case.time else "floats"
    # The golden vectors of a file have 64 KiB, which bounds how many outputs go together.
    part = "" if case.masked or case.ids else "-layers" if kind not in ("lstm", "bidirectional") else f"-{kind}"
    return f"{base}{part}{'-masked' * case.masked}{'-gru' * ('gru' in case.name)}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Let Keras, on PyTorch and in its own process, write every model and its answers."""
    made = tmp_path_factory.mktemp("keras")
    run_keras(made)
    return made


def read_answers(folder: Path, case: Case) -> list[tuple[np.ndarray, list[np.ndarray]]]:
    """Return each input with Keras's outputs for it."""
    with np.load(folder / f"{case.name}.npz") as arrays:
        found = dict(arrays)
    pairs = []
    for index in range(sum(name.startswith("x") for name in found)):
        outputs = [name for name in found if name.startswith(f"y{index}_")]
        pairs.append((found[f"x{index}"], [found[f"y{index}_{k}"] for k in range(len(outputs))]))
    assert len(pairs) > 1
    assert len({x.shape for x, _ in pairs}) > 1
    return pairs


def assert_equal(got: np.ndarray, expected: np.ndarray, what: str) -> None:
    # The average of a row without a valid step: Keras divides by zero, an exported file gives 0.
    expected = np.where(np.isnan(expected), 0.0, expected)
    assert got.shape == expected.shape, what
    np.testing.assert_allclose(got, expected, atol=CLOSE, rtol=CLOSE, err_msg=what)


@pytest.mark.parametrize(("case", "suffix"), FILES + LEGACY)
def test_the_module_gives_what_keras_gives(folder: Path, case: Case, suffix: str) -> None:
    module = load_keras(folder / f"{case.name}{suffix}")
    for x, expected in read_answers(folder, case):
        with torch.no_grad():
            answers = module(torch.from_numpy(x))
        for k, (answer, value) in enumerate(zip(answers.values(), expected, strict=True)):
            # A state that the model returns comes whole, with an axis for the direction before it.
            got = answer[0] if k in dict(case.states) else answer
            assert_equal(got.numpy(), value, f"{case.name}, output {k} at {x.shape}")


class Together(nn.Module):
    """Several Keras models on one input; their outputs carry the model's name."""

    def __init__(self, models: dict[str, KerasModel]) -> None:
        super().__init__()
        self.names = list(models)
        for name, model in models.items():
            self.add_module(name, model)
        self.description = next(iter(models.values())).describe_model()
        self.eval()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {
            f"{name}__{output}": answer for name in self.names for output, answer in self.get_submodule(name)(x).items()
        }

    def describe_model(self) -> dict[str, Any]:
        return self.description


@pytest.fixture(scope="module")
def exported(folder: Path) -> dict[str, Artifact]:
    """Return the exported file of each group that has been asked for, to be filled."""
    return {}


def export_group(folder: Path, made: dict[str, Artifact], group: str) -> Artifact:
    if group not in made:
        cases = [case for case in CASES if case.own_graph and group_of(case) == group]
        models = {case.name.replace("-", "_"): load_keras(folder / f"{case.name}.keras") for case in cases}
        made[group] = build(Together(models), None)
    return made[group]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=[pytest.mark.long] * (group_of(case) in SLOW_GROUPS))
        for case in CASES
        if case.own_graph
    ],
)
def test_the_exported_file_gives_what_keras_gives(folder: Path, exported: dict[str, Artifact], case: Case) -> None:
    artifact = export_group(folder, exported, group_of(case))
    model, card = OpenModel.of(artifact.data), artifact.card
    prefix = case.name.replace("-", "_")
    outputs = [spec.name for spec in card.outputs if spec.name.startswith(f"{prefix}__")]
    for x, expected in read_answers(folder, case):
        feeds = {card.inputs[0].name: x}
        for spec in card.states:
            feeds[spec.input] = np.zeros([x.shape[0] if axis == "batch" else axis for axis in spec.axes], np.float32)
        got = model.answers(feeds)
        names = iter(outputs)
        for k, value in enumerate(expected):
            state = dict(case.states).get(k)
            answer = got[next(names)] if state is None else got[f"{prefix}.{state}"][0]
            assert_equal(answer, value, f"{case.name}, output {k} at {x.shape}")
        assert next(names, None) is None


def test_a_sequence_shorter_than_the_window_is_refused(folder: Path) -> None:
    """onnxruntime would run its LSTM over no steps, and return memory that nobody wrote."""
    artifact = build(load_keras(folder / "pooling-valid.keras"), None)
    assert artifact.card.parity is not None
    assert "batch 1, time 1: RuntimeError" in artifact.card.parity.refused
    session = Session(artifact.data)
    assert session.run(np.ones((2, 4, 3), np.float32))[0]
    for time in (1, 2, 3):
        with pytest.raises(LstmEdgeError):
            session.run(np.ones((2, time, 3), np.float32))
