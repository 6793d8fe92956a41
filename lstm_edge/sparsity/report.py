"""The report of a module's sparsity: density and bytes of each matrix."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from lstm_edge.sparsity.blocks import BLOCK_BYTES

__all__ = ["MatrixReport", "SparsityReport"]

SCALE_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class MatrixReport:
    """One matrix.

    Attributes:
        name: name of the parameter.
        outputs: columns of all gates, N.
        inputs: K.
        blocks: number of blocks.
        kept: number of blocks that are kept.
        kept_by_gate: kept blocks by the letter of the gate.
    """

    name: str
    outputs: int
    inputs: int
    blocks: int
    kept: int
    kept_by_gate: dict[str, int]

    @property
    def density(self) -> float:
        """Share of the blocks that are kept."""
        return self.kept / self.blocks

    @property
    def sparse_bytes(self) -> int:
        """Bytes in a sparse int8 file: 64 values and an index for each kept block, a float32 scale for each output."""
        return BLOCK_BYTES * self.kept + SCALE_BYTES * self.outputs

    @property
    def dense_bytes(self) -> int:
        """Bytes in a dense int8 file: each weight, a float32 scale for each output."""
        return self.outputs * (self.inputs + SCALE_BYTES)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        names = ("density", "sparse_bytes", "dense_bytes")
        return dataclasses.asdict(self) | {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class SparsityReport:
    """All matrices of a module that can be pruned."""

    matrices: tuple[MatrixReport, ...]

    @property
    def density(self) -> float:
        """Share of all blocks that are kept."""
        return sum(matrix.kept for matrix in self.matrices) / sum(matrix.blocks for matrix in self.matrices)

    @property
    def sparse_bytes(self) -> int:
        """Bytes of all matrices in a sparse int8 file."""
        return sum(matrix.sparse_bytes for matrix in self.matrices)

    @property
    def dense_bytes(self) -> int:
        """Bytes of all matrices in a dense int8 file."""
        return sum(matrix.dense_bytes for matrix in self.matrices)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        totals = {name: getattr(self, name) for name in ("density", "sparse_bytes", "dense_bytes")}
        return totals | {"matrices": [matrix.to_json() for matrix in self.matrices]}

    def __str__(self) -> str:
        lines = [
            f"{matrix.name}: density {matrix.density:.3f} ({matrix.kept:,} of {matrix.blocks:,} blocks), "
            f"{matrix.sparse_bytes:,} bytes as sparse int8, {matrix.dense_bytes:,} as dense int8"
            for matrix in self.matrices
        ]
        return "\n".join(lines)
