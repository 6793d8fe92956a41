"""Session.run with prepared calls: onnxruntime's bits, and every check of the first call in each later one."""

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streamed import MODELS, STREAMED, AllocationNoise, answer_bytes, lent_arrays, pieces

import lstm_edge_runtime.session
from lstm_edge_runtime.card import BATCH, TIME
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.state import State

# Models whose steps are counted otherwise, or that have an end or a front end; and one without a card.
OTHERS = ("kept_condition", "kept_ids", "kept_last", "kept_look_ahead", "kept_padded", "kept_strided", "no_card")
LEAST_STEPS = 8  # steps with which each of them has an output
KERNELS = ("auto", "off")


@pytest.fixture(scope="module")
def sessions():
    """Each model, opened once for all examples, so that the prepared calls of one example meet the next."""
    opened = {}

    def session(name, kernels="auto"):
        key = (name, kernels)
        if key not in opened:
            opened[key] = Session(MODELS / f"{name}.onnx", kernels=kernels)
        return opened[key]

    return session


def least_steps(name):
    return LEAST_STEPS if name.startswith("kept") else 1


def bare(session, piece, state, lengths, *, end=1):
    """The answer of onnxruntime alone, by name."""
    feeds = dict(piece) | dict(state)
    if session.lengths is not None:
        feeds[session.lengths] = np.asarray(lengths, np.int64)
    if session.end is not None:
        feeds[session.end] = np.array([end], np.int64)
    names = [output.name for output in session.onnxruntime_session.get_outputs()]
    return dict(zip(names, session.onnxruntime_session.run(names, feeds), strict=True))


def random_state(session, rows, rng):
    arrays = session.initial_state(rows).to_arrays()
    drawn = {name: rng.uniform(0, 0.9, array.shape).astype(array.dtype) for name, array in arrays.items()}
    return State.from_arrays(session.states, drawn)


def batch_and_time(session, piece):
    sizes = {
        axis: size for spec in session.inputs for axis, size in zip(spec.axes, piece[spec.name].shape, strict=True)
    }
    return sizes.get(BATCH, 1), sizes.get(TIME, 1)


CALL = st.tuples(
    st.sampled_from([1, 1, 1, 2, 3]),
    st.sampled_from([0, 0, 1, 2, 3]),
    st.sampled_from(["named", "array"]),
    st.sampled_from(["carried", "none", "named", "other"]),
    st.sampled_from(["none", "list", "array"]),
    st.integers(0, 2**32),
)


@pytest.mark.parametrize("name", STREAMED + OTHERS)
@given(calls=st.lists(CALL, min_size=4, max_size=12), kernels=st.sampled_from(KERNELS))
@settings(deadline=None, max_examples=15)
def test_any_order_of_shapes_and_forms_gives_the_bits_of_onnxruntime(sessions, name, calls, kernels):
    session = sessions(name, kernels)
    carried = {}
    for batch, more, form, kept, given_lengths, seed in calls:
        rng = np.random.default_rng(seed)
        [piece] = pieces(session, batch, 1, seed, sizes=[least_steps(name) + more])
        rows, steps = batch_and_time(session, piece)
        lengths = np.full(rows, steps)
        if session.lengths is not None and given_lengths != "none":
            lengths = rng.integers(0, steps + 1, rows)
        state = {
            "carried": carried.get(rows, session.initial_state(rows)),
            "none": session.initial_state(rows),
        }.get(kept, random_state(session, rows, rng))
        expected = bare(session, piece, state, lengths)
        arguments = {"state": None if kept == "none" or kept == "named" else state}
        if session.lengths is not None and given_lengths != "none":
            arguments["lengths"] = lengths.tolist() if given_lengths == "list" else lengths
        inputs = piece | (dict(state) if kept == "named" else {})
        if form == "array" and len(inputs) == 1:
            [inputs] = inputs.values()
        outputs, new = session.run(inputs, **arguments)
        assert {key: array.tobytes() for key, array in outputs.items()} == {
            spec.name: expected[spec.name].tobytes() for spec in session.outputs
        }
        assert {key: array.shape for key, array in outputs.items()} == {
            spec.name: expected[spec.name].shape for spec in session.outputs
        }
        assert {key: array.tobytes() for key, array in new.items()} == {
            spec.input: expected[spec.output].tobytes() for spec in session.states
        }
        if not new.blocked:
            carried[rows] = new


