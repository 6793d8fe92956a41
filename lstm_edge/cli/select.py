"""`lstm-edge select`: choose the hidden size and the number of layers for a device by cross-validation."""

from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lstm_edge.cli._arguments import add_command
from lstm_edge.cli._bar import progress_bar
from lstm_edge.cli._frame import print_json, print_table, progress
from lstm_edge.cli._options import AsJson, ColumnSpec, MissingName, MissingRule, StepEvery, TaskChoice, arguments
from lstm_edge.cli._outputs import take_default, trained_name
from lstm_edge.cli._renamed import with_old_names
from lstm_edge.cli.train.options import (
    BatchSize,
    Bidirectional,
    DataSpec,
    Dropout,
    Epochs,
    LearningRate,
    MaxBytes,
    Output,
    Patience,
    Peephole,
    PeepholeKind,
    Threads,
)
from lstm_edge.refusals import refuse_select

if TYPE_CHECKING:
    from lstm_edge.training.selection import SelectionReport

__all__ = ["add_to"]

CHOICE, DEVICE = "The choice", "The device"

EPILOG = """
Examples:

`lstm-edge select --data japanese-vowels --hidden-sizes 16,32,64 -o model.safetensors`

`lstm-edge select --data mine.csv --hidden-sizes 8,16 --layer-counts 1,2 --max-bytes 100k -o m.safetensors`

To use several machines, run the same command on each with `--storage postgresql://user@host/database`.
"""


class SplitName(StrEnum):
    """What `--split` takes."""

    STRATIFIED = "stratified"
    GROUPED = "grouped"
    TIME = "time"
    PLAIN = "plain"


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    add_command(app, "select", with_old_names(select, "select"), epilog=EPILOG)


def select(
    *,
    data: DataSpec,
    output: Output = None,
    hidden_sizes: Annotated[
        str, typer.Option(help="Hidden sizes to compare.", rich_help_panel=CHOICE)
    ] = "16,32,64,128",
    layer_counts: Annotated[str, typer.Option(help="Numbers of layers to compare.", rich_help_panel=CHOICE)] = "1",
    densities: Annotated[
        str,
        typer.Option(help="Densities of the recurrent layers to compare, such as 1,0.33.", rich_help_panel=CHOICE),
    ] = "1",
    folds: Annotated[int, typer.Option(help="Folds of the cross-validation.", rich_help_panel=CHOICE, min=2)] = 5,
    split: Annotated[
        SplitName | None,
        typer.Option(
            help="Way to split the data into folds. By default it follows from the data.", rich_help_panel=CHOICE
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="Metric of the task. By default that of `validate`.", rich_help_panel=CHOICE),
    ] = None,
    max_bytes: MaxBytes = None,
    max_step_us: Annotated[
        str | None,
        typer.Option(help="Largest time of a step on this machine, in microseconds.", rich_help_panel=DEVICE),
    ] = None,
    task: TaskChoice = None,
    columns: ColumnSpec = None,
    step_every: StepEvery = None,
    missing: MissingRule = MissingName.REFUSE,
    storage: Annotated[
        str | None,
        typer.Option(help="Database of the trials, `postgresql://...`. By default an SQLite file beside the output."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the folds and of every training.", min=0)] = 0,
    peephole: PeepholeKind = Peephole.NONE,
    bidirectional: Bidirectional = False,
    dropout: Dropout = 0.0,
    epochs: Epochs = 80,
    batch_size: BatchSize = 16,
    learning_rate: LearningRate = 3e-3,
    patience: Patience = 30,
    threads: Threads = 1,
    plot: Annotated[Path | None, typer.Option(help="Plot the metric against the size: .svg, .png or .pdf.")] = None,
    as_json: AsJson = False,
) -> None:
    """Choose the hidden size for a device: the smallest model within one standard error of the best.

    Each candidate is exported to int8, timed on this machine and cross-validated. The chosen one is trained again on
    all of the data. Candidates over a limit are excluded. The same command continues an interrupted run.
    """
    values = arguments({name: value for name, value in locals().items() if name != "as_json"})
    default = trained_name("selected")
    target = values.setdefault("output", default)
    refuse_select(values)
    take_default(output, default)
    from lstm_edge.commands.select import select as run

    with ExitStack() as stack:
        bar: list[Any] = []

        def on_progress(done: int, total: int) -> None:
            if not bar:
                bar.append(stack.enter_context(progress_bar("cross-validating", total)))
            bar[0](done, "earlier trials count too")

        report = run(**values, on_progress=on_progress, progress=progress)
    if as_json:
        print_json(report.to_json())
    else:
        _print(report.selection, str(target), target.stat().st_size)


def _print(report: "SelectionReport", output: str, size: int) -> None:
    print_table(report.columns(), report.rows())
    typer.echo(report.sentence())
    if any(not candidate.streamed for candidate in report.candidates):
        typer.echo("* a whole sequence divided by its steps: the model cannot be streamed")
    typer.echo(f"written: {output} ({size:,} bytes)")
