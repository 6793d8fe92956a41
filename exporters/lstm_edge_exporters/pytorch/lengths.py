"""Lengths of rows: which input forward packs its sequences by, and what it computes them from otherwise."""

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lstm_edge_exporters.pytorch.calls import Layers, call_module, same_memory
from lstm_edge_exporters.pytorch.outputs import LONGER, TRACED
from lstm_edge_exporters.pytorch.packing import Pack, replaced_packing
from lstm_edge_exporters.pytorch.sorting import Sorts
from lstm_edge_exporters.verify.inputs import InputMaker
from lstm_edge_exporters.verify.ragged import Ragged
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME, TensorSpec
from lstm_edge_runtime.errors import LstmEdgeError

__all__ = ["LENGTHS", "Order", "Packs", "could_be_lengths", "find_order", "ragged_maker", "takes_lengths"]

LENGTHS = "lengths"


@dataclass
class Packs:
    """How forward calls pack_padded_sequence: the lengths that it gives, the steps of what it packs, and the order.

    ``known`` is the place of the sort by which forward orders the rows of each pack, among the sorts before it;
    ``places`` are the sorts that could be the one, for each pack.
    """

    lengths: list[Tensor] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    enforced: bool = False
    known: Sequence[int | None] = ()
    sorts: Sorts = field(default_factory=Sorts)
    places: list[set[int]] = field(default_factory=list)
    orders: list[tuple[Tensor, Tensor | None]] = field(default_factory=list)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Note each call until the context ends."""
        with replaced_packing(self._watching), self.sorts.recorded():
            yield

    def order_of(self, packed: Tensor | None) -> Tensor | None:
        """Return the order of the rows of a pack, by its batch sizes; None where forward does not sort them."""
        return next((order for sizes, order in self.orders if sizes is packed), None)

    def input_of(self, tensors: Mapping[str, Tensor], names: Sequence[str]) -> str | None:
        """Return the input that holds the lengths: as it is, sorted, or as a list; None: they are computed, or several.

        Args:
            tensors: forward's inputs by name.
            names: those that may be lengths.
        """
        if LENGTHS in names and self.lengths:
            return LENGTHS
        found: list[set[str]] = []
        for lengths in self.lengths:
            same = {name for name in names if same_memory(tensors[name], lengths)}
            found.append(same or {name for name in names if _same_numbers(tensors[name], lengths)})
        common = set.intersection(*(some for some in found if some)) if any(found) else set()
        return min(common) if common else None

    @property
    def full(self) -> bool:
        """Whether the longest row of each pack has all steps."""
        return all(int(lengths.max()) == steps for lengths, steps in zip(self.lengths, self.steps, strict=True))

    def _watching(self, original: Pack) -> Pack:
        def pack(input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True) -> Any:  # noqa: A002
            rows = lengths if isinstance(lengths, Tensor) else torch.as_tensor(lengths)
            place = self.known[len(self.lengths)] if len(self.lengths) < len(self.known) else None
            self.lengths.append(rows)
            self.steps.append(input.shape[int(batch_first)])
            self.enforced |= enforce_sorted
            self.places.append(self.sorts.places(rows))
            order = self.sorts.order(place)
            with self.sorts.paused():  # torch sorts here as well
                packed = original(input, lengths, batch_first, enforce_sorted)
            self.orders.append((packed.batch_sizes, order))
            return packed

        return pack


@dataclass(frozen=True, kw_only=True)
class Order:
    """What forward does about the order of rows.

    Attributes:
        falling: it fails where the rows are not in the order of falling lengths.
        sorts: for each pack, the place of the sort by which forward orders its rows, so that a recurrent layer sees
            them in another order; None where there is none.
    """

    falling: bool = False
    sorts: tuple[int | None, ...] = ()


def could_be_lengths(specs: tuple[TensorSpec, ...]) -> list[str]:
    """Return the inputs that may be lengths: int64 [batch], where another input has a time axis."""
    timed = any(TIME in spec.axes for spec in specs)
    return [spec.name for spec in specs if timed and spec.dtype == "int64" and spec.axes == (BATCH,)]


def takes_lengths(module: nn.Module) -> bool:
    """Say whether the module's own forward has a parameter called ``lengths``."""
    return LENGTHS in inspect.signature(module.forward).parameters


def ragged_maker(module: nn.Module, layers: Layers, maker: InputMaker, *, keyword: bool) -> InputMaker:
    """Return a maker of inputs of which forward accepts the lengths that it computes from them.

    Random masks and shares make rows of no step or of more than all. Each input that could say how long a row is is
    tried; the first that gives a full row, as a batch has one, is taken. Where forward computes no lengths, and where
    no input helps, the maker stays as it is.

    Args:
        module: the module.
        layers: its recurrent layers.
        maker: makes all of forward's positional arguments.
        keyword: forward has a parameter ``lengths`` besides.
    """
    usual = _try(module, layers, maker, keyword=keyword)
    if not usual.packs or usual.given or (usual.runs and usual.full):
        return maker
    trials = [(maker, usual)]
    for ragged in _choices(module, maker):
        other = maker.with_ragged(ragged)
        trial = _try(module, layers, other, keyword=keyword)
        if trial.runs and trial.full:
            return other
        trials.append((other, trial))
    return next((made for made, trial in trials if trial.runs), maker)


