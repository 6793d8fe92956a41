"""A held-out part of a data set: of every class the same share, whole groups, or the latest in time."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_edge.data import Dataset
from lstm_edge_runtime.errors import DataError, InputError

__all__ = ["hold_out", "hold_out_sequences"]

Indices = NDArray[np.int64]


def hold_out(y: NDArray[Any], share: float, *, seed: int, name: str = "training") -> tuple[Indices, Indices]:
    """Split samples into a part to train on and a part to hold out, class by class.

    Args:
        y: int64 ``[N]``, the classes.
        share: of each class, how much is held out, above 0 and at most 0.5; at least one sample of every class that
            has two or more, none of a class with one.
        seed: which samples are drawn.
        name: what messages call the data.

    Returns:
        Two sorted int64 arrays of sample numbers: to train on, held out.

    Raises:
        InputError: ``share`` is out of its range.
        DataError: no class has two samples, so that nothing can be held out.
    """
    _check_share(share)
    generator = np.random.default_rng(seed)
    held: list[Indices] = []
    for value in np.unique(y):
        members = generator.permutation(np.flatnonzero(y == value))
        if len(members) > 1:
            held.append(members[: max(1, round(share * len(members)))])
    if not held:
        raise DataError(f"{name}: no class has two samples, so none can be held out; expected more data")
    return _parts(len(y), np.concatenate(held))


def hold_out_sequences(dataset: Dataset, share: float, *, seed: int) -> tuple[Indices, Indices]:
    """Split the sequences of a data set as the data ask.

    Where sequences belong to groups, whole groups are held out; where they have times, the latest; where each has a
    class, the same share of every class (``hold_out``); else any.

    Returns:
        Two sorted int64 arrays of sequence numbers: to train on, held out.

    Raises:
        InputError: ``share`` is out of its range.
        DataError: there are too few sequences, groups or members of a class to hold any out.
    """
    _check_share(share)
    if dataset.groups is not None:
        groups = np.unique(dataset.groups)
        kept = np.random.default_rng(seed).permutation(groups)[_count(dataset, len(groups), "groups", share) :]
        return _parts(len(dataset), np.flatnonzero(~np.isin(dataset.groups, kept)))
    if dataset.times is not None:
        order = np.argsort(dataset.times, kind="stable")
        return _parts(len(dataset), order[-_count(dataset, len(dataset), "sequences", share) :])
    if dataset.is_classification:
        return hold_out(dataset.y, share, seed=seed, name=f"data {dataset.name}")
    order = np.random.default_rng(seed).permutation(len(dataset))
    return _parts(len(dataset), order[: _count(dataset, len(dataset), "sequences", share)])


def _check_share(share: float) -> None:
    if not 0 < share <= 0.5:
        raise InputError(f"training: the held-out share is {share}, expected above 0 and at most 0.5")


def _count(dataset: Dataset, available: int, what: str, share: float) -> int:
    if available < 2:
        raise DataError(f"data {dataset.name}: has one of {what}, so none can be held out; expected two or more")
    return max(1, round(share * available))


def _parts(count: int, held_out: Indices) -> tuple[Indices, Indices]:
    held_out = np.sort(held_out)
    return np.setdiff1d(np.arange(count), held_out), held_out
