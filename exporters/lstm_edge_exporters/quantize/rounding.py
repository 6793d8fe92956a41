"""Rounds weight matrices to int8 and int4.

int8 is symmetric with one scale a column (or a row), so that sums stay exact in float32; int4 has one scale, and if
asked a zero point, for each block of inputs of a column.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_edge_exporters.quantize.schemes import Scheme
from lstm_edge_runtime.errors import QuantizationError

__all__ = [
    "LARGEST_COLUMN_SUM",
    "LEVELS",
    "MatrixRounder",
    "Scheme",
    "round_blocks",
    "round_columns",
    "round_matrix",
    "round_rows",
]

Float = NDArray[np.float32]

# Rounds a matrix float32 [K, N] by its name ("lstm.r", "head.weight") to int8 or int4; returns what round_matrix does.
MatrixRounder = Callable[[str, Float, Scheme], dict[str, NDArray[Any]]]

LEVELS = 127
# |Σ q·w| ≤ 127·Σ|w| stays below 2**24, the last integer up to which float32 counts by ones (docs/operators.md).
LARGEST_COLUMN_SUM = (2**24 - 1) // LEVELS
SMALLEST_AMAX = 2.0**-100


def round_matrix(name: str, weight: NDArray[Any], scheme: Scheme) -> dict[str, NDArray[Any]]:
    """Round a matrix [K, N]; returns the operator's inputs by suffix: ``""``, ``"_scale"`` and for int4 ``"_zero"``."""
    if scheme.kind == "int8":
        rounded, scale = round_columns(name, weight)
        return {"": rounded, "_scale": scale}
    nibbles, scale, zero = round_blocks(name, weight, block=scheme.block, symmetric=scheme.symmetric)
    return {"": nibbles, "_scale": scale, "_zero": zero}


def round_blocks(
    name: str, weight: NDArray[Any], *, block: int, symmetric: bool
) -> tuple[NDArray[np.uint8], Float, NDArray[np.uint8]]:
    """Round a matrix [K, N] to four bits, so that weight ≈ (q - zero) · scale with q in 0..15.

    Symmetric: the zero point is 8 everywhere and the scale lets the block's extremes meet -8 and 7. Otherwise 0..15
    spans the block's range, widened to hold 0.

    Returns:
        Nibbles uint8 [K, (N + 1) / 2] (column 2j in the low, 2j + 1 in the high half of byte j), scales float32
        [blocks, N], zero points uint8 [blocks, N], or [1, 1] where symmetric.

    Raises:
        QuantizationError: the weight holds NaN or infinity.
    """
    weight = np.asarray(weight, np.float32)
    if not np.isfinite(weight).all():
        raise QuantizationError(f"{name}: the weight holds NaN or infinity")
    k, n = weight.shape
    count = -(-k // block)
    blocks = np.pad(weight, ((0, count * block - k), (0, 0))).reshape(count, block, n)
    low, high = np.minimum(blocks.min(axis=1), 0.0), np.maximum(blocks.max(axis=1), 0.0)
    # By halves, which change no bit of the step: the range of two finite ends may itself be beyond float32.
    span = np.maximum(-low / 8, high / 7) if symmetric else (high / 2 - low / 2) / 7.5
    scale = np.maximum(span, SMALLEST_AMAX).astype(np.float32)
    zero = np.full((1, 1), 8.0) if symmetric else np.rint(-low / scale).clip(0, 15)
    q = (np.rint(blocks / scale[:, None]) + (zero if symmetric else zero[:, None])).clip(0, 15)
    nibbles = q.reshape(count * block, n)[:k].astype(np.uint8)
    nibbles = np.pad(nibbles, ((0, 0), (0, n % 2)))
    packed = (nibbles[:, ::2] | (nibbles[:, 1::2] << 4)).astype(np.uint8)
    return packed, np.asarray(scale, np.float32), zero.astype(np.uint8)


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
