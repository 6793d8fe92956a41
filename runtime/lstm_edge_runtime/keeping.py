"""Stream a model whose input steps do not give one output step each: keep the steps that complete no output yet.

The graph is called with a number of steps that completes outputs (``stepping``). The padding after the last step
belongs to the call that ends the sequence. Its steps are known only when the sequence ends, and a call of no steps is
not possible. So the last call is kept: its steps run again from the state before it, now as the end of the sequence,
and the outputs that were already given are dropped.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnxruntime

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME, Streaming
from lstm_edge_runtime.checks import all_finite, check_finite
from lstm_edge_runtime.delivery import answer_shape, check_out, write_out
from lstm_edge_runtime.errors import CardError, InputError, StreamingError, first_line
from lstm_edge_runtime.moment import LastCall, Moment, PlannedPush, moment_from_arrays, moment_to_arrays
from lstm_edge_runtime.pieces import PieceReader, shape_of
from lstm_edge_runtime.providers import RUNTIME_ERRORS
from lstm_edge_runtime.state import State, state_shape
from lstm_edge_runtime.stepping import given_steps, ready_steps

__all__ = ["ENDED", "Keeper"]

ENDED = "the stream has ended with flush(): call reset() to start a new sequence"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Form:
    """A piece that was read, of a model with one input: one of the same shape and dtype need not be looked at again."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    whole: tuple[int, ...]
    lacks: frozenset[str]
    steps: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shapes:
    """The shapes of what the graph gives for a number of output steps, and of the answer in the form of a piece."""

    gives: int
    lacks_batch: bool
    given: Mapping[str, tuple[int, ...]]
    answer: Mapping[str, tuple[int, ...]]


