"""The states of the streams of a pool: one block of memory, two places for each stream, one number that says which.

A stream's state lies in one of its two places, and a push writes the new one into the other. ``now`` holds a number
for each row of the pool: the steps of its stream, the form of its last piece, and which place holds its state. So one
assignment to ``now`` takes all rows of a call from the old states and counts to the new ones, and an interrupt leaves
each stream before or after the push.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, StateSpec, batch_factor
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.layout import layout_of, padded
from lstm_edge_runtime.reading import translated
from lstm_edge_runtime.state import State

__all__ = ["PLACE", "PoolStore", "batch_axis", "is_shared", "next_now", "rows_first"]

# The bits of a number of ``now``: the place of the state, whether the last piece lacked the batch axis, then the steps.
PLACE, LACKS, STEP = 1, 2, 4


def is_shared(spec: StateSpec) -> bool:
    """Return whether a state has no batch axis, so that the rows of one call share it."""
    return all(batch_factor(axis) is None for axis in spec.axes)


def rows_first(spec: StateSpec, array: Array, rows: int) -> Array:
    """Return a view [before, rows] of a state of some rows, each element of which is all that a row has there.

    Args:
        spec: the state.
        array: contiguous, of the state's shape for this number of rows.
        rows: number of rows; for a state without batch axis 1.
    """
    batch = next((index for index, axis in enumerate(spec.axes) if batch_factor(axis) is not None), 0)
    before = 1 if is_shared(spec) else math.prod(array.shape[:batch])
    inner = array.nbytes // (before * rows)
    return array.reshape(-1).view(np.dtype((np.void, inner))).reshape(before, rows)


def next_now(now: Array, steps: int, *, lacks_batch: bool) -> Array:
    """Return the numbers of rows after a push of some steps: their states are in the other place then.

    Args:
        now: int64 [rows].
        steps: steps of the pieces.
        lacks_batch: whether the pieces lacked the batch axis.
    """
    return (now & ~LACKS ^ PLACE) + (steps * STEP + LACKS * lacks_batch)


class PoolStore:
    """The rows of a pool.

    Attributes:
        capacity: number of rows.
        now: int64 [capacity]; see the module.
        tables: for each state a view [before, 2 * capacity] whose elements are what one stream has there; the first
            ``capacity`` columns are the first places of the rows, the others the second ones.
        flat: the float32 or counts of each state, in the order of memory: [before, 2 * capacity * elements].
    """

    def __init__(self, states: tuple[StateSpec, ...], capacity: int) -> None:
        """Allocate the block.

        Raises:
            InputError: the capacity is not a positive integer, or the memory is too small for that many streams.
        """
        if isinstance(capacity, bool) or not isinstance(capacity, int | np.integer) or capacity < 1:
            raise InputError(f"capacity must be a positive integer, got {capacity!r}")
        self.states, self.capacity = states, int(capacity)
        self.layout = layout_of(states, 1)
        with translated(InputError, f"the states of {capacity} streams cannot be made"):
            self.now = np.zeros(self.capacity, np.int64)
            sizes = [math.prod(self.layout.shapes[spec.input]) * np.dtype(spec.dtype).itemsize // 4 for spec in states]
            # A count of int64 has two floats.
            block = np.zeros(sum(padded(2 * self.capacity * size) for size in sizes), np.float32)
        self.tables: list[Array] = []
        self.flat: list[Array] = []
        at = 0
        for spec, size in zip(states, sizes, strict=True):
            whole = block[at : at + 2 * self.capacity * size].view(spec.dtype)
            at += padded(2 * self.capacity * size)
            before = self._before(spec)
            inner = size * 4 // before
            self.tables.append(whole.view(np.dtype((np.void, inner))).reshape(before, 2 * self.capacity))
            self.flat.append(whole.reshape(before, -1))

    def _before(self, spec: StateSpec) -> int:
        """The product of the axes before the batch axis."""
        shape = self.layout.shapes[spec.input]
        batch = next((index for index, axis in enumerate(spec.axes) if batch_factor(axis) is not None), 0)
        return math.prod(shape[:batch])

    def column(self, row: int) -> int:
        """Return the column of the tables that holds the state of a row."""
        return row + self.capacity * int(self.now[row] & PLACE)

    def steps(self, row: int) -> int:
        """Return the steps of a row."""
        return int(self.now[row]) // STEP

    def lacks_batch(self, row: int) -> bool:
        """Return whether the last piece of a row lacked the batch axis."""
        return bool(self.now[row] & LACKS)

    def read(self, row: int) -> State:
        """Return a copy of the state of a row."""
        block, column = self.layout.block(), self.column(row)
        for spec, table, view in zip(self.states, self.tables, self.layout.views(block).values(), strict=True):
            rows_first(spec, view, 1)[:, 0] = table[:, column]
        return State.from_block(self.layout, block)

    def write(self, row: int, state: Mapping[str, Array], steps: int | None, *, lacks_batch: bool = False) -> None:
        """Replace what a row holds, with one assignment at the end.

        Args:
            row: the row.
            state: its new state.
            steps: its steps, or None: the steps and the form of the last piece stay.
            lacks_batch: whether its last piece counts as one that lacked the batch axis.
        """
        now = int(self.now[row])
        kept = now & (-STEP | LACKS) if steps is None else steps * STEP + LACKS * lacks_batch
        other = now & PLACE ^ PLACE
        for spec, table in zip(self.states, self.tables, strict=True):
            table[:, row + self.capacity * other] = rows_first(spec, np.ascontiguousarray(state[spec.input]), 1)[:, 0]
        self.now[row] = kept + other

    def forget_form(self, row: int) -> None:
        """Count the last piece of a row as one with a batch axis."""
        self.now[row] &= ~LACKS

    def shared_key(self, row: int) -> tuple[bytes, ...]:
        """Return the states of a row that have no batch axis: rows of one call must agree in them."""
        column = self.column(row)
        return tuple(
            table[0, column].tobytes() for spec, table in zip(self.states, self.tables, strict=True) if is_shared(spec)
        )

    def gather(self, columns: Any, tables: list[Array]) -> None:
        """Copy columns of the store into the first columns of other tables.

        Args:
            columns: int64 [rows].
            tables: for each state a view as ``rows_first`` makes it; a shared state takes that of the first row.
        """
        for spec, mine, table in zip(self.states, self.tables, tables, strict=True):
            if is_shared(spec):
                table[0, 0] = mine[0, columns[0]]
            elif len(mine) == 1:
                mine[0].take(columns, 0, table[0, : len(columns)], "clip")
            else:
                table[:, : len(columns)] = mine[:, columns]

    def scatter(self, columns: Any, tables: list[Array], rows: Any) -> None:
        """Copy columns of other tables into the store; ``rows`` says which of their columns, one for each of ours."""
        for spec, mine, table in zip(self.states, self.tables, tables, strict=True):
            if is_shared(spec):
                mine[0, columns] = table[0, 0]
            elif len(mine) == 1:
                mine[0][columns] = table[0][rows]
            else:
                mine[:, columns] = table[:, rows]

    def align(self, first: int, rows: int) -> None:
        """Bring the states of a range of rows into their first places."""
        second = first + np.flatnonzero(self.now[first : first + rows] & PLACE)
        for table in self.tables:
            table[:, second] = table[:, second + self.capacity]
        self.now[second] &= ~PLACE


def batch_axis(axes: tuple[str | int, ...]) -> int | None:
    """Return the position of the batch axis, or None."""
    return axes.index(BATCH) if BATCH in axes else None
