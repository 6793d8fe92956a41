"""A file that calls our own operators keeps their bodies when it gets caches or a front end, or is adopted."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import lstm_edge
from lstm_edge_exporters.adopt import adopt_bytes
from lstm_edge_exporters.front_end.request import parse_front_end
from lstm_edge_exporters.pytorch.export import build
from lstm_edge_exporters.pytorch.options import ExportOptions
from lstm_edge_exporters.quantize import quantize_bytes
from lstm_edge_runtime.function_check import called_operators, check_functions
from lstm_edge_runtime.session import Session

pytestmark = pytest.mark.slow

# A short transform: 64 samples a frame. float32 sums of another order: seen 3e-7.
FRONT_END, EQUAL = "log-mel:6,rate=1000,window=64,hop=32,fft=64", 1e-5


class Net(nn.Module):
    """A recurrent layer, behind a convolution that looks ahead if asked for, and a linear layer."""

    def __init__(self, layer, width, convolved):
        super().__init__()
        self.conv = nn.Conv1d(6, 6, 3, padding=1) if convolved else None
        self.layer, self.head = layer, nn.Linear(width, 2)

    def forward(self, x):
        if self.conv is not None:
            x = self.conv(x.transpose(1, 2)).transpose(1, 2)
        return self.head(self.layer(x)[0])


# The layer, its width, and the operators of the float32 file and of the int8 one.
LAYERS = {
    "projected": (lambda: nn.LSTM(6, 8, batch_first=True, proj_size=4), 4, "LstmProjectedV1", "LstmProjectedInt8V1"),
    "full": (lambda: lstm_edge.LSTM(6, 8, batch_first=True, peephole="full"), 8, "LstmFullV1", "LstmFullInt8V1"),
    "diagonal, projected": (
        lambda: lstm_edge.LSTM(6, 8, batch_first=True, peephole="diagonal", proj_size=4),
        4,
        "LstmDiagonalProjectedV1",
        "LstmDiagonalProjectedInt8V1",
    ),
    "gru": (lambda: nn.GRU(6, 8, batch_first=True), 8, "", "GruResetAfterInt8V1"),
    "rnn": (lambda: nn.RNN(6, 8, batch_first=True), 8, "", "RnnInt8V1"),
}
PLACES = {"front end": (False, FRONT_END), "convolution": (True, None), "both": (True, FRONT_END)}
MORE = (
    ("projected", "both"),
    ("full", "convolution"),
    ("diagonal, projected", "front end"),
    ("gru", "front end"),
    ("rnn", "front end"),
)


@pytest.mark.parametrize(
    ("name", "place"), [("projected", "front end"), *(pytest.param(*case, marks=pytest.mark.long) for case in MORE)]
)
def test_the_bodies_are_those_of_their_names(name, place):
    make, width, single, integer = LAYERS[name]
    convolved, text = PLACES[place]
    torch.manual_seed(5)
    module = Net(make(), width, convolved).eval()
    front_end = None if text is None else parse_front_end(text)
    options = ExportOptions(inputs=["x: float32[batch, time, 6]"], front_end=front_end)
    artifact = build(module, None, options).artifact
    assert artifact.card.streaming.verdict == "every-step"
    assert called_operators(artifact.data) == ((single,) if single else ())
    quantized = quantize_bytes(artifact.data, scheme="int8")
    assert called_operators(quantized.data)[0] == integer
    for data in (artifact.data, quantized.data):
        check_functions(data)
    x = torch.randn(2, 200 if text else 9, *(() if text else (6,))) * 0.3
    with torch.no_grad():
        expected = module(x if text is None else lstm_edge.front_end(text)(x)).numpy()
    session = Session(artifact.data)
    got = session.run(x.numpy())[0]["output"]
    assert np.abs(got - expected).max() < EQUAL
    stream = session.stream(2)
    pieces = [stream.push(x.numpy()[:, at : at + 3]) for at in range(0, x.shape[1], 3)]
    assert np.abs(np.concatenate([*pieces, stream.flush()], axis=1) - expected).max() < EQUAL


def test_a_file_without_its_card_is_adopted():
    torch.manual_seed(6)
    make, width, single, _ = LAYERS["full"]
    options = ExportOptions(inputs=["x: float32[batch, time, 6]"])
    artifact = build(Net(make(), width, convolved=False).eval(), None, options).artifact
    proto = onnx.ModelProto.FromString(artifact.data)
    del proto.metadata_props[:]
    pairs = {spec.input: spec.output for spec in artifact.card.states}
    adopted = adopt_bytes(proto.SerializeToString(deterministic=True), states=pairs).artifact
    assert called_operators(adopted.data) == (single,)
    assert {spec.input: spec.output for spec in adopted.card.states} == pairs
    x = np.random.default_rng(0).normal(size=(2, 7, 6)).astype(np.float32)
    one, other = (Session(data).run(x)[0]["output"] for data in (artifact.data, adopted.data))
    assert np.array_equal(one, other)
