"""The order of axes in which an array of a data set fits a tensor of a model, inferred from sizes, never guessed.

An array belongs to one sequence and has no batch axis. ``axes`` are those of the model's tensor without the batch: the
size of each fixed axis, the name of each dynamic one. Where two orders are possible that put time on different axes,
the array is refused.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lstm_edge.data._named import Layout
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import DataError

__all__ = ["Axes", "Fit", "find_fit"]

Axes = tuple[str | int, ...]
Shape = tuple[int, ...]

# All orders of more axes would be too many to try; such arrays must have the model's order.
MOST_AXES = 5


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How an array becomes the model's: axis i of the data is axis ``order[i]`` of the model.

    ``rank`` is the model's number of axes; an axis that ``order`` lacks has size 1 and is inserted. ``time`` is the
    model's time axis, or None.
    """

    order: tuple[int, ...]
    rank: int
    time: int | None

    def apply(self, array: Array, *, steps: int | None = None) -> Array:
        """Return a view with the model's axes; with ``steps`` only the first steps along time."""
        kept = sorted(self.order)
        turned = np.transpose(array, [self.order.index(axis) for axis in kept])
        missing = [axis for axis in range(self.rank) if axis not in kept]
        whole = np.expand_dims(turned, tuple(missing))
        if steps is None or self.time is None:
            return whole
        return whole[(slice(None),) * self.time + (slice(steps),)]


def find_fit(
    axes: Axes,
    rows: Sequence[Array],
    *,
    time: int | None,
    layout: Layout | None,
    where: str,
    expected: str,
    steps: Sequence[int] | None = None,
    sizes: Sequence[Shape] | None = None,
) -> Fit:
    """Find the order of axes of the arrays of all sequences.

    Args:
        axes: the model's axes without the batch.
        rows: the array of each sequence.
        time: the index of the time axis in ``axes``, or None.
        layout: see ``NamedDataset``.
        where: the array in messages, such as ``data d.npz: the array 'x'``.
        expected: the model's tensor in messages, such as ``input 'x' float32[batch, 40, time]``.
        steps: valid steps of each sequence, if the arrays are padded. Arrays of sequences of one step may lack the time
            axis.
        sizes: for each sequence the sizes of all axes, if they are known.

    Raises:
        DataError: no order fits, or two orders are possible that differ in time.
    """
    ranks = {row.ndim for row in rows}
    if len(ranks) > 1:
        raise DataError(
            f"{where} has {min(ranks)} axes in one sequence and {max(ranks)} in another; expected {expected}"
        )
    cases = _cases(rows, steps, sizes)
    single = steps is not None and max(steps) == 1
    for kept in _kept(axes, time, rank=ranks.pop(), may_lack_time=single):
        found = [
            order for order in _orders(kept, time, layout) if all(_fits(order, axes, time, case) for case in cases)
        ]
        if found:
            return Fit(order=_choose(found, time, where, expected, rows), rank=len(axes), time=time)
    sequence = _first_misfit(axes, rows, time, steps, sizes)
    order = f" in the order that layout {layout!r} says" if layout else " in any order of its axes"
    raise DataError(
        f"{where} is {list(rows[sequence].shape)} for sequence {sequence} (one sequence, without a batch axis), which "
        f"does not fit {expected}{order}"
    )


def _cases(
    rows: Sequence[Array], steps: Sequence[int] | None, sizes: Sequence[Shape] | None
) -> list[tuple[Shape, int, Shape | None]]:
    """Return the distinct combinations of shape, valid steps (0: not padded), and sizes."""
    found = {
        (row.shape, 0 if steps is None else steps[number], None if sizes is None else sizes[number]): None
        for number, row in enumerate(rows)
    }
    return list(found)


def _kept(axes: Axes, time: int | None, *, rank: int, may_lack_time: bool) -> list[tuple[int, ...]]:
    """Return which axes of the model an array of this rank may have: all, or all except those of size 1."""
    every = tuple(range(len(axes)))
    without_ones = tuple(axis for axis in every if axes[axis] != 1)
    choices = [every, without_ones]
    if may_lack_time:
        choices += [tuple(axis for axis in kept if axis != time) for kept in choices]
    return [kept for kept in dict.fromkeys(choices) if len(kept) == rank]


def _orders(kept: tuple[int, ...], time: int | None, layout: Layout | None) -> list[tuple[int, ...]]:
    if layout == "model" or len(kept) > MOST_AXES:
        return [kept]
    orders = list(itertools.permutations(kept))  # the model's order comes first
    if layout == "time-first" and time in kept:
        return [order for order in orders if order[0] == time]
    return orders


def _fits(order: tuple[int, ...], axes: Axes, time: int | None, case: tuple[Shape, int, Shape | None]) -> bool:
    shape, least, sizes = case
    for size, axis in zip(shape, order, strict=True):
        wanted = axes[axis] if sizes is None else sizes[axis]
        if isinstance(wanted, str):
            if axis == time and size < least:
                return False
        elif size != wanted and not (axis == time and least and size > wanted):
            return False
    return True


def _choose(
    found: list[tuple[int, ...]], time: int | None, where: str, expected: str, rows: Sequence[Array]
) -> tuple[int, ...]:
    """Return the only order, or the one with the model's order of all axes but time."""
    places = sorted({order.index(time) for order in found if time is not None and time in order})
    if len(places) > 1:
        raise DataError(
            f"{where} is {list(rows[0].shape)} for a sequence (without a batch axis), which fits {expected} in more "
            f"than one order: time may be axis {' or '.join(map(str, places))}. Say which with the key layout: 'model' "
            "(the model's order of axes) or 'time-first'"
        )
    first = found[0]
    rest = [axis for axis in first if axis != time]
    if len(found) > 1 and rest != sorted(rest):
        raise DataError(
            f"{where} is {list(rows[0].shape)} for a sequence (without a batch axis), which fits {expected} in more "
            "than one order; give it in the model's order of axes, and the key layout with 'model'"
        )
    return first


def _first_misfit(
    axes: Axes, rows: Sequence[Array], time: int | None, steps: Sequence[int] | None, sizes: Sequence[Shape] | None
) -> int:
    """Return the first sequence whose array fits in no order; 0 if each fits in an order, but not in one order."""
    for number, row in enumerate(rows):
        case = _cases([row], None if steps is None else [steps[number]], None if sizes is None else [sizes[number]])[0]
        kept = _kept(axes, time, rank=row.ndim, may_lack_time=False)
        if not any(_fits(order, axes, time, case) for one in kept for order in _orders(one, time, None)):
            return number
    return 0
