"""Streams: pieces give the whole sequence's answer, and a refused piece leaves the state as it was."""

import contextlib
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm_edge_runtime import pieces as pieces_module
from lstm_edge_runtime.errors import InputError, StreamingError
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.state import State
from lstm_edge_runtime.stream import Stream

# The same float32 operations in pieces: onnxruntime may sum in another order, a few last bits of order-one values.
CLOSE = 1e-6
STEPS = 9


@pytest.fixture(scope="module")
def tagger(models):
    return Session(models / "tagger.onnx")


@pytest.fixture(scope="module")
def two_inputs(models):
    return Session(models / "two_inputs.onnx")


def frames(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def some_state(session, batch):
    zeros = session.initial_state(batch).to_arrays()
    return State.from_arrays(
        session.states, {name: np.tanh(frames(*array.shape, seed=5)) for name, array in zeros.items()}
    )


def assert_states_close(got, expected):
    assert got.keys() == expected.keys()
    assert max(np.abs(got[name] - expected[name]).max() for name in got) <= CLOSE


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("chunk", [1, 2, 4, STEPS - 1, STEPS])  # 2, 4 and STEPS-1 leave a ragged tail
@pytest.mark.parametrize("name", ["tagger", "lengths", "last_step"])
def test_chunks_give_the_whole_answer(models, name, chunk, batch):
    session = Session(models / f"{name}.onnx")
    x, start = frames(batch, STEPS, 3), some_state(session, batch)
    whole, end = session.run(x, start)
    stream = session.stream(batch)
    stream.state = start
    pieces = [stream.push(x[:, at : at + chunk]) for at in range(0, STEPS, chunk)]
    got = pieces[-1] if name == "last_step" else np.concatenate(pieces, axis=1)
    assert got.shape == whole["logits"].shape
    np.testing.assert_allclose(got, whole["logits"], rtol=0, atol=CLOSE)
    assert_states_close(stream.state, end)
    assert stream.steps == STEPS


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=12), st.integers(1, 3))
def test_any_cut_gives_the_whole_answer(tagger, cuts, batch):
    x = frames(batch, sum(cuts), 3)
    stream = tagger.stream(batch)
    ends = np.cumsum(cuts)
    pieces = [stream.push(x[:, end - cut : end]) for cut, end in zip(cuts, ends, strict=True)]
    whole, end = tagger.run(x)
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole["logits"], rtol=0, atol=CLOSE)
    assert_states_close(stream.state, end)


def test_more_lengths_than_plans_are_kept(tagger):
    stream, x = tagger.stream(), frames(1, 400, 3)
    at, pieces = 0, []
    for size in [*range(1, 21), *range(20, 0, -2)]:
        pieces.append(stream.push(x[:, at : at + size]))
        at += size
    whole, _ = tagger.run(x[:, :at])
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole["logits"], rtol=0, atol=CLOSE)
    assert len(stream._plans) == 8  # private: what bounds the memory is not seen from outside


def test_a_piece_of_the_last_shape_is_not_looked_at_again(tagger, monkeypatch):
    """What a push costs on a device: only the first piece of a shape goes through the checks of names and shapes."""
    looks = []
    whole = pieces_module.name_inputs
    monkeypatch.setattr(pieces_module, "name_inputs", lambda *given: looks.append(1) or whole(*given))
    stream, x = tagger.stream(), frames(1, 6, 3)
    counts = []
    for piece in (x[:, 0], x[:, 1], x[:, 2], x[:, :2], x[:, 2:4], x[:, 5], x[0, 5].tolist(), x[:, 5].astype(">f4")):
        with contextlib.suppress(InputError):
            stream.push(piece)
        counts.append(len(looks))
    # Another shape, what is not an array, and another dtype are looked at.
    assert counts == [1, 1, 1, 2, 2, 3, 4, 5]


