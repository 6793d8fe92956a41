"""Rounding of weights by the statistics of the activations: searched scales, clipped outliers, compensated errors.

``calibrated_rounder`` gives a rounder for ``quantize_bytes``. A matrix M [K, N] is rounded column by column to
(q - zero) · scale, with one scale a block of inputs (int4) or a column (int8), so that the error e = M - M_rounded
costs little in the products with the activations that were seen: eᵀ G e, where G [K, K] is their Gram matrix.

1. Scales are chosen first (``scales.best_grid``), by the squared error Σ_k G_kk e_k².
2. Then the inputs are rounded one after another, and the error of each is made up for by those that are not rounded
   yet (Frantar, Ashkboos, Hoefler, Alistarh: GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
   Transformers, 2022): along the Cholesky factor of the inverse of G, whose diagonal is damped. An int8 weight of zero
   stays zero, because the sparse operators leave zero blocks out: a pruned weight makes up for nothing.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lstm_edge_exporters.quantize.calibration import Calibration
from lstm_edge_exporters.quantize.rounding import LARGEST_COLUMN_SUM, MatrixRounder, Scheme, round_matrix
from lstm_edge_exporters.quantize.scales import Grid, as_scale, best_grid, round_to, stored
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import QuantizationError

__all__ = ["calibrated_rounder", "round_in_order"]

Float64 = NDArray[np.float64]

# Added to G's diagonal, as a share of its mean, as in the paper; 0.001 and 0.1 lose the same within the noise of the
# calibration rows' draw (0.40 and 0.36 % of a language model's perplexity, against 0.37 %).
DAMPING = 0.01
# Inputs whose errors are passed on to all later ones at once, by one matrix product.
CHUNK = 128


def calibrated_rounder(
    calibration: Calibration, *, compensate: bool = True, search_scales: bool = True, clip: bool = True
) -> MatrixRounder:
    """Return a rounder for ``quantize_bytes``: int8 and int4, deterministic for one machine and number of threads.

    Args:
        calibration: of the model that is quantized. A matrix in ``missing`` is rounded without compensation, its
            scales searched by the plain squared error.
        compensate: let later inputs make up for the errors of earlier ones.
        search_scales: refit scales by least squares.
        clip: let scales leave out a block's or column's largest weights.

    Returns:
        A function of a matrix's name, the matrix float32 [K, N] and its scheme. With all three switched off it is
        ``round_matrix`` exactly. It raises QuantizationError for a matrix that holds NaN or infinity, that the
        calibration does not know, or that has another number of inputs there.
    """

    def rounder(name: str, weight: NDArray[np.float32], scheme: Scheme) -> dict[str, Array]:
        if not (compensate or search_scales or clip) or not np.isfinite(weight).all():
            return round_matrix(name, weight, scheme)  # which refuses what is not finite
        gram = _damped(_gram(calibration, name, len(weight)), len(weight))
        matrix = weight.astype(np.float64)
        importance = np.ones(len(weight)) if gram is None else np.diag(gram)
        grid = best_grid(matrix, importance, scheme, search=search_scales, clip=clip)
        return stored(*_rounded(matrix, gram if compensate else None, grid), scheme)

    return rounder


def _gram(calibration: Calibration, name: str, inputs: int) -> Float64 | None:
    """The Gram matrix of a matrix; None where the calibration says why it has none."""
    gram = calibration.grams.get(name)
    if gram is None and name not in calibration.missing:
        known = ", ".join((*calibration.grams, *calibration.missing)) or "none"
        raise QuantizationError(
            f"{name}: the calibration belongs to another model: it has {known}; collect it on the model to quantize"
        )
    if gram is not None and len(gram) != inputs:
        raise QuantizationError(
            f"{name}: the calibration saw {len(gram)} inputs, the matrix has {inputs}; collect it on the model to "
            "quantize"
        )
    return gram


def _damped(gram: Float64 | None, inputs: int) -> Float64 | None:
    """A Gram matrix scaled to a mean diagonal of 1, and ``DAMPING`` on top, so that it has an inverse."""
    mean = 0.0 if gram is None else float(np.trace(gram)) / inputs
    if gram is None or mean <= 0.0:  # inputs that were always zero carry no information
        return None
    return np.asarray(gram / mean + DAMPING * np.eye(inputs), np.float64)


def _rounded(weight: Float64, gram: Float64 | None, grid: Grid) -> tuple[Float64, Grid]:
    """Round by a grid; int8 columns whose magnitudes sum to more than 132,104 get larger scales, as in ``rounding``."""
    while True:
        q = round_to(grid, weight) if gram is None else round_in_order(weight, gram, grid)
        sums = np.abs(q).sum(axis=0)
        if grid.lowest == 0 or (sums <= LARGEST_COLUMN_SUM).all():
            return q, grid
        growth = np.where(sums > LARGEST_COLUMN_SUM, sums / LARGEST_COLUMN_SUM * 1.001, 1.0)
        grid = replace(grid, scale=as_scale(grid.scale * growth))


def round_in_order(weight: Float64, gram: Float64, grid: Grid) -> Float64:
    """Round inputs one after another, the most active first, each making up for the errors of those before it.

    The grid is fixed beforehand and stays in the storage order; only the rounding goes by another order, which takes a
    tenth off the divergence from the float32 model's answers. Zeros of an int8 matrix stay zero.

    Args:
        weight: [K, N].
        gram: [K, K], positive definite.
        grid: of ``weight``.

    Returns:
        q, float64 [K, N].
    """
    order = np.argsort(-np.diag(gram), kind="stable")
    factor = _inverse_factor(gram[np.ix_(order, order)])
    scales, zeros = (part[order] for part in grid.of_inputs(len(weight)))
    rest, q = weight[order], np.empty_like(weight)
    kept = (rest != 0.0) | (grid.lowest == 0)
    for start in range(0, len(order), CHUNK):
        end = min(start + CHUNK, len(order))
        errors = np.empty((end - start, weight.shape[1]))
        for i in range(start, end):
            steps = (np.rint(rest[i] / scales[i]) + zeros[i]).clip(grid.lowest, grid.highest)
            q[order[i]] = np.where(kept[i], steps, zeros[i])
            errors[i - start] = (rest[i] - (q[order[i]] - zeros[i]) * scales[i]) / factor[i, i]
            rest[i + 1 : end] -= np.outer(factor[i, i + 1 : end], errors[i - start])
        rest[end:] -= factor[start:end, end:].T @ errors
    return q


def _inverse_factor(gram: Float64) -> Float64:
    """The upper triangular U with inverse(G) = Uᵀ U, of the paper's algorithm 1, without forming the inverse.

    G read backward is L Lᵀ, so G = V Vᵀ with V = L read backward, which is upper triangular, and U = inverse(V).
    """
    backward = np.linalg.cholesky(gram[::-1, ::-1])
    return np.asarray(np.triu(np.linalg.inv(backward[::-1, ::-1])), np.float64)
