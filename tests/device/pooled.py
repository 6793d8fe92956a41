"""A pool beside one stream for each of its streams, which get the same pieces and must say the same."""

import numpy as np
from streamed import MODELS

from lstm_edge_runtime.errors import LstmEdgeError
from lstm_edge_runtime.session import Session

__all__ = ["POOLED", "Twins", "open_model", "piece"]

# One of each kind: float32 and int8, lengths, last step, tokens, several inputs, a setting without axes, no time axis,
# a state that overflows, strides, look-ahead, padding at the end, conditions, states without a batch axis.
POOLED = (
    "accumulator",
    "each_call",
    "each_call_whole",
    "exported_float32",
    "exported_full_lengths_int8",
    "exported_int8",
    "exported_last_step_int8",
    "kept_condition",
    "kept_ids",
    "kept_image",
    "kept_last",
    "kept_look_ahead",
    "kept_padded",
    "kept_ragged",
    "kept_strided",
    "kept_up",
    "language_model_time_first",
    "lengths",
    "two_inputs",
)
CLOSE = 2e-6
_TOKENS = 5  # below the vocabulary of each of them
_sessions = {}


def open_model(name, kernels="auto"):
    """A session, opened once."""
    if (name, kernels) not in _sessions:
        _sessions[name, kernels] = Session(MODELS / f"{name}.onnx", kernels=kernels)
    return _sessions[name, kernels]


def piece(session, rng, steps, form):
    """A piece of random numbers: a ``"chunk"``, a ``"frame"``, or a ``"bare"`` frame without the batch axis."""
    sizes, made = {"batch": 1, "time": steps if form == "chunk" else 1}, {}
    timed = any("time" in spec.axes for spec in session.inputs)
    for spec in session.inputs:
        shape = [sizes.get(axis, axis) for axis in spec.axes]
        drawn = rng.normal(size=shape) if spec.dtype == "float32" else rng.integers(1, _TOKENS, shape)
        lacks = {"chunk": (), "frame": ("time",), "bare": ("time", "batch")}[form]
        moves = "time" in spec.axes or not timed
        kept = [size for size, axis in zip(shape, spec.axes, strict=True) if not moves or axis not in lacks]
        array = np.asarray(drawn, spec.dtype).reshape(kept)
        made[spec.name] = int(array) if array.shape == () and "batch" in spec.axes and rng.random() < 0.5 else array
    return made if len(made) > 1 else next(iter(made.values()))


