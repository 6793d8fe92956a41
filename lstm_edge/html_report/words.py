"""Formatting of numbers: sizes, metric values, drops, intervals."""

import math
import re
from dataclasses import dataclass

__all__ = [
    "NOT_MEASURED",
    "Scale",
    "measured",
    "metric_name",
    "percent",
    "ratio",
    "seconds",
    "signed_percent",
    "size",
    "step_time",
    "tick_text",
]

NOT_MEASURED = "not measured"
# Up to this number of decimals a tick, a drop and a budget have no exponent.
_FIXED = 7
_MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Formatting of the values and drops of one metric; a share in percent and percentage points.

    ``allowed`` is the budget in the metric's unit. Drops have enough decimals to show a hundredth of it, and all drops
    of a column have the same number of decimals. If these are more than seven, drops have three significant digits.
    A unit of several words is named by the axis and the glossary, and not behind each figure.
    """

    name: str
    unit: str
    more_is_better: bool
    allowed: float

    def value(self, value: float | None) -> str:
        """Return a value of the metric, five significant digits, which resolve a budget of 0.1%."""
        if value is None:
            return NOT_MEASURED
        return f"{value:.2%}" if self.unit == "share" else f"{_minus(f'{value:.5g}')} {self.symbol}".rstrip()

    @property
    def symbol(self) -> str:
        """The unit behind a figure: nothing for a unit of several words, such as squared units of the output."""
        return "" if " " in self.unit else self.unit

    @property
    def budget(self) -> str:
        """The allowed drop."""
        return (
            self.given(f"{_significant(100 * self.allowed)}pt")
            if self.unit == "share"
            else f"{_significant(self.allowed)} {self.symbol}".rstrip()
        )

    def drop(self, value: float | None) -> str:
        """Return a drop (positive is worse); a drop of a share in percentage points."""
        if value is None:
            return NOT_MEASURED
        if value == 0:
            return "0"
        factor, unit = (100, " points") if self.unit == "share" else (1, "")
        decimals = 2 - math.floor(math.log10(factor * self.allowed)) if self.allowed else _FIXED + 1
        text = f"{factor * value:+.{max(decimals, 0)}f}" if decimals <= _FIXED else f"{factor * value:+.3g}"
        if float(text) == 0:
            text = text.lstrip("+-")
        return f"{_minus(text)}{unit}"

    def loss(self, value: float | None) -> str:
        """Return a drop with its unit."""
        text = self.drop(value)
        return text if value is None or self.unit == "share" else f"{text} {self.symbol}".rstrip()

    def interval(self, low: float | None, high: float | None) -> str:
        """Return the interval of a drop."""
        if low is None or high is None:
            return NOT_MEASURED
        return f"{self.drop(low)} to {self.drop(high)}"

    def reference(self, value: float | None, drop: float | None) -> float | None:
        """Return the float32 model's value, from a candidate's value and its drop, which is their difference."""
        if value is None or drop is None:
            return None
        return value + drop if self.more_is_better else value - drop

    def given(self, text: str) -> str:
        """Return a budget as it was given, with a space before its unit, and points for ``pt``."""
        found = re.fullmatch(r"([0-9.e-]+) *([A-Za-z]+)", text)
        if found is None:
            return text
        number, unit = found.groups()
        return f"{number} {unit}" if unit != "pt" else f"{number} point{'' if number == '1' else 's'}"

    @property
    def drop_axis(self) -> str:
        """The name of an axis of drops."""
        return f"loss of {self.name}" + {"share": ", percentage points", "": ""}.get(self.unit, f", {self.unit}")

    def tick(self, value: float, decimals: int) -> str:
        """Return a number for an axis of drops, as ``drop_axis`` names its unit."""
        factor, places = (100, max(0, decimals - 2)) if self.unit == "share" else (1, decimals)
        text = f"{factor * value:.{places}f}" if places <= _FIXED else f"{round(factor * value, places):.3g}"
        return "0" if float(text) == 0 else _minus(text)


def metric_name(name: str) -> str:
    """Return the name of a metric without its options; a user's own function has the name of the function."""
    first, *options = name.split(":")
    if "." in first and options:
        return options[0]
    return first.upper() if first in ("auc", "f1", "mae", "mse", "sdr", "si-sdr") else first


def measured(value: float | None, pattern: str) -> str:
    """Return a number formatted by a pattern, such as ``{:.1f} dB``; infinity counts as not measured."""
    return NOT_MEASURED if value is None or not math.isfinite(value) else pattern.format(value)


def size(count: float) -> str:
    """Return a number of bytes, three significant digits, in decimal units (a MB has 1,000,000 bytes)."""
    if count < 0:
        return f"{_MINUS}{size(-count)}"
    for unit, power in (("GB", 9), ("MB", 6), ("kB", 3)):
        if count >= 10**power * 0.9995:
            return f"{_three(count / 10**power)} {unit}"
    return f"{count:.0f} bytes"


def tick_text(text: str) -> str:
    """Return a size or a time for an axis, without trailing zeros."""
    number, unit = text.split(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {unit}"


def ratio(part: float, whole: float) -> str:
    """Return the ratio of a part to the whole, such as ``0.26×``; three decimals below a tenth."""
    return f"{part / whole:.{3 if part / whole < 0.0995 else 2}f}×"


def percent(part: float, whole: float) -> str:
    """Return the change from the whole to the part, as in ``−74%``."""
    return _minus(f"{part / whole - 1:+.0%}")


def signed_percent(part: float | None, whole: float | None) -> str | None:
    """Return a part in percent of the whole's magnitude, with sign and two decimals; None if either is unknown."""
    return None if part is None or not whole else _minus(f"{part / abs(whole):+.2%}")


def step_time(microseconds: float | None) -> str:
    """Return the time of a step."""
    return NOT_MEASURED if microseconds is None else f"{_three(microseconds)} µs"


def seconds(value: float) -> str:
    """Return a duration: seconds below two minutes, minutes below two hours, else hours."""
    for unit, length in (("h", 3600), ("min", 60)):
        if value >= 2 * length:
            return f"{value / length:.1f} {unit}"
    return f"{value:.1f} s"


def _significant(value: float) -> str:
    """Return a number that is not negative with up to three significant digits; below 1e-5 with an exponent."""
    decimals = 2 - math.floor(math.log10(value)) if 0 < value < 1 else 2
    if decimals > _FIXED:
        return f"{value:.3g}"
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".")


def _three(value: float) -> str:
    """Return a positive number with three significant digits and no exponent."""
    decimals = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{min(decimals, 3)}f}"


def _minus(text: str) -> str:
    return f"{_MINUS}{text[1:]}" if text.startswith("-") else text
