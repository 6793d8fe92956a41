"""Run a model on one piece of a sequence after the other and keep its state between them."""

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnxruntime

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.bindings import Binding, Runner
from lstm_edge_runtime.card import BATCH, TIME, ModelCard, StateSpec, TensorSpec
from lstm_edge_runtime.checks import all_finite, check_array, check_finite, name_inputs, sum_of_squares
from lstm_edge_runtime.contract import Contract
from lstm_edge_runtime.errors import InputError, StreamingError, first_line
from lstm_edge_runtime.providers import RUNTIME_ERRORS
from lstm_edge_runtime.state import State, state_shape

__all__ = ["OpenModel", "Stream"]


# A plan holds the buffers for one input shape. Most streams see one or two shapes (the chunk and a shorter last one).
# Eight plans leave room, and limit the memory of a stream whose input length keeps changing.
_MOST_PLANS = 8
# All states share one buffer, each at a multiple of 64 bytes (a cache line), so that one dot product checks them all.
# In float32 elements.
_ALIGNMENT = 16
# The axes that a piece lacks. A chunk has all axes, a frame lacks time, and a frame of one row may also lack batch.
_FORMS: tuple[frozenset[str], ...] = (frozenset(), frozenset({TIME}), frozenset({TIME, BATCH}))


class OpenModel(Protocol):
    """What a stream needs from an open model; ``Session`` provides it."""

    card: ModelCard | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[StateSpec, ...]
    lengths: str | None
    onnxruntime_session: onnxruntime.InferenceSession

    def initial_state(self, batch_size: int = 1) -> State:
        """Return the initial state of ``batch_size`` rows."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """The buffers and bindings for one input shape, made once so that a push only copies, runs and checks.

    ``shape`` and ``dtype`` describe the model's only input (None if it has several inputs). The views show the buffers
    in the shape of the piece. ``bindings`` go from the first state buffer to the second, and back; they own every
    array that onnxruntime uses. ``handles`` are the handles of the bindings.
    """

    steps: int
    shape: tuple[int, ...] | None
    dtype: np.dtype[Any] | None
    view: Array
    input_views: dict[str, Array]
    flat_floats: tuple[Array, ...]
    output: Array | None
    output_views: dict[str, Array]
    bindings: tuple[Binding, Binding]
    handles: tuple[Any, Any]


class Stream:
    """Runs a model piece by piece: ``push`` runs one piece and keeps the state for the next.

    A piece is a chunk or a frame. A chunk has all axes of the input, for example float32 [batch, time, features]. A
    frame is one time step without the time axis, [batch, features]; for a batch of one, [features] is also accepted.
    The outputs lack the same axes as the piece: a frame [features] gives [classes], a frame [batch, features] gives
    [batch, classes], a chunk gives [batch, time, classes]. (An output without a time axis, as in a ``last-step``
    model, can only lack the batch axis.) A model with several inputs takes a mapping; all its inputs must have the
    same form. A model with the verdict ``each-call`` has no time axis: each push is one call and counts as one step.

    Only one thread at a time may use a Stream; several Streams may share one Session.
    """

    def __init__(self, session: OpenModel, *, batch_size: int = 1, on_nonfinite: str = "refuse") -> None:
        """Start at the initial state; see ``Session.stream``."""
        if on_nonfinite != "refuse":
            raise InputError(f"on_nonfinite must be 'refuse', got {on_nonfinite!r}")
        _check_streamable(session)
        initial = session.initial_state(batch_size)
        if batch_size != 1 and not any(BATCH in spec.axes for spec in session.inputs):
            raise InputError(f"batch_size is {batch_size}, and no input of the model has a dynamic batch axis")
        self._session = session
        self._contract = Contract(
            inputs=session.inputs, outputs=session.outputs, states=session.states, lengths=session.lengths
        )
        self._batch_size = int(batch_size)
        self._runner = Runner(session.onnxruntime_session)
        self._run = self._runner.run
        # The index of the buffer that holds the state, and the number of steps so far. One assignment replaces both, so
        # that an interrupt leaves either the old state and count or the new ones.
        self._now = (0, 0)
        timed = [spec for spec in session.inputs if TIME in spec.axes]
        self._moving = tuple(timed or session.inputs)
        self._conditions = tuple(spec for spec in session.inputs if spec not in self._moving)
        self._kept: dict[str, Array] = {}
        self._plans: OrderedDict[tuple[Any, ...], _Plan] = OrderedDict()
        self._last: _Plan | None = None
        layout, offset = {}, 0
        for spec in session.states:
            shape = state_shape(spec, self._batch_size)
            layout[spec.input] = (offset, shape)
            offset += math.ceil(math.prod(shape) / _ALIGNMENT) * _ALIGNMENT
        self._flats = (np.zeros(offset, np.float32), np.zeros(offset, np.float32))
        self._states = tuple(
            {name: flat[at : at + math.prod(shape)].reshape(shape) for name, (at, shape) in layout.items()}
            for flat in self._flats
        )
        self._go_to(initial, 0)

    @property
    def steps(self) -> int:
        """Number of time steps since the start or the last ``reset``."""
        return self._now[1]

    @property
    def state(self) -> State:
        """A copy of the state after the last step; assign a State to continue from it (``steps`` stays)."""
        return State(self._session.states, self._states[self._now[0]])

    @state.setter
    def state(self, state: State) -> None:
        checked = State.from_arrays(self._session.states, state)
        if checked.batch_size not in (None, self._batch_size):
            raise InputError(f"the state has {checked.batch_size} rows, the stream has {self._batch_size}")
        self._go_to(checked, self._now[1])

    def reset(self) -> None:
        """Go back to the initial state and to step 0, and forget the conditions."""
        if self._conditions:
            self._kept, self._last = {}, None
        self._go_to(self._session.initial_state(self._batch_size), 0)

    def _go_to(self, state: State, steps: int) -> None:
        """Write a state into the unused buffer, then switch to that buffer: the whole state changes, or none of it."""
        other = 1 - self._now[0]
        for name, array in state.items():
            self._states[other][name][...] = array
        self._now = (other, steps)

    def push(self, x: Any, out: Any = None) -> Any:
        """Run one piece of the sequence and keep the state for the next piece.

        Args:
            x: a frame or a chunk (see the class); for a model with several inputs, a mapping from input name to frame
                or chunk. It is read, and neither written nor kept.
            out: where to write the output: an array of the output's shape and dtype; for a model with several
                outputs, a mapping from output name to array.

        Returns:
            The output as a new array (a dict by name if the model has several outputs), or ``out``.

        Raises:
            InputError: a name, dtype or shape is wrong, a value is NaN or infinite, or the new state is not finite. The
                state then stays unchanged.
        """
        plan = self._last
        if plan is None or x.__class__ is not np.ndarray or x.shape != plan.shape or x.dtype is not plan.dtype:
            plan = self._load(x)
        else:
            plan.view[...] = x
        if out is not None:
            _check_out(plan, out)
        # A sum of squares is finite only if every element is. It may also overflow, so every element is then checked.
        for flat in plan.flat_floats:
            if not math.isfinite(sum_of_squares(flat, flat)):
                self._refuse_nonfinite(plan)
        phase, steps = self._now
        try:
            self._run(plan.handles[phase], None)
        except RUNTIME_ERRORS as error:
            raise InputError(
                f"step {steps}: onnxruntime refused this input, the state is unchanged: {first_line(error)}"
            ) from error
        new = self._flats[1 - phase]
        if not math.isfinite(sum_of_squares(new, new)) and not all_finite(new):
            raise InputError(f"step {steps}: the new state is not finite: it was discarded, and the old state was kept")
        self._now = (1 - phase, steps + plan.steps)
        return plan.output.copy() if out is None and plan.output is not None else _answer(plan, out)

    def _refuse_nonfinite(self, plan: _Plan) -> None:
        for name, view in plan.input_views.items():
            try:
                check_finite(name, view)
            except InputError as error:
                raise InputError(f"step {self.steps}: {error}; the state is unchanged") from error

    def _load(self, x: Any) -> _Plan:
        """Check a piece whose shape differs from the last one, find or make its plan, and fill the buffers."""
        named = name_inputs(self._contract, self._with_kept(x))
        arrays = {}
        for spec in self._session.inputs:
            value = named[spec.name]
            # A token alone is a frame: an id of a NumPy type, or a Python int.
            scalar = isinstance(value, np.generic) or (isinstance(value, int) and not isinstance(value, bool))
            arrays[spec.name] = check_array(spec, np.asarray(value) if scalar else value)
        for spec in self._conditions:
            arrays[spec.name] = self._whole_condition(spec, arrays[spec.name])
        key = tuple(arrays[spec.name].shape for spec in self._moving)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = self._make_plan(arrays)
            if len(self._plans) > _MOST_PLANS:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        self._last = plan
        for name, array in arrays.items():
            plan.input_views[name][...] = array
        self._kept = {spec.name: arrays[spec.name].copy() for spec in self._conditions}
        return plan

    def _with_kept(self, x: Any) -> Any:
        """The inputs of a push, with the conditions that it does not give."""
        if not self._conditions:
            return x
        if not isinstance(x, Mapping) and len(self._moving) == 1:
            x = {self._moving[0].name: x}
        for spec in self._conditions:
            if isinstance(x, Mapping) and spec.name not in x and spec.name not in self._kept:
                raise InputError(
                    f"input {spec.name!r} is missing: it has no time axis, so give it with the first push, in a "
                    "mapping of inputs; it is kept until reset"
                )
        return {**self._kept, **x} if isinstance(x, Mapping) else x

    def _whole_condition(self, spec: TensorSpec, array: Array) -> Array:
        """Return a condition with all of its axes; for one row it may lack the batch axis."""
        sizes = {BATCH: self._batch_size}
        for lacks in _FORMS[::2] if self._batch_size == 1 else _FORMS[:1]:
            if _fits(spec, array.shape, sizes, lacks):
                try:
                    check_finite(spec.name, array)
                except InputError as error:
                    raise InputError(f"step {self.steps}: {error}; the state is unchanged") from error
                return array.reshape(_shape(spec, sizes))
        expected = ", ".join(str(sizes.get(str(axis), axis)) for axis in spec.axes)
        raise InputError(f"input {spec.name!r} has shape {list(array.shape)}, expected [{expected}]")

    def _make_plan(self, arrays: Mapping[str, Array]) -> _Plan:
        lacks, steps = self._find_form(arrays)
        session, sizes = self._session, {BATCH: self._batch_size, TIME: steps}
        inputs = {spec.name: np.zeros(_shape(spec, sizes), spec.dtype) for spec in session.inputs}
        outputs = {spec.name: np.zeros(_shape(spec, sizes), spec.dtype) for spec in session.outputs}
        input_views = {spec.name: inputs[spec.name].reshape(_shape(spec, sizes, lacks)) for spec in self._moving}
        input_views |= {spec.name: inputs[spec.name] for spec in self._conditions}
        output_views = {spec.name: outputs[spec.name].reshape(_shape(spec, sizes, lacks)) for spec in session.outputs}
        feeds = dict(inputs)
        if session.lengths is not None:
            feeds[session.lengths] = np.full(self._batch_size, steps, np.int64)
        first = next(iter(input_views.values()))
        alone = len(self._moving) == 1
        bindings = (self._bind(feeds, outputs, 0), self._bind(feeds, outputs, 1))
        return _Plan(
            steps=steps,
            shape=first.shape if alone else None,
            dtype=first.dtype if alone else None,
            view=first,
            input_views=input_views,
            flat_floats=tuple(array.reshape(-1) for array in inputs.values() if array.dtype.kind == "f"),
            output=next(iter(output_views.values())) if len(outputs) == 1 else None,
            output_views=output_views,
            bindings=bindings,
            handles=(bindings[0].handle, bindings[1].handle),
        )

    def _bind(self, feeds: Mapping[str, Array], outputs: Mapping[str, Array], phase: int) -> Binding:
        """Bind the buffers to the graph so that the state goes from buffer ``phase`` to the other buffer."""
        new_states = {spec.output: self._states[1 - phase][spec.input] for spec in self._session.states}
        return self._runner.bind({**feeds, **self._states[phase]}, {**outputs, **new_states})

    def _find_form(self, arrays: Mapping[str, Array]) -> tuple[frozenset[str], int]:
        """Return which axes the piece lacks, and how many time steps it has."""
        specs = self._moving
        # A piece may lack the batch axis only if there is one row.
        forms = _FORMS if self._batch_size == 1 else _FORMS[:2]
        for lacks in forms:
            sizes = {BATCH: self._batch_size}
            if all(_fits(spec, arrays[spec.name].shape, sizes, lacks) for spec in specs):
                return lacks, sizes.get(TIME, 1)
        wrong = next(
            (s for s in specs if not any(_fits(s, arrays[s.name].shape, {BATCH: self._batch_size}, f) for f in forms)),
            specs[0],
        )
        names = {BATCH: str(self._batch_size), TIME: TIME}
        expected = dict.fromkeys(
            "[" + ", ".join(names.get(str(axis), str(axis)) for axis in wrong.axes if axis not in lacks) + "]"
            for lacks in reversed(forms)
        )
        raise InputError(
            f"input {wrong.name!r} has shape {list(arrays[wrong.name].shape)}, expected {' or '.join(expected)}, "
            f"with {TIME} at least 1" + (", all inputs in the same form" if len(specs) > 1 else "")
        )


def _check_streamable(session: OpenModel) -> None:
    if session.card is None:
        raise StreamingError(
            "the model cannot be streamed: it has no model card, so it is unknown whether chunks give the outputs "
            "of the whole sequence; export it with lstm-edge"
        )
    if session.card.streaming.verdict == "none":
        raise StreamingError(f"the model cannot be streamed: {session.card.streaming.reason or 'its card says so'}")
    for spec in session.inputs + session.outputs:
        for axis in spec.axes:
            if isinstance(axis, str) and axis not in (BATCH, TIME):
                raise StreamingError(
                    f"the model cannot be streamed: {spec.name!r} has the axis {axis!r}, "
                    f"which is neither {BATCH!r} nor {TIME!r}"
                )


def _shape(spec: TensorSpec, sizes: Mapping[str, int], lacks: frozenset[str] = frozenset()) -> tuple[int, ...]:
    return tuple(sizes[axis] if isinstance(axis, str) else axis for axis in spec.axes if axis not in lacks)


def _fits(spec: TensorSpec, shape: tuple[int, ...], sizes: dict[str, int], lacks: frozenset[str]) -> bool:
    """Return whether a shape fits the input in this form; the first time axis sets the time steps in ``sizes``."""
    axes = [axis for axis in spec.axes if axis not in lacks]
    return len(axes) == len(shape) and all(
        size > 0 and size == (sizes.setdefault(axis, size) if isinstance(axis, str) else axis)
        for size, axis in zip(shape, axes, strict=True)
    )


def _answer(plan: _Plan, out: Any) -> Any:
    if out is None:
        return {name: view.copy() for name, view in plan.output_views.items()}
    for name, view in plan.output_views.items():
        np.copyto(out if plan.output is not None else out[name], view)
    return out


def _check_out(plan: _Plan, out: Any) -> None:
    """Refuse a wrong ``out`` before the model runs, so that the step can be repeated."""
    if plan.output is not None:
        targets = {next(iter(plan.output_views)): out}
    elif isinstance(out, Mapping) and set(out) == set(plan.output_views):
        targets = dict(out)
    else:
        raise InputError(f"out must be a mapping with an array for each of {', '.join(plan.output_views)}")
    for name, view in plan.output_views.items():
        target = targets[name]
        if not isinstance(target, np.ndarray) or target.shape != view.shape or target.dtype != view.dtype:
            got = f"{target.dtype} {list(target.shape)}" if isinstance(target, np.ndarray) else type(target).__name__
            raise InputError(f"out for {name!r} must be {view.dtype} {list(view.shape)}, got {got}")
        if not target.flags.writeable:
            raise InputError(f"out for {name!r} is read-only")
