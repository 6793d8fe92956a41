"""What is missing in a table: gaps and cells are found, and refused, filled or dropped."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lstm_edge.data._gaps import Order
from lstm_edge.data._rows import MISSING_WORDS, Rows
from lstm_edge.data._text_files import parse_number
from lstm_edge_runtime.errors import DataError

__all__ = ["Blanks", "many", "treat"]

Rows64 = NDArray[np.int64]
# Filled steps: a wrong year in one row is a gap of thirty million seconds.
_MOST_FILLED, _LEAST_FILLED = 4, 2**16


class Blanks:
    """Where cells are missing; x is float32 ``[rows, F]`` in the file's order, with NaN for a missing cell."""

    def __init__(self, table: Rows) -> None:
        self.x = np.concatenate([column.take(np.arange(len(table.line))) for column in table.columns], axis=1)
        self.cells = np.isnan(self.x)
        self.target_cells: NDArray[np.bool_] = np.zeros((len(table.line), len(table.places.target)), dtype=bool)
        for column in range(len(table.places.target)):
            words = _missing_words(table, column)
            self.target_cells[:, column] = [
                _is_text(t, column) and str(t[column]).lower() in words for t in table.target
            ]
        self.target: NDArray[np.bool_] = np.asarray(self.target_cells.any(axis=1))
        self.rows = self.cells.any(axis=1) | self.target

    def count(self) -> int:
        """Return the number of missing cells."""
        return int(self.cells.sum() + self.target_cells.sum())


def _is_text(target: tuple[str | float, ...], column: int) -> bool:
    return column < len(target) and isinstance(target[column], str)


def _missing_words(table: Rows, column: int) -> frozenset[str]:
    """Return the texts that are missing targets of a column: a class may be called ``null``, a number may not."""
    certain = frozenset({"", "nan"})
    texts = {str(target[column]) for target in table.target if _is_text(target, column)}
    others = [text for text in texts if text.lower() not in MISSING_WORDS]
    return MISSING_WORDS if others and all(parse_number(text) is not None for text in others) else certain


def treat(
    order: Order, missing: Literal["refuse", "ffill", "drop"], notes: list[str]
) -> tuple[Rows64, NDArray[np.float32]]:
    """Refuse, fill or drop what is missing.

    Args:
        order: the sorted rows; missing targets are filled in its table.
        missing: what is done.
        notes: gets a sentence for each thing that was done.

    Returns:
        The row of the file for each step that is kept or filled, int64 ``[R]``, and its features, float32 ``[R, F]``.

    Raises:
        DataError: something is missing, and is refused, or cannot be filled, or nothing would be left.
    """
    blanks = Blanks(order.table)
    if missing == "refuse":
        _refuse(order, blanks)
        return order.rows, blanks.x[order.rows]
    if missing == "drop":
        rows = _drop(order, blanks, notes)
        return rows, blanks.x[rows]
    return _fill_cells(order, blanks, _fill_gaps(order, notes), notes)


