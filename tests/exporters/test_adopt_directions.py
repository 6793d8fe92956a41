"""Layers that run over another axis than time: neither backwards nor a hidden state there forbids streaming."""

import numpy as np
import pytest
import torch
from support.cached_modules import export_frame
from support.foreign_files import hidden
from torch import Tensor, nn

from lstm_edge_exporters.adopt import adopt_bytes
from lstm_edge_exporters.verify.compare import STREAM, assert_close
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.providers import open_session
from lstm_edge_runtime.session import Session

pytestmark = pytest.mark.slow

BANDS = 9


class Frame(nn.Module):
    """x [1, 9, 4]: a layer over the bands of one frame, then one over time with its state in and out."""

    def __init__(self, cell, *, bidirectional: bool, state: bool = True) -> None:
        super().__init__()
        self.intra = cell(4, 3, batch_first=True, bidirectional=bidirectional)
        self.inter, self.state = nn.GRU(6 if bidirectional else 3, 4), state

    def forward(self, x: Tensor, state: Tensor | None = None):
        y, _ = self.intra(x)
        z, after = self.inter(y, state)
        return (z + x, after) if self.state else z + x


@pytest.mark.parametrize("cell", [nn.GRU, nn.LSTM, nn.RNN])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_a_layer_over_the_bands_of_a_frame_does_not_forbid_streaming(cell, bidirectional):
    torch.manual_seed(1)
    module = Frame(cell, bidirectional=bidirectional)
    data = export_frame(module, {"x": (1, BANDS, 4), "s": (1, BANDS, 4)}, ["y", "s_out"])
    adopted = adopt_bytes(data)
    assert adopted.artifact.card.streaming.verdict == "each-call"
    original, stream, s = open_session(data), Session(adopted.artifact.data).stream(), np.zeros((1, BANDS, 4), "f4")
    for index, x in enumerate(np.random.default_rng(2).standard_normal((6, 1, BANDS, 4)).astype(np.float32)):
        y, s = original.run(["y", "s_out"], {"x": x, "s": s})
        assert_close(f"frame {index}", stream.push(x), y, STREAM)


def test_stateful_leaves_a_layer_over_the_bands_alone():
    torch.manual_seed(1)
    data = export_frame(Frame(nn.GRU, bidirectional=True, state=False), {"x": (1, BANDS, 4)}, ["y"])
    adopted = adopt_bytes(data, stateful=True)
    card = adopted.artifact.card
    assert [spec.axes for spec in card.states] == [(1, BANDS, 4)]
    assert card.streaming.verdict == "each-call"
    assert any("does not run over time: it starts from zeros in every call" in note for note in adopted.notes)
    plain = adopt_bytes(data).artifact.card
    assert plain.streaming.verdict == "none"
    assert plain.streaming.reason.endswith("starts every call from the same state: adopt the file with --stateful")


class Sequence(nn.Module):
    """x [batch, time, 9, 4]: a bidirectional layer over the bands of each frame, one over time for each band."""

    def __init__(self, *, backward: bool) -> None:
        super().__init__()
        self.intra = nn.LSTM(4, 3, batch_first=True, bidirectional=True)
        self.inter = nn.GRU(6, 5, batch_first=True, bidirectional=backward)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        batch, time = x.shape[0], x.shape[1]
        y, _ = self.intra(x.reshape(-1, BANDS, 4))
        y = y.reshape(batch, time, BANDS * 6)[:, :, :6]
        return self.inter(y, h)


