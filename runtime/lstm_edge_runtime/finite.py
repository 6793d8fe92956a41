"""Ask many times whether the same arrays of float32 hold only finite numbers."""

import ctypes
import functools
from collections.abc import Callable, Sequence
from typing import Any

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.checks import all_finite
from lstm_edge_runtime.errors import LstmEdgeError
from lstm_edge_runtime.library import find_library

__all__ = ["finite_check"]


class _Span(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("count", ctypes.c_size_t))


def finite_check(arrays: Sequence[Array]) -> tuple[Callable[[Any], object], Any]:
    """Return ``ask`` and ``what``: ``ask(what)`` says whether arrays hold neither NaN nor infinity now.

    ``what`` holds the arrays, so that their memory lives as long as it may be asked about.

    Args:
        arrays: flat, contiguous float32 arrays.
    """
    ask = _find_function()
    if ask is None:
        return _all_finite, tuple(arrays)
    spans = [_Span(array.ctypes.data, array.size) for array in arrays if array.size]
    what = (_Span * (len(spans) + 1))(*spans)  # the last one has no data
    what.arrays = tuple(arrays)  # type: ignore[attr-defined]  # their owner
    return ask, what


def _all_finite(arrays: tuple[Array, ...]) -> bool:
    return all(map(all_finite, arrays))


def _find_function() -> Callable[[Any], object] | None:
    """Return the function of the kernels' library, which answers in a third of the time, or None without a library."""
    try:
        return _function(find_library().path)
    except LstmEdgeError:
        return None


@functools.cache
def _function(path: str) -> Callable[[Any], object] | None:
    # With the GIL: to give it up and take it again would take longer than the answer.
    ask: Callable[[Any], object] | None = getattr(ctypes.PyDLL(path), "LstmEdgeAllFinite", None)
    return ask
