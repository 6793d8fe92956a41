"""Keras models that are not a chain, against Keras itself: the module that is read, and some of the exported files.

Most graphs are compared without an export, which takes a second or more each.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from support.keras_graph_run import examples, run_graphs
from support.keras_graphs import GRAPHS, Graph
from support.networks import build
from torch import nn

from lstm_edge_exporters.keras import load_keras
from lstm_edge_runtime.session import Session

# Not importorskip: keras imports its backend, TensorFlow unless told otherwise, and slows every other test.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("keras") is None, reason="Keras is not installed"),
]

# float32 against float32: 2e-6 is seen in the longest graphs; a mask that is forgotten gives 1e-2.
CLOSE = 1e-5
RANDOM = 25
FILES = [pytest.param(graph, form, id=f"{graph.name}{form}") for graph in GRAPHS for form in graph.forms]

# Exports of three and a half seconds and more.
SLOW_EXPORTS = ("merges", "nested", "operations", "transformer")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Let Keras, on PyTorch and in its own process, write every model and its answers."""
    made = tmp_path_factory.mktemp("graphs")
    run_graphs(made)
    return made


def assert_equal(got: list[np.ndarray], expected: list[np.ndarray], what: str) -> None:
    assert len(got) == len(expected)
    for k, (answer, value) in enumerate(zip(got, expected, strict=True)):
        assert answer.shape == value.shape, f"{what}, output {k}"
        np.testing.assert_allclose(answer, value, atol=CLOSE, rtol=CLOSE, err_msg=f"{what}, output {k}")


def answers(module: nn.Module, inputs: list[np.ndarray]) -> list[np.ndarray]:
    with torch.no_grad():
        return [y.numpy() for y in module(*map(torch.from_numpy, inputs)).values()]


@pytest.mark.parametrize(("graph", "form"), FILES)
def test_the_module_gives_what_keras_gives(folder: Path, graph: Graph, form: str) -> None:
    module = load_keras(folder / f"{graph.name}{form}")
    for inputs, expected in examples(folder, graph.name):
        assert_equal(answers(module, inputs), expected, f"{graph.name} at {[x.shape for x in inputs]}")
    if graph.specs:
        assert module.describe_model()["inputs"] == list(graph.specs)


@pytest.mark.parametrize(
    "graph",
    [
        pytest.param(graph, id=graph.name, marks=[pytest.mark.long] * (graph.name in SLOW_EXPORTS))
        for graph in GRAPHS
        if graph.exported
    ],
)
def test_the_exported_file_gives_what_keras_gives(folder: Path, graph: Graph) -> None:
    session = Session(build(load_keras(folder / f"{graph.name}.keras"), None).data)
    names = [spec.name for spec in session.card.inputs]
    for inputs, expected in examples(folder, graph.name):
        outputs, _ = session.run(dict(zip(names, inputs, strict=True)))
        assert_equal(list(outputs.values()), expected, f"{graph.name} at {[x.shape for x in inputs]}")


def test_the_state_of_a_decoder_is_its_own(folder: Path) -> None:
    """A decoder's first state comes from the encoder; where it is an input, it comes back as an output."""
    joined = build(load_keras(folder / "encoder-decoder.keras"), None).card
    assert [state.input for state in joined.states] == ["encoder.0.h", "encoder.0.c"]
    session = Session(build(load_keras(folder / "step.keras"), None).data)
    assert [(state.input, state.axes) for state in session.card.states] == [
        ("h", ("batch", 4)),
        ("c", ("batch", 4)),
    ]
    assert session.card.streaming.verdict == "every-step"


@pytest.mark.long
def test_random_graphs(tmp_path: Path) -> None:
    """Masks, models in models and attention in any order; another draw each needs only another first number."""
    run_graphs(tmp_path, 0, RANDOM)
    for seed in range(RANDOM):
        module = load_keras(tmp_path / f"random-{seed}.keras")
        for inputs, expected in examples(tmp_path, f"random-{seed}"):
            assert_equal(answers(module, inputs), expected, f"random graph {seed}")
