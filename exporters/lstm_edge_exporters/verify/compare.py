"""The comparator: how far two arrays are apart, where, and whether that is too far. NumPy only.

It fails closed: a different shape or dtype, NaN or infinity on either side (also on both), or nothing to compare
raises ``ParityError``.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_edge_runtime.errors import ParityError

__all__ = ["CLOSE", "EXACT", "FLOAT64", "STREAM", "Difference", "Tolerance", "assert_close", "compare", "worst"]


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """The largest absolute difference allowed, in the unit of the values compared, and why it is that."""

    name: str
    absolute: float
    reason: str


EXACT = Tolerance(name="EXACT", absolute=0.0, reason="the same operations in the same order: equal to the bit")
FLOAT64 = Tolerance(
    name="FLOAT64",
    absolute=1e-12,
    reason="the same equations in float64, summed in another order: a rounding is 1.1e-16 on values of order one, "
    "the parity table's worst was 1.8e-15",
)
CLOSE = Tolerance(
    name="CLOSE",
    absolute=2e-6,
    reason="the same equations in float32 on outputs of order one: a rounding is 6e-8, "
    "the parity table's worst was 7.2e-7, PyTorch against the float64 equations at a cell state of 5",
)
STREAM = Tolerance(
    name="STREAM",
    absolute=1e-6,
    reason="the same float32 file, fed in chunks: only the order of sums in a matrix product may change with its shape",
)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far ``got`` is from ``expected``: worst and mean absolute difference, and the worst element.

    ``index`` is the worst element's position, one number an axis; ``got`` and ``expected`` are its two values.
    ``scale`` is the greatest absolute value of all that was expected.
    """

    name: str
    max_abs: float
    mean_abs: float
    index: tuple[int, ...]
    got: float
    expected: float
    scale: float

    def __str__(self) -> str:
        return f"{self.name}: {self.max_abs:.3g} at {list(self.index)} (got {self.got!r}, expected {self.expected!r})"


def compare(name: str, got: npt.NDArray[Any], expected: npt.NDArray[Any]) -> Difference:
    """Measure the difference of two arrays of one shape and dtype (float, integer or bool).

    Args:
        name: what is compared, for messages.
        got: the answer under test.
        expected: what it must be.

    Raises:
        ParityError: the shapes or dtypes differ, there are no elements, the dtype is not a number, or an element of
            either side is NaN or infinite (NaN equals nothing, not even NaN).
    """
    got, expected = np.asarray(got), np.asarray(expected)
    for what, left, right in (("shape", got.shape, expected.shape), ("dtype", got.dtype, expected.dtype)):
        if left != right:
            raise ParityError(f"{name}: got {what} {left}, expected {right}")
    if got.size == 0:
        raise ParityError(f"{name}: nothing to compare in shape {got.shape}, expected at least one element")
    if got.dtype.kind not in "fiub":
        raise ParityError(f"{name}: cannot compare dtype {got.dtype}, expected floats, integers or booleans")
    for side, values in (("got", got), ("expected", expected)):
        _refuse_non_finite(name, side, values)
    distance = _distance(got, expected)
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(distance)), distance.shape))
    return Difference(
        name=name,
        max_abs=float(distance[index]),
        mean_abs=float(np.mean(distance)),
        index=index,
        got=float(got[index]),
        expected=float(expected[index]),
        scale=float(np.max(np.abs(expected.astype(np.float64)))),
    )


def assert_close(name: str, got: npt.NDArray[Any], expected: npt.NDArray[Any], tolerance: Tolerance) -> Difference:
    """Return the difference of two arrays, or raise when it is over the tolerance.

    Raises:
        ParityError: the worst element is further apart than ``tolerance.absolute``, or ``compare`` refuses.
    """
    difference = compare(name, got, expected)
    if not difference.max_abs <= tolerance.absolute:
        raise ParityError(
            f"{name}: differs by {difference.max_abs:.3g} at {list(difference.index)}: got {difference.got!r}, "
            f"expected {difference.expected!r}, tolerance {tolerance.name} is {tolerance.absolute:g}"
        )
    return difference


def worst(differences: Iterable[Difference]) -> Difference:
    """Return the difference with the largest ``max_abs``.

    Raises:
        ParityError: there are no differences, so nothing was compared.
    """
    found = list(differences)
    if not found:
        raise ParityError("nothing was compared: expected at least one difference")
    return max(found, key=lambda difference: difference.max_abs)


def _refuse_non_finite(name: str, side: str, values: npt.NDArray[Any]) -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        index = [int(i) for i in np.argwhere(bad)[0]]
        value = values[tuple(index)]
        raise ParityError(f"{name}: {side} is {value} at {index}, expected finite numbers on both sides")


def _distance(got: npt.NDArray[Any], expected: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    if got.dtype.kind == "f":
        # float64 holds any difference of two float32 exactly enough; two huge float64 may give inf, which fails.
        with np.errstate(over="ignore"):
            return np.asarray(np.abs(got.astype(np.float64) - expected.astype(np.float64)))
    # Python's integers because int64 values past 2**53 would look equal in float64.
    exact = np.asarray(got.astype(object) - expected.astype(object), dtype=object)
    return np.asarray(np.abs(exact), dtype=np.float64)
