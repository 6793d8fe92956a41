"""The streams of a pool whose model needs several steps for an output step, or later ones, and so on (``keeping``).

Each stream has a ``Keeper``, which keeps the steps that complete no output. A push calls the graph once for all streams
whose pieces complete as many steps.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import Streaming, batch_factor
from lstm_edge_runtime.crew import Crew, Job
from lstm_edge_runtime.errors import CardError, InputError, StreamingError
from lstm_edge_runtime.keeping import Keeper
from lstm_edge_runtime.moment import PlannedPush
from lstm_edge_runtime.pieces import PieceReader
from lstm_edge_runtime.pool_answers import Answers
from lstm_edge_runtime.pool_calls import share_of_threads
from lstm_edge_runtime.providers import RUNTIME_ERRORS
from lstm_edge_runtime.state import State

__all__ = ["KeptStreams"]

# What one stream pushes: its id, its keeper, and the call.
_Member = tuple[int, Keeper, PlannedPush]


class KeptStreams:
    """The streams of one pool by id; ids are the caller's, and are valid here."""

    def __init__(
        self, session: onnxruntime.InferenceSession, reader: PieceReader, streaming: Streaming, crew: Crew,
        size_bytes: int,
    ) -> None:  # fmt: skip
        """Have no stream yet."""
        self._session, self._reader, self._streaming = session, reader, streaming
        self._crew, self._size = crew, size_bytes
        # The keeper of each stream by its id, in the order of attachment.
        self.rows: dict[int, Keeper] = {}
        contract = reader.contract
        axes = {spec.name: spec.axes for spec in (*contract.inputs, *contract.outputs)}
        axes |= {name: spec.axes for spec in contract.states for name in (spec.input, spec.output)}
        # The batch axis of each tensor, and how many rows of it a stream has; None if it has no such axis.
        self._batch = {name: _batch_of(named) for name, named in axes.items()}

    def attach(self, number: int, state: State) -> None:
        """Start a stream at a state."""
        keeper = Keeper(self._session, self._reader, self._streaming, state)
        if state.begun:
            keeper.set_state(state)
        self.rows[number] = keeper

    def detach(self, number: int) -> State:
        """Forget a stream, and return its state."""
        state = self.state(number)
        del self.rows[number]
        return state

    def state(self, number: int) -> State:
        """Return a copy of the state of a stream."""
        return self.rows[number].get_state()

    def set_state(self, number: int, state: State) -> None:
        """Continue from a state; the steps stay."""
        self.rows[number].set_state(state)

    def steps(self, number: int) -> int:
        """Return the steps of a stream."""
        return self.rows[number].steps

    def reset(self, number: int, initial: State) -> None:
        """Go back to a state and to step 0, without conditions."""
        self.rows[number].reset(initial)

    def snapshot(self, number: int) -> dict[str, Array]:
        """Return everything of a stream as arrays."""
        return self.rows[number].snapshot()

    def restore(self, number: int, arrays: Mapping[str, Any]) -> None:
        """Continue from a snapshot."""
        self.rows[number].restore(arrays)

    def flush(self, number: int) -> dict[str, Array]:
        """End a sequence and return the outputs that are left."""
        answer = self.rows[number].flush()
        names = [spec.name for spec in self._reader.contract.outputs]
        return answer if len(names) > 1 else {names[0]: answer}

    def push(self, pieces: Mapping[int, Any], answers: Answers) -> None:
        """Run a piece of each of some streams; see ``Pool.push``."""
        groups: dict[Any, list[_Member]] = {}
        for number, x in pieces.items():
            keeper = self.rows[number]
            try:
                push = keeper.plan(x)
            except (InputError, StreamingError) as error:
                answers.refuse(number, error)
                continue
            if push.count:
                groups.setdefault(self._key(keeper, push), []).append((number, keeper, push))
            else:
                self._answer(number, keeper.keep(push), answers)
        for members in groups.values():
            self._run(members, answers)

    def _key(self, keeper: Keeper, push: PlannedPush) -> tuple[Any, ...]:
        """What streams must agree in to share a call: steps, and what has no batch axis."""
        arrays = {**keeper.states, **push.inputs, **push.conditions}
        agreed = tuple(array.tobytes() for name, array in arrays.items() if self._batch[name] is None)
        return push.count, push.gives, agreed

    def _run(self, members: list[_Member], answers: Answers) -> None:
        steps = members[0][2].count
        count = share_of_threads(self._crew.threads, len(members), steps, self._size)
        ends = [len(members) * part // count for part in range(count + 1)]
        parts = [members[start:stop] for start, stop in itertools.pairwise(ends)]
        results: list[Any] = [None] * count

        def prepare(thread: int) -> Job:
            feeds, names = self._feeds(parts[thread]), parts[thread][0][1].names

            def run() -> None:
                try:
                    results[thread] = self._session.run(names, feeds)
                except BaseException as error:  # for the caller's thread
                    results[thread] = error

            return run

        self._crew.run([lambda thread=thread: prepare(thread) for thread in range(count)])  # type: ignore[misc]
        for part, result in zip(parts, results, strict=True):
            self._take(part, result, answers)

    def _feeds(self, members: list[_Member]) -> dict[str, Array]:
        """Return the inputs and states of all streams of a call."""
        _, keeper, push = members[0]
        each = [{**k.states, **p.inputs, **p.conditions} for _, k, p in members]
        joined = {}
        for name, array in each[0].items():
            batch = self._batch[name]
            joined[name] = array if batch is None else np.concatenate([arrays[name] for arrays in each], axis=batch[0])
        return keeper.feeds(joined, len(members), push.count, end=False)

    def _take(self, members: list[_Member], result: Any, answers: Answers) -> None:
        """Give each stream what is its own of a call; where onnxruntime refused it, call for each stream alone."""
        if isinstance(result, BaseException):
            if not isinstance(result, RUNTIME_ERRORS):
                raise result
            if len(members) > 1:
                for member in members:
                    self._run([member], answers)
                return
            number, keeper, _ = members[0]
            answers.refuse(number, keeper.refusal(result))
            return
        named = dict(zip(members[0][1].names, result, strict=True))
        for row, (number, keeper, push) in enumerate(members):
            own = {name: self._cut(name, array, row, len(members)) for name, array in named.items()}
            try:
                self._answer(number, keeper.take(push, own), answers)
            except InputError as error:
                answers.refuse(number, error)

    def _cut(self, name: str, array: Array, row: int, rows: int) -> Array:
        """Return a copy of what one row of a call has of a tensor."""
        batch = self._batch[name]
        if batch is None:
            return array.copy()
        axis, factor = batch
        if array.ndim <= axis or array.shape[axis] != rows * factor:
            raise CardError(
                f"model card: the graph gave {name!r} with shape {list(array.shape)} for {rows} rows; expected "
                f"{rows * factor} on axis {axis}"
            )
        return array[(slice(None),) * axis + (slice(row * factor, (row + 1) * factor),)].copy()

    def _answer(self, number: int, answer: dict[str, Array], answers: Answers) -> None:
        answers[number] = answer if len(answer) > 1 else next(iter(answer.values()))


def _batch_of(axes: tuple[str | int, ...]) -> tuple[int, int] | None:
    for index, axis in enumerate(axes):
        factor = batch_factor(axis)
        if factor is not None:
            return index, factor
    return None
