"""What a stream that keeps steps knows: its state, its snapshot, conditions, and sequences that are cut by hand."""

import dataclasses

import numpy as np
import pytest
from kept import KEPT, cut, drawn, joined_answers, pushed
from streamed import MODELS

from lstm_edge_runtime.errors import CardError, InputError, StreamingError
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.state import State

CLOSE = 2e-6
STEPS = 13


@pytest.fixture(scope="module")
def strided():
    return Session(MODELS / "kept_strided.onnx")


@pytest.fixture(scope="module")
def look_ahead():
    return Session(MODELS / "kept_look_ahead.onnx")


@pytest.fixture(scope="module")
def condition():
    return Session(MODELS / "kept_condition.onnx")


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(array, other[name]) for name, array in one.items())


def test_a_snapshot_without_the_conditions_of_its_last_call_is_refused(condition):
    stream, other = condition.stream(), condition.stream()
    stream.push(drawn(condition, 1, 5))
    arrays = stream.snapshot()
    del arrays["call.condition:speaker"]
    with pytest.raises(InputError, match=r"the snapshot lacks 'call\.condition:speaker'"):
        other.restore(arrays)


@pytest.mark.parametrize("name", [*sorted(KEPT), "tagger", "last_step"])
def test_a_snapshot_moves_a_stream_anywhere(name, tmp_path):
    session = Session(MODELS / f"{name}.onnx")
    inputs = drawn(session, 2, STEPS)
    unmoved = session.stream(2)
    for done in range(STEPS):
        unmoved.reset()
        moved = session.stream(2)
        moved.push(cut(session, drawn(session, 2, 3, seed=9), 0, 3))
        if done:
            unmoved.push(cut(session, inputs, 0, done))
        np.savez(tmp_path / "s.npz", **unmoved.snapshot())
        with np.load(tmp_path / "s.npz") as archive:
            moved.restore(dict(archive))
        assert moved.steps == done
        rest = cut(session, inputs, done, STEPS)
        for stream in (unmoved, moved):
            stream.answer = [stream.push(rest), stream.flush()]
        for pair in zip(unmoved.answer, moved.answer, strict=True):
            assert same(*(answer if isinstance(answer, dict) else {"": answer} for answer in pair))
        assert same(unmoved.snapshot(), moved.snapshot())
        moved.restore(unmoved.snapshot())
        with pytest.raises(StreamingError, match="has ended"):
            moved.push(rest)


def damaged(snapshot):
    yield {k: v for k, v in snapshot.items() if k != "stream:counts"}, "expected 'stream:counts'"
    yield {k: v for k, v in snapshot.items() if k != "conv.cache"}, "lacks the state 'conv.cache'"
    yield {k: v for k, v in snapshot.items() if k != "before:conv.cache"}, "lacks the state 'before:conv.cache'"
    yield {**snapshot, "more": np.zeros(1)}, "has 'more', which this model's streams lack"
    yield {**snapshot, "kept:x": np.zeros((1, 2, 3), np.float32)}, "keeps 2 steps, more than"
    yield {**snapshot, "kept:x": np.full((1, 1, 3), np.nan, np.float32)}, "holds nan"
    yield {**snapshot, "kept:x": np.zeros((1, 1, 4), np.float32)}, r"'kept:x' has shape \[1, 1, 4\]"
    yield {**snapshot, "call:x": np.zeros((1, 2, 3), np.float32)}, "last call has 2 steps, which do not give 2"
    for index, value in enumerate((-1, 2, 2, 2, 2, -2)):
        counts = snapshot["stream:counts"].copy()
        counts[index] = value
        yield {**snapshot, "stream:counts": counts}, "the snapshot"


def test_a_damaged_snapshot_is_refused_and_changes_nothing(strided):
    stream, x = strided.stream(), drawn(strided, 1, 4)["x"]
    stream.push(x)
    before = stream.snapshot()
    assert before["stream:counts"].tolist() == [4, 1, 0, 0, 0, 2]
    for arrays, sentence in damaged(before):
        with pytest.raises(InputError, match=sentence):
            stream.restore(arrays)
        assert same(stream.snapshot(), before)
    with pytest.raises(InputError, match="the snapshot has 1 rows, the stream has 2"):
        strided.stream(2).restore(before)


def test_a_state_without_the_kept_steps_cannot_be_continued_from(strided):
    stream, x = strided.stream(), drawn(strided, 1, 4)["x"]
    stream.push(x)
    state = stream.state
    sentence = r"^this state was taken while the stream kept 1 steps that it does not hold: use snapshot\(\)"
    for use in (lambda: setattr(strided.stream(), "state", state), lambda: strided.run(x, state)):
        with pytest.raises(InputError, match=sentence):
            use()
    stream.flush()
    with pytest.raises(InputError, match=r"^this state is the end of a sequence"):
        strided.stream().state = stream.state


