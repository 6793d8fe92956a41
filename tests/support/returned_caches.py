"""Modules around recurrent layers that take caches as arguments and return their next values, and some that do not."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["FORMS", "NO_STATES", "Caching", "PreviousFrame", "TwoRegisters"]

X = "x: float32[batch, time, 6]"
FRAME = "x: float32[batch, 6]"
H = "h: float32[batch, 8]"


@dataclass(frozen=True, kw_only=True)
class Caching:
    """A module, its inputs, and the inputs that are states with the output that each comes back by."""

    module: Callable[[], nn.Module]
    inputs: tuple[str, ...]
    states: Mapping[str, str]
    verdict: str = "every-step"
    others: tuple[str, ...] = ("x",)
    counts: Mapping[str, str] = field(default_factory=dict)


class Register(nn.Module):
    """A causal convolution whose last frames are an argument, beside h of the layer."""

    def __init__(self, dilation: int = 1, *, given: bool = True) -> None:
        super().__init__()
        self.keep, self.given = 3 * dilation, given
        self.conv, self.rnn = nn.Conv1d(6, 5, 4, dilation=dilation), nn.GRU(5, 8, batch_first=True)

    def forward(self, x: Tensor, cache: Tensor, h: Tensor | None = None) -> Any:
        joined = torch.cat([cache, x.transpose(1, 2)], 2)
        y, h = self.rnn(torch.relu(self.conv(joined)).transpose(1, 2), h)
        return (y, joined[:, :, -self.keep :], h) if self.given else (y, joined[:, :, -self.keep :])


class Register2d(nn.Module):
    """[batch, channels, k - 1, frequency]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.rnn = nn.Conv2d(1, 3, (3, 3), padding=(0, 1)), nn.LSTM(18, 7, batch_first=True)

    def forward(self, x: Tensor, cache: Tensor) -> Any:
        joined = torch.cat([cache, x], 2)
        return self.rnn(self.conv(joined).transpose(1, 2).flatten(2))[0], joined[:, :, -2:]


class TwoRegisters(nn.Module):
    """Two caches of one shape, which come back in the other order."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.rnn = nn.Conv1d(6, 6, 3), nn.Conv1d(6, 6, 3), nn.GRU(6, 8, batch_first=True)

    def forward(self, x: Tensor, p: Tensor, q: Tensor) -> Any:
        one = torch.cat([p, x.transpose(1, 2)], 2)
        two = torch.cat([q, torch.relu(self.a(one))], 2)
        return self.rnn(self.b(two).transpose(1, 2))[0], two[:, :, -2:], one[:, :, -2:]


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(6, 8, batch_first=True)

    def forward(self, x: Tensor, count: Tensor) -> Any:
        place = count[:, None] + torch.arange(x.shape[1])
        return self.rnn(x)[0] * torch.cos(0.1 * place)[:, :, None], count + x.shape[1]


class RunningMean(nn.Module):
    """The mean of all frames so far, and their number."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(6, 8, batch_first=True)

    def forward(self, x: Tensor, mean: Tensor, count: Tensor) -> Any:
        total = count[:, None] + torch.arange(1, x.shape[1] + 1, dtype=x.dtype)
        means = ((mean * count[:, None])[:, None] + x.cumsum(1)) / total[:, :, None]
        return self.rnn(x - means)[0], means[:, -1], total[:, -1]


class Attention(nn.Module):
    """Each step attends to itself and the three steps before it."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.q, self.k = nn.GRU(6, 8, batch_first=True), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor, kv: tuple[Tensor, Tensor]) -> Any:
        y, _ = self.rnn(x)
        keys, values = torch.cat([kv[0], self.k(y)], 1), torch.cat([kv[1], y], 1)
        step, seen = torch.arange(x.shape[1])[:, None], torch.arange(x.shape[1] + 3)[None]
        near = (seen >= step) & (seen <= step + 3)
        share = torch.softmax((self.q(y) @ keys.transpose(1, 2)).masked_fill(~near, -1e9), -1)
        return share @ values, (keys[:, -3:], values[:, -3:])


class Nested(nn.Module):
    """Caches and the layer's state in dicts and lists."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.rnn = nn.Conv1d(6, 6, 3), nn.Conv1d(6, 6, 5), nn.LSTM(6, 8, batch_first=True)

    def forward(self, x: Tensor, state: Any) -> Any:
        one = torch.cat([state["conv"][0], x.transpose(1, 2)], 2)
        two = torch.cat([state["conv"][1], torch.relu(self.a(one))], 2)
        y, hc = self.rnn(self.b(two).transpose(1, 2), state["rnn"])
        return y, {"conv": [one[:, :, -2:], two[:, :, -4:]], "rnn": hc}


