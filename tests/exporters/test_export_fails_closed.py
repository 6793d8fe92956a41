"""Export fails closed: a file that is not the module, or a path that takes none, and nothing appears."""

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from support.cases import build_layer, case_named
from support.networks import NETWORKS, seeded

import lstm_edge_exporters.pytorch.standin
from lstm_edge import export
from lstm_edge.layers import LSTM
from lstm_edge_runtime.errors import OutputError, ParityError

pytestmark = pytest.mark.slow


def swapped_gates(layer):
    arrays = ORIGINAL(layer)
    blocks = np.split(arrays["W"], 4, axis=1)
    return arrays | {"W": np.concatenate([blocks[1], blocks[0], *blocks[2:]], axis=1)}


def without_recurrent_bias(layer):
    arrays = ORIGINAL(layer)
    bias = arrays["B"].copy()
    bias[:, bias.shape[1] // 2 :] = 0
    return arrays | {"B": bias}


def other_direction(layer):
    return {name: array[::-1].copy() for name, array in ORIGINAL(layer).items()}


def recurrent_transposed(layer):
    arrays = ORIGINAL(layer)
    blocks = [block.transpose(0, 2, 1) for block in np.split(arrays["R"], 4, axis=1)]
    return arrays | {"R": np.concatenate(blocks, axis=1)}


def peephole_in_pytorch_order(layer):
    arrays = ORIGINAL(layer)
    blocks = np.split(arrays["P"], 3, axis=1)
    return arrays | {"P": np.concatenate([blocks[0], blocks[2], blocks[1]], axis=1)}


def a_hair_off(layer):
    return {name: array * np.float32(1.001) for name, array in ORIGINAL(layer).items()}


ORIGINAL = lstm_edge_exporters.pytorch.standin.onnx_weights

MUTATIONS = [
    (swapped_gates, "standard"),
    (without_recurrent_bias, "standard"),
    (recurrent_transposed, "standard"),
    (a_hair_off, "standard"),
    (other_direction, "bidirectional"),
    (peephole_in_pytorch_order, "diagonal"),
]


@pytest.mark.parametrize(("mutation", "case"), MUTATIONS, ids=lambda value: getattr(value, "__name__", value))
def test_a_wrong_export_is_caught_and_leaves_nothing(mutation, case: str, tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    target.write_bytes(b"what was here before")
    with (
        mock.patch.object(lstm_edge_exporters.pytorch.standin, "onnx_weights", mutation),
        pytest.raises(ParityError, match=r"the captured model is not the module: .* tolerance .*; nothing was written"),
    ):
        export(build_layer(case_named(case)), None, target, inputs=["x: float32[time, batch, 3]"])
    assert target.read_bytes() == b"what was here before"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("part", ["w", "r", "b", "p", "po", "v"])
def test_a_wrong_function_weight_is_caught(part: str, tmp_path: Path) -> None:
    original = lstm_edge_exporters.pytorch.standin.operator_weights

    def mutation(side):
        arrays = original(side)
        return arrays | {part: np.roll(arrays[part], 1, axis=-1)}

    module = seeded(LSTM(3, 6, peephole="full", proj_size=4))
    with (
        mock.patch.object(lstm_edge_exporters.pytorch.standin, "operator_weights", mutation),
        pytest.raises(ParityError, match="the captured model is not the module"),
    ):
        export(module, None, tmp_path / "model.onnx", inputs=["x: float32[time, batch, 3]"])
    assert not list(tmp_path.iterdir())


def test_looking_past_the_end_of_a_row_says_what_to_use(tmp_path: Path) -> None:
    class LastOutput(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = torch.nn.LSTM(3, 5, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.rnn(x)[0][:, -1]

    sentence = r"as y\[:, -1\] does: use h_n, the state after that step, or give forward a parameter lengths$"
    with pytest.raises(ParityError, match=sentence):
        export(seeded(LastOutput().eval()), torch.randn(2, 5, 3), tmp_path / "model.onnx", lengths=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("what", ["missing-folder", "folder"])
def test_an_unwritable_path_is_refused_before_any_work(what: str, tmp_path: Path) -> None:
    target = {"missing-folder": tmp_path / "no" / "model.onnx", "folder": tmp_path}[what]
    lines: list[str] = []
    with pytest.raises(OutputError, match=r"does not exist; make it first|is a directory; give the path of a file"):
        export(NETWORKS["classifier"](), torch.randn(2, 5, 3), target, progress=lines.append)
    assert lines == []
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which nobody, not even root, can write")
def test_a_folder_that_takes_no_files() -> None:
    with pytest.raises(OutputError, match=r"/proc is not writable|the file cannot be written"):
        export(NETWORKS["last-step"](), torch.randn(2, 5, 3), "/proc/model.onnx")
