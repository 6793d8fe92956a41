"""Rounding grids of a matrix and the search for the best one: by squared error, with outliers clipped."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lstm_edge_exporters.quantize.rounding import LEVELS, SMALLEST_AMAX, Scheme
from lstm_edge_runtime.arrays import Array

__all__ = ["Grid", "as_scale", "best_grid", "round_to", "stored"]

Float64 = NDArray[np.float64]

# Shares of a block's range that are tried when outliers may be clipped, 1.00, 0.95, ... 0.70, and how often each scale
# is refitted. Twice as many shares with eight refits bring an int4 language model of 384 cells 0.4 % nearer to the
# float32 one (Kullback-Leibler divergence), which its perplexity does not show.
SHARES = tuple(1.0 - 0.05 * step for step in range(7))
REFITS = 2
# Columns that are searched at once: an array of 2048 x 128 doubles is 2 MB.
COLUMNS = 128


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The values (q - zero) · scale that weights [K, N] may take, with q in lowest..highest.

    ``scale`` (positive values of float32) and ``zero`` (integers) are float64 [blocks, N]: one for each ``block``
    consecutive inputs of a column; the last block may be shorter.
    """

    scale: Float64
    zero: Float64
    block: int
    lowest: int
    highest: int

    def of_inputs(self, count: int) -> tuple[Float64, Float64]:
        """Return the scale and the zero point of each weight, float64 [count, N] each."""
        scale, zero = (np.repeat(part, self.block, axis=0)[:count] for part in (self.scale, self.zero))
        return scale, zero


def round_to(grid: Grid, weight: Float64) -> Float64:
    """Round weights [K, N] to the nearest values of a grid; returns q as float64 [K, N]."""
    scale, zero = grid.of_inputs(len(weight))
    return np.asarray((np.rint(weight / scale) + zero).clip(grid.lowest, grid.highest), np.float64)


def as_scale(scale: Array) -> Float64:
    """Return scales as a file holds them: float32, and no smaller than the operators' smallest step."""
    return np.maximum(np.asarray(scale, np.float32), np.float32(SMALLEST_AMAX)).astype(np.float64)


def stored(q: Float64, grid: Grid, scheme: Scheme) -> dict[str, Array]:
    """Return q [K, N] and its grid in the operators' layout, by suffix, as ``round_matrix`` does."""
    scale = grid.scale.astype(np.float32)
    if scheme.kind == "int8":
        return {"": q.astype(np.int8), "_scale": scale[0]}
    nibbles = np.pad(q.astype(np.uint8), ((0, 0), (0, q.shape[1] % 2)))
    zero = np.full((1, 1), 8, np.uint8) if scheme.symmetric else grid.zero.astype(np.uint8)
    packed = (nibbles[:, ::2] | (nibbles[:, 1::2] << 4)).astype(np.uint8)
    return {"": packed, "_scale": scale, "_zero": zero}


def best_grid(weight: Float64, importance: Float64, scheme: Scheme, *, search: bool, clip: bool) -> Grid:
    """Return the grid of the least weighted squared error Σ_k importance_k · e_k², for each block and column apart.

    Args:
        weight: [K, N], finite.
        importance: [K], positive: the mean square of each input.
        scheme: int8 or int4.
        search: refit each scale, by least squares, to the weights as they are rounded with it, and round again.
        clip: try ranges that leave a block's largest weights out (``SHARES`` of the whole one); what is outside is
            rounded to the range's end.
    """
    inputs = len(weight)
    block = inputs if scheme.kind == "int8" else scheme.block
    count = -(-inputs // block)
    padding = count * block - inputs
    weights = np.pad(importance, (0, padding)).reshape(count, block, 1)
    found = []
    for start in range(0, weight.shape[1], COLUMNS):
        columns = np.pad(weight[:, start : start + COLUMNS], ((0, padding), (0, 0)))
        blocks = columns.reshape(count, block, -1)
        found.append(_best(blocks, weights, _candidates(blocks, weights, scheme, search=search, clip=clip)))
    scale, zero = (np.concatenate([getattr(grid, name) for grid in found], axis=1) for name in ("scale", "zero"))
    return replace(found[0], scale=scale, zero=zero)


def _best(blocks: Float64, weights: Float64, candidates: Iterator[Grid]) -> Grid:
    """The best candidate of each block and column; of equal ones the first."""
    best = next(candidates)
    least = _error(blocks, weights, best)
    for grid in candidates:
        error = _error(blocks, weights, grid)
        better = error < least
        least = np.where(better, error, least)
        best = replace(
            best, scale=np.where(better, grid.scale, best.scale), zero=np.where(better, grid.zero, best.zero)
        )
    return best


def _error(blocks: Float64, weights: Float64, grid: Grid) -> Float64:
    difference = blocks - _steps(blocks, grid) * grid.scale[:, None]
    return np.asarray((weights * difference * difference).sum(axis=1), np.float64)


def _steps(blocks: Float64, grid: Grid) -> Float64:
    """Q - zero of blocks [count, block, N]."""
    zero = grid.zero[:, None]
    return np.asarray(np.rint(blocks / grid.scale[:, None]).clip(grid.lowest - zero, grid.highest - zero), np.float64)


def _candidates(blocks: Float64, weights: Float64, scheme: Scheme, *, search: bool, clip: bool) -> Iterator[Grid]:
    for share in SHARES if clip else SHARES[:1]:
        grid = _spanning(blocks, share, scheme)
        yield grid
        for _ in range(REFITS if search else 0):
            steps = _steps(blocks, grid)
            power = (weights * steps * steps).sum(axis=1)
            fitted = (weights * steps * blocks).sum(axis=1) / np.where(power > 0, power, 1.0)
            grid = replace(grid, scale=as_scale(np.where(fitted > 0, fitted, grid.scale)))
            yield grid


def _spanning(blocks: Float64, share: float, scheme: Scheme) -> Grid:
    """The grid that a share of the range of blocks [count, block, N] just fits; the whole is ``round_matrix``'s."""
    low, high = share * np.minimum(blocks.min(axis=1), 0.0), share * np.maximum(blocks.max(axis=1), 0.0)
    block = blocks.shape[1]
    if scheme.kind == "int8":
        scale = as_scale(np.maximum(-low, high) / LEVELS)
        return Grid(scale=scale, zero=np.zeros_like(scale), block=block, lowest=-LEVELS, highest=LEVELS)
    if scheme.symmetric:
        scale = as_scale(np.maximum(-low / 8, high / 7))
        return Grid(scale=scale, zero=np.full_like(scale, 8.0), block=block, lowest=0, highest=15)
    scale = as_scale((high - low) / 15)
    return Grid(scale=scale, zero=np.rint(-low / scale).clip(0, 15), block=block, lowest=0, highest=15)
