"""The options of a metric, as text behind its name: ``event-f1:3,threshold=0.8``."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lstm_edge_runtime.errors import InputError

__all__ = ["OUTPUT", "Option", "finite", "one_of", "read_options", "whole"]


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option: its name, which is that of the metric's field, and its form in messages.

    ``parse`` reads the text of a value and raises ValueError if it is none.
    """

    name: str
    form: str
    parse: Callable[[str], Any]

    def __str__(self) -> str:
        return f"{self.name}={self.form}"


def one_of(*words: str) -> Callable[[str], str]:
    """Return a function that reads one of some words."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(text)
        return text

    return parse


def finite(text: str) -> float:
    """Read a finite number."""
    number = float(text)
    if not math.isfinite(number) or not text.isascii():
        raise ValueError(text)
    return number


def whole(text: str) -> int:
    """Read a number of steps, 0 or more."""
    if not (text.isascii() and text.isdecimal()) or len(text) > 9:
        raise ValueError(text)
    return int(text)


# Every metric has it. The name of an output is the rest of the text: it may contain any character.
OUTPUT = Option(name="output", parse=str, form="NAME")


def read_options(metric: str, text: str, options: Sequence[Option]) -> dict[str, Any]:
    """Read ``OPTION[,OPTION...]``: values by name.

    Args:
        metric: the whole text, for messages.
        text: what is behind the metric's name and its colon.
        options: those of the metric; the first may be given by its value alone, as the first of the text.

    Raises:
        InputError: an option does not exist, is given twice, or has no such value.
    """
    values: dict[str, Any] = {}
    known = {option.name: option for option in (*options, OUTPUT)}
    items = text.split(",")
    names = [place for place, item in enumerate(items) if item.startswith("output=")]
    if names:
        items = [*items[: names[0]], ",".join(items[names[0] :])]
    for item in items:
        key, equals, value = item.partition("=")
        if not equals and options and not values:
            key, value = options[0].name, item
        try:
            if key in values or key not in known or not value:
                raise ValueError(item)
            values[key] = known[key].parse(value)
        except ValueError as error:
            raise _refusal(metric, item, known, again=key in values) from error
    return values


def _refusal(metric: str, item: str, known: dict[str, Option], *, again: bool) -> InputError:
    base = metric.partition(":")[0]
    expected = ", ".join(map(str, known.values()))
    got = f"option {item!r} is given twice" if again else f"{item!r} is not an option of {base}"
    return InputError(f"metric {metric}: {got}; expected {expected}")
