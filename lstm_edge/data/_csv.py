"""Data sets in CSV files of the long form: one line for each step of each sequence."""

import csv
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lstm_edge.data._columns import Columns, Places, find_places
from lstm_edge.data._sequences import Dataset, Task
from lstm_edge.data._text_files import Lines, Target, at, build_targets, is_class, number_ids, open_text, parse_number
from lstm_edge_runtime.errors import DataError
from lstm_edge_runtime.reading import LONGEST_LINE, translated

__all__ = ["load_csv"]


@dataclass(kw_only=True)
class _Lines:
    """All lines of the file ``name``, in the file's order; each list has one entry for each line."""

    name: str
    sequence: list[str] = field(default_factory=list)
    step: list[int] = field(default_factory=list)
    line: list[int] = field(default_factory=list)
    target: list[tuple[str, ...]] = field(default_factory=list)
    group: list[str] = field(default_factory=list)
    time: list[str] = field(default_factory=list)
    x: "array[float]" = field(default_factory=lambda: array("d"))


class _Counted:
    """Lines of bounded records: a record, whose cells may contain line breaks, is at most as long as a line."""

    def __init__(self, name: str, lines: Lines) -> None:
        self.characters = 0
        self._name, self._lines = name, lines

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.characters += len(line)
        if self.characters > LONGEST_LINE:
            raise at(self._name, self._lines.number, f"ends a record of more than {LONGEST_LINE:,} characters")
        return line


@dataclass(frozen=True, kw_only=True)
class _Order:
    """The line numbers sorted by sequence and step, and the first entry and the length of each sequence."""

    lines: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]


def load_csv(
    path: str | Path,
    *,
    columns: Columns | None = None,
    task: Task | None = None,
    labels: Sequence[str] | None = None,
) -> Dataset:
    """Read a CSV file (``.csv`` or ``.csv.gz``): commas, a header, one line for each step; see docs/data.md.

    Lines may be in any order. Steps are sorted, and must be consecutive integers from any first number. Sequences stay
    in the order in which they first appear. A target that is constant within each sequence is a target per sequence,
    unless ``task`` is ``tagging``; any other target is a target per step.

    Args:
        path: the file.
        columns: roles of the columns.
        task: task of the targets; None: integers and texts are classes, numbers with a decimal point are values.
        labels: the only labels allowed, in their order; None: those of the file, sorted.

    Raises:
        DataError: one sentence with the file and the line: a column is missing, a line is too short or too long, a cell
            is not a finite number, a step is duplicate or missing, a label was never seen, or the file is empty or
            cannot be read.
    """
    with translated(DataError, f"data {path}: cannot be read"):
        return _load(path, columns or Columns(), task, labels)


def _load(path: str | Path, columns: Columns, task: Task | None, labels: Sequence[str] | None) -> Dataset:
    name = str(path)
    lines, features = _read(Path(path), columns)
    order = _sort(lines)
    numbers = [int(number) for number in order.lines]
    targets = [(_target(name, lines.target[i], lines.line[i], task), lines.line[i]) for i in numbers]
    classes = is_class(task, targets, name)
    per_step = _is_per_step(name, targets, order, task)
    if not per_step:
        targets = [targets[int(start)] for start in order.starts]
    y, names = build_targets(name, targets, classes=classes, labels=labels)
    x = np.array(lines.x, dtype=np.float64).reshape(-1, features).astype(np.float32)
    return Dataset(
        name=name,
        x=x[order.lines],
        lengths=order.lengths,
        y=y,
        labels=names,
        per_step=per_step,
        groups=_groups(lines, order),
        times=_times(lines, order),
        ids=tuple(lines.sequence[numbers[int(start)]] for start in order.starts),
    )


def _read(path: Path, columns: Columns) -> tuple[_Lines, int]:
    name = str(path)
    lines = _Lines(name=name)
    with open_text(path) as file:
        lines_read = _Counted(name, file)
        reader = csv.reader(lines_read, strict=True)
        try:
            header = next(reader, None)
            if header is None:
                raise DataError(f"data {name}: the file is empty; expected a header and a line for each step")
            places = find_places(name, [cell.strip() for cell in header], columns)
            for cells in reader:
                lines_read.characters = 0
                if cells:
                    _add(lines, cells, header, places, reader.line_num)
        except csv.Error as error:
            raise at(name, reader.line_num, f"not CSV ({error})") from error
    if not lines.line:
        raise DataError(f"data {name}: has a header and no line after it; expected one for each step")
    return lines, len(places.features)


