"""A watched stream: its counters are exact whatever happens, and its file is whole."""

import contextlib
import gc
import itertools
import json
import math
import signal
import threading
import time
import warnings
from functools import partial

import numpy as np
import pytest
from interrupts import InterruptError, interrupt_at
from streamed import MODELS, pieces

from lstm_edge_runtime import InputError, Metrics, Session
from lstm_edge_runtime.errors import REASONS, LstmEdgeError
from lstm_edge_runtime.watch.samples import HELD, LATENCY_EDGES_S

INT8 = MODELS / "exported_int8.onnx"


def frames(count, size=6, seed=0):
    return np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)


def refusals(metrics):
    return {reason: count for reason, count in metrics.read().refusals.items() if count}


def test_pushes_and_steps_of_frames_chunks_resets_and_flushes():
    metrics = Metrics(every=3)
    stream = Session(INT8).stream(metrics=metrics)
    for frame in frames(7):
        stream.push(frame)
    stream.push(frames(4)[None])
    stream.reset()
    stream.push(frames(1)[0])
    stream.flush()
    before = stream.snapshot()
    stream.reset()
    stream.push(frames(2)[None])
    stream.restore(before)
    stream.state = stream.state
    found = metrics.read()
    assert (found.pushes, found.steps) == (10, 7 + 4 + 1 + 2)
    assert (found.sampled.count, refusals(metrics)) == (3, {})


@pytest.mark.parametrize("name", ["kept_strided", "kept_look_ahead", "kept_last"])
def test_a_stream_that_keeps_steps_is_counted_alike(name):
    metrics = Metrics(every=2)
    stream = Session(MODELS / f"{name}.onnx").stream(metrics=metrics)
    for frame in frames(9, 3):
        stream.push(frame)
    stream.flush()
    before = stream.snapshot()
    stream.reset()
    stream.push(frames(5, 3)[None])
    stream.restore(before)
    found = metrics.read()
    assert (found.pushes, found.steps, found.sampled.count) == (10, 14, 5)
    with pytest.raises(LstmEdgeError):
        stream.push(frames(1, 3)[0])
    assert refusals(metrics) == {"ended": 1}
    assert sum(found.sampled.norms.values()) > 0


def test_every_reason_is_counted():
    metrics = Metrics(every=2)
    session = Session(INT8)
    stream = session.stream(metrics=metrics)
    good = frames(1)[0]
    wrong = {
        "shape": lambda: stream.push(good[:3]),
        "dtype": lambda: stream.push(good.astype(np.float64)),
        "name": lambda: stream.push({"z": good}),
        "not_finite": lambda: stream.push(np.full(6, np.nan, np.float32)),
        "out": lambda: stream.push(good, out=np.zeros(1, np.float32)),
    }
    for count, (reason, act) in enumerate(wrong.items(), start=1):
        for _ in range(count):
            with pytest.raises(InputError) as caught:
                act()
            assert caught.value.reason == reason
        stream.push(good)
    stream.flush()
    with pytest.raises(LstmEdgeError, match="has ended"):
        stream.push(good)
    assert refusals(metrics) == {"shape": 1, "dtype": 2, "name": 3, "not_finite": 4, "out": 5, "ended": 1}
    assert (metrics.read().pushes, stream.totals) == (5, (5, 5))


def test_a_state_that_is_not_finite_is_a_reason():
    metrics = Metrics()
    stream = Session(MODELS / "accumulator.onnx").stream(metrics=metrics)
    large = np.array([3e38], np.float32)
    stream.push(large)
    with pytest.raises(InputError, match="not finite"):
        stream.push(large)
    assert refusals(metrics) == {"state_not_finite": 1}
    assert metrics.read().pushes == 1


def test_a_condition_that_is_not_finite_is_a_reason():
    metrics = Metrics()
    stream = Session(MODELS / "kept_condition.onnx").stream(metrics=metrics)
    with pytest.raises(InputError, match="nan"):
        stream.push({"x": frames(1, 3)[0], "speaker": np.full(3, np.nan, np.float32)})
    assert refusals(metrics) == {"not_finite": 1}


