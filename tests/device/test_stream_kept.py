"""Streams that keep steps: any cut and ``flush`` give the whole sequence's answer; what is refused changes nothing."""

import contextlib

import numpy as np
import pytest
from kept import KEPT, cut, drawn, joined_answers, pushed, time_axis
from streamed import MODELS

from lstm_edge_runtime import pieces as pieces_module
from lstm_edge_runtime.bench import bench
from lstm_edge_runtime.errors import InputError, StreamingError
from lstm_edge_runtime.selftest import self_test
from lstm_edge_runtime.session import Session

# The same float32 operations in pieces, summed in another order: a few last bits of values of order one.
CLOSE = 2e-6
LONGEST = 40


@pytest.fixture(scope="module", params=sorted(KEPT))
def kept(request):
    return Session(MODELS / f"{request.param}.onnx"), KEPT[request.param]


@pytest.fixture(scope="module")
def look_ahead():
    return Session(MODELS / "kept_look_ahead.onnx")


@pytest.fixture(scope="module")
def strided():
    return Session(MODELS / "kept_strided.onnx")


def cuts_of(steps, rng):
    """Chunks of 1, 2, 7, T-1 and T, and two ragged ones."""
    for size in {1, 2, 7, max(1, steps - 1), steps}:
        yield [size] * (steps // size) + ([steps % size] if steps % size else [])
    for _ in range(2):
        ends = sorted(set(rng.integers(1, steps + 1, 5).tolist()) | {steps})
        yield np.diff([0, *ends]).tolist()


def assert_close(got, expected):
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert got[name].shape == array.shape, name
        assert got[name].dtype == array.dtype
        np.testing.assert_allclose(got[name], array, rtol=0, atol=CLOSE, err_msg=name)


@pytest.mark.parametrize("batch", [1, 3])
def test_every_cut_gives_the_whole_answer(kept, batch):
    session, least = kept
    rng = np.random.default_rng(3)
    stream = session.stream(batch)
    for steps in range(least, LONGEST + 1):
        inputs = drawn(session, batch, steps, seed=steps)
        whole, _ = session.run(inputs)
        for cuts in cuts_of(steps, rng):
            stream.reset()
            assert_close(joined_answers(session, pushed(stream, session, inputs, cuts)), whole)
            assert stream.steps == steps


def test_each_push_gives_what_the_card_says(kept):
    session, _ = kept
    streaming = session.card.streaming
    stream, inputs, given = session.stream(2), drawn(session, 2, LONGEST), 0
    timed = [spec for spec in session.outputs if "time" in spec.axes]
    for step in range(LONGEST):
        answer = stream.push(cut(session, inputs, step, step + 1))
        for spec in timed:
            array = answer[spec.name] if isinstance(answer, dict) else answer
            given += array.shape[time_axis(spec)]
        done = step + 1 - streaming.first
        due = 0 if done < 0 else streaming.first_gives + done // streaming.every * streaming.gives
        assert given == due * len(timed)


def test_a_sequence_that_completes_nothing_is_empty():
    session = Session(MODELS / "kept_image.onnx")
    answers = pushed(session.stream(), session, drawn(session, 1, 3), [2, 1])
    assert [answer["y"].shape for answer in answers] == [(1, 2, 3, 0)] * 3


def test_frames_keep_the_time_axis(look_ahead):
    inputs = drawn(look_ahead, 1, 5)["x"]
    stream = look_ahead.stream()
    shapes = [stream.push(frame).shape for frame in inputs[0]]
    assert shapes == [(0, 4), (0, 4), (0, 4), (1, 4), (1, 4)]
    assert stream.flush().shape == (3, 4)
    stream.reset()
    assert [stream.push(inputs[:, step]).shape for step in range(4)] == [(1, 0, 4)] * 3 + [(1, 1, 4)]
    assert stream.flush().shape == (1, 3, 4)
    assert look_ahead.stream().flush().shape == (1, 0, 4)


def test_an_output_without_time_has_no_rows_until_it_is_completed():
    session = Session(MODELS / "kept_last.onnx")
    x = drawn(session, 1, 4)["x"]
    stream = session.stream()
    assert [stream.push(frame).shape for frame in x[0]] == [(0, 4), (1, 4), (0, 4), (1, 4)]
    assert stream.flush().shape == (0, 4)


def test_out_takes_the_answer(strided):
    x = drawn(strided, 1, 3)["x"]
    stream, out = strided.stream(), np.empty((1, 2, 4), np.float32)
    assert stream.push(x, out=out) is out
    np.testing.assert_allclose(out, strided.run(x)[0]["logits"], rtol=0, atol=CLOSE)
    before = stream.snapshot()
    with pytest.raises(InputError, match=r"out for 'logits' must be float32 \[1, 0, 4\], got float32 \[1, 2, 4\]"):
        stream.push(x[:, :1], out=out)
    assert same(stream.snapshot(), before)


def test_out_of_a_first_piece_that_completes_nothing(look_ahead):
    x = drawn(look_ahead, 1, 1)["x"]
    out = np.empty((1, 0, 4), np.float32)
    assert look_ahead.stream().push(x, out=out) is out


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_a_frame_of_the_last_shape_is_looked_at_for_nan(strided, bad):
    x = drawn(strided, 1, 3)["x"]
    stream = strided.stream()
    stream.push(x[0, 0])
    wrong = x[0, 1].copy()
    wrong[2] = bad
    with pytest.raises(InputError, match=r"^step 1: input 'x' holds -?(nan|inf) at index \[2\]"):
        stream.push(wrong)
    assert stream.steps == 1


def test_a_frame_of_the_last_shape_is_not_read_again(strided, monkeypatch):
    x, looks = drawn(strided, 1, 4)["x"], []
    whole = pieces_module.name_inputs
    monkeypatch.setattr(pieces_module, "name_inputs", lambda *given: looks.append(1) or whole(*given))
    stream, counts = strided.stream(), []
    for piece in (x[0, 0], x[0, 1], x[:, 2], x[:, 3], x[:, 3:], x[0, 3].astype(">f4")):
        with contextlib.suppress(InputError):
            stream.push(piece)
        counts.append(len(looks))
    assert counts == [1, 1, 2, 2, 3, 4]


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(array, other[name]) for name, array in one.items())


