"""Scales and integers of a convolution: activations in eight bits with fixed scales, weights in seven.

Processors without VNNI add two products of an unsigned and a signed byte in 16 bits, and saturate: 2 · 255 · 64, which
is 32,640, fits, and 2 · 255 · 127 does not. With |q| ≤ 64 every sum is exact, so all processors give the same bits.
"""

from dataclasses import dataclass

import numpy as np

from lstm_edge_exporters.quantize.compensate import DAMPING, round_in_order
from lstm_edge_exporters.quantize.convolutions.reading import Convolution
from lstm_edge_exporters.quantize.convolutions.statistics import ConvolutionStatistics, Float64, Spread
from lstm_edge_exporters.quantize.layer import Refusal
from lstm_edge_exporters.quantize.rounding import SMALLEST_AMAX
from lstm_edge_exporters.quantize.scales import SHARES, Grid, round_to
from lstm_edge_runtime.arrays import Array

__all__ = ["LARGEST_WEIGHT", "Levels", "Rounded", "levels_of", "round_convolution"]

LARGEST_WEIGHT = 64
_STEPS = 255
# Shares of an activation's range that are tried: what lies outside is rounded to the range's end.
_RANGES = tuple(1.0 - 0.05 * step for step in range(11))
# A bias in units of the products' scale. Larger ones would leave a sum of products no room in 32 bits.
_LARGEST_BIAS = 2.0**28


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Activations as (q - zero) · scale, with q in 0..255."""

    scale: np.float32
    zero: np.uint8


@dataclass(frozen=True, kw_only=True)
class Rounded:
    """Constants of a ``QLinearConv``: ``w`` int8 [M, C / groups, ...], ``w_scale`` float32 [M], ``b`` int32 [M]."""

    x: Levels
    y: Levels
    w: Array
    w_scale: Array
    b: Array

    @property
    def size_bytes(self) -> int:
        """Bytes of the constants."""
        return int(self.w.nbytes + self.w_scale.nbytes + self.b.nbytes + len(self.w) + 10)


def levels_of(spread: Spread) -> Levels:
    """Return the levels of the least squared error on the samples; zero is one of them exactly.

    Raises:
        Refusal: the value was zero throughout.
    """
    if spread.high == spread.low:
        raise Refusal("its input or result is zero throughout the calibration data")
    samples = np.concatenate(spread.samples).astype(np.float64)
    best: tuple[float, Levels] | None = None
    for share in _RANGES:
        scale = np.float32(max(share * (spread.high - spread.low) / _STEPS, SMALLEST_AMAX))
        zero = np.rint(-share * spread.low / float(scale)).clip(0, _STEPS)
        steps = (np.rint(samples / float(scale)) + zero).clip(0, _STEPS) - zero
        error = float(np.square(samples - steps * float(scale)).sum())
        if best is None or error < best[0]:
            best = error, Levels(scale=scale, zero=np.uint8(zero))
    assert best is not None
    return best[1]


def round_convolution(convolution: Convolution, known: ConvolutionStatistics) -> Rounded:
    """Round a convolution by its statistics.

    Raises:
        Refusal: its input or result is zero throughout the calibration data.
    """
    x, y = levels_of(known.x), levels_of(known.y)
    matrix = convolution.weight.reshape(len(convolution.weight), -1).T.astype(np.float64)
    gram = None if known.gram is None else _damped(known.gram)
    importance = np.ones(len(matrix)) if gram is None else np.diag(gram)
    least = np.abs(convolution.bias.astype(np.float64)) / (float(x.scale) * _LARGEST_BIAS)
    grid = _grid(matrix, importance, least)
    q = round_to(grid, matrix) if gram is None else round_in_order(matrix, gram, grid)
    scale = grid.scale[0].astype(np.float32)
    bias = np.rint(convolution.bias / (scale.astype(np.float64) * float(x.scale)))
    return Rounded(
        x=x,
        y=y,
        w=np.ascontiguousarray(q.T.reshape(convolution.weight.shape)).astype(np.int8),
        w_scale=scale,
        b=bias.astype(np.int32),
    )


def _damped(gram: Float64) -> Float64 | None:
    mean = float(np.trace(gram)) / len(gram)
    return None if mean <= 0.0 else np.asarray(gram / mean + DAMPING * np.eye(len(gram)), np.float64)


def _grid(matrix: Float64, importance: Float64, least: Float64) -> Grid:
    """The scale of each column with the least weighted squared error."""
    amax = np.maximum(np.abs(matrix).max(axis=0), SMALLEST_AMAX)
    scales = np.zeros_like(amax)
    errors = np.full_like(amax, np.inf)
    for share in SHARES:
        scale = np.maximum(share * amax / LARGEST_WEIGHT, least).astype(np.float32).astype(np.float64)
        steps = np.rint(matrix / scale).clip(-LARGEST_WEIGHT, LARGEST_WEIGHT)
        error = (importance[:, None] * np.square(matrix - steps * scale)).sum(axis=0)
        scales, errors = np.where(error < errors, scale, scales), np.minimum(error, errors)
    return Grid(
        scale=scales[None],
        zero=np.zeros_like(scales)[None],
        block=len(matrix),
        lowest=-LARGEST_WEIGHT,
        highest=LARGEST_WEIGHT,
    )
