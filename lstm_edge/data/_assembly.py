"""The rows of a table to a data set: sorted, completed, and with ``y`` for their targets."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_edge.data._gaps import Order, sort_rows
from lstm_edge.data._missing import many, treat
from lstm_edge.data._rows import Rows, has_decimal_comma
from lstm_edge.data._sequences import Dataset, Task
from lstm_edge.data._steps import parse_time
from lstm_edge.data._table_options import TableOptions
from lstm_edge.data._text_files import Target, build_targets, is_class, number_ids, parse_number
from lstm_edge_runtime.arrays import Array

__all__ = ["Parts", "assemble", "keep"]


def assemble(
    table: Rows, options: TableOptions, *, task: Task | None = None, labels: Sequence[str] | None = None
) -> Dataset:
    """Make the data set of a table.

    Args:
        table: all rows of a file.
        options: the expected spacing, and what becomes of what is missing.
        task: task of the targets; None: integers and texts are classes, numbers with a decimal point are values.
        labels: the only labels allowed, in their order; None: those of the file, sorted.

    Raises:
        DataError: a step is repeated, missing, or not evenly spaced; a cell is missing; a label was never seen.
        InputError: the spacing is not of the kind of the steps.
    """
    return keep(table, options).dataset(task, labels)


def keep(table: Rows, options: TableOptions) -> "Parts":
    """Sort the rows, and refuse, fill or drop what is missing; see ``assemble`` for the errors."""
    order = sort_rows(table, options.spacing)
    order.check_repeats()
    order.check_spacing()
    notes = list(table.notes) + _order_notes(order)
    rows, x = treat(order, options.missing, notes)
    return Parts(order=order, rows=rows, x=x, notes=notes)


def _order_notes(order: Order) -> list[str]:
    notes = []
    if order.unsorted:
        notes.append(
            f"sorted: the {order.table.unit}s of {many(len(order.unsorted), 'sequence')} are not in the order of their "
            "steps"
        )
    if order.table.without_step:
        unit, lines = order.table.unit, order.table.without_step
        notes.append(f"{many(len(lines), unit)} without a step dropped, the first is {unit} {lines[0]}")
    return notes


class Parts:
    """The rows that are kept, R of them in the order of the data set, and their steps float32 ``[R, F]``."""

    def __init__(self, *, order: Order, rows: NDArray[np.int64], x: NDArray[np.float32], notes: list[str]) -> None:
        self.table, self.names, self.x, self.notes = order.table, order.names, x, notes
        self.numbers = rows.tolist()
        self.codes = np.array(order.table.codes, dtype=np.int64)[rows]
        self.starts = np.flatnonzero(np.concatenate(([True], self.codes[1:] != self.codes[:-1])))
        self.lengths = np.diff(np.append(self.starts, len(rows))).astype(np.int64)

    def dataset(self, task: Task | None, labels: Sequence[str] | None) -> Dataset:
        """Return the set with one input and one target."""
        y, names, per_step = self.targets(task, labels)
        return Dataset(
            name=self.table.name, x=self.x, lengths=self.lengths, y=y, labels=names, per_step=per_step, **self.about()
        )

    def about(self) -> dict[str, Any]:
        """Return the groups, times, names and notes of the sequences, as arguments of a set."""
        groups, times = self._constant("group"), self._constant("time")
        return {
            "groups": number_ids([text for text, _ in groups]) if groups else None,
            "times": self._times(times) if times else None,
            "ids": tuple(self.names[int(self.codes[start])] for start in self.starts),
            "notes": tuple(self.notes),
        }

    def targets(
        self,
        task: Task | None,
        labels: Sequence[str] | None,
        columns: slice = slice(None),
        *,
        always_per_step: bool = False,
    ) -> tuple[Array, tuple[str, ...], bool]:
        """Return ``y``, the class names, and whether there is a target per step, for some of the target columns."""
        table = self.table
        targets = [(self._target(row, task, columns), table.line[row]) for row in self.numbers]
        self._check_commas(targets)
        classes = is_class(task, targets, table.name, unit=table.unit)
        change = self._first_change([value for value, _ in targets])
        if change is not None and task == "classification":
            raise table.at(
                targets[change][1],
                f"the target goes from {targets[change - 1][0]!r} to {targets[change][0]!r} within a sequence; "
                "expected one for the whole sequence (a label for each step is the task tagging)",
            )
        per_step = task == "tagging" or change is not None or always_per_step
        if not per_step:
            targets = [targets[int(start)] for start in self.starts]
        y, names = build_targets(table.name, targets, classes=classes, labels=labels, unit=table.unit)
        return y, names, per_step

    def _check_commas(self, targets: Sequence[Target]) -> None:
        """Refuse numbers with a decimal comma, which would become classes."""
        commas = [(value, line) for value, line in targets if has_decimal_comma(value)]
        others = {value for value, _ in targets if not has_decimal_comma(value)}
        if commas and all(isinstance(value, str) and parse_number(value) is not None for value in others):
            value, line = commas[0]
            raise self.table.at(
                line, f"the target is {value!r}, a number with a decimal comma; expected a decimal point"
            )

    def _target(self, row: int, task: Task | None, columns: slice) -> str | tuple[float, ...]:
        cells, table = self.table.target[row][columns], self.table
        if len(cells) == 1 and isinstance(cells[0], str):
            return cells[0]
        if task not in (None, "forecast"):
            raise table.at(table.line[row], f"got {len(cells)} target columns, expected one for {task}")
        numbers = [parse_number(cell) if isinstance(cell, str) else cell for cell in cells]
        good = tuple(number for number in numbers if number is not None)
        if len(good) < len(cells):
            cell = cells[numbers.index(None)]
            raise table.at(table.line[row], f"the target {cell!r} is not a finite number; expected one to forecast")
        return good

    def _first_change(self, values: Sequence[object]) -> int | None:
        """Return the index of the first value that differs from the first value of its sequence, or None."""
        for start, length in zip(self.starts.tolist(), self.lengths.tolist(), strict=True):
            for place in range(start + 1, start + length):
                if values[place] != values[start]:
                    return int(place)
        return None

    def _constant(self, key: str) -> list[tuple[str, int]]:
        """Return the text and the line of ``key`` for each sequence; it must be constant within a sequence."""
        texts, table = getattr(self.table, key), self.table
        if not texts:
            return []
        change = self._first_change([texts[row] for row in self.numbers])
        if change is not None:
            row = self.numbers[change]
            which = f"the {key} of sequence {self.names[table.codes[row]]!r}"
            raise table.at(table.line[row], f"{which} changes to {texts[row]!r}; expected one for all its steps")
        return [(texts[self.numbers[start]], table.line[self.numbers[start]]) for start in self.starts.tolist()]

    def _times(self, cells: list[tuple[str, int]]) -> NDArray[np.float64]:
        times = []
        for text, line in cells:
            when = parse_time(text)
            time = parse_number(text) if when is None else when.ns / 1e9
            if time is None:
                raise self.table.at(
                    line,
                    f"the time is {text!r}, expected a number: the time of the sequence, in any unit; or an ISO time",
                )
            times.append(time)
        return np.array(times, dtype=np.float64)
