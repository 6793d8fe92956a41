"""Rows in the order of their steps: repeated steps, uneven spacing, and gaps."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lstm_edge.data._rows import Rows
from lstm_edge.data._steps import Spacing, shown_step, shown_width
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import DataError, InputError

__all__ = ["Gap", "Order", "Repeat", "sort_rows"]

# A spacing is a whole number of steps if it is at most a quarter of a step away from it: clocks jitter.
_JITTER = 0.25
HOUR = 3600 * 10**9


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Missing steps between two rows of a sequence; ``after`` and ``before`` are steps as people write them."""

    sequence: str
    line: int
    line_before: int
    before: str
    after: str
    missing: int


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """A step that a sequence has twice."""

    sequence: str
    line: int
    first_line: int
    step: str


@dataclass(frozen=True, kw_only=True)
class Order:
    """The rows sorted by sequence and step; R rows.

    Attributes:
        table: the rows in the file's order.
        names: the sequences' names, by code.
        values: the steps in the file's order.
        rows: int64 ``[R]``, the rows' places in the file.
        same: bool ``[R - 1]``, whether a row and the next one are of one sequence.
        widths: ``[R - 1]``, the difference of their steps (of no meaning where ``same`` is False).
        every: the expected width; None: any.
        default: whether ``every`` is the 1 of integers, because none was given.
        said: whether ``every`` is the file's own spacing (the median), because none was given.
        jumps: int64 ``[R - 1]``, how many expected widths each is; 0 where that is no whole number.
        unsorted: sequences whose rows are not in the order of their steps in the file.
    """

    table: Rows
    names: tuple[str, ...]
    values: Array
    rows: NDArray[np.int64]
    same: NDArray[np.bool_]
    widths: Array
    every: float | None
    default: bool
    said: bool
    jumps: NDArray[np.int64]
    unsorted: tuple[str, ...]

    @property
    def repeats(self) -> list[Repeat]:
        """All steps that a sequence has twice."""
        return [self._repeat(int(at)) for at in np.flatnonzero(self.same & (self.widths == 0))]

    @property
    def gap_places(self) -> NDArray[np.int64]:
        """The places in ``jumps`` that have missing steps."""
        return np.flatnonzero(self.same & (self.jumps > 1))

    def gap(self, place: int) -> Gap:
        """Return the gap after a place."""
        before, after = (int(self.rows[place + shift]) for shift in (0, 1))
        return Gap(
            sequence=self._name(after),
            line=self.table.line[after],
            line_before=self.table.line[before],
            before=self._step(before),
            after=self._step(after),
            missing=int(self.jumps[place]) - 1,
        )

    def check_repeats(self) -> None:
        """Refuse a sequence that has a step twice.

        Raises:
            DataError: the sentence has both rows.
        """
        twice = self.same & (self.widths == 0)
        if not twice.any():
            return
        repeat, count, unit = self._repeat(int(np.argmax(twice))), int(twice.sum()), self.table.unit
        more = f"; {count} rows repeat a step in all" if count > 1 else ""
        raise self.table.at(
            repeat.line,
            f"sequence {repeat.sequence!r} has step {repeat.step} again, first on {unit} {repeat.first_line}{more}"
            f"{self._summer_time(HOUR)}; keep one of them",
        )

    def check_spacing(self) -> None:
        """Refuse steps that are not a whole number of expected widths apart.

        Raises:
            DataError: the sentence names the first such step.
        """
        self._check_default()
        off = self.same & ((self.jumps != 1) if self.said else (self.jumps < 1))
        if not off.any():
            return
        place, kind = int(np.argmax(off)), self.table.steps.kind
        before, after = (int(self.rows[place + shift]) for shift in (0, 1))
        width, every = (shown_width(float(value), kind) for value in (self.widths[place], self.every or 0))
        expected = f"the median spacing is {every}" if self.said else f"expected a multiple of {every}"
        advice = f"give --step-every {every} to find gaps, or " if self.said else "give "
        raise self.table.at(
            self.table.line[after],
            f"sequence {self._name(after)!r} goes from step {self._step(before)} ({self.table.unit} "
            f"{self.table.line[before]}) to {self._step(after)}, {width} later; {expected}: {advice}--step-every any "
            "to take steps as they come",
        )

    def _check_default(self) -> None:
        """Refuse integers that are mostly not 1 apart, if no spacing was given: they are no gaps to fill."""
        widths = self.widths[self.same & (self.widths > 0)]
        if not self.default or not len(widths) or (middle := lower_median(widths)) == 1:
            return
        raise self.table.at(
            self.gap(int(self.gap_places[0])).line,
            f"{self.gap_sentence()}; the median spacing is {middle:g}: give --step-every {middle:g}, or --step-every 1 "
            "if steps are missing",
        )

    def gap_sentence(self) -> str:
        """Return what the first gap is, and that a change to summer time may be the reason."""
        place = int(self.gap_places[0])
        gap, too_wide = self.gap(place), float(self.widths[place]) - (self.every or 0)
        return (
            f"sequence {gap.sequence!r} goes from step {gap.before} ({self.table.unit} {gap.line_before}) to "
            f"{gap.after}; expected {self._expected(place)}{self._summer_time(too_wide)}"
        )

    def _expected(self, place: int) -> str:
        every = self.every or 0
        # Nanoseconds since 1970 are too large for an exact float64.
        return self.shown(self.values[self.rows[place]].item() + (int(every) if every == int(every) else every))

    def _summer_time(self, width: float) -> str:
        """Return a hint where times without a zone jump by an hour."""
        steps = self.table.steps
        if steps.kind != "times" or steps.zoned or width != HOUR:
            return ""
        return " (the times have no zone: a local clock that is set for summer time repeats or leaves out an hour)"

    def _repeat(self, place: int) -> Repeat:
        rows = sorted(int(self.rows[place + shift]) for shift in (0, 1))
        first, second = (self.table.line[row] for row in rows)
        return Repeat(sequence=self._name(rows[1]), line=second, first_line=first, step=self._step(rows[1]))

    def _name(self, row: int) -> str:
        return self.names[self.table.codes[row]]

    def _step(self, row: int) -> str:
        return self.shown(self.values[row].item())

    def shown(self, value: float) -> str:
        """Return a step as people write it."""
        return shown_step(value, self.table.steps.kind, zoned=self.table.steps.zoned)


