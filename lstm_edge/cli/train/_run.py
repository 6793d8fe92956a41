"""What every task does around its training: joins processes, checks paths, shows progress, writes, prints."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lstm_edge.cli._bar import progress_bar
from lstm_edge.cli._frame import print_table, progress
from lstm_edge_runtime.errors import LstmEdgeError

if TYPE_CHECKING:
    from lstm_edge.checkpoint import M, Model
    from lstm_edge.data import Dataset
    from lstm_edge.training import Epoch, TrainingReport

__all__ = ["Run", "check_output", "load_parts", "open_run"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of the command: where its results go, and whether this process is the one that prints."""

    output: Path
    checkpoint: Path
    resume: bool
    plot: Path | None
    as_json: bool
    main: bool

    def say(self, message: str) -> None:
        """Print a line of progress on standard error."""
        if self.main:
            progress(message)

    def load_start(self, expected: "type[M]", path: Path | None) -> "M | None":
        """Load the model that ``--from`` names; None where it was not given.

        Raises:
            ArtifactError: it is damaged, or a checkpoint of another task.
        """
        from lstm_edge.checkpoint import load_checkpoint_of

        if path is None:
            return None
        self.say(f"starting from {path}")
        return load_checkpoint_of(expected, path)

    def train(self, train: "Callable[..., tuple[Model, TrainingReport]]", epochs: int) -> None:
        """Train, save the model, draw and print; the state is removed when the model is safe.

        Args:
            train: called with ``on_epoch``, ``on_progress`` and ``checkpoint``.
            epochs: the most epochs, for the bar.
        """
        from lstm_edge.checkpoint import save_checkpoint
        from lstm_edge.training import Checkpoint, plot_curves

        checkpoint = Checkpoint(path=self.checkpoint, resume=self.resume)
        with progress_bar("training", epochs) if self.main else nullcontext(_ignore) as update:
            note = ["first epoch"]

            def on_epoch(epoch: "Epoch") -> None:
                note[0] = f"held-out loss {epoch.held_out_loss:.3f}"
                update(epoch.number, note[0])
                self._print_epoch(epoch)

            def on_progress(done: int, most: int) -> None:
                update(done * epochs / most, note[0])

            hooks: dict[str, Any] = {"on_epoch": on_epoch, "on_progress": on_progress} if self.main else {}
            model, report = train(checkpoint=checkpoint, **hooks)
        if not self.main:
            return
        save_checkpoint(model, self.output)
        self.checkpoint.unlink(missing_ok=True)
        if self.plot is not None:
            plot_curves(report, self.plot)
        self._print(report)

    def _print_epoch(self, epoch: "Epoch") -> None:
        from lstm_edge.training.record import epoch_line

        if self.as_json:
            typer.echo(epoch_line(epoch))

    def _print(self, report: "TrainingReport") -> None:
        from lstm_edge.training.record import report_line

        if self.as_json:
            typer.echo(report_line(report))
        else:
            rows = [*report.rows(), ("file", f"{self.output} ({self.output.stat().st_size:,} bytes)")]
            print_table(("training", ""), rows)


def _ignore(done: float, note: str = "") -> None:
    """Draw nothing."""


def check_output(output: Path) -> None:
    """Refuse a path that cannot be written, or whose name belongs to another kind of file, such as an exported model.

    Raises:
        OutputError: it is one.
    """
    from lstm_edge_runtime.errors import OutputError
    from lstm_edge_runtime.writing import check_target

    if output.suffix != ".safetensors":
        raise OutputError(
            f"{output}: the name of a trained model must end in .safetensors; lstm-edge export makes the .onnx of it"
        )
    check_target(output)


@contextmanager
def open_run(
    *, output: Path, resume_file: Path | None, resume: bool, plot: Path | None, as_json: bool
) -> Iterator[Run]:
    """Join the processes that torchrun started, and refuse paths that cannot be written before anything slow starts.

    An error on a process other than the first leaves without a word: the first has said it.
    """
    from lstm_edge.training.distributed import is_main, process_group
    from lstm_edge.training.plot import check_plot
    from lstm_edge.training.state import Checkpoint, check_checkpoint
    from lstm_edge_runtime.errors import OutputError
    from lstm_edge_runtime.writing import beside

    with process_group():
        main = is_main()
        try:
            check_output(output)
            if plot is not None:
                check_plot(plot)
            state = resume_file or beside(output, ".resume")
            if os.path.realpath(state) == os.path.realpath(output):
                raise OutputError(f"{state}: --resume-file must not be the model that -o writes: give it another name")
            if main:
                check_checkpoint(Checkpoint(path=state, resume=resume))
            yield Run(output=output, checkpoint=state, resume=resume, plot=plot, as_json=as_json, main=main)
        except LstmEdgeError as error:
            if main:
                raise
            raise typer.Exit(error.exit_code) from error


def load_parts(data: str, validation: str | None, columns: str | None, task: Any) -> "tuple[Dataset, Dataset | None]":
    """Load the training data and, where it was named, the data to hold out, with the training data's labels."""
    from lstm_edge.data import load, parse_columns
    from lstm_edge.training.sequences import check_sizes

    named = None if columns is None else parse_columns(columns)
    dataset = load(data, default_split="train", task=task, columns=named)
    check_sizes(dataset, task, {})
    if validation is None:
        return dataset, None
    return dataset, load(validation, default_split="test", task=task, columns=named, labels=dataset.labels or None)
