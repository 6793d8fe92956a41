"""Run a model on one piece of a sequence after the other and keep its state between them."""

import sys
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.bindings import Runner
from lstm_edge_runtime.card import BATCH, TIME, Streaming
from lstm_edge_runtime.checks import check_finite
from lstm_edge_runtime.contract import Contract
from lstm_edge_runtime.delivery import answer_shape, check_out, write_out
from lstm_edge_runtime.errors import InputError, LstmEdgeError, StreamingError, first_line
from lstm_edge_runtime.finite import finite_check
from lstm_edge_runtime.keeping import ENDED, Keeper
from lstm_edge_runtime.layout import layout_of
from lstm_edge_runtime.moment import Moment, moment_from_arrays, moment_to_arrays
from lstm_edge_runtime.pieces import PieceReader
from lstm_edge_runtime.providers import RUNTIME_ERRORS
from lstm_edge_runtime.state import State
from lstm_edge_runtime.stepping import is_one_to_one
from lstm_edge_runtime.stream_plans import OpenModel, Plan, make_plan

__all__ = ["OpenModel", "Stream", "check_streamable"]


# A plan holds the buffers for one input shape. Most streams see one or two shapes (the chunk and a shorter last one).
# Eight plans leave room, and limit the memory of a stream whose input length keeps changing.
_MOST_PLANS = 8


