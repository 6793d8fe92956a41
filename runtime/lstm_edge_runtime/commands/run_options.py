"""The options of ``lstm-edge run`` that need an open file: what is written, metrics, lengths of rows."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from lstm_edge_runtime.commands.streaming import keeps_steps
from lstm_edge_runtime.errors import InputError, OutputError
from lstm_edge_runtime.files import check_array_target
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.watch import Metrics
from lstm_edge_runtime.watch.metrics import MetricsFormat

__all__ = ["check_targets", "parse_lengths", "watching"]

AnyPath = str | os.PathLike[str]
Say = Callable[[str], None]


def watching(path: AnyPath | None, every: int | None, form: MetricsFormat | None, say: Say | None) -> Metrics | None:
    """Return what a stream reports to; None without a path."""
    if path is None:
        return None
    return Metrics(path, every=100 if every is None else every, file_format=form, on_problem=say)


def check_targets(session: Session, output: AnyPath | None, save_state: AnyPath | None, *, streamed: bool) -> None:
    """Refuse unwritable paths before anything runs, so that results are written completely or not at all."""
    if output is not None:
        check_array_target(output, len(session.outputs))
    if save_state is not None:
        if not session.states and not (streamed and keeps_steps(session)):
            raise OutputError(f"{save_state}: the model has no explicit state to save")
        if Path(save_state).suffix != ".npz":
            raise OutputError(f"{save_state}: the name of a state file must end in .npz")
        check_array_target(save_state, len(session.states))


def parse_lengths(given: Sequence[int] | str | None) -> list[int] | None:
    """Return the valid steps of each row, given as numbers or as text with commas; None stays None.

    Raises:
        InputError: a part of the text is no integer.
    """
    if given is None:
        return None
    try:
        return [int(part) for part in (given.split(",") if isinstance(given, str) else given)]
    except ValueError as error:
        raise InputError(f"--row-lengths is {given!r}, expected integers separated by commas, such as 5,3") from error
