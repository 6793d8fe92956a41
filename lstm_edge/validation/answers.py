"""The answers of a model of any form on a data set of named arrays, and the targets in their order of axes.

Imports only NumPy and the runtime package, so it also runs on the device.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lstm_edge.data import NamedDataset
from lstm_edge.data.binding import Bound, bind, described, run_sequence
from lstm_edge.data.fitting import Axes, find_fit
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME, TensorSpec
from lstm_edge_runtime.errors import DataError, InputError
from lstm_edge_runtime.session import Session

__all__ = ["Answers", "answer", "fit_targets", "sequence_answers"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """A model's outputs on N sequences.

    Attributes:
        bound: the set matched to the model.
        outputs: by name, for each sequence the output without the batch axis, time first if it has a time axis.
        timed: the names of the outputs with a time axis.
        specs: the model's description of each output.
        size_bytes: size of the model's file.
        labels: the class names in the model's card, or empty.
    """

    bound: Bound
    outputs: Mapping[str, tuple[Array, ...]]
    timed: frozenset[str]
    specs: Mapping[str, TensorSpec]
    size_bytes: int
    labels: tuple[str, ...]

    @property
    def data(self) -> NamedDataset:
        """The set with the model's names."""
        return self.bound.data

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Steps of each sequence, int64 ``[N]``."""
        return self.bound.lengths

    def axes(self, name: str) -> tuple[Axes, int | None]:
        """Return the axes of an output without the batch in the model's order, and which is time."""
        axes, _ = _without_batch(self.specs[name].axes)
        if self.bound.by_step:
            return (TIME, *axes), 0
        return axes, _time_axis(axes)


def answer(
    name: str, session: Session, data: NamedDataset, *, on_sample: Callable[[int], None] | None = None
) -> Answers:
    """Run a model over every sequence, one by one (batch 1).

    Args:
        name: the model's name in messages.
        session: the open model.
        data: N sequences.
        on_sample: called with the number of sequences done.

    Raises:
        DataError: the data do not fit the model.
        InputError: an output holds NaN or infinity, or the model refuses an input.
    """
    bound = bind(data, session, model=name)
    specs = {spec.name: spec for spec in session.outputs}
    rows: dict[str, list[Array]] = {spec: [] for spec in specs}
    for number in range(len(data)):
        for output, row in sequence_answers(session, bound, number).items():
            if row.dtype.kind == "f" and not np.isfinite(row).all():
                raise InputError(f"{name}: output {output!r} holds NaN or infinity for sequence {number}")
            rows[output].append(row)
        if on_sample:
            on_sample(number + 1)
    labels = (session.card.labels if session.card is not None else None) or ()
    timed = {output for output, spec in specs.items() if bound.by_step or _time_axis(spec.axes) is not None}
    return Answers(
        bound=bound,
        outputs={output: tuple(found) for output, found in rows.items()},
        timed=frozenset(timed),
        specs=specs,
        size_bytes=session.size_bytes,
        labels=tuple(labels),
    )


def sequence_answers(session: Session, bound: Bound, index: int) -> dict[str, Array]:
    """Return the outputs of one sequence without the batch axis, time first if they have a time axis."""
    runs = list(run_sequence(session, bound, index))
    found = {spec.name: [_row(run[spec.name], spec) for run in runs] for spec in session.outputs}
    return {name: np.stack(rows) if bound.by_step else rows[0] for name, rows in found.items()}


def _row(output: Array, spec: TensorSpec) -> Array:
    """Return the only row of a batch, with the time axis first if there is one."""
    axes, batch = _without_batch(spec.axes)
    row = output if batch is None else np.take(output, 0, axis=batch)
    time = _time_axis(axes)
    return row if time is None else np.moveaxis(row, time, 0)


def _without_batch(axes: tuple[str | int, ...]) -> tuple[Axes, int | None]:
    """Return the axes of an output without the batch, and its position: the axis of that name, or a fixed batch of 1.

    A fixed batch of 1 is the first axis, or the second one after time if another one follows.
    """
    if BATCH in axes:
        place = axes.index(BATCH)
    elif axes[:1] == (1,):
        place = 0
    elif axes[:1] == (TIME,) and axes[1:2] == (1,) and len(axes) > 2:
        place = 1
    else:
        return axes, None
    return axes[:place] + axes[place + 1 :], place


def _time_axis(axes: Axes) -> int | None:
    """Return which axis of an output is time: the one of that name, or the only other dynamic axis except the batch.

    An output with fewer steps than the input, such as that of a convolution with stride, has a dynamic axis of another
    name.
    """
    if TIME in axes:
        return axes.index(TIME)
    dynamic = [place for place, axis in enumerate(axes) if isinstance(axis, str) and axis != BATCH]
    return dynamic[0] if len(dynamic) == 1 else None


def fit_targets(answers: Answers, name: str, model: str) -> tuple[Array, ...]:
    """Return the targets of one output in the order of its axes, time first.

    Integers may lack the axis of the logits: then they are classes.

    Raises:
        DataError: a target does not fit the output.
    """
    axes, time = answers.axes(name)
    classes = _class_axis(axes, time)
    if classes is not None and answers.data.targets[name][0].dtype.kind in "iub":
        with contextlib.suppress(DataError):
            return _fitted(answers, name, model, dropped=classes)
    return _fitted(answers, name, model, dropped=None)


def _fitted(answers: Answers, name: str, model: str, *, dropped: int | None) -> tuple[Array, ...]:
    """Fit the targets to an output, or to an output without its axis ``dropped``."""
    data = answers.data
    axes, time = answers.axes(name)
    rows = [np.asarray(row) for row in data.targets[name]]
    if answers.specs[name].axes[:1] == (1,):
        rows = [_without_fixed_batch(row, len(axes) - (dropped is not None), stepped=time is not None) for row in rows]
    kept = [place for place in range(len(axes)) if place != dropped]
    place = None if time is None else kept.index(time)
    sizes = [row.shape if time is None else np.moveaxis(row, 0, time).shape for row in answers.outputs[name]]
    steps: list[int] | None = answers.lengths.tolist()
    if data.lengths is None or time is None or [size[time] for size in sizes] != steps:
        steps = None  # not padded, or at another rate than the inputs, where the padding is unknown
    fit = find_fit(
        tuple(axes[axis] for axis in kept),
        rows,
        time=place,
        layout=data.layout,
        where=f"data {data.name}: the target of {name!r}",
        expected=f"the output {described(answers.specs[name])} of {model}, or for classes integers without its logits",
        steps=steps,
        sizes=[tuple(size[axis] for axis in kept) for size in sizes],
    )
    found = [fit.apply(row, steps=None if steps is None else steps[number]) for number, row in enumerate(rows)]
    return tuple(row if place is None else np.moveaxis(row, place, 0) for row in found)


def _without_fixed_batch(row: Array, rank: int, *, stepped: bool) -> Array:
    """Return a target without the batch axis of 1 that the model's output has, if it has it as the inputs do."""
    place = 1 if stepped else 0
    return row.squeeze(place) if row.ndim == rank + 1 and row.shape[place] == 1 else row


def _class_axis(axes: Axes, time: int | None) -> int | None:
    """Return the axis of the logits: the only one besides time (and axes of size 1), or None."""
    others = [place for place in range(len(axes)) if place != time]
    if len(others) > 1:
        others = [place for place in others if axes[place] != 1]
    return others[0] if len(others) == 1 else None
