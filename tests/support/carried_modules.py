"""Modules that take and return their state in a form of their own, with the specification of each input."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["FORMS", "REFUSED", "Form", "SwappedState"]

X = "x: float32[batch, time, 6]"
OBS = "obs: float32[batch, 6]"


@dataclass(frozen=True, kw_only=True)
class Form:
    """A module, its inputs, and the inputs that are states with the output that each comes back by."""

    module: Callable[[], nn.Module]
    inputs: tuple[str, ...]
    states: Mapping[str, str]


class Stacked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.l = nn.LSTM(6, 4, 2, batch_first=True)

    def forward(self, x: Tensor, st: Tensor) -> Any:
        y, state = self.l(x, (st[0], st[1]))
        return y, torch.stack(state)


class LastAxis(nn.Module):
    """[batch, layers, 2 * size]: h and c side by side, batch first."""

    def __init__(self) -> None:
        super().__init__()
        self.l = nn.LSTM(6, 5, 3, batch_first=True)

    def forward(self, st: Tensor, x: Tensor) -> Any:
        h, c = st.transpose(0, 1).chunk(2, -1)
        y, (h, c) = self.l(x, (h.contiguous(), c.contiguous()))
        return torch.cat([h, c], -1).transpose(0, 1), y


class Sliced(nn.Module):
    """A stack of cells of different kinds, each with its slice of one state tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.lstm, self.rnn = nn.GRU(6, 6), nn.LSTM(6, 6), nn.RNN(6, 6)

    def forward(self, x: Tensor, st: Tensor) -> Any:
        x = x.transpose(0, 1)
        a, h = self.gru(x, st[:1])
        b, (g, c) = self.lstm(x + a, (st[1:2], st[2:3]))
        y, r = self.rnn(b, st[3:])
        return y.transpose(0, 1), torch.cat([h, g, c, r])