def warm(session, piece, state, **arguments):
    for _ in range(3):
        answer = session.run(piece, state, **arguments)
    return answer


@pytest.mark.parametrize("name", STREAMED + OTHERS)
def test_the_third_call_of_a_shape_is_prepared(name, monkeypatch):
    session = Session(MODELS / f"{name}.onnx")
    [piece] = pieces(session, 1, 1, 0, sizes=[least_steps(name)])
    outputs, state = warm(session, piece, None)
    monkeypatch.setattr(lstm_edge_runtime.session, "check_shapes", None)  # the full checks would call it
    again, new = session.run(piece)
    assert answer_bytes(again) == answer_bytes(outputs)
    assert new == state
    if not new.blocked:
        session.run(piece, new)
    if session.states and not name.startswith("kept"):
        session.run(piece | dict(new))


def with_value(array, value):
    changed = array.copy()
    changed.flat[-1] = value
    return changed


def sentence(session, *arguments, **named):
    with pytest.raises(InputError) as caught:
        session.run(*arguments, **named)
    return str(caught.value)


def wrong_inputs(session, piece):
    """Pieces of the right names with one thing wrong each."""
    for spec in session.inputs:
        array = piece[spec.name]
        others = ("float64", ">f4", "float16") if spec.dtype == "float32" else ("int32", ">i8", "float32")
        yield from (piece | {spec.name: array.astype(dtype)} for dtype in others)
        yield piece | {spec.name: array.tolist()}
        yield piece | {spec.name: array[None]}
        yield piece | {spec.name: None}
        yield {name: value for name, value in piece.items() if name != spec.name}
        if spec.dtype == "float32":
            yield from (piece | {spec.name: with_value(array, value)} for value in (np.nan, np.inf, -np.inf))
        else:
            yield piece | {spec.name: with_value(array, 10**6)}
    yield piece | {"more": np.zeros(1, np.float32)}
    yield None
    yield []


def wrong_states(session, rows):
    """States with one thing wrong each, in a mapping for the inputs."""
    arrays = session.initial_state(rows).to_arrays()
    for name, array in arrays.items():
        changes = [array.astype(np.float64), array[..., :-1], array[0], np.concatenate([array, array], 1), None]
        if array.dtype == np.float32:
            changes += [with_value(array, value) for value in (np.nan, np.inf)]
        yield from (arrays | {name: change} for change in changes)
        yield {key: value for key, value in arrays.items() if key != name}


WRONG_LENGTHS = ([9, 1], [-1, 1], [1.0, 1.0], [True, True], [1], [1, 1, 1], np.array([2, 9]), np.array([-1, 0]),
                 np.array([1.0, 1.0]), np.array([[1, 1]]), np.array([1]), "11", 1)  # fmt: skip


@pytest.mark.parametrize("name", ["tagger", "two_inputs", "lengths", "language_model", "quantized", "kept_padded"])
def test_what_is_wrong_gets_the_same_sentence_in_a_prepared_call(name):
    session, fresh = Session(MODELS / f"{name}.onnx"), Session(MODELS / f"{name}.onnx")
    [piece] = pieces(session, 2, 1, 0, sizes=[least_steps(name)])
    arguments = {} if name.startswith("kept") else {"state": session.initial_state(2)}
    outputs, _ = warm(session, piece, None)
    for wrong in wrong_inputs(session, piece):
        assert sentence(session, wrong) == sentence(fresh, wrong)
        assert sentence(session, wrong, **arguments) == sentence(fresh, wrong, **arguments)
        assert answer_bytes(session.run(piece)[0]) == answer_bytes(outputs)
    for states in wrong_states(session, 2):
        if states:
            assert sentence(session, piece | states) == sentence(fresh, piece | states)
    for state in (session.initial_state(3), {}, 5):
        if session.states:
            assert sentence(session, piece, state) == sentence(fresh, piece, state)
    if session.states:
        both = piece | dict(session.initial_state(2))
        assert sentence(session, both, session.initial_state(2)) == sentence(fresh, both, session.initial_state(2))
    for lengths in WRONG_LENGTHS:
        assert sentence(session, piece, lengths=lengths) == sentence(fresh, piece, lengths=lengths)
    assert sentence(session, piece, end=1) == sentence(fresh, piece, end=1)
    assert answer_bytes(session.run(piece)[0]) == answer_bytes(outputs)


