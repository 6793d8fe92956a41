"""Forms of ``nn.RNN`` and ``nn.RNNCell``, tanh and relu: options, states, lengths, a single step, a loop over time."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from support.forms import Form, state_names, straight
from support.networks import seeded

__all__ = ["RNN_FORMS"]

TIME_FIRST = ("x: float32[time, batch, 3]",)
X = "x: float32[batch, time, 3]"


class Around(nn.Module):
    """A network around one layer of 3 features and hidden size 5; subclasses have the forward."""

    def __init__(self, layers: int = 1, *, both: bool = False, nonlinearity: str = "tanh") -> None:
        super().__init__()
        self.rnn = nn.RNN(3, 5, layers, batch_first=True, bidirectional=both, nonlinearity=nonlinearity)
        self.head = nn.Linear(10 if both else 5, 4)


class Returned(Around):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, h = self.rnn(x)
        return self.head(y), h


class Final(Around):
    def forward(self, x: Tensor) -> Tensor:
        _, h = self.rnn(x)
        return self.head(h[-1])


class Given(Around):
    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        y, hidden = self.rnn(x, hidden)
        return self.head(y), hidden


class Twice(Around):
    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        return self.rnn(x)[0] - self.rnn(other)[0]


class Packed(Around):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.head(pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0])


class Mixed(nn.Module):
    """Three kinds of layers in one network."""

    def __init__(self) -> None:
        super().__init__()
        self.below = nn.RNN(3, 5, nonlinearity="relu", batch_first=True)
        self.above = nn.LSTM(5, 6, batch_first=True)
        self.beside = nn.GRU(3, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.above(self.below(x)[0])[0], self.beside(x)[0]], dim=-1)


class Step(nn.Module):
    def __init__(self, nonlinearity: str) -> None:
        super().__init__()
        self.cell, self.head = nn.RNNCell(3, 5, nonlinearity=nonlinearity), nn.Linear(5, 4)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = self.cell(x, h)
        return self.head(h), h


class Loop(nn.Module):
    def __init__(self, nonlinearity: str) -> None:
        super().__init__()
        self.cell, self.head = nn.RNNCell(3, 5, nonlinearity=nonlinearity), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[0], self.cell.hidden_size)
        outputs = []
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
            outputs.append(self.head(h))
        return torch.stack(outputs, 1)


def _form(name: str, build: Callable[[], nn.Module], **options) -> Form:
    return Form(name=f"rnn-{name}", make=lambda: seeded(build()), **options)


ONE, TWO, CELL = state_names("rnn", 1, "h"), state_names("rnn", 2, "h"), state_names("cell", 1, "h")
LENGTHS = {"lengths": "lengths", "ask_lengths": True}
STEP = {
    "inputs": ("x: float32[batch, 3]", "h: float32[batch, 5]"),
    "states": ("h",),
    "outputs": ("output_0",),
    "answer": straight("h"),
    "streaming": "each-call",
}

RNN_FORMS = (
    _form("2-layers", lambda: nn.RNN(3, 5, 2, batch_first=True), states=TWO),
    _form("relu-no-bias", lambda: nn.RNN(3, 5, nonlinearity="relu", bias=False, batch_first=True), states=ONE),
    _form(
        "bidirectional-2-layers-time-first",
        lambda: nn.RNN(3, 5, 2, bidirectional=True),
        inputs=TIME_FIRST,
        states=TWO,
        streaming="none",
    ),
    _form(
        "relu-bidirectional-lengths",
        lambda: nn.RNN(3, 5, nonlinearity="relu", batch_first=True, bidirectional=True),
        states=ONE,
        streaming="none",
        **LENGTHS,
    ),
    _form("unbatched", lambda: nn.RNN(3, 5, 2), inputs=("x: float32[time, 3]",), states=TWO),
    _form("state-returned", lambda: Returned(2, nonlinearity="relu"), states=TWO),
    _form("final-state-used", lambda: Final(2), states=TWO, streaming="last-step"),
    _form("hidden-state", lambda: Final(2), state="hidden", streaming="none"),
    _form(
        "state-given",
        lambda: Given(2, nonlinearity="relu"),
        inputs=(X, "hidden: float32[2, batch, 5]"),
        states=("hidden",),
        outputs=("output_0",),
        answer=straight("hidden"),
    ),
    _form(
        "twice",
        Twice,
        inputs=(X, "other: float32[batch, time, 3]"),
        states=(*ONE, *state_names("rnn_2", 1, "h")),
    ),
    _form("packed", lambda: Packed(nonlinearity="relu"), states=ONE, **LENGTHS),
    _form("packed-bidirectional", lambda: Packed(2, both=True), states=TWO, streaming="none", **LENGTHS),
    _form(
        "mixed",
        Mixed,
        states=(*state_names("below", 1, "h"), *state_names("above"), *state_names("beside", 1, "h")),
    ),
    _form("cell-state-given", lambda: Step("tanh"), **STEP),
    _form("relu-cell-state-given", lambda: Step("relu"), **STEP),
    _form(
        "bare-cell",
        lambda: nn.RNNCell(3, 5, bias=False),
        inputs=("x: float32[batch, 3]",),
        states=ONE,
        streaming="each-call",
    ),
    _form("loop", lambda: Loop("tanh"), states=CELL),
    _form("relu-loop-lengths", lambda: Loop("relu"), states=CELL, **LENGTHS),
)
