"""What a file of data was understood to be: the report of ``lstm-edge data check``."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from lstm_edge.data._gaps import Gap, Repeat
from lstm_edge_runtime.errors import DataError

__all__ = ["ColumnFact", "DataReport", "Lengths"]


@dataclass(frozen=True, kw_only=True)
class ColumnFact:
    """One column, or one array.

    Attributes:
        name: its name.
        role: ``sequence``, ``step``, ``feature``, ``target``, ``group``, ``time``, ``input`` or ``text``.
        values: what it holds, in words: a range, or a number of different texts.
        low, high: the smallest and the largest number; None for texts and times.
        missing: missing cells.
        first: its first values, at most three.
    """

    name: str
    role: str
    values: str
    low: float | None = None
    high: float | None = None
    missing: int = 0
    first: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Steps of the shortest, the middle and the longest sequence."""

    least: int
    median: float
    most: int


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """What was understood of a file.

    Attributes:
        name: the file.
        kind: what kind of file it is.
        task: ``classification``, ``tagging`` or ``forecast``; None if there are no such targets, or they are in doubt.
        sequences, steps: how many there are, of a text characters; after filling and dropping what is missing.
        lengths: None if sequences have no steps, or only the model knows their axis; ``steps`` then counts sequences.
        columns: the columns or arrays, in the file's order.
        classes: number of sequences or steps of each class, by name; empty without classes.
        classes_of: what is counted: ``sequences`` or ``steps``.
        spacing: the spacing of the steps in words, or empty.
        gaps: the first 20 gaps, in the order of the sequences; ``gap_count`` and ``missing_steps`` are of all.
        repeats: the first 20 steps that a sequence has twice; ``repeat_count`` is of all.
        missing_cells: number of missing cells.
        notes: what was done to the rows: sorted, filled, dropped.
        problems: the sentence with which other commands refuse the file, if they do.
    """

    name: str
    kind: str
    task: str | None = None
    sequences: int
    steps: int
    lengths: Lengths | None = None
    columns: tuple[ColumnFact, ...] = ()
    classes: dict[str, int] = dataclasses.field(default_factory=dict)
    classes_of: str = "sequences"
    spacing: str = ""
    gaps: tuple[Gap, ...] = ()
    gap_count: int = 0
    missing_steps: int = 0
    repeats: tuple[Repeat, ...] = ()
    repeat_count: int = 0
    missing_cells: int = 0
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether other commands take the file with these options."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return dataclasses.asdict(self) | {"passed": self.passed}

    def check(self) -> None:
        """Raise if other commands refuse the file.

        Raises:
            DataError: ``problems`` has a sentence.
        """
        if self.problems:
            raise DataError(self.problems[0])
