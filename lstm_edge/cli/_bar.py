"""A progress bar on standard error: drawn on a terminal, silent elsewhere and with ``--quiet``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lstm_edge_runtime.cli.verbosity import current_verbosity

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(description: str, total: int) -> Iterator[Callable[..., None]]:
    """Draw a bar while the block runs.

    Yields:
        ``update(done, note="")``: move the bar to ``done`` of ``total``, followed by a note.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
    )
    # What is left of the line beside the other columns, a bar of ten and the gaps.
    most = console.width - len(description) - len(f"{total}/{total}") - len("0:00:00") - 10 - 4
    # Names in a note may have brackets.
    noted = (*columns, TextColumn("{task.fields[note]}", markup=False))
    with Progress(*noted, console=console, disable=not console.is_terminal or current_verbosity().quiet) as bar:
        task = bar.add_task(description, total=total, note="")

        def update(done: int, note: str = "") -> None:
            bar.update(task, completed=done, note=note if len(note) <= most else f"{note[: max(most - 1, 0)]}…")

        yield update
