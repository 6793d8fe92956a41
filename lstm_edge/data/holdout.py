"""Splitting off held-out data: the same share of every class, whole groups, or the latest sequences."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_edge.data import Dataset, NamedDataset
from lstm_edge_runtime.errors import DataError, InputError

__all__ = ["hold_out", "hold_out_sequences"]

Indices = NDArray[np.int64]


def hold_out(y: NDArray[Any], share: float, *, seed: int, name: str = "training") -> tuple[Indices, Indices]:
    """Split samples into a part to train on and a part to hold out, class by class.

    Args:
        y: int64 ``[N]``, the classes.
        share: held-out share of each class, above 0 and at most 0.5. At least one sample of a class with two or more
            samples is held out, and none of a class with one sample.
        seed: random seed of the selection.
        name: the name of the data in messages.

    Returns:
        Two sorted int64 arrays of sample indices: training, held out.

    Raises:
        InputError: ``share`` is out of its range.
        DataError: no class has two samples, so nothing can be held out.
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


def hold_out_sequences(dataset: Dataset | NamedDataset, share: float, *, seed: int) -> tuple[Indices, Indices]:
    """Split the sequences of a data set by groups, times or classes.

    If the sequences have groups, whole groups are held out. Else, if they have times, the latest are held out. Else, if
    each sequence has a class, the same share of every class is held out (``hold_out``). Else random sequences are held
    out.

    Returns:
        Two sorted int64 arrays of sequence indices: training, held out.

    Raises:
        InputError: ``share`` is out of its range.
        DataError: there are too few sequences, groups or samples of a class to hold any out.
    """
    _check_share(share)
    if dataset.groups is not None:
        groups = np.unique(dataset.groups)
        kept = np.random.default_rng(seed).permutation(groups)[_count(dataset, len(groups), "groups", share) :]
        return _parts(len(dataset), np.flatnonzero(~np.isin(dataset.groups, kept)))
    if dataset.times is not None:
        order = np.argsort(dataset.times, kind="stable")
        return _parts(len(dataset), order[-_count(dataset, len(dataset), "sequences", share) :])
    classes = dataset.classes if isinstance(dataset, NamedDataset) else _classes(dataset)
    if classes is not None:
        return hold_out(classes, share, seed=seed, name=f"data {dataset.name}")
    order = np.random.default_rng(seed).permutation(len(dataset))
    return _parts(len(dataset), order[: _count(dataset, len(dataset), "sequences", share)])


def _check_share(share: float) -> None:
    if not 0 < share <= 0.5:
        raise InputError(f"training: the held-out share is {share}, expected above 0 and at most 0.5")


def _classes(dataset: Dataset) -> Indices | None:
    return dataset.y if dataset.is_classification else None


def _count(dataset: Dataset | NamedDataset, available: int, what: str, share: float) -> int:
    if available < 2:
        raise DataError(f"data {dataset.name}: has one of {what}, so none can be held out; expected two or more")
    return max(1, round(share * available))


def _parts(count: int, held_out: Indices) -> tuple[Indices, Indices]:
    held_out = np.sort(held_out)
    return np.setdiff1d(np.arange(count), held_out), held_out