@pytest.mark.parametrize("bad", [np.nan, np.inf, "shape", "dtype"])
def test_a_refused_push_changes_nothing(strided, bad):
    x = drawn(strided, 1, 9)["x"]
    stream = strided.stream()
    stream.push(x[:, :4])
    wrong = {"shape": x[:, :3, :2], "dtype": x[:, :3].astype(np.float64)}.get(bad)
    if wrong is None:
        wrong = x[:, 4:7].copy()
        wrong[0, 1, 1] = bad
    before = stream.snapshot()
    with pytest.raises(InputError):
        stream.push(wrong)
    assert same(stream.snapshot(), before)
    got = np.concatenate([stream.push(x[:, 4:]), stream.flush()], axis=1)
    np.testing.assert_allclose(got, strided.run(x)[0]["logits"][:, 2:], rtol=0, atol=CLOSE)


def test_a_push_belongs_to_the_caller(strided):
    """What is kept is a copy: the caller may write over the array of a push."""
    x = drawn(strided, 1, 4)["x"]
    stream, piece = strided.stream(), np.empty((1, 1, 3), np.float32)
    for step in range(4):
        piece[...] = x[:, step : step + 1]
        last = stream.push(piece)
        piece[...] = np.nan
    assert last.shape == (1, 0, 4)
    assert stream.push(x[:, :1]).shape == (1, 1, 4)


def test_after_the_end_comes_a_reset(kept):
    session, _ = kept
    inputs = drawn(session, 1, 8)
    stream = session.stream()
    first = pushed(stream, session, inputs, [5, 3])
    with pytest.raises(StreamingError, match=r"^the stream has ended with flush\(\): call reset\(\)"):
        stream.push(inputs)
    again = stream.flush()
    for spec in session.outputs:
        array = again[spec.name] if isinstance(again, dict) else again
        assert array.size == 0
    stream.reset()
    assert stream.steps == 0
    for one, other in zip(first, pushed(stream, session, inputs, [5, 3]), strict=True):
        assert same(one, other)


@pytest.mark.parametrize("name", ["tagger", "last_step", "each_call", "two_inputs"])
def test_a_stream_of_one_step_each_ends_too(models, name):
    session = Session(models / f"{name}.onnx")
    axes = {"batch": 1, "time": 2}
    piece = {s.name: np.zeros([axes.get(a, a) for a in s.axes], s.dtype) for s in session.inputs}
    stream = session.stream()
    stream.push(piece)
    steps, state = stream.steps, stream.state
    rest = stream.flush()
    for spec in session.outputs:
        array = rest[spec.name] if isinstance(rest, dict) else rest
        assert (array.size, array.ndim) == (0, len(spec.axes))
    with pytest.raises(StreamingError, match="has ended"):
        stream.push(piece)
    assert (stream.steps, stream.state) == (steps, state)
    stream.reset()
    stream.push(piece)


@pytest.mark.parametrize(("name", "frames"), [("kept_image", 4), ("kept_last", 2), ("kept_look_ahead", 1)])
def test_bench_measures_pushes_that_complete_outputs(name, frames):
    report = bench(MODELS / f"{name}.onnx", steps=5, repeats=2, time_steps=9)
    assert report.frames == frames
    for timing, steps in ((report.step, report.frames), (report.sequence, 9)):
        assert timing.steps_per_s == pytest.approx(steps * 1e6 / timing.p50_us)
    label = "step" if frames == 1 else f"{frames} steps"
    assert f"{label}, batch 1: throughput" in dict(report.rows())


def test_golden_vectors_check_with_and_without_the_end(kept):
    session, _ = kept
    report = self_test(session)
    assert report.passed
    ends = [vector.inputs.get("end") for vector in session.golden().vectors]
    assert [None if end is None else int(end[0]) for end in ends] in ([None, None], [1, 0])
