"""Stream over JSON lines: each line of input holds one piece and gives one line of output.

A line is a JSON list (a frame or a chunk, see ``Stream``) or an object of named inputs; for a model of token ids it may
also be a number. ``{"reset": true}`` goes back to the initial state and gives no output line. ``{"flush": true}`` ends
the sequence and gives a line with the outputs that are left; a reset must follow. Blank lines are skipped.
An output line is a list if the model has one output, otherwise an object of outputs by name. Every float32 is written
with the fewest digits that read back as the same float32. NaN and infinity, which JSON lacks, are written as null.
A line that cannot be run gives an object ``{"line": number, "error": sentence}`` where the policy is to go on.
"""

import io
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, get_args

import numpy as np

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import TensorSpec
from lstm_edge_runtime.errors import InputError, LstmEdgeError, StreamingError
from lstm_edge_runtime.reading import TooLargeError, parse_json, read_line
from lstm_edge_runtime.stream import Stream

__all__ = ["OnBadLine", "check_on_bad_line", "stream_lines", "to_json"]

OnBadLine = Literal["stop", "skip", "hold"]
_RESET, _FLUSH = {"reset": True}, {"flush": True}
_PART = 2**20
# What a line may be at fault for; anything else is not the line's fault.
_BAD = (InputError, StreamingError)


def check_on_bad_line(policy: str) -> None:
    """Refuse an unknown policy.

    Raises:
        InputError: the policy is not one of ``OnBadLine``.
    """
    if policy not in get_args(OnBadLine):
        raise InputError(f"on_bad_line must be one of {', '.join(get_args(OnBadLine))}, got {policy!r}")


def stream_lines(
    stream: Stream,
    inputs: tuple[TensorSpec, ...],
    lines: Iterable[bytes],
    *,
    on_bad_line: OnBadLine = "stop",
    flush: bool = True,
    shown: Callable[[Any], Any] | None = None,
    refused: Callable[[str], None] | None = None,
) -> Iterator[str]:
    """Push each line of JSON and yield the answer as a line of JSON (without the newline).

    Args:
        stream: the stream that runs the pieces.
        inputs: the model's inputs (``session.inputs``).
        lines: UTF-8 lines, or an open binary file of them, which is read with a limit on each line.
        on_bad_line: what to do with a line that cannot be run. ``"stop"`` raises. ``"skip"`` yields an object with its
            number and the error; the state stays as it was. ``"hold"`` does the same and pushes the last good piece
            again in its place, as a sensor holds its last value: the object has the ``answer`` too. Before the first
            good piece, and after a reset, nothing is held.
        flush: whether the end of the input ends the sequence; a last line then has the outputs that are left, if any.
        shown: turns an answer into JSON values; ``to_json`` by default.
        refused: called with the reason ``"line"`` for each line that never reaches the stream.

    Raises:
        InputError: a line is invalid or over 32 MiB, or the policy is unknown; the message starts with the line number,
            counted from 1.
        StreamingError: a line comes after the end of the sequence, or the last outputs cannot be computed.
    """
    check_on_bad_line(on_bad_line)
    service = _Service(stream, inputs, on_bad_line, shown or to_json, refused or (lambda _reason: None))
    for number, line in enumerate(_bounded(lines), start=1):
        if isinstance(line, TooLargeError) or line.strip():
            yield from service.answer(number, line)
    if flush:
        yield from service.finish()