def find_order(module: nn.Module, layers: Layers, maker: InputMaker, packs: Packs, *, keyword: bool) -> Order:
    """Find out whether forward needs its rows sorted, or sorts them, by rows that are not.

    Args:
        module: the module.
        layers: its recurrent layers.
        maker: makes all of forward's positional arguments.
        packs: how forward packed before.
        keyword: forward has a parameter ``lengths`` besides.
    """
    if not packs.lengths:
        return Order()
    found: list[set[int]] = [set() for _ in packs.lengths]
    for seed in range(8):
        arrays = maker.make(np.random.default_rng(seed), TRACED[BATCH], TRACED[TIME])
        arrays |= {name: _unsorted(seed + place) for place, name in enumerate(maker.lengths)}
        again = Packs()
        try:
            with again.watched():
                call_module(module, layers, arrays, _unsorted(seed) if keyword else None)
        except LstmEdgeError:
            raise
        except Exception:
            return Order(falling=packs.enforced)
        # Rows that come in the right order by chance say nothing.
        found = [
            (old & new or old) if old and new else old | new for old, new in zip(found, again.places, strict=False)
        ]
    return Order(sorts=tuple(min(places) if places else None for places in found))


def _unsorted(seed: int) -> Array:
    """Return lengths of which the longest is not the first; those of other seeds below three are other ones."""
    return np.roll(np.linspace(TRACED[TIME] - seed % 3, 2, TRACED[BATCH]).astype(np.int64), 1 + seed % 2)


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """Forward at a few shapes: whether it packs, runs, packs by its inputs as they are, and has full rows."""

    packs: bool
    runs: bool
    given: bool
    full: bool


def _try(module: nn.Module, layers: Layers, maker: InputMaker, *, keyword: bool) -> _Trial:
    runs, full, given, packed = True, True, False, False
    # Several draws of each size: random rows may be in the order of their lengths by chance.
    for seed, steps in product(range(4), (TRACED[TIME], LONGER)):
        arrays: dict[str, Array] = maker.make(np.random.default_rng(seed), TRACED[BATCH], steps)
        for name in maker.lengths:
            arrays[name] = -np.sort(-arrays[name])
        lengths = np.full(TRACED[BATCH], steps, np.int64) if keyword else None
        packs = Packs()
        try:
            with packs.watched():
                _, tracker = call_module(module, layers, arrays, lengths)
            given |= packs.input_of(tracker.tensors, maker.lengths) is not None
        except LstmEdgeError:
            raise
        except Exception:
            runs = False
        packed |= bool(packs.lengths)
        if (runs and not packed) or not runs:
            break  # forward packs nothing, or does not take these inputs
        full &= packs.full
    return _Trial(packs=packed, runs=runs, given=given or keyword, full=full)


def _choices(module: nn.Module, maker: InputMaker) -> Iterator[Ragged]:
    """Yield what could say how long each row is: each input in each way, also with the rows sorted."""
    paddings = {layer.padding_idx for layer in module.modules() if isinstance(layer, nn.Embedding)}
    pads = [0, *sorted(pad for pad in paddings if pad)]
    ways = [way for spec in maker.specs for way in _ways(spec, pads)]
    for falling in (False, True):
        for way in ways:
            yield Ragged(**way, falling=falling)


def _ways(spec: TensorSpec, pads: Sequence[int]) -> Iterator[dict[str, Any]]:
    axes, number = spec.axes, spec.dtype != "bool" and not spec.dtype.startswith("float")
    if axes == (BATCH,):
        yield {"name": spec.name, "kind": "lengths"}
        if spec.dtype.startswith("float"):
            yield {"name": spec.name, "kind": "relative"}
    elif BATCH in axes and TIME in axes:
        if number:
            yield from ({"name": spec.name, "kind": "valid", "pad": pad} for pad in pads)
        if len(axes) == 2:
            yield {"name": spec.name, "kind": "mask"}
            yield {"name": spec.name, "kind": "padding"}
        if spec.dtype.startswith("float"):
            yield {"name": spec.name, "kind": "valid"}


def _same_numbers(a: Tensor, b: Tensor) -> bool:
    """Say whether two tensors [batch] of lengths hold the same ones, in whatever order."""
    return a.shape == b.shape and torch.equal(a.long().sort().values, b.long().sort().values)
