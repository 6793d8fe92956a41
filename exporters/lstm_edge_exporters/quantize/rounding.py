"""Weights to int8: symmetric, one scale a column (or a row), with sums that stay exact in float32."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_edge_runtime.errors import QuantizationError

__all__ = ["LARGEST_COLUMN_SUM", "round_columns", "round_rows"]

Float = NDArray[np.float32]

LEVELS = 127
# |Σ q·w| ≤ 127·Σ|w| stays below 2**24, the last integer up to which float32 counts by ones (docs/operators.md).
LARGEST_COLUMN_SUM = (2**24 - 1) // LEVELS
SMALLEST_AMAX = 2.0**-100


def round_columns(name: str, weight: NDArray[Any]) -> tuple[NDArray[np.int8], Float]:
    """Round a matrix [K, N] to int8 with one scale [N] a column, so that weight ≈ q · scale.

    The scale is the column's largest magnitude / 127. A column whose rounded magnitudes sum to more than 132,104
    (possible from K = 1,041 on) gets a larger one, so that every sum with it stays exact.

    Raises:
        QuantizationError: the weight holds NaN or infinity.
    """
    weight = np.asarray(weight, np.float32)
    if not np.isfinite(weight).all():
        raise QuantizationError(f"{name}: the weight holds NaN or infinity")
    scale = (np.maximum(np.abs(weight).max(axis=0), SMALLEST_AMAX) / LEVELS).astype(np.float32)
    while True:
        rounded = np.rint(weight / scale).clip(-LEVELS, LEVELS).astype(np.int8)
        sums = np.abs(rounded.astype(np.int64)).sum(axis=0)
        if (sums <= LARGEST_COLUMN_SUM).all():
            return rounded, scale
        # One step past the limit's ratio: rounding may bring a sum back up by half a level a row.
        growth = np.where(sums > LARGEST_COLUMN_SUM, sums / LARGEST_COLUMN_SUM * 1.001, 1.0)
        scale = (scale * growth).astype(np.float32)


def round_rows(name: str, weight: NDArray[Any]) -> tuple[NDArray[np.int8], Float]:
    """Round a table [V, E] to int8 with one scale [V, 1] a row; errors as ``round_columns``."""
    weight = np.asarray(weight, np.float32)
    if not np.isfinite(weight).all():
        raise QuantizationError(f"{name}: the weight holds NaN or infinity")
    scale = (np.maximum(np.abs(weight).max(axis=1, keepdims=True), SMALLEST_AMAX) / LEVELS).astype(np.float32)
    return np.rint(weight / scale).clip(-LEVELS, LEVELS).astype(np.int8), scale
