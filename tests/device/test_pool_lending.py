"""A pool owns what it lends to onnxruntime, and an interrupt leaves each of its streams before or after a push."""

import gc
import threading
import weakref

import numpy as np
import onnxruntime
import pytest
from interrupts import InterruptError, interrupt_at
from pooled import open_model, piece
from streamed import AllocationNoise, answer_bytes

from lstm_edge_runtime import pool_calls
from lstm_edge_runtime.crew import Crew

LENDERS = ("each_call", "exported_full_lengths_int8", "exported_int8", "kept_strided", "two_inputs")


@pytest.fixture(autouse=True)
def _small_heap():
    """Collections look at what a test makes, not at all that thousands of collected tests have imported."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", LENDERS)
def test_a_pool_keeps_what_it_lends(name, threads, monkeypatch):
    monkeypatch.setattr(pool_calls, "LEAST_WORK", 1)
    session, noise, rng = open_model(name), AllocationNoise(), np.random.default_rng(0)
    pool, streams = session.pool(8, threads), {}
    for turn in range(7):
        if turn in (0, 5):
            streams |= {pool.attach(): session.stream() for _ in range(4)}
        given = {number: piece(session, rng, 2, "chunk") for number in streams if turn != 4 or number % 2}
        expected = [answer_bytes(streams[number].push(x)) for number, x in given.items()]
        noise.make()
        answers = pool.push(given)
        del given
        noise.make()
        assert [answer_bytes(answer) for answer in answers.values()] == expected
        del answers
    for number, stream in streams.items():
        noise.make()
        assert pool.state(number) == stream.state


@pytest.mark.parametrize("name", ["exported_int8", "two_inputs", "each_call"])
def test_every_array_that_was_lent_is_alive_until_the_pool_goes(name, monkeypatch):
    lent, lend = [], onnxruntime.OrtValue.ortvalue_from_numpy

    def recorded(array, *arguments):
        lent.append(weakref.ref(array))
        return lend(array, *arguments)

    session, rng = open_model(name), np.random.default_rng(0)
    pool = session.pool(8)
    monkeypatch.setattr(onnxruntime.OrtValue, "ortvalue_from_numpy", recorded)
    ids = [pool.attach() for _ in range(6)]
    for streams in (6, 6, 6, 2, 5):
        given = {number: piece(session, rng, 1, "frame") for number in ids[:streams]}
        answers = pool.push(given)
    del given, answers
    gc.collect()
    assert len(lent) > 20
    assert all(reference() is not None for reference in lent)
    del pool
    gc.collect()
    assert all(reference() is None for reference in lent), "what nobody uses any more is still held"


def test_threads_end_with_their_pool(monkeypatch):
    monkeypatch.setattr(pool_calls, "LEAST_WORK", 1)
    session = open_model("exported_int8")
    before = threading.active_count()
    pool = session.pool(8, threads=3)
    ids = [pool.attach() for _ in range(8)]
    assert threading.active_count() == before
    pool.push(dict.fromkeys(ids, np.zeros(6, np.float32)))
    started = [thread for thread in threading.enumerate() if thread.name == "lstm-edge-pool"]
    assert len(started) == 2
    del pool
    gc.collect()
    for thread in started:
        thread.join(5)
        assert not thread.is_alive()


def test_a_crew_waits_for_what_an_interrupt_left_running():
    crew, go, ended = Crew(3), threading.Event(), []

    def slow():
        go.wait(5)
        ended.append("slow")

    def interrupt():
        raise InterruptError

    with pytest.raises(InterruptError):
        crew.run([lambda: slow, lambda: slow, lambda: interrupt])
    assert ended == []
    go.set()
    crew.run([lambda: lambda: ended.append("next")])
    assert ended == ["slow", "slow", "next"]


@pytest.mark.parametrize(
    ("name", "threads", "plans", "stride"),
    [
        ("exported_int8", 1, 4, 13),
        ("exported_int8", 3, 4, 61),
        ("exported_int8", 1, 0, 61),
        ("exported_float32", 1, 4, 41),
        ("kept_strided", 1, 0, 47),
    ],
)
def test_an_interrupt_leaves_each_stream_before_or_after(name, threads, plans, stride, monkeypatch):
    """Python runs signal handlers between instructions: this raises at one in thirteen of them, or fewer, in turn."""
    monkeypatch.setattr(pool_calls, "LEAST_WORK", 1)
    session, rng = open_model(name), np.random.default_rng(1)
    # Pieces of two forms: two calls, the second of which may be missing after an interrupt.
    warm, last = ([piece(session, rng, 1 + index % 2, "chunk") for index in range(4)] for _ in range(2))
    streams = [session.stream() for _ in warm]
    for stream, x in zip(streams, warm, strict=True):
        stream.push(x)
    old = [(stream.steps, stream.state) for stream in streams]
    start = [stream.snapshot() for stream in streams]
    for stream, x in zip(streams, last, strict=True):
        stream.push(x)
    new = [(stream.steps, stream.state) for stream in streams]
    pool = session.pool(4, threads)
    ids = [pool.attach() for _ in streams]
    given = dict(zip(ids, last, strict=True))
    # Plans are made now, or the interrupts strike there only: it takes most instructions.
    for _ in range(plans):
        pool.push(given)
    seen, place, done = set(), 1, False
    while not done:
        for number, moment in zip(ids, start, strict=True):
            pool.restore(number, moment)
        done = interrupt_at(lambda: pool.push(given), place)
        for index, number in enumerate(ids):
            now = (pool.steps(number), pool.state(number))
            assert now in (old[index], new[index]), f"stream {number}, instruction {place}"
            seen.add((index, now == new[index]))
        place += stride
    assert len(seen) == 8
    # What was interrupted last went on in its threads; the pool goes on after it.
    for number, moment in zip(ids, start, strict=True):
        pool.restore(number, moment)
    pool.push(given)
    assert [(pool.steps(number), pool.state(number)) for number in ids] == new