def test_a_state_between_calls_can_be_continued_from(look_ahead):
    x = drawn(look_ahead, 1, STEPS)["x"]
    whole = look_ahead.run(x)[0]["logits"]
    early, late = look_ahead.stream(), look_ahead.stream()
    early.push(x[:, :6])
    late.state = early.state
    with pytest.raises(StreamingError, match=r"^the end cannot be computed: a state was assigned to this stream"):
        late.flush()
    got = np.concatenate([late.push(x[:, 6:]), late.flush()], axis=1)
    np.testing.assert_allclose(got, whole[:, 3:], rtol=0, atol=CLOSE)


@pytest.mark.parametrize("name", [*sorted(KEPT), "tagger", "last_step"])
def test_a_snapshot_after_an_assigned_state_can_be_restored(name):
    """Such a stream has begun without a step of its own: it may lack conditions, and the call before its steps."""
    session = Session(MODELS / f"{name}.onnx")
    streaming = session.card.streaming
    done = streaming.first + streaming.every
    inputs = drawn(session, 2, done + 2 * streaming.every + 1)
    early, late = session.stream(2), session.stream(2)
    early.push(cut(session, inputs, 0, done))
    late.state = early.state
    for step in range(done, done + 2 * streaming.every + 1):
        moved = session.stream(2)
        moved.restore(late.snapshot())
        assert same(moved.snapshot(), late.snapshot())
        answers = [stream.push(cut(session, inputs, step, step + 1)) for stream in (early, late, moved)]
        named = [answer if isinstance(answer, dict) else {"": answer} for answer in answers]
        assert same(named[0], named[1])
        assert same(named[0], named[2])
    moved.restore(late.snapshot())
    assert moved.steps == 2 * streaming.every + 1


def test_the_end_stays_unknown_in_a_restored_stream(strided):
    early, late, moved = strided.stream(), strided.stream(), strided.stream()
    x = drawn(strided, 1, 4)["x"]
    early.push(x[:, :3])
    late.state = early.state
    late.push(x[:, 3:])
    assert late.snapshot()["stream:counts"].tolist() == [1, 1, 0, 0, 0, -1]
    moved.restore(late.snapshot())
    for stream in (late, moved):
        with pytest.raises(StreamingError, match=r"^the end cannot be computed: a state was assigned to this stream"):
            stream.flush()


def test_a_snapshot_of_pushed_steps_has_their_conditions(condition):
    inputs = drawn(condition, 1, 3)
    stream = condition.stream()
    for count, missing in ((1, ("condition:speaker",)), (2, ("condition:speaker", "call.condition:speaker"))):
        stream.push(cut(condition, inputs, count - 1, count))
        snapshot = stream.snapshot()
        for name in missing:
            with pytest.raises(InputError, match=f"^the snapshot lacks '{name}'$"):
                stream.restore({key: array for key, array in snapshot.items() if key != name})
        stream.restore(snapshot)


def test_assigning_a_state_drops_the_kept_steps(strided):
    x = drawn(strided, 1, 6)["x"]
    stream = strided.stream()
    stream.push(x[:, :4])
    stream.state = strided.initial_state()
    got = np.concatenate([stream.push(x), stream.flush()], axis=1)
    np.testing.assert_allclose(got, strided.run(x)[0]["logits"], rtol=0, atol=CLOSE)
    assert stream.steps == 10


@pytest.mark.parametrize("name", sorted(set(KEPT) - {"kept_last", "kept_image", "kept_ids"}))
def test_a_sequence_cut_by_hand(name):
    session = Session(MODELS / f"{name}.onnx")
    streaming = session.card.streaming
    first = streaming.first + 2 * streaming.every
    second = first + streaming.every
    inputs = drawn(session, 2, second + streaming.every + 1)
    whole, end = session.run(inputs)
    one, state = session.run(cut(session, inputs, 0, first), end=False)
    two, state = session.run(cut(session, inputs, first, second), state, end=False)
    # The last step may complete nothing alone, so that the rest is one call.
    three, state = session.run(cut(session, inputs, second, None), state)
    answers = [one, two, three]
    joined = joined_answers(session, answers)
    for spec, array in whole.items():
        np.testing.assert_allclose(joined[spec], array, rtol=0, atol=CLOSE)
    if streaming.end is not None:
        assert end.blocked
        assert state.blocked
        with pytest.raises(InputError, match=r"^no sequence can continue from this state, because its sequence ended"):
            session.run(inputs, state)


def test_a_cut_in_the_wrong_place_is_refused(strided, look_ahead):
    x = drawn(strided, 1, 8)["x"]
    sentence = r"^with end=False the first call needs 1 \+ k \* 2 steps to complete its outputs, got 4: cut"
    with pytest.raises(InputError, match=sentence):
        strided.run(x[:, :4], end=False)
    _, state = strided.run(x[:, :3], end=False)
    with pytest.raises(
        InputError, match=r"^with end=False a later call needs k \* 2 steps to complete its outputs, got 3"
    ):
        strided.run(x[:, 3:6], state, end=False)
    with pytest.raises(InputError, match=r"^with end=False the first call needs 4 \+ k \* 1 steps .* got 3"):
        look_ahead.run(x[:, :3], end=False)
    with pytest.raises(InputError, match=r"^end must be True or False, got 1"):
        strided.run(x, end=1)
    with pytest.raises(InputError, match=r"^'end' says whether the sequence ends with this call: pass it as end="):
        look_ahead.run({"x": x, "end": np.ones(1, np.int64)})


