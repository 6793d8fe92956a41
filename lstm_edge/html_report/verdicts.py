"""The drawing of the verdicts: the loss of each file on the held-out data with its range, zero, and the budget."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from lstm_edge.axes import Axis
from lstm_edge.html_report.scatter import BOLD, CHARACTER, LEAST_COVERED, Label

__all__ = ["Judged", "Row", "Verdicts", "draw_verdicts"]

# Height of a row: a line of text above a line with the marks.
_ROW, _TEXT, _MARK = 40.0, 14.0, 28.0
_TOP, _AXIS_LINE = 2.0, 17.0
# The ends of the axis are free of marks: a mark is 12 pixels wide.
_MARGIN = 10.0


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One file on the held-out data: its loss with its range in the metric's unit, and the text above its mark.

    ``short`` takes the place of ``text`` where the drawing is too narrow for it.
    """

    drop: float
    low: float | None
    high: float | None
    text: str
    short: str
    chosen: bool


@dataclass(frozen=True, kw_only=True)
class Row:
    """One file in pixels."""

    y: float
    drop: float
    low: float | None
    high: float | None
    chosen: bool
    label: Label


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """A drawing of ``width`` x ``height``; the rows end at ``bottom``, below are the names of zero and the budget.

    ``allowed`` is None if the budget is far above the losses; its text then says so.
    """

    width: int
    height: int
    bottom: float
    zero: float
    allowed: float | None
    rows: tuple[Row, ...]
    zero_label: Label
    allowed_label: Label


def draw_verdicts(
    judged: Sequence[Judged], *, allowed: float, zero_text: str, allowed_text: str, width: int
) -> Verdicts:
    """Lay the drawing out.

    Args:
        judged: at least one file.
        allowed: the budget in the metric's unit.
        zero_text: name of the line at zero.
        allowed_text: name of the line at the budget.
        width: pixels.
    """
    values = [0.0, *(v for one in judged for v in (one.drop, one.low, one.high) if v is not None)]
    far = 0 < max(values) - min(values) < LEAST_COVERED * (max(*values, allowed) - min(values))
    if not far:
        values.append(allowed)
    low, high = min(values), max(values)
    high = high if high > low else low + 1.0
    axis = Axis(low=low, high=high, start=_MARGIN, end=width - _MARGIN)
    rows = tuple(
        Row(
            y=_TOP + number * _ROW + _MARK,
            drop=axis.at(one.drop),
            low=None if one.low is None else axis.at(one.low),
            high=None if one.high is None else axis.at(one.high),
            chosen=one.chosen,
            label=_row_label(one, axis.at(one.drop), _TOP + number * _ROW + _TEXT, width),
        )
        for number, one in enumerate(judged)
    )
    bottom = _TOP + len(judged) * _ROW
    zero_label = _centred(zero_text, axis.at(0.0), bottom + _AXIS_LINE - 3, width)
    allowed_text = f"{allowed_text}, far beyond →" if far else allowed_text
    allowed_label = _centred(allowed_text, width if far else axis.at(allowed), bottom + _AXIS_LINE - 3, width)
    lines = 1
    if abs(zero_label.x - allowed_label.x) < CHARACTER * (len(zero_label.text) + len(allowed_label.text) + 2) / 2:
        lines = 2
        allowed_label = dataclasses.replace(allowed_label, y=bottom + 2 * _AXIS_LINE - 3)
    return Verdicts(
        width=width,
        height=round(bottom + lines * _AXIS_LINE + 3),
        bottom=bottom,
        zero=axis.at(0.0),
        allowed=None if far else axis.at(allowed),
        rows=rows,
        zero_label=zero_label,
        allowed_label=allowed_label,
    )


def _row_label(one: Judged, x: float, y: float, width: int) -> Label:
    character = BOLD if one.chosen else CHARACTER
    return _centred(one.text if character * len(one.text) <= width - 4 else one.short, x, y, width, character)


def _centred(text: str, x: float, y: float, width: int, character: float = CHARACTER) -> Label:
    """Return a text centred at x, moved and shortened as far as the drawing's edges ask for."""
    most = int((width - 4) / character)
    text = text if len(text) <= most else f"{text[: most - 1]}…"
    half = character * len(text) / 2
    return Label(x=round(min(max(x, half + 2), width - half - 2), 1), y=y, anchor="middle", text=text, role="tick")