def test_a_model_of_one_row_is_streamed_with_one_row_only(models):
    """As a foreign file may be: its axis of rows has a number, not a name."""
    session, x = Session(models / "tagger.onnx"), frames(1, 4, 3)
    whole, _ = session.run(x)
    for side in ("inputs", "outputs"):
        specs = getattr(session, side)
        setattr(session, side, tuple(dataclasses.replace(spec, axes=(1, *spec.axes[1:])) for spec in specs))
    with pytest.raises(InputError, match=r"^batch_size is 2, and no input of the model has a dynamic batch axis$"):
        session.stream(2)
    stream = session.stream(1)
    got = [stream.push(x[:, step]) for step in range(4)]
    np.testing.assert_allclose(np.stack(got, axis=1), whole["logits"], rtol=0, atol=CLOSE)


def test_a_stream_is_of_one_row_unless_told(tagger):
    assert Stream(tagger).push(frames(1, 1, 3)[0, 0]).shape == (4,)


def test_what_a_piece_lacks_its_answer_lacks_too(tagger):
    x = frames(1, 1, 3)
    answers = [tagger.stream().push(piece) for piece in (x, x[:, 0], x[0, 0])]
    assert [answer.shape for answer in answers] == [(1, 1, 4), (1, 4), (4,)]
    assert answers[0].tobytes() == answers[1].tobytes() == answers[2].tobytes()


def test_a_frame_of_a_last_step_model_only_loses_its_batch_axis(models):
    session = Session(models / "last_step.onnx")
    x = frames(1, 1, 3)
    answers = [session.stream().push(piece) for piece in (x, x[:, 0], x[0, 0])]
    assert [answer.shape for answer in answers] == [(1, 4), (1, 4), (4,)]
    assert session.stream(3).push(frames(3, 3)).shape == (3, 4)


def test_two_inputs_come_as_a_mapping_in_the_same_form(two_inputs):
    x, ids = frames(1, 4, 3), np.array([[1, 5, 2, 7]])
    whole, _ = two_inputs.run({"x": x, "ids": ids})
    stream = two_inputs.stream()
    first = stream.push({"x": x[:, :2], "ids": ids[:, :2]})
    second = stream.push({"x": x[:, 2], "ids": ids[:, 2]})
    third = stream.push({"x": x[0, 3], "ids": int(ids[0, 3])})
    for name, sizes in {"logits": 4, "hidden": 5}.items():
        assert [first[name].shape, second[name].shape, third[name].shape] == [(1, 2, sizes), (1, sizes), (sizes,)]
        got = np.concatenate([first[name][0], second[name], third[name][None]])
        np.testing.assert_allclose(got, whole[name][0], rtol=0, atol=CLOSE)
    with pytest.raises(InputError, match=r"^input 'x' has shape .*, all inputs in the same form$"):
        stream.push({"x": x[:, :2], "ids": ids[0, 0]})
    with pytest.raises(InputError, match="input 'ids' is missing"):
        stream.push({"x": x})
    assert stream.steps == 4


def test_a_refused_token_leaves_the_state(two_inputs):
    stream = two_inputs.stream()
    stream.push({"x": frames(3), "ids": 3})
    before = stream.state
    with pytest.raises(InputError, match="step 1: onnxruntime refused this input, the state is unchanged"):
        stream.push({"x": frames(3), "ids": 1000})
    assert stream.state == before
    assert stream.steps == 1


def test_inputs_are_unchanged_and_answers_are_fresh(tagger):
    stream = tagger.stream()
    x = frames(6, 3)
    x.flags.writeable = False
    before = x.tobytes()
    answers = [stream.push(frame) for frame in x]
    kept = [answer.copy() for answer in answers]
    stream.push(frames(3, seed=9))
    assert x.tobytes() == before
    assert not any(np.shares_memory(a, b) for a in answers for b in answers if a is not b)
    for answer, copy in zip(answers, kept, strict=True):
        np.testing.assert_array_equal(answer, copy)
        answer[...] = 0  # an answer belongs to the caller


def test_a_strided_frame_is_read_right(tagger):
    wide = frames(4, 6)
    np.testing.assert_array_equal(tagger.stream().push(wide[1, ::2]), tagger.stream().push(wide[1, ::2].copy()))