def test_a_later_call_that_starts_with_zeros_is_a_later_call(strided):
    """A state of zeros may be that of silence: which call comes is not read from it where it is known."""
    state = strided.initial_state()
    assert not state.begun
    x = drawn(strided, 1, 3)["x"]
    _, state = strided.run(x, end=False)
    silent = State(strided.states, {name: np.zeros_like(array) for name, array in state.items()}, begun=True)
    assert State.from_arrays(strided.states, silent).begun
    assert not State.from_arrays(strided.states, silent.to_arrays()).begun
    strided.run(x[:, :2], silent, end=False)
    with pytest.raises(InputError, match=r"^with end=False a later call needs"):
        strided.run(x, silent, end=False)


def test_a_first_state_of_the_layers_does_not_begin_a_sequence(strided):
    arrays = strided.initial_state().to_arrays()
    arrays["lstm.0.h"] += np.float32(0.5)
    first = State.from_arrays(strided.states, arrays)
    assert not first.begun
    x = drawn(strided, 1, 6)["x"]
    stream = strided.stream()
    stream.state = first
    got = np.concatenate([stream.push(x[:, :2]), stream.push(x[:, 2:]), stream.flush()], axis=1)
    np.testing.assert_allclose(got, strided.run(x, first)[0]["logits"], rtol=0, atol=CLOSE)


def test_a_condition_is_held_and_replaced(condition):
    inputs = drawn(condition, 1, 8)
    x, speaker = inputs["x"], inputs["speaker"]
    other = speaker + 1
    stream = condition.stream()
    with pytest.raises(InputError, match=r"^input 'speaker' is missing: it has no time axis"):
        stream.push(x[:4])
    answers = [stream.push({"x": x[:4], "speaker": speaker}), stream.push(x[4:6])]
    stream.push(x[6])
    answers.append(stream.flush())
    whole = condition.run({"x": x[:7], "speaker": speaker})[0]["logits"]
    np.testing.assert_allclose(np.concatenate(answers, axis=1), whole, rtol=0, atol=CLOSE)
    # Replaced where no steps are kept, it is that of the calls that follow.
    stream.reset()
    _, state = condition.run({"x": x[:4], "speaker": speaker}, end=False)
    stream.push({"x": x[:4], "speaker": speaker})
    rest, _ = condition.run({"x": x[4:], "speaker": other}, state)
    got = np.concatenate([stream.push({"x": x[4:], "speaker": other}), stream.flush()], axis=1)
    np.testing.assert_allclose(got, rest["logits"], rtol=0, atol=CLOSE)


def test_a_condition_replaced_among_kept_steps_has_no_end(condition):
    inputs = drawn(condition, 1, 8)
    stream = condition.stream()
    stream.push({"x": inputs["x"][:4], "speaker": inputs["speaker"]})
    stream.push({"x": inputs["x"][4:5], "speaker": inputs["speaker"] + 1})
    before = stream.snapshot()
    with pytest.raises(StreamingError, match=r"^the end cannot be computed: input 'speaker' was replaced while 1"):
        stream.flush()
    assert same(stream.snapshot(), before)
    stream.push(inputs["x"][5:6])
    assert stream.flush().shape == (1, 0, 4)


def test_a_card_that_counts_otherwise_than_its_graph_is_told(strided):
    x = drawn(strided, 1, 6)["x"]
    for changes, sentence in (
        ({"first_gives": 2}, "by card.streaming 5 input steps give 4 output steps, the graph gave 3"),
        ({"gives": 3}, "by card.streaming 5 input steps give 7 output steps, the graph gave 3"),
    ):
        session = Session(MODELS / "kept_strided.onnx")
        for key, value in changes.items():
            object.__setattr__(session.card.streaming, key, value)
        stream = session.stream()
        with pytest.raises(CardError, match=sentence):
            stream.push(x)
        assert stream.steps == 0


def test_as_few_calls_as_possible(look_ahead, monkeypatch):
    stream, steps = look_ahead.stream(), []
    whole = stream._keeper._call  # private: the calls of the graph are not seen from outside
    monkeypatch.setattr(stream._keeper, "_call", lambda *given, **how: steps.append(given[3]) or whole(*given, **how))
    pushed(stream, look_ahead, drawn(look_ahead, 1, 12), [3, 6, 3])
    # The first push completes nothing; the last call runs again with the end.
    assert steps == [9, 3, 3]


@pytest.mark.parametrize("axes", [("batch", "time", 5), ("batch", "time"), ("batch", 2, 4)])
def test_a_graph_whose_outputs_are_not_those_of_the_card_is_told(axes):
    """onnxruntime need not know the shape of an output before it runs."""
    session = Session(MODELS / "kept_strided.onnx")
    session.outputs = (dataclasses.replace(session.outputs[0], axes=axes),)
    stream = session.stream()
    with pytest.raises(CardError, match=r"^model card: the graph gave 'logits' with shape \[1, 3, 4\], expected \["):
        stream.push(drawn(session, 1, 5)["x"])
    assert stream.steps == 0
