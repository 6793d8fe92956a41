"""Stream over JSON lines: each line of input holds one piece and gives one line of output.

A line is a JSON list (a frame or a chunk, see ``Stream``) or an object of named inputs; for a model of token ids it may
also be a number. ``{"reset": true}`` goes back to the initial state and gives no output line. Blank lines are skipped.
An output line is a list if the model has one output, otherwise an object of outputs by name. Every float32 is written
with the fewest digits that read back as the same float32. NaN and infinity, which JSON lacks, are written as null.
"""

import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import TensorSpec
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.reading import TooLargeError, parse_json, read_line
from lstm_edge_runtime.stream import Stream

__all__ = ["stream_lines", "to_json"]


def stream_lines(stream: Stream, inputs: tuple[TensorSpec, ...], lines: Iterable[bytes]) -> Iterator[str]:
    """Push each line of JSON and yield the answer as a line of JSON (without the newline).

    Args:
        stream: the stream that runs the pieces.
        inputs: the model's inputs (``session.inputs``).
        lines: UTF-8 lines, or an open binary file of them, which is read with a limit on each line.

    Raises:
        InputError: a line is invalid or over 32 MiB; the message starts with the line number, counted from 1.
    """
    for number, line in enumerate(_bounded(lines), start=1):
        if not line.strip():
            continue
        try:
            piece = _parse(line)
            if piece == {"reset": True}:
                stream.reset()
                continue
            answer = stream.push(_to_inputs(piece, inputs))
        except InputError as error:
            raise InputError(f"line {number}: {error}") from error
        yield json.dumps(to_json(answer), allow_nan=False, ensure_ascii=False)


def _bounded(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines; a line of a file that is over the limit is refused."""
    if not isinstance(lines, io.IOBase):
        yield from lines
        return
    number = 1
    try:
        while line := read_line(lines.readline):
            yield line
            number += 1
    except TooLargeError as error:
        raise InputError(f"line {number}: {error}") from error


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