def test_what_onnxruntime_refuses_is_a_reason():
    metrics = Metrics()
    stream = Session(MODELS / "language_model.onnx").stream(metrics=metrics)
    stream.push(np.int64(1))
    with pytest.raises(InputError, match="onnxruntime refused"):
        stream.push(np.int64(10**6))
    assert refusals(metrics) == {"onnxruntime": 1}
    assert metrics.read().sampled.inputs == {}


@pytest.mark.parametrize("every", [1, 3, 10**9])
@pytest.mark.parametrize("name", ["exported_int8", "kept_strided"])
def test_after_an_interrupt_anywhere_the_totals_are_those_of_the_state(name, every):
    session = Session(MODELS / f"{name}.onnx")
    size = session.inputs[0].axes[-1]
    metrics = Metrics(every=every)
    # The tracer interrupts between the instructions that release the lock, where no signal handler runs.
    metrics._lock = contextlib.nullcontext()
    stream = session.stream(metrics=metrics)
    x = frames(50, size)
    stream.push(x[0])
    place, done, steps, hits = 0, False, 1, 0
    while not done:
        place += 1
        before = stream.steps
        done = interrupt_at(partial(stream.push, x[place % len(x)]), place)
        assert stream.steps - before in (0, 1)
        hits += not done
        steps += stream.steps - before
        assert stream.totals == (steps, steps)
        found = metrics.read()
        assert (found.pushes, found.steps) == (steps, steps)
        if found.sampled.inputs:
            counts = found.sampled.inputs["x"].counts
            assert list(counts) == sorted(counts)
            assert counts[-1] == found.sampled.count * size
    assert hits > 20
    assert steps > 2


def test_alarms_leave_the_totals_exact_and_the_lock_free(tmp_path):
    armed = False

    def strike(*_arguments):
        if armed:
            raise InterruptError

    metrics = Metrics(tmp_path / "m.prom", every=2, write_every_s=0.0)
    stream = Session(INT8).stream(metrics=metrics)
    frame, rng, hits = frames(1)[0], np.random.default_rng(0), 0
    old = signal.signal(signal.SIGALRM, strike)
    gc.disable()
    try:
        for _ in range(300):
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(2e-6, 1e-3))
                for _ in range(100):
                    stream.push(frame)
                armed = False
            except InterruptError:
                hits += 1
            armed = False
            assert stream.totals == (stream.steps, stream.steps)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
        gc.enable()
    assert hits > 30
    assert metrics.write()
    assert f"lstm_edge_pushes_total {stream.steps}\n" in (tmp_path / "m.prom").read_text()


def test_streams_of_one_model_add_up_and_leave_their_totals():
    session, metrics = Session(INT8), Metrics(every=2)
    streams = [session.stream(metrics=metrics), session.stream(3, metrics=metrics)]
    for number in range(5):
        streams[0].push(frames(1, seed=number)[0])
        streams[1].push(frames(3, seed=number))
    assert (metrics.read().pushes, metrics.read().streams, metrics.read().sampled.count) == (10, 2, 4)
    # A push that nobody has read before the stream is gone.
    streams[1].push(frames(3))
    del streams[1]
    gc.collect()
    for _ in range(2):
        assert (metrics.read().pushes, metrics.read().streams) == (11, 1)
    streams[0].push(frames(1)[0])
    assert (metrics.read().pushes, metrics.read().steps) == (12, 12)
    with pytest.raises(InputError, match="streams of another model"):
        Session(MODELS / "tagger.onnx").stream(metrics=metrics)
    assert metrics.read().streams == 1


