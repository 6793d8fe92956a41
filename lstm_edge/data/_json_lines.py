"""Data sets in JSON Lines files: one object for each sequence."""

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lstm_edge.data._sequences import Dataset, Task
from lstm_edge.data._text_files import Target, at, build_targets, finite, is_class, number_ids, open_text
from lstm_edge_runtime.errors import DataError
from lstm_edge_runtime.reading import parse_json, reason, translated

__all__ = ["load_json_lines", "read_object", "read_steps", "shown"]

_KEYS = ("x", "y", "y_vector", "id", "group", "time")


@dataclass(kw_only=True)
class _Lines:
    """The file's contents: flat steps and targets; the other lists have one entry for each sequence."""

    x: list[np.ndarray[Any, np.dtype[np.float32]]] = field(default_factory=list)
    target: list[Target] = field(default_factory=list)
    per_step: list[bool] = field(default_factory=list)
    id: list[str] = field(default_factory=list)
    group: list[str] = field(default_factory=list)
    time: list[float] = field(default_factory=list)


def load_json_lines(path: str | Path, *, task: Task | None = None, labels: Sequence[str] | None = None) -> Dataset:
    """Read a JSON Lines file (``.jsonl`` or ``.jsonl.gz``): one object for each sequence; see docs/data.md.

    ``{"x": [[...], ...], "y": ...}``; ``y`` is text or a number for the sequence, or a list with an entry for each
    step: text, a number, or a list of numbers. A list of numbers that is one target of the whole sequence has the key
    ``y_vector`` instead. Optional, on all lines or none: ``id`` and ``group`` (text or integer), ``time`` (a number).

    Args:
        path: the file.
        task: task of the targets; None: integers and texts are classes, numbers with a decimal point are values.
        labels: the only labels allowed, in their order; None: those of the file, sorted.

    Raises:
        DataError: one sentence with the file and the line.
    """
    with translated(DataError, f"data {path}: cannot be read"):
        return _load(path, task, labels)


def _load(path: str | Path, task: Task | None, labels: Sequence[str] | None) -> Dataset:
    name, lines, numbers = str(path), _Lines(), []
    with open_text(Path(path)) as file:
        for number, text in enumerate(file, start=1):
            if text.strip():
                _add(name, number, _parse(name, number, text), lines)
                numbers.append(number)
    if not numbers:
        raise DataError(f"data {name}: the file is empty; expected one JSON object on a line for each sequence")
    for key, values in (("id", lines.id), ("group", lines.group), ("time", lines.time)):
        if values and len(values) != len(numbers):
            raise DataError(f"data {name}: {key} is on {len(values)} of {len(numbers)} lines; expected on all or none")
    per_step = lines.per_step[0]
    if lines.per_step.count(per_step) != len(numbers):
        line = numbers[lines.per_step.index(not per_step)]
        raise at(name, line, f"y is one {_which(not per_step)}, but one {_which(per_step)} on line {numbers[0]}")
    if (task == "classification" and per_step) or (task == "tagging" and not per_step):
        raise at(name, numbers[0], f"y is one {_which(per_step)}, expected one {_which(not per_step)} for {task}")
    classes = is_class(task, lines.target, name)
    y, names = build_targets(name, lines.target, classes=classes, labels=labels)
    return Dataset(
        name=name,
        x=np.concatenate(lines.x),
        lengths=np.array([len(x) for x in lines.x], dtype=np.int64),
        y=y,
        labels=names,
        per_step=per_step,
        groups=number_ids(lines.group) if lines.group else None,
        times=np.array(lines.time, dtype=np.float64) if lines.time else None,
        ids=tuple(lines.id),
    )


def _which(per_step: bool) -> str:
    return "a step" if per_step else "a sequence"


def _parse(name: str, line: int, text: str) -> dict[str, Any]:
    value = read_object(name, line, text, _KEYS)
    if "x" not in value or ("y" in value) == ("y_vector" in value):
        found = ", ".join(value) or "none"
        raise at(name, line, f"has the keys {found}; expected x, and either y or y_vector")
    return value


