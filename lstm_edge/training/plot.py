"""Plot of a training: losses, held-out metric and gradient norm against the epoch."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lstm_edge.refusals import check_plot_name
from lstm_edge.training.figures import direction, epoch_ticks, render, set_scale, value_text, wrapped
from lstm_edge.training.record import TrainingReport
from lstm_edge_runtime.writing import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["check_plot", "draw_curves", "plot_curves"]

# Up to this number of epochs each has a mark.
_MARKED = 30
# Norms differ by decades more often than losses.
_LOG_NORMS_FROM = 10.0


def check_plot(path: str | Path) -> None:
    """Refuse a path that a plot cannot be written to, before any work is done.

    Raises:
        OutputError: the file name has an unknown suffix, or the path is not writable.
        ModuleNotFoundError: matplotlib is not installed.
    """
    check_plot_name(path)
    import matplotlib as mpl  # noqa: F401  before hours of training, not after


def plot_curves(report: TrainingReport, path: str | Path) -> None:
    """Plot the curves of a training; reports that are equal except for their times give equal bytes of an ``.svg``.

    Raises:
        OutputError: the name does not end in .svg, .png or .pdf, or the file cannot be written.
    """
    check_plot(path)
    write_atomically(path, render(draw_curves(report), Path(path).suffix.lstrip(".")))


def draw_curves(report: TrainingReport) -> "Figure":
    """Return the figure of a training: losses, held-out metric, gradient norms, and the epoch that was kept."""
    from matplotlib.figure import Figure

    history = report.history
    figure = Figure(figsize=(10.0, 3.8), layout="constrained")
    losses, metric, norms = figure.subplots(1, 3)
    _draw(losses, report, [epoch.train_loss for epoch in history], color="C0", label="training data")
    _draw(losses, report, [epoch.held_out_loss for epoch in history], color="C1", label="held-out data")
    values = [loss for epoch in history for loss in (epoch.train_loss, epoch.held_out_loss)]
    set_scale(losses, "y", values, text=value_text(""))
    losses.set_title("Loss\n(less is better)", fontsize=11)

    measured = [epoch.held_out_metric for epoch in history]
    _draw(metric, report, measured, color="C1")
    set_scale(metric, "y", measured, text=value_text(report.metric))
    better = direction(report.metric)
    name = wrapped(f"{report.metric[:1].upper()}{report.metric[1:]} on held-out data", 30)
    metric.set_title(f"{name}\n({better})" if better else name, fontsize=11)

    _draw(norms, report, [epoch.grad_norm_max for epoch in history], color="C2", label="largest gradient norm")
    _draw(norms, report, [epoch.grad_norm_mean for epoch in history], color="C3", label="mean gradient norm")
    values = [norm for epoch in history for norm in (epoch.grad_norm_max, epoch.grad_norm_mean)]
    set_scale(norms, "y", values, text=value_text(""), log_from=_LOG_NORMS_FROM)
    norms.set_title("Gradient norm of the updates\n(before clipping)", fontsize=11)
    for axes in (losses, metric, norms):
        kept = f"epoch {report.best.number}, whose weights were kept" if axes is losses else None
        axes.axvline(report.best.number, color="0.6", linestyle="dotted", zorder=0, label=kept)
    figure.legend(loc="outside lower center", ncols=5, fontsize=9, columnspacing=1.2)
    return figure


def _draw(
    axes: "Axes", report: TrainingReport, values: Sequence[float], *, color: str, label: str | None = None
) -> None:
    """Draw one curve over the epochs; a training of one epoch is a mark."""
    numbers = [epoch.number for epoch in report.history]
    marker = "o" if len(numbers) <= _MARKED else ""
    axes.plot(numbers, values, color=color, marker=marker, markersize=4, label=label)
    free = max(0.04 * (numbers[-1] - numbers[0]), 0.5)
    axes.set_xlim(numbers[0] - free, numbers[-1] + free)
    axes.set_xticks([number for number in epoch_ticks(numbers[-1]) if number >= numbers[0]])
    axes.set_xlabel("epoch")