class Stream:
    """Runs a model piece by piece: ``push`` runs one piece and keeps the state for the next.

    A piece is a chunk or a frame. A chunk has all axes of the input, for example float32 [batch, time, features]. A
    frame is one time step without the time axis, [batch, features]; for a batch of one, [features] is also accepted.
    The outputs lack the same axes as the piece: a frame [features] gives [classes], a frame [batch, features] gives
    [batch, classes], a chunk gives [batch, time, classes]. (An output without a time axis, as in a ``last-step``
    model, can only lack the batch axis.) A model with several inputs takes a mapping; all its inputs must have the
    same form. A model with the verdict ``each-call`` has no time axis: each push is one call and counts as one step.

    A model with convolutions may need several steps for an output step, see later steps, or give several output steps
    for one (``session.card.streaming``). Its stream keeps the steps that complete no output yet. An answer then always
    has a time axis, of 0 steps or more: a frame [features] gives [n, classes]; an output without a time axis keeps its
    batch axis and has 0 rows until a push completes it. ``flush`` gives the outputs that are left at the end.

    Only one thread at a time may use a Stream; several Streams may share one Session.
    """

    def __init__(self, session: OpenModel, *, batch_size: int = 1, on_nonfinite: str = "refuse") -> None:
        """Start at the initial state; see ``Session.stream``."""
        if on_nonfinite != "refuse":
            raise InputError(f"on_nonfinite must be 'refuse', got {on_nonfinite!r}")
        check_streamable(session)
        initial = session.initial_state(batch_size)
        if batch_size != 1 and not any(BATCH in spec.axes for spec in session.inputs):
            raise InputError(f"batch_size is {batch_size}, and no input of the model has a dynamic batch axis")
        self._session = session
        contract = Contract(
            inputs=session.inputs, outputs=session.outputs, states=session.states, lengths=session.lengths
        )
        self._batch_size = int(batch_size)
        self._runner = Runner(session.onnxruntime_session)
        self._run, self._options = self._runner.run, self._runner.options
        # The index of the buffer that holds the state, the number of steps so far, whether the sequence has ended, the
        # number of pushes, and the steps of earlier sequences. One assignment replaces all, so that an interrupt leaves
        # either the old state and counts or the new ones.
        self._now = (0, 0, False, 0, 0)
        self._reader = PieceReader(contract, self._batch_size)
        self._held: dict[str, Array] = {}
        self._plans: OrderedDict[tuple[Any, ...], Plan] = OrderedDict()
        # The plan of the last piece that was accepted, or None where the next one takes the full path; and its form.
        self._last: Plan | None = None
        self._lacks_batch = False
        self._due = sys.maxsize
        layout = layout_of(session.states, self._batch_size)
        self._layout, self._blocks = layout, (layout.block(), layout.block())
        self._states = tuple(layout.views(block) for block in self._blocks)
        # For each block, what asks about its float32 states.
        self._finite = tuple(finite_check([block[: layout.floats]]) for block in self._blocks)
        self._go_to(initial, 0)
        streaming = session.card.streaming if session.card is not None else Streaming(verdict="every-step")
        self._keeper = (
            None if is_one_to_one(streaming) else Keeper(session.onnxruntime_session, self._reader, streaming, initial)
        )

    @property
    def steps(self) -> int:
        """Number of time steps pushed since the start or the last ``reset``."""
        return self._now[1] if self._keeper is None else self._keeper.steps

    @property
    def totals(self) -> tuple[int, int]:
        """Number of pushes, and of time steps in them, since the stream was made; ``reset`` does not change them."""
        if self._keeper is not None:
            return self._keeper.totals
        _, steps, _, pushes, past = self._now
        return pushes, past + steps

    @property
    def state(self) -> State:
        """A copy of the graph's states after the last step; assign a State to continue from it (``steps`` stays).

        Steps that the stream keeps (see the class) are not part of it: a State that is taken meanwhile is ``blocked``,
        and assigning a State drops the kept steps. ``snapshot`` holds them too.
        """
        if self._keeper is not None:
            return self._keeper.get_state()
        return State.from_block(self._layout, self._blocks[self._now[0]].copy())

    @state.setter
    def state(self, state: State) -> None:
        checked = State.from_arrays(self._session.states, state)
        if checked.batch_size not in (None, self._batch_size):
            raise InputError(f"the state has {checked.batch_size} rows, the stream has {self._batch_size}")
        if self._keeper is not None:
            self._keeper.set_state(checked)
        else:
            self._go_to(checked, self._now[1])

    def snapshot(self) -> dict[str, Array]:
        """Return everything that the stream knows as arrays by name, for example for ``numpy.savez``.

        A stream in another process continues from it with ``restore``, without a difference: states, kept steps,
        conditions and the number of steps.
        """
        if self._keeper is not None:
            return self._keeper.snapshot()
        phase, steps, ended, *_ = self._now
        return moment_to_arrays(
            Moment(state=self._states[phase], steps=steps, begun=steps > 0, ended=ended, conditions=self._held)
        )

    def restore(self, arrays: Mapping[str, Any]) -> None:
        """Continue from the arrays of a ``snapshot`` of the same model and batch size; they are copied.

        Raises:
            InputError: an array is missing, unknown, of a wrong dtype or shape or not finite, or they contradict each
                other. The stream then stays unchanged.
        """
        if self._keeper is not None:
            self._keeper.restore(arrays)
            return
        moment = moment_from_arrays(arrays, self._reader, Streaming(verdict="every-step"))
        self._last, self._lacks_batch, self._held = None, False, dict(moment.conditions)
        self._go_to(moment.state, moment.steps, ended=moment.ended)

    def reset(self) -> None:
        """Go back to the initial state and to step 0, and forget the conditions and the kept steps."""
        initial = self._session.initial_state(self._batch_size)
        if self._keeper is not None:
            self._keeper.reset(initial)
            return
        if self._reader.conditions:
            self._held, self._last, self._lacks_batch = {}, None, False
        self._go_to(initial, 0)

    def flush(self) -> Any:
        """End the sequence: return the outputs that later steps or the padding after the last step complete.

        The answers of all pushes and of ``flush``, joined along time, are those of the whole sequence. After ``flush``
        a push is an error until ``reset``; another ``flush`` returns nothing more.

        Returns:
            The output in the form of the last push (a dict by name if the model has several outputs), with 0 or more
            steps; an output without a time axis has 0 rows where the end changes nothing. Most models give one output
            step for each input step and have nothing left.

        Raises:
            StreamingError: the last outputs cannot be computed, because a state was assigned or a condition replaced
                since the last output; nothing changes.
            InputError: onnxruntime refuses a sequence of so few steps; nothing changes.
        """
        if self._keeper is not None:
            return self._keeper.flush()
        lacks = self._lacks_batch
        answer = {
            spec.name: np.zeros(answer_shape(spec, 0, self._batch_size, lacks_batch=lacks, called=False), spec.dtype)
            for spec in self._session.outputs
        }
        # The next push takes the path on which an ended stream is refused.
        self._last, self._lacks_batch = None, False
        phase, steps, _, pushes, past = self._now
        self._now = (phase, steps, True, pushes, past)
        return answer if len(answer) > 1 else next(iter(answer.values()))

    def _go_to(self, state: Mapping[str, Array], steps: int, *, ended: bool = False) -> None:
        """Write a state into the unused buffer, then switch to that buffer: the whole state changes, or none of it."""
        phase, before, _, pushes, past = self._now
        other = 1 - phase
        if not (isinstance(state, State) and state.copy_into(self._layout, self._blocks[other])):
            for name, array in state.items():
                self._states[other][name][...] = array
        self._now = (other, steps, ended, pushes, past + before - steps)

    def push(self, x: Any, out: Any = None) -> Any:
        """Run one piece of the sequence and keep the state for the next piece.

        Args:
            x: a frame or a chunk (see the class); for a model with several inputs, a mapping from input name to frame
                or chunk. It is read and not written; a stream keeps copies of the steps that it keeps.
            out: where to write the output: an array of the output's shape and dtype; for a model with several
                outputs, a mapping from output name to array.

        Returns:
            The output as a new array (a dict by name if the model has several outputs), or ``out``.

        Raises:
            InputError: a name, dtype or shape is wrong, a value is NaN or infinite, or the new state is not finite. The
                state and the kept steps then stay unchanged.
            StreamingError: the stream was ended with ``flush``.
            CardError: the graph gives another number of output steps than its card says.
        """
        try:
            plan, conditions = self._last, None
            if plan is None or x.__class__ is not np.ndarray or x.shape != plan.shape or x.dtype is not plan.dtype:
                if self._keeper is not None:
                    return self._push_kept(self._keeper, x, out)
                plan, conditions = self._load(x)
            else:
                plan.view[...] = x
            if out is not None:
                _check_out(plan, out)
            ask, what = plan.finite
            if not ask(what) or plan.others:
                self._refuse_nonfinite(plan)
            phase, steps, _, pushes, past = self._now
            try:
                self._run(plan.handles[phase], self._options)
            except RUNTIME_ERRORS as error:
                raise InputError(
                    f"step {steps}: onnxruntime refused this input, the state is unchanged: {first_line(error)}",
                    reason="onnxruntime",
                ) from error
            ask, what = self._finite[1 - phase]
            if not ask(what):
                raise InputError(
                    f"step {steps}: the new state is not finite: it was discarded, and the old state was kept",
                    reason="state_not_finite",
                )
            self._now = (1 - phase, steps + plan.steps, False, pushes + 1, past)
        except LstmEdgeError as error:
            self._refused(error)
            raise
        if conditions is not None:
            self._last, self._lacks_batch, self._held = plan, plan.lacks_batch, conditions
        output = plan.output
        answer = output.copy() if out is None and output is not None else _deliver(plan, out)
        if pushes >= self._due:
            self._on_due(x)
        return answer

    def _push_kept(self, keeper: Keeper, x: Any, out: Any) -> Any:
        return keeper.push(x, out)

    def _refused(self, error: LstmEdgeError) -> None:
        """Note a refused push; a ``WatchedStream`` counts it."""

    def _on_due(self, x: Any) -> None:
        """Note a push when ``_due`` pushes or more were made before it; a ``WatchedStream`` measures some."""

    def _refuse_nonfinite(self, plan: Plan) -> None:
        for name, view in plan.input_views.items():
            try:
                check_finite(name, view)
            except InputError as error:
                raise InputError(f"step {self.steps}: {error}; the state is unchanged", reason="not_finite") from error

    def _load(self, x: Any) -> tuple[Plan, dict[str, Array]]:
        """Check a piece whose shape differs from the last one, find or make its plan, and fill the buffers.

        Returns:
            The plan and the piece's conditions, which are held once the piece is accepted. Until then the next piece
            comes here too, because the buffers may have conditions that are refused.
        """
        if self._now[2]:
            raise StreamingError(ENDED, reason="ended")
        self._last = None
        arrays = self._reader.read(x, self._held, self.steps)
        key = tuple(arrays[spec.name].shape for spec in self._reader.moving)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = make_plan(
                self._session,
                arrays,
                reader=self._reader,
                batch_size=self._batch_size,
                states=self._states,
                runner=self._runner,
            )
            if len(self._plans) > _MOST_PLANS:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        for name, array in arrays.items():
            plan.input_views[name][...] = array
        return plan, {spec.name: arrays[spec.name].copy() for spec in self._reader.conditions}


def _check_out(plan: Plan, out: Any) -> None:
    if not (
        out.__class__ is np.ndarray
        and out.shape == plan.output_shape
        and out.dtype is plan.output_dtype
        and out.flags.writeable
    ):
        check_out(plan.output_views, out)


def _deliver(plan: Plan, out: Any) -> Any:
    """Write the answer to ``out``, or return copies of several outputs."""
    if out is None:
        return {name: view.copy() for name, view in plan.output_views.items()}
    if plan.output is None:
        return write_out(plan.output_views, out)
    out[...] = plan.output
    return out


def check_streamable(session: OpenModel) -> None:
    """Refuse a model that cannot be streamed.

    Raises:
        StreamingError: with the reason that the card gives.
    """
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
