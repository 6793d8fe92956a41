"""The options of ``lstm-edge run``: which exclude one another, and paths that are checked before anything runs."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lstm_edge_runtime.commands.streaming import keeps_steps
from lstm_edge_runtime.errors import InputError, OutputError
from lstm_edge_runtime.files import check_array_target
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.watch import Metrics
from lstm_edge_runtime.watch.metrics import MetricsFormat

__all__ = ["check_modes", "check_targets", "check_watching", "parse_lengths", "watching"]

AnyPath = str | os.PathLike[str]
Say = Callable[[str], None]


def check_modes(modes: Mapping[str, Any], drawing: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Require exactly one of the five modes, and refuse options of the other modes."""
    chosen = [name for name, value in modes.items() if value is not None]
    if len(chosen) > 1:
        raise InputError(f"{' and '.join(chosen)} exclude one another: give one of {', '.join(modes)}")
    if not chosen:
        raise InputError(
            "give an INPUT.npy or INPUT.npz, or --stream to read JSON lines from standard input; for a language model "
            "--prompt TEXT or --score FILE"
        )
    [mode] = chosen
    if drawing and mode != "--prompt":
        raise InputError(f"--{next(iter(drawing)).replace('_', '-')} requires --prompt")
    misplaced = [name for name, value in arrays.items() if value is not None]
    if mode == "--calls" and misplaced:
        raise InputError(f"--calls reads standard input and writes standard output: leave out {misplaced[0]}")
    if mode in ("--prompt", "--score") and misplaced:
        raise InputError(f"{misplaced[0]} requires an array input, but {mode} takes text: leave it out")
    if mode == "--stream" and (arrays["-o"] is not None or arrays["--row-lengths"] is not None):
        raise InputError("--stream reads standard input and writes standard output: leave out -o and --row-lengths")


def check_watching(path: AnyPath | None, every: int | None, form: MetricsFormat | None, *, streamed: bool) -> None:
    """Refuse metrics without a stream, and their options without metrics."""
    if path is not None and not streamed:
        raise InputError("--metrics requires --stream")
    if path is None and (every, form) != (None, None):
        raise InputError("--metrics-every and --metrics-format require --metrics FILE")


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
