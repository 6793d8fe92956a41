"""The choice among the candidates, and its report: table, JSON."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstm_edge.training.selection.settings import Architecture, Limits
from lstm_edge.validation.figures import difference_text
from lstm_edge_runtime.errors import BudgetError
from lstm_edge_runtime.metrics import Metric, get_metric

__all__ = ["Candidate", "SelectionReport", "check_limits", "choose"]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One architecture: cost and scores.

    ``scores``: the metric of each fold; ``mean`` and ``standard_error`` (sample deviation over the root of the number
    of folds) are theirs. Folds share training data, so the standard error is a guide, not a confidence bound.
    """

    architecture: Architecture
    parameters: int
    int8_bytes: int
    step_us: float
    streamed: bool
    within_limits: bool
    scores: tuple[float, ...] = ()

    @property
    def mean(self) -> float:
        """The mean of the folds' scores."""
        return float(np.mean(self.scores))

    @property
    def standard_error(self) -> float:
        """The standard error of ``mean``."""
        return float(np.std(self.scores, ddof=1)) / math.sqrt(len(self.scores))


@dataclass(frozen=True, kw_only=True)
class SelectionReport:
    """What ``select`` found; ``best`` has the best mean within the limits; ``chosen`` is the smallest near it."""

    data: str
    samples: int
    task: str
    metric: str
    split: str
    folds: int
    seed: int
    limits: Limits
    study: str
    best: Architecture
    chosen: Architecture
    candidates: tuple[Candidate, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        values = dataclasses.asdict(self)
        values["candidates"] = [
            value | value.pop("architecture") | {"mean": candidate.mean, "standard_error": candidate.standard_error}
            for candidate, value in zip(self.candidates, values["candidates"], strict=True)
        ]
        return values

    def columns(self) -> tuple[str, ...]:
        """Return the heads of the table's columns; it fits 80 characters."""
        step = "µs/step" if all(candidate.streamed for candidate in self.candidates) else "µs/step*"
        return ("hidden x layers", _short(self.metric), "std. err.", "parameters", "int8 bytes", step, "")

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table's rows."""
        metric = get_metric(self.metric)
        return [
            (
                str(candidate.architecture),
                _value(metric, candidate.mean),
                difference_text(candidate.standard_error, metric.unit),
                f"{candidate.parameters:,}",
                f"{candidate.int8_bytes:,}",
                f"{candidate.step_us:.1f}",
                self._note(candidate),
            )
            for candidate in self.candidates
        ]

    def sentence(self) -> str:
        """Return the choice and its reason, in two lines of at most 80 characters."""
        return (
            f"chosen: {self.chosen}, the smallest file within one standard error of the best, {self.best}\n"
            f"limits: {self.limits}"
        )

    def _note(self, candidate: Candidate) -> str:
        if candidate.architecture == self.chosen:
            return "chosen"
        if not candidate.within_limits:
            return "too big" if _too_big(candidate, self.limits) else "too slow"
        return "best" if candidate.architecture == self.best else ""


def check_limits(candidates: Sequence[Candidate], limits: Limits) -> None:
    """Refuse limits that no candidate meets, before any training.

    Raises:
        BudgetError: no candidate meets the limits; the message has the smallest and the fastest one.
    """
    if any(candidate.within_limits for candidate in candidates):
        return
    small = min(candidates, key=lambda candidate: candidate.int8_bytes)
    fast = min(candidates, key=lambda candidate: candidate.step_us)
    raise BudgetError(
        f"select: no candidate is within the limits ({limits}): the smallest, {small.architecture}, has "
        f"{small.int8_bytes:,} bytes, the fastest, {fast.architecture}, takes {fast.step_us:.1f} µs a step. "
        "Nothing was written"
    )


def choose(candidates: Sequence[Candidate], metric: Metric) -> tuple[Candidate, Candidate]:
    """Return the best candidate within the limits, and the smallest within one standard error of it.

    The rule of one standard error: Breiman, Friedman, Olshen and Stone, Classification and Regression Trees, 1984,
    section 3.4.3. The standard error is that of the best candidate; "smallest" means the bytes of the int8 file.

    Args:
        candidates: candidates with scores; at least one is within the limits.
        metric: says whether more is better.
    """
    allowed = [candidate for candidate in candidates if candidate.within_limits]
    sign = 1.0 if metric.more_is_better else -1.0
    best = min(allowed, key=lambda candidate: (-sign * candidate.mean, candidate.int8_bytes))
    # Means are rounded sums in float64; a candidate exactly one standard error away counts as within.
    least = sign * best.mean - best.standard_error - 1e-12 * max(1.0, abs(best.mean))
    near = [candidate for candidate in allowed if sign * candidate.mean >= least]
    return best, min(near, key=lambda candidate: (candidate.int8_bytes, candidate.architecture.order))


def _too_big(candidate: Candidate, limits: Limits) -> bool:
    return limits.max_bytes is not None and candidate.int8_bytes > limits.max_bytes


def _value(metric: Metric, value: float) -> str:
    return f"{value:.2%}" if metric.unit == "share" else f"{value:.4g}"


def _short(metric: str) -> str:
    return {"mean-squared-error": "sq. error", "mean-absolute-error": "abs. error", "cross-entropy": "nats"}.get(
        metric, metric
    )
