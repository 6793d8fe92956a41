"""int8 on stock onnxruntime: a row's answer depends on nothing but the row, exactly.

Not on louder rows beside it, not on how the sequence was cut, not on the number of threads. The wide networks are
large enough for onnxruntime to split their work over threads (hidden 256, batch 16).
"""

import numpy as np
import pytest
from support.networks import operators, quantized, random_inputs, random_network_state, session_of

from lstm_edge_runtime.session import Session
from lstm_edge_runtime.state import State

pytestmark = pytest.mark.slow

BATCH_ONLY = ["wide-bidirectional", "full-projected-bidirectional", "bidirectional"]
STREAMED = [
    "wide-language-model",
    "wide-standard",
    "wide-diagonal",
    "wide-full",
    "wide-projected",
    "long-rows",
    "tagger",
    "full",
]
BATCH, STEPS = 16, 9


def louder(session: Session, inputs: dict, row: int, batch: int) -> dict:
    """The row among others that are eight times louder; ids have no loudness, other ids stand beside them."""
    beside = random_inputs(session, batch, STEPS, seed=5)
    scaled = {name: array * 8 if array.dtype == np.float32 else array for name, array in beside.items()}
    for name, array in scaled.items():
        array[row] = inputs[name][0]
    return scaled


def rows_of(state: State, row: int) -> dict[str, np.ndarray]:
    return {name: array[:, row : row + 1] for name, array in state.items()}


def assert_same(got: dict, expected: dict) -> None:
    assert set(got) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name], array, err_msg=name, strict=True)


@pytest.mark.parametrize(
    ("name", "lengths"),
    [(name, False) for name in STREAMED + BATCH_ONLY] + [(name, True) for name in [*STREAMED[-2:], *BATCH_ONLY]],
)
def test_alone_is_as_among_louder_rows(name: str, lengths: bool) -> None:
    session = session_of(quantized(name, lengths=lengths))
    alone = random_inputs(session, 1, STEPS)
    for row, steps in ((0, STEPS), (11, 4)):
        state = random_network_state(session, BATCH)
        rows = np.random.default_rng(3).integers(0, STEPS + 1, BATCH) if lengths else None
        if rows is not None:
            rows[row] = steps
        among, among_state = session.run(louder(session, alone, row, BATCH), state, rows)
        entering = State.from_arrays(session.states, rows_of(state, row))
        single, single_state = session.run(alone, entering, None if rows is None else rows[row : row + 1])
        assert_same({key: value[row : row + 1] for key, value in among.items()}, single)
        assert_same(rows_of(among_state, row), dict(single_state))


@pytest.mark.parametrize("name", STREAMED)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_chunks_are_as_the_whole(name: str, steps: int) -> None:
    session = session_of(quantized(name))
    inputs, state = random_inputs(session, 3, STEPS), random_network_state(session, 3)
    whole, whole_state = session.run(inputs, state)
    pieces = []
    for start in range(0, STEPS, steps):
        answers, state = session.run({key: value[:, start : start + steps] for key, value in inputs.items()}, state)
        pieces.append(answers)
    assert len(pieces) > 1
    assert_same({key: np.concatenate([piece[key] for piece in pieces], axis=1) for key in whole}, whole)
    assert_same(dict(state), dict(whole_state))


@pytest.mark.parametrize("name", [name for name in STREAMED + BATCH_ONLY if name.startswith(("wide", "long"))])
def test_two_threads_are_as_one(name: str) -> None:
    one, two = session_of(quantized(name)), session_of(quantized(name), threads=2)
    inputs, state = random_inputs(one, BATCH, STEPS), random_network_state(one, BATCH)
    answers = [session.run(inputs, State.from_arrays(session.states, state)) for session in (one, two)]
    assert_same(answers[1][0], answers[0][0])
    assert_same(dict(answers[1][1]), dict(answers[0][1]))


@pytest.mark.parametrize("name", STREAMED + BATCH_ONLY)
def test_the_networks_are_int8_and_their_rows_differ(name: str) -> None:
    """What was compared above is int8, and neither constant nor the same for every row."""
    found = [operator for operator in operators(quantized(name)) if operator.startswith("lstm_edge::Lstm")]
    assert found
    assert all(operator.endswith("Int8V1") for operator in found)
    assert "LSTM" not in operators(quantized(name))
    session = session_of(quantized(name))
    answers, _ = session.run(random_inputs(session, 3, STEPS))
    for array in answers.values():
        assert not np.array_equal(array[0], array[1])
        assert not np.array_equal(array[:, 0], array[:, 1])
