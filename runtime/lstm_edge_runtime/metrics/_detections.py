"""F1 of decisions by a threshold: one score for each of K things that are there or not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.metrics._metric import Counts, Estimate, Metric, join
from lstm_edge_runtime.metrics._options import Option, finite, whole
from lstm_edge_runtime.metrics._scores import check_logits

__all__ = ["BACKGROUND", "F1", "THRESHOLD", "Detector", "f1_of"]

Scores = NDArray[np.float64]
Marks = NDArray[np.bool_]

# For probabilities.
DEFAULT = 0.5
THRESHOLD = Option(name="threshold", parse=finite, form="NUMBER")
BACKGROUND = Option(name="background", parse=whole, form="CLASS")
# Rows of two outputs that add up to 1 this closely are probabilities: a softmax in float16 is off by less.
SUMS_TO_ONE = 2e-3


@dataclass(frozen=True, kw_only=True)
class Detector(Metric):
    """What the metrics of detections share: a thing is found where its score is at least ``threshold``.

    The threshold is in the unit of the outputs. None: 0.5, for outputs from 0 to 1 only. ``background`` is for logits
    of exclusive classes: the number of the class in which nothing is there. Every other one is a thing, found where its
    logit is the largest.
    """

    threshold: float | None = None
    background: int | None = None

    def read(self, outputs: Any, targets: Any) -> tuple[Scores, Marks]:
        """Return scores float64 ``[N, K]`` and what is there, bool ``[N, K]``.

        Args:
            outputs: ``[N]``, ``[N, 1]`` or ``[N, K]``, a score for each target. Or ``[N, 2]`` for targets ``[N]``, two
                logits or two probabilities (0 or more, with the sum 1): the score is the probability of 1.
            targets: ``[N]`` or ``[N, K]`` of 0 and 1.

            With ``background`` logits ``[N, K + 1]`` and classes ``[N]``, of which K are things.

        Raises:
            InputError: the shapes do not fit, a target is neither 0 nor 1, none is 1, or ``threshold`` is None and an
                output is not between 0 and 1.
        """
        if self.background is not None:
            return self._of_classes(np.asarray(outputs), np.asarray(targets), self.background)
        there = np.asarray(targets)
        there = there[:, np.newaxis] if there.ndim == 1 else there
        scores = np.asarray(outputs, np.float64)
        scores = scores[:, np.newaxis] if scores.ndim == 1 else scores
        if scores.ndim == 2 and scores.shape[1] == 2 and there.shape[1:] == (1,):
            scores = _of_two(scores)
        if scores.ndim != 2 or scores.shape != there.shape or not scores.size:
            raise InputError(
                f"metric {self.name}: got outputs {list(np.shape(outputs))} for targets {list(np.shape(targets))}, "
                "expected one score for each target, or two logits for each target that is 0 or 1; logits of more "
                "classes need background=CLASS, the class in which nothing is there"
            )
        if not np.isin(there, (0, 1)).all():
            wrong = there[~np.isin(there, (0, 1))].reshape(-1)[0]
            raise InputError(f"metric {self.name}: a target is {wrong:g}, expected 0 (not there) or 1 (there)")
        if not there.any():
            raise InputError(f"metric {self.name}: no target is 1, so there is nothing to find; expected some")
        low, high = float(scores.min()), float(scores.max())
        if self.threshold is None and not 0 <= low <= high <= 1:
            raise InputError(
                f"metric {self.name}: the outputs go from {low:.4g} to {high:.4g}, expected probabilities from 0 to 1, "
                f"or a threshold in the outputs' unit, such as {self.name.partition(':')[0]}:threshold=0 for logits"
            )
        return scores, there.astype(np.bool_)

    def found(self, scores: Scores) -> Marks:
        """Return where the scores reach the threshold, in their shape."""
        if self.background is not None:
            return scores > 0
        marks: Marks = scores >= (DEFAULT if self.threshold is None else self.threshold)
        return marks

    def _of_classes(self, outputs: Array, targets: Array, background: int) -> tuple[Scores, Marks]:
        """Return the probability of each class except the background where it is the largest, else 0; and the marks."""
        check_logits(outputs, targets)
        classes = outputs.shape[1]
        if self.threshold is not None or background >= classes:
            got = "has a threshold too" if self.threshold is not None else f"the model has {classes} classes"
            expected = "only one of them" if self.threshold is not None else f"a class from 0 to {classes - 1}"
            raise InputError(f"metric {self.name}: background is {background}, but {got}; expected {expected}")
        things = np.delete(np.arange(classes), background)
        if not np.isin(targets, things).any():
            raise InputError(f"metric {self.name}: all targets are {background}, the background; expected some others")
        shifted = outputs.astype(np.float64) - outputs.max(axis=1, keepdims=True)
        largest = outputs.argmax(axis=1)[:, np.newaxis] == things
        scores = np.where(largest, 1 / np.exp(shifted).sum(axis=1, keepdims=True), 0.0)
        return scores, targets[:, np.newaxis] == things

    def estimate_sequences(
        self, outputs: Sequence[Array], targets: Sequence[Array], *, per_step: bool = True
    ) -> Estimate:
        """Measure one output of a model; see ``Metric.estimate_sequences``."""
        return self.estimate(*join(outputs, targets, per_step=per_step))


def _of_two(outputs: Scores) -> Scores:
    """Return the probability of the second of two classes, float64 ``[N, 1]`` from ``[N, 2]``."""
    if (outputs >= 0).all() and (np.abs(outputs.sum(axis=1) - 1) <= SUMS_TO_ONE).all():
        return outputs[:, 1:]
    with np.errstate(over="ignore"):
        probability: Scores = 1 / (1 + np.exp(outputs[:, :1] - outputs[:, 1:]))
    return probability


def f1_of(sums: Scores) -> Scores:
    """Return F1, ``2 hits / (2 hits + false alarms + misses)``, ``[...]`` from ``[..., 3]``; NaN if all three are 0."""
    hits, alarms, misses = np.moveaxis(sums, -1, 0)
    total = 2 * hits + alarms + misses
    scores: Scores = np.divide(2 * hits, total, out=np.full_like(total, np.nan), where=total > 0)
    return scores


@dataclass(frozen=True, kw_only=True)
class F1(Detector):
    """F1 of what is there, as scikit-learn's ``f1_score``; of several things the counts are added up ("micro")."""

    options: ClassVar[tuple[Option, ...]] = (THRESHOLD, BACKGROUND)

    def estimate(self, outputs: Any, targets: Any, units: NDArray[np.int64] | None = None) -> Counts:
        """Count hits, false alarms and misses by unit; see ``Detector.read`` and ``Metric.estimate``."""
        scores, there = self.read(outputs, targets)
        found = self.found(scores)
        marks = (found & there, found & ~there, ~found & there)
        counts = np.stack([mark.sum(axis=1) for mark in marks], axis=1).astype(np.float64)
        if units is not None:
            counts = np.stack([np.bincount(units, column).astype(np.float64) for column in counts.T], axis=1)
        return Counts(counts=counts, finish=f1_of)
