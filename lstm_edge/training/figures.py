"""What the plots of ``train`` and ``select`` share: scales, ticks, labels that do not overlap, bytes without a date."""

import io
import itertools
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lstm_edge.axes import linear_axis, log_axis
from lstm_edge_runtime.errors import LstmEdgeError
from lstm_edge_runtime.metrics import get_metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["direction", "epoch_ticks", "place_labels", "render", "set_scale", "shortened", "value_text", "wrapped"]

Box = tuple[float, float, float, float]
# Float64 [N, 2], in pixels.
Points = npt.NDArray[np.float64]
# Positions of a label beside its point: offset in radii of the point, alignment; the best first.
_PLACES = (
    (1.0, 0.0, "left", "center"),
    (-1.0, 0.0, "right", "center"),
    (0.7, 0.7, "left", "bottom"),
    (-0.7, 0.7, "right", "bottom"),
    (0.7, -0.7, "left", "top"),
    (-0.7, -0.7, "right", "top"),
    (0.7, 2.5, "left", "bottom"),
    (-0.7, 2.5, "right", "bottom"),
)
# Radius of a point, and of a point with a ring, in pixels.
_POINT, _RINGED = 5.0, 11.0
# Up to this number of decimals all ticks of an axis have the same number; further ones are written as 1.5e-7.
_FIXED = 5
# Distance in pixels of the samples of a line, which a label avoids if it can.
_SAMPLED = 4.0
# Above this ratio of the largest to the smallest value an axis is logarithmic.
LOG_FROM = 100.0


def set_scale(
    axes: "Axes",
    name: str,
    values: Sequence[float],
    *,
    text: Callable[[float, int], str],
    log_from: float = LOG_FROM,
    count: int = 6,
    pad: float = 0.08,
    top: float = float("inf"),
) -> None:
    """Fit one axis to values, with at most ``count`` round ticks.

    Args:
        axes: the drawing.
        name: ``x`` or ``y``.
        values: the values that must be visible, at least one.
        text: formats a tick with a number of decimals.
        log_from: ratio of the largest to the smallest value from which the axis is logarithmic, if all are positive.
        count: the largest number of ticks.
        pad: free space at both ends as a share of the span.
        top: ticks above it are left out.
    """
    low, high = min(values), max(values)
    log = low > 0 and high / low >= log_from
    if log:
        spread = (high / low) ** pad
        low, high = low / spread, high * spread
        made = log_axis(low, high, 0.0, 1.0, count=count, text=lambda value: text(value, 12))
    else:
        spread = pad * (high - low) or 0.1 * abs(high) or 1.0
        # Spans below the resolution of float64 at this magnitude have no ticks.
        spread = max(spread, 1e-9 * abs(high))
        low, high = low - spread, high + spread
        made = linear_axis(low, high, 0.0, 1.0, count=count, text=text)
    if log:
        getattr(axes, f"set_{name}scale")("log")
    getattr(axes, f"set_{name}lim")(low, high)
    ticks = [tick for tick in made.ticks if tick.value <= top * (1 + 1e-9)]
    axis = getattr(axes, f"{name}axis")
    axis.set_ticks([tick.value for tick in ticks], labels=[tick.text for tick in ticks])
    axis.set_ticks([], minor=True)


def epoch_ticks(last: int, count: int = 6) -> list[int]:
    """Return at most ``count`` round epoch numbers from 1 to ``last``."""
    step = next(digit * 10**power for power in range(20) for digit in (1, 2, 5) if last // (digit * 10**power) <= count)
    return list(range(step, last + 1, step))


def value_text(metric: str) -> Callable[[float, int], str]:
    """Return the formatter of an axis: percent for a share, otherwise a number without an offset."""
    share = _unit(metric) == "share"

    def text(value: float, decimals: int) -> str:
        number = round(value, decimals)
        if share:
            return f"{100 * number:.{max(0, decimals - 2)}f}%" if decimals <= _FIXED else f"{100 * number:.10g}%"
        if decimals <= _FIXED and abs(number) < 1e5:
            return f"{number:.{decimals}f}"
        exact = f"{number:.10g}" if 1e-4 <= abs(number) < 1e5 or number == 0 else f"{number:.6g}"
        return re.sub(r"e([+-])0*", lambda found: f"e{found[1].strip('+')}", exact)

    return text


def direction(metric: str) -> str:
    """Return which values of a metric are better, in words, or nothing for a name that is no metric's."""
    try:
        return "more is better" if get_metric(metric).more_is_better else "less is better"
    except LstmEdgeError:
        return ""


def shortened(text: str, most: int) -> str:
    """Return a text of at most ``most`` characters, its middle replaced by an ellipsis."""
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[head + 1 - most :]}"


