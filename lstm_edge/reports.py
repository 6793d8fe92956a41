"""Budgets, and the report of a validation. Imports NumPy and the runtime package only: it runs on the device.

A budget is text. ``0.5pt`` is absolute, in points of the metric: for accuracy percentage points, so 0.005 of the
share; for every other metric a point is one of its own unit (``0.02pt`` of cross-entropy is 0.02 nats). ``0.5%`` is
relative: of the reference's value.
"""

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any

from lstm_edge_runtime.errors import BudgetError, InputError
from lstm_edge_runtime.metrics import Metric

__all__ = ["Budget", "ValidationReport", "parse_budget"]

_BUDGET = re.compile(r"(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?)\s*(?P<kind>pt|%)", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much worse a candidate may be: ``amount`` percent of the reference (``relative``), or points."""

    amount: float
    relative: bool

    def __str__(self) -> str:
        return f"{self.amount:g}{'%' if self.relative else 'pt'}"

    def allowed(self, metric: Metric, reference: float) -> float:
        """Return the allowed drop in the metric's unit, for the reference's value of the metric."""
        return self.amount / 100 * abs(reference) if self.relative else self.amount * metric.point


@dataclass(frozen=True, kw_only=True)
class ValidationReport:
    """What ``validate`` found.

    ``reference``, ``candidate``: the metric's values; ``drop``: how much worse the candidate is, ``max_drop`` how much
    it may be, both in the metric's ``unit``, negative when it is better. ``budget`` is the budget as text.
    ``agreement``: share of samples with the same decision, None for metrics that decide nothing. The differences are
    over all output values; ``snr_db`` is infinite when the outputs are equal. ``drop_bound`` is the upper bound of
    the drop at ``confidence``, both None when the estimate decided. Sizes are those of the files, in bytes.
    ``samples_are`` says what was counted as a sample: sequences, or tokens of a text.
    """

    metric: str
    unit: str
    data: str
    samples: int
    reference: float
    candidate: float
    drop: float
    budget: str
    max_drop: float
    passed: bool
    confidence: float | None
    drop_bound: float | None
    seed: int
    agreement: float | None
    max_abs_difference: float
    mean_abs_difference: float
    snr_db: float
    reference_bytes: int
    candidate_bytes: int
    samples_are: str = "sequences"

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values; an infinite ``snr_db`` is null, as JSON has no infinity."""
        values = dataclasses.asdict(self)
        return values | {"snr_db": self.snr_db if math.isfinite(self.snr_db) else None}

    def rows(self) -> list[tuple[str, str]]:
        """Return the report as the rows of a table."""
        bound = (
            [] if self.drop_bound is None else [(f"drop, bound at {self.confidence:g}", self._value(self.drop_bound))]
        )
        agree = [] if self.agreement is None else [("agreement of decisions", f"{self.agreement:.2%}")]
        return [
            ("validated on", f"{self.data}, {self.samples:,} {self.samples_are}"),
            (f"{self.metric}, reference", self._value(self.reference)),
            (f"{self.metric}, candidate", self._value(self.candidate)),
            ("drop", self._value(self.drop)),
            *bound,
            (f"allowed drop ({self.budget})", self._value(self.max_drop)),
            ("verdict", "passed" if self.passed else "BUDGET BROKEN"),
            *agree,
            ("output difference, worst / mean", f"{self.max_abs_difference:.3g} / {self.mean_abs_difference:.3g}"),
            ("signal to noise", f"{self.snr_db:.1f} dB"),
            ("model size, reference / candidate", f"{self.reference_bytes:,} / {self.candidate_bytes:,} bytes"),
        ]

    def _value(self, value: float) -> str:
        """Return a value of the metric for people: a share in percent, anything else with its unit."""
        return f"{value:.2%}" if self.unit == "share" else f"{value:.4g} {self.unit}".rstrip()

    def check(self) -> None:
        """Raise when the budget is broken.

        Raises:
            BudgetError: ``passed`` is false; the message has the figures.
        """
        if self.passed:
            return
        bound = "" if self.drop_bound is None else f" (at most {self.drop_bound:.4g} at confidence {self.confidence:g})"
        raise BudgetError(
            f"budget broken: {self.metric} goes from {self.reference:.6g} to {self.candidate:.6g}, "
            f"a drop of {self.drop:.4g}{bound}; allowed is {self.max_drop:.4g} ({self.budget})"
        )


def parse_budget(text: str) -> Budget:
    """Read ``0.5pt`` or ``0.5%``.

    Raises:
        InputError: the text is neither.
    """
    match = _BUDGET.fullmatch(text.strip())
    amount = float(match["number"]) if match else math.nan
    if match is None or not math.isfinite(amount):
        raise InputError(
            f"budget {text!r}: expected a number, 0 or more, and a unit: "
            "0.5pt (points of the metric) or 0.5% (of the reference's value)"
        )
    return Budget(amount=amount, relative=match["kind"] == "%")
