"""Blocks of a recurrent matrix: their norms, which of them are kept, and the mask of the weights.

A block is 16 outputs (cells of one gate) by 4 inputs, as the sparse operators store it. G gates of H cells, K inputs;
A = ceil(H / 16) block columns of a gate, B = ceil(K / 4) block rows. PyTorch's matrix is [G * H, K].
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "BLOCK_BYTES",
    "INPUTS",
    "OUTPUTS",
    "block_norms",
    "counts_of",
    "diagonal_blocks",
    "expand",
    "keep",
    "shape_of",
]

OUTPUTS, INPUTS = 16, 4
# 64 int8 values and their int32 index.
BLOCK_BYTES = OUTPUTS * INPUTS + 4

Blocks = NDArray[np.bool_]


def shape_of(gates: int, hidden: int, inputs: int) -> tuple[int, int, int]:
    """Return [G, A, B], the blocks of a matrix; the last ones of a gate or of the inputs may be incomplete."""
    return gates, -(-hidden // OUTPUTS), -(-inputs // INPUTS)


def block_norms(weight: Tensor, gates: int) -> NDArray[np.float64]:
    """Return the sum of the squares of each block, float64 [G, A, B], of a matrix [G * H, K].

    It is computed on the CPU in float64, so that a device or a dtype does not decide between blocks.
    """
    values = weight.detach().to("cpu", torch.float64).reshape(gates, -1, weight.shape[1])
    shape = shape_of(gates, values.shape[1], values.shape[2])
    padded = values.new_zeros(gates, shape[1] * OUTPUTS, shape[2] * INPUTS)
    padded[:, : values.shape[1], : values.shape[2]] = values
    squares: NDArray[np.float64] = (
        padded.square().reshape(gates, shape[1], OUTPUTS, shape[2], INPUTS).sum(dim=(2, 4)).numpy()
    )
    return squares


def counts_of(densities: Sequence[float], gates: int, blocks: int) -> list[int]:
    """Return the number of kept blocks of each gate.

    Args:
        densities: one for the whole matrix, whose rounded number of blocks is spread evenly over the gates (the first
            ones get the rest), or one for each gate.
        gates: number of gates.
        blocks: blocks of a gate.

    Returns:
        The counts; at least one block of the matrix, or of each gate with a density.
    """
    if len(densities) == gates:
        return [_count(density, blocks) for density in densities]
    each, rest = divmod(_count(densities[0], gates * blocks), gates)
    return [each + (gate < rest) for gate in range(gates)]


def _count(density: float, blocks: int) -> int:
    return max(1, math.floor(density * blocks + 0.5))


def diagonal_blocks(gates: int, hidden: int) -> Blocks:
    """Return which blocks of a recurrent matrix [G * H, H] hold an element of a gate's diagonal, bool [G, A, B]."""
    shape = shape_of(gates, hidden, hidden)
    columns, rows = np.arange(shape[1])[:, None], np.arange(shape[2])[None, :]
    return np.broadcast_to(rows * INPUTS // OUTPUTS == columns, shape).copy()


def keep(norms: NDArray[np.float64], kept: Blocks, first: Blocks, count: int) -> Blocks:
    """Return the ``count`` blocks of the largest norms among ``kept``; all arrays have the same shape.

    Args:
        norms: sums of squares.
        kept: the blocks kept so far; a dropped block does not come back.
        first: blocks that are kept before all others.
        count: number of blocks; if fewer are kept so far, these stay.

    Returns:
        The blocks, bool. Of blocks with equal norms the lower block number is kept.
    """
    flat = kept.ravel()
    order = np.lexsort((np.arange(flat.size), -norms.ravel(), ~first.ravel(), ~flat))
    chosen = np.zeros_like(flat)
    chosen[order[: min(count, int(flat.sum()))]] = True
    return chosen.reshape(kept.shape)


def expand(kept: Blocks, hidden: int, inputs: int) -> Tensor:
    """Return the mask of the weights, bool [G * H, K], true where a block is kept."""
    wide = np.repeat(np.repeat(kept, OUTPUTS, axis=1)[:, :hidden], INPUTS, axis=2)[:, :, :inputs]
    return torch.from_numpy(np.ascontiguousarray(wide.reshape(-1, inputs)))