@pytest.mark.parametrize("backward", [False, True])
def test_chunks_of_frames_are_streamed_where_only_the_bands_are_read_backwards(backward):
    torch.manual_seed(4)
    shapes = {"x": (2, 5, BANDS, 4), "h": (1 + backward, 2, 5)}
    axes = {"x": {0: "b", 1: "n"}, "h": {1: "b"}, "y": {0: "b", 1: "n"}, "hn": {1: "b"}}
    data = export_frame(Sequence(backward=backward), shapes, ["y", "hn"], axes)
    adopted = adopt_bytes(data)
    card = adopted.artifact.card
    assert card.inputs[0].axes == ("batch", "time", BANDS, 4)
    if backward:
        assert card.streaming.verdict == "none"
        assert "inter" in card.streaming.reason
        assert "intra" not in card.streaming.reason
        return
    assert card.streaming.verdict == "every-step"
    x = np.random.default_rng(5).standard_normal((1, 8, BANDS, 4)).astype(np.float32)
    stream = Session(adopted.artifact.data).stream()
    pieces = [stream.push(np.ascontiguousarray(x[:, start : start + 2])) for start in range(0, 8, 2)]
    (whole,) = open_session(data).run(["y"], {"x": x, "h": np.zeros((1, 1, 5), np.float32)})
    assert_close("chunks", np.concatenate(pieces, 1), whole, STREAM)


def test_a_layer_backwards_in_time_still_forbids_it():
    with pytest.raises(ArtifactError, match="is bidirectional: its reverse direction needs the whole sequence"):
        adopt_bytes(_bidirectional(), stateful=True)
    assert "backwards in time" in adopt_bytes(_bidirectional()).artifact.card.streaming.reason


def _bidirectional() -> bytes:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.second = nn.LSTM(4, 3, bidirectional=True), nn.LSTM(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.rnn(x)[0])[0]

    return export_frame(Both(), {"x": (12, 1, 4)}, ["y"])


def test_a_fixed_number_of_frames_in_a_call_is_time():
    """Both layers take twelve steps in a call, one carries its state: the other one runs over time as well."""

    class Chunk(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.GRU(4, 3, bidirectional=True), nn.GRU(6, 3)

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            return self.two(self.one(x)[0], h)

    card = adopt_bytes(export_frame(Chunk(), {"x": (12, 1, 4), "h": (1, 1, 3)}, ["y", "hn"])).artifact.card
    assert card.streaming.verdict == "none"
    assert "backwards in time" in card.streaming.reason
    assert adopt_bytes(hidden()).artifact.card.streaming.verdict == "none"


def test_a_constant_initial_state_is_not_sent_to_stateful():
    class Started(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.h = nn.GRU(4, 3), nn.Parameter(torch.ones(1, 1, 3))

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x, self.h)[0]

    data = export_frame(Started(), {"x": (5, 1, 4)}, ["y"], {"x": {0: "n"}, "y": {0: "n"}})
    reason = adopt_bytes(data).artifact.card.streaming.reason
    assert reason.endswith("from constants other than zero, which --stateful leaves as they are")


class Causal(nn.Module):
    """A causal convolution with a cache in front of a GRU, over chunks of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.rnn = nn.Conv1d(6, 6, 3), nn.GRU(6, 5, batch_first=True)

    def forward(self, x: Tensor, cache: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        joined = torch.cat([cache, x.transpose(1, 2)], 2)
        y, h = self.rnn(torch.relu(self.conv(joined)).transpose(1, 2), h)
        return y, joined[:, :, -2:], h


def test_a_causal_convolution_with_its_cache_is_streamed_in_chunks():
    torch.manual_seed(0)
    shapes = {"x": (2, 7, 6), "cache": (2, 6, 2), "h": (1, 2, 5)}
    axes = {name: {0: "b"} for name in ("cache", "cache_out")} | {name: {1: "b"} for name in ("h", "hn")}
    axes |= {name: {0: "b", 1: "t"} for name in ("x", "y")}
    adopted = adopt_bytes(export_frame(Causal(), shapes, ["y", "cache_out", "hn"], axes))
    card = adopted.artifact.card
    assert card.inputs[0].axes == ("batch", "time", 6)
    assert {spec.input: spec.output for spec in card.states} == {"cache": "cache_out", "h": "hn"}
    assert card.streaming.verdict == "every-step"
