"""The scatter plot of size (or step time) against the loss on the tuning data: points, Pareto front, budget, labels."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from lstm_edge.axes import Axis, linear_axis, log_axis

__all__ = [
    "BOLD",
    "CHARACTER",
    "LEAST_COVERED",
    "Label",
    "Mark",
    "Point",
    "Role",
    "Scatter",
    "draw_scatter",
    "pareto_front",
]

Role = Literal["search", "baseline", "chosen"]
_ROLES: tuple[Role, ...] = ("search", "baseline", "chosen")

# Widths in pixels of a character (above the mean of usual sans-serif fonts at 12.5 px) and of a digit (in the widest of
# these fonts, DejaVu Sans: 0.636 em); BOLD is a character of a bold label.
CHARACTER, BOLD, _DIGIT = 6.7, 8.0, 8.0
_LINE = 15.0
# Least distance of two texts on a line, halved.
_GAP = 3.0
# Above this ratio of the largest to the smallest value the horizontal axis is logarithmic.
_LOG_FROM = 3.0
# At least this share of the points is inside the vertical axis; the others are drawn at the edge, with their figure.
_INSIDE = 0.75
# The points inside may be squeezed by farther ones, or by the budget, to this share of the vertical axis.
LEAST_COVERED = 0.25
_MARGIN_RIGHT, _MARGIN_TOP, _MARGIN_BOTTOM = 14.0, 12.0, 30.0
# Candidate positions of a label beside its point: offset in pixels and text anchor, the best first.
_PLACES = (
    (11.0, 4.0, "start"),
    (-11.0, 4.0, "end"),
    (0.0, -12.0, "middle"),
    (0.0, 21.0, "middle"),
    (8.0, -9.0, "start"),
    (8.0, 18.0, "start"),
    (-8.0, -9.0, "end"),
    (-8.0, 18.0, "end"),
)
Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Point:
    """A point of the plot: ``x`` in bytes or microseconds, ``drop`` with its interval, ``title`` as its tooltip.

    ``label`` is written beside the point, followed by ``far``, the drop, if the drop is beyond the axis.
    """

    x: float
    drop: float
    low: float | None
    high: float | None
    role: Role
    title: str
    label: str = ""
    far: str = ""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A point in pixels; ``beyond`` is -1 or 1 if the point is below or above the axis and drawn at its edge."""

    x: float
    y: float
    low: float | None
    high: float | None
    role: Role
    front: bool
    beyond: int
    title: str


@dataclass(frozen=True, kw_only=True)
class Label:
    """A text in pixels."""

    x: float
    y: float
    anchor: str
    text: str
    role: str


@dataclass(frozen=True, kw_only=True)
class Scatter:
    """A drawing of ``width`` x ``height``; ``front`` is the staircase's path, ``beyond`` counts marks at the edge.

    ``budget_y`` is None if the budget is far above the points; its text then says so.
    """

    width: int
    height: int
    x: Axis
    y: Axis
    marks: tuple[Mark, ...]
    labels: tuple[Label, ...]
    front: str
    budget_y: float | None
    zero_y: float
    beyond: int


