"""What `lstm-edge select` was asked for, and how lists and limits are written."""

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from lstm_edge.training import TrainingOptions
from lstm_edge_runtime.errors import InputError

__all__ = ["Architecture", "Limits", "SelectionSettings", "Split", "parse_amount", "parse_sizes"]

Split = Literal["stratified", "grouped", "time", "plain"]

_AMOUNT = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<suffix>[kM]?)", re.ASCII)
_FACTORS = {"": 1.0, "k": 1e3, "M": 1e6}


@dataclass(frozen=True, kw_only=True, order=True)
class Architecture:
    """The sizes of one candidate."""

    hidden: int
    layers: int

    def __str__(self) -> str:
        return f"{self.hidden} x {self.layers}"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a model may take on the device: bytes of its int8 file, microseconds of a step; None is no limit."""

    max_bytes: float | None = None
    max_step_us: float | None = None

    def __str__(self) -> str:
        parts = [] if self.max_bytes is None else [f"{self.max_bytes:,.0f} bytes"]
        parts += [] if self.max_step_us is None else [f"{self.max_step_us:g} µs a step"]
        return " and ".join(parts) or "none"


@dataclass(frozen=True, kw_only=True)
class SelectionSettings:
    """Which candidates are compared, and how.

    Attributes:
        hidden: hidden sizes, each with each of ``layers``.
        layers: numbers of layers.
        folds: parts of the cross-validation, 2 or more.
        split: how sequences are put into folds; None takes what the data ask for (see ``folds.choose_split``).
        metric: a name from ``lstm_edge_runtime.metrics``; None: ``accuracy`` for classes, ``mean-squared-error``.
        seed: of the folds and of every training.
        model: further fields of the model's configuration, the same for all candidates.
        options: how each model is trained.

    Raises:
        InputError: a value is out of its range, or a size is given twice.
    """

    hidden: tuple[int, ...]
    layers: tuple[int, ...] = (1,)
    folds: int = 5
    split: Split | None = None
    metric: str | None = None
    seed: int = 0
    model: dict[str, Any] = field(default_factory=dict)
    options: TrainingOptions = field(default_factory=TrainingOptions)

    def __post_init__(self) -> None:
        for name in ("hidden", "layers"):
            sizes = getattr(self, name)
            if not sizes or min(sizes) < 1 or len(set(sizes)) != len(sizes):
                raise InputError(f"select: {name} is {sizes}, expected sizes of 1 or more, none twice")
        if self.folds < 2:
            raise InputError(f"select: folds is {self.folds}, expected 2 or more")
        # scikit-learn takes no larger seed.
        if not 0 <= self.seed < 2**32:
            raise InputError(f"select: seed is {self.seed}, expected an integer from 0 to 2^32 - 1")

    @property
    def architectures(self) -> tuple[Architecture, ...]:
        """All candidates, small hidden sizes first."""
        return tuple(sorted(Architecture(hidden=h, layers=n) for h in self.hidden for n in self.layers))


def parse_sizes(name: str, text: str) -> tuple[int, ...]:
    """Read ``16,32,64``.

    Raises:
        InputError: a part is no integer.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
        raise InputError(f"{name} is {text!r}, expected integers with commas between them, such as 16,32,64")
    return tuple(int(part) for part in parts)


def parse_amount(name: str, text: str) -> float:
    """Read ``100k`` (100,000), ``1.5M`` (1,500,000) or ``50``.

    Raises:
        InputError: the text is none of these, or not above 0.
    """
    match = _AMOUNT.fullmatch(text.strip())
    value = float(match["number"]) * _FACTORS[match["suffix"]] if match else 0.0
    if not 0 < value < float("inf"):
        raise InputError(f"{name} is {text!r}, expected a number above 0, such as 50, 100k (100,000) or 1.5M")
    return value
