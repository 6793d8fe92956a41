"""``lstm-edge run --stream``: JSON lines through a stream, with its state read before and written after."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.files import read_arrays, write_arrays
from lstm_edge_runtime.lines import OnBadLine, stream_lines
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.state import State
from lstm_edge_runtime.stepping import is_one_to_one
from lstm_edge_runtime.stream import Stream
from lstm_edge_runtime.watch import Metrics

__all__ = ["keeps_steps", "read_state", "run_stream"]

AnyPath = str | os.PathLike[str]


def keeps_steps(session: Session) -> bool:
    """Return whether streams of the model keep steps, so that its states alone are not all that a stream knows."""
    return session.card is not None and not is_one_to_one(session.card.streaming)


def run_stream(
    session: Session,
    lines: Iterable[bytes],
    *,
    batch_size: int,
    load_state: AnyPath | State | None,
    save_state: AnyPath | None,
    on_bad_line: OnBadLine,
    on_line: Callable[[str], None] | None,
    shown: Callable[[Any], Any] | None,
    metrics: Metrics | None,
) -> tuple[State, int]:
    """Answer lines; return the last state and the number of answers.

    With ``save_state`` the sequence goes on later: the end of the input does not end it, and the steps that the stream
    keeps are in the file. The file is also written when an interrupt or a closed pipe ends the stream; the metrics are
    written however it ends.
    """
    stream = session.stream(batch_size, metrics=metrics)
    if load_state is not None:
        _load(stream, session, load_state)
    count = 0
    try:
        for line in stream_lines(
            stream,
            session.inputs,
            lines,
            on_bad_line=on_bad_line,
            flush=save_state is None,
            shown=shown,
            refused=None if metrics is None else metrics.count_refusal,
        ):
            count += 1
            if on_line is not None:
                on_line(line)
    except (KeyboardInterrupt, BrokenPipeError):
        _save(stream, session, save_state)
        raise
    finally:
        if metrics is not None:
            metrics.write()
    _save(stream, session, save_state)
    return stream.state, count


def read_state(session: Session, path: AnyPath) -> State:
    """Read the file of ``--save-state``.

    Raises:
        InputError: the file cannot be read, or does not hold the model's states.
    """
    arrays = _read(path)
    try:
        return State.from_arrays(session.states, arrays)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _load(stream: Stream, session: Session, source: AnyPath | State) -> None:
    if isinstance(source, State):
        stream.state = source
        return
    arrays = _read(source)
    try:
        # A file with nothing but states is that of an array run, or of a model whose streams keep no steps.
        if keeps_steps(session) and set(arrays) - {spec.input for spec in session.states}:
            stream.restore(arrays)
        else:
            stream.state = State.from_arrays(session.states, arrays)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def _save(stream: Stream, session: Session, path: AnyPath | None) -> None:
    if path is not None:
        write_arrays(path, stream.snapshot() if keeps_steps(session) else stream.state.to_arrays())


def _read(path: AnyPath) -> Mapping[str, Any]:
    arrays = read_arrays(path)
    if not isinstance(arrays, dict):
        raise InputError(f"{path}: expected an .npz file of --save-state, with an array for each state")
    return arrays