class RegisterStep(nn.Module):
    """One frame per call; the cache is moved by one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.cell = nn.Conv1d(6, 5, 4), nn.GRUCell(5, 8)

    def forward(self, x: Tensor, cache: Tensor, h: Tensor) -> Any:
        joined = torch.cat([cache, x[:, :, None]], 2)
        h = self.cell(torch.relu(self.conv(joined))[:, :, 0], h)
        return 2 * h, joined[:, :, 1:], h


class Welford(nn.Module):
    """Mean, sum of squares and number of all frames so far; the root is of numbers that are not negative."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(6, 8)

    def forward(self, x: Tensor, mean: Tensor, squares: Tensor, count: Tensor, h: Tensor, c: Tensor) -> Any:
        count, away = count + 1, x - mean
        mean = mean + away / count[:, None]
        squares = squares + away * (x - mean)
        h, c = self.cell((x - mean) / torch.sqrt(squares / count[:, None] + 1e-2), (h, c))
        return 2 * h, mean, squares, count, h, c


class Ring(nn.Module):
    """A ring of five frames; the place that is written is counted."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(6, 8)

    def forward(self, x: Tensor, ring: Tensor, place: Tensor, h: Tensor) -> Any:
        h = self.cell(x, h)
        ring = torch.scatter(ring, 1, place[:, None, None].expand(-1, 1, 8), h[:, None])
        return ring.mean(1) + h, ring, (place + 1) % 5, h


class Reset(nn.Module):
    """A count that an ordinary input resets, together with h."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(6, 8)

    def forward(self, x: Tensor, start: Tensor, count: Tensor, h: Tensor) -> Any:
        count = count * (1 - start) + 1
        h = self.cell(x / count[:, None], h * (1 - start)[:, None])
        return 2 * h, count, h


class CopiedState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(6, 8, batch_first=True)

    def forward(self, x: Tensor, h: Tensor) -> Any:
        y, h = self.rnn(x, h)
        return y, h.clone()


class MeanPerCall(nn.Module):
    """A mean that goes on once in each call: a state, although pieces are not the whole."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(6, 8, batch_first=True)

    def forward(self, x: Tensor, mean: Tensor) -> Any:
        mean = 0.9 * mean + 0.1 * x.mean(1)
        return self.rnn(x - mean[:, None])[0], mean


class Condition(nn.Module):
    """The last answer has the shape of the condition."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.project = nn.GRU(6, 8, batch_first=True), nn.Linear(8, 6)

    def forward(self, x: Tensor, speaker: Tensor) -> Any:
        y, _ = self.rnn(x + self.project(speaker)[:, None])
        return y, 2 * y[:, -1]


class LastFrame(nn.Module):
    """What comes back is the last frame, whatever the argument of its shape is."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(6, 8, batch_first=True)

    def forward(self, x: Tensor, bias: Tensor) -> Any:
        return self.rnn(x)[0] + bias.mean(1)[:, None, None], x[:, -1].clone()


class IdleCount(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(6, 8, batch_first=True)

    def forward(self, x: Tensor, count: Tensor) -> Any:
        return self.rnn(x)[0], count + x.shape[1]


class MaskedSpectrum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(6, 8)

    def forward(self, x: Tensor, spectrum: Tensor, h: Tensor) -> Any:
        h = self.cell(x, h)
        return h.mean(1), spectrum * torch.sigmoid(h), h


class Flag(nn.Module):
    """What comes back is 1 where a row goes on, which from 0 and 1 looks like a count of two."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(6, 8)

    def forward(self, x: Tensor, start: Tensor, h: Tensor) -> Any:
        keep = 1 - start
        h = self.cell(x, h * keep[:, None])
        return 2 * h, keep, h


