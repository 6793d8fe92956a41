"""Shows the progress and prints the report of a training; only the first process prints."""

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import typer

from lstm_edge.cli._bar import progress_bar
from lstm_edge.cli._frame import print_table, progress
from lstm_edge.cli._outputs import take_default, trained_name
from lstm_edge.refusals import refuse_train
from lstm_edge_runtime.errors import LstmEdgeError

if TYPE_CHECKING:
    from lstm_edge.training import Epoch, TrainingReport

__all__ = ["run_task"]


def run_task(task: Any, values: dict[str, Any]) -> None:
    """Train with a progress bar from the first update on, and print the report.

    An error on another process than the first ends it silently: the first process prints the error.
    """
    first = int(os.environ.get("WORLD_SIZE", "1")) == 1 or os.environ.get("RANK", "0") == "0"
    default = trained_name(task)
    try:
        output, values["output"] = values["output"], values["output"] or default
        refuse_train(task, values)
        if first:
            take_default(output, default)
        from lstm_edge.commands.train import train

        as_json, epochs = values.pop("as_json"), values["epochs"]
        if not first:
            train(task, **values)
            return
    except LstmEdgeError as error:
        if first:
            raise
        raise typer.Exit(error.exit_code) from error
    with ExitStack() as stack:
        bar: list[Any] = []
        note = ["first epoch"]

        def move(done: float) -> None:
            if not bar:
                bar.append(stack.enter_context(progress_bar("training", epochs)))
            bar[0](done, note[0])

        def on_epoch(epoch: "Epoch") -> None:
            note[0] = f"held-out loss {epoch.held_out_loss:.3f}"
            if epoch.density is not None:
                note[0] += f", density {epoch.density:.3f}"
            move(epoch.number)
            if as_json:
                from lstm_edge.training.record import epoch_line

                typer.echo(epoch_line(epoch))

        report = train(
            task,
            **values,
            on_epoch=on_epoch,
            on_progress=lambda done, most: move(done * epochs / most),
            progress=progress,
        )
    _print(report, values["output"], as_json=as_json)


def _print(report: "TrainingReport", output: Any, *, as_json: bool) -> None:
    from lstm_edge.training.record import report_line

    if as_json:
        typer.echo(report_line(report))
    else:
        rows = [*report.rows(), ("file", f"{output} ({output.stat().st_size:,} bytes)")]
        print_table(("training", ""), rows)
