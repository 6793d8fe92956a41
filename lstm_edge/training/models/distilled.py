"""The record of a distillation in a model's configuration."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lstm_edge_runtime.errors import InputError

__all__ = ["HIGHEST_TEMPERATURE", "LOWEST_TEMPERATURE", "Distilled", "check_alpha", "check_temperature"]

# Logits that differ by d differ by d / temperature in the softmax. At 1000 the smallest differences that count are
# still above the rounding of float32; below 0.01 a softmax is a maximum.
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.01, 1000.0


@dataclass(frozen=True, kw_only=True)
class Distilled:
    """What a model learned from, besides the labels.

    Attributes:
        teacher: SHA-256 of the teacher's checkpoint, 64 hexadecimal digits.
        temperature: divisor of both models' logits.
        alpha: share of the teacher in the loss.

    Raises:
        InputError: a value has the wrong type or is out of its range.
    """

    teacher: str
    temperature: float
    alpha: float

    def __post_init__(self) -> None:
        if not isinstance(self.teacher, str) or re.fullmatch("[0-9a-f]{64}", self.teacher) is None:
            raise InputError(f"distillation: teacher is {self.teacher!r}, expected a SHA-256 of 64 hexadecimal digits")
        check_temperature(self.temperature)
        check_alpha(self.alpha)

    def __str__(self) -> str:
        return f"teacher {self.teacher[:12]}, temperature {self.temperature:g}, alpha {self.alpha:g}"

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> "Distilled":
        """Build the record from the result of ``to_json``.

        Raises:
            InputError: it is not an object with these keys, or a value is not allowed.
        """
        if not isinstance(values, Mapping) or set(values) != {"teacher", "temperature", "alpha"}:
            raise InputError(f"distillation: got {values!r}, expected an object with teacher, temperature, alpha")
        return cls(**values)


def check_temperature(value: Any) -> None:
    """Require a temperature from 0.01 to 1000.

    Raises:
        InputError: it is something else.
    """
    if not _is_number(value) or not LOWEST_TEMPERATURE <= value <= HIGHEST_TEMPERATURE:
        raise InputError(
            f"distillation: temperature is {value!r}, expected a number from {LOWEST_TEMPERATURE:g} to "
            f"{HIGHEST_TEMPERATURE:g}"
        )


def check_alpha(value: Any) -> None:
    """Require a share from 0 to 1.

    Raises:
        InputError: it is something else.
    """
    if not _is_number(value) or not 0 <= value <= 1:
        raise InputError(f"distillation: alpha is {value!r}, expected a share from 0 (labels only) to 1 (teacher only)")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
