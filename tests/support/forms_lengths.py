"""Forms whose lengths forward computes, sorts or lists: from an input of their own, a mask, padding ids, shares."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

__all__ = ["LENGTH_FORMS", "LengthForm", "MaskFalling"]

Arrays = dict[str, np.ndarray]
X = "x: float32[batch, time, 3]"


@dataclass(frozen=True, kw_only=True)
class LengthForm:
    """One form: the module, its inputs as written, what is drawn for given lengths, and the card's lengths."""

    name: str
    make: Callable[[], nn.Module]
    inputs: tuple[str, ...] = (X,)
    draw: Mapping[str, Callable[[np.ndarray, int], np.ndarray]] = field(default_factory=dict)
    lengths: str | None = "lengths"

    def __str__(self) -> str:
        return self.name


class Rnn(nn.Module):
    def __init__(self, layer: nn.Module | None = None, width: int = 5) -> None:
        super().__init__()
        self.rnn = layer or nn.LSTM(3, 5, batch_first=True)
        self.head = nn.Linear(width, 2)

    def padded(self, x: Tensor, lengths: Tensor | list[int], *, enforce: bool = False) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=enforce)
        return self.head(pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=x.shape[1])[0])


class Sorted(Rnn):
    """By sort, restored by argsort."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        n, order = lengths.sort(descending=True)
        return self.padded(x[order], n, enforce=True)[order.argsort()]


class SortedOtherName(Rnn):
    """By torch.sort with index_select, restored by gather; the final state too."""

    def forward(self, x: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        n, order = torch.sort(sizes, dim=0, descending=True)
        packed = pack_padded_sequence(x.index_select(0, order), n.cpu(), batch_first=True)
        packed, (h, _) = self.rnn(packed)
        y = self.head(pad_packed_sequence(packed, batch_first=True, total_length=x.shape[1])[0])
        back = torch.sort(order)[1]
        return y.gather(0, back[:, None, None].expand_as(y)), h[:, back].transpose(0, 1).flatten(1)


class ArgSorted(Rnn):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        order = torch.argsort(lengths, descending=True)
        y = self.padded(x[order], lengths[order].tolist(), enforce=True)
        return torch.zeros_like(y).index_copy(0, order, y)


class Lists(Rnn):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.padded(x, lengths.cpu().tolist())


class Ints(Rnn):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.padded(x, [int(n) for n in lengths])


class Items(Rnn):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.padded(x, [n.item() for n in lengths])


class Mapped(Rnn):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.padded(x, list(map(int, lengths)))


class Numpy(Rnn):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.padded(x, lengths.cpu().data.numpy())


class Again(Rnn):
    """A list becomes a tensor again."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.padded(x, torch.tensor(lengths.tolist()))


class Mask(Rnn):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.padded(x, mask.sum(dim=1).long().cpu())


class PaddingMask(Rnn):
    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        return self.padded(x, (~padding).sum(dim=1).tolist())


class Ids(nn.Module):
    def __init__(self, pad: int, kind: type[nn.LSTM] | type[nn.GRU] = nn.GRU) -> None:
        super().__init__()
        self.table, self.inner, self.pad = nn.Embedding(7, 3, padding_idx=pad), Rnn(kind(3, 5, batch_first=True)), pad

    def forward(self, ids: Tensor) -> Tensor:
        return self.inner.padded(self.table(ids), (ids != self.pad).sum(-1).clamp(min=1))


class Shares(Rnn):
    """Lengths as shares of the steps, as SpeechBrain has them."""

    def forward(self, x: Tensor, shares: Tensor) -> Tensor:
        return self.padded(x, torch.round(shares * x.shape[1]).int().cpu())


class Shared(Rnn):
    """Lengths as floats; the layer is packed twice."""

    def forward(self, x: Tensor, counts: Tensor) -> Tensor:
        return self.padded(x, counts.long()) - self.padded(x * 2, counts.long().tolist())


