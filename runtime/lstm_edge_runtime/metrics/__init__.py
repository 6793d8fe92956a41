"""The metrics that a model is judged by, and the differences between two models' outputs. NumPy only.

Everything is computed in float64. A metric on samples is an ``Estimate``: its value, and its value on resamples of
their units (sequences, or blocks of a text), which is all that a paired bootstrap needs. N samples, C classes.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.metrics._classes import Auc, MacroF1
from lstm_edge_runtime.metrics._correlation import Correlation
from lstm_edge_runtime.metrics._detections import F1
from lstm_edge_runtime.metrics._differences import agreement, max_abs_difference, mean_abs_difference, snr_db
from lstm_edge_runtime.metrics._edits import ErrorRate, count_edits
from lstm_edge_runtime.metrics._events import EventF1
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
from lstm_edge_runtime.metrics._options import read_options
from lstm_edge_runtime.metrics._scores import (
    absolute_error,
    bits,
    correct,
    cross_entropy,
    same_decision,
    squared_error,
)
from lstm_edge_runtime.metrics._signals import LIMIT_DB, SignalRatio, sdr_db, si_sdr_db

__all__ = [
    "LIMIT_DB",
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
    "metric_forms",
    "sdr_db",
    "si_sdr_db",
    "snr_db",
]


def get_metric(text: str) -> Metric:
    """Return a metric with its options: ``NAME``, or ``NAME:OPTION[,OPTION...]``.

    An option is ``KEY=VALUE``. The metric's first one may be its value only: ``f1:0.8`` is ``f1:threshold=0.8``,
    ``event-f1:3,threshold=0.8`` is ``event-f1:tolerance=3,threshold=0.8``. ``output=NAME`` names the output of a model
    that has several. It is the last option, because the name may contain commas. The text becomes the metric's name.

    Raises:
        InputError: there is no such metric, or it has no such option; the message lists what there is.
    """
    name, colon, rest = text.partition(":")
    if name not in METRICS:
        raise InputError(f"metric {text!r}: unknown; expected one of {', '.join(METRICS)}")
    metric = METRICS[name]
    if not colon:
        return metric
    return replace(metric, name=text, **read_options(text, rest, metric.options))


def metric_forms() -> tuple[str, ...]:
    """Return each metric with its options as text, such as ``f1[:threshold=NUMBER]``."""
    return tuple(
        f"{name}[:{', '.join(map(str, metric.options))}]" if metric.options else name
        for name, metric in METRICS.items()
    )


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
    # Short names of the two.
    MeanMetric(
        name="mse",
        more_is_better=False,
        unit="squared units of the output",
        point=1.0,
        target="value",
        per_sample=squared_error,
    ),
    MeanMetric(
        name="mae",
        more_is_better=False,
        unit="units of the output",
        point=1.0,
        target="value",
        per_sample=absolute_error,
    ),
    Correlation(name="pearson", more_is_better=True, unit="", point=1.0, target="value"),
    SignalRatio(name="si-sdr", more_is_better=True, unit="dB", point=1.0, target="signal", ratio=si_sdr_db),
    SignalRatio(name="sdr", more_is_better=True, unit="dB", point=1.0, target="signal", ratio=sdr_db),
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
    F1(name="f1", more_is_better=True, unit="share", point=0.01, target="detection"),
    EventF1(name="event-f1", more_is_better=True, unit="share", point=0.01, target="detection"),
    Auc(name="auc", more_is_better=True, unit="share", point=0.01, target="class"),
    MeanMetric(
        name="agreement", more_is_better=True, unit="share", point=0.01, target="reference", per_sample=same_decision
    ),
    ErrorRate(name="word-error-rate", more_is_better=False, unit="share", point=0.01, target="text", part="word"),
    ErrorRate(
        name="character-error-rate", more_is_better=False, unit="share", point=0.01, target="text", part="character"
    ),
)
