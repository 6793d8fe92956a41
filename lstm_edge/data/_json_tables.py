"""Tables in JSON Lines files: one object for each step, or for each sequence with a list for each of its columns."""

from pathlib import Path
from typing import Any

from lstm_edge.data._columns import NO_COLUMN, Columns, make_rows, required_columns
from lstm_edge.data._json_lines import read_object, shown
from lstm_edge.data._rows import Rows
from lstm_edge.data._table_options import TableOptions
from lstm_edge.data._text_files import at, open_text
from lstm_edge_runtime.errors import DataError

__all__ = ["is_json_table", "read_json_table"]


def is_json_table(path: str | Path) -> bool:
    """Return whether the first object of a file has columns: it has no ``x``, but a ``target``.

    Raises:
        DataError: the file cannot be read, or its first line is no object.
    """
    with open_text(Path(path)) as file:
        for number, text in enumerate(file, start=1):
            if text.strip():
                first = read_object(str(path), number, text, None)
                return "x" not in first and Columns().target[0] in first
    return False


def read_json_table(path: str | Path, options: TableOptions) -> Rows:
    """Read all rows of a table in a JSON Lines file.

    A line is one step if its step column is one value, and one sequence if its step column is a list or absent. Objects
    within a line are columns of their own: ``{"imu": {"ax": 1}}`` has the column ``imu.ax``.

    Raises:
        DataError: one sentence with the file and the line.
    """
    table = _Table(str(path), options)
    with open_text(Path(path)) as file:
        for number, text in enumerate(file, start=1):
            if text.strip():
                value = read_object(str(path), number, text, None, missing=True)
                try:
                    table.add(number, _flat(value))
                except _TwiceError as error:
                    raise at(str(path), number, f"the column {str(error)[:40]!r} is given twice") from error
    return table.finished()


class _TwiceError(ValueError):
    """Two keys of a line are one column, such as ``a.b`` and ``b`` within ``a``."""


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return an object without objects in it; their keys follow a dot."""
    found: dict[str, Any] = {}
    for key, entry in value.items():
        inner = _flat(entry, f"{prefix}{key}.") if isinstance(entry, dict) else {prefix + key: entry}
        both = found.keys() & inner.keys()
        if both:
            raise _TwiceError(min(both))
        found |= inner
    return found


class _Table:
    """The rows of a file while it is read; the first line decides of which form all are."""

    def __init__(self, name: str, options: TableOptions) -> None:
        self.name, self.columns = name, options.columns or Columns()
        self.drop = options.missing == "drop"
        self.rows: Rows | None = None
        self.header: list[str] = []
        self.whole = False
        self.first_line = 0
        self.seen: set[str] = set()

    def add(self, line: int, value: dict[str, Any]) -> None:
        """Add the step, or the steps of the sequence, of one line."""
        rows = self.rows or self._start(line, value)
        for key in value:
            if key not in self.header and not self.columns.x_columns:
                raise at(
                    self.name,
                    line,
                    f"the key {key[:40]!r} is not on line {self.first_line}; expected {', '.join(self.header)[:200]}. "
                    "Name the features with columns to leave others out",
                )
        self.seen |= {key for key, entry in value.items() if entry is not None}
        if self.whole:
            self._add_sequence(rows, line, value)
            return
        if isinstance(value.get(self.columns.step), list):
            raise at(self.name, line, f"{self.columns.step} is a list, but one value on line {self.first_line}")
        rows.add([value.get(key) for key in self.header], line)

    def finished(self) -> Rows:
        """Return all rows.

        Raises:
            DataError: there is none, or a column was on no line.
        """
        if self.rows is None:
            raise DataError(f"data {self.name}: the file is empty; expected one JSON object on a line")
        for key, column in required_columns(self.columns):
            if column not in self.seen and column in self.header and not self._implicit(column):
                raise DataError(f"data {self.name}: no line has the column {column!r} ({key})")
        return self.rows

    def _implicit(self, column: str) -> bool:
        """Return whether a column may be absent, because each line is a sequence."""
        return self.whole and column in ("sequence", "step") and column in (self.columns.sequence, self.columns.step)

    def _start(self, line: int, value: dict[str, Any]) -> Rows:
        columns, self.first_line = self.columns, line
        self.whole = columns.step not in value or isinstance(value[columns.step], list)
        self.header = list(value)
        if columns.x_columns:
            # A line may lack a column, which is then a missing cell: also the first line.
            wanted = [column for _, column in required_columns(columns) if column not in value]
            optional = {"sequence", "step"} - {columns.sequence, columns.step}
            self.header += [column for column in dict.fromkeys(wanted) if column not in optional]
        if self.whole:
            defaults = [column for column in ("sequence", "step") if self._implicit(column)]
            self.header += [column for column in defaults if column not in self.header]
        self.rows = make_rows(self.name, self.header, columns, drop=self.drop)
        return self.rows

    def _add_sequence(self, rows: Rows, line: int, value: dict[str, Any]) -> None:
        length = self._length(rows, line, value)
        columns = dict(value)
        columns.setdefault(self.columns.step, list(range(length)))
        if self.columns.sequence != NO_COLUMN:
            columns.setdefault(self.columns.sequence, f"line {line}")
            name = columns[self.columns.sequence]
            if not isinstance(name, list) and str(name) in rows.names:
                raise at(self.name, line, f"the sequence {str(name)[:40]!r} is on a line before; expected each on one")
        elif rows.line:
            raise at(self.name, line, f"has a second sequence, but sequence={NO_COLUMN} says that the file is one")
        each = [self._steps(line, key, columns.get(key), length) for key in self.header]
        for step in range(length):
            rows.add([entry[step] if isinstance(entry, list) else entry for entry in each], line)

    def _length(self, rows: Rows, line: int, value: dict[str, Any]) -> int:
        for column in rows.columns:
            entry = value.get(column.name)
            if not isinstance(entry, list) or not entry:
                got = "an empty list" if entry == [] else f"{shown(entry)!r}"
                raise at(self.name, line, f"{column.name} is {got}, expected a list with an entry for each step")
        return len(value[rows.columns[0].name])

    def _steps(self, line: int, key: str, entry: Any, length: int) -> Any:
        """Return the entries of a column for each step: a list, or one value for all."""
        single = key in (self.columns.sequence, self.columns.group, self.columns.time) and key != self.columns.step
        if isinstance(entry, list) and (single or len(entry) != length):
            expected = "one value" if single else f"{length}, one for each step"
            raise at(self.name, line, f"{key} has {len(entry)} entries, expected {expected}")
        if key == self.columns.step and not isinstance(entry, list):
            raise at(self.name, line, f"{key} is {shown(entry)!r}, but a list on line {self.first_line}")
        return entry