def test_threads_share_one_metrics():
    session, metrics = Session(INT8), Metrics(every=1)
    streams = [session.stream(metrics=metrics) for _ in range(3)]

    def work(stream):
        for frame in frames(500):
            stream.push(frame)
            with contextlib.suppress(InputError):
                stream.push(frame[:1])

    threads = [threading.Thread(target=work, args=(stream,)) for stream in streams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = metrics.read()
    assert (found.pushes, found.sampled.count, found.refusals["shape"]) == (1500, 1500, 1500)
    assert found.sampled.inputs["x"].counts[-1] == 1500 * 6


def test_norms_shares_and_values_are_those_of_the_sampled_pushes():
    session, metrics = Session(INT8), Metrics(every=4)
    stream, plain = session.stream(2, metrics=metrics), session.stream(2)
    norms, shares, values, count = {}, {}, [], 0
    x = np.random.default_rng(0).normal(scale=20, size=(4 * HELD + 9, 2, 6)).astype(np.float32)
    for number, piece in enumerate(x, start=1):
        np.testing.assert_array_equal(stream.push(piece), plain.push(piece))
        if number % 4 == 0:
            count += 1
            values.append(piece)
            for name, state in plain.state.items():
                norms[name] = norms.get(name, 0) + math.sqrt((state.astype(float) ** 2).sum() / 2)
                if name.endswith(".h"):
                    shares[name[:-2]] = shares.get(name[:-2], 0) + float((np.abs(state) > 0.99).mean())
    found = metrics.read().sampled
    assert found.count == count == HELD + 2
    assert found.norms == pytest.approx(norms, rel=1e-5)
    assert found.saturated == pytest.approx(shares)
    assert 0 < sum(shares.values()) < 2 * count
    flat = np.concatenate(values).reshape(-1)
    reading = found.inputs["x"]
    assert reading.counts == tuple(int((flat <= edge).sum()) for edge in reading.edges)
    assert 0 < found.latency_sum_s < count
    assert list(found.latency_counts) == sorted(found.latency_counts)
    assert len(found.latency_counts) == len(LATENCY_EDGES_S)


@pytest.mark.parametrize(("every", "asked"), [(3, 1 + 2 * 3), (4, 1 + 2 * 2), (1, 1 + 8 * 2 + 1)])
def test_the_clock_is_asked_at_sampled_pushes_only(monkeypatch, every, asked):
    """A clock that goes on by a second each time it is asked: a sampled push asks when it begins and when it ends."""
    clock = itertools.count()
    monkeypatch.setattr("lstm_edge_runtime.watch.watched_stream.perf_counter", lambda: next(clock))
    metrics = Metrics(every=every)
    stream = Session(INT8).stream(metrics=metrics)
    out = np.zeros(4, np.float32)
    for number, frame in enumerate(frames(9)):
        stream.push(frame, out if number % 2 else None)
    sampled = metrics.read().sampled
    assert (sampled.count, sampled.latency_sum_s) == (9 // every, 9 // every)
    # The first push of a shape takes the full path, whose beginning may be wanted.
    assert next(clock) == asked


def test_of_a_long_chunk_sixteen_steps_are_counted():
    metrics = Metrics(every=1)
    Session(INT8).stream(metrics=metrics).push(frames(160)[None])
    assert metrics.read().sampled.inputs["x"].counts[-1] == 16 * 6


def test_several_inputs_and_token_ids():
    metrics = Metrics(every=1)
    session = Session(MODELS / "two_inputs.onnx")
    stream = session.stream(metrics=metrics)
    for piece in pieces(session, 1, 6, 0):
        stream.push(piece)
    assert list(metrics.read().sampled.inputs) == ["x"]
    assert "ids" not in metrics.to_prometheus()


def test_the_file_is_never_half_written(tmp_path):
    path = tmp_path / "m.prom"
    metrics = Metrics(path, every=1, write_every_s=0.0)
    stream = Session(INT8).stream(metrics=metrics)
    stop, bad, seen = threading.Event(), [], set()

    def read():
        while not stop.is_set():
            text = path.read_text()
            seen.add(text)
            if not text.startswith("# HELP lstm_edge_pushes_total") or not text.endswith("\n"):
                bad.append(text)
            if "push_seconds" in text and "input_value_count" not in text:
                bad.append(text)

    reader = threading.Thread(target=read)
    reader.start()
    end = time.monotonic() + 20
    while len(seen) < 30 and time.monotonic() < end:
        stream.push(frames(1)[0])
    stop.set()
    reader.join()
    assert bad == []
    assert len(seen) >= 30


def test_json_lines_are_appended_also_after_a_rotation(tmp_path):
    path = tmp_path / "m.jsonl"
    metrics = Metrics(path, every=1, write_every_s=0.0, labels={"model": "kws"})
    stream = Session(INT8).stream(metrics=metrics)
    for frame in frames(3):
        stream.push(frame)
    path.rename(tmp_path / "old.jsonl")
    stream.push(frames(1)[0])
    old = [json.loads(line) for line in (tmp_path / "old.jsonl").read_text().splitlines()]
    assert [line["pushes"] for line in old] == [0, 1, 2, 3]
    [new] = [json.loads(line) for line in path.read_text().splitlines()]
    assert (new["pushes"], new["labels"], set(new["refusals"])) == (4, {"model": "kws"}, set(REASONS))


@pytest.mark.parametrize("ending", ["prom", "jsonl"])
def test_a_file_that_cannot_be_written_stops_no_stream_and_is_said_once(tmp_path, ending):
    said = []
    folder = tmp_path / "later"
    metrics = Metrics(folder / f"m.{ending}", every=2, write_every_s=0.0, on_problem=said.append)
    stream = Session(INT8).stream(metrics=metrics)
    for frame in frames(6):
        stream.push(frame)
    with pytest.raises(InputError):
        stream.push(frames(1)[0, :2])
    assert len(said) == 1
    assert "cannot be written" in said[0] or "does not exist" in said[0]
    assert (metrics.read().write_errors, metrics.read().pushes) == (1 + 3 + 1, 6)
    assert not metrics.write()
    folder.mkdir()
    assert metrics.write()
    folder.joinpath(f"m.{ending}").unlink()
    folder.rmdir()
    assert not metrics.write()
    assert len(said) == 2


def test_a_full_disk_leaves_no_half_of_a_line(tmp_path, monkeypatch):
    import lstm_edge_runtime.watch.files as files

    path = tmp_path / "m.jsonl"
    metrics = Metrics(path, on_problem=lambda _: None)
    whole, real = path.read_bytes(), files.os.write
    monkeypatch.setattr(files.os, "write", lambda descriptor, data: real(descriptor, data[:20]))
    assert not metrics.write()
    assert path.read_bytes() == whole
    monkeypatch.undo()
    assert metrics.write()
    assert [json.loads(line)["metrics_write_errors"] for line in path.read_text().splitlines()] == [0, 1]


def test_a_full_device_is_counted_and_warned_of():
    with pytest.warns(RuntimeWarning, match="No space left on device"):
        metrics = Metrics("/dev/full", every=1, file_format="jsonl", write_every_s=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Session(INT8).stream(metrics=metrics).push(frames(1)[0])
    assert metrics.read().write_errors == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"path": "m.txt"}, r"must end in \.prom or \.jsonl"),
        ({"every": 0}, "every must be a positive integer, got 0"),
        ({"every": True}, "every must be a positive integer"),
        ({"file_format": "xml"}, "must be one of prometheus, jsonl, got 'xml'"),
        ({"write_every_s": -1}, "write_every_s must be a number of seconds"),
        ({"write_every_s": float("nan")}, "write_every_s must be a number of seconds"),
        ({"labels": {"le": "x"}}, "the label 'le'"),
        ({"labels": {"a-b": "x"}}, "the label 'a-b'"),
        ({"labels": {"a": 1}}, "must be a text, got 1"),
    ],
)
def test_what_metrics_refuse(options, sentence):
    with pytest.raises(InputError, match=sentence):
        Metrics(**options)
