"""Checks of the arrays of a ``Dataset``; each error is one sentence."""

import numpy as np

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import DataError

__all__ = ["check_groups", "check_lengths", "check_x", "check_y"]


def check_x(name: str, x: Array) -> None:
    """Refuse steps that are neither finite float32 ``[sum(lengths), features]`` nor ids int64 ``[sum(lengths)]``."""
    if x.dtype == np.int64 and x.ndim == 1:
        if not x.size or x.min() < 0:
            found = f"its least is {x.min()}" if x.size else "it is empty"
            raise DataError(f"data {name}: x holds token ids, and {found}; expected ids of 0 or more")
        return
    _expect(
        name,
        "x",
        x,
        "float32 [sum(lengths), features], or int64 [sum(lengths)] for token ids",
        x.dtype == np.float32 and x.ndim == 2,
    )
    if 0 in x.shape:
        raise DataError(f"data {name}: x is empty, shape {list(x.shape)}; expected at least one step and one feature")
    finite = np.isfinite(x).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise DataError(f"data {name}: x holds NaN or infinity, first in row {row}; expected finite numbers")


def check_lengths(name: str, lengths: Array, steps: int) -> None:
    """Refuse lengths that are not int64 ``[samples]``, below 1, or do not add up to ``steps``."""
    _expect(name, "lengths", lengths, "int64 [samples]", lengths.dtype == np.int64 and lengths.ndim == 1)
    if not len(lengths):
        raise DataError(f"data {name}: lengths is empty; expected at least one sequence")
    if lengths.min() < 1:
        index = int(np.argmin(lengths))
        raise DataError(
            f"data {name}: lengths[{index}] is {lengths[index]}; expected every sequence to have 1 step or more"
        )
    # Python integers, because a sum of damaged lengths may overflow int64.
    total = sum(lengths.tolist())
    if total != steps:
        raise DataError(f"data {name}: lengths add up to {total}, but x has {steps} rows; expected the same number")


def check_y(name: str, y: Array, count: int, labels: tuple[str, ...], per_step: bool) -> None:
    """Refuse targets of a wrong dtype, shape or number (``count``), classes out of range, and non-finite values."""
    axis = "steps" if per_step else "samples"
    expected = f"int64 [{axis}] (classes) or float32 [{axis}] or [{axis}, targets]"
    known = (y.dtype == np.int64 and y.ndim == 1) or (y.dtype == np.float32 and y.ndim in (1, 2))
    _expect(name, "y", y, expected, known and (y.ndim == 1 or y.shape[1] > 0))
    if len(y) != count:
        other = f"lengths add up to {count}" if per_step else f"lengths has {count}"
        raise DataError(f"data {name}: y has {len(y)} entries, but {other}; expected the same number")
    if y.dtype == np.float32:
        if not np.isfinite(y).all():
            raise DataError(f"data {name}: y holds NaN or infinity; expected finite numbers")
        if labels:
            raise DataError(f"data {name}: there are {len(labels)} labels, but y is float32; expected integer classes")
        return
    top = len(labels) - 1
    wrong = (y < 0) | ((y > top) if labels else False)
    if wrong.any():
        index = int(np.argmax(wrong))
        allowed = f"a class from 0 to {top}, as there are {len(labels)} labels" if labels else "0 or more"
        raise DataError(f"data {name}: y[{index}] is {y[index]}; expected {allowed}")


def check_groups(name: str, samples: int, groups: Array | None, times: Array | None, ids: tuple[str, ...]) -> None:
    """Refuse groups that are not int64 ``[samples]``, non-finite times, and a wrong number of ids."""
    if groups is not None:
        good = groups.dtype == np.int64 and groups.shape == (samples,)
        _expect(name, "groups", groups, f"int64 [{samples}], one for each sequence", good)
    if times is not None:
        good = times.dtype == np.float64 and times.shape == (samples,)
        _expect(name, "times", times, f"float64 [{samples}], one for each sequence", good)
        if not np.isfinite(times).all():
            raise DataError(f"data {name}: times holds NaN or infinity; expected finite numbers")
    if ids and len(ids) != samples:
        raise DataError(f"data {name}: there are {len(ids)} ids for {samples} sequences; expected one for each")


def _expect(name: str, key: str, array: Array, expected: str, holds: bool) -> None:
    if not holds:
        raise DataError(f"data {name}: {key} is {array.dtype} {list(array.shape)}; expected {expected}")