def _add(lines: _Lines, cells: list[str], header: list[str], places: Places, line: int) -> None:
    if len(cells) != len(header):
        raise at(lines.name, line, f"has {len(cells)} cells, expected {len(header)} as in the header")
    step = cells[places.step].strip()
    # 18 digits always fit into int64.
    if not (step.isascii() and step.removeprefix("-").isdecimal() and len(step) <= 18):
        raise at(lines.name, line, f"{header[places.step].strip()} is {step[:40]!r}, expected an integer")
    for place in places.features:
        value = parse_number(cells[place])
        if value is None:
            raise at(lines.name, line, f"{header[place].strip()} is {cells[place][:40]!r}, expected a finite number")
        lines.x.append(value)
    for key, column in (("sequence", places.sequence), ("group", places.group), ("time", places.time)):
        if column is not None:
            cell = cells[column].strip()
            if not cell:
                raise at(lines.name, line, f"{header[column].strip()} is empty, expected the {key}")
            getattr(lines, key).append(cell)
    lines.step.append(int(step))
    lines.line.append(line)
    lines.target.append(tuple(cells[place].strip() for place in places.target))


def _sort(lines: _Lines) -> _Order:
    ranks: dict[str, int] = {}
    sequence = np.array([ranks.setdefault(text, len(ranks)) for text in lines.sequence], dtype=np.int64)
    step = np.array(lines.step, dtype=np.int64)
    order = np.lexsort((step, sequence)).astype(np.int64)
    same = sequence[order][1:] == sequence[order][:-1]
    wrong = same & (np.diff(step[order]) != 1)
    if wrong.any():
        before, after = (int(order[int(np.argmax(wrong)) + shift]) for shift in (0, 1))
        first, second = sorted((lines.line[before], lines.line[after]))
        which = f"sequence {lines.sequence[after]!r}"
        if lines.step[before] == lines.step[after]:
            raise at(lines.name, second, f"{which} has step {lines.step[after]} again, first on line {first}")
        raise at(
            lines.name,
            lines.line[after],
            f"{which} goes from step {lines.step[before]} (line {lines.line[before]}) to {lines.step[after]}; "
            f"expected {lines.step[before] + 1}",
        )
    starts = np.concatenate(([0], np.flatnonzero(~same) + 1)).astype(np.int64)
    return _Order(lines=order, starts=starts, lengths=np.diff(np.append(starts, len(order))).astype(np.int64))


def _target(name: str, cells: tuple[str, ...], line: int, task: Task | None) -> str | tuple[float, ...]:
    if not all(cells):
        raise at(name, line, "the target is empty, expected a class or a number")
    if len(cells) == 1:
        return cells[0]
    if task not in (None, "forecast"):
        raise at(name, line, f"got {len(cells)} target columns, expected one for {task}")
    numbers = [parse_number(cell) for cell in cells]
    good = tuple(number for number in numbers if number is not None)
    if len(good) < len(cells):
        cell = cells[numbers.index(None)]
        raise at(name, line, f"the target {cell!r} is not a finite number; expected one to forecast")
    return good


def _is_per_step(name: str, targets: Sequence[Target], order: _Order, task: Task | None) -> bool:
    change = _first_change([value for value, _ in targets], order)
    if change is not None and task == "classification":
        raise at(
            name,
            targets[change][1],
            f"the target goes from {targets[change - 1][0]!r} to {targets[change][0]!r} within a sequence; "
            "expected one for the whole sequence (a label for each step is the task tagging)",
        )
    return task == "tagging" or change is not None


def _first_change(values: Sequence[object], order: _Order) -> int | None:
    """Return the index of the first value that differs from the first value of its sequence, or None."""
    for start, length in zip(order.starts.tolist(), order.lengths.tolist(), strict=True):
        for place in range(start + 1, start + length):
            if values[place] != values[start]:
                return int(place)
    return None


def _constant(lines: _Lines, key: str, order: _Order) -> list[tuple[str, int]]:
    """Return the text and the line of ``key`` for each sequence; it must be constant within a sequence."""
    texts = getattr(lines, key)
    if not texts:
        return []
    values = [texts[int(number)] for number in order.lines]
    change = _first_change(values, order)
    if change is not None:
        number = int(order.lines[change])
        which = f"the {key} of sequence {lines.sequence[number]!r}"
        raise at(
            lines.name, lines.line[number], f"{which} changes to {values[change]!r}; expected one for all its steps"
        )
    return [(values[int(start)], lines.line[int(order.lines[int(start)])]) for start in order.starts]


def _groups(lines: _Lines, order: _Order) -> NDArray[np.int64] | None:
    cells = _constant(lines, "group", order)
    return number_ids([text for text, _ in cells]) if cells else None


def _times(lines: _Lines, order: _Order) -> NDArray[np.float64] | None:
    cells = _constant(lines, "time", order)
    times = []
    for text, line in cells:
        time = parse_number(text)
        if time is None:
            raise at(
                lines.name, line, f"the time is {text!r}, expected a number: the time of the sequence, in any unit"
            )
        times.append(time)
    return np.array(times, dtype=np.float64) if cells else None
