"""Cross-validation folds, with scikit-learn's splitters."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold, TimeSeriesSplit

from lstm_edge.data import Dataset
from lstm_edge.training import TrainingOptions
from lstm_edge.training.holdout import class_name, split_sequences
from lstm_edge.training.selection.settings import Split
from lstm_edge_runtime.errors import DataError

__all__ = ["Fold", "check_held_out", "choose_split", "make_folds"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Fold:
    """Sequence indices, int64: training and evaluation."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]


def choose_split(dataset: Dataset) -> Split:
    """Return the default split of the data.

    ``time`` for forecasts whose sequences have times, ``grouped`` where there are groups, ``stratified`` for classes of
    sequences, else ``plain``.

    Raises:
        DataError: a forecast has both groups and times, and either may have to be kept apart.
    """
    if dataset.task == "forecast" and dataset.times is not None:
        if dataset.groups is not None:
            raise DataError(f"data {dataset.name}: has groups and times; give the split, grouped or time")
        return "time"
    if dataset.groups is not None:
        return "grouped"
    return "stratified" if dataset.task == "classification" else "plain"


def make_folds(dataset: Dataset, *, folds: int, split: Split, seed: int) -> tuple[Fold, ...]:
    """Split a data set.

    ``stratified``: the same share of every class in each fold. ``grouped``: a group is in one fold alone, for classes
    per sequence with class shares as equal as possible. ``time``: the evaluation sequences are later than all training
    sequences. ``plain``: at random.

    Args:
        dataset: N sequences.
        folds: number of folds, at least 2.
        split: kind of split.
        seed: random seed of the shuffling; ``time``, and ``grouped`` without classes, are not random.

    Raises:
        DataError: the data lack classes, groups or times for the split, have too few samples, or a class is missing
            from the training part of a fold.
    """
    _check(dataset, folds, split)
    rows = np.arange(len(dataset))
    parts: Iterable[tuple[Any, Any]]
    if split == "time":
        rows = np.argsort(dataset.times, kind="stable") if dataset.times is not None else rows
        parts = TimeSeriesSplit(n_splits=folds).split(rows)
    elif split == "stratified":
        parts = StratifiedKFold(folds, shuffle=True, random_state=seed).split(rows, dataset.y)
    elif split == "grouped" and dataset.task == "classification":
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        parts = splitter.split(rows, dataset.y, dataset.groups)
    elif split == "grouped":
        parts = GroupKFold(folds).split(rows, groups=dataset.groups)
    else:
        parts = KFold(folds, shuffle=True, random_state=seed).split(rows)
    result = tuple(
        Fold(train=np.sort(rows[train]).astype(np.int64), test=np.sort(rows[test]).astype(np.int64))
        for train, test in parts
    )
    _check_folds(dataset, result)
    return result


def check_held_out(dataset: Dataset, folds: tuple[Fold, ...], options: TrainingOptions, *, seed: int) -> None:
    """Refuse folds whose training would hold out the only sequences of a class, before anything is trained.

    Each training holds out a share of its fold for early stopping, and the last training a share of all data.

    Raises:
        DataError: a fold is refused; the message names the class and the fold.
    """
    for number, fold in enumerate(folds, start=1):
        split_sequences(dataset.subset(fold.train), options, seed=seed, where=f", fold {number}")
    split_sequences(dataset, options, seed=seed)


def _check(dataset: Dataset, folds: int, split: Split) -> None:
    name = dataset.name
    if split == "stratified":
        if dataset.task != "classification":
            raise DataError(f"data {name}: the stratified split needs a class for each sequence; use plain or grouped")
        classes, counts = np.unique(dataset.y, return_counts=True)
        if counts.min() < folds:
            rare = class_name(dataset, int(classes[int(np.argmin(counts))]))
            raise DataError(
                f"data {name}: the class {rare} has {counts.min()} sequences, fewer than the {folds} folds; "
                "use fewer folds or add data"
            )
    if split == "time" and dataset.times is None:
        raise DataError(f"data {name}: the split in time needs times, one for each sequence; there are none")
    if split == "grouped" and dataset.groups is None:
        raise DataError(f"data {name}: the grouped split needs groups, one for each sequence; there are none")
    units, what = len(dataset), "sequences"
    if split == "grouped" and dataset.groups is not None:
        units, what = len(np.unique(dataset.groups)), "groups"
    # TimeSeriesSplit makes one more part: the first part is only trained on.
    if units < folds + (split == "time"):
        raise DataError(f"data {name}: has {units} {what}, too few for {folds} folds")


def _check_folds(dataset: Dataset, folds: tuple[Fold, ...]) -> None:
    for number, fold in enumerate(folds, start=1):
        if not len(fold.test) or not len(fold.train):
            raise DataError(f"data {dataset.name}: fold {number} has no sequences; use fewer folds")
        if not dataset.is_classes:
            continue
        missing = np.setdiff1d(dataset.y, dataset.subset(fold.train).y)
        if len(missing):
            raise DataError(
                f"data {dataset.name}: the class {class_name(dataset, int(missing[0]))} is missing from the training "
                f"part of fold {number}; use another number of folds or another split"
            )