def read_object(
    name: str, line: int, text: str, keys: Sequence[str] | None, *, missing: bool = False
) -> dict[str, Any]:
    """Read the object on one line of a file.

    Args:
        name: the file name for messages.
        line: the number of the line.
        text: the line.
        keys: the keys that are allowed; None: any.
        missing: accept NaN, for a missing value.

    Raises:
        DataError: the line is not JSON or not an object, contains NaN or infinity, or has a duplicate key or a key
            outside ``keys``.
    """

    def refuse(constant: str) -> float:
        if missing and constant == "NaN":
            return float("nan")
        raise at(name, line, f"holds {constant}; expected finite numbers")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
            raise at(name, line, f"the key {min(twice)[:40]!r} is given twice")
        return value

    try:
        # Each step is a list.
        value = parse_json(text, containers=2**22, parse_constant=refuse, object_pairs_hook=unique)
    except ValueError as error:
        raise at(name, line, f"not JSON ({reason(error)})") from error
    if not isinstance(value, dict):
        raise at(name, line, f'holds a {type(value).__name__}, expected an object such as {{"x": [[...]], "y": ...}}')
    for key in value:
        if keys is not None and key not in keys:
            raise at(name, line, f"the key {key[:40]!r} is unknown; expected {', '.join(keys)}{_hint(key)}")
    return value


def _hint(key: str) -> str:
    """Return a hint for a key that belongs to another kind of file."""
    if key == "text":
        return " (text is read for word-error-rate and character-error-rate only)"
    return " (other keys are the columns of a table: give --columns)"


def _add(name: str, line: int, value: dict[str, Any], lines: _Lines) -> None:
    x = read_steps(name, line, value["x"], features=lines.x[0].shape[1] if lines.x else None)
    lines.x.append(x)
    y = value.get("y")
    per_step = isinstance(y, list)
    lines.per_step.append(per_step)
    if "y_vector" in value:
        lines.target.append((_vector(name, line, value["y_vector"], "y_vector"), line))
    elif isinstance(y, list):
        if len(y) != len(x):
            raise at(
                name,
                line,
                f"y has {len(y)} entries, but x has {len(x)} steps; expected one for each (a vector for a whole "
                "sequence has the key y_vector)",
            )
        lines.target += [(_target(name, line, entry), line) for entry in y]
    else:
        lines.target.append((_target(name, line, y), line))
    for key in ("id", "group"):
        if key in value:
            if isinstance(value[key], bool) or not isinstance(value[key], str | int):
                raise at(name, line, f"{key} is {shown(value[key])!r}, expected text or an integer")
            getattr(lines, key).append(str(value[key]))
    if "time" in value:
        lines.time.append(_number(name, line, value["time"], "time"))


def read_steps(name: str, line: int, value: Any, *, features: int | None) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Parse the steps of one sequence, float32 ``[T, F]``; ``features`` is the F of earlier lines, or None.

    Raises:
        DataError: the value is not a list of lists of finite numbers, or has another number of features.
    """
    if not isinstance(value, list) or not value:
        got = "an empty list" if value == [] else type(value).__name__
        raise at(name, line, f"x is {got}, expected a list of at least one step, each a list of numbers")
    # Flat, without an object for each number: a line of 32 MiB may have eight million steps of one digit.
    flat, width = array("d"), 0
    for place, step in enumerate(value):
        row = _vector(name, line, step, f"x[{place}]")
        width = width or len(row)
        if len(row) != width:
            raise at(name, line, f"x[{place}] has {len(row)} numbers, expected {width} as x[0]")
        flat.extend(row)
    if features is not None and width != features:
        raise at(name, line, f"x has {width} features, expected {features} as on the lines before")
    return np.frombuffer(flat, np.float64).astype(np.float32).reshape(-1, width)


def _vector(name: str, line: int, value: Any, what: str) -> tuple[float, ...]:
    if not isinstance(value, list) or not value:
        raise at(name, line, f"{what} is {'an empty list' if value == [] else type(value).__name__}, expected numbers")
    return tuple(_number(name, line, number, what) for number in value)


def _number(name: str, line: int, value: Any, what: str) -> float:
    number = None if isinstance(value, bool) or not isinstance(value, int | float) else finite(value)
    if number is None:
        raise at(name, line, f"{what} holds {str(shown(value))!r}, expected a finite number")
    return number


def shown(value: Any) -> Any:
    """Return a value for a message; a list or an object, which may be deep and long, becomes its type."""
    if isinstance(value, list | dict):
        return type(value).__name__
    return value[:40] if isinstance(value, str) else value


def _target(name: str, line: int, value: Any) -> str | tuple[float, ...]:
    if isinstance(value, list):
        return _vector(name, line, value, "y")
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        raise at(name, line, f"y is {shown(value)!r}, expected text or a number")
    return value if isinstance(value, str) else repr(value)
