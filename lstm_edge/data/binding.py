"""A data set matched to a model: which array is which input, state or target, in which order of axes, of which dtype.

Every array is taken only if it fits the model's description (``Session.inputs``, ``states``, ``outputs``). A model
whose inputs have no time axis is run step by step on data that have one, with its states carried from step to step.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstm_edge.data._audio import check_sound
from lstm_edge.data._named import NamedDataset
from lstm_edge.data._sequences import Dataset
from lstm_edge.data._transcripts import Transcripts
from lstm_edge.data.fitting import Axes, Fit, find_fit
from lstm_edge.data.naming import with_names
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME, StateSpec, TensorSpec
from lstm_edge_runtime.errors import DataError, InputError
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.state import State

__all__ = [
    "Bound",
    "as_named",
    "bind",
    "calibration_calls",
    "described",
    "has_plain_input",
    "run_sequence",
    "without_batch",
]


@dataclass(frozen=True, kw_only=True)
class _Column:
    """One input or state: its description, its fit, and the position of its batch axis in the model, or None."""

    spec: TensorSpec | StateSpec
    fit: Fit
    batch: int | None
    dtype: str
    timed: bool

    def array(self, row: Array, steps: int | None, where: str) -> Array:
        """Return the model's array of one sequence, with a batch of one."""
        array = convert(self.fit.apply(row, steps=steps), self.dtype, where)
        return array if self.batch is None else np.expand_dims(array, self.batch)

    def time_first(self, array: Array) -> Array:
        """Return a view of the model's array without the batch, time first if it has a time axis."""
        row = array if self.batch is None else np.take(array, 0, axis=self.batch)
        return row if self.fit.time is None else np.moveaxis(row, self.fit.time, 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Bound:
    """A data set and how it fits a model.

    ``data``: the set with the model's names. ``lengths``: int64 ``[N]``, steps of each sequence, 1 for single samples.
    ``by_step``: whether the model, which has no time axis, is run for each step.
    """

    data: NamedDataset
    inputs: Mapping[str, _Column]
    states: Mapping[str, _Column]
    lengths: np.ndarray[Any, np.dtype[np.int64]]
    by_step: bool

    def calls(self, index: int) -> Iterator[dict[str, Array]]:
        """Yield the inputs of each run of one sequence: one run, or with ``by_step`` one for each step."""
        steps = int(self.lengths[index])
        whole = {name: self._array(column, name, index, steps) for name, column in self.inputs.items()}
        if not self.by_step:
            yield whole
            return
        for step in range(steps):
            yield {
                name: np.asarray(array[step], order="C") if self.inputs[name].timed else array
                for name, array in whole.items()
            }

    def seen(self) -> dict[str, list[Array]]:
        """Return what the model gets: inputs and given states by name, for each sequence, time first, without batch."""
        columns = {**self.inputs, **self.states}
        return {
            name: [
                column.time_first(self._array(column, name, index, int(steps)))
                for index, steps in enumerate(self.lengths)
            ]
            for name, column in columns.items()
        }

    def state(self, session: Session, index: int) -> State | None:
        """Return the initial state of one sequence, or None if the data have none."""
        if not self.states:
            return None
        arrays = {name: self._array(column, name, index, None) for name, column in self.states.items()}
        return State.from_arrays(session.states, arrays)

    def _array(self, column: _Column, name: str, index: int, steps: int | None) -> Array:
        where = f"data {self.data.name}: the array {name or 'x'!r} of sequence {index}"
        padded = steps if self.data.lengths is not None and column.timed else None
        return column.array(self.data.inputs[name][index], padded, where)


def as_named(data: Dataset | Transcripts | NamedDataset) -> NamedDataset:
    """Return any set of sequences as one with names: ``x`` is the only input, ``y`` the only target."""
    if isinstance(data, NamedDataset):
        return data
    rows = tuple(data)
    if isinstance(data, Transcripts):
        return NamedDataset(name=data.name, inputs={"": rows}, layout="time-first")
    return NamedDataset(
        name=data.name,
        inputs={"": rows},
        targets={"": tuple(data.target(index) for index in range(len(data)))},
        layout="time-first",
        labels=data.labels,
        groups=data.groups,
        times=data.times,
        ids=data.ids,
    )


def bind(data: NamedDataset, session: Session, *, model: str) -> Bound:
    """Match a data set to an open model.

    Args:
        data: the set.
        session: the model.
        model: the model's name in messages.

    Raises:
        DataError: an array is missing, is not an input, state or output of the model, or does not fit; samples are at
            another rate than the model's.
        InputError: the file has no model card, so its axes are unknown.
    """
    if session.card is None:
        raise InputError(
            f"{model}: the file has no model card, so its states and axes are unknown: adopt it first, with lstm-edge "
            "adopt IN.onnx -o OUT.onnx"
        )
    check_sound(data, session, model)
    named = with_names(data, session, model=model)
    specs = {spec.name: spec for spec in session.inputs}
    timed_model = any(TIME in spec.axes for spec in session.inputs)
    columns = {name: _column(named, spec, model, timed_model=timed_model) for name, spec in specs.items()}
    by_step = not timed_model and any(column.timed for column in columns.values())
    states = {spec.input: _state_column(named, spec, model) for spec in session.states if spec.input in named.inputs}
    return Bound(data=named, inputs=columns, states=states, lengths=_lengths(named, columns, model), by_step=by_step)


def described(spec: TensorSpec | StateSpec) -> str:
    """Return a tensor's name, dtype and axes for messages."""
    axes = ", ".join(map(str, spec.axes))
    if isinstance(spec, StateSpec):
        return f"state {spec.input!r} {spec.dtype}[{axes}]"
    return f"{spec.name!r} {spec.dtype}[{axes}]"


def has_plain_input(session: Session) -> bool:
    """Return whether the only input is [batch, time, features] or ids [batch, time], in either order of the two."""
    if len(session.inputs) != 1:
        return False
    [spec] = session.inputs
    return {BATCH, TIME} == set(spec.axes[:2]) and len(spec.axes) == (3 if spec.dtype == "float32" else 2)


def run_sequence(session: Session, bound: Bound, index: int) -> Iterator[dict[str, Array]]:
    """Yield the outputs of each run of one sequence, with the states carried from run to run.

    Raises:
        InputError: the session refuses the inputs; the message names the sequence.
    """
    try:
        state = bound.state(session, index)
        for call in bound.calls(index):
            outputs, following = session.run(call, state=state)
            state = following if session.states else None
            yield outputs
    except InputError as error:
        raise InputError(f"data {bound.data.name}: sequence {index}: {error}") from error


def calibration_calls(session: Session, bound: Bound, index: int) -> Iterator[dict[str, Array]]:
    """Yield the feeds of each run of one sequence: inputs, and the states that the data give or the runs carry.

    Raises:
        InputError: the session refuses the inputs.
    """
    state = bound.state(session, index)
    for call in bound.calls(index):
        yield call | dict(state or {})
        if bound.by_step and session.states:
            state = session.run(call, state=state)[1]


def convert(array: Array, dtype: str, where: str) -> Array:
    """Return the array in a model's dtype: floats are rounded to other floats, every other value must stay the same.

    Raises:
        DataError: the dtype does not have a value, such as 0.5 for an integer, 300 for int8, or 2 for a boolean.
    """
    wanted = np.dtype(dtype)
    if array.dtype == wanted:
        return np.asarray(array, order="C")
    if wanted.kind == "f" and array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            converted = array.astype(wanted)
        if not np.isfinite(converted).all():
            raise DataError(f"{where} holds {array.dtype} numbers beyond {wanted}, which the model takes")
        return converted
    with np.errstate(invalid="ignore"):
        converted = array.astype(wanted)
        exact = np.array_equal(converted.astype(array.dtype), array)
    if not exact:
        raise DataError(
            f"{where} holds {array.dtype} values from {array.min()} to {array.max()}, which are not all values of "
            f"{wanted}, which the model takes"
        )
    return converted


def _column(data: NamedDataset, spec: TensorSpec, model: str, *, timed_model: bool) -> _Column:
    axes, batch = without_batch(spec.axes)
    layout = data.layout if TIME in axes else "model"

    def fitted(with_steps: bool) -> _Column:
        fit = _fitted(data, spec, spec.name, (TIME, *axes) if with_steps else axes, model, layout=layout)
        place = batch + 1 if with_steps and batch is not None else batch
        return _Column(spec=spec, fit=fit, batch=place, dtype=spec.dtype, timed=with_steps or TIME in axes)

    if timed_model:
        return fitted(False)
    # An input without time in a model without time: one axis more than it has is the steps.
    rank = data.inputs[spec.name][0].ndim
    if rank == len(axes) + 1:
        return fitted(True)
    try:
        return fitted(False)
    except DataError:
        if rank != len(axes) + 1 - axes.count(1):
            raise
        return fitted(True)


def _state_column(data: NamedDataset, spec: StateSpec, model: str) -> _Column:
    axes, batch = without_batch(spec.axes)
    fixed = tuple(int(axis.partition("*")[2]) if isinstance(axis, str) else axis for axis in axes)
    return _Column(
        spec=spec,
        fit=_fitted(data, spec, spec.input, fixed, model, layout="model"),
        batch=batch,
        dtype=spec.dtype,
        timed=False,
    )


def _fitted(data: NamedDataset, spec: TensorSpec | StateSpec, name: str, axes: Axes, model: str, *, layout: Any) -> Fit:
    where = f"data {data.name}: the array {name!r}"
    if _may_be_turned(data, spec, name):
        raise DataError(
            f"{where}: either of its first two axes may be that of the sequences for the {described(spec)} of {model}. "
            "Say which with the key layout: 'time-major' (the second), or 'model' or 'time-first' (the first)"
        )
    return find_fit(
        axes,
        data.inputs[name],
        time=axes.index(TIME) if TIME in axes else None,
        layout=layout,
        where=where,
        expected=f"the {'' if isinstance(spec, StateSpec) else 'input '}{described(spec)} of {model}",
        steps=None if data.lengths is None else data.lengths.tolist(),
    )


def _may_be_turned(data: NamedDataset, spec: TensorSpec | StateSpec, name: str) -> bool:
    """Return whether an array may have the batch on its second axis, as the model has it, instead of its first."""
    if name not in data.square or data.layout is not None or spec.axes[1:2] != (BATCH,):
        return False
    whole = data.inputs[name][0].ndim == len(spec.axes) - 1
    return whole and (isinstance(spec, TensorSpec) or spec.axes[0] == len(data))


def without_batch(axes: tuple[str | int, ...]) -> tuple[Axes, int | None]:
    """Return the axes without the batch, and the position of the batch; None if no axis is named so."""
    if BATCH not in axes:
        return axes, None
    place = axes.index(BATCH)
    return axes[:place] + axes[place + 1 :], place


def _lengths(data: NamedDataset, columns: Mapping[str, _Column], model: str) -> Any:
    """Return the steps of each sequence: those of the timed inputs, which must agree."""
    timed = {name: column for name, column in columns.items() if column.timed}
    if data.lengths is not None and timed:
        return data.lengths
    found: dict[str, Any] = {}
    for name, column in timed.items():
        assert column.fit.time is not None
        found[name] = np.array([column.fit.apply(row).shape[column.fit.time] for row in data.inputs[name]], np.int64)
    if not found:
        return np.ones(len(data), np.int64)
    first, *others = found
    for other in others:
        different = found[first] != found[other]
        if different.any():
            index = int(np.argmax(different))
            raise DataError(
                f"data {data.name}: sequence {index} has {found[first][index]} steps in {first!r} and "
                f"{found[other][index]} in {other!r}; expected the same number for {model}"
            )
    return found[first]
