"""The options of ``lstm-edge run`` that need an open file: what is written, and metrics."""

import os
from collections.abc import Callable

from lstm_edge_runtime.commands.streaming import keeps_steps
from lstm_edge_runtime.errors import OutputError
from lstm_edge_runtime.metrics_format import MetricsFormat
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.watch import Metrics
from lstm_edge_runtime.writing import check_array_target, check_state_target

__all__ = ["check_targets", "watching"]

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
        check_state_target(save_state)