def test_out_receives_the_answer(tagger, two_inputs):
    frame = frames(3)
    expected = tagger.stream().push(frame)
    out = np.zeros(4, np.float32)
    assert tagger.stream().push(frame, out=out) is out
    np.testing.assert_array_equal(out, expected)
    pair = {"x": frame, "ids": 4}
    outs = {"logits": np.zeros(4, np.float32), "hidden": np.zeros(5, np.float32)}
    assert two_inputs.stream().push(pair, out=outs) is outs
    for name, array in two_inputs.stream().push(pair).items():
        np.testing.assert_array_equal(outs[name], array)
    with pytest.raises(InputError, match="out must be a mapping with an array for each of logits, hidden"):
        two_inputs.stream().push(pair, out=out)


@pytest.mark.parametrize(
    ("out", "sentence"),
    [
        (np.zeros((1, 4), np.float32), r"out for 'logits' must be float32 \[4\], got float32 \[1, 4\]"),
        (np.zeros(4), r"out for 'logits' must be float32 \[4\], got float64 \[4\]"),
        ([0.0] * 4, r"out for 'logits' must be float32 \[4\], got list"),
        (np.broadcast_to(np.float32(0), (4,)), r"out for 'logits' is read-only"),
    ],
)
def test_a_wrong_out_is_refused_before_the_step(tagger, out, sentence):
    stream = tagger.stream()
    with pytest.raises(InputError, match=sentence):
        stream.push(frames(3), out=out)
    assert stream.steps == 0
    assert stream.state == tagger.initial_state()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (1, 2)])
def test_a_nonfinite_frame_leaves_the_state(tagger, value, place):
    stream, clean = tagger.stream(2), tagger.stream(2)
    good, bad = frames(3, 2, 3), frames(2, 3)
    bad[place] = value
    for known_shape in (False, True):  # the first piece of a shape takes another way than the next ones
        before = stream.state
        with pytest.raises(InputError, match=rf"step \d: input 'x' holds {value} at index \[{place[0]}, {place[1]}\]"):
            stream.push(bad)
        assert stream.state == before
        if not known_shape:
            stream.push(good[0])
    clean.push(good[0])
    np.testing.assert_array_equal(stream.push(good[1]), clean.push(good[1]))
    assert stream.steps == 2


def test_opposite_infinities_do_not_hide_each_other(tagger):
    with pytest.raises(InputError, match="holds inf"):
        tagger.stream().push(np.array([np.inf, -np.inf, 0], np.float32))


def test_a_large_finite_frame_is_taken(tagger):
    # Its square overflows float32, so the quick check alone would refuse it.
    assert np.isfinite(tagger.stream().push(np.full(3, 1e30, np.float32))).all()


def test_a_state_that_would_overflow_is_discarded(models):
    stream = Session(models / "accumulator.onnx").stream()
    one = np.ones(1, np.float32)
    stream.push(one)
    stream.push(one)  # the state is 1e20 now, the next would be 1e40
    before = stream.state
    for _ in range(2):
        with pytest.raises(
            InputError, match="step 2: the new state is not finite: it was discarded, and the old state was kept"
        ):
            stream.push(one)
        assert stream.state == before
    assert stream.steps == 2


@pytest.mark.parametrize(
    ("piece", "sentence"),
    [
        (frames(4), r"input 'x' has shape \[4\], expected \[3\] or \[1, 3\] or \[1, time, 3\]"),
        (frames(2, 3), r"input 'x' has shape \[2, 3\], expected \[3\] or \[1, 3\]"),
        (frames(1, 0, 3), r"has shape \[1, 0, 3\], .* with time at least 1"),
        (frames(1, 1, 1, 3), r"input 'x' has shape \[1, 1, 1, 3\]"),
        (np.zeros(3), r"has dtype float64, expected float32"),
        ([0.0, 0.0, 0.0], r"must be a NumPy array, got list"),
        ({"y": frames(3)}, r"unknown input 'y'"),
    ],
)
def test_a_wrong_piece_gets_a_sentence(tagger, piece, sentence):
    stream = tagger.stream()
    stream.push(frames(3))
    before = stream.state
    with pytest.raises(InputError, match=sentence):
        stream.push(piece)
    assert stream.state == before


