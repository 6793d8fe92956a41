"""The plot of a selection: the metric of each candidate against the size of its int8 file."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstm_edge.training.figures import direction, place_labels, render, set_scale, shortened, value_text
from lstm_edge.training.plot import check_plot
from lstm_edge.training.selection.report import Candidate, SelectionReport
from lstm_edge_runtime.writing import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_selection", "plot_selection"]

# Above this ratio of the largest to the smallest file the axis of sizes is logarithmic.
_LOG_SIZES_FROM = 3.0
# A limit is drawn as a line if the candidates then still cover this share of the axis.
_LEAST_COVERED = 0.6
_ALL_THERE = "the printed table has all figures"
_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def plot_selection(report: SelectionReport, path: str | Path) -> None:
    """Plot the metric against the size of the int8 file, with standard errors; equal reports give an equal ``.svg``.

    Raises:
        OutputError: the name does not end in .svg, .png or .pdf, or the file cannot be written.
    """
    check_plot(path)
    write_atomically(path, render(draw_selection(report), Path(path).suffix.lstrip(".")))


def draw_selection(report: SelectionReport) -> "Figure":
    """Return the figure of a selection: a line for each number of layers and density, the chosen candidate, limits."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 5.0), layout="constrained")
    axes = figure.subplots()
    metric = f"{report.metric[:1].upper()}{report.metric[1:]}"
    colors = _colors(report)
    for kind, color in colors.items():
        _draw_line(axes, report, kind, color=color)
    chosen = next(c for c in report.candidates if c.architecture == report.chosen)
    ring: dict[str, Any] = {"markersize": 14, "fillstyle": "none", "color": "black", "linestyle": "none"}
    axes.plot(chosen.int8_bytes, chosen.mean, "o", label="chosen", **ring)
    if not all(candidate.within_limits for candidate in report.candidates):
        axes.plot([], [], "o", color="0.4", markerfacecolor="white", label="over a limit")
    _draw_limit(axes, report)
    bars = [value for c in report.candidates for value in (c.mean - c.standard_error, c.mean + c.standard_error)]
    text = value_text(report.metric)
    share = text(1.0, 2) == "100%"
    set_scale(axes, "y", bars, text=text, top=1.0 if share else float("inf"))
    better = direction(report.metric)
    axes.set_ylabel(shortened(f"{metric} ({better})" if better else metric, 45))
    axes.set_title(
        f"{shortened(metric, 30)} and size of models of several hidden sizes\n{shortened(report.data, 70)}", fontsize=11
    )
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    note = f"marks: mean of {report.folds} folds; bars: one standard error; numbers: hidden size"
    label = axes.set_xlabel(f"size of the int8 file\n{note}\n{_ALL_THERE}")
    left_out = place_labels(axes, _labels(report, chosen, colors), lines=_drawn(report), ringed=1)
    if left_out:
        missing = f"{left_out} of {len(report.candidates)} numbers have no room here; the printed table has them"
        label.set_text(label.get_text().replace(_ALL_THERE, missing))
    return figure


def _kind(candidate: Candidate) -> tuple[int, float]:
    return candidate.architecture.layers, candidate.architecture.density


def _colors(report: SelectionReport) -> dict[tuple[int, float], str]:
    """Return the colour of each number of layers and density, few layers and dense ones first."""
    kinds = sorted({_kind(candidate) for candidate in report.candidates}, key=lambda kind: (kind[0], -kind[1]))
    return {kind: f"C{number % 10}" for number, kind in enumerate(kinds)}


def _draw_line(axes: "Axes", report: SelectionReport, kind: tuple[int, float], *, color: str) -> None:
    """Draw the candidates of a number of layers and a density; those over a limit are hollow."""
    layers, density = kind
    line = sorted(
        (c for c in report.candidates if _kind(c) == kind),
        key=lambda candidate: candidate.int8_bytes,
    )
    words = f"{layers} layer{'s' * (layers > 1)}{f', density {density:g}' if density != 1.0 else ''}"
    sizes, means = [c.int8_bytes for c in line], [c.mean for c in line]
    axes.errorbar(sizes, means, [c.standard_error for c in line], marker="o", capsize=3, color=color, label=words)
    over = [c for c in line if not c.within_limits]
    hollow: dict[str, Any] = {"linestyle": "none", "color": color, "markerfacecolor": "white", "zorder": 3}
    axes.plot([c.int8_bytes for c in over], [c.mean for c in over], marker="o", **hollow)


def _draw_limit(axes: "Axes", report: SelectionReport) -> None:
    """Fit the axis of sizes, and draw the limit in bytes; one that would push the candidates aside is only named."""
    sizes = [float(candidate.int8_bytes) for candidate in report.candidates]
    limit = report.limits.max_bytes
    scale: dict[str, Any] = {"text": lambda value, _decimals: _size(value), "log_from": _LOG_SIZES_FROM, "count": 7}
    low, high = min(sizes), max(sizes)
    if limit is None:
        set_scale(axes, "x", sizes, **scale)
        return
    whole = math.log(max(high, limit) / min(low, limit))
    if whole == 0 or math.log(high / low) / whole >= _LEAST_COVERED:
        set_scale(axes, "x", [*sizes, limit], **scale)
        axes.axvline(limit, color="0.5", linestyle="--", label=f"limit {_size(limit)}")
    else:
        set_scale(axes, "x", sizes, **scale)
        side = "right" if limit > high else "left"
        axes.plot([], [], color="0.5", linestyle="--", label=f"limit {_size(limit)}, further {side}")


def _labels(
    report: SelectionReport, chosen: Candidate, colors: Mapping[tuple[int, float], str]
) -> list[tuple[float, float, str, str]]:
    """Return a label for each candidate: first the chosen one, the best, and those at the ends."""
    ends = (report.candidates[0], report.candidates[-1])
    best = next(c for c in report.candidates if c.architecture == report.best)
    first: list[Candidate] = []
    for candidate in (chosen, best, *ends, *report.candidates):
        if candidate not in first:
            first.append(candidate)
    return [(c.int8_bytes, c.mean, str(c.architecture.hidden), colors[_kind(c)]) for c in first]


def _drawn(report: SelectionReport) -> list[list[tuple[float, float]]]:
    """Return the lines between candidates and their error bars, as x and y."""
    kinds: dict[tuple[int, float], list[tuple[float, float]]] = {}
    for c in sorted(report.candidates, key=lambda candidate: candidate.int8_bytes):
        kinds.setdefault(_kind(c), []).append((c.int8_bytes, c.mean))
    bars = [[(float(c.int8_bytes), c.mean + sign * c.standard_error) for sign in (-1, 1)] for c in report.candidates]
    return [*kinds.values(), *bars]


def _size(count: float) -> str:
    """Return a number of bytes for an axis, in decimal units."""
    for power, unit in _UNITS:
        if count >= power:
            return f"{count / power:.6g} {unit}"
    return f"{count:.6g} bytes"
