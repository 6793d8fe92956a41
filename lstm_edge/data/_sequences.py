"""A set of sequences as one frozen value, and the padding of a batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_edge_runtime.errors import DataError

__all__ = ["Dataset", "pad"]

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Sequences of different lengths with one target each; N samples, F features.

    ``x``: float32 ``[sum(lengths), F]``, the steps of all sequences one after the other. ``lengths``: int64 ``[N]``,
    steps of each, at least 1. ``y``: int64 ``[N]`` classes, or float32 ``[N]`` or ``[N, targets]`` for regression.
    ``labels``: the classes' names, or empty. The arrays must not be written to.

    Raises:
        DataError: an array has another dtype or shape, the set is empty, or ``x`` holds NaN or infinity.
    """

    name: str
    x: NDArray[np.float32]
    lengths: NDArray[np.int64]
    y: Array
    labels: tuple[str, ...] = ()
    _starts: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check_x(self.name, self.x)
        _check_lengths(self.name, self.lengths, len(self.x))
        _check_y(self.name, self.y, len(self.lengths), self.labels)
        object.__setattr__(self, "_starts", np.cumsum(self.lengths) - self.lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        """Return sequence ``index``: a view, float32 ``[T, F]``."""
        start = self._starts[index]
        return self.x[start : start + self.lengths[index]]

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return (self[index] for index in range(len(self)))

    @property
    def features(self) -> int:
        """Features of each step."""
        return int(self.x.shape[1])

    @property
    def is_classification(self) -> bool:
        """Whether ``y`` holds classes."""
        return self.y.dtype == np.int64

    @property
    def classes(self) -> int:
        """Number of classes: of ``labels`` where there are any, else the largest class plus one."""
        return len(self.labels) if self.labels else int(self.y.max()) + 1


def pad(rows: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Stack sequences into one batch, zeros after each one's end.

    Args:
        rows: B sequences, float32 ``[T_b, F]`` each.

    Returns:
        ``x``: float32 ``[B, max(T_b), F]``; ``lengths``: int64 ``[B]``.

    Raises:
        DataError: no rows, or a row that is not ``[time, features]`` with the first row's features.
    """
    if not len(rows):
        raise DataError("pad: got no sequences, expected at least one")
    for index, row in enumerate(rows):
        if row.ndim != 2 or row.shape[1] != rows[0].shape[-1]:
            expected = f"[time, {rows[0].shape[-1]}]" if rows[0].ndim == 2 else "[time, features]"
            raise DataError(f"pad: sequence {index} has shape {list(row.shape)}, expected {expected}")
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    x = np.zeros((len(rows), int(lengths.max()), rows[0].shape[1]), dtype=np.float32)
    for index, row in enumerate(rows):
        x[index, : len(row)] = row
    return x, lengths


def _check_x(name: str, x: Array) -> None:
    _expect(name, "x", x, "float32 [sum(lengths), features]", x.dtype == np.float32 and x.ndim == 2)
    if 0 in x.shape:
        raise DataError(f"data {name}: x is empty, shape {list(x.shape)}; expected at least one step and one feature")
    finite = np.isfinite(x).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise DataError(f"data {name}: x holds NaN or infinity, first in row {row}; expected finite numbers")


def _check_lengths(name: str, lengths: Array, steps: int) -> None:
    _expect(name, "lengths", lengths, "int64 [samples]", lengths.dtype == np.int64 and lengths.ndim == 1)
    if not len(lengths):
        raise DataError(f"data {name}: lengths is empty; expected at least one sequence")
    if lengths.min() < 1:
        index = int(np.argmin(lengths))
        raise DataError(
            f"data {name}: lengths[{index}] is {lengths[index]}; expected every sequence to have 1 step or more"
        )
    # Python's integers: a sum of damaged lengths may not fit into int64.
    total = sum(lengths.tolist())
    if total != steps:
        raise DataError(f"data {name}: lengths add up to {total}, but x has {steps} rows; expected the same number")


def _check_y(name: str, y: Array, samples: int, labels: tuple[str, ...]) -> None:
    known = (y.dtype == np.int64 and y.ndim == 1) or (y.dtype == np.float32 and y.ndim in (1, 2))
    _expect(name, "y", y, "int64 [samples] (classes) or float32 [samples] or [samples, targets]", known)
    if len(y) != samples:
        raise DataError(f"data {name}: y has {len(y)} entries, but lengths has {samples}; expected the same number")
    if y.dtype == np.float32:
        if not np.isfinite(y).all():
            raise DataError(f"data {name}: y holds NaN or infinity; expected finite numbers")
        return
    top = len(labels) - 1
    wrong = (y < 0) | ((y > top) if labels else False)
    if wrong.any():
        index = int(np.argmax(wrong))
        expected = f"a class from 0 to {top}, as there are {len(labels)} labels" if labels else "0 or more"
        raise DataError(f"data {name}: y[{index}] is {y[index]}; expected {expected}")


def _expect(name: str, key: str, array: Array, expected: str, holds: bool) -> None:
    if not holds:
        raise DataError(f"data {name}: {key} is {array.dtype} {list(array.shape)}; expected {expected}")
