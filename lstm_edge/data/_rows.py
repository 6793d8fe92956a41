"""The rows of a table in memory, one for each step of each sequence, before they become sequences."""

import math
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_edge.data._steps import StepColumn, Time, shown_step
from lstm_edge.data._text_files import finite, parse_number
from lstm_edge_runtime.errors import DataError

__all__ = ["MISSING_WORDS", "FeatureColumn", "Places", "Rows", "Targets", "as_text", "has_decimal_comma", "is_missing"]

# What programs write for a missing number. As a target only the empty text and NaN are missing for sure: a class may
# have any of the other names.
MISSING_WORDS = frozenset({"", "nan", "null", "none", "na", "n/a"})
# A comma between digits, or after groups of three: 1,5 and 1.234,5.
_DECIMAL_COMMA = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+")

Targets = list[tuple[str | float, ...]]


@dataclass(frozen=True, kw_only=True)
class Places:
    """The index of each column in a row, from 0; None for an absent optional column."""

    sequence: int | None
    step: int
    target: tuple[int, ...]
    features: tuple[int, ...]
    group: int | None
    time: int | None

    @property
    def used(self) -> frozenset[int]:
        """All indices that have a role."""
        single = (place for place in (self.sequence, self.step, self.group, self.time) if place is not None)
        return frozenset((*single, *self.target, *self.features))


