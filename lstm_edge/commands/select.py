"""``lstm-edge select``: choose a model's size for a device by cross-validation, and train it on all data."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lstm_edge.amounts import parse_amount, parse_shares, parse_sizes
from lstm_edge.checkpoint import save_checkpoint
from lstm_edge.data import Columns, Missing, Task, load, table_options
from lstm_edge.refusals import check_trained
from lstm_edge.training import TrainingOptions, TrainingReport
from lstm_edge.training.plot import check_plot
from lstm_edge.training.selection import (
    Limits,
    SelectionReport,
    SelectionSettings,
    Split,
    plot_selection,
    retrain,
    sqlite_url,
)
from lstm_edge.training.selection import select as run_selection
from lstm_edge_runtime.writing import beside

__all__ = ["SelectReport", "select"]

AnyPath = str | os.PathLike[str]


@dataclass(frozen=True, kw_only=True)
class SelectReport:
    """The comparison of all candidates, the training of the chosen one, and the path of its file."""

    selection: SelectionReport
    training: TrainingReport
    path: str

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return self.selection.to_json() | {"training": self.training.to_json(), "file": self.path}


def select(
    *,
    data: str,
    output: AnyPath,
    hidden_sizes: str | Sequence[int] = "16,32,64,128",
    layer_counts: str | Sequence[int] = "1",
    densities: str | Sequence[float] = "1",
    folds: int = 5,
    split: Split | None = None,
    metric: str | None = None,
    max_bytes: str | float | None = None,
    max_step_us: str | float | None = None,
    task: Task | None = None,
    columns: Columns | str | None = None,
    step_every: str | float | None = None,
    missing: Missing = "refuse",
    storage: str | None = None,
    seed: int = 0,
    peephole: Literal["none", "diagonal", "full"] = "none",
    bidirectional: bool = False,
    dropout: float = 0.0,
    epochs: int = 80,
    batch_size: int = 16,
    learning_rate: float = 3e-3,
    patience: int = 30,
    threads: int = 1,
    plot: AnyPath | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    progress: Callable[[str], None] | None = None,
) -> SelectReport:
    """Choose the smallest model within one standard error of the best, and train it; implements ``lstm-edge select``.

    Each candidate is exported to int8 and timed on this machine, then cross-validated. A call with the same arguments
    continues an interrupted run.

    Args:
        data: a bundled set or a file of sequences: ``x`` float32 ``[steps, features]`` (docs/data.md).
        output: the ``.safetensors`` file to write.
        hidden_sizes: sizes of the hidden state to compare, ``(16, 32)`` or ``"16,32"``.
        layer_counts: numbers of layers to compare, likewise.
        densities: densities of the recurrent layers to compare, likewise; below 1 the training prunes them
            (docs/sparse.md), and the int8 file leaves zero blocks out where ``lstm_edge.quantize`` does by default.
        folds: number of folds of the cross-validation, 2 or more.
        split: way to split the sequences into folds; None: follows from the data.
        metric: a name from ``lstm_edge_runtime.metrics``; None: accuracy for classes, mean-squared-error for values.
        max_bytes: largest size of the int8 file in bytes, a number or ``"100k"``.
        max_step_us: largest time of a step on this machine, in microseconds.
        task: task of the targets; None: follows from the file.
        columns: roles of the columns of a table, as ``sequence=id,step=t,target=y,features=a+b``.
        step_every: expected spacing of the steps of a table: ``"1s"``, ``"100ms"``, ``0.5``, or ``"any"``; None: 1 for
            integers, any even spacing otherwise.
        missing: what becomes of missing cells and steps of a table: ``"refuse"``, ``"ffill"`` or ``"drop"``.
        storage: URL of the database of the trials; None: an SQLite file beside ``output``.
        seed: random seed of the folds and of every training.
        peephole: connections from the cell state to the gates.
        bidirectional: process each sequence in both directions.
        dropout: dropout probability between layers and before the last one.
        epochs: largest number of epochs of a training.
        batch_size: sequences in a batch.
        learning_rate: initial learning rate.
        patience: epochs without a lower held-out loss before a training stops.
        threads: PyTorch's threads.
        plot: a ``.svg``, ``.png`` or ``.pdf`` file for the plot of the metric against the size.
        on_progress: called with (trials done, trials), those of earlier runs and other processes included.
        progress: called with one line for each step of the work.

    Raises:
        BudgetError: no candidate is within the limits.
        DataError: the data cannot be loaded, or cannot be split this way.
        InputError: an option is out of its range, the metric is not for the data, or the storage cannot be opened.
        OutputError: a file cannot be written.
        LstmEdgeError: the errors of training, export and quantization.
    """
    output = Path(output)
    check_trained(output)
    if plot is not None:
        check_plot(Path(plot))
    limits = Limits(
        max_bytes=parse_amount("--max-bytes", max_bytes) if isinstance(max_bytes, str) else max_bytes,
        max_step_us=parse_amount("--max-step-us", max_step_us) if isinstance(max_step_us, str) else max_step_us,
    )
    sizes, counts = _sizes("--hidden-sizes", hidden_sizes), _sizes("--layer-counts", layer_counts)
    table = table_options(columns, step_every, missing)
    dataset = load(data, default_split="train", task=task, table=table, say=progress)
    settings = SelectionSettings(
        hidden=sizes,
        layers=counts,
        densities=parse_shares("--densities", densities) if isinstance(densities, str) else tuple(densities),
        folds=folds,
        split=split,
        metric=metric,
        seed=seed,
        model={"peephole": peephole, "bidirectional": bidirectional, "dropout": dropout},
        options=TrainingOptions(
            loss="cross-entropy" if dataset.is_classes else "mse",
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            patience=patience,
            threads=threads,
        ),
    )
    # The name tells a later reader what the database is for.
    where = storage or sqlite_url(beside(output.with_name(output.stem), ".selection-study.sqlite3"))
    report = run_selection(dataset, settings, storage=where, limits=limits, say=progress, on_progress=on_progress)
    if progress is not None:
        progress(f"training {report.chosen} on all {len(dataset)} sequences")
    model, training = retrain(dataset, report.chosen, settings)
    save_checkpoint(model, output)
    if plot is not None:
        plot_selection(report, str(plot))
    return SelectReport(selection=report, training=training, path=str(output))


def _sizes(name: str, given: str | Sequence[int]) -> tuple[int, ...]:
    return parse_sizes(name, given) if isinstance(given, str) else tuple(given)