class Unbound(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.ModuleList([nn.GRUCell(6, 7), nn.GRUCell(7, 7)])

    def forward(self, obs: Tensor, st: Tensor) -> Any:
        new = []
        for cell, h in zip(self.cells, st.unbind(1), strict=True):
            obs = cell(obs, h)
            new.append(obs)
        return obs.tanh(), torch.stack(new, 1)


class Bidirectional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.l = nn.GRU(6, 4, 2, bidirectional=True, batch_first=True)

    def forward(self, x: Tensor, st: Tensor) -> Any:
        y, h = self.l(x, st.permute(1, 0, 2).contiguous())
        return y, h.permute(1, 0, 2)


class Projected(nn.Module):
    """h [1, batch, 3] and c [1, batch, 8] in one tensor of 11 columns."""

    def __init__(self) -> None:
        super().__init__()
        self.l = nn.LSTM(6, 8, proj_size=3, batch_first=True)

    def forward(self, x: Tensor, st: Tensor) -> Any:
        h, c = st.split([3, 8], -1)
        y, state = self.l(x, (h[None].contiguous(), c[None].contiguous()))
        return y, torch.cat(state, -1)[0]


class Reset(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTMCell(6, 5), nn.Linear(5, 2)

    def forward(self, obs: Tensor, h: Tensor, c: Tensor, start: Tensor) -> Any:
        keep = (1 - start)[:, None]
        h, c = self.cell(obs, (h * keep, c * keep))
        return self.head(h), h, c


class Done(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.g = nn.GRU(6, 5)

    def forward(self, obs: Tensor, done: Tensor, h: Tensor) -> Any:
        y, h = self.g(obs[None], torch.where(done[None, :, None], torch.zeros(()), h))
        return y[0] * 2, h


class Decayed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.l = nn.RNN(6, 5, batch_first=True)

    def forward(self, x: Tensor, h: Tensor) -> Any:
        y, h = self.l(x, 0.5 * h.detach())
        return y.relu(), h


class DecayedAfter(nn.Module):
    """The new state is changed before it is returned."""

    def __init__(self) -> None:
        super().__init__()
        self.l = nn.GRUCell(6, 5)

    def forward(self, obs: Tensor, h: Tensor) -> Any:
        h = self.l(obs, h + 0.0)
        return h.sum(-1), 0.75 * h


class Loop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(6, 5)

    def forward(self, x: Tensor, h: Tensor, start: Tensor) -> Any:
        h = h * (1 - start)[:, None]
        ys = []
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
            ys.append(h)
        return torch.stack(ys, 1).tanh(), h


class SwappedState(nn.Module):
    """The order of h and c is another one in the new state."""

    def __init__(self) -> None:
        super().__init__()
        self.l = nn.LSTM(6, 4, batch_first=True)

    def forward(self, x: Tensor, st: Tensor) -> Any:
        y, (h, c) = self.l(x, (st[0], st[1]))
        return y, torch.stack([c, h])


class Conditioned(nn.Module):
    """The initial state is computed from an input that is not a state."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.l = nn.Linear(3, 4), nn.GRU(6, 4, batch_first=True)

    def forward(self, x: Tensor, speaker: Tensor) -> Any:
        return self.l(x, self.start(speaker)[None])[0]


class ConditionOfAState(nn.Module):
    """The initial state is computed from a condition that has the shape of the final state, which is an answer."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.l, self.project, self.how = nn.GRU(6, 4, batch_first=True), nn.Linear(4, 4, bias=False), how

    def forward(self, x: Tensor, speaker: Tensor) -> Any:
        start = {"tanh": speaker.tanh(), "project": self.project(speaker), "turned": 0.5 * speaker.flip(-1)}[self.how]
        y, h = self.l(x, start[None])
        return y, h[0]


class Mixed(nn.Module):
    """Two inputs of one shape, multiplied: each can be the state, and the other its mask."""

    def __init__(self) -> None:
        super().__init__()
        self.l = nn.GRUCell(6, 4)

    def forward(self, obs: Tensor, a: Tensor, b: Tensor) -> Any:
        h = self.l(obs, a * b)
        return h.tanh(), 0.5 * h, 0.25 * h


FORMS = {
    "stacked": Form(module=Stacked, inputs=(X, "st: float32[2, 2, batch, 4]"), states={"st": "output_1"}),
    "last axis": Form(module=LastAxis, inputs=("st: float32[batch, 3, 10]", X), states={"st": "output_0"}),
    "sliced": Form(module=Sliced, inputs=(X, "st: float32[4, batch, 6]"), states={"st": "output_1"}),
    "unbound": Form(module=Unbound, inputs=(OBS, "st: float32[batch, 2, 7]"), states={"st": "output_1"}),
    "bidirectional": Form(module=Bidirectional, inputs=(X, "st: float32[batch, 4, 4]"), states={"st": "output_1"}),
    "projected": Form(module=Projected, inputs=(X, "st: float32[batch, 11]"), states={"st": "output_1"}),
    "reset": Form(
        module=Reset,
        inputs=(OBS, "h: float32[batch, 5]", "c: float32[batch, 5]", "start: float32[batch]"),
        states={"h": "output_1", "c": "output_2"},
    ),
    "done": Form(module=Done, inputs=(OBS, "done: bool[batch]", "h: float32[1, batch, 5]"), states={"h": "output_1"}),
    "decayed": Form(module=Decayed, inputs=(X, "h: float32[1, batch, 5]"), states={"h": "output_1"}),
    "decayed after": Form(module=DecayedAfter, inputs=(OBS, "h: float32[batch, 5]"), states={"h": "output_1"}),
    "loop": Form(
        module=Loop,
        inputs=(X, "h: float32[batch, 5]", "start: float32[batch]"),
        states={"h": "output_1"},
    ),
}
REFUSED = {
    "swapped": (
        Form(module=SwappedState, inputs=(X, "st: float32[2, 1, batch, 4]"), states={}),
        r"l: its initial state comes from input 'st' and its final state comes back in output 'output_1', but at other "
        r"places in the tensor \(.*carried_modules.py:\d+: .*\): return the new state in the order",
    ),
    "conditioned": (
        Form(module=Conditioned, inputs=(X, "speaker: float32[batch, 3]"), states={}),
        r"l: forward passes its own initial state to the layer, so the state cannot be made explicit \(.*\); "
        r"remove it from forward, or export with states='hidden'",
    ),
    **{
        f"condition, {how}": (
            Form(module=partial(ConditionOfAState, how), inputs=(X, "speaker: float32[batch, 4]"), states={}),
            r"l: forward passes its own initial state to the layer, so the state cannot be made explicit",
        )
        for how in ("tanh", "project", "turned")
    },
    "mixed": (
        Form(module=Mixed, inputs=(OBS, "a: float32[batch, 4]", "b: float32[batch, 4]"), states={}),
        r"l: its state can be each of these inputs and outputs: a -> output_1, a -> output_2, "
        r"b -> output_1, b -> output_2 \(.*\); give the inputs and outputs of forward different axes",
    ),
}