def pareto_front(points: Sequence[Point]) -> tuple[Point, ...]:
    """Return the Pareto-optimal points in size and drop, sorted by size."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, p.drop)):
        if not front or point.drop < front[-1].drop:
            front.append(point)
    return tuple(front)


def draw_scatter(
    points: Sequence[Point],
    *,
    budget: float,
    budget_text: str,
    width: int,
    height: int,
    x_text: Callable[[float], str],
    y_text: Callable[[float, int], str],
) -> Scatter:
    """Lay the drawing out.

    Args:
        points: at least one; ``x`` is positive.
        budget: the largest drop allowed, 0 or more.
        budget_text: text above the budget line.
        width: pixels.
        height: pixels.
        x_text: formats a tick of the horizontal axis.
        y_text: formats a tick of the vertical axis with a number of decimals.
    """
    front = pareto_front(points)
    y = _vertical(points, front, budget, height, y_text)
    left = max(36.0, 14 + _DIGIT * max((len(tick.text) for tick in y.ticks), default=0))
    x = _horizontal(points, left, width - _MARGIN_RIGHT, x_text)
    drawn = sorted(points, key=_order)
    marks = tuple(_mark(point, point in front, x, y) for point in drawn)
    corners = _staircase(front, x, y)
    budget_y = y.at(budget) if budget <= y.high else None
    obstacles = _obstacles(marks, corners)
    limit = _limit(budget_text, budget_y, x, y, obstacles)
    obstacles += [(x.start, at - 2, x.end, at + 2) for at in (budget_y, y.at(0.0)) if at is not None]
    return Scatter(
        width=width,
        height=height,
        x=x,
        y=y,
        marks=marks,
        labels=_labels(drawn, marks, limit, obstacles, (x.start, y.end, x.end, y.start)),
        front="M" + "L".join(f"{at} {up}" for at, up in corners) if corners else "",
        budget_y=budget_y,
        zero_y=y.at(0.0),
        beyond=sum(mark.beyond != 0 for mark in marks),
    )


def _order(point: Point) -> tuple[int, float, float]:
    """Return the drawing order: later points cover earlier ones."""
    return _ROLES.index(point.role), point.x, point.drop


def _limit(text: str, budget_y: float | None, x: Axis, y: Axis, obstacles: Sequence[Box]) -> Label:
    """Return the budget's label: above or below its line where it covers the least; at the top without a line."""
    # Free of the edges, and with room for the words of a budget far above.
    most = int((x.end - x.start - 24) / CHARACTER) - 13
    text = text if len(text) <= most else f"{text[: most - 1]}…"
    ends = ((x.end - 8, "end"), (x.start + 8, "start"), ((x.start + x.end) / 2, "middle"))
    if budget_y is None:
        return Label(x=x.end - 8, y=y.end + 14, anchor="end", text=f"↑ {text}, far above", role="limit")
    frame = (x.start, y.end, x.end, y.start)
    tried = [
        Label(x=round(at, 1), y=round(budget_y + down, 1), anchor=anchor, text=text, role="limit")
        for down in (-7, 16)
        for at, anchor in ends
    ]
    inside = [label for label in tried if _has_room(label, (), frame)]
    return min(inside, key=lambda label: _overlap(_box(label), obstacles))


def _horizontal(points: Sequence[Point], start: float, end: float, text: Callable[[float], str]) -> Axis:
    low, high = min(p.x for p in points), max(p.x for p in points)
    count = max(3, round((end - start) / 80))
    if high / low >= _LOG_FROM:
        spread = (high / low) ** 0.06
        return log_axis(low / spread, high * spread, start, end, count=count, text=text, character=CHARACTER)
    spread = 0.06 * (high - low) or 0.5 * high
    low, high = max(low - spread, 0.0), high + spread
    made = (
        linear_axis(low, high, start, end, count=finer, text=lambda value, _decimals: text(value))
        for finer in range(count, 2 * count)
    )
    return next(axis for axis in made if len(axis.ticks) >= 2)


def _vertical(
    points: Sequence[Point], front: Sequence[Point], budget: float, height: int, text: Callable[[float, int], str]
) -> Axis:
    drops = sorted([0.0, *(p.drop for p in points)], key=abs)
    # The points nearest to zero; a few far ones must not squeeze them together.
    inside = drops[: max(2, math.ceil(_INSIDE * len(drops)))]
    values = inside if 0 < _span(inside) < LEAST_COVERED * _span(drops) else drops
    known = [p for p in points if min(values) <= p.drop <= max(values) and _whiskered(p, p in front)]
    ends = [value for p in known for value in (p.low, p.high) if value is not None]
    # Nor must long whiskers.
    values = [
        *values,
        *(e for e in ends if _span(values) >= LEAST_COVERED * _span([*values, e]) or _span(values) == 0),
    ]
    if _span(values) >= LEAST_COVERED * _span([*values, budget]) or _span(values) == 0:
        values = [*values, budget]
    low, high = min(values), max(values)
    spread = 0.07 * (high - low) or 1.0
    start, end = height - _MARGIN_BOTTOM, _MARGIN_TOP
    return linear_axis(low - spread, high + spread, start, end, count=6, text=text)


def _span(values: Sequence[float]) -> float:
    return max(values) - min(values)


def _whiskered(point: Point, front: bool) -> bool:
    return front or point.role != "search"


def _mark(point: Point, front: bool, x: Axis, y: Axis) -> Mark:
    beyond = (point.drop > y.high) - (point.drop < y.low)
    whiskers = _whiskered(point, front) and not beyond
    return Mark(
        x=x.at(point.x),
        y=y.at(point.drop),
        low=y.at(point.low) if whiskers and point.low is not None else None,
        high=y.at(point.high) if whiskers and point.high is not None else None,
        role=point.role,
        front=front,
        beyond=beyond,
        title=point.title,
    )


