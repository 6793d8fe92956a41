"""A held-out part of a training set, with the same share of every class."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_edge_runtime.errors import DataError, InputError

__all__ = ["hold_out"]

Indices = NDArray[np.int64]


def hold_out(y: NDArray[Any], share: float, *, seed: int) -> tuple[Indices, Indices]:
    """Split samples into a part to train on and a part to hold out, class by class.

    Args:
        y: int64 ``[N]``, the classes.
        share: of each class, how much is held out, above 0 and at most 0.5; at least one sample of every class that
            has two or more, none of a class with one.
        seed: which samples are drawn.

    Returns:
        Two sorted int64 arrays of sample numbers: to train on, held out.

    Raises:
        InputError: ``share`` is out of its range.
        DataError: no class has two samples, so that nothing can be held out.
    """
    if not 0 < share <= 0.5:
        raise InputError(f"training: the held-out share is {share}, expected above 0 and at most 0.5")
    generator = np.random.default_rng(seed)
    held: list[Indices] = []
    for value in np.unique(y):
        members = generator.permutation(np.flatnonzero(y == value))
        if len(members) > 1:
            held.append(members[: max(1, round(share * len(members)))])
    if not held:
        raise DataError("training: no class has two samples, so none can be held out; expected more data")
    held_out = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(y)), held_out), held_out
