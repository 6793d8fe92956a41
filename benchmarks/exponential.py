"""Fit the polynomial of exp in docs/operators.md; run ``python benchmarks/exponential.py`` to print it and its error.

exp(r) = 1 + r + r²·p(r) for |r| ≤ ln(2)/2. p has degree 4 and approximates (exp(r) - 1 - r) / r² such that the largest
relative error of exp(r) is small. The method is least squares on Chebyshev nodes, reweighted 300 times towards the
nodes with the largest error (Lawson, "Contributions to the theory of linear least maximum approximation", 1961,
softened).
"""

import numpy as np
from numpy.typing import NDArray

DEGREE = 4
NODES = 3000
ROUNDS = 300
# Slightly more than ln(2)/2: the reduction rounds n = y·log2(e) in float32, so |r| may end just outside.
HALF_WIDTH = np.log(2) / 2 * 1.0001
# Near r = 0, (exp(r) - 1 - r) / r² loses its digits in float64. p is smooth there, so these nodes can be left out.
NEAREST_TO_ZERO = 1e-3

Float64 = NDArray[np.float64]


def fit(degree: int = DEGREE) -> tuple[Float64, float]:
    """Return p's coefficients [degree + 1], lowest first, and the largest relative error of exp(r) on the nodes."""
    r = np.cos(np.linspace(0, np.pi, NODES)) * HALF_WIDTH
    r = r[np.abs(r) > NEAREST_TO_ZERO]
    target = (np.exp(r) - 1 - r) / r**2
    to_relative_error = r**2 / np.exp(r)
    powers = np.stack([r**i for i in range(degree + 1)], axis=1)
    weights = np.ones_like(r)
    for _ in range(ROUNDS):
        scale = weights * to_relative_error
        coefficients = np.linalg.lstsq(powers * scale[:, None], target * scale, rcond=None)[0]
        error = np.abs((powers @ coefficients - target) * to_relative_error)
        weights *= np.sqrt(0.05 + error / error.max())
        weights /= weights.max()
    return coefficients, float(error.max())


def main() -> None:
    """Print the coefficients as float32, in hexadecimal, and the error before that rounding."""
    coefficients, error = fit()
    for index, value in enumerate(coefficients.astype(np.float32)):
        print(f"E{index} = {float(value).hex()} ({value!r})")
    print(f"largest relative error before rounding: {error:.1e}")


if __name__ == "__main__":
    main()