def _staircase(front: Sequence[Point], x: Axis, y: Axis) -> list[tuple[float, float]]:
    """Return the corners of the front in pixels: the best drop of a file of at most a given size."""
    # Points beyond the axis have no corner: the staircase starts at the edge.
    inside = [point for point in front if point.drop <= y.high]
    corners: list[tuple[float, float]] = [(x.at(p.x), y.end) for p in inside[:1] if len(inside) < len(front)]
    for point in inside:
        if corners:
            corners.append((x.at(point.x), corners[-1][1]))
        corners.append((x.at(point.x), y.at(point.drop)))
    return [*corners, (x.end, corners[-1][1])] if corners else []


def _obstacles(marks: Sequence[Mark], corners: Sequence[tuple[float, float]]) -> list[Box]:
    """Return the boxes that a label should not cover: marks, whiskers, the front."""
    boxes: list[Box] = [(m.x - 6, m.y - 6, m.x + 6, m.y + 6) for m in marks if not m.beyond]
    # A triangle at the edge points outwards and is drawn on the inner side.
    boxes += [
        (m.x - 6, min(m.y, m.y + 16 * m.beyond), m.x + 6, max(m.y, m.y + 16 * m.beyond)) for m in marks if m.beyond
    ]
    boxes += [(m.x - 4, m.high, m.x + 4, m.low) for m in marks if m.low is not None and m.high is not None]
    boxes += [
        (min(a[0], b[0]) - 2, min(a[1], b[1]) - 2, max(a[0], b[0]) + 2, max(a[1], b[1]) + 2)
        for a, b in pairwise(corners)
    ]
    return boxes


def _labels(
    points: Sequence[Point], marks: Sequence[Mark], limit: Label, obstacles: Sequence[Box], frame: Box
) -> tuple[Label, ...]:
    """Place the labels, the most important first, each at the position that covers the least.

    A label for which every position covers another one or is partly outside of the frame is left out: the tooltip and
    the tables have its text.
    """
    labels = [limit]
    for point, mark in sorted(zip(points, marks, strict=True), key=lambda pair: _order(pair[0]), reverse=True):
        # A label that is nearer to another labelled mark would name that one.
        others = [other for other in marks if other is not mark and other.role != "search"]
        texts = [_box(label) for label in labels]
        tried = [label for label in (_label(point, mark, place) for place in _PLACES) if _has_room(label, texts, frame)]
        costs = [_overlap(_box(label), obstacles) + _misread(label, mark, others) for label in tried]
        if point.label and tried:
            labels.append(tried[costs.index(min(costs))])
    return tuple(labels)


def _has_room(label: Label, texts: Sequence[Box], frame: Box) -> bool:
    left, top, right, bottom = box = _box(label)
    inside = left >= frame[0] and top >= frame[1] and right <= frame[2] and bottom <= frame[3]
    return inside and _overlap(box, texts) == 0


def _label(point: Point, mark: Mark, place: tuple[float, float, str]) -> Label:
    right, down, anchor = place
    text = f"{point.label}: {point.far}" if mark.beyond else point.label
    return Label(x=round(mark.x + right, 1), y=round(mark.y + down, 1), anchor=anchor, text=text, role=point.role)


def _box(label: Label) -> Box:
    """Return the left, top, right and bottom of a label."""
    width = (BOLD if label.role == "chosen" else CHARACTER) * len(label.text)
    left = label.x - {"start": 0.0, "middle": width / 2, "end": width}[label.anchor]
    return left - _GAP, label.y - _LINE + 3, left + width + _GAP, label.y + 3


def _misread(label: Label, mark: Mark, others: Sequence[Mark]) -> float:
    """Return the label's area in square pixels as a penalty if it starts nearer to another mark, else 0."""
    left, top, right, bottom = _box(label)
    own, *rest = (math.hypot(label.x - m.x, (top + bottom) / 2 - m.y) for m in (mark, *others))
    return (right - left) * (bottom - top) if min(rest, default=math.inf) < own else 0.0


def _overlap(box: Box, taken: Sequence[Box]) -> float:
    """Return how many square pixels of a box lie on others."""
    return sum(_common(box, other) for other in taken)


def _common(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0
