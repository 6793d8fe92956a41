"""Run many streams of one model together: one call of the graph for the pieces of all of them."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import Streaming
from lstm_edge_runtime.contract import Contract
from lstm_edge_runtime.crew import Crew
from lstm_edge_runtime.errors import InputError, LstmEdgeError
from lstm_edge_runtime.pieces import PieceReader
from lstm_edge_runtime.pool_answers import Answers
from lstm_edge_runtime.pool_calls import SharedCalls
from lstm_edge_runtime.pool_kept import KeptStreams
from lstm_edge_runtime.pool_plans import Plans
from lstm_edge_runtime.pool_rows import RowModel, check_rows
from lstm_edge_runtime.pool_store import PoolStore
from lstm_edge_runtime.pool_streams import RowStreams
from lstm_edge_runtime.providers import MOST_THREADS
from lstm_edge_runtime.state import State
from lstm_edge_runtime.stepping import is_one_to_one
from lstm_edge_runtime.stream import OpenModel, check_streamable

__all__ = ["Answers", "Pool", "PooledModel"]


class PooledModel(OpenModel, RowModel, Protocol):
    """What a pool needs from an open model; ``Session`` provides it."""

    size_bytes: int


class Pool:
    """Many live streams of one model, which come and go, and share the calls of the graph.

    Each stream is a ``Stream`` of one row: it takes the same pieces, gives the same answers, and refuses the same. An
    int8 model gives each stream the bits that a Stream alone gives (but for outputs in the card's
    ``quantization.inexact``); other outputs, such as those of float32 models, agree to 2e-6 of the output's largest
    value (at least 1).

    A stream has an id, a number from 1 on that no other stream of this pool had or gets. Only one thread at a time may
    use a Pool; several may share one Session.

    Attributes:
        capacity: how many streams may be attached at once.
        threads: how many threads share a push.
    """

    def __init__(self, session: PooledModel, *, capacity: int = 256, threads: int = 1) -> None:
        """Make a pool without streams; see ``Session.pool``."""
        check_streamable(session)
        if isinstance(threads, bool) or not isinstance(threads, int | np.integer) or not 1 <= threads <= MOST_THREADS:
            raise InputError(f"threads must be a positive integer, at most {MOST_THREADS}, got {threads!r}")
        store = PoolStore(session.states, capacity)
        check_rows(session)
        self.capacity, self.threads = int(capacity), int(threads)
        self._session = session
        self._last_id = 0
        contract = Contract(
            inputs=session.inputs, outputs=session.outputs, states=session.states, lengths=session.lengths
        )
        reader, crew = PieceReader(contract, 1), Crew(self.threads)
        streaming = session.card.streaming if session.card is not None else Streaming(verdict="every-step")
        if is_one_to_one(streaming):
            plans = Plans(session.onnxruntime_session, contract, reader.moving, reader.conditions, store)
            calls = SharedCalls(plans, store, crew, session.size_bytes)
            self._streams: RowStreams | KeptStreams = RowStreams(reader, store, calls)
        else:
            self._streams = KeptStreams(session.onnxruntime_session, reader, streaming, crew, session.size_bytes)

    def __len__(self) -> int:
        """The number of attached streams."""
        return len(self._streams.rows)

    def __contains__(self, number: object) -> bool:
        """Whether a stream with this id is attached."""
        return number in self._streams.rows

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids of the attached streams, in the order of their attachment."""
        return tuple(self._streams.rows)

    def attach(self, state: State | None = None) -> int:
        """Add a stream, at step 0, and return its id.

        Args:
            state: the state of one row before the first step; None: the initial state.

        Raises:
            InputError: the pool is full, or the state is not one of this model and of one row.
        """
        if len(self) >= self.capacity:
            raise InputError(
                f"the pool is full: all {self.capacity} streams are attached; detach one, or make a pool with a larger "
                "capacity"
            )
        checked = self._session.initial_state() if state is None else self._check(state)
        self._last_id += 1
        number = self._last_id
        self._streams.attach(number, checked)
        return number

    def detach(self, number: int) -> State:
        """Remove a stream and return its state; the id is not used again.

        Steps that the stream kept are lost; take a ``snapshot`` first to continue with them elsewhere.

        Raises:
            InputError: no such stream is attached.
        """
        self._check_id(number)
        return self._streams.detach(number)

    def state(self, number: int) -> State:
        """Return a copy of the state of a stream, as ``Stream.state`` does.

        Raises:
            InputError: no such stream is attached.
        """
        self._check_id(number)
        return self._streams.state(number)

    def set_state(self, number: int, state: State) -> None:
        """Continue a stream from a state; its steps stay, as when ``Stream.state`` is assigned.

        Raises:
            InputError: no such stream is attached, or the state is not one of this model and of one row.
        """
        self._check_id(number)
        self._streams.set_state(number, self._check(state))

    def steps(self, number: int) -> int:
        """Return the number of time steps that a stream was pushed since it was attached or reset.

        Raises:
            InputError: no such stream is attached.
        """
        self._check_id(number)
        return self._streams.steps(number)

    def reset(self, number: int) -> None:
        """Take a stream back to the initial state and to step 0, and forget its conditions and kept steps.

        Raises:
            InputError: no such stream is attached.
        """
        self._check_id(number)
        self._streams.reset(number, self._session.initial_state())

    def flush(self, number: int) -> Any:
        """End the sequence of a stream and return the outputs that are left; see ``Stream.flush``.

        Raises:
            InputError: no such stream is attached, or onnxruntime refuses a sequence of so few steps.
            StreamingError: the last outputs cannot be computed.
        """
        self._check_id(number)
        try:
            answer = self._streams.flush(number)
        except LstmEdgeError as error:
            raise type(error)(f"stream {number}: {error}") from error
        return answer if len(answer) > 1 else next(iter(answer.values()))

    def snapshot(self, number: int) -> dict[str, Array]:
        """Return everything of a stream as arrays by name; ``restore`` of a Pool or a Stream continues from them.

        Raises:
            InputError: no such stream is attached.
        """
        self._check_id(number)
        return self._streams.snapshot(number)

    def restore(self, number: int, arrays: Mapping[str, Any]) -> None:
        """Continue a stream from the arrays of a ``snapshot`` of a Pool or a Stream of one row; they are copied.

        Raises:
            InputError: no such stream is attached, or the arrays are not those of a snapshot of this model.
        """
        self._check_id(number)
        self._streams.restore(number, arrays)

    def push(self, pieces: Mapping[int, Any]) -> Answers:
        """Run a piece of each of some streams and keep their states.

        Args:
            pieces: for the id of each stream that has a piece a frame or a chunk, as ``Stream.push`` takes it (for a
                model with several inputs a mapping from input name to array). They are read and not written. Streams
                that are not named stay as they are.

        Returns:
            The answer of each stream by its id, as ``Stream.push`` gives it, in the order of ``pieces``. Streams with
            something wrong (a shape, a dtype, NaN, infinity, a new state that is not finite, an ended sequence) have no
            answer; ``refused`` has the error of each, and they stay as they were.

        Raises:
            InputError: ``pieces`` is not a mapping, or an id is not that of an attached stream. No stream changed.
        """
        if not isinstance(pieces, Mapping):
            raise InputError(
                f"a push takes a mapping from the ids of streams to their pieces, got {type(pieces).__name__}"
            )
        answers = Answers()
        if not pieces:
            return answers
        if not pieces.keys() <= self._streams.rows.keys():
            for number in pieces:
                self._check_id(number)
        self._streams.push(pieces, answers)
        return answers if list(answers) == list(pieces) else answers.arranged(list(pieces))

    def _check_id(self, number: Any) -> None:
        if number not in self._streams.rows:
            raise InputError(
                f"no stream with the id {number!r} is attached to the pool: attach() gives ids, and detach() ends them"
            )

    def _check(self, state: Any) -> State:
        if not isinstance(state, State):
            raise InputError(
                f"state must be a State, got {type(state).__name__}: State.from_arrays(session.states, arrays)"
            )
        checked = State.from_arrays(self._session.states, state)
        if checked.batch_size not in (None, 1):
            raise InputError(f"the state has {checked.batch_size} rows, a stream of a pool has 1")
        return checked
