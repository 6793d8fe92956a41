"""Axes of a drawing: mapping of values to pixels, and ticks at round numbers; for the HTML report and the plots."""

import math
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Axis", "Tick", "linear_axis", "log_axis"]

# Leading digits of the step between ticks.
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
# Ticks of a logarithmic axis: the coarsest set with at least four of them in the range is taken.
_LOG_DIGITS = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9))


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A tick: its value, its position in pixels and its text."""

    value: float
    at: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Values from ``low`` to ``high`` on pixels from ``start`` to ``end``; ``start`` may be the larger of the two."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False
    ticks: tuple[Tick, ...] = ()

    def at(self, value: float) -> float:
        """Return a value's position in pixels, clipped to the axis."""
        inside = min(max(value, self.low), self.high)
        low, high = self._scaled(self.low), self._scaled(self.high)
        return round(self.start + (self._scaled(inside) - low) / (high - low) * (self.end - self.start), 1)

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value


def linear_axis(
    low: float, high: float, start: float, end: float, *, count: int, text: Callable[[float, int], str]
) -> Axis:
    """Return an axis with about ``count`` round ticks; ``text(value, decimals)`` formats a tick."""
    if high <= low:
        low, high = low - 1.0, high + 1.0
    step = _step(high - low, count)
    decimals = next(d for d in range(400) if math.isclose(step * 10**d, round(step * 10**d), rel_tol=1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    axis = Axis(low=low, high=high, start=start, end=end)
    values = (k * step for k in range(first, last + 1))
    ticks = tuple(Tick(value=value, at=axis.at(value), text=text(value, decimals)) for value in values)
    return Axis(low=low, high=high, start=start, end=end, ticks=ticks)


def log_axis(
    low: float,
    high: float,
    start: float,
    end: float,
    *,
    count: int,
    text: Callable[[float], str],
    character: float = 0.0,
) -> Axis:
    """Return a logarithmic axis with up to ``count`` ticks at round numbers; ``low`` is positive.

    ``character``: width of a character in pixels. Texts of ticks are at least one character apart.
    """
    axis = Axis(low=low, high=high, start=start, end=end, logarithmic=True)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for digits in _LOG_DIGITS:
        finer = sorted(
            digit * 10.0**power for power in powers for digit in digits if low <= digit * 10.0**power <= high
        )
        if len(finer) > count and found:
            break
        found = finer
        if len(found) >= 4:
            break
    if len(found) < 2:
        # The range is shorter than the distance of two such numbers. A step of a fifth of it has at least two ticks.
        linear = linear_axis(low, high, start, end, count=max(count, 5), text=lambda value, _decimals: text(value))
        found = [tick.value for tick in linear.ticks]
    while len(found) > count:
        found = found[::2]
    kept: list[float] = []
    for value in sorted(found, key=_digits):
        if all(_apart(axis, value, other, character, text) for other in kept):
            kept.append(value)
    ticks = tuple(Tick(value=value, at=axis.at(value), text=text(value)) for value in sorted(kept))
    return Axis(low=low, high=high, start=start, end=end, logarithmic=True, ticks=ticks)


def _apart(axis: Axis, one: float, other: float, character: float, text: Callable[[float], str]) -> bool:
    letters = 1 + (len(text(one)) + len(text(other))) / 2
    return abs(axis.at(one) - axis.at(other)) >= character * letters


def _digits(value: float) -> tuple[int, float]:
    """Return a sort key: numbers of few digits first, 10 before 20 before 15."""
    digits = f"{value:.6e}".split("e")[0].rstrip("0").rstrip(".")
    return len(digits), float(digits)


def _step(span: float, count: int) -> float:
    power = 10.0 ** math.floor(math.log10(span / count))
    return next(digit * power for digit in _STEPS if span / (digit * power) <= count)
