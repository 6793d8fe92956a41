"""What is lent to onnxruntime lives as long as the loan: nothing else holds it, its memory is wanted, the bits stay.

The streaming tests of before pushed the same pieces and saw nothing: memory that was freed keeps its content until
something of its size is allocated, and between two pushes of a test nothing was.
"""

import gc

import numpy as np
import onnxruntime
import pytest
from streamed import MODELS, STREAMED, AllocationNoise, answer_bytes, lent_arrays, pieces

from lstm_edge_runtime import checks, finite, providers
from lstm_edge_runtime.bindings import Runner
from lstm_edge_runtime.errors import ProviderError
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.state import State

PIECES = 12


@pytest.fixture(autouse=True)
def _small_heap():
    """Collections look at what a test makes, not at all that thousands of collected tests have imported.

    A collection takes 0.3 s there, and a test here makes twelve: six minutes of the whole suite.
    """
    gc.freeze()
    yield
    gc.unfreeze()


def run_in_pieces(session, batch, seed):
    """The answers and the last state of ``Session.run``, which copies what it is given, piece by piece."""
    state, answers = session.initial_state(batch), []
    for piece in pieces(session, batch, PIECES, seed):
        outputs, state = session.run(piece, state)
        answers.append(answer_bytes(outputs))
    return answers, state


def push_in_pieces(session, batch, seed, disturb=lambda: None):
    flow, answers = session.stream(batch), []
    for piece in pieces(session, batch, PIECES, seed):
        disturb()
        answers.append(answer_bytes(flow.push(piece)))
    return answers, flow.state


@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("kernels", ["auto", "off"])
@pytest.mark.parametrize("name", STREAMED)
def test_a_stream_alone_keeps_what_it_lends(name, kernels, batch):
    session = Session(MODELS / f"{name}.onnx", kernels=kernels)
    expected, end = run_in_pieces(session, batch, seed=batch)
    got, state = push_in_pieces(session, batch, batch, AllocationNoise().make)
    assert got == expected
    assert state == end


def test_every_kind_of_input_is_among_the_models():
    sessions = [Session(MODELS / f"{name}.onnx") for name in STREAMED]
    assert any(session.lengths for session in sessions)
    assert any(len(session.inputs) > 1 for session in sessions)
    assert any(session.card.quantization for session in sessions)
    assert any(spec.dtype == "int64" and spec.axes for session in sessions for spec in session.inputs)
    assert any(len(session.states) > 1 for session in sessions)


@pytest.mark.parametrize("name", STREAMED)
def test_every_array_that_was_lent_is_alive(name, monkeypatch):
    lent = lent_arrays(monkeypatch)
    session = Session(MODELS / f"{name}.onnx")
    flow = session.stream()
    for piece in pieces(session, 1, 5, seed=0):
        flow.push(piece)
    del session, piece
    gc.collect()
    # Two bindings of each of three shapes (one, for a model without time), each with all inputs and outputs.
    assert len(lent) >= 2 * 3
    assert all(reference() is not None for reference in lent)
    del flow
    gc.collect()
    assert all(reference() is None for reference in lent), "what nobody uses any more is still held"


class Hidden:
    """An object as it would be if onnxruntime or NumPy dropped a private name."""

    def __init__(self, inner, name):
        self.__dict__.update(inner=inner, name=name)

    def __getattr__(self, attribute):
        if attribute == self.name:
            raise AttributeError(attribute)
        return getattr(self.inner, attribute)

    def __call__(self, *arguments):
        return self.inner(*arguments)


def no_library():
    raise ProviderError("no library")


class HiddenInBindings(Hidden):
    """A session whose bindings lack the name."""

    def io_binding(self):
        return Hidden(self.inner.io_binding(), self.name)

    def run_with_iobinding(self, binding, options=None):
        return self.inner.run_with_iobinding(binding.inner, options)


@pytest.mark.parametrize("name", ["exported_int8", "exported_full_lengths_int8", "two_inputs"])
@pytest.mark.parametrize("missing", ["_sess", "_iobinding", "_model_bytes", "_implementation"])
def test_without_a_private_name_the_bits_are_the_same(name, missing, monkeypatch):
    path = MODELS / f"{name}.onnx"
    expected, end = push_in_pieces(Session(path), 2, seed=3)
    if missing == "_model_bytes":
        open_real = onnxruntime.InferenceSession
        monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *a, **k: Hidden(open_real(*a, **k), missing))
    if missing == "_implementation":
        monkeypatch.setattr(finite, "find_library", no_library)
        monkeypatch.setattr(checks, "sum_of_squares", checks.without_dispatch(Hidden(np.vdot, missing)))
    session = Session(path)
    if missing in ("_sess", "_iobinding"):
        hide = Hidden if missing == "_sess" else HiddenInBindings
        session.onnxruntime_session = hide(session.onnxruntime_session, missing)
        assert Runner(session.onnxruntime_session).run == session.onnxruntime_session.run_with_iobinding
    got, state = push_in_pieces(session, 2, 3, AllocationNoise().make)
    assert got == expected
    assert state == end


def test_the_private_names_are_used_where_they_are():
    # Not an error, only slower, when this fails: onnxruntime or NumPy has renamed them, look for the new names.
    session = Session(MODELS / "exported_int8.onnx").onnxruntime_session
    assert Runner(session).run != session.run_with_iobinding
    assert checks.sum_of_squares is not np.vdot
    assert hasattr(providers.onnxruntime.InferenceSession, "run_with_iobinding")


def test_what_run_is_given_may_be_dropped_and_changed_afterwards():
    session = Session(MODELS / "exported_full_lengths_int8.onnx")
    x = np.random.default_rng(1).normal(size=(3, 4, 6)).astype(np.float32)
    expected, end = session.run(x.copy(), lengths=[4, 2, 0])
    given, state = np.repeat(x, 2, axis=2)[:, :, ::2], State.from_arrays(session.states, session.initial_state(3))
    got, new = session.run(given, state, lengths=np.array([4, 2, 0]))
    given[...] = np.nan
    del given, state
    AllocationNoise().make()
    assert answer_bytes(got) == answer_bytes(expected)
    assert new == end
