"""The histogram of the output differences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lstm_edge.axes import Axis, linear_axis, log_axis

__all__ = ["Bar", "Histogram", "draw_histogram"]

_MARGIN_LEFT, _MARGIN_RIGHT, _MARGIN_TOP, _MARGIN_BOTTOM = 50.0, 14.0, 12.0, 30.0
# Start of a bar on the logarithmic axis, below 1, so that a count of one is visible.
_FLOOR = 0.6


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A bar in pixels, and its tooltip."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """A drawing of ``width`` x ``height``; the axis of the counts is logarithmic, to show single outliers."""

    width: int
    height: int
    x: Axis
    y: Axis
    bars: tuple[Bar, ...]


def draw_histogram(edges: Sequence[float], counts: Sequence[int], *, width: int, height: int) -> Histogram:
    """Lay the histogram out.

    Args:
        edges: N + 1 ascending numbers, the bins' borders.
        counts: N numbers of outputs, not all of them 0.
        width: pixels.
        height: pixels.
    """
    start, end = _MARGIN_LEFT, width - _MARGIN_RIGHT
    x = linear_axis(edges[0], edges[-1], start, end, count=max(4, round((end - start) / 90)), text=_plain)
    y = log_axis(_FLOOR, 1.5 * max(counts), height - _MARGIN_BOTTOM, _MARGIN_TOP, count=6, text=_count)
    bars = tuple(
        Bar(
            x=x.at(low),
            y=y.at(count),
            width=round(x.at(high) - x.at(low), 1),
            height=round(y.start - y.at(count), 1),
            title=f"{low:.3g} to {high:.3g}: {count:,}",
        )
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
        if count
    )
    return Histogram(width=width, height=height, x=x, y=y, bars=bars)


def _plain(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    return "0" if math.isclose(float(text), 0.0) else text.replace("-", "\N{MINUS SIGN}")


def _count(value: float) -> str:
    """Return a count for the axis, abbreviated because nine digits do not fit."""
    for unit, power in (("G", 9), ("M", 6), ("k", 3)):
        if value >= 10**power:
            return f"{value / 10**power:g}{unit}"
    return f"{value:g}"