def test_a_state_that_has_ended_is_refused_in_a_prepared_call():
    session = Session(MODELS / "kept_padded.onnx")
    [piece] = pieces(session, 1, 1, 0, sizes=[9])
    _, ended = warm(session, piece, None)
    assert "sequence ended with the call" in sentence(session, piece, ended)
    _, going_on = warm(session, piece, None, end=False)
    assert not going_on.blocked
    warm(session, piece, going_on, end=False)
    assert session.run(piece, going_on, end=False)[1].blocked == ""
    assert session.run(piece, going_on)[1].blocked
    feeds = (piece, going_on, None)
    for end in (False, True, False):
        outputs, _ = session.run(piece, going_on, end=end)
        expected = bare(session, *feeds, end=int(end))
        assert answer_bytes(outputs) == answer_bytes({spec.name: expected[spec.name] for spec in session.outputs})


def test_huge_numbers_whose_squares_overflow_are_not_refused():
    session = Session(MODELS / "tagger.onnx")
    x = np.full((1, 1, 3), 3e38, np.float32)
    expected = session.run(x)[0]["logits"].tobytes()
    assert [session.run(x)[0]["logits"].tobytes() for _ in range(4)] == [expected] * 4


def test_eight_threads_share_prepared_calls():
    session = Session(MODELS / "exported_full_lengths_int8.onnx")
    jobs = [(1 + i % 3, i) for i in range(300)]

    def work(job):
        batch, seed = job
        [piece] = pieces(session, batch, 1, seed, sizes=[2])
        return answer_bytes(session.run(piece, random_state(session, batch, np.random.default_rng(seed)))[0])

    serial = [work(job) for job in jobs]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert list(pool.map(work, jobs)) == serial


def test_answers_are_new_in_each_call():
    session = Session(MODELS / "exported_int8.onnx")
    given = list(pieces(session, 1, 20, 0, sizes=[2]))
    answers, state, kept = [], None, []
    for piece in given:
        outputs, state = session.run(piece, state)
        answers.append((outputs, state))
        kept.append((answer_bytes(outputs), answer_bytes(dict(state))))
    for piece in given:
        for array in piece.values():
            array[...] = np.nan
    assert [(answer_bytes(outputs), answer_bytes(dict(after))) for outputs, after in answers] == kept
    for array in state.values():
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True


def test_what_a_prepared_call_lends_lives_as_long_as_the_session(monkeypatch):
    lent = lent_arrays(monkeypatch)
    session = Session(MODELS / "exported_full_lengths_int8.onnx")
    noise = AllocationNoise()
    [piece] = pieces(session, 2, 1, 0, sizes=[2])
    outputs, state = warm(session, piece, None)
    for _ in range(3):
        noise.make()
        again, new = session.run(piece)
        assert answer_bytes(again) == answer_bytes(outputs)
        assert new == state
    assert len(lent) == len(session.onnxruntime_session.get_inputs()) + len(session.onnxruntime_session.get_outputs())
    assert all(reference() is not None for reference in lent)
    del session
    gc.collect()
    assert all(reference() is None for reference in lent)


def test_the_number_of_prepared_calls_is_limited(monkeypatch):
    lent = lent_arrays(monkeypatch)
    session = Session(MODELS / "tagger.onnx")
    for steps in range(1, 100):
        warm(session, np.zeros((1, steps, 3), np.float32), None)
    gc.collect()
    assert len(lent) >= 99 * 10
    assert sum(reference() is not None for reference in lent) == 8 * 10
    lent.clear()
    warm(session, np.zeros((1, 200_000, 3), np.float32), None)
    assert not lent  # the copies would cost more than the checks
