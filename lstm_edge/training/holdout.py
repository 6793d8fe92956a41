"""Splitting a training set into training and held-out data; no class may be in the held-out data only."""

import numpy as np

from lstm_edge.data import Dataset
from lstm_edge.data.holdout import hold_out_sequences
from lstm_edge.training.options import TrainingOptions
from lstm_edge_runtime.errors import DataError

__all__ = ["class_name", "only_held_out", "split_sequences"]


def split_sequences(
    dataset: Dataset, options: TrainingOptions, *, seed: int, where: str = ""
) -> tuple[Dataset, Dataset]:
    """Return the indices of the training and the held-out sequences (see ``hold_out_sequences``).

    Args:
        dataset: the data.
        options: the share to hold out, and the truncation of training sequences.
        seed: random seed of the selection.
        where: text after the name of the data in messages, such as ", fold 2".

    Raises:
        InputError: the share is out of its range.
        DataError: nothing can be held out, or all targets of a class would be held out.
    """
    train_rows, held_out_rows = hold_out_sequences(dataset, options.held_out, seed=seed)
    train, held_out = dataset.subset(train_rows), dataset.subset(held_out_rows)
    unseen = only_held_out(train, held_out, options)
    if unseen is not None:
        raise DataError(
            f"data {dataset.name}{where}: the class {class_name(dataset, unseen)} is only in the {len(held_out)} "
            f"sequences that are held out{_why(dataset)}, so training would never see it; add sequences of that "
            "class, or give held-out data, another share or another seed"
        )
    return train, held_out


def only_held_out(train: Dataset, held_out: Dataset, options: TrainingOptions) -> int | None:
    """Return the lowest class that only the held-out targets have, or None.

    Steps that ``max_length`` always truncates are not trained on; held-out sequences are never truncated.
    """
    if not train.is_classes:
        return None
    y = train.y
    if train.per_step and options.max_length is not None and options.truncate != "random":
        steps = np.concatenate([np.arange(length) for length in train.lengths])
        if options.truncate == "pre":
            steps = np.repeat(train.lengths, train.lengths) - 1 - steps
        y = y[steps < options.max_length]
    unseen = np.setdiff1d(held_out.y, y)
    return int(unseen[0]) if len(unseen) else None


def class_name(dataset: Dataset, number: int) -> str:
    """Return the name of a class for messages: its label in quotes, or its number."""
    return repr(dataset.labels[number]) if dataset.labels else str(number)


def _why(dataset: Dataset) -> str:
    if dataset.groups is not None:
        return " (whole groups)"
    return " (the latest)" if dataset.times is not None else ""
