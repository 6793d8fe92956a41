"""Shared code of the CSV and JSON Lines readers: opening, numbers, and the conversion of targets to ``y``.

Every error names the file and the line, counted from 1.
"""

import gzip
import io
import lzma
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lstm_edge.data._sequences import Task
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import DataError
from lstm_edge_runtime.reading import (
    Budget,
    TooLargeError,
    most_unpacked,
    open_file,
    read_line,
    translated,
    unpacked,
)

__all__ = ["Lines", "Target", "at", "build_targets", "finite", "is_class", "number_ids", "open_text", "parse_number"]

# A target in a file: the text of a class or of a number, or several numbers; and its line number.
Target = tuple[str | tuple[float, ...], int]

_LARGEST = float(np.finfo(np.float32).max)
# In memory a line of a table takes up to thirty times its size in the file.
_MOST_BYTES = 2**32
_LEAST_UNPACKED_BYTES = 2**26
_MOST_BLANK_LINES = 2**20


class Lines:
    """The lines of an open text file, each of bounded length; ``number`` is the number of the last line, from 1."""

    def __init__(self, name: str, file: io.TextIOWrapper) -> None:
        self.number = 0
        self._name, self._readline, self._blank = name, file.readline, 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            line: str = read_line(self._readline)
        except TooLargeError as error:
            raise at(self._name, self.number + 1, str(error)) from error
        if not line:
            raise StopIteration
        self.number += 1
        if line.isspace():
            self._blank += 1
            if self._blank > _MOST_BLANK_LINES:
                raise at(self._name, self.number, f"is empty, as {_MOST_BLANK_LINES:,} before it; remove them")
        return line


def at(name: str, line: int, sentence: str, *, unit: str = "line") -> DataError:
    """Return the error for one line of a file, or for one row of a file without lines."""
    return DataError(f"data {name}, {unit} {line}: {sentence}")


@contextmanager
def open_text(path: Path) -> Iterator[Lines]:
    """Open a UTF-8 text file, or one compressed with gzip (``.gz``); a byte order mark is skipped.

    Raises:
        DataError: the file does not exist, is not UTF-8, exceeds a limit (see ``lstm_edge_runtime.reading``), is a
            damaged archive, or does not fit into memory. Some of these errors are raised only while reading.
    """
    name = f"data {path}"
    with (
        translated(DataError, f"{name}: cannot be read"),
        open_file(path, DataError, where=name) as raw,
    ):
        size = os.fstat(raw.fileno()).st_size
        if path.suffix == ".gz":
            budget = Budget(most_unpacked(size, least=_LEAST_UNPACKED_BYTES, most=_MOST_BYTES), "text")
            binary = unpacked(raw, ".gz", budget)
        else:
            Budget(_MOST_BYTES, "text").check(size)
            binary = io.BufferedReader(raw)  # type: ignore[arg-type]  # open_file opens without a buffer
        try:
            with io.TextIOWrapper(binary, encoding="utf-8-sig", newline="") as file:
                yield Lines(str(path), file)
        except UnicodeDecodeError as error:
            raise DataError(f"{name}: not UTF-8 text (byte {error.start} of a block: {error.reason})") from error
        except (gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError) as error:
            raise DataError(f"{name}: not a gzip file, or a damaged one ({error})") from error


def parse_number(text: str) -> float | None:
    """Return the number in a text, or None if it is not a finite float32: NaN, infinity, ``1_000``, an empty text."""
    try:
        value = float(text)
    except ValueError:
        return None
    return None if "_" in text else finite(value)


def finite(value: float) -> float | None:
    """Return a number as a float, or None if it is no finite float32: NaN, infinity, 1e39, 400 digits."""
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if abs(number) <= _LARGEST else None


def is_class(task: Task | None, targets: Sequence[Target], name: str, *, unit: str = "line") -> bool:
    """Decide whether targets are classes.

    A given task decides. Without a task, vectors are values; integers and non-numeric texts are classes; numbers are
    values if one of them has a decimal point.

    Raises:
        DataError: some targets have a decimal point, others are not numbers, and no task is given.
    """
    if task is not None:
        return task != "forecast"
    kinds: dict[str, int] = {}
    for value, line in targets:
        kinds[_kind(value)] = min(line, kinds.get(_kind(value), line))
    if "value" in kinds and "text" in kinds:
        raise at(
            name,
            kinds["text"],
            f"the target is not a number, but the target on {unit} {kinds['value']} has a decimal point; give the task",
            unit=unit,
        )
    return "value" not in kinds


def build_targets(
    name: str, targets: Sequence[Target], *, classes: bool, labels: Sequence[str] | None, unit: str = "line"
) -> tuple[Array, tuple[str, ...]]:
    """Turn targets into ``y``.

    Args:
        name: the file name for messages.
        targets: the targets of the file, one for each sequence or step.
        classes: whether they are classes.
        labels: the classes that are allowed (those of a model), in the model's order; None: those of the file, sorted,
            by value where all are integers.
        unit: what a line of the file is called.

    Returns:
        int64 ``[n]`` and the names of the classes; or float32 ``[n]`` or ``[n, K]`` and nothing.

    Raises:
        DataError: a label is not in ``labels``, or a value is not a finite number or has another size than the first
            one.
    """
    if not classes:
        return _values(name, targets, unit), ()
    for value, line in targets:
        if not isinstance(value, str):
            raise at(name, line, f"the target has {len(value)} numbers, expected one class", unit=unit)
    texts = [str(value) for value, _ in targets]
    known = _sorted(set(texts)) if labels is None else list(labels)
    numbers = {text: number for number, text in enumerate(known)}
    for text, (_, line) in zip(texts, targets, strict=True):
        if text not in numbers:
            shown = ", ".join(map(repr, known[:10])) + (", ..." if len(known) > 10 else "")
            sentence = f"the label {text!r} was never seen in training; expected one of {shown}"
            raise at(name, line, sentence, unit=unit)
    return np.array([numbers[text] for text in texts], dtype=np.int64), tuple(known)


def number_ids(texts: Sequence[str]) -> NDArray[np.int64]:
    """Return int64 ``[n]``: equal texts get equal numbers, counted from 0 in sorted order."""
    # Not an array of texts, in which each text takes the memory of the longest one.
    numbers = {text: number for number, text in enumerate(sorted(set(texts)))}
    return np.array([numbers[text] for text in texts], dtype=np.int64)


def _values(name: str, targets: Sequence[Target], unit: str) -> Array:
    rows: list[tuple[float, ...]] = []
    for value, line in targets:
        if isinstance(value, str):
            number = parse_number(value)
            if number is None:
                sentence = f"the target {value!r} is not a finite number; expected one to forecast"
                raise at(name, line, sentence, unit=unit)
            row: tuple[float, ...] = (number,)
        else:
            row = value
        if rows and len(row) != len(rows[0]):
            sentence = f"the target has {len(row)} numbers, expected {len(rows[0])} as on the {unit}s before"
            raise at(name, line, sentence, unit=unit)
        rows.append(row)
    single = all(isinstance(value, str) for value, _ in targets)
    y = np.array(rows, dtype=np.float32)
    return y[:, 0] if single else y


def _kind(value: str | tuple[float, ...]) -> str:
    if isinstance(value, str):
        if value.removeprefix("-").isdecimal():
            return "integer"
        return "text" if parse_number(value) is None else "value"
    return "value"


def _sorted(texts: set[str]) -> list[str]:
    integers = all(text.isascii() and _kind(text) == "integer" for text in texts)
    return sorted(texts, key=lambda text: (int(text), text)) if integers else sorted(texts)
