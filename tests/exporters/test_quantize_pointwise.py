"""Convolutions of width 1 behind recurrent layers are quantized as the linear layers that they are."""

import numpy as np
import onnx
import pytest
import torch
from support.cached_modules import export_frame
from support.networks import snr_db
from torch import Tensor, nn

from lstm_edge_exporters.adopt import adopt_bytes
from lstm_edge_exporters.quantize import quantize_bytes
from lstm_edge_exporters.quantize.calibration import collect
from lstm_edge_exporters.quantize.compensate import calibrated_rounder
from lstm_edge_runtime.session import Session

pytestmark = pytest.mark.slow

STEPS = 200


class Behind(nn.Module):
    """A recurrent layer and convolutions over its answer; x [1, time, 7]."""

    def __init__(self, cell, *heads: nn.Module) -> None:
        super().__init__()
        self.rnn, self.out = cell(7, 64, batch_first=True), nn.Sequential(*heads)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        y, h = self.rnn(x, h)
        return self.out(y.transpose(1, 2)).transpose(1, 2), h


@pytest.mark.parametrize(
    ("cell", "heads"),
    [
        (nn.GRU, (nn.Conv1d(64, 4, 1),)),
        (nn.GRU, (nn.Conv1d(64, 33, 1, bias=False), nn.ReLU(), nn.Conv1d(33, 5, 1))),
        (nn.RNN, (nn.Tanh(), nn.Conv1d(64, 1, 1))),
    ],
)
def test_every_bit_is_the_same_wherever_a_sequence_is_cut(cell, heads):
    torch.manual_seed(0)
    parent = adopt_bytes(_exported(Behind(cell, *heads))).artifact
    assert parent.card.streaming.verdict == "every-step"
    small = quantize_bytes(parent.data)
    rows = {row.layer: row.scheme for row in small.card.quantization.coverage}
    assert {scheme for layer, scheme in rows.items() if layer.startswith("out")} == {"int8"}
    x = np.random.default_rng(0).standard_normal((1, STEPS, 7)).astype(np.float32)
    for kernels in ("auto", "off"):
        session = Session(small.data, kernels=kernels)
        whole = session.run(x)[0]["y"]
        stream = session.stream()
        pieces = [stream.push(np.ascontiguousarray(part)) for part in np.split(x, [1, 2, 3, 40, 41, 120], axis=1)]
        assert np.array_equal(np.concatenate(pieces, 1), whole)
        assert snr_db(whole, Session(parent.data).run(x)[0]["y"]) > 25


def test_other_convolutions_and_files_of_recurrent_layers_alone_keep_theirs():
    torch.manual_seed(0)
    wide = adopt_bytes(_exported(Behind(nn.GRU, nn.Conv1d(64, 4, 3, padding=1)))).artifact.data
    narrow = adopt_bytes(_exported(Behind(nn.GRU, nn.Conv1d(64, 4, 1)))).artifact.data
    for data, layers in ((wide, "all"), (narrow, "recurrent")):
        small = onnx.load_from_string(quantize_bytes(data, layers=layers).data)
        assert [node.op_type for node in small.graph.node].count("Conv") == 1


def _exported(module: nn.Module) -> bytes:
    axes = {"x": {1: "n"}, "y": {1: "n"}}
    return export_frame(module, {"x": (1, 9, 7), "h": (1, 1, 64)}, ["y", "hn"], axes)


def test_calibration_sees_them_as_the_linear_layers_that_they_become():
    torch.manual_seed(0)
    parent = adopt_bytes(_exported(Behind(nn.GRU, nn.Conv1d(64, 4, 1)))).artifact
    x = np.random.default_rng(0).standard_normal((1, STEPS, 7)).astype(np.float32)
    calibration = collect(parent.data, [{"x": x}])
    small = quantize_bytes(parent.data, rounder=calibrated_rounder(calibration))
    rows = {row.layer: row.scheme for row in small.card.quantization.coverage}
    assert {scheme for layer, scheme in rows.items() if layer.startswith("out")} == {"int8"}
