"""Texts of the runtime (``lstm_edge_runtime.text_files``), and batches of token ids for a language model."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lstm_edge_runtime.errors import DataError
from lstm_edge_runtime.text_files import (
    LEAST_CHARACTERS,
    PARTS,
    TEXTS,
    TextData,
    decode_text,
    is_text,
    load_text,
    split_text,
)

__all__ = [
    "LEAST_CHARACTERS",
    "PARTS",
    "TEXTS",
    "TextData",
    "decode_text",
    "is_text",
    "load_text",
    "split_text",
    "text_batches",
]


def text_batches(ids: NDArray[np.int64], batch_size: int, window: int) -> Iterator[NDArray[np.int64]]:
    """Split ids into parallel rows and windows, for truncated back-propagation with a carried state.

    The ids are split into ``batch_size`` rows of equal length; up to ``batch_size - 1`` ids at the end are left out.
    Row b of a window continues row b of the previous window: the last column of a window is the first column of the
    next, so ``window[:, :-1]`` are inputs and ``window[:, 1:]`` their targets.

    Args:
        ids: int64 ``[N]``, at least ``batch_size + 1``.
        batch_size: B, the number of rows.
        window: T, the steps of a window; the last window may be shorter.

    Yields:
        int64 ``[B, T + 1]``, in the order of the text; read-only views.

    Raises:
        DataError: too few ids, or a size below 1.
    """
    for name, value in (("batch_size", batch_size), ("window", window)):
        if value < 1:
            raise DataError(f"text: {name} is {value}, expected 1 or more")
    if len(ids) <= batch_size:
        raise DataError(
            f"text: got {len(ids)} tokens, expected at least {batch_size + 1}: one for each of {batch_size} rows and "
            "one to predict"
        )
    return _windows(ids, batch_size, window)


def _windows(ids: NDArray[np.int64], batch_size: int, window: int) -> Iterator[NDArray[np.int64]]:
    steps = (len(ids) - 1) // batch_size
    # Row b holds ids[b * steps] to ids[(b + 1) * steps], its last one the first of the next row.
    rows = np.lib.stride_tricks.sliding_window_view(ids, steps + 1)[::steps][:batch_size]
    for start in range(0, steps, window):
        yield rows[:, start : start + window + 1]
