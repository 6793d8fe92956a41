"""A set of sequences with their targets as one frozen value."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lstm_edge.data._checks import check_groups, check_lengths, check_x, check_y
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import DataError

__all__ = ["TASKS", "Dataset", "Task", "class_numbers"]

Task = Literal["classification", "tagging", "forecast"]

TASKS: tuple[Task, ...] = ("classification", "tagging", "forecast")


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Sequences of different lengths and their targets; N sequences, T_i steps of sequence i, F features, K values.

    The arrays are read-only.

    Attributes:
        name: the name of the set in messages.
        x: float32 ``[sum(lengths), F]``, the steps of all sequences one after the other; or token ids, int64
            ``[sum(lengths)]``. There is no padding: zeros are data.
        lengths: int64 ``[N]``, steps of each, at least 1.
        y: classes int64, or values float32; ``[N]`` or (values only) ``[N, K]``, one for each sequence, or with
            ``per_step`` ``[sum(lengths)]`` or ``[sum(lengths), K]``, one for each step.
        labels: the class names, or empty.
        per_step: whether ``y`` has a target for each step.
        groups: int64 ``[N]``, sequences of one group (one speaker, one machine) stay together in a split; or None.
        times: float64 ``[N]``, time of each sequence in any unit, used by a split in time; or None.
        ids: the names of the sequences, or empty.
        notes: what was done to the file's rows in reading it, for the user: sorted, filled, dropped.

    Raises:
        DataError: an array has a wrong dtype or shape, the set is empty, or a number is NaN or infinite.
    """

    name: str
    x: Array
    lengths: NDArray[np.int64]
    y: Array
    labels: tuple[str, ...] = ()
    per_step: bool = False
    groups: NDArray[np.int64] | None = None
    times: NDArray[np.float64] | None = None
    ids: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    _starts: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_x(self.name, self.x)
        check_lengths(self.name, self.lengths, len(self.x))
        check_y(self.name, self.y, len(self.x) if self.per_step else len(self.lengths), self.labels, self.per_step)
        check_groups(self.name, len(self.lengths), self.groups, self.times, self.ids)
        object.__setattr__(self, "_starts", np.cumsum(self.lengths) - self.lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Array:
        """Return sequence ``index``: a view, float32 ``[T, F]`` or ids int64 ``[T]``."""
        start = self._starts[index]
        return self.x[start : start + self.lengths[index]]

    def __iter__(self) -> Iterator[Array]:
        return (self[index] for index in range(len(self)))

    def target(self, index: int) -> Array:
        """Return the target of sequence ``index``: its entry of ``y``; with ``per_step`` a view ``[T]`` or ``[T, K]``.

        The entry of ``y`` is also a NumPy array, of shape ``[]`` or ``[K]``.
        """
        if not self.per_step:
            return np.asarray(self.y[index])
        start = self._starts[index]
        return self.y[start : start + self.lengths[index]]

    @property
    def task(self) -> Task:
        """The task: ``classification`` (a class per sequence), ``tagging`` (a class per step) or ``forecast``."""
        if not self.is_classes:
            return "forecast"
        return "tagging" if self.per_step else "classification"

    @property
    def features(self) -> int:
        """Number of features, F.

        Raises:
            DataError: ``x`` holds token ids, which have none.
        """
        if self.is_ids:
            raise DataError(f"data {self.name}: x holds token ids; expected float32 [sum(lengths), features]")
        return int(self.x.shape[1])

    @property
    def targets(self) -> int:
        """Values per target: K of ``[..., K]``, or 1 if ``y`` has no such axis."""
        return int(self.y.shape[1]) if self.y.ndim == 2 else 1

    @property
    def is_ids(self) -> bool:
        """Whether ``x`` holds token ids."""
        return self.x.ndim == 1

    @property
    def is_classes(self) -> bool:
        """Whether ``y`` holds classes, per sequence or per step."""
        return self.y.dtype == np.int64

    @property
    def is_classification(self) -> bool:
        """Whether ``y`` holds one class per sequence."""
        return self.is_classes and not self.per_step

    @property
    def classes(self) -> int:
        """Number of classes: the number of ``labels``, or without labels the largest class plus one.

        Raises:
            DataError: ``y`` holds values, not classes.
        """
        if not self.is_classes:
            raise DataError(f"data {self.name}: y is {self.y.dtype}, expected integer classes")
        return len(self.labels) if self.labels else int(self.y.max()) + 1

    def subset(self, rows: Sequence[int] | NDArray[np.int64], *, name: str | None = None) -> "Dataset":
        """Return the sequences ``rows`` (distinct indices from 0) as a new set in that order; the data are copied.

        ``labels`` stay, so that a class keeps its number; without labels ``classes`` may become smaller.

        Raises:
            DataError: no rows.
        """
        index = np.asarray(rows, dtype=np.int64)
        if not len(index):
            raise DataError(f"data {self.name}: got a subset without sequences, expected at least one")
        steps = np.concatenate([np.arange(int(self.lengths[i])) + self._starts[i] for i in index])
        return Dataset(
            name=name or self.name,
            x=self.x[steps],
            lengths=self.lengths[index],
            y=self.y[steps] if self.per_step else self.y[index],
            labels=self.labels,
            per_step=self.per_step,
            groups=None if self.groups is None else self.groups[index],
            times=None if self.times is None else self.times[index],
            ids=tuple(self.ids[i] for i in index) if self.ids else (),
        )

    def for_model(self, labels: Sequence[str], classes: int) -> "Dataset":
        """Return the set with the class numbers of a model.

        The class names of a file are numbered in sorted order. A file without one of the classes therefore numbers the
        later ones differently than the training file. Classes are matched by name. Classes without names keep their
        numbers, and names such as ``"3"`` become numbers for a model without names.

        Args:
            labels: the model's names, or none.
            classes: number of classes of the model.

        Raises:
            DataError: ``y`` holds values, or the model does not have a class.
        """
        present = np.unique(self.y) if self.is_classes else np.arange(0)
        _ = self.classes  # refuses values
        numbers = class_numbers(self.name, present, own=self.labels, labels=labels, classes=classes)
        table = np.zeros(int(present.max()) + 1, dtype=np.int64)
        table[list(numbers)] = list(numbers.values())
        return dataclasses.replace(self, y=table[self.y], labels=tuple(labels))


def class_numbers(
    name: str, present: Array, *, own: Sequence[str], labels: Sequence[str], classes: int
) -> dict[int, int]:
    """Return the model's number of each class that is present; see ``Dataset.for_model``.

    Args:
        name: the data in messages.
        present: the numbers of the classes in the data, int64.
        own: the class names of the data, or none.
        labels: the model's names, or none.
        classes: number of classes of the model.

    Raises:
        DataError: the model does not have a class.
    """
    numbers: dict[int, int]
    if not own:
        numbers = {int(number): int(number) for number in present}
    elif labels:
        known = {label: number for number, label in enumerate(labels)}
        numbers = {int(number): known.get(own[int(number)], classes) for number in present}
    else:
        names = {int(number): own[int(number)] for number in present}
        numbers = {n: int(name) if name.isascii() and name.isdecimal() else classes for n, name in names.items()}
    for number, new in numbers.items():
        if new >= classes:
            shown = ", ".join(map(repr, labels[:10])) + (", ..." if len(labels) > 10 else "")
            raise DataError(
                f"data {name}: the label {own[number] if own else number!r} was never seen in training; "
                f"expected one of {shown or f'0 to {classes - 1}'}"
            )
    return numbers
