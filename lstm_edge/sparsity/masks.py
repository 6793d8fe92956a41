"""The masks of all recurrent matrices of a module: which blocks are kept, at which progress of the schedule."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lstm_edge.sparsity.blocks import Blocks, block_norms, counts_of, diagonal_blocks, expand, keep, shape_of
from lstm_edge.sparsity.densities import Densities
from lstm_edge.sparsity.matrices import Matrix, find_matrices
from lstm_edge.sparsity.report import MatrixReport, SparsityReport
from lstm_edge.sparsity.schedule import density_at
from lstm_edge_runtime.errors import InputError

__all__ = ["Masks", "measure"]


@dataclass(kw_only=True, eq=False)
class _Masked:
    """A matrix and its mask: final densities, blocks that are kept first, kept blocks, weights that are dropped."""

    matrix: Matrix
    densities: tuple[float, ...]
    first: Blocks
    kept: Blocks
    dropped: Tensor | None = None


class Masks:
    """The masks of a module's recurrent matrices; they only lose blocks.

    Args:
        module: has at least one recurrent layer.
        densities: the final densities.
        keep_diagonal: keep the blocks on the diagonal of each gate of R before all others.
        keep_zeros: blocks that are zero now stay zero.

    Raises:
        InputError: see ``find_matrices`` and ``Densities.of``; or a density is too small for the diagonal.
    """

    def __init__(
        self, module: nn.Module, densities: Densities, *, keep_diagonal: bool = False, keep_zeros: bool = False
    ) -> None:
        self._masked = [_start(matrix, densities, keep_diagonal) for matrix in find_matrices(module)]
        if keep_zeros:
            for masked in self._masked:
                masked.kept = _norms(masked.matrix) > 0

    def prune(self, progress: float) -> None:
        """Choose the blocks by the weights' magnitude at a share of the schedule, 0 to 1, and apply the masks.

        Raises:
            InputError: a weight is NaN or infinite.
        """
        for masked in self._masked:
            norms = _norms(masked.matrix)
            densities = [density_at(density, progress) for density in masked.densities]
            counts = counts_of(densities, len(norms), norms[0].size)
            # Gates do not compete: the weights of g are smaller than those of o, and it would lose nearly all blocks.
            kept = np.stack([keep(*gate) for gate in zip(norms, masked.kept, masked.first, counts, strict=True)])
            masked.kept, masked.dropped = kept, None
        self.apply()

    def apply(self) -> None:
        """Set the weights of all dropped blocks to zero."""
        with torch.no_grad():
            for masked in self._masked:
                weight = masked.matrix.weight
                if masked.dropped is None or masked.dropped.device != weight.device:
                    mask = expand(masked.kept, masked.matrix.hidden, masked.matrix.inputs)
                    masked.dropped = mask.logical_not().to(weight.device)
                # Not a product with 0, which keeps NaN and makes -0.
                weight.masked_fill_(masked.dropped, 0.0)

    @property
    def density(self) -> float:
        """The share of the blocks that are kept now."""
        kept = sum(int(masked.kept.sum()) for masked in self._masked)
        return kept / sum(masked.kept.size for masked in self._masked)

    def blocks(self) -> dict[str, Tensor]:
        """Return the kept blocks by the name of the parameter, bool [G, A, B], for a checkpoint."""
        return {masked.matrix.path: torch.from_numpy(masked.kept.copy()) for masked in self._masked}

    def load(self, blocks: Mapping[str, Tensor]) -> None:
        """Take over the result of ``blocks``.

        Raises:
            InputError: they are those of another module.
        """
        expected = {masked.matrix.path: list(masked.kept.shape) for masked in self._masked}
        found = {name: list(value.shape) for name, value in blocks.items()}
        if found != expected:
            name = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))[0]
            raise InputError(
                f"sparsity: the state has {found.get(name, 'no')} blocks for {name}, this module has "
                f"{expected.get(name, 'none')}; load the state of a module of the same layers"
            )
        for masked in self._masked:
            masked.kept = blocks[masked.matrix.path].detach().cpu().numpy().astype(bool)
            masked.dropped = None

    def report(self) -> SparsityReport:
        """Return the density and the bytes of each matrix now."""
        return _report((masked.matrix, masked.kept) for masked in self._masked)


def measure(module: nn.Module) -> SparsityReport:
    """Return density and bytes of a module's recurrent matrices: a block that is all zeros is not kept.

    Raises:
        InputError: see ``find_matrices``.
    """
    matrices = find_matrices(module)
    return _report((matrix, _norms(matrix) > 0) for matrix in matrices)


def _report(parts: Iterable[tuple[Matrix, Blocks]]) -> SparsityReport:
    return SparsityReport(
        matrices=tuple(
            MatrixReport(
                name=matrix.path,
                outputs=len(matrix.gates) * matrix.hidden,
                inputs=matrix.inputs,
                blocks=kept.size,
                kept=int(kept.sum()),
                kept_by_gate={letter: int(gate.sum()) for letter, gate in zip(matrix.gates, kept, strict=True)},
            )
            for matrix, kept in parts
        )
    )


def _start(matrix: Matrix, densities: Densities, keep_diagonal: bool) -> _Masked:
    shape = shape_of(len(matrix.gates), matrix.hidden, matrix.inputs)
    chosen = densities.of(matrix)
    first = np.zeros(shape, bool)
    if keep_diagonal and matrix.kind == "r":
        if matrix.inputs != matrix.hidden:
            raise InputError(
                f"sparsity: {matrix.path} has {matrix.inputs} inputs for {matrix.hidden} cells (a projection), so it "
                "has no diagonal; leave keep_diagonal out"
            )
        first = diagonal_blocks(shape[0], matrix.hidden)
    counts = counts_of(chosen, shape[0], shape[1] * shape[2])
    for letter, kept, gate in zip(matrix.gates, counts, first, strict=True):
        if kept < int(gate.sum()):
            raise InputError(
                f"sparsity: the density keeps {kept} blocks of gate {letter} of {matrix.path}, but its diagonal alone "
                f"has {int(gate.sum())}; give a density above {gate.sum() / gate.size:.3g}, or leave the diagonal out"
            )
    return _Masked(matrix=matrix, densities=chosen, first=first, kept=np.ones(shape, bool))


def _norms(matrix: Matrix) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    norms = block_norms(matrix.weight, len(matrix.gates))
    if not np.isfinite(norms).all():
        raise InputError(f"sparsity: {matrix.path} holds NaN or infinity, so its blocks have no order; lower the rate")
    return norms
