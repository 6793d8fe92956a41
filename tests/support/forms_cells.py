"""Forms of ``nn.LSTMCell`` and ``nn.GRUCell``: in a single step, and in a Python loop over time."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from support.forms import Form, state_names, straight
from support.networks import seeded

__all__ = ["CELL_FORMS", "Cells"]


class Cells(nn.Module):
    """Networks around a cell of 3 features and hidden size 5; subclasses have the forward."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(3, 5)
        self.gru = nn.GRUCell(3, 5)
        self.second = nn.LSTMCell(5, 6)
        self.head = nn.Linear(5, 4)


def _only(cls: type[Cells], *used: str) -> Callable[[], nn.Module]:
    """Make a network without the layers that its forward does not call."""

    def make() -> nn.Module:
        module = cls()
        for name in {"cell", "gru", "second", "head"} - set(used):
            delattr(module, name)
        return seeded(module)

    return make


class Step(Cells):
    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h, c = self.cell(x, (h, c))
        return self.head(h), h, c


class StepGru(Cells):
    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = self.gru(x, h)
        return self.head(h), h


class StepWithoutState(Cells):
    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.cell(x)
        return self.head(h)


class StepWithoutStateGru(Cells):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x))


class Stacked(Cells):
    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.cell(x)
        return self.second(h)[0]


class StackedGiven(Cells):
    def forward(self, x: Tensor, h1: Tensor, c1: Tensor, h2: Tensor, c2: Tensor) -> tuple[Tensor, ...]:
        h1, c1 = self.cell(x, (h1, c1))
        h2, c2 = self.second(h1, (h2, c2))
        return torch.tanh(h2), h1, c1, h2, c2


class Loop(Cells):
    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.size(0), 5)
        c = torch.zeros(x.size(0), 5)
        outputs = []
        for t in range(x.size(1)):
            h, c = self.cell(x[:, t], (h, c))
            outputs.append(h)
        return torch.stack(outputs, dim=1)


class LoopTimeFirst(Cells):
    def forward(self, x: Tensor) -> Tensor:
        state = None
        outputs = []
        for t in range(x.shape[0]):
            state = self.cell(x[t], state)
            outputs.append(state[0])
        return self.head(torch.stack(outputs))


class LoopGru(Cells):
    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[0], self.gru.hidden_size)
        outputs = []
        for t in range(x.shape[1]):
            h = self.gru(x[:, t, :], h)
            outputs.append(h)
        return torch.stack(outputs, 1)


class LoopLast(Cells):
    def forward(self, x: Tensor) -> Tensor:
        h, c = torch.zeros(x.size(0), 5), torch.zeros(x.size(0), 5)
        for t in range(x.size(1)):
            h, c = self.cell(x[:, t], (h, c))
        return self.head(h)


class LoopHead(Cells):
    def forward(self, x: Tensor) -> Tensor:
        h, c = torch.zeros(x.size(0), 5), torch.zeros(x.size(0), 5)
        outputs = []
        for t in range(x.size(1)):
            h, c = self.cell(torch.relu(x[:, t]), (h, c))
            outputs.append(self.head(h))
        return torch.stack(outputs, 1)


class LoopTwo(Cells):
    def forward(self, x: Tensor) -> Tensor:
        h, c = torch.zeros(x.size(0), 5), torch.zeros(x.size(0), 5)
        k, d = torch.zeros(x.size(0), 6), torch.zeros(x.size(0), 6)
        outputs = []
        for t in range(x.size(1)):
            h, c = self.cell(x[:, t], (h, c))
            k, d = self.second(h, (k, d))
            outputs.append(k)
        return torch.stack(outputs, 1)


class LoopUnbind(Cells):
    def forward(self, x: Tensor) -> Tensor:
        h, c = torch.zeros(x.size(0), 5), torch.zeros(x.size(0), 5)
        outputs = []
        for step in x.unbind(1):
            h, c = self.cell(step, (h, c))
            outputs.append(h)
        return torch.stack(outputs, 1)


class LoopCat(Cells):
    def forward(self, x: Tensor) -> Tensor:
        h, c = torch.zeros(x.size(0), 5), torch.zeros(x.size(0), 5)
        outputs = []
        for t in range(x.size(1)):
            h, c = self.cell(x[:, t], (h, c))
            outputs += [h.unsqueeze(1)]
        return torch.cat(outputs, dim=1)


class LoopReverse(Cells):
    def forward(self, x: Tensor) -> Tensor:
        h, c = torch.zeros(x.size(0), 5), torch.zeros(x.size(0), 5)
        outputs = []
        for t in reversed(range(x.size(1))):
            h, c = self.cell(x[:, t], (h, c))
            outputs.append(h)
        return torch.stack(outputs[::-1], 1)


