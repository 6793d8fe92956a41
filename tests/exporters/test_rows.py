"""The rows that a recurrent layer sees: fixed, made in forward, or other axes folded into the batch."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import lstm_edge
from lstm_edge_runtime import Session
from lstm_edge_runtime.errors import CaptureError

pytestmark = pytest.mark.slow

# float32 sums in another order, over a few calls.
CLOSE = 1e-5


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0]


class Tagger(nn.Module):
    """One sequence; forward makes a batch of 1 by ``len``."""

    def __init__(self) -> None:
        super().__init__()
        self.emb, self.lstm, self.out = nn.Embedding(11, 6), nn.LSTM(6, 5), nn.Linear(5, 3)

    def forward(self, words: Tensor) -> Tensor:
        y, _ = self.lstm(self.emb(words).view(len(words), 1, -1))
        return self.out(y.view(len(words), -1))


class PerSensor(nn.Module):
    """Each of 3 sensors of each row is a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(2, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        b, t, s, f = x.shape
        y, _ = self.gru(x.permute(0, 2, 1, 3).reshape(b * s, t, f))
        return y.reshape(b, s, t, 4).transpose(1, 2)


class DualPath(nn.Module):
    """A bidirectional layer over the bands of each frame, then a layer over time for each band."""

    def __init__(self) -> None:
        super().__init__()
        self.intra = nn.GRU(3, 4, batch_first=True, bidirectional=True)
        self.inter = nn.LSTM(8, 5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        b, t, f, c = x.shape
        y = self.intra(x.reshape(b * t, f, c))[0].reshape(b, t, f, 8)
        z = self.inter(y.transpose(1, 2).reshape(b * f, t, 8))[0]
        return z.reshape(b, f, t, 5).transpose(1, 2)


class PackedFrames(nn.Module):
    """A layer over the sensors of each frame, then one over time that packs by lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.intra, self.lstm = nn.GRU(2, 4, batch_first=True), nn.LSTM(12, 5, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        b, t, s, f = x.shape
        y = self.intra(x.reshape(b * t, s, f))[0].reshape(b, t, s * 4)
        packed = pack_padded_sequence(y, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=t)[0]


class Controller(nn.Module):
    """The state is a buffer for a batch of 1, written in place."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.out = nn.GRU(6, 8), nn.Linear(8, 2)
        self.register_buffer("h", torch.zeros(1, 1, 8))

    def forward(self, obs: Tensor) -> Tensor:
        y, h = self.gru(obs[None], self.h)
        self.h[:] = h
        return self.out(y[0])


class Attributes(nn.Module):
    """The state is two attributes of a cell, for 2 rows."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.LSTMCell(6, 5), nn.Linear(5, 2)
        self.h, self.c = torch.zeros(2, 5), torch.zeros(2, 5)

    def forward(self, obs: Tensor) -> Tensor:
        self.h, self.c = self.cell(obs, (self.h, self.c))
        return self.out(self.h)


# A module, its input, the shape of that input in the first call, and the axes of its first state.
TIMED = {
    "batch 1": (Plain, "x: float32[1, time, 6]", (1, 7, 6), (1, 1, 4)),
    "batch 4": (Plain, "x: float32[4, time, 6]", (4, 7, 6), (1, 4, 4)),
    "made in forward": (Tagger, "words: int64[time]", (7,), (1, 1, 5)),
    "sensors": (PerSensor, "x: float32[batch, time, 3, 2]", (2, 7, 3, 2), (1, "batch*3", 4)),
    "one row of sensors": (PerSensor, "x: float32[1, time, 3, 2]", (1, 7, 3, 2), (1, 3, 4)),
    "dual path": (DualPath, "x: float32[batch, time, 5, 3]", (2, 7, 5, 3), (1, "batch*5", 5)),
}


def drawn(shape: tuple[int, ...], *, integers: bool) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 11, shape) if integers else rng.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("name", list(TIMED))
def test_states_have_the_rows_that_the_layer_sees(name, tmp_path):
    kind, text, shape, axes = TIMED[name]
    torch.manual_seed(0)
    module = kind().eval()
    lstm_edge.export(module, None, tmp_path / "m.onnx", inputs=[text])
    session = Session(tmp_path / "m.onnx")
    assert session.states[0].axes == axes
    assert session.card.streaming.verdict == "every-step"
    x = drawn(shape, integers="int64" in text)
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(next(iter(session.run(x)[0].values())), expected, atol=CLOSE)
    time = text[text.index("[") + 1 :].split(", ").index("time") if ", " in text else 0
    state, pieces = None, []
    for piece in np.split(x, (3, 4), axis=time):
        out, state = session.run(piece, state)
        pieces.append(next(iter(out.values())))
    np.testing.assert_allclose(np.concatenate(pieces, time), expected, atol=CLOSE)
    stream = session.stream(batch_size=shape[0]) if "batch" in text else session.stream()
    np.testing.assert_allclose(stream.push(x), expected, atol=CLOSE)


@pytest.mark.parametrize(
    ("kind", "rows", "axes"), [(Controller, 1, (1, 1, 8)), (Attributes, 2, (1, 2, 5))], ids=["buffer", "attributes"]
)
def test_a_state_that_the_module_keeps_is_explicit(kind, rows, axes, tmp_path):
    torch.manual_seed(0)
    module = kind().eval()
    lstm_edge.export(module, None, tmp_path / "m.onnx", inputs=[f"obs: float32[{rows}, 6]"])
    assert not any(bool(tensor.any()) for tensor in (module.h, getattr(module, "c", module.h)))
    session, state = Session(tmp_path / "m.onnx"), None
    assert session.states[0].axes == axes
    assert session.card.streaming.verdict == "each-call"
    for seed in range(4):
        obs = np.random.default_rng(seed).normal(size=(rows, 6)).astype(np.float32)
        out, state = session.run(obs, state)
        with torch.no_grad():
            np.testing.assert_allclose(next(iter(out.values())), module(torch.from_numpy(obs)).numpy(), atol=CLOSE)


def test_lengths_need_a_dynamic_batch_axis(tmp_path):
    with pytest.raises(CaptureError, match=r"no input has a dynamic batch axis, and lengths are one number per row"):
        lstm_edge.export(Plain().eval(), None, tmp_path / "m.onnx", inputs=["x: float32[1, time, 6]"], lengths=True)


def test_rows_that_follow_another_axis_are_refused_with_both_ways_out(tmp_path):
    text = "x: float32[batch, time, sensors, 2]"
    with pytest.raises(
        CaptureError, match=r"gru: the layer gets 9 rows .*multiple of the axis 'batch'.*--states hidden"
    ):
        lstm_edge.export(PerSensor().eval(), None, tmp_path / "m.onnx", inputs=[text])
    module = PerSensor().eval()
    lstm_edge.export(module, None, tmp_path / "m.onnx", inputs=[text], states="hidden")
    x = drawn((2, 6, 4, 2), integers=False)
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(next(iter(Session(tmp_path / "m.onnx").run(x)[0].values())), expected, atol=CLOSE)


def test_a_kept_state_that_is_not_zero_is_named(tmp_path):
    module = Controller().eval()
    module.h.fill_(0.3)
    with pytest.raises(CaptureError, match=r"gru: the module holds a state that is not zero, h \(.*set it to zeros"):
        lstm_edge.export(module, None, tmp_path / "m.onnx", inputs=["obs: float32[1, 6]"])
    assert float(module.h.min()) == pytest.approx(0.3)


@pytest.mark.parametrize("states", ["explicit", "hidden"])
def test_lengths_are_not_given_to_a_layer_over_another_axis(states, tmp_path):
    texts = ["x: float32[batch, time, 3, 2]", "lengths: int64[batch]"]
    torch.manual_seed(0)
    module = PackedFrames().eval()
    lstm_edge.export(module, None, tmp_path / "m.onnx", inputs=texts, states=states)
    session, x = Session(tmp_path / "m.onnx"), drawn((3, 8, 3, 2), integers=False)
    with torch.no_grad():
        expected = module(torch.from_numpy(x), torch.tensor([5, 8, 2])).numpy()
    answer = next(iter(session.run(x, lengths=[5, 8, 2])[0].values()))
    np.testing.assert_allclose(answer, expected, atol=CLOSE)
