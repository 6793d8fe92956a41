"""Macro F1 and the area under the ROC curve: metrics of classes that are not means over samples."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.metrics._metric import RESAMPLES, Counts, Metric, weights
from lstm_edge_runtime.metrics._scores import check_logits, log_odds

__all__ = ["Auc", "MacroF1"]

Scores = NDArray[np.float64]
Units = NDArray[np.int64]

# Scores that are weighed in all resamples of an area together: about 10 s on one core. Fewer resamples than these
# would make the ends of a 95 % interval move by more than a tenth of its width between seeds.
_AREA_SCORES = 1_000_000_000
_LEAST_RESAMPLES = 1_000


@dataclass(frozen=True, kw_only=True)
class MacroF1(Metric):
    """The mean over classes of F1, ``2 tp / (2 tp + fp + fn)``, the harmonic mean of precision and recall.

    The mean is over the classes that occur, as a target or as a decision, as scikit-learn's ``f1_score`` with
    ``average="macro"`` has it.
    """

    def estimate(self, outputs: Any, targets: Any, units: Units | None = None) -> Counts:
        """Count hits, false alarms and misses of each class by unit; see ``Metric.estimate``."""
        check_logits(outputs, targets)
        decided = outputs.argmax(axis=1)
        known, classes = np.unique(np.concatenate([targets, decided]), return_inverse=True)
        right, wrong = classes[: len(targets)], classes[len(targets) :]
        places = (np.arange(len(targets)) if units is None else units) * len(known)
        rows, hit = int(places.max()) // len(known) + 1, right == wrong

        def count(picked: NDArray[np.int64]) -> Scores:
            return np.bincount(picked, minlength=rows * len(known)).reshape(rows, len(known)).astype(np.float64)

        hits, alarms = count((places + right)[hit]), count((places + wrong)[~hit])
        misses = count((places + right)[~hit])
        return Counts(counts=np.concatenate([hits, alarms, misses], axis=1), finish=_macro_f1)


def _macro_f1(sums: Scores) -> Scores:
    hits, alarms, misses = np.split(sums, 3, axis=-1)
    total = 2 * hits + alarms + misses
    scores = np.divide(2 * hits, total, out=np.zeros_like(total), where=total > 0)
    means: Scores = scores.sum(axis=-1) / (total > 0).sum(axis=-1)
    return means


@dataclass(frozen=True, kw_only=True)
class Auc(Metric):
    """The area under the ROC curve: how often a sample of a class is scored above one that is not, ties half.

    (Mann and Whitney's U over the number of pairs.) Two classes have one area; of more, each is held against the rest,
    scored by its softmax probability, and the areas of the classes that occur are averaged, none counting more.
    """

    def estimate(self, outputs: Any, targets: Any, units: Units | None = None) -> "Areas":
        """Rank the samples by each class's probability; see ``Metric.estimate``."""
        check_logits(outputs, targets)
        known = np.unique(targets)
        if len(known) < 2:
            raise InputError(
                f"metric {self.name}: all {len(targets)} samples are of class {known[0]}, expected samples of two "
                "classes or more"
            )
        # Of two classes both areas are the same: the one's probability is what the other's lacks.
        scored = log_odds(outputs)
        classes = known[1:] if outputs.shape[1] == 2 else known
        own = np.arange(len(targets)) if units is None else units
        return Areas(
            rankings=tuple(_rank(scored[:, number], targets == number, own) for number in classes),
            units=int(own.max()) + 1,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Ranking:
    """Samples sorted by score, lowest first.

    ``unit`` int64 ``[N]``; ``negative`` bool ``[N]``; of the P positive ones int64 ``[P]`` their unit, how many
    samples are below their score, and how many are below it or equal.
    """

    unit: Units
    negative: NDArray[np.bool_]
    positive_unit: Units
    below: Units
    up_to: Units


def _rank(scores: Scores, positive: NDArray[np.bool_], unit: Units) -> _Ranking:
    order = np.argsort(scores, kind="stable")
    ranked, mine = scores[order], positive[order]
    return _Ranking(
        unit=unit[order],
        negative=~mine,
        positive_unit=unit[order][mine],
        below=np.searchsorted(ranked, ranked[mine], side="left"),
        up_to=np.searchsorted(ranked, ranked[mine], side="right"),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Areas:
    """The mean of the areas of some classes, each against the rest; a class that a resample lacks is left out of it.

    A resample of one class alone has no area: NaN.
    """

    rankings: tuple[_Ranking, ...]
    units: int

    @property
    def value(self) -> float:
        """The metric on all samples."""
        return float(self.resample(np.arange(self.units)[np.newaxis])[0])

    @property
    def resamples(self) -> int:
        """At most 10,000, fewer where there are many samples and classes, but 1,000."""
        scores = sum(len(ranking.unit) for ranking in self.rankings)
        return max(_LEAST_RESAMPLES, min(RESAMPLES, _AREA_SCORES // scores))

    def resample(self, drawn: Units) -> Scores:
        """Return the mean area of each resample, float64 ``[R]``."""
        drawn_times = weights(drawn)
        # Few rows at once: each holds a number for every sample.
        rows = max(1, 2_000_000 // len(self.rankings[0].unit))
        parts = [self._resample(drawn_times[start : start + rows]) for start in range(0, len(drawn), rows)]
        return np.concatenate(parts)

    def _resample(self, drawn_times: Scores) -> Scores:
        total, number = np.zeros(len(drawn_times)), np.zeros(len(drawn_times))
        for ranking in self.rankings:
            # Whole and half numbers below 2^53: exact in any order.
            negative = np.zeros((len(drawn_times), len(ranking.unit) + 1))
            np.cumsum(drawn_times[:, ranking.unit] * ranking.negative, axis=1, out=negative[:, 1:])
            positive = drawn_times[:, ranking.positive_unit]
            above = (positive * (negative[:, ranking.below] + negative[:, ranking.up_to])).sum(axis=1) / 2
            pairs = positive.sum(axis=1) * negative[:, -1]
            total += np.divide(above, pairs, out=np.zeros_like(above), where=pairs > 0)
            number += pairs > 0
        return np.divide(total, number, out=np.full_like(total, np.nan), where=number > 0)
