"""Pearson's correlation of outputs and targets, over all steps of all sequences."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.metrics._metric import Counts, Metric, join
from lstm_edge_runtime.metrics._scores import check_pair

__all__ = ["Correlation"]

Scores = NDArray[np.float64]

# A variance below this share of the mean square is a constant: the difference of two rounded float64 sums.
CONSTANT = 1e-12


@dataclass(frozen=True, kw_only=True)
class Correlation(Metric):
    """The correlation of each value with its target over all samples, and its mean over the values.

    A constant output has the correlation 0. A constant target has none.
    """

    def estimate(self, outputs: Any, targets: Any, units: NDArray[np.int64] | None = None) -> Counts:
        """Add up the moments by unit; see ``Metric.estimate``. Outputs and targets are ``[N]`` or ``[N, ...]``."""
        if np.ndim(targets) == 1 and np.shape(outputs) == (len(targets), 1):
            targets = targets[:, np.newaxis]
        check_pair(targets, outputs)
        y = targets.reshape(len(targets), -1).astype(np.float64)
        constant = np.flatnonzero((y == y[0]).all(axis=0))
        if len(constant):
            which = f" {constant[0]}" if y.shape[1] > 1 else ""
            raise InputError(
                f"metric {self.name}: the target value{which} is {y[0, constant[0]]:g} in all {len(y)} samples, "
                "expected values that vary"
            )
        x = outputs.reshape(len(y), -1).astype(np.float64)
        # Moments about the mean: those about 0 would lose the digits of values far from 0.
        x, y = x - x.mean(axis=0), y - y.mean(axis=0)
        moments = np.concatenate([x, y, x * x, y * y, x * y, np.ones((len(y), 1))], axis=1)
        if units is not None:
            moments = np.stack([np.bincount(units, column).astype(np.float64) for column in moments.T], axis=1)
        return Counts(counts=moments, finish=_correlation)

    def estimate_sequences(
        self, outputs: Sequence[Array], targets: Sequence[Array], *, per_step: bool = True
    ) -> Counts:
        """Measure one output of a model; see ``Metric.estimate_sequences``."""
        return self.estimate(*join(outputs, targets, per_step=per_step))


def _correlation(sums: Scores) -> Scores:
    samples = sums[..., -1:]
    x, y, xx, yy, xy = np.split(sums[..., :-1], 5, axis=-1)
    x_spread, y_spread = xx - x * x / samples, yy - y * y / samples
    x_varies, y_varies = x_spread > CONSTANT * xx, y_spread > CONSTANT * yy
    spread = np.sqrt(np.where(x_varies, x_spread, 1.0) * np.where(y_varies, y_spread, 1.0))
    values = np.where(x_varies, (xy - x * y / samples) / spread, 0.0)
    means: Scores = np.clip(np.where(y_varies, values, np.nan), -1.0, 1.0).mean(axis=-1)
    return means
