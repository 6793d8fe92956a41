"""Facts of columns and arrays: what they hold, in words and numbers."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from lstm_edge.data._columns import Columns
from lstm_edge.data._gaps import Order
from lstm_edge.data._missing import Blanks
from lstm_edge.data._rows import Rows
from lstm_edge.data.report import ColumnFact
from lstm_edge_runtime.arrays import Array

__all__ = ["FIRST", "of_arrays", "of_numbers", "of_texts", "shortened", "table_columns"]

# First values of each column.
FIRST = 3
_LONGEST = 40


def table_columns(rows: Rows, order: Order, blanks: Blanks, named: Columns) -> Iterator[ColumnFact]:
    """Yield the columns in the order of the file."""
    facts: dict[int, list[ColumnFact]] = {}
    places, head = rows.places, range(min(FIRST, len(rows.line)))
    if places.sequence is not None:
        names = tuple(order.names[rows.codes[row]] for row in head)
        facts[places.sequence] = [of_texts(rows.called(places.sequence), "sequence", order.names, names)]
    steps = order.values
    facts[places.step] = [
        ColumnFact(
            name=rows.called(places.step),
            role="step",
            values=f"{rows.steps.kind}: {order.shown(steps.min().item())} to {order.shown(steps.max().item())}",
            low=None if rows.steps.kind == "times" else float(steps.min()),
            high=None if rows.steps.kind == "times" else float(steps.max()),
            missing=len(rows.without_step),
            first=tuple(order.shown(steps[row].item()) for row in head),
        )
    ]
    at = 0
    inputs = [f"input {name}" for name, columns in named.inputs + named.constants for _ in columns]
    for number, (column, place) in enumerate(zip(rows.columns, places.features, strict=True)):
        role = inputs[number] if inputs else "feature"
        x = blanks.x[:, at : at + len(column.names())]
        # A column may be in two inputs.
        facts.setdefault(place, []).extend(of_numbers(name, role, x[:, i]) for i, name in enumerate(column.names()))
        at += len(column.names())
    outputs = [f"target {name}" for name, columns in named.targets for _ in columns]
    for number, place in enumerate(places.target):
        texts = [_cell(target, number, len(places.target)) for target in rows.target]
        missing, role = int(blanks.target_cells[:, number].sum()), outputs[number] if outputs else "target"
        facts[place] = [of_texts(rows.called(place), role, texts, texts[:FIRST], missing=missing)]
    for role, place_of, texts in (("group", places.group, rows.group), ("time", places.time, rows.time)):
        if place_of is not None:
            facts[place_of] = [of_texts(rows.called(place_of), role, texts, texts[:FIRST])]
    for place in sorted(facts):
        yield from facts[place]


def _cell(target: tuple[str | float, ...], number: int, columns: int) -> str:
    return str(target[number]) if columns > 1 or len(target) == 1 else " ".join(map(str, target))


def of_texts(name: str, role: str, texts: Any, first: Any, *, missing: int = 0) -> ColumnFact:
    """Return what a column of texts holds."""
    numbers = [_number(text) for text in texts if text]
    low = high = None
    known = {text for text in texts if text}
    values = f"{len(known):,} different"
    if numbers and all(number is not None for number in numbers):
        low, high = min(numbers), max(numbers)  # type: ignore[type-var]  # none of them is None
        values += f", {low:.6g} to {high:.6g}"
    return ColumnFact(
        name=name,
        role=role,
        values=values,
        low=low,
        high=high,
        missing=missing,
        first=tuple(shortened(text) for text in first),
    )


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def shortened(text: str) -> str:
    """Return a text for a table: its first 40 characters."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def of_numbers(name: str, role: str, values: Array, *, what: str = "") -> ColumnFact:
    """Return what an array of numbers holds; NaN is missing."""
    known = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    missing = values.size - known.size
    if not known.size:
        return ColumnFact(name=name, role=role, values="no value", missing=missing)
    low, high = float(known.min()), float(known.max())
    first = tuple("" if value != value else f"{value:.6g}" for value in values.ravel()[:FIRST])  # noqa: PLR0124  NaN
    span = f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}"
    return ColumnFact(
        name=name, role=role, values=f"{what}{span}", low=low, high=high, missing=int(missing), first=first
    )


def of_arrays(name: str, role: str, rows: Any) -> ColumnFact:
    """Return what the arrays of all sequences hold."""
    low, high = min(float(row.min()) for row in rows), max(float(row.max()) for row in rows)
    shapes = Counter(tuple(row.shape) for row in rows)
    least, most = min(shapes), max(shapes)
    shape = f"{list(least)}" if len(shapes) == 1 else f"{list(least)} to {list(most)}"
    return ColumnFact(
        name=name or "the array",
        role=role,
        values=f"{rows[0].dtype} {shape}, {low:.6g} to {high:.6g}",
        low=low,
        high=high,
        first=tuple(f"{value:.6g}" for value in np.ravel(rows[0])[:FIRST]),
    )
