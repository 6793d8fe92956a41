"""Files that the real exporter and quantizer wrote, on the device alone: numpy and onnxruntime, no torch, no onnx.

int8 must not depend on who else is in the batch, on how a sequence is cut, or on threads: exact equality, everywhere.
"""

from pathlib import Path

import numpy as np
import pytest

from lstm_edge_runtime.errors import StreamingError
from lstm_edge_runtime.selftest import self_test
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.state import State

NAMES = sorted(path.stem for path in (Path(__file__).parent / "models").glob("exported*.onnx"))
INT8 = [name for name in NAMES if name.endswith("_int8")]
STREAMED = [name for name in NAMES if "bidirectional" not in name]
FEATURES, HIDDEN = 6, 7
STEPS, ROWS = 14, 3
# float32 summed in another order, on outputs of order one: 2e-7 is seen.
CLOSE = 1e-6


def rows(seed=0, count=ROWS, steps=STEPS):
    """Sequences float32 [count, steps, features]; each row eight times louder than the one before it."""
    loudness = 8.0 ** np.arange(count)[:, None, None]
    return (np.random.default_rng(seed).normal(size=(count, steps, FEATURES)) * loudness).astype(np.float32)


def start(session, batch, seed=5):
    random = np.random.default_rng(seed)
    zeros = session.initial_state(batch).to_arrays()
    arrays = {name: random.uniform(-1, 1, array.shape).astype(np.float32) for name, array in zeros.items()}
    return State.from_arrays(session.states, arrays)


def row_of(state, specs, row):
    return State.from_arrays(specs, {name: array[:, row : row + 1].copy() for name, array in state.items()})


def test_the_files_are_there():
    assert len(INT8) == 4
    assert "exported_float32" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_file_passes_its_own_self_test(models, name):
    report = self_test(Session(models / f"{name}.onnx", kernels="off"))
    assert report.passed
    assert report.verified
    assert report.kind == "bodies"


@pytest.mark.parametrize("name", INT8)
def test_the_card_says_what_is_int8(models, name):
    card = Session(models / f"{name}.onnx").card
    assert {row.scheme for row in card.quantization.coverage} == {"int8"}
    assert all(layer.operator.startswith("lstm_edge::Lstm") and "Int8" in layer.operator for layer in card.layers)


@pytest.mark.parametrize("name", INT8)
def test_a_row_alone_gives_the_bits_it_gives_beside_louder_rows(models, name):
    session = Session(models / f"{name}.onnx")
    x, state = rows(), start(session, ROWS)
    together, end = session.run(x, state)
    for row in range(ROWS):
        alone, own_end = session.run(x[row : row + 1], row_of(state, session.states, row))
        np.testing.assert_array_equal(alone["logits"][0], together["logits"][row])
        assert row_of(end, session.states, row) == own_end
    assert np.abs(together["logits"][0] - together["logits"][1]).max() > 0.01  # rows do differ


@pytest.mark.parametrize("name", INT8)
def test_one_and_two_threads_give_the_same_bits(models, name):
    x = rows(count=4)
    answers = []
    for threads in (1, 2):
        session = Session(models / f"{name}.onnx", threads=threads)
        outputs, state = session.run(x, start(session, 4))
        answers.append((outputs["logits"].tobytes(), state))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("size", [1, 2, 7, STEPS - 1, STEPS])
@pytest.mark.parametrize("name", STREAMED)
def test_a_stream_in_chunks_is_the_whole_sequence(models, name, size):
    session = Session(models / f"{name}.onnx")
    x, state = rows(seed=2), start(session, ROWS)
    whole, end = session.run(x, state)
    stream = session.stream(ROWS)
    stream.state = state
    pieces = [stream.push(x[:, at : at + size]) for at in range(0, STEPS, size)]
    joined = pieces[-1] if "last_step" in name else np.concatenate(pieces, axis=1)
    if name in INT8:
        np.testing.assert_array_equal(joined, whole["logits"])
        assert stream.state == end
    else:
        np.testing.assert_allclose(joined, whole["logits"], atol=CLOSE, rtol=0)
        assert max(np.abs(stream.state[key] - end[key]).max() for key in end) <= CLOSE


def test_int8_is_near_float32_and_not_the_same(models):
    exact, rounded = (Session(models / f"exported_{scheme}.onnx") for scheme in ("float32", "int8"))
    x = rows(count=1, steps=40)
    difference = np.abs(exact.run(x)[0]["logits"] - rounded.run(x)[0]["logits"]).max()
    # Weights and activations keep 1/254 of their largest value; two layers and the head add up to a few hundredths.
    assert 1e-4 < difference < 0.15


def test_rows_end_where_their_lengths_say(models):
    session = Session(models / "exported_full_lengths_int8.onnx")
    x, state = rows(seed=4), start(session, ROWS)
    lengths = np.array([STEPS, 5, 0])
    outputs, end = session.run(x, state, lengths)
    for row, length in enumerate(lengths[:2]):
        alone, own_end = session.run(x[row : row + 1, :length], row_of(state, session.states, row))
        np.testing.assert_array_equal(outputs["logits"][row, :length], alone["logits"][0])
        assert row_of(end, session.states, row) == own_end
    # A row of length 0 keeps its initial state.
    assert row_of(end, session.states, 2) == row_of(state, session.states, 2)


def test_what_cannot_stream_says_why(models):
    session = Session(models / "exported_bidirectional_int8.onnx")
    assert session.states
    with pytest.raises(StreamingError, match="bidirectional: its reverse direction needs the whole sequence"):
        session.stream()