class Twins:
    """A pool and the streams that it is compared with, and how many pushes were compared and refused."""

    def __init__(self, session, seed, *, capacity=12, threads=1):
        self.session, self.rng = session, np.random.default_rng(seed)
        self.pool, self.streams = session.pool(capacity, threads), {}
        self.pushed, self.refused = 0, 0
        self.last = []
        quantization = session.card.quantization
        self.inexact = None if quantization is None else quantization.inexact

    def round(self):
        """Some joins and leaves, resets and new states, then a push of some streams; everything is compared."""
        rng = self.rng
        while len(self.streams) < self.pool.capacity and rng.random() < 0.4:
            self.join()
        for number in list(self.streams):
            action = rng.choice(["none", "leave", "reset", "state", "move"], p=[0.92, 0.02, 0.02, 0.02, 0.02])
            self.act(number, str(action))
        if self.streams:
            self.push(self.choose())

    def join(self):
        """Attach a stream, from the start or from the state of another."""
        stream, state = self.session.stream(), None
        if self.streams and self.rng.random() < 0.3:
            other = self.streams[self.some()].state
            if not other.blocked:
                state = stream.state = other
        self.streams[self.pool.attach(state)] = stream

    def some(self):
        """One of the ids."""
        return list(self.streams)[self.rng.integers(len(self.streams))]

    def act(self, number, action):
        """Do one thing to one stream and to its twin."""
        stream = self.streams[number]
        if action == "leave":
            self.same_state(self.pool.detach(number), self.streams.pop(number).state)
        elif action == "reset":
            self.pool.reset(number)
            stream.reset()
        elif action == "state" and not (state := self.streams[self.some()].state).blocked:
            self.pool.set_state(number, state)
            stream.state = state
        elif action == "move":
            ours, theirs = self.pool.snapshot(number), stream.snapshot()
            assert ours.keys() == theirs.keys()
            # A stream that keeps steps since a state was assigned to it does not take its own snapshot back.
            refusals = [refusal(lambda: self.pool.restore(number, theirs)), refusal(lambda: stream.restore(theirs))]
            assert refusals[0] == refusals[1]

    def choose(self):
        """The ids of a push: all, those of the last push, or some in any order."""
        ids, rng = list(self.streams), self.rng
        kind = rng.random()
        if kind < 0.3:
            return ids
        if kind < 0.5 and self.last and set(self.last) <= set(ids):
            return self.last
        return [ids[index] for index in rng.permutation(len(ids))[: rng.integers(1, len(ids) + 1)]]

    def push(self, ids):
        """Push pieces, some of them bad."""
        rng, session, self.last = self.rng, self.session, ids
        alike = rng.random() < 0.6
        form, steps = str(rng.choice(["chunk", "frame", "bare"])), int(rng.integers(1, 5))
        pieces = {}
        for number in ids:
            if not alike:
                form, steps = str(rng.choice(["chunk", "frame", "bare"])), int(rng.integers(1, 5))
            pieces[number] = spoilt(rng, piece(session, rng, steps, form)) if rng.random() < 0.04 else None
            if pieces[number] is None:
                pieces[number] = piece(session, rng, steps, form)
        got = self.pool.push(pieces)
        expected, refused = {}, {}
        for number, x in pieces.items():
            try:
                expected[number] = self.streams[number].push(x)
            except LstmEdgeError as error:
                refused[number] = (type(error), f"stream {number}: {error}")
        assert list(got) == list(expected)
        assert [(n, (type(e), str(e))) for n, e in got.refused.items()] == list(refused.items())
        for number, answer in expected.items():
            self.same_answer(got[number], answer)
            assert self.pool.steps(number) == self.streams[number].steps
        self.pushed, self.refused = self.pushed + len(expected), self.refused + len(refused)

    def same_answer(self, got, expected):
        """The same arrays: to the bit where the card says so."""
        if not isinstance(expected, dict):
            name = self.session.outputs[0].name
            got, expected = {name: got}, {name: expected}
        assert list(got) == list(expected)
        for name, array in expected.items():
            self.same(name, got[name], array)

    def same_state(self, got, expected):
        """The same states: to the bit where the card says so."""
        assert got.blocked == expected.blocked
        for spec in self.session.states:
            self.same(spec.output, got[spec.input], expected[spec.input])

    def same(self, name, got, expected):
        """One array."""
        assert got.shape == expected.shape
        assert got.dtype == expected.dtype
        if got.tobytes() != expected.tobytes():
            assert self.inexact is None or name in self.inexact, f"{name}: other bits"
            largest = max(1.0, float(np.abs(expected).max(initial=0)))
            np.testing.assert_allclose(got, expected, rtol=0, atol=CLOSE * largest)

    def finish(self):
        """Compare all states that are left."""
        for number, stream in self.streams.items():
            self.same_state(self.pool.state(number), stream.state)
        assert len(self.pool) == len(self.streams)
        assert self.pool.ids == tuple(self.streams)


def refusal(action):
    """The sentence that an action is refused with, or None."""
    try:
        action()
    except LstmEdgeError as error:
        return str(error)
    return None


def spoilt(rng, x):
    """A piece that is refused: NaN, another dtype or shape, not an array; None if it cannot be spoilt so."""
    kind = rng.integers(4)
    named = dict(x) if isinstance(x, dict) else {"": x}
    name = next(iter(named))
    array = np.array(named[name])
    if kind == 0 and array.dtype.kind == "f":
        array.reshape(-1)[rng.integers(array.size)] = rng.choice([np.nan, np.inf, -np.inf])
    elif kind == 1:
        array = array.astype(np.float64 if array.dtype.kind == "f" else np.int32)
    elif kind == 2:
        array = np.zeros((*array.shape, 2), array.dtype)
    elif array.ndim:
        array = array.tolist()
    else:
        return None
    named[name] = array
    return named if isinstance(x, dict) else named[""]
