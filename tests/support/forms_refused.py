"""Forms that are refused, each with what its sentence must say: the module, the reason, what to change."""

import inspect
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from support.forms_cells import Cells
from support.forms_layers import Around, EncoderDecoder, LearnedState
from support.forms_packed import DataUsed
from support.networks import seeded

__all__ = ["REFUSALS", "Refusal"]


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A form that is refused.

    Attributes:
        name: of the row.
        make: makes the module anew.
        sentence: regular expressions, all of which the sentence must match somewhere.
        inputs: as they are written on the command line.
        options: further arguments of ``build``.
    """

    name: str
    make: Callable[[], Any]
    sentence: tuple[str, ...]
    inputs: tuple[str, ...] = ("x: float32[batch, time, 3]",)
    options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return self.name


def line_of(cls: type[nn.Module], code: str) -> str:
    """Return, as a regular expression, the file and line number where ``code`` stands in a class, and the code."""
    lines, start = inspect.getsourcelines(cls.forward)
    number = next(start + i for i, line in enumerate(lines) if code in line)
    return rf"{re.escape(Path(__file__).name)}:{number}\b.*{re.escape(code)}"


class Feedback(Cells):
    """Each output is the next input."""

    def forward(self, x: Tensor) -> Tensor:
        h, c = torch.zeros(x.size(0), 5), torch.zeros(x.size(0), 5)
        step, outputs = x[:, 0], []
        for _ in range(x.size(1)):
            h, c = self.cell(step, (h, c))
            step = self.head(h)[:, :3]
            outputs.append(step)
        return torch.stack(outputs, 1)


class StateFedBack(nn.Module):
    """The state itself is the next input."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        h, c = torch.zeros(x.size(0), 5), torch.zeros(x.size(0), 5)
        step, outputs = x[:, 0], []
        for _ in range(x.size(1)):
            h, c = self.cell(step, (h, c))
            step = h
            outputs.append(h)
        return torch.stack(outputs, 1)


class Break(Cells):
    def forward(self, x: Tensor) -> Tensor:
        h, c = torch.zeros(x.size(0), 5), torch.zeros(x.size(0), 5)
        for t in range(x.size(1)):
            h, c = self.cell(x[:, t], (h, c))
            if bool(h.abs().max() > 0.5):
                break
        return self.head(h)


class EverySecond(Cells):
    def forward(self, x: Tensor) -> Tensor:
        h, c = torch.zeros(x.size(0), 5), torch.zeros(x.size(0), 5)
        outputs = []
        for t in range(0, x.size(1), 2):
            h, c = self.cell(x[:, t], (h, c))
            outputs.append(h)
        return self.head(torch.stack(outputs, 1))


class EarlierOutputs(Cells):
    """Each step looks at the mean of all outputs so far."""

    def forward(self, x: Tensor) -> Tensor:
        h, c = torch.zeros(x.size(0), 5), torch.zeros(x.size(0), 5)
        outputs = [h]
        for t in range(x.size(1)):
            h, c = self.cell(x[:, t] + torch.stack(outputs, 1).mean(1)[:, :3], (h, c))
            outputs.append(h)
        return self.head(torch.stack(outputs, 1))


class StateChanged(Cells):
    """The state is not what the cell returned."""

    def forward(self, x: Tensor) -> Tensor:
        h, c = torch.zeros(x.size(0), 5), torch.zeros(x.size(0), 5)
        outputs = []
        for t in range(x.size(1)):
            h, c = self.cell(x[:, t], (0.5 * h, c))
            outputs.append(h)
        return self.head(torch.stack(outputs, 1))


class InPlace(Cells):
    """Each output is written to its place."""

    def forward(self, x: Tensor) -> Tensor:
        h, c = torch.zeros(x.size(0), 5), torch.zeros(x.size(0), 5)
        y = torch.zeros(x.size(0), x.size(1), 5)
        for t in range(x.size(1)):
            h, c = self.cell(x[:, t], (h, c))
            y[:, t] = h
        return self.head(y)


class LayerInLoop(nn.Module):
    """A whole ``nn.LSTM``, called for one step at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 5, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        state, outputs = None, []
        for t in range(x.size(1)):
            y, state = self.rnn(x[:, t : t + 1], state)
            outputs.append(y)
        return torch.cat(outputs, dim=1)


class Branch(Around):
    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(x)
        return y if bool(y.sum() > 0) else -y


class FixedTime(Around):
    """A linear layer over all steps, flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.flat = nn.Linear(35, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.flat(self.rnn(x)[0].flatten(1))


class Forwards(Around):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0])


class Never(Forwards):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.GRU(3, 4)


class ThirdCell(nn.RNNCellBase):
    """A cell of a kind that PyTorch does not have."""


class OwnForward(nn.LSTM):
    """Another equation under a familiar name."""

    def forward(self, input: Tensor, hx: Any = None) -> Any:  # noqa: A002 - torch's own name for it
        y, state = super().forward(2 * input, hx)
        return y, state


