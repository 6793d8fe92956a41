"""Zero blocks of int8 matrices: how the sparse operators store a matrix, and whether that pays.

A block is 16 outputs (cells of one gate) by 4 inputs, because the kernels read 64 weights of this shape as one vector.
Whoever pruned the model, a block counts as zero when all of its rounded weights are zero (docs/sparse.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lstm_edge_exporters.functions.storages import BLOCK_COLUMNS, BLOCK_ROWS, Places, gather_blocks
from lstm_edge_exporters.quantize.rounding import round_columns
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import QuantizationError

__all__ = [
    "LEAST_CELLS",
    "MOST_DENSITY",
    "Sparse",
    "ZeroBlocks",
    "clear_blocks",
    "count_blocks",
    "pack_blocks",
    "parse_sparse",
]

# A stored block: 64 weights of one byte, and the number of the block. A matrix also stores how many inputs it has.
BYTES_PER_BLOCK, BYTES_OF_ROWS = BLOCK_ROWS * BLOCK_COLUMNS + 4, 8
# The kernels count block rows in 16 bits.
MOST_INPUTS = BLOCK_ROWS * 2**16

# Where a sparse step and sequence are not slower than dense ones: at most this share of the blocks, and at least this
# many cells. From make bench-sparse-rule (AVX-512 VNNI): at 128 cells a sequence takes 0.98 of the dense one's time at
# density 0.5, and 1.04 at 0.6; at 96 cells it takes 1.03 at 0.5.
MOST_DENSITY, LEAST_CELLS = 0.5, 128

# What ``quantize`` does with zero blocks: ``auto``: stores a matrix without them where that pays; ``off``: never;
# ``smaller``: wherever that is smaller; ``required``: the same, and fails if a recurrent layer has no such matrix.
Sparse = Literal["auto", "off", "smaller", "required"]


@dataclass(frozen=True, kw_only=True)
class ZeroBlocks:
    """The blocks of a matrix, or of one matrix of each direction.

    ``kept``: how many have a weight other than zero; ``total``: how many there are; ``cells``: H; ``inputs``: K, the
    largest; ``dense_bytes``: of a dense operator's weights; ``sparse_bytes``: of a sparse operator's weights and block
    numbers. The scales are the same in both.
    """

    kept: int
    total: int
    cells: int
    inputs: int
    dense_bytes: int
    sparse_bytes: int

    @property
    def density(self) -> float:
        """The share of the blocks that have a weight other than zero, 0 to 1."""
        return self.kept / self.total

    @property
    def is_smaller(self) -> bool:
        """Whether leaving zero blocks out makes the file smaller, block numbers included."""
        return self.sparse_bytes < self.dense_bytes and self.inputs <= MOST_INPUTS

    @property
    def pays(self) -> bool:
        """Whether it also makes no step slower, by a rule on shapes and density: equal weights give equal files."""
        return self.is_smaller and self.density <= MOST_DENSITY and self.cells >= LEAST_CELLS


def parse_sparse(text: str) -> Sparse:
    """Return a valid value of ``sparse``.

    Raises:
        QuantizationError: it is not one of them.
    """
    for known in get_args(Sparse):
        if text == known:
            return known  # type: ignore[no-any-return]  # get_args gives Any
    raise QuantizationError(f"sparse is {text!r}, expected one of {', '.join(get_args(Sparse))}")


def count_blocks(matrices: Sequence[NDArray[Any]], *, gates: int) -> ZeroBlocks:
    """Count the blocks of matrices int8 [K, gates * H], one for each direction."""
    blocks = [_places(matrix, gates).split(matrix) for matrix in matrices]
    kept = [int(np.count_nonzero(each.any(axis=(1, 2)))) for each in blocks]
    return ZeroBlocks(
        kept=sum(kept),
        total=sum(map(len, blocks)),
        cells=matrices[0].shape[1] // gates,
        inputs=max(map(len, matrices)),
        dense_bytes=sum(matrix.nbytes for matrix in matrices),
        sparse_bytes=sum(BYTES_PER_BLOCK * max(1, count) + BYTES_OF_ROWS for count in kept),
    )


def clear_blocks(name: str, weight: NDArray[Any], *, gates: int) -> NDArray[Any]:
    """Return a matrix float32 [K, gates * H] with zeros in the blocks that rounding to nearest makes zero.

    Rounding that compensates errors keeps what is zero, and would give small weights other values.

    Raises:
        QuantizationError: the weight holds NaN or infinity.
    """
    places = _places(weight, gates)
    cleared = ~places.split(round_columns(name, weight)[0]).any(axis=(1, 2))
    blocks = places.split(weight)
    if not blocks[cleared].any():
        return weight
    blocks[cleared] = 0.0
    return places.join(blocks)


def pack_blocks(matrix: NDArray[Any], *, gates: int) -> dict[str, Array]:
    """Return what a sparse operator stores of a matrix int8 [K, gates * H] besides its scales, by suffix.

    ``""``: the blocks that have a weight other than zero, int8 [n, 4, 16]; ``"_index"``: their numbers, int32 [n];
    ``"_rows"``: K, int64 [1].
    """
    blocks, index = gather_blocks(matrix, _places(matrix, gates))
    return {"": blocks, "_index": index, "_rows": np.array([len(matrix)])}


def _places(matrix: NDArray[Any], gates: int) -> Places:
    return Places(len(matrix), gates, matrix.shape[1] // gates)
