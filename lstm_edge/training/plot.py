"""Plot of a training: losses, held-out metric and gradient norm against the epoch."""

import io
from pathlib import Path

from lstm_edge.refusals import check_plot_name
from lstm_edge.training.record import TrainingReport
from lstm_edge_runtime.writing import write_atomically

__all__ = ["check_plot", "plot_curves"]


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
    import matplotlib as mpl
    from matplotlib.figure import Figure

    numbers = [epoch.number for epoch in report.history]
    figure = Figure(figsize=(9.0, 2.8), layout="constrained")
    losses, metric, norms = figure.subplots(1, 3)
    losses.plot(numbers, [epoch.train_loss for epoch in report.history], label="training")
    losses.plot(numbers, [epoch.held_out_loss for epoch in report.history], label="held out")
    losses.set_title("loss")
    losses.legend()
    metric.plot(numbers, [epoch.held_out_metric for epoch in report.history])
    metric.set_title(f"held-out {report.metric}")
    norms.plot(numbers, [epoch.grad_norm_max for epoch in report.history], label="largest")
    norms.plot(numbers, [epoch.grad_norm_mean for epoch in report.history], label="mean")
    norms.set_yscale("log")
    norms.set_title("gradient norm before clipping")
    norms.legend()
    for axes in (losses, metric, norms):
        axes.axvline(report.best.number, color="0.7", linewidth=0.8, zorder=0)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
    buffer = io.BytesIO()
    kind = Path(path).suffix.lstrip(".")
    # Without a fixed salt and with a date the ids and the metadata of an .svg would differ every time.
    with mpl.rc_context({"svg.hashsalt": "lstm-edge", "svg.fonttype": "none"}):
        figure.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else None)
    write_atomically(path, buffer.getvalue())