class PreviousFrame(nn.Module):
    """One frame per call: the frame itself comes back, which proves nothing of the argument that it may follow."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(6, 8)

    def forward(self, x: Tensor, last: Tensor, h: Tensor) -> Any:
        h = self.cell(x - last, h)
        return 2 * h, x.clone(), h


FORMS = {
    "register": Caching(
        module=lambda: Register(given=False), inputs=(X, "cache: float32[batch, 6, 3]"), states={"cache": "output_1"}
    ),
    "dilated register beside h": Caching(
        module=lambda: Register(2),
        inputs=(X, "cache: float32[batch, 6, 6]", "h: float32[1, batch, 8]"),
        states={"cache": "output_1", "h": "output_2"},
    ),
    "register over frequencies": Caching(
        module=Register2d,
        inputs=("x: float32[batch, 1, time, 6]", "cache: float32[batch, 1, 2, 6]"),
        states={"cache": "output_1"},
    ),
    "two registers crossed": Caching(
        module=TwoRegisters,
        inputs=(X, "p: float32[batch, 6, 2]", "q: float32[batch, 6, 2]"),
        states={"p": "output_2", "q": "output_1"},
    ),
    "integer count": Caching(
        module=Counter,
        inputs=(X, "count: int64[batch]"),
        states={"count": "output_1"},
        counts={"count": "int64"},
    ),
    "running mean": Caching(
        module=RunningMean,
        inputs=(X, "mean: float32[batch, 6]", "count: float32[batch]"),
        states={"mean": "output_1", "count": "output_2"},
        counts={"count": "float32"},
    ),
    "keys and values in a tuple": Caching(
        module=Attention,
        inputs=(X, "kv.0: float32[batch, 3, 8]", "kv.1: float32[batch, 3, 8]"),
        states={"kv.0": "output_1_0", "kv.1": "output_1_1"},
    ),
    "nested": Caching(
        module=Nested,
        inputs=(
            X,
            "state.conv.0: float32[batch, 6, 2]",
            "state.conv.1: float32[batch, 6, 4]",
            "state.rnn.0: float32[1, batch, 8]",
            "state.rnn.1: float32[1, batch, 8]",
        ),
        states={
            "state.conv.0": "output_1_conv_0",
            "state.conv.1": "output_1_conv_1",
            "state.rnn.0": "output_1_rnn_0",
            "state.rnn.1": "output_1_rnn_1",
        },
    ),
    "copied h": Caching(module=CopiedState, inputs=(X, "h: float32[1, batch, 8]"), states={"h": "output_1"}),
    "mean once a call": Caching(
        module=MeanPerCall, inputs=(X, "mean: float32[batch, 6]"), states={"mean": "output_1"}, verdict="none"
    ),
    "register of a step": Caching(
        module=RegisterStep,
        inputs=(FRAME, "cache: float32[batch, 6, 3]", H),
        states={"cache": "output_1", "h": "output_2"},
        verdict="each-call",
    ),
    "mean and variance by a count": Caching(
        module=Welford,
        inputs=(
            FRAME,
            *("mean: float32[batch, 6]", "squares: float32[batch, 6]", "count: float32[batch]"),
            *(H, "c: float32[batch, 8]"),
        ),
        states={"mean": "output_1", "squares": "output_2", "count": "output_3", "h": "output_4", "c": "output_5"},
        counts={"count": "float32"},
        verdict="each-call",
    ),
    "ring": Caching(
        module=Ring,
        inputs=(FRAME, "ring: float32[batch, 5, 8]", "place: int64[batch]", H),
        states={"ring": "output_1", "place": "output_2", "h": "output_3"},
        counts={"place": "int64"},
        verdict="each-call",
    ),
    "count with a reset": Caching(
        module=Reset,
        inputs=(FRAME, "start: float32[batch]", "count: float32[batch]", H),
        states={"count": "output_1", "h": "output_2"},
        counts={"count": "float32"},
        verdict="each-call",
        others=("x", "start"),
    ),
}
# The module, its inputs, those of them that are no states, the verdict, and the sentence that the export says.
NO_STATES = {
    "condition": (Condition, (X, "speaker: float32[batch, 8]"), {"x", "speaker"}, "last-step", ""),
    "last frame": (LastFrame, (X, "bias: float32[batch, 6]"), {"x", "bias"}, "last-step", ""),
    "idle count": (
        IdleCount,
        (X, "count: float32[batch]"),
        {"x", "count"},
        "none",
        "input 'count', which comes back as 'output_1', changes no other result, so it is not a state",
    ),
    "masked spectrum": (
        MaskedSpectrum,
        (FRAME, "spectrum: float32[batch, 8]", H),
        {"x", "spectrum"},
        "each-call",
        "input 'spectrum' may be a state (output_1 of forward's results has its shape), but what becomes of its "
        "values does not prove it: --state spectrum=output_1 says so",
    ),
    "flag": (
        Flag,
        (FRAME, "start: float32[batch]", H),
        {"x", "start"},
        "each-call",
        "input 'start' may be a state (output_1 of forward's results has its shape), but what becomes of its values "
        "does not prove it: --state start=output_1 says so",
    ),
    "previous frame": (
        PreviousFrame,
        (FRAME, "last: float32[batch, 6]", H),
        {"x", "last"},
        "each-call",
        "input 'last' may be a state (output_1 of forward's results has its shape), but what becomes of its values "
        "does not prove it: --state last=output_1 says so",
    ),
}