def test_rows_side_by_side_need_their_batch_axis(tagger):
    with pytest.raises(InputError, match=r"has shape \[3\], expected \[2, 3\] or \[2, time, 3\]"):
        tagger.stream(2).push(frames(3))


def test_state_is_saved_and_restored(tagger):
    x = frames(8, 3)
    stream = tagger.stream()
    for frame in x[:4]:
        stream.push(frame)
    saved = stream.state
    expected = [stream.push(frame) for frame in x[4:]]
    other = tagger.stream()
    other.push(x[7])  # an odd number of steps: the restored state goes to the other buffer
    other.state = saved
    for frame, answer in zip(x[4:], expected, strict=True):
        np.testing.assert_array_equal(other.push(frame), answer)
    assert saved == State.from_arrays(tagger.states, saved.to_arrays())
    with pytest.raises(InputError, match="the state has 2 rows, the stream has 1"):
        stream.state = tagger.initial_state(2)


def test_reset_starts_anew(tagger):
    stream, x = tagger.stream(), frames(3, 3)
    first = [stream.push(frame) for frame in x]
    stream.reset()
    assert stream.steps == 0
    assert stream.state == tagger.initial_state()
    for frame, answer in zip(x, first, strict=True):
        np.testing.assert_array_equal(stream.push(frame), answer)


def test_what_cannot_be_streamed_says_why(models, tagger):
    with pytest.raises(
        StreamingError, match="the model cannot be streamed: lstm is bidirectional: its reverse direction starts at"
    ):
        Session(models / "bidirectional.onnx").stream()
    with pytest.raises(StreamingError, match="it has no model card, so it is unknown whether chunks give the outputs"):
        Session(models / "no_card.onnx").stream()
    with pytest.raises(InputError, match="batch_size must be a positive integer"):
        tagger.stream(0)
    with pytest.raises(InputError, match="on_nonfinite must be 'refuse', got 'ignore'"):
        tagger.stream(on_nonfinite="ignore")


@pytest.fixture(scope="module")
def each_call(models):
    return Session(models / "each_call.onnx")


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_calls_of_one_frame_give_the_whole_answer(models, each_call, batch):
    sequence = Session(models / "each_call_whole.onnx")
    x, gain, start = frames(batch, STEPS, 3), np.array(2), some_state(each_call, batch)
    whole, end = sequence.run({"x": x, "gain": gain}, start)
    stream = each_call.stream(batch)
    stream.state = start
    got = np.stack([stream.push({"x": x[:, at], "gain": gain}) for at in range(STEPS)], axis=1)
    np.testing.assert_allclose(got, whole["logits"], rtol=0, atol=CLOSE)
    assert_states_close(stream.state, end)
    assert stream.steps == STEPS


def test_a_call_may_lack_the_batch_axis_of_one_row(each_call):
    x = frames(1, 3)
    answers = [each_call.stream().push({"x": piece, "gain": np.array(3)}) for piece in (x, x[0])]
    assert [answer.shape for answer in answers] == [(1, 4), (4,)]
    assert answers[0].tobytes() == answers[1].tobytes()
    other = each_call.stream().push({"x": x, "gain": np.array(1)})
    assert np.abs(other - answers[0]).max() > CLOSE, "the number without axes must reach the graph"


def test_a_call_of_several_frames_is_refused_and_the_state_stays(each_call):
    stream = each_call.stream()
    stream.push({"x": frames(3), "gain": np.array(1)})
    before = stream.state
    with pytest.raises(InputError, match=r"input 'x' has shape \[1, 2, 3\], expected \[3\] or \[1, 3\]"):
        stream.push({"x": frames(1, 2, 3), "gain": np.array(1)})
    with pytest.raises(InputError, match=r"input 'x' has shape \[2, 3\], expected \[3\] or \[1, 3\]"):
        stream.push({"x": frames(2, 3), "gain": np.array(1)})
    with pytest.raises(InputError, match="step 1: input 'x' holds nan"):
        stream.push({"x": np.full(3, np.nan, np.float32), "gain": np.array(1)})
    assert stream.state == before
    assert stream.steps == 1