class _Service:
    """Answers lines; remembers the last good piece for ``hold``."""

    def __init__(
        self,
        stream: Stream,
        inputs: tuple[TensorSpec, ...],
        policy: OnBadLine,
        shown: Callable[[Any], Any],
        refused: Callable[[str], None],
    ) -> None:
        self._stream, self._inputs, self._policy, self._shown, self._tell = stream, inputs, policy, shown, refused
        self._held: Any = None

    def answer(self, number: int, line: bytes | TooLargeError) -> Iterator[str]:
        """Yield the lines that answer a line."""
        try:
            piece = self._read(line)
            if piece is _RESET:
                self._held = None
                self._stream.reset()
                return
            if piece is _FLUSH:
                answer = self._stream.flush()
            else:
                answer = self._stream.push(piece)
                self._held = piece
        except _BAD as error:
            yield self._refused(number, error)
            return
        yield _text(self._shown(answer))

    def _read(self, line: bytes | TooLargeError) -> Any:
        """Return a command, or the arrays of a piece."""
        try:
            if isinstance(line, TooLargeError):
                raise InputError(str(line))
            piece = _parse(line)
            for command in (_RESET, _FLUSH):
                if piece == command:
                    return command
            return _to_inputs(piece, self._inputs)
        except InputError:
            self._tell("line")
            raise

    def _refused(self, number: int, error: LstmEdgeError) -> str:
        if self._policy == "stop":
            raise type(error)(f"line {number}: {error}") from error
        told: dict[str, Any] = {"line": number, "error": str(error)}
        if self._policy == "hold" and self._held is not None:
            try:
                told["answer"] = self._shown(self._stream.push(self._held))
            except _BAD as second:
                told["error"] += f"; the last good line cannot be repeated: {second}"
        return _text(told)

    def finish(self) -> Iterator[str]:
        """Yield a line with what is left at the end of the input, if anything is."""
        try:
            rest = self._stream.flush()
        except _BAD as error:
            if self._policy == "stop":
                raise type(error)(f"at the end of the input: {error}") from error
            yield _text({"line": None, "error": f"at the end of the input: {error}"})
            return
        arrays = rest.values() if isinstance(rest, dict) else [rest]
        if any(array.size for array in arrays):
            yield _text(self._shown(rest))


def _text(values: Any) -> str:
    return json.dumps(values, allow_nan=False, ensure_ascii=False)


def _bounded(lines: Iterable[bytes]) -> Iterator[bytes | TooLargeError]:
    """Yield the lines; a line of a file that is over the limit is an error, and is read to its end in parts."""
    if not isinstance(lines, io.IOBase):
        yield from lines
        return
    while True:
        try:
            line: bytes | TooLargeError = read_line(lines.readline)
        except TooLargeError as error:
            line = error
        yield line
        if isinstance(line, TooLargeError):
            _skip_line(lines)
        elif not line:
            return


def _skip_line(lines: io.IOBase) -> None:
    part = lines.readline(_PART)
    while part and not part.endswith(b"\n"):
        part = lines.readline(_PART)


def to_json(answer: Any) -> Any:
    """Return an array (or a mapping of arrays) as JSON values; NaN and infinity become None."""
    if isinstance(answer, np.ndarray):
        return _to_list(answer)
    return {name: _to_list(array) for name, array in answer.items()}


def _to_list(array: Array) -> Any:
    if array.dtype.kind != "f":
        return array.tolist()
    # NumPy writes a float32 with the fewest digits that read back; the float64 of that text is written the same way.
    values: Array = array.astype("U32").astype(np.float64) if array.dtype.itemsize < 8 else array
    if np.isfinite(values).all():
        return values.tolist()
    objects = values.astype(object)
    objects[~np.isfinite(values)] = None
    return objects.tolist()


def _parse(line: bytes) -> Any:
    try:
        return parse_json(line, parse_constant=_refuse_constant)
    except ValueError as error:
        raise InputError(f"not a line of JSON ({error})") from error


def _refuse_constant(token: str) -> None:
    raise InputError(f"{token} is not JSON; every value must be a finite number")


def _to_inputs(piece: Any, inputs: tuple[TensorSpec, ...]) -> Any:
    specs = {spec.name: spec for spec in inputs}
    if isinstance(piece, dict):
        return {name: _to_array(specs[name], value) if name in specs else value for name, value in piece.items()}
    return _to_array(inputs[0], piece) if len(inputs) == 1 else piece


def _to_array(spec: TensorSpec, value: Any) -> Array:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(f"input {spec.name!r}: nested lists must have equal lengths") from error
    dtype = np.dtype(spec.dtype)
    allowed = {"f": "iuf", "i": "iu", "u": "iu", "b": "b"}[dtype.kind]
    if array.size and array.dtype.kind not in allowed:
        raise InputError(f"input {spec.name!r} takes {spec.dtype}, got a JSON value that holds something else")
    with np.errstate(over="ignore"):  # a value too large for float32 becomes infinity, which the stream refuses
        converted = array.astype(dtype)
    if dtype.kind in "iu" and not np.array_equal(converted, array):
        raise InputError(f"input {spec.name!r} holds an integer outside the range of {spec.dtype}")
    return converted