def _refuse(order: Order, blanks: Blanks) -> None:
    """Refuse gaps and missing cells: the first one, their number, and what ``--missing`` does with them."""
    table, gaps = order.table, order.gap_places
    if not len(gaps) and not blanks.rows.any():
        return
    if len(gaps):
        line = order.gap(int(gaps[0])).line
        sentence = order.gap_sentence()
    else:
        row = int(np.argmax(blanks.rows))
        line, sentence = table.line[row], _blank_sentence(table, blanks, row)
    counts = []
    if len(gaps):
        steps = sum(int(order.jumps[place]) - 1 for place in gaps)
        counts.append(f"{many(steps, 'step')} {'is' if steps == 1 else 'are'} missing in {many(len(gaps), 'gap')}")
    if blanks.rows.any():
        rows = np.flatnonzero(blanks.rows)
        shown = ", ".join(str(table.line[int(row)]) for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
        counts.append(f"{many(blanks.count(), 'cell')} missing on {table.unit}{'s' * (len(rows) > 1)} {shown}")
    raise table.at(
        line,
        f"{sentence}. In all {' and '.join(counts)}: --missing ffill fills them with the step before, --missing drop "
        "leaves the steps out that have a missing cell, and closes gaps",
    )


def _blank_sentence(table: Rows, blanks: Blanks, row: int) -> str:
    if not blanks.cells[row].any():
        return "the target is empty, expected a class or a number"
    assert table.first_blank is not None
    _, called, text = table.first_blank
    return f"{called} is {text[:40]!r}, expected a finite number"


def many(count: int, what: str) -> str:
    """Return a count with its noun."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _drop(order: Order, blanks: Blanks, notes: list[str]) -> Rows64:
    """Return the rows without a missing cell, in order; the steps beside a gap become neighbours."""
    table = order.table
    rows: Rows64 = order.rows[~blanks.rows[order.rows]]
    codes = np.array(table.codes, dtype=np.int64)
    if not len(rows):
        raise DataError(f"data {table.name}: every {table.unit} has a missing cell, so --missing drop leaves nothing")
    dropped, gaps = int(blanks.rows.sum()), order.gap_places
    if dropped:
        first = table.line[int(np.argmax(blanks.rows))]
        notes.append(f"{many(dropped, table.unit)} with a missing cell dropped, the first is {table.unit} {first}")
    if len(gaps):
        notes.append(f"{many(len(gaps), 'gap')} closed, the first before {table.unit} {order.gap(int(gaps[0])).line}")
    lost = np.setdiff1d(codes, codes[rows])
    if len(lost):
        notes.append(f"{many(len(lost), 'sequence')} without a whole step dropped, such as {order.names[lost[0]]!r}")
    return rows


def _fill_gaps(order: Order, notes: list[str]) -> Rows64:
    """Return the rows in order, each repeated for the steps that are missing after it."""
    table, gaps = order.table, order.gap_places
    if not len(gaps):
        return order.rows
    most = max(_LEAST_FILLED, _MOST_FILLED * len(order.rows))
    total = 0
    for place in gaps.tolist():
        total += int(order.jumps[place]) - 1
        if total > most:
            gap = order.gap(place)
            raise table.at(
                gap.line,
                f"sequence {gap.sequence!r} goes from step {gap.before} ({table.unit} {gap.line_before}) to "
                f"{gap.after}: {gap.missing:,} steps are missing, and at most {most:,} are filled in a file; correct "
                "the step, or give --missing drop",
            )
    repeats = np.ones(len(order.rows), dtype=np.int64)
    repeats[gaps] = order.jumps[gaps]
    first = order.gap(int(gaps[0]))
    notes.append(
        f"{many(total, 'step')} in {many(len(gaps), 'gap')} filled with the step before (x and target), the first "
        f"before {table.unit} {first.line}"
    )
    return np.repeat(order.rows, repeats)


def _fill_cells(order: Order, blanks: Blanks, rows: Rows64, notes: list[str]) -> tuple[Rows64, NDArray[np.float32]]:
    """Fill missing cells with the sequence's step before; the steps before a column's first value are dropped."""
    table, x = order.table, blanks.x[rows]
    _fill_targets(order, blanks, rows, notes)
    if not blanks.cells.any():
        return rows, x
    codes = np.array(table.codes, dtype=np.int64)[rows]
    starts = np.flatnonzero(np.concatenate(([True], codes[1:] != codes[:-1])))
    first = np.repeat(starts, np.diff(np.append(starts, len(rows))))
    for feature in range(x.shape[1]):
        known = np.where(np.isnan(x[:, feature]), -1, np.arange(len(rows)))
        before = np.maximum.accumulate(known)
        x[:, feature] = np.where(before >= first, x[np.maximum(before, 0), feature], np.nan)
    leading = np.isnan(x).any(axis=1)
    lost = np.setdiff1d(codes, codes[~leading])
    if len(lost):
        raise DataError(
            f"data {table.name}: sequence {order.names[lost[0]]!r} has no step at which every column has had a value, "
            "so there is nothing to fill from; remove it, or give --missing drop"
        )
    if leading.any():
        notes.append(
            f"{many(int(leading.sum()), 'step')} before a column's first value dropped, the first is {table.unit} "
            f"{table.line[int(rows[np.argmax(leading)])]}"
        )
    kept = np.unique(rows[~leading])
    filled = kept[blanks.cells[kept].any(axis=1)]
    if len(filled):
        cells = many(int(blanks.cells[filled].sum()), "missing cell")
        notes.append(f"{cells}, the first on {table.unit} {table.line[int(filled[0])]}: filled with the step before")
    return rows[~leading], x[~leading]


def _fill_targets(order: Order, blanks: Blanks, rows: Rows64, notes: list[str]) -> None:
    """Fill missing targets with the sequence's step before, in the table.

    Raises:
        DataError: the first step of a sequence has none.
    """
    table, before = order.table, -1
    if blanks.target.any():
        line = table.line[int(np.argmax(blanks.target))]
        count = many(int(blanks.target_cells.sum()), "missing target")
        notes.append(f"{count}, the first on {table.unit} {line}: filled with the step before")
    for row in rows.tolist():
        if blanks.target[row]:
            if before < 0 or table.codes[before] != table.codes[row]:
                raise table.at(
                    table.line[row],
                    f"the target is empty, and no step of sequence {order.names[table.codes[row]]!r} before it has "
                    "one to fill it with; expected a class or a number",
                )
            given, earlier = table.target[row], table.target[before]
            if len(given) != len(earlier):  # a missing cell where other rows have a vector
                table.target[row] = earlier
            else:
                holes = blanks.target_cells[row].tolist()
                cells = zip(given, earlier, holes, strict=True)
                table.target[row] = tuple(old if hole else cell for cell, old, hole in cells)
        before = row