class BothSorted(nn.Module):
    """Two inputs with lengths of their own, each sorted by them; the sorts come before the packs."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 5, batch_first=True)

    def forward(self, x: Tensor, n: Tensor, z: Tensor, m: Tensor) -> Tensor:
        a, first = n.sort(descending=True)
        b, second = torch.sort(m, descending=True)
        left = self.rnn(pack_padded_sequence(x[first], a, batch_first=True))[1][-1][first.argsort()]
        right = self.rnn(pack_padded_sequence(z[second], b.tolist(), batch_first=True))[1][-1][second.argsort()]
        return left - right


class MaskSorted(Rnn):
    """Lengths from a mask, sorted in forward; the state is that of the last step of each row."""

    def __init__(self) -> None:
        super().__init__(nn.GRU(3, 5, batch_first=True))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        n, order = mask.sum(1).sort(0, True)
        packed = pack_padded_sequence(x[order], n.cpu(), batch_first=True)
        return self.head(self.rnn(packed)[1][-1][order.argsort()])


class MaskFalling(Rnn):
    """Forward wants its rows in the order of falling lengths, which it takes from a mask."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.padded(x, mask.sum(1).tolist(), enforce=True)


class Pooled(Rnn):
    """Nothing is packed: the reverse direction runs over the padding; the mean is over the valid steps."""

    def __init__(self) -> None:
        super().__init__(nn.LSTM(3, 5, 2, batch_first=True, bidirectional=True), 10)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        y = self.rnn(x)[0]
        inside = torch.arange(x.shape[1])[None, :] < lengths[:, None]
        return self.head((y * inside[:, :, None]).sum(1) / lengths[:, None])