def sort_rows(table: Rows, spacing: Spacing | None) -> Order:
    """Sort the rows by sequence and step.

    Raises:
        InputError: the spacing is not of the kind of the steps: times need a unit, numbers have none.
        DataError: the table is empty.
    """
    if not table.line:
        raise DataError(f"data {table.name}: has a header and no {table.unit} after it; expected one for each step")
    codes, steps = np.array(table.codes, dtype=np.int64), table.steps.values
    rows = np.lexsort((steps, codes)).astype(np.int64)
    same = codes[rows][1:] == codes[rows][:-1]
    widths = np.diff(steps[rows])
    every, said = _expected_width(table, spacing, widths[same])
    jumps = np.ones(len(widths), dtype=np.int64)
    if every is not None:
        whole = widths / every
        nearest = np.where(np.abs(whole) < 2**62, np.rint(whole), 0)
        jumps = np.where(np.abs(whole - nearest) <= _JITTER, nearest, 0).astype(np.int64)
    # A stable sort by sequence alone shows what the order in the file is.
    in_file = np.argsort(codes, kind="stable")
    moved = np.unique(codes[rows][rows != in_file])
    names = tuple(table.names)
    return Order(
        table=table,
        names=names,
        values=steps,
        rows=rows,
        same=same,
        widths=widths,
        every=every,
        default=spacing is None and table.steps.kind == "integers",
        said=said,
        jumps=jumps,
        unsorted=tuple(names[int(code)] for code in moved),
    )


def lower_median(widths: Array) -> float:
    """Return the lower median: a spacing that occurs, as the mean of the two middle ones may not."""
    return float(np.sort(widths)[(len(widths) - 1) // 2])


def _expected_width(table: Rows, spacing: Spacing | None, widths: Array) -> tuple[float | None, bool]:
    """Return the expected width, and whether it is the file's own: the one that most steps have."""
    kind = table.steps.kind
    if spacing is None:
        if kind == "integers":
            return 1, False
        positive = widths[widths > 0]
        return (lower_median(positive), True) if len(positive) else (None, False)
    if spacing.width is None:
        return None, False
    if (kind == "times") != bool(spacing.unit):
        got, wanted = (
            ("times", "a unit, such as 1s or 100ms") if kind == "times" else ("numbers", "a number, such as 1")
        )
        raise InputError(f"data {table.name}: the steps are {got}; expected --step-every with {wanted}, or any")
    return spacing.width, False
