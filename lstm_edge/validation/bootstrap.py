"""Paired bootstrap: how far a metric, or what a candidate loses of it, may be off by the choice of samples.

10,000 times, as many units (sequences, or blocks of a text) are drawn with replacement as there are, and everything is
measured on them: two models on the same draws, which is the pairing. Bounds are percentiles of what comes out (Efron
and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3). Units that all show the same give an interval of
width 0: the bootstrap cannot see what the samples do not show. NumPy only: it runs on the device.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.metrics import Estimate, Means

__all__ = ["bootstrap_bound", "check_confidence", "interval", "resample", "upper_bound"]

Scores = NDArray[np.float64]

# Elements of one block of resampled indices: 2 million int64 are 16 MB, small enough for a device.
BLOCK = 2_000_000


def resample(estimates: Sequence[Estimate], *, seed: int) -> list[Scores]:
    """Measure estimates of the same units on the same draws.

    Args:
        estimates: of U units each, at least one.
        seed: of the draws; it gives the same ones for the same U.

    Returns:
        For each estimate float64 ``[R]``: 10,000 values, or as many as the most expensive one affords.

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
    """Return the smallest of the resampled values that at least the share ``confidence`` of them does not exceed.

    Values that are NaN, of resamples on which the metric is not defined, are left out.
    """
    defined = values[~np.isnan(values)]
    return float(np.quantile(defined, confidence, method="inverted_cdf")) if len(defined) else float("nan")


def interval(values: Scores, confidence: float) -> tuple[float, float]:
    """Return the two-sided interval that the share ``confidence`` of the values lies in, equal shares outside it."""
    return upper_bound(values, (1 - confidence) / 2), upper_bound(values, (1 + confidence) / 2)


def bootstrap_bound(losses: Scores, confidence: float, *, seed: int = 0) -> float:
    """Return the one-sided upper bound of a mean loss.

    Args:
        losses: float64 ``[N]``, for each sample how much worse the candidate is: one sample's score under both models.
        confidence: above 0 and below 1.
        seed: of the draws.

    Raises:
        InputError: ``confidence`` is out of its range, or there are no samples.
    """
    check_confidence(confidence)
    return upper_bound(resample([Means.of(losses, None)], seed=seed)[0], confidence)


def check_confidence(confidence: float | None) -> None:
    """Refuse what is not a share above 0 and below 1; None is allowed."""
    if confidence is not None and not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence}, expected a share above 0 and below 1, such as 0.95")