class SortedThenBoth(Sorted):
    """A sorted and packed layer below a bidirectional one that is not packed."""

    def __init__(self) -> None:
        super().__init__(nn.GRU(3, 5, batch_first=True))
        self.above = nn.LSTM(2, 3, batch_first=True, bidirectional=True, proj_size=2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.above(super().forward(x, lengths))[0]


class ZeroFrames(Rnn):
    def forward(self, x: Tensor) -> Tensor:
        return self.padded(x, (x.abs().sum(-1) != 0).sum(1).clamp(min=1))


class Strided(Rnn):
    """A convolution of stride 2 before the layer, and a maximum of two steps."""

    def __init__(self) -> None:
        super().__init__(nn.GRU(3, 5, 2, batch_first=True, bidirectional=True), 10)
        self.conv = nn.Conv1d(3, 3, 3, 2, padding=1)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        y = self.conv(x.transpose(1, 2)).transpose(1, 2)
        packed = pack_padded_sequence(y, (lengths + 1) // 2, batch_first=True, enforce_sorted=False)
        h = self.rnn(packed)[1]
        return self.head(torch.cat([h[-2], h[-1]], dim=-1))


class TwoTexts(nn.Module):
    """One encoder for two inputs of different lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.LSTM(3, 5, batch_first=True), nn.GRU(3, 4, batch_first=True)

    def forward(self, x: Tensor, n: Tensor, z: Tensor, m: Tensor) -> Tensor:
        first = self.a(pack_padded_sequence(x, n, batch_first=True, enforce_sorted=False))[1][0][-1]
        second = self.b(pack_padded_sequence(z, m.tolist(), batch_first=True, enforce_sorted=False))[1][-1]
        return torch.cat([first, second], dim=-1)


class Twice(nn.Module):
    """Two layers, each with its own pack of the same lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = Rnn(nn.LSTM(3, 5, batch_first=True, proj_size=4), 4), Rnn(nn.GRU(2, 5, batch_first=True))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.b.padded(self.a.padded(x, lengths.tolist()).tanh(), lengths.cpu())


class Cut(Rnn):
    """The longest row decides how many steps there are."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        numbers = lengths.tolist()
        packed = pack_padded_sequence(x, numbers, batch_first=True, enforce_sorted=False)
        return self.head(pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=max(numbers))[0])


def _inside(lengths: np.ndarray, steps: int) -> np.ndarray:
    return np.arange(steps)[None, :] < lengths[:, None]


def _ids(pad: int) -> Callable[[np.ndarray, int], np.ndarray]:
    def draw(lengths: np.ndarray, steps: int) -> np.ndarray:
        ids = np.random.default_rng(steps).integers(2, 7, (len(lengths), steps))
        return np.where(_inside(lengths, steps), ids, pad)

    return draw


def _frames(lengths: np.ndarray, steps: int) -> np.ndarray:
    x = np.random.default_rng(steps).standard_normal((len(lengths), steps, 3)).astype(np.float32)
    return np.where(_inside(lengths, steps)[:, :, None], x, np.float32(0))


def _as(dtype: str) -> Callable[[np.ndarray, int], np.ndarray]:
    return lambda lengths, steps: _inside(lengths, steps).astype(dtype)


def _numbers(lengths: np.ndarray, _steps: int) -> np.ndarray:
    return lengths


def _own(name: str, make: Callable[[], nn.Module], spec: str, draw: object) -> LengthForm:
    """A form with an input of its own that says how long the rows are; the card has no lengths."""
    return LengthForm(name=name, make=make, inputs=(X, spec), draw={spec.partition(":")[0]: draw}, lengths=None)


LENGTH_FORMS = (
    LengthForm(name="sorted", make=Sorted),
    LengthForm(name="sorted-given", make=Sorted, inputs=(X, "lengths: int64[batch]")),
    LengthForm(
        name="sorted-bidirectional",
        make=lambda: Sorted(nn.LSTM(3, 5, 2, batch_first=True, bidirectional=True), 10),
    ),
    LengthForm(
        name="sorted-other-name",
        make=lambda: SortedOtherName(nn.LSTM(3, 5, 2, batch_first=True)),
        inputs=(X, "sizes: int64[batch]"),
        lengths="sizes",
    ),
    LengthForm(name="argsorted-gru", make=lambda: ArgSorted(nn.GRU(3, 5, batch_first=True))),
    LengthForm(name="list", make=Lists),
    LengthForm(name="list-given", make=Lists, inputs=(X, "lengths: int64[batch]")),
    LengthForm(name="list-projected", make=lambda: Lists(nn.LSTM(3, 5, batch_first=True, proj_size=4), 4)),
    LengthForm(name="ints", make=Ints),
    LengthForm(name="items", make=Items),
    LengthForm(name="mapped", make=Mapped),
    LengthForm(name="numpy", make=Numpy),
    LengthForm(name="list-to-tensor", make=Again),
    LengthForm(name="pack-twice", make=Twice),
    LengthForm(name="total-length-of-the-longest", make=Cut),
    LengthForm(name="strided", make=Strided),
    LengthForm(name="pooled-over-valid-steps", make=Pooled),
    LengthForm(name="sorted-below-an-unpacked-layer", make=SortedThenBoth),
    _own("int32", Lists, "lengths: int32[batch]", lambda lengths, _steps: lengths.astype(np.int32)),
    _own("mask-bool", Mask, "mask: bool[batch, time]", _as("bool")),
    _own("mask-int64", Mask, "mask: int64[batch, time]", _as("int64")),
    _own("mask-float", lambda: Mask(nn.GRU(3, 5, batch_first=True)), "mask: float32[batch, time]", _as("float32")),
    _own(
        "mask-projected",
        lambda: Mask(nn.LSTM(3, 5, batch_first=True, proj_size=4), 4),
        "mask: bool[batch, time]",
        _as("bool"),
    ),
    _own("mask-padding", PaddingMask, "padding: bool[batch, time]", lambda n, t: ~_inside(n, t)),
    _own("float32", Shared, "counts: float32[batch]", lambda n, _t: n.astype(np.float32)),
    _own("mask-sorted", MaskSorted, "mask: bool[batch, time]", _as("bool")),
    _own("shares", Shares, "shares: float32[batch]", lambda n, t: (n / t).astype(np.float32)),
    LengthForm(
        name="ids-0", make=lambda: Ids(0), inputs=("ids: int64[batch, time]",), draw={"ids": _ids(0)}, lengths=None
    ),
    LengthForm(
        name="ids-1",
        make=lambda: Ids(1, nn.LSTM),
        inputs=("ids: int64[batch, time]",),
        draw={"ids": _ids(1)},
        lengths=None,
    ),
    LengthForm(name="zero-frames", make=ZeroFrames, draw={"x": _frames}, lengths=None),
    LengthForm(
        name="two-texts-sorted",
        make=BothSorted,
        inputs=(X, "n: int64[batch]", "z: float32[batch, time, 3]", "m: int64[batch]"),
        draw={"n": _numbers, "m": lambda n, _t: n[::-1].copy()},
        lengths=None,
    ),
    LengthForm(
        name="two-texts",
        make=TwoTexts,
        inputs=(X, "n: int64[batch]", "z: float32[batch, time, 3]", "m: int64[batch]"),
        draw={"n": _numbers, "m": lambda n, _t: n[::-1].copy()},
        lengths=None,
    ),
)
