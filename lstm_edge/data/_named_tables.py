"""Tables whose columns are named inputs and targets of a model."""

from collections.abc import Iterator

import numpy as np

from lstm_edge.data._assembly import Parts, keep
from lstm_edge.data._columns import Columns, Named
from lstm_edge.data._named import NamedDataset
from lstm_edge.data._rows import MISSING_WORDS
from lstm_edge.data._sequences import Task
from lstm_edge.data._table_options import TableOptions
from lstm_edge.data._tables import read_table
from lstm_edge.data._text_files import parse_number
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import DataError
from lstm_edge_runtime.reading import translated

__all__ = ["load_named_table", "named_from_rows"]

Cut = tuple[Array, ...]


def load_named_table(path: str, options: TableOptions, *, task: Task | None = None) -> NamedDataset:
    """Read a table whose columns are inputs and targets of a model by name.

    An input is float32 ``[T, columns]`` of each sequence, ``[T]`` if it has one column; with one value per sequence
    ``[columns]`` or ``[]``. A target is classes int64, or values float32; one per sequence if it is the same on all
    rows of each sequence, unless the columns say ``steps``, otherwise one per step.

    Args:
        path: the file.
        options: with the named columns.
        task: ``forecast``: targets of numbers are values, integers too.

    Raises:
        DataError: one sentence with the file and the line or row.
        InputError: the spacing is not of the kind of the steps.
    """
    with translated(DataError, f"data {path}: cannot be read"):
        return named_from_rows(keep(read_table(path, options), options), options.columns or Columns(), task)


def named_from_rows(parts: Parts, columns: Columns, task: Task | None) -> NamedDataset:
    """Make the data set of rows that are complete; see ``load_named_table``."""
    named = columns.targets or (("", columns.target),)
    targets, labels = _targets(parts, named if columns.y_columns else (), columns.per_step, task)
    return NamedDataset(
        name=parts.table.name,
        inputs=dict(_inputs(parts, columns)),
        targets=targets,
        layout="time-first",
        labels=labels,
        **parts.about(),
    )


def _inputs(parts: Parts, columns: Columns) -> Iterator[tuple[str, Cut]]:
    widths = [column.width or 1 for column in parts.table.columns]
    if not (columns.inputs or columns.constants):
        yield "", _cut(parts, parts.x)
        return
    column = at = 0
    for number, (name, names) in enumerate(columns.inputs + columns.constants):
        width = sum(widths[column : column + len(names)])
        x = parts.x[:, at] if width == 1 else parts.x[:, at : at + width]
        yield name, _cut(parts, x) if number < len(columns.inputs) else tuple(_once(parts, name, x))
        column, at = column + len(names), at + width


def _cut(parts: Parts, x: Array) -> Cut:
    return tuple(np.split(x, parts.starts[1:]))


def _once(parts: Parts, name: str, x: Array) -> Iterator[Array]:
    """Yield the value of each sequence, which must be the same on all its rows."""
    for start, length in zip(parts.starts.tolist(), parts.lengths.tolist(), strict=True):
        rows = x[start : start + length].reshape(length, -1)
        changed = (rows != rows[0]).any(axis=1)
        if changed.any():
            row = parts.numbers[start + int(np.argmax(changed))]
            raise parts.table.at(
                parts.table.line[row],
                f"the input {name!r} of sequence {parts.names[int(parts.codes[start])]!r} changes; expected one value "
                f"for all its steps, because columns has sequence.{name}",
            )
        yield np.asarray(x[start])


def _targets(
    parts: Parts, named: Named, always: frozenset[str], task: Task | None
) -> tuple[dict[str, Cut], tuple[str, ...]]:
    """Return the targets by name, and the class names if one target has classes."""
    found: dict[str, Cut] = {}
    labels: dict[str, tuple[str, ...]] = {}
    at = 0
    for name, columns in named:
        # A list in one column is a vector: all of the row's target.
        part = slice(None) if len(named) == 1 else slice(at, at + len(columns))
        y, names, per_step = parts.targets(_task_of(parts, part, task), None, part, always_per_step=name in always)
        found[name] = _cut(parts, y) if per_step else tuple(np.asarray(value) for value in y)
        if names:
            labels[name] = names
        at += len(columns)
    if len(labels) < 2:
        return found, next(iter(labels.values()), ())
    return {name: _numbered(parts, name, rows, labels.get(name)) for name, rows in found.items()}, ()


def _task_of(parts: Parts, part: slice, task: Task | None) -> Task | None:
    """Return ``forecast`` for numbers where values are asked for; None lets the cells decide."""
    texts = (cell for row in parts.numbers for cell in parts.table.target[row][part] if isinstance(cell, str))
    numeric = all(text.lower() in MISSING_WORDS or parse_number(text) is not None for text in texts)
    return "forecast" if task == "forecast" and numeric else None


def _numbered(parts: Parts, name: str, rows: Cut, labels: tuple[str, ...] | None) -> Cut:
    """Return classes with the numbers that the file has: a model has class names for one output only."""
    if labels is None:
        return rows
    if not all(label.isascii() and label.isdecimal() for label in labels):
        raise DataError(
            f"data {parts.table.name}: the target {name!r} has class names ({', '.join(labels[:3])}), and another "
            "target has classes too; expected the model's class numbers in each, from 0 (integers are classes, "
            "values have a decimal point)"
        )
    numbers = np.array([int(label) for label in labels], dtype=np.int64)
    return tuple(np.asarray(numbers[row]) for row in rows)