class LoopReverseUnturned(Cells):
    """From the last step to the first; the outputs stay in that order."""

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.size(0), 5)
        outputs = []
        for t in range(x.size(1) - 1, -1, -1):
            h = self.gru(x[:, t], h)
            outputs.append(h)
        return torch.stack(outputs, 1)


class LoopOverRows(Cells):
    """A loop over the tensor itself, dropout inside."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        state = (x.new_zeros(x.size(1), 5), x.new_zeros(x.size(1), 5))
        outputs = []
        for step in x:
            state = self.cell(self.dropout(step), state)
            outputs.append(self.dropout(state[0]))
        return torch.stack(outputs)


class LoopGiven(Cells):
    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        outputs = []
        for t in range(x.size(1)):
            h, c = self.cell(x[:, t], (h, c))
            outputs.append(self.head(h))
        return torch.stack(outputs, 1), h, c


STEP = "x: float32[batch, 3]"
H5, C5 = "h: float32[batch, 5]", "c: float32[batch, 5]"
CELL, TWO, GRU = state_names("cell"), (*state_names("cell"), *state_names("second")), state_names("gru", 1, "h")

CELL_FORMS = (
    Form(
        name="lstm-cell-state-given",
        make=_only(Step, "cell", "head"),
        inputs=(STEP, H5, C5),
        states=("h", "c"),
        outputs=("output_0",),
        answer=straight("h", "c"),
        streaming="each-call",
    ),
    Form(
        name="gru-cell-state-given",
        make=_only(StepGru, "gru", "head"),
        inputs=(STEP, H5),
        states=("h",),
        outputs=("output_0",),
        answer=straight("h"),
        streaming="each-call",
    ),
    Form(
        name="lstm-cell-no-state-given",
        make=_only(StepWithoutState, "cell", "head"),
        inputs=(STEP,),
        states=CELL,
        streaming="each-call",
    ),
    Form(
        name="gru-cell-no-state-given",
        make=_only(StepWithoutStateGru, "gru", "head"),
        inputs=(STEP,),
        states=GRU,
        streaming="each-call",
    ),
    Form(
        name="two-cells-no-state-given",
        make=_only(Stacked, "cell", "second"),
        inputs=(STEP,),
        states=TWO,
        streaming="each-call",
    ),
    Form(
        name="two-cells-states-given",
        make=_only(StackedGiven, "cell", "second"),
        inputs=(
            STEP,
            *(f"{kind}{layer}: float32[batch, {size}]" for layer, size in ((1, 5), (2, 6)) for kind in "hc"),
        ),
        states=("h1", "c1", "h2", "c2"),
        outputs=("output_0",),
        answer=straight("h1", "c1", "h2", "c2"),
        streaming="each-call",
    ),
    Form(
        name="bare-lstm-cell",
        make=lambda: seeded(nn.LSTMCell(3, 5, bias=False)),
        inputs=(STEP,),
        states=state_names("lstm"),
        streaming="each-call",
    ),
    Form(name="loop-lstm-cell", make=_only(Loop, "cell"), states=CELL),
    Form(
        name="loop-time-first",
        make=_only(LoopTimeFirst, "cell", "head"),
        inputs=("x: float32[time, batch, 3]",),
        states=CELL,
    ),
    Form(name="loop-gru-cell", make=_only(LoopGru, "gru"), states=GRU),
    Form(name="loop-last-output", make=_only(LoopLast, "cell", "head"), states=CELL, streaming="last-step"),
    Form(name="loop-head-inside", make=_only(LoopHead, "cell", "head"), states=CELL),
    Form(name="loop-two-cells", make=_only(LoopTwo, "cell", "second"), states=TWO),
    Form(name="loop-unbind", make=_only(LoopUnbind, "cell"), states=CELL),
    Form(name="loop-cat", make=_only(LoopCat, "cell"), states=CELL),
    Form(name="loop-reverse", make=_only(LoopReverse, "cell"), states=CELL, streaming="none"),
    Form(name="loop-reverse-unturned", make=_only(LoopReverseUnturned, "gru"), states=GRU, streaming="none"),
    Form(
        name="loop-over-rows-dropout",
        make=_only(LoopOverRows, "cell"),
        inputs=("x: float32[time, batch, 3]",),
        states=CELL,
    ),
    Form(name="loop-hidden-state", make=_only(LoopHead, "cell", "head"), state="hidden", streaming="none"),
    Form(
        name="loop-state-given",
        make=_only(LoopGiven, "cell", "head"),
        inputs=("x: float32[batch, time, 3]", H5, C5),
        states=("h", "c"),
        outputs=("output_0",),
        answer=straight("h", "c"),
    ),
)
