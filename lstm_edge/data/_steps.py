"""The step column of a table: integers, numbers or ISO times, and the spacing that is expected between two steps."""

import re
from array import array
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, NamedTuple

import numpy as np

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import InputError

__all__ = ["ANY", "Spacing", "StepColumn", "Time", "parse_spacing", "parse_time", "shown_step", "shown_width"]

Kind = Literal["integers", "numbers", "times"]

# Nanoseconds of each unit, the largest last.
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9}
_UNITS["d"] = 24 * _UNITS["h"]
_SPACING = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*([a-zµ]*)")
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(?: ?([Zz]|[+-]\d\d(?::?\d\d)?))?)?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The difference of two times in nanoseconds must fit into int64: 292 years.
_YEARS = range(1900, 2192)
_RANGE = range((datetime(1900, 1, 1, tzinfo=UTC) - _EPOCH).days, (datetime(2192, 1, 1, tzinfo=UTC) - _EPOCH).days)
_MOST_DIGITS = 18


class Time(NamedTuple):
    """A point in time: nanoseconds since 1970, and whether it has a zone (without one, of whatever clock wrote it)."""

    ns: int
    zoned: bool


@dataclass(frozen=True, kw_only=True)
class Spacing:
    """The expected spacing of steps: a number, or nanoseconds with ``unit``; ``width`` None accepts any spacing."""

    width: float | None
    unit: str = ""


ANY = Spacing(width=None)


def parse_spacing(text: str | float) -> Spacing:
    """Parse ``1s``, ``100ms``, ``0.5`` or ``any``.

    Raises:
        InputError: it is none of these, or is not above 0.
    """
    given = str(text).strip()
    if given == "any":
        return ANY
    found = _SPACING.fullmatch(given)
    if found is None or (found[2] and found[2] not in _UNITS) or not float(found[1]):
        raise InputError(
            f"step_every is {given[:40]!r}, expected a number above 0 for a column of numbers, such as 0.5; a number "
            f"with a unit for a column of times, such as 1s or 100ms ({', '.join(_UNITS)}); or any"
        )
    if not found[2]:
        return Spacing(width=float(found[1]))
    width = Decimal(found[1]) * _UNITS[found[2]]
    if width != width.to_integral_value() or not width:
        raise InputError(f"step_every is {given[:40]!r}, expected whole nanoseconds, 1ns or more")
    return Spacing(width=float(width), unit=found[2])


def parse_time(text: str) -> Time | None:
    """Return an ISO time such as ``2024-03-31T01:59:59.5+01:00``, or None if the text is no time.

    ``T`` or a space, fractions down to nanoseconds, ``Z`` or an offset or no zone, or a date alone.
    """
    found = _TIME.fullmatch(text)
    if found is None or int(text[:4]) not in range(1, 9999):
        return None
    date, hour, minute, second, fraction, zone = found.groups()
    try:
        when = datetime.fromisoformat(date).replace(
            hour=int(hour or 0), minute=int(minute or 0), second=int(second or 0), tzinfo=UTC
        )
    except ValueError:  # such as February 30
        return None
    ns = (when - _EPOCH) // timedelta(seconds=1) * 10**9 + int((fraction or "").ljust(9, "0"))
    if zone is None:
        return Time(ns, zoned=False)
    if zone in "Zz":
        return Time(ns, zoned=True)
    hours, minutes = int(zone[1:3]), int(zone[3:].removeprefix(":") or 0)
    if hours > 23 or minutes > 59:
        return None
    offset = (hours * 3600 + minutes * 60) * 10**9
    return Time(ns - offset if zone[0] == "+" else ns + offset, zoned=True)


class StepColumn:
    """The steps of all rows: int64 (integers, or nanoseconds of times) or, where one has a fraction, float64."""

    def __init__(self) -> None:
        self.kind: Kind | None = None
        self.zoned = False
        self._values: array[int] | array[float] = array("q")

    def __len__(self) -> int:
        return len(self._values)

    @property
    def values(self) -> Array:
        """The steps, int64 or float64 ``[rows]``."""
        return np.array(self._values, dtype=np.float64 if self._values.typecode == "d" else np.int64)

    def add(self, cell: Any) -> str | None:
        """Add the step of a row; returns what is wrong with it, or None."""
        step = _parse(cell)
        if step is None:
            return f"is {str(cell)[:40]!r}, expected an integer, a number or an ISO time such as 2024-05-01T12:00:00Z"
        if isinstance(step, Time):
            return self._add_time(step)
        if self.kind == "times":
            return f"is {str(cell)[:40]!r}, but the rows before have times; expected a time"
        if isinstance(step, float) and self.kind != "numbers":
            if any(abs(value) > 2**53 for value in self._values):
                return f"is {str(cell)[:40]!r}, but the integers before are too large to be compared with it"
            self._values = array("d", self._values)
            self.kind = "numbers"
        if self.kind == "numbers" and abs(step) > 2**53:
            return f"is {str(cell)[:40]!r}, too large to be compared with the numbers before"
        self.kind = self.kind or "integers"
        self._values.append(step)  # type: ignore[arg-type]  # a float is added to an array of floats only
        return None

    def _add_time(self, step: Time) -> str | None:
        if self.kind in ("integers", "numbers"):
            return "is a time, but the rows before have numbers; expected a number"
        if self.kind == "times" and step.zoned != self.zoned:
            one, other = ("a zone", "none") if step.zoned else ("no zone", "one")
            return f"has {one}, but the times before have {other}; expected all or none with a zone such as Z or +01:00"
        if step.ns // _UNITS["d"] not in _RANGE:
            return f"is a time outside the years {_YEARS[0]} to {_YEARS[-1]}"
        self.kind, self.zoned = "times", step.zoned
        self._values.append(step.ns)
        return None


def _parse(cell: Any) -> Time | int | float | None:
    if isinstance(cell, Time):
        return cell
    if isinstance(cell, bool) or not isinstance(cell, int | float | str):
        return None
    text = cell.strip() if isinstance(cell, str) else repr(cell)
    if text.isascii() and text.removeprefix("-").isdecimal():
        return int(text) if len(text.removeprefix("-")) <= _MOST_DIGITS else None
    if text[:4].isdecimal() and text[4:5] == "-":  # a date, without an exception of Decimal for each row
        return parse_time(text)
    try:
        number = Decimal(text) if len(text) <= 40 and "_" not in text else Decimal("nan")
    except InvalidOperation:
        return parse_time(text)
    return float(number) if number.is_finite() and abs(number) < 2**53 else None


def shown_step(value: float, kind: Kind | None, *, zoned: bool = True) -> str:
    """Return a step as people write it: an ISO time, an integer, or a number."""
    if kind != "times":
        return f"{value:d}" if isinstance(value, int) else f"{value:.12g}"
    seconds, ns = divmod(int(value), 10**9)
    whole = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{ns:09d}".rstrip("0") if ns else ""
    return whole + fraction + ("Z" if zoned else "")


def shown_width(width: float, kind: Kind | None) -> str:
    """Return a spacing as ``--step-every`` takes it: ``0.5``, or ``100ms`` for nanoseconds of times."""
    if kind != "times":
        return f"{width:.6g}"
    units = [unit for unit in ("ns", "us", "ms", "s", "min", "h", "d") if width >= _UNITS[unit]] or ["ns"]
    for unit in reversed(units):
        text = f"{width / _UNITS[unit]:.6g}"
        if float(text) * _UNITS[unit] == width and len(text) <= 5:
            return text + unit
    return f"{width / _UNITS[units[-1]]:.6g}{units[-1]}"
