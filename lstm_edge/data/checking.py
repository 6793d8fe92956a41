"""Understanding a file of data without a model: the figures of ``lstm-edge data check``."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lstm_edge.data._assembly import assemble, keep
from lstm_edge.data._audio import is_audio
from lstm_edge.data._columns import NO_COLUMN, Columns, NoColumnError
from lstm_edge.data._gaps import Order, sort_rows
from lstm_edge.data._json_lines import read_object
from lstm_edge.data._missing import Blanks
from lstm_edge.data._named import NamedDataset
from lstm_edge.data._named_files import load_samples
from lstm_edge.data._named_tables import named_from_rows
from lstm_edge.data._rows import Rows
from lstm_edge.data._sequences import Dataset, Task
from lstm_edge.data._steps import shown_width
from lstm_edge.data._table_options import TableOptions
from lstm_edge.data._tables import is_table, read_table, refuse_options
from lstm_edge.data._text_files import open_text
from lstm_edge.data._transcripts import Transcripts, load_transcripts
from lstm_edge.data.facts import FIRST, of_arrays, of_numbers, shortened, table_columns
from lstm_edge.data.report import ColumnFact, DataReport, Lengths
from lstm_edge.data.text import is_text, load_text
from lstm_edge.data_names import BUNDLED, JSON_LINES
from lstm_edge_runtime.errors import DataError
from lstm_edge_runtime.reading import translated

__all__ = ["understand"]

_MOST_SHOWN = 20


def understand(spec: str, *, table: TableOptions | None = None, task: Task | None = None) -> DataReport:
    """Say what a file of data, or a bundled set, is understood to be.

    A table with repeated or missing steps or cells gives a report with ``problems``; a file that cannot be read raises.

    Args:
        spec: a name for ``lstm_edge.data.load``, ``load_arrays``, ``load_transcripts`` or ``load_text``.
        table: how a table is read, or the targets of an ``.npy`` file.
        task: task of the targets; None: it follows from the file.

    Raises:
        DataError: the file cannot be read.
        InputError: an option is for another kind of file.
    """
    if is_text(spec):
        refuse_options(spec, table)
        return _of_text(spec)
    if is_table(spec, table) and (table is None or table.targets is None):
        return _of_table(spec, table or TableOptions(), task)
    if table is None and spec.endswith(JSON_LINES) and _has_texts(spec):
        return _of_transcripts(load_transcripts(spec))
    data = load_samples(spec, default_split="train", table=table, task=task)
    return _of_named(data) if isinstance(data, NamedDataset) else _of_dataset(data)


def _kind(spec: str) -> str:
    if spec.partition(":")[0] in BUNDLED:
        return "bundled set"
    if is_audio(spec):
        return "folder of WAV files"
    ending = Path(spec.removesuffix(".gz")).suffix
    known = {".jsonl": "JSON Lines", ".parquet": "Parquet", ".npz": "NumPy archive", ".npy": "NumPy array"}
    return known.get(ending, ending.removeprefix(".").upper())


def _has_texts(spec: str) -> bool:
    """Return whether the first object of a JSON Lines file has a text in place of a target."""
    with translated(DataError, f"data {spec}: cannot be read"), open_text(Path(spec)) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                return "text" in read_object(spec, number, line, None, missing=True)
    return False


def _of_table(spec: str, options: TableOptions, task: Task | None) -> DataReport:
    """Report on a table; without a ``sequence`` or a ``target`` column too, which is then a problem."""
    absent: list[str] = []
    while True:
        try:
            report = _with_columns(spec, options, task)
        except NoColumnError as error:
            columns = options.columns or Columns()
            usual = {"sequence": columns.sequence == "sequence", "target": columns.y_columns == ("target",)}
            if not usual.get(error.role) or columns.targets:
                raise
            absent.append(str(error))
            if error.role == "sequence":
                columns = dataclasses.replace(columns, sequence=NO_COLUMN)
            else:
                columns = dataclasses.replace(columns, target=(NO_COLUMN,))
            options = dataclasses.replace(options, columns=columns)
            continue
        return dataclasses.replace(report, problems=(*absent, *report.problems))


def _with_columns(spec: str, options: TableOptions, task: Task | None) -> DataReport:
    with translated(DataError, f"data {spec}: cannot be read"):
        rows = read_table(spec, options)
        order, blanks = sort_rows(rows, options.spacing), Blanks(rows)
        # Before missing targets are filled.
        columns = tuple(table_columns(rows, order, blanks, options.columns or Columns()))
        counts = Counter(np.array(rows.codes, dtype=np.int64).tolist())
        targets = Counter(" ".join(map(str, target)) for target in rows.target)
        data: Dataset | NamedDataset | None = None
        problems: tuple[str, ...] = ()
        try:
            data = _assembled(rows, options, task)
        except DataError as error:
            problems = (str(error),)
    gaps, repeats = order.gap_places, order.repeats
    found: dict[str, Any] = {
        "sequences": len(counts),
        "steps": len(rows.line),
        "lengths": _lengths(list(counts.values())),
    }
    if data is not None:
        found = _dataset_figures(data) if isinstance(data, Dataset) else _named_figures(data)
    elif (
        rows.places.target
        and all(isinstance(cell, str) for target in rows.target for cell in target)
        and len(targets) <= _MOST_SHOWN
    ):
        found |= {"classes": dict(sorted(targets.items())), "classes_of": "steps"}
    return DataReport(
        name=spec,
        kind=_kind(spec),
        columns=columns,
        spacing=_spacing(order),
        gaps=tuple(order.gap(int(place)) for place in gaps[:_MOST_SHOWN]),
        gap_count=len(gaps),
        missing_steps=sum(int(order.jumps[place]) - 1 for place in gaps),
        repeats=tuple(repeats[:_MOST_SHOWN]),
        repeat_count=len(repeats),
        missing_cells=blanks.count(),
        notes=tuple(rows.notes) if data is None else data.notes,
        problems=problems,
        **found,
    )


def _assembled(rows: Rows, options: TableOptions, task: Task | None) -> Dataset | NamedDataset:
    columns = options.columns or Columns()
    return named_from_rows(keep(rows, options), columns, task) if columns.named else assemble(rows, options, task=task)


def _spacing(order: Order) -> str:
    widths, kind = order.widths[order.same & (order.widths > 0)], order.table.steps.kind
    if not len(widths):
        return ""
    low, middle, high = (shown_width(float(value), kind) for value in np.quantile(widths, (0, 0.5, 1), method="lower"))
    found = low if low == high else f"{low} to {high}, median {middle}"
    every = "any" if order.every is None else shown_width(order.every, kind)
    return found if order.said else f"{found}; expected {every}"


def _lengths(lengths: Any) -> Lengths:
    return Lengths(least=int(np.min(lengths)), median=float(np.median(lengths)), most=int(np.max(lengths)))


def _dataset_figures(data: Dataset) -> dict[str, Any]:
    found: dict[str, Any] = {
        "task": data.task,
        "sequences": len(data),
        "steps": len(data.x),
        "lengths": _lengths(data.lengths),
    }
    if data.is_classes:
        counts = np.bincount(data.y, minlength=data.classes)
        names = data.labels or [str(number) for number in range(data.classes)]
        found["classes"] = {name: int(count) for name, count in zip(names, counts, strict=True)}
        found["classes_of"] = "steps" if data.per_step else "sequences"
    return found


def _of_dataset(data: Dataset) -> DataReport:
    columns = [of_numbers("ids", "feature", data.x)] if data.is_ids else []
    if not data.is_ids:
        columns = [of_numbers(f"x[{feature}]", "feature", data.x[:, feature]) for feature in range(data.features)]
    y = data.y.reshape(len(data.y), -1)
    columns += [of_numbers(f"y[{at}]" if y.shape[1] > 1 else "y", "target", y[:, at]) for at in range(y.shape[1])]
    for role, values in (("group", data.groups), ("time", data.times)):
        if values is not None:
            columns.append(of_numbers(f"{role}s", role, values))
    return DataReport(name=data.name, kind=_kind(data.name), columns=tuple(columns), **_dataset_figures(data))


def _of_transcripts(data: Transcripts) -> DataReport:
    columns = [of_numbers(f"x[{feature}]", "feature", data.x[:, feature]) for feature in range(data.features)]
    symbols = {symbol for text in data.texts for symbol in text}
    size = sum(map(len, data.texts))
    texts = ColumnFact(
        name="text",
        role="text",
        values=f"{size:,} characters, {len(symbols):,} different",
        first=tuple(shortened(text) for text in data.texts[:FIRST]),
    )
    return DataReport(
        name=data.name,
        kind=_kind(data.name),
        sequences=len(data),
        steps=len(data.x),
        lengths=_lengths(data.lengths),
        columns=(*columns, texts),
    )


def _of_text(spec: str) -> DataReport:
    data = load_text(spec)
    lines = data.text.splitlines()
    first = tuple(shortened(line) for line in lines[:FIRST])
    values = f"{len(lines):,} lines, {len(set(data.text)):,} different characters"
    return DataReport(
        name=data.name,
        kind="text",
        sequences=1,
        steps=len(data),
        columns=(ColumnFact(name="text", role="text", values=values, first=first),),
    )


def _of_named(data: NamedDataset) -> DataReport:
    columns = [
        of_arrays(name, role, rows)
        for role, arrays in (("input", data.inputs), ("target", data.targets))
        for name, rows in arrays.items()
    ]
    return DataReport(
        name=data.name, kind=_kind(data.name), columns=tuple(columns), notes=data.notes, **_named_figures(data)
    )


def _named_figures(data: NamedDataset) -> dict[str, Any]:
    classes = data.classes
    counts: Mapping[str, int] = {}
    if classes is not None:
        numbers, found = np.unique(classes, return_counts=True)
        named = {number: data.labels[number] for number in numbers if 0 <= number < len(data.labels)}
        counts = {named.get(n, str(n)): int(count) for n, count in zip(numbers, found, strict=True)}
    steps = data.lengths
    if steps is None and data.layout == "time-first":
        first = next(iter(data.inputs.values()))
        steps = np.array([len(row) if row.ndim else 1 for row in first], dtype=np.int64)
    return {
        "sequences": len(data),
        "steps": len(data) if steps is None else int(steps.sum()),
        "lengths": None if steps is None else _lengths(steps),
        "classes": dict(counts),
    }
