"""Sequences with named inputs and named targets: for models with several inputs or outputs, or other axes."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lstm_edge.data._checks import check_groups
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import DataError

__all__ = ["LAYOUTS", "Layout", "NamedDataset"]

Layout = Literal["model", "time-first"]
Arrays = tuple[Array, ...]

LAYOUTS: tuple[Layout, ...] = ("model", "time-first")


@dataclass(frozen=True, kw_only=True, eq=False)
class NamedDataset:
    """N sequences for a model of any form; the arrays are read-only and have no batch axis.

    Loaders produce it without knowing the model; validation and
    calibration match names, axes and dtypes to a model. A sequence may also be a single sample, without a time axis.

    Attributes:
        name: the name of the set in messages.
        inputs: by name of an input or of a state's input, N arrays, one for each sequence. ``""`` (the only key, except
            for states) means the model's only input. A name that is only an output of the model is a target: a file
            does not say which of its names are inputs.
        targets: by name of an output, N arrays; ``""`` (the only key) means the model's only output. May be empty, for
            a metric that needs no targets. Integers are classes or labels, floats are values.
        lengths: int64 ``[N]``, valid steps of each sequence if the arrays are padded at their end; None: no padding.
        layout: ``"time-first"``: time is the first axis of each array that has a time axis. ``"model"``: the axes are
            in the model's order. None: the order is inferred from the sizes, and refused if two orders are possible.
        labels: the class names, or empty.
        groups: int64 ``[N]``, sequences of one group stay together in a split; or None.
        times: float64 ``[N]``, time of each sequence in any unit, used by a split in time; or None.
        ids: the names of the sequences, or empty.
        square: names of arrays that were cut along their first axis although the second may be the sequences' too.
        notes: what was done to the rows of a table, for the user.
        rate_hz: samples a second if the inputs are samples of sound; None: they are something else, or it is unknown.

    Raises:
        DataError: the set is empty, the numbers of arrays differ, or an array is not finite numbers.
    """

    name: str
    inputs: Mapping[str, Sequence[Array]]
    targets: Mapping[str, Sequence[Array]] = dataclasses.field(default_factory=dict)
    lengths: NDArray[np.int64] | None = None
    layout: Layout | None = None
    labels: tuple[str, ...] = ()
    groups: NDArray[np.int64] | None = None
    times: NDArray[np.float64] | None = None
    ids: tuple[str, ...] = ()
    rate_hz: int | None = None
    square: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in ("inputs", "targets"):
            object.__setattr__(self, field, {name: tuple(rows) for name, rows in getattr(self, field).items()})
        if not self.inputs or not len(self):
            raise DataError(f"data {self.name}: has no sequences; expected at least one input with one sequence")
        for role, name, rows in self._columns():
            if len(rows) != len(self):
                raise DataError(
                    f"data {self.name}: the {role} {name!r} has {len(rows)} sequences, {self._first()!r} has "
                    f"{len(self)}; expected the same number"
                )
            for number, array in enumerate(rows):
                _check_numbers(self.name, role, name, number, array)
        if self.lengths is not None and (
            self.lengths.dtype != np.int64 or self.lengths.shape != (len(self),) or self.lengths.min() < 1
        ):
            raise DataError(f"data {self.name}: lengths must be int64 [{len(self)}], each 1 or more")
        if self.layout is not None and self.layout not in LAYOUTS:
            raise DataError(f"data {self.name}: layout is {self.layout!r}; expected one of {', '.join(LAYOUTS)}")
        check_groups(self.name, len(self), self.groups, self.times, self.ids)

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all inputs, then those of all targets."""
        return (*self.inputs, *self.targets)

    @property
    def classes(self) -> NDArray[np.int64] | None:
        """The class of each sequence, int64 ``[N]``, if the only target is one integer for each; else None."""
        if len(self.targets) != 1:
            return None
        [rows] = self.targets.values()
        if any(row.ndim or row.dtype.kind not in "iu" for row in rows):
            return None
        return np.array([int(row) for row in rows], dtype=np.int64)

    def fingerprint(self, index: int) -> bytes:
        """Return the bytes of all inputs of one sequence; equal sequences give equal bytes.

        Those of one input are its bytes alone, as in a ``Dataset``.
        """
        if len(self.inputs) == 1:
            return next(iter(self.inputs.values()))[index].tobytes()
        parts = (
            f"{name} {rows[index].dtype} {rows[index].shape}\n".encode() + rows[index].tobytes()
            for name, rows in sorted(self.inputs.items())
        )
        return b"".join(parts)

    def subset(self, rows: Sequence[int] | NDArray[np.int64], *, name: str | None = None) -> "NamedDataset":
        """Return the sequences ``rows`` (indices from 0) as a new set in that order; the arrays are shared.

        Raises:
            DataError: no rows.
        """
        index = np.asarray(rows, dtype=np.int64)
        if not len(index):
            raise DataError(f"data {self.name}: got a subset without sequences, expected at least one")

        def chosen(arrays: Mapping[str, Sequence[Array]]) -> dict[str, Arrays]:
            return {key: tuple(values[i] for i in index) for key, values in arrays.items()}

        return dataclasses.replace(
            self,
            name=name or self.name,
            inputs=chosen(self.inputs),
            targets=chosen(self.targets),
            lengths=None if self.lengths is None else self.lengths[index],
            groups=None if self.groups is None else self.groups[index],
            times=None if self.times is None else self.times[index],
            ids=tuple(self.ids[i] for i in index) if self.ids else (),
        )

    def _columns(self) -> Iterator[tuple[str, str, Sequence[Array]]]:
        for role, arrays in (("input", self.inputs), ("target", self.targets)):
            for name, rows in arrays.items():
                yield role, name, rows

    def _first(self) -> str:
        return next(iter(self.inputs))


def _check_numbers(data: str, role: str, name: str, number: int, array: Any) -> None:
    where = f"data {data}: the {role} {name!r} of sequence {number}"
    if not isinstance(array, np.ndarray | np.generic) or array.dtype.kind not in "biuf":
        got = array.dtype if isinstance(array, np.ndarray | np.generic) else type(array).__name__
        raise DataError(f"{where} is {got}; expected a NumPy array of real numbers")
    if not array.size:
        raise DataError(f"{where} is empty, shape {list(array.shape)}; expected at least one element")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(f"{where} holds NaN or infinity; expected finite numbers")