def _with(layer: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        module = Forwards()
        module.rnn = layer()
        return seeded(module)

    return make


def _cells(cls: type[Cells]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        module = cls()
        del module.gru, module.second
        return seeded(module)

    return make


def _traced() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of the conditions inside nn.LSTM
        return torch.jit.trace(seeded(Forwards()), torch.zeros(2, 5, 3))


CELL_LINE = "h, c = self.cell("
LENGTHS = (("lengths", True),)

REFUSALS = (
    Refusal(
        name="learned-state",
        make=lambda: seeded(LearnedState()),
        sentence=(r"^rnn: ", "initial state", "states='hidden'"),
    ),
    Refusal(
        name="learned-state-gru",
        make=lambda: seeded(LearnedState(nn.GRU)),
        sentence=(r"^rnn: ", "initial state", "states='hidden'"),
    ),
    Refusal(
        name="encoder-and-decoder-in-one-module",
        make=lambda: seeded(EncoderDecoder()),
        inputs=("x: float32[batch, time, 3]", "ids: int64[batch, steps]"),
        sentence=(r"^second\.decoder: ", "initial state", "states='hidden'"),
    ),
    Refusal(
        name="packed-data-used",
        make=lambda: seeded(DataUsed()),
        options=LENGTHS,
        sentence=(r"PackedSequence\.data", "pad_packed_sequence"),
    ),
    Refusal(name="loop-output-fed-back", make=_cells(Feedback), sentence=(r"^cell: ", line_of(Feedback, CELL_LINE))),
    Refusal(
        name="loop-state-fed-back",
        make=lambda: seeded(StateFedBack()),
        inputs=("x: float32[batch, time, 5]",),
        sentence=(r"^cell: ", line_of(StateFedBack, CELL_LINE), "a result of an earlier step"),
    ),
    Refusal(
        name="loop-break",
        make=_cells(Break),
        sentence=("control flow that depends on data", line_of(Break, "if bool(")),
    ),
    Refusal(
        name="loop-every-second-step",
        make=_cells(EverySecond),
        sentence=(r"^cell: ", line_of(EverySecond, CELL_LINE), "every step"),
    ),
    Refusal(
        name="loop-over-earlier-outputs",
        make=_cells(EarlierOutputs),
        sentence=(r"^cell: ", line_of(EarlierOutputs, CELL_LINE)),
    ),
    Refusal(
        name="loop-state-changed",
        make=_cells(StateChanged),
        sentence=(r"^cell: ", line_of(StateChanged, CELL_LINE), r"\bstate\b"),
    ),
    Refusal(
        name="loop-output-in-place",
        make=_cells(InPlace),
        sentence=(r"^cell: ", line_of(InPlace, CELL_LINE)),
    ),
    Refusal(
        name="loop-of-a-whole-layer",
        make=lambda: seeded(LayerInLoop()),
        sentence=(r"^rnn: ", line_of(LayerInLoop, "y, state = self.rnn(")),
    ),
    Refusal(name="training-mode", make=lambda: seeded(Forwards()).train(), sentence=("training mode", r"\.eval\(\)")),
    Refusal(
        name="one-layer-in-training-mode",
        make=lambda: _trained(seeded(Forwards())),
        sentence=(r"^rnn is in training mode", r"\.eval\(\)"),
    ),
    Refusal(
        name="control-flow-on-data",
        make=lambda: seeded(Branch()),
        sentence=("control flow that depends on data", line_of(Branch, "return y if bool(")),
    ),
    Refusal(
        name="time-fixed-by-the-module",
        make=lambda: seeded(FixedTime()),
        sentence=(r"the module itself fails on x \[3, 11, 3\]", "mat1 and mat2", "give that number"),
    ),
    Refusal(
        name="double",
        make=lambda: seeded(Forwards()).double(),
        sentence=(r"^rnn\.weight_ih_l0 is torch\.float64", r"\.float\(\)\.cpu\(\)"),
    ),
    Refusal(
        name="recurrent-base-class",
        make=_with(lambda: ThirdCell(3, 5, True, 1)),
        sentence=("ThirdCell is a recurrent layer", "does not export", r"use nn\.LSTM, nn\.GRU, nn\.RNN"),
    ),
    Refusal(
        name="subclass-with-its-own-forward",
        make=_with(lambda: OwnForward(3, 5, batch_first=True)),
        sentence=("OwnForward", "forward", r"describe_recurrence\(\)"),
    ),
    Refusal(
        name="script-module",
        make=lambda: torch.jit.script(seeded(Forwards())),
        sentence=("^the module is TorchScript", "export the module that it was scripted from"),
    ),
    Refusal(
        name="traced-module",
        make=_traced,
        sentence=("^the module is TorchScript", "export the module that it was scripted from"),
    ),
    Refusal(
        name="script-module-inside",
        make=_with(lambda: torch.jit.script(nn.LSTM(3, 5, batch_first=True))),
        sentence=("^rnn is TorchScript", "export the module that it was scripted from"),
    ),
    Refusal(name="layer-never-called", make=lambda: seeded(Never()), sentence=(r"^unused: ", "never calls", "remove")),
    Refusal(
        name="no-recurrent-layer", make=lambda: seeded(nn.Linear(3, 4)), sentence=("no recurrent layer", r"nn\.GRU")
    ),
)


def _trained(module: nn.Module) -> nn.Module:
    module.rnn.train()
    return module