@dataclass(kw_only=True)
class FeatureColumn:
    """One feature column: numbers, or in JSON Lines and Parquet vectors of one width; NaN where a cell is missing."""

    name: str
    width: int | None = None
    values: "array[float]" = field(default_factory=lambda: array("d"))
    pending: int = 0

    def names(self) -> list[str]:
        """Return the names of the features: one, or one for each place of the vector."""
        return [self.name] if self.width in (None, 1) else [f"{self.name}[{place}]" for place in range(self.width or 0)]

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return float32 ``[rows, width]``."""
        width = self.width or 1
        table = np.full((len(self.values) // width + self.pending, width), np.nan)
        table[self.pending :] = np.frombuffer(self.values, np.float64).reshape(-1, width)
        return table[rows].astype(np.float32)


@dataclass(kw_only=True)
class Rows:
    """The rows of a file, in its order.

    ``unit`` is what a row is called in messages. ``codes`` numbers the sequences of the rows, in the order in which
    ``names`` first has them.
    """

    name: str
    unit: str = "line"
    columns: list[FeatureColumn]
    header: Sequence[str]
    places: Places
    keep_without_step: bool = True
    names: dict[str, int] = field(default_factory=dict)
    codes: "array[int]" = field(default_factory=lambda: array("q"))
    line: "array[int]" = field(default_factory=lambda: array("q"))
    steps: StepColumn = field(default_factory=StepColumn)
    target: Targets = field(default_factory=list)
    group: list[str] = field(default_factory=list)
    time: list[str] = field(default_factory=list)
    first_blank: tuple[int, str, str] | None = None
    without_step: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _texts: dict[str, str] = field(default_factory=dict)
    _only: str = field(init=False, repr=False)
    _features: tuple[tuple[FeatureColumn, int], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # The name of the sequence that the whole file is.
        self._only = PurePath(self.name).name
        self._features = tuple(zip(self.columns, self.places.features, strict=True))

    def at(self, line: int, sentence: str) -> DataError:
        """Return the error for one row."""
        return DataError(f"data {self.name}, {self.unit} {line}: {sentence}")

    def add(self, cells: Sequence[Any], line: int) -> None:
        """Add a row; cells are texts (CSV), or JSON values, Python values and ``Time`` (JSON Lines and Parquet).

        Raises:
            DataError: a cell is neither missing nor what its column holds.
        """
        places = self.places
        step = cells[places.step]
        if not self.keep_without_step and is_missing(step):
            self.without_step.append(line)
            return
        wrong = self.steps.add(step)
        if wrong is not None and has_decimal_comma(step):
            wrong = f"is {step.strip()[:40]!r}, a number with a decimal comma; expected a decimal point"
        if wrong is not None:
            raise self.at(line, f"{self.called(places.step)} {wrong}")
        name = self._only if places.sequence is None else self._label(cells, "sequence", places.sequence, line)
        self.codes.append(self.names.setdefault(name, len(self.names)))
        self.line.append(line)
        for column, place in self._features:
            cell = cells[place]
            # Almost every cell: a number where numbers were before. The calls below take three times as long.
            number = parse_number(cell) if type(cell) is str else finite(cell) if type(cell) is float else None
            if number is not None and column.width == 1:
                column.values.append(number)
            else:
                self._add_feature(column, cell, line)
        self.target.append(self._target(cells, line))
        for key, place_of in (("group", places.group), ("time", places.time)):
            if place_of is not None:
                getattr(self, key).append(self._label(cells, key, place_of, line))

    def called(self, place: int) -> str:
        """Return the name of a column."""
        return self.header[place].strip()

    def _label(self, cells: Sequence[Any], key: str, place: int, line: int) -> str:
        text = self._text(cells[place])
        if not text:
            raise self.at(line, f"{self.called(place)} is empty, expected the {key}")
        return text

    def _text(self, cell: Any) -> str:
        text = as_text(cell)
        return self._texts.setdefault(text, text)

    def _target(self, cells: Sequence[Any], line: int) -> tuple[str | float, ...]:
        if len(self.places.target) == 1 and isinstance(cells[self.places.target[0]], list):
            called = self.called(self.places.target[0])
            vector = [self._number(cell, called, line) for cell in cells[self.places.target[0]]]
            if not vector or any(np.isnan(vector)):
                raise self.at(line, f"{called} holds a list without numbers, or with a missing one")
            return tuple(vector)
        for place in self.places.target:
            if isinstance(cells[place], list | dict):
                raise self.at(line, f"{self.called(place)} is a {type(cells[place]).__name__}, expected one value")
        return tuple([self._text(cells[place]) for place in self.places.target])

    def _add_feature(self, column: FeatureColumn, cell: Any, line: int) -> None:
        if isinstance(cell, list):
            self._add_vector(column, cell, line)
            return
        number = self._number(cell, column.name, line)
        if np.isnan(number):
            self.first_blank = self.first_blank or (line, column.name, as_text(cell))
            if column.width is None:
                column.pending += 1
                return
            column.values.extend([number] * column.width)
            return
        self._set_width(column, 1, "a number", line)
        column.values.append(number)

    def _add_vector(self, column: FeatureColumn, cell: list[Any], line: int) -> None:
        if not cell:
            raise self.at(line, f"{column.name} is an empty list, expected numbers")
        self._set_width(column, len(cell), f"{len(cell)} numbers", line)
        for place, entry in enumerate(cell):
            number = self._number(entry, f"{column.name}[{place}]", line)
            if np.isnan(number):
                self.first_blank = self.first_blank or (line, f"{column.name}[{place}]", as_text(entry))
            column.values.append(number)

    def _set_width(self, column: FeatureColumn, width: int, what: str, line: int) -> None:
        if column.width is None:
            column.width = width
            column.values.extend([np.nan] * (width * column.pending))
            column.pending = 0
        if column.width != width:
            before = "one number" if column.width == 1 else f"{column.width} numbers"
            raise self.at(line, f"{column.name} has {what}, expected {before} as in the rows before")

    def _number(self, cell: Any, called: str, line: int) -> float:
        """Return a finite number, or NaN for a missing one."""
        if isinstance(cell, str):
            number = parse_number(cell)
        elif isinstance(cell, int | float):
            number = finite(cell)
        else:
            number = None
        if number is not None:
            return number
        if is_missing(cell):
            return float("nan")
        text = as_text(cell) if not isinstance(cell, list | dict) else type(cell).__name__
        if has_decimal_comma(cell):
            raise self.at(line, f"{called} is {text[:40]!r}, a number with a decimal comma; expected a decimal point")
        raise self.at(line, f"{called} is {text[:40]!r}, expected a finite number")


def has_decimal_comma(cell: Any) -> bool:
    """Return whether a cell is the text of a number with a decimal comma, such as 1,5 or 1.234,5."""
    return isinstance(cell, str) and _DECIMAL_COMMA.fullmatch(cell.strip()) is not None


def is_missing(cell: Any) -> bool:
    """Return whether a cell stands for a missing number."""
    if cell is None:
        return True
    if isinstance(cell, float):
        return math.isnan(cell)
    return isinstance(cell, str) and cell.strip().lower() in MISSING_WORDS


def as_text(cell: Any) -> str:
    """Return the text of a cell: a class, a name, or a number as it is written."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, Time):
        return shown_step(cell.ns, "times", zoned=cell.zoned)
    return cell.strip() if isinstance(cell, str) else repr(cell)
