"""The metrics that a model is judged by, and the differences between two models' outputs. NumPy only.

Everything is computed in float64. A metric on samples is an ``Estimate``: its value, and its value on resamples of
their units (sequences, or blocks of a text), which is all that a paired bootstrap needs. N samples, C classes.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.metrics._classes import Auc, MacroF1
from lstm_edge_runtime.metrics._differences import agreement, max_abs_difference, mean_abs_difference, snr_db
from lstm_edge_runtime.metrics._edits import ErrorRate, count_edits
from lstm_edge_runtime.metrics._metric import (
    RESAMPLES,
    Counts,
    Estimate,
    MeanMetric,
    Means,
    Metric,
    Target,
    difference,
)
from lstm_edge_runtime.metrics._scores import (
    absolute_error,
    bits,
    correct,
    cross_entropy,
    same_decision,
    squared_error,
)

__all__ = [
    "METRICS",
    "RESAMPLES",
    "Counts",
    "Estimate",
    "MeanMetric",
    "Means",
    "Metric",
    "Target",
    "agreement",
    "count_edits",
    "cross_entropy",
    "difference",
    "get_metric",
    "max_abs_difference",
    "mean_abs_difference",
    "snr_db",
]


def get_metric(name: str) -> Metric:
    """Return the metric of that name.

    Raises:
        InputError: there is none; the message lists the names.
    """
    if name not in METRICS:
        raise InputError(f"metric {name!r}: unknown; expected one of {', '.join(METRICS)}")
    return METRICS[name]


def _all(*metrics: Metric) -> Mapping[str, Metric]:
    return MappingProxyType({metric.name: metric for metric in metrics})


METRICS = _all(
    MeanMetric(name="accuracy", more_is_better=True, unit="share", point=0.01, target="class", per_sample=correct),
    MeanMetric(
        name="cross-entropy", more_is_better=False, unit="nats", point=1.0, target="class", per_sample=cross_entropy
    ),
    MeanMetric(
        name="mean-squared-error",
        more_is_better=False,
        unit="squared units of the output",
        point=1.0,
        target="value",
        per_sample=squared_error,
    ),
    MeanMetric(
        name="mean-absolute-error",
        more_is_better=False,
        unit="units of the output",
        point=1.0,
        target="value",
        per_sample=absolute_error,
    ),
    MeanMetric(
        name="perplexity",
        more_is_better=False,
        unit="",
        point=1.0,
        target="token",
        per_sample=cross_entropy,
        finish=np.exp,
    ),
    # Of a text where each token is a character; who knows that a text has fewer tokens than characters rescales.
    MeanMetric(
        name="bits-per-character", more_is_better=False, unit="bits", point=1.0, target="token", per_sample=bits
    ),
    MacroF1(name="macro-f1", more_is_better=True, unit="share", point=0.01, target="class"),
    Auc(name="auc", more_is_better=True, unit="share", point=0.01, target="class"),
    MeanMetric(
        name="agreement", more_is_better=True, unit="share", point=0.01, target="reference", per_sample=same_decision
    ),
    ErrorRate(name="word-error-rate", more_is_better=False, unit="share", point=0.01, target="text", part="word"),
    ErrorRate(
        name="character-error-rate", more_is_better=False, unit="share", point=0.01, target="text", part="character"
    ),
)
