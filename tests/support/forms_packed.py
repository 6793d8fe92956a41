"""Forms with rows of different lengths: packed sequences as people pack them, and the last valid step by its index."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import utils
from torch.nn.utils import rnn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from support.forms import Form, state_names
from support.networks import seeded

__all__ = ["PACKED_FORMS", "DataUsed"]


class Packed(nn.Module):
    """Names imported, batch first."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU] = nn.LSTM, layers: int = 1, *, both: bool = False) -> None:
        super().__init__()
        self.rnn = kind(3, 5, layers, batch_first=True, bidirectional=both)
        self.head = nn.Linear(10 if both else 5, 4)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        packed, _ = self.rnn(packed)
        y, _ = pad_packed_sequence(packed, batch_first=True)
        return self.head(y)


class Sorted(Packed):
    """By the module's name; the rows come in descending order of their lengths."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths.cpu(), batch_first=True)
        y, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return y


class TimeFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 5, 2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        y, _ = self.rnn(rnn.pack_padded_sequence(x, lengths, enforce_sorted=False))
        return rnn.pad_packed_sequence(y)[0]


class TimeFirstSorted(TimeFirst):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=True)
        return utils.rnn.pad_packed_sequence(self.rnn(packed)[0])[0]


class TotalLength(Packed):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=x.size(1))
        return y


class PaddingValue(Packed):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.rnn(packed)[0], batch_first=True, padding_value=-7.0)[0]


class PaddedMaximum(Packed):
    """What is padded must not win."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, padding_value=float("-inf"))
        return self.head(y.max(dim=1).values)


class FinalState(Packed):
    """The classifier of many tutorials: the last layer's state after each row's last valid step."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        _, state = self.rnn(packed)
        h = state[0] if isinstance(state, tuple) else state
        return self.head(torch.cat([h[-2], h[-1]], dim=1) if self.rnn.bidirectional else h[-1])


class LengthsOf(Packed):
    """The lengths that ``pad_packed_sequence`` gives back are used."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, valid = pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return y.sum(dim=1) / valid.unsqueeze(1)


class OtherName(Packed):
    """The lengths under another name than ours."""

    def forward(self, x: Tensor, x_len: Tensor) -> Tensor:
        return super().forward(x, x_len)


class TwoLayers(Packed):
    """One packed sequence through two modules."""

    def __init__(self) -> None:
        super().__init__()
        self.above = nn.GRU(5, 6, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.above(self.rnn(packed)[0])[0], batch_first=True)[0]


class DataUsed(Packed):
    """Works on the packed rows themselves: there is no such tensor in the file."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        packed, _ = self.rnn(packed)
        return self.head(packed.data).mean(dim=0)


class LastValid(Packed):
    """The last valid step by ``gather``; nothing is packed."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        y, _ = self.rnn(x)
        index = (lengths - 1).view(-1, 1, 1).expand(-1, 1, y.size(2))
        return self.head(y.gather(1, index).squeeze(1))


class LastValidByArange(Packed):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        y, _ = self.rnn(x)
        return self.head(y[torch.arange(y.size(0)), lengths - 1])


def _form(name: str, build: Callable[[], nn.Module], **options) -> Form:
    values = {"states": state_names("rnn"), "lengths": "lengths", "ask_lengths": True, **options}
    return Form(name=name, make=lambda: seeded(build()), **values)


TIME_FIRST = ("x: float32[time, batch, 3]",)
TWO = {"states": state_names("rnn", 2)}
GRU = {"states": state_names("rnn", 1, "h")}
OTHER = ("x: float32[batch, time, 3]", "x_len: int64[batch]")

PACKED_FORMS = (
    _form("packed-unsorted-batch-first", Packed),
    _form("packed-sorted-batch-first", Sorted),
    _form("packed-unsorted-time-first", TimeFirst, inputs=TIME_FIRST, **TWO),
    _form("packed-sorted-time-first", TimeFirstSorted, inputs=TIME_FIRST, **TWO),
    _form("packed-total-length", TotalLength),
    # The file's own promise is stronger than the module's: outputs with a time axis are zero past a row's end.
    _form("packed-padding-value", PaddingValue),
    _form("packed-padding-value-under-a-maximum", PaddedMaximum, streaming="none"),
    _form("packed-gru", lambda: Packed(nn.GRU), **GRU),
    _form("packed-bidirectional", lambda: Packed(layers=2, both=True), streaming="none", **TWO),
    _form("packed-gru-bidirectional", lambda: Packed(nn.GRU, both=True), streaming="none", **GRU),
    _form("packed-final-state", lambda: FinalState(layers=2), streaming="last-step", **TWO),
    _form("packed-final-state-gru-bidirectional", lambda: FinalState(nn.GRU, both=True), streaming="none", **GRU),
    _form("packed-lengths-given-back", LengthsOf, streaming="none"),
    _form("packed-two-modules", TwoLayers, states=(*state_names("rnn"), *state_names("above", 1, "h"))),
    _form("packed-lengths-under-another-name", OtherName, inputs=OTHER, lengths="x_len", ask_lengths=False),
    _form(
        "packed-lengths-as-an-input",
        Packed,
        inputs=(OTHER[0], "lengths: int64[batch]"),
        ask_lengths=False,
    ),
    _form("last-valid-step-by-gather", LastValid, streaming="last-step"),
    _form("last-valid-step-by-index", LastValidByArange, streaming="last-step"),
)
