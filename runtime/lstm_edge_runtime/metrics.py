"""The metrics that a model is judged by, and the differences between two models' outputs. NumPy only.

Every metric is a mean over per-sample scores, computed in float64 (perplexity is the exponential of one), so that a
paired bootstrap over samples needs nothing but the scores. N samples, C classes, K targets.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lstm_edge_runtime.errors import InputError

__all__ = [
    "METRICS",
    "Metric",
    "agreement",
    "get_metric",
    "max_abs_difference",
    "mean_abs_difference",
    "snr_db",
]

Scores = NDArray[np.float64]
Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric of a task: the mean of one score for each sample, or what ``finish`` makes of that mean.

    ``unit`` names what a score is measured in. ``point`` is the size of one point (``pt``) of a budget in that unit:
    0.01 for a share, where a point is a percentage point, and 1 for every other unit. ``target`` says what the metric
    compares outputs with: classes (int64 ``[N]``), values (float32 ``[N]`` or ``[N, K]``), or the next tokens of a
    text (int64 ``[N]``, N tokens). ``per_sample(outputs, targets)`` returns float64 ``[N]``. ``finish`` takes float64
    means of any shape.
    """

    name: str
    more_is_better: bool
    unit: str
    point: float
    target: Literal["class", "value", "token"]
    per_sample: Callable[[Array, Array], Scores]
    finish: Callable[[Any], Any] = field(default=lambda mean: mean)

    def __call__(self, outputs: Array, targets: Array) -> float:
        """Return the metric: ``finish`` of the mean of the per-sample scores."""
        return float(self.finish(np.mean(self.per_sample(outputs, targets))))

    def losses(self, reference: Scores, candidate: Scores) -> Scores:
        """Return how much worse the candidate is for each sample, float64 ``[N]``; negative where it is better."""
        return reference - candidate if self.more_is_better else candidate - reference


def agreement(reference: Array, candidate: Array) -> float:
    """Return the share of samples for which two models decide for the same class; both ``[N, C]``.

    Raises:
        InputError: the shapes differ, or are not ``[N, C]``.
    """
    _check_pair(reference, candidate)
    _check_logits(reference, np.zeros(len(reference), dtype=np.int64))
    return float(np.mean(reference.argmax(axis=1) == candidate.argmax(axis=1)))


def max_abs_difference(reference: Array, candidate: Array) -> float:
    """Return the worst absolute difference of two outputs of equal shape.

    Raises:
        InputError: the shapes differ.
    """
    _check_pair(reference, candidate)
    return float(np.abs(_wide(candidate) - _wide(reference)).max())


def mean_abs_difference(reference: Array, candidate: Array) -> float:
    """Return the mean absolute difference of two outputs of equal shape.

    Raises:
        InputError: the shapes differ.
    """
    _check_pair(reference, candidate)
    return float(np.abs(_wide(candidate) - _wide(reference)).mean())


def snr_db(reference: Array, candidate: Array) -> float:
    """Return the signal-to-noise ratio in dB: ``10 log10(sum(reference²) / sum((candidate - reference)²))``.

    Infinite when the outputs are equal; minus infinity when only the reference is all zeros.

    Raises:
        InputError: the shapes differ.
    """
    _check_pair(reference, candidate)
    signal = float(np.sum(np.square(_wide(reference))))
    noise = float(np.sum(np.square(_wide(candidate) - _wide(reference))))
    if noise == 0.0:
        return math.inf
    return 10.0 * math.log10(signal / noise) if signal > 0.0 else -math.inf


def get_metric(name: str) -> Metric:
    """Return the metric of that name.

    Raises:
        InputError: there is none; the message lists the names.
    """
    if name not in METRICS:
        raise InputError(f"metric {name!r}: unknown; expected one of {', '.join(METRICS)}")
    return METRICS[name]


def _accuracy(outputs: Array, targets: Array) -> Scores:
    _check_logits(outputs, targets)
    correct: Scores = (outputs.argmax(axis=1) == targets).astype(np.float64)
    return correct


def _cross_entropy(outputs: Array, targets: Array) -> Scores:
    _check_logits(outputs, targets)
    logits = _wide(outputs)
    shifted = logits - logits.max(axis=1, keepdims=True)  # so that exp cannot overflow
    scores: Scores = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(targets)), targets]
    return scores


def _bits(outputs: Array, targets: Array) -> Scores:
    bits: Scores = _cross_entropy(outputs, targets) / math.log(2.0)
    return bits


def _squared_error(outputs: Array, targets: Array) -> Scores:
    return _per_row(np.square(_value_difference(outputs, targets)))


def _absolute_error(outputs: Array, targets: Array) -> Scores:
    return _per_row(np.abs(_value_difference(outputs, targets)))


def _value_difference(outputs: Array, targets: Array) -> Scores:
    if targets.ndim == 1 and outputs.ndim == 2 and outputs.shape[1] == 1:
        targets = targets[:, np.newaxis]
    _check_pair(targets, outputs)
    return _wide(outputs) - _wide(targets)


def _per_row(values: Scores) -> Scores:
    rows: Scores = values.reshape(len(values), -1).mean(axis=1)
    return rows


def _wide(values: Array) -> Scores:
    return values.astype(np.float64)


def _check_pair(reference: Array, candidate: Array) -> None:
    if reference.shape != candidate.shape or reference.size == 0:
        raise InputError(
            f"metric: got shapes {list(reference.shape)} and {list(candidate.shape)}, "
            "expected two equal ones with at least one element"
        )


def _check_logits(outputs: Array, targets: Array) -> None:
    if outputs.ndim != 2 or outputs.size == 0 or targets.shape != outputs.shape[:1]:
        raise InputError(
            f"metric: got outputs {list(outputs.shape)} and classes {list(targets.shape)}, "
            "expected logits [samples, classes] and one class for each sample"
        )
    if targets.dtype.kind not in "iu":
        raise InputError(f"metric: the classes are {targets.dtype}, expected integers")
    if targets.min() < 0 or targets.max() >= outputs.shape[1]:
        raise InputError(
            f"metric: the classes go from {targets.min()} to {targets.max()}, "
            f"but the model has {outputs.shape[1]} outputs: expected 0 to {outputs.shape[1] - 1}"
        )


def _all(*metrics: Metric) -> Mapping[str, Metric]:
    return MappingProxyType({metric.name: metric for metric in metrics})


METRICS = _all(
    Metric(name="accuracy", more_is_better=True, unit="share", point=0.01, target="class", per_sample=_accuracy),
    Metric(
        name="cross-entropy", more_is_better=False, unit="nats", point=1.0, target="class", per_sample=_cross_entropy
    ),
    Metric(
        name="mean-squared-error",
        more_is_better=False,
        unit="squared units of the output",
        point=1.0,
        target="value",
        per_sample=_squared_error,
    ),
    Metric(
        name="mean-absolute-error",
        more_is_better=False,
        unit="units of the output",
        point=1.0,
        target="value",
        per_sample=_absolute_error,
    ),
    Metric(
        name="perplexity",
        more_is_better=False,
        unit="",
        point=1.0,
        target="token",
        per_sample=_cross_entropy,
        finish=np.exp,
    ),
    # Of a text where each token is a character; who knows that a text has fewer tokens than characters rescales.
    Metric(name="bits-per-character", more_is_better=False, unit="bits", point=1.0, target="token", per_sample=_bits),
)
