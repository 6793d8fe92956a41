"""Paired bootstrap: sampling error of a metric, or of a candidate's drop.

A resample draws as many units (sequences, or blocks of a text) as there are, with replacement, 10,000 times. Both
models are measured on the same resamples, which is the pairing. Bounds are percentiles of the results (Efron and
Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3). If all units give the same result, the interval has
width 0: the bootstrap sees only what the samples show. Imports only NumPy, so it also runs on the device.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lstm_edge.amounts import check_confidence
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.metrics import Estimate, Means

__all__ = ["bootstrap_bound", "interval", "resample", "upper_bound"]

Scores = NDArray[np.float64]

# Elements of one block of resampled indices: 2 million int64 take 16 MB, which fits a device.
BLOCK = 2_000_000


def resample(estimates: Sequence[Estimate], *, seed: int) -> list[Scores]:
    """Evaluate estimates of the same units on the same resamples.

    Args:
        estimates: at least one, each of the same U units.
        seed: random seed; equal seeds and equal U give equal resamples.

    Returns:
        For each estimate float64 ``[R]``: 10,000 values, or fewer if an estimate allows only fewer resamples.

    Raises:
        InputError: there are no units.
    """
    units = estimates[0].units
    if not units:
        raise InputError("bootstrap: got no samples, expected at least one")
    total = min(estimate.resamples for estimate in estimates)
    generator = np.random.default_rng(seed)
    values = [np.empty(total) for _ in estimates]
    step = max(1, BLOCK // units)
    for start in range(0, total, step):
        count = min(step, total - start)
        drawn = generator.integers(units, size=(count, units))
        for estimate, value in zip(estimates, values, strict=True):
            value[start : start + count] = estimate.resample(drawn)
    return values


def upper_bound(values: Scores, confidence: float) -> float:
    """Return the smallest resampled value that at least the share ``confidence`` of the values does not exceed.

    NaN values, of resamples on which the metric is undefined, are left out.
    """
    defined = values[~np.isnan(values)]
    return float(np.quantile(defined, confidence, method="inverted_cdf")) if len(defined) else float("nan")


def interval(values: Scores, confidence: float) -> tuple[float, float]:
    """Return the two-sided interval that contains the share ``confidence`` of the values, with equal tails."""
    return upper_bound(values, (1 - confidence) / 2), upper_bound(values, (1 + confidence) / 2)


def bootstrap_bound(losses: Scores, confidence: float, *, seed: int = 0) -> float:
    """Return the one-sided upper bound of a mean loss.

    Args:
        losses: float64 ``[N]``, the candidate's loss against the reference for each sample.
        confidence: confidence level, above 0 and below 1.
        seed: random seed.

    Raises:
        InputError: ``confidence`` is out of its range, or there are no samples.
    """
    check_confidence(confidence)
    return upper_bound(resample([Means.of(losses, None)], seed=seed)[0], confidence)