class Keeper:
    """What ``Stream`` does for such a model; everything that changes is one ``Moment``, replaced by one assignment.

    Attributes:
        names: the outputs of the graph that a call asks for.
    """

    def __init__(
        self, session: onnxruntime.InferenceSession, reader: PieceReader, streaming: Streaming, start: State
    ) -> None:
        """Start at a state.

        Args:
            session: the open graph.
            reader: the model's tensors and the number of rows.
            streaming: how the card counts steps.
            start: the initial state.
        """
        self._session, self._reader, self._streaming = session, reader, streaming
        self._outputs, self._states = reader.contract.outputs, reader.contract.states
        self.names = [spec.name for spec in self._outputs] + [spec.output for spec in self._states]
        # A last call is needed where the end pads, or where steps after it complete less than ``gives`` outputs.
        self._keeps_call = streaming.end is not None or streaming.every > 1
        self._time_axes = {spec.name: spec.axes.index(TIME) for spec in reader.moving}
        self._state_shapes = {spec.output: state_shape(spec, reader.batch_size) for spec in self._states}
        # Of the last piece and of the last call; they say nothing that the piece and the call do not.
        self._form: _Form | None = None
        self._shapes: _Shapes | None = None
        self._now = Moment(state=dict(start))

    @property
    def steps(self) -> int:
        """Input steps since the start."""
        return self._now.steps

    @property
    def totals(self) -> tuple[int, int]:
        """Pushes and input steps of all sequences."""
        return self._now.pushes, self._now.past + self._now.steps

    @property
    def states(self) -> Mapping[str, Array]:
        """The graph's states after the last call, not to be written."""
        return self._now.state

    def get_state(self) -> State:
        """Return the graph's states, marked where no sequence can continue from them alone."""
        now, blocked = self._now, ""
        if now.ended:
            blocked = f"this state is the end of a sequence, from which none can continue: {ENDED}"
        elif now.kept_steps:
            blocked = (
                f"this state was taken while the stream kept {now.kept_steps} steps that it does not hold: use "
                "snapshot() and restore(), which hold them too"
            )
        return State(self._states, now.state, begun=now.begun, blocked=blocked)

    def set_state(self, state: State) -> None:
        """Continue from a state of another place; the kept steps belong to what came before, and are dropped."""
        now = self._now
        self._now = Moment(
            state=dict(state), begun=state.begun, steps=now.steps, conditions=now.conditions, pushes=now.pushes,
            past=now.past,
        )  # fmt: skip

    def reset(self, start: State) -> None:
        """Go back to a start, without conditions."""
        now = self._now
        self._now = Moment(state=dict(start), pushes=now.pushes, past=now.past + now.steps)

    def snapshot(self) -> dict[str, Array]:
        """Return everything as arrays."""
        return moment_to_arrays(self._now)

    def restore(self, arrays: Mapping[str, Any]) -> None:
        """Continue from a snapshot."""
        now, other = self._now, moment_from_arrays(arrays, self._reader, self._streaming)
        self._now = replace(other, pushes=now.pushes, past=now.past + now.steps - other.steps)

    def push(self, x: Any, out: Any) -> Any:
        """Run what a piece completes; see ``Stream.push``."""
        push = self.plan(x)
        if out is not None:
            check_out(self._empty(push.gives, lacks_batch=push.lacks_batch, called=push.count > 0), out)
        if not push.count:
            return self._deliver(self.keep(push), out)
        answers = self._call(self._now.state, push.inputs, push.conditions, push.count, end=False)
        return self._deliver(self.take(push, answers), out)

    def plan(self, x: Any) -> PlannedPush:
        """Read a piece and say what a push of it calls; nothing changes.

        Raises:
            InputError: as ``Stream.push``.
            StreamingError: the stream has ended.
        """
        now = self._now
        if now.ended:
            raise StreamingError(ENDED, reason="ended")
        arrays, lacks, steps = self._read(x, now)
        joined = self._join(now.kept, {spec.name: arrays[spec.name] for spec in self._reader.moving})
        available = now.kept_steps + steps
        count = ready_steps(self._streaming, available, begun=now.begun)
        return PlannedPush(
            steps=steps,
            lacks_batch=BATCH in lacks,
            conditions={spec.name: arrays[spec.name].copy() for spec in self._reader.conditions},
            joined=joined,
            available=available,
            count=count,
            gives=given_steps(self._streaming, count, begun=now.begun) if count else 0,
            inputs=self._cut(joined, 0, count) if available > count > 0 else joined,
        )

    def keep(self, push: PlannedPush) -> dict[str, Array]:
        """Keep the steps of a push that completes no output; return the empty answer."""
        now = self._now
        self._now = replace(
            now, steps=now.steps + push.steps, lacks_batch=push.lacks_batch, kept=push.joined,
            kept_steps=push.available, conditions=push.conditions, pushes=now.pushes + 1,
        )  # fmt: skip
        return self._empty(0, lacks_batch=push.lacks_batch, called=False)

    def take(self, push: PlannedPush, answers: Mapping[str, Array]) -> dict[str, Array]:
        """Take over what the graph gave for a push, and return its answer.

        Args:
            push: what was planned.
            answers: outputs and new states by their names in the graph.

        Raises:
            InputError: the new state is not finite. Nothing changes.
            CardError: the graph gave another number of output steps than the card says. Nothing changes.
        """
        now = self._now
        state = self._new_state(answers)
        shapes = self._shapes_of(push.gives, lacks_batch=push.lacks_batch)
        if any(answers[name].shape != shape for name, shape in shapes.given.items()):
            self._check_shapes(answers)
            raise CardError(
                f"model card: by card.streaming {push.count} input steps give {push.gives} output steps, the graph "
                f"gave {self._count(answers)}"
            )
        call = LastCall(
            begun=now.begun, before=now.state, inputs=push.inputs, conditions=push.conditions, gave=push.gives
        )
        kept = self._cut(push.joined, push.count, push.available) if push.available > push.count else {}
        self._now = Moment(
            state=state, steps=now.steps + push.steps, begun=True, lacks_batch=push.lacks_batch, kept=kept,
            kept_steps=push.available - push.count, call=call if self._keeps_call else None,
            conditions=push.conditions, pushes=now.pushes + 1, past=now.past,
        )  # fmt: skip
        return {name: answers[name].reshape(shape) for name, shape in shapes.answer.items()}

    def flush(self) -> Any:
        """End the sequence and return the output steps that are left; see ``Stream.flush``."""
        now = self._now
        plan = None if now.ended else self._last_call(now)
        if plan is None:
            self._now = replace(now, ended=True, kept={}, kept_steps=0, call=None)
            return self._deliver(self._empty(0, lacks_batch=now.lacks_batch, called=False), None)
        state, inputs, conditions, gave = plan
        first = self._reader.moving[0]
        steps = inputs[first.name].shape[first.axes.index(TIME)]
        answers = self._call(state, inputs, conditions, steps, end=True)
        new_state = self._new_state(answers)
        self._check_shapes(answers)
        count = self._count(answers)
        if count is not None and count < gave:
            raise CardError(
                f"model card: by card.streaming the last call gave {gave} output steps, but with {now.kept_steps} more "
                f"input steps and the end of the sequence the graph gave {count}"
            )
        answer = self._shaped(answers, gave, lacks_batch=now.lacks_batch)
        self._now = replace(now, state=new_state, ended=True, kept={}, kept_steps=0, call=None)
        return self._deliver(answer, None)

    def _last_call(
        self, now: Moment
    ) -> tuple[Mapping[str, Array], Mapping[str, Array], Mapping[str, Array], int] | None:
        """Return state, inputs and conditions of the call that ends the sequence, and the outputs already given.

        It is None where nothing is left.
        """
        streaming, call = self._streaming, now.call
        if call is not None and (now.kept_steps or streaming.end is not None):
            changed = [n for n, a in now.conditions.items() if not np.array_equal(a, call.conditions[n])]
            if now.kept_steps and changed:
                raise StreamingError(
                    f"the end cannot be computed: input {changed[0]!r} was replaced while {now.kept_steps} steps were "
                    f"kept, and the last {streaming.every} steps run together: push until outputs are complete, or "
                    "replace it where no steps are kept",
                    reason="flush",
                )
            return call.before, self._join(call.inputs, now.kept), call.conditions, call.gave
        if now.begun and call is None and self._keeps_call and (now.kept_steps or streaming.end is not None):
            raise StreamingError(
                "the end cannot be computed: a state was assigned to this stream, and no outputs were completed "
                "since; the steps before that state are unknown: use snapshot() and restore(), or push further",
                reason="flush",
            )
        # Fewer steps than the first output needs: without padding at the end there is none.
        if now.begun or not now.kept_steps or (streaming.end is None and streaming.first_gives == 1):
            return None
        return now.state, now.kept, now.conditions, 0

    def _read(self, x: Any, now: Moment) -> tuple[dict[str, Array], frozenset[str], int]:
        """Return the arrays of a piece with all axes, which axes it lacked, and its steps."""
        form = self._form
        if form is not None and x.__class__ is np.ndarray and x.shape == form.shape and x.dtype is form.dtype:
            whole = x.reshape(form.whole)
            if form.dtype.kind != "f" or all_finite(whole.reshape(-1)):
                return {form.name: whole}, form.lacks, form.steps
        arrays = self._reader.read(x, now.conditions, now.steps)
        lacks, steps = self._reader.find_form(arrays)
        sizes = {BATCH: self._reader.batch_size, TIME: steps}
        for spec in self._reader.moving:
            array = arrays[spec.name]
            try:
                check_finite(spec.name, array)
            except InputError as error:
                raise InputError(f"step {now.steps}: {error}; the state is unchanged", reason="not_finite") from error
            arrays[spec.name] = array.reshape(shape_of(spec, sizes))
        if len(arrays) == 1 and isinstance(x, np.ndarray):
            [(name, whole)] = arrays.items()
            self._form = _Form(name=name, shape=x.shape, dtype=x.dtype, whole=whole.shape, lacks=lacks, steps=steps)
        return arrays, lacks, steps

    def _join(self, early: Mapping[str, Array], late: Mapping[str, Array]) -> dict[str, Array]:
        """Return new arrays: the later steps after the earlier ones, either of which may be none."""
        if not early or not late:
            return {name: (early or late)[name].copy() for name in self._time_axes}
        return {name: np.concatenate([early[name], late[name]], axis=axis) for name, axis in self._time_axes.items()}

    def _cut(self, arrays: Mapping[str, Array], start: int, stop: int) -> dict[str, Array]:
        """Return copies of some of the steps, in the order of memory that onnxruntime takes."""
        return {name: _steps_of(arrays[name], axis, start, stop).copy() for name, axis in self._time_axes.items()}

    def _call(
        self,
        state: Mapping[str, Array],
        inputs: Mapping[str, Array],
        conditions: Mapping[str, Array],
        steps: int,
        *,
        end: bool,
    ) -> dict[str, Any]:
        feeds = self.feeds({**state, **inputs, **conditions}, self._reader.batch_size, steps, end=end)
        try:
            results = self._session.run(self.names, feeds)
        except RUNTIME_ERRORS as error:
            raise self.refusal(error) from error
        return dict(zip(self.names, results, strict=True))

    def feeds(self, arrays: Mapping[str, Array], rows: int, steps: int, *, end: bool) -> dict[str, Array]:
        """Return what a call of the graph takes: states and inputs, and what says how many steps and rows there are."""
        contract, feeds = self._reader.contract, dict(arrays)
        if contract.lengths is not None:
            feeds[contract.lengths] = np.full(rows, steps, np.int64)
        if self._streaming.end is not None:
            feeds[self._streaming.end] = np.array([end], np.int64)
        return feeds

    def refusal(self, error: BaseException) -> InputError:
        """Return the error for a call that onnxruntime refused."""
        return InputError(
            f"step {self._now.steps}: onnxruntime refused this input, the state is unchanged: {first_line(error)}",
            reason="onnxruntime",
        )

    def _new_state(self, answers: Mapping[str, Array]) -> dict[str, Array]:
        new = {spec.input: answers[spec.output] for spec in self._states}
        if not all(all_finite(array.reshape(-1)) for array in new.values()):
            raise InputError(
                f"step {self._now.steps}: the new state is not finite: it was discarded, and the old state was kept",
                reason="state_not_finite",
            )
        return new

    def _shapes_of(self, gives: int, *, lacks_batch: bool) -> _Shapes:
        """Return the shapes of a call that gives a number of output steps."""
        shapes = self._shapes
        if shapes is None or shapes.gives != gives or shapes.lacks_batch != lacks_batch:
            sizes = {BATCH: self._reader.batch_size, TIME: gives}
            given = {spec.name: shape_of(spec, sizes) for spec in self._outputs}
            answer = {
                spec.name: answer_shape(spec, gives, self._reader.batch_size, lacks_batch=lacks_batch, called=True)
                for spec in self._outputs
            }
            shapes = _Shapes(gives=gives, lacks_batch=lacks_batch, given=given | self._state_shapes, answer=answer)
            self._shapes = shapes
        return shapes

    def _check_shapes(self, answers: Mapping[str, Array]) -> None:
        """Refuse shapes that the card does not say: a graph need not declare those of its outputs."""
        rows = self._reader.batch_size
        expected: dict[str, tuple[str | int, ...]] = {**self._state_shapes}
        for spec in self._outputs:
            expected[spec.name] = tuple(rows if axis == BATCH else axis for axis in spec.axes)
        for name, axes in expected.items():
            got = answers[name].shape
            if len(got) != len(axes) or any(a not in (b, TIME) for a, b in zip(axes, got, strict=True)):
                raise CardError(f"model card: the graph gave {name!r} with shape {list(got)}, expected {list(axes)}")

    def _count(self, answers: Mapping[str, Array]) -> int | None:
        """Return the output steps of a call, or None if no output has a time axis."""
        counts = {s.name: answers[s.name].shape[s.axes.index(TIME)] for s in self._outputs if TIME in s.axes}
        if len(set(counts.values())) > 1:
            found = ", ".join(f"{count} in {name!r}" for name, count in counts.items())
            raise CardError(f"model card: by card.streaming all outputs have the same steps, the graph gave {found}")
        return next(iter(counts.values()), None)

    def _empty(self, steps: int, *, lacks_batch: bool, called: bool) -> dict[str, Array]:
        """Return arrays of the answer's shapes."""
        rows = self._reader.batch_size
        return {
            spec.name: np.zeros(answer_shape(spec, steps, rows, lacks_batch=lacks_batch, called=called), spec.dtype)
            for spec in self._outputs
        }

    def _shaped(self, answers: Mapping[str, Array], drop: int, *, lacks_batch: bool) -> dict[str, Array]:
        """Return the outputs in the form of the last piece, without the first ``drop`` steps."""
        shaped, rows = {}, self._reader.batch_size
        for spec in self._outputs:
            array, steps = answers[spec.name], 0
            if TIME in spec.axes:
                axis = spec.axes.index(TIME)
                array = _steps_of(array, axis, drop, array.shape[axis]).copy() if drop else array
                steps = array.shape[axis]
            shaped[spec.name] = array.reshape(answer_shape(spec, steps, rows, lacks_batch=lacks_batch, called=True))
        return shaped

    def _deliver(self, answer: dict[str, Array], out: Any) -> Any:
        if out is not None:
            return write_out(answer, out)
        return answer if len(answer) > 1 else answer[self._outputs[0].name]


def _steps_of(array: Array, axis: int, start: int, stop: int) -> Array:
    """Return a view of some of the steps along an axis."""
    return array[(slice(None),) * axis + (slice(start, stop),)]
