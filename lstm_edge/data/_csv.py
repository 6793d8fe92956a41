"""Data sets in CSV and TSV files of the long form: one line for each step of each sequence."""

import contextlib
import csv
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from lstm_edge.data._assembly import assemble
from lstm_edge.data._columns import Columns, make_rows, required_columns
from lstm_edge.data._rows import Rows
from lstm_edge.data._sequences import Dataset, Task
from lstm_edge.data._table_options import TableOptions
from lstm_edge.data._text_files import Lines, at, open_text
from lstm_edge_runtime.errors import DataError
from lstm_edge_runtime.reading import LONGEST_LINE, translated

__all__ = ["load_csv", "read_csv"]

# Delimiters of a .csv file, the usual one first.
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}


class _Counted:
    """Lines of bounded records: a record, whose cells may contain line breaks, is at most as long as a line."""

    def __init__(self, name: str, lines: Lines, first: Sequence[str]) -> None:
        self.characters = 0
        self._name, self._lines = name, lines
        self._all = chain(first, lines)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._all)
        self.characters += len(line)
        if self.characters > LONGEST_LINE:
            raise at(self._name, self._lines.number, f"ends a record of more than {LONGEST_LINE:,} characters")
        return line


def load_csv(
    path: str | Path,
    *,
    table: TableOptions | None = None,
    task: Task | None = None,
    labels: Sequence[str] | None = None,
) -> Dataset:
    """Read a CSV or TSV file (``.csv``, ``.tsv``, also ``.gz``): a header, one line for each step; see docs/data.md.

    Lines may be in any order; steps are sorted. Integers must be consecutive from any first number; numbers and ISO
    times evenly spaced; ``table.spacing`` is another spacing. Sequences stay in the order in which they first appear. A
    target that is constant within each sequence is a target per sequence, unless ``task`` is ``tagging``; any other
    target is a target per step.

    Args:
        path: the file.
        table: roles of the columns, spacing of the steps, what becomes of what is missing.
        task: task of the targets; None: integers and texts are classes, numbers with a decimal point are values.
        labels: the only labels allowed, in their order; None: those of the file, sorted.

    Raises:
        DataError: one sentence with the file and the line: a column is missing, a line is too short or too long, a cell
            is not a finite number, a step is duplicate or missing, a label was never seen, or the file is empty or
            cannot be read.
        InputError: the spacing is not of the kind of the steps.
    """
    options = table or TableOptions()
    with translated(DataError, f"data {path}: cannot be read"):
        return assemble(read_csv(path, options), options, task=task, labels=labels)


def read_csv(path: str | Path, options: TableOptions) -> Rows:
    """Read all rows of a CSV or TSV file.

    Raises:
        DataError: as ``load_csv``, apart from what several rows together tell.
    """
    name, columns = str(path), options.columns or Columns()
    with open_text(Path(path)) as file:
        first = list(islice(file, 1))
        delimiter, notes = _delimiter(name, first, columns)
        lines = _Counted(name, file, first)
        reader = csv.reader(lines, strict=True, delimiter=delimiter)
        try:
            header = next(reader, None)
            if header is None:
                raise DataError(f"data {name}: the file is empty; expected a header and a line for each step")
            header = [cell.strip() for cell in header]
            rows = make_rows(name, header, columns, drop=options.missing == "drop")
            rows.notes += notes
            for cells in reader:
                lines.characters = 0
                if cells:
                    if len(cells) != len(header):
                        raise at(name, reader.line_num, _wrong_count(cells, header, delimiter))
                    rows.add(cells, reader.line_num)
        except csv.Error as error:
            raise at(name, reader.line_num, f"not CSV ({error})") from error
    return rows


def _delimiter(name: str, first: Sequence[str], columns: Columns) -> tuple[str, list[str]]:
    """Return the delimiter, by the file's ending or by the header, and a note where it is not the usual one.

    In a ``.csv`` file it is the one of comma, semicolon, tab and vertical bar at which the header has the most of the
    columns that are needed; the first of several, and the comma where the header has none.
    """
    if name.removesuffix(".gz").endswith(".tsv"):
        return "\t", []
    needed, found = {column for _, column in required_columns(columns)}, dict.fromkeys(_DELIMITERS, 0)
    for delimiter in _DELIMITERS:
        # An error, such as a cell of more than 131,072 characters: the reader of the rows says it.
        with contextlib.suppress(csv.Error):
            header = next(csv.reader(first, delimiter=delimiter), [])
            found[delimiter] = len(needed & {cell.strip() for cell in header})
    best = max(found, key=lambda delimiter: found[delimiter])
    return best, [] if best == "," else [f"the delimiter is the {_DELIMITERS[best]}"]


def _wrong_count(cells: Sequence[str], header: Sequence[str], delimiter: str) -> str:
    hint = ""
    if len(cells) > len(header) and delimiter == ",":
        hint = " (an unquoted number with a decimal comma becomes two cells)"
    return f"has {len(cells)} cells, expected {len(header)} as in the header{hint}"