def wrapped(text: str, width: int) -> str:
    """Return a text broken into lines of at most ``width`` characters."""
    return textwrap.fill(text, width)


def place_labels(
    axes: "Axes",
    points: Sequence[tuple[float, float, str, str]],
    *,
    lines: Sequence[Sequence[tuple[float, float]]] = (),
    ringed: int = 0,
) -> int:
    """Write each point's text beside it, the first points first, and return how many found no room.

    A label touches no other label, no point and no edge of the axes. The layout and the scales are final.

    Args:
        axes: the drawing.
        points: x, y, text, and the colour of the text.
        lines: lines of (x, y), which labels avoid where there is a place.
        ringed: number of points, the first ones, that have a ring around them.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure: Any = axes.figure
    canvas: Any = FigureCanvasAgg(figure)
    renderer = canvas.get_renderer()
    figure.draw_without_rendering()
    frame = _box(axes.get_window_extent(renderer))
    sampled = np.concatenate([_samples(axes.transData.transform(line)) for line in lines] or [np.zeros((0, 2))])
    radii = [_RINGED if number < ringed else _POINT for number in range(len(points))]
    centres = [axes.transData.transform((x, y)) for x, y, _, _ in points]
    taken = [(x - r, y - r, x + r, y + r) for (x, y), r in zip(centres, radii, strict=True)]
    left_out = 0
    for number, ((x, y, text, color), radius) in enumerate(zip(points, radii, strict=True)):
        others = taken[:number] + taken[number + 1 :]
        found: list[tuple[int, int, Any, Box]] = []
        for place, (right, up, horizontal, vertical) in enumerate(_PLACES):
            offset = (right * (radius + 2) * 72 / figure.dpi, up * (radius + 1) * 72 / figure.dpi)
            settings: dict[str, Any] = {"ha": horizontal, "va": vertical, "fontsize": 9, "color": color}
            label = axes.annotate(text, (x, y), xytext=offset, textcoords="offset points", **settings)
            label.set_in_layout(False)
            box = _box(label.get_window_extent(renderer))
            if _inside(box, frame) and not any(_touch(box, other) for other in others):
                found.append((_crossed(box, sampled), place, label, box))
            else:
                label.remove()
        found.sort(key=lambda candidate: candidate[:2])
        for _, _, label, _ in found[1:]:
            label.remove()
        taken += [box for _, _, _, box in found[:1]]
        left_out += not found
    return left_out


def render(figure: "Figure", kind: str) -> bytes:
    """Return a figure as the bytes of a file of this kind; equal figures give equal bytes of an ``svg``."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    # Without a fixed salt and with a date the ids and the metadata of an .svg would differ every time.
    with mpl.rc_context({"svg.hashsalt": "lstm-edge", "svg.fonttype": "none"}):
        figure.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()


def _unit(metric: str) -> str:
    try:
        return get_metric(metric).unit
    except LstmEdgeError:
        return ""


def _box(extent: Any) -> Box:
    return extent.x0, extent.y0, extent.x1, extent.y1


def _touch(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _inside(box: Box, frame: Box) -> bool:
    return box[0] > frame[0] and box[1] > frame[1] and box[2] < frame[2] and box[3] < frame[3]


def _samples(line: Points) -> Points:
    """Return points at most ``_SAMPLED`` pixels apart on a line in pixels."""
    pieces = [
        np.linspace(start, end, 2 + int(np.hypot(*(end - start)) / _SAMPLED)) for start, end in itertools.pairwise(line)
    ]
    return np.concatenate(pieces) if pieces else np.asarray(line)


def _crossed(box: Box, sampled: Points) -> int:
    """Return how many points of lines are in a box."""
    x, y = sampled.T
    return int(np.count_nonzero((x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3])))
