"""Pools of C: each rule of docs/pool.md, one stream refused while the others go on, orders and places of streams."""

import functools
import re

import numpy as np
import pytest
from support.c_agreement import differing_bits, outcome
from support.c_library import CSession
from support.c_models import stored_models
from support.c_pool import CPool
from support.c_streams import archived, piece_of

from lstm_edge_runtime import pool_calls
from lstm_edge_runtime.errors import InputError, StreamingError
from lstm_edge_runtime.session import Session


@functools.cache
def data_of(name: str) -> bytes:
    return stored_models((name,))[name]


@pytest.fixture
def session(library) -> CSession:
    return library.open(data_of("exported_int8"))


def frames(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)


def filled(session: CSession, streams: int, capacity: int = 16, threads: int = 1) -> tuple[CPool, list[int]]:
    pool = CPool(session, capacity, threads)
    return pool, [pool.attach() for _ in range(streams)]


def given(ids: list[int], x: np.ndarray) -> dict[int, np.ndarray]:
    return dict(zip(ids, x, strict=True))


# Rule 1
def test_ids_count_from_one_and_are_never_used_again(session):
    pool, ids = filled(session, 3, capacity=3)
    assert ids == [1, 2, 3]
    for snapshot in (None, b"no archive"):
        with pytest.raises(InputError):
            pool.attach(snapshot)  # a refused one uses up no id
    pool.detach(3)
    pool.detach(1)
    with pytest.raises(InputError, match="not a snapshot of a stream"):
        pool.attach(b"no archive")
    assert [pool.attach(), pool.attach()] == [4, 5]
    for number in (0, -1, 1, 3, 6, 2**62):
        with pytest.raises(InputError, match=f"^no stream with the id {number} is attached"):
            pool.stream(number)


# Rule 2
def test_a_full_pool_and_a_wrong_snapshot_change_nothing(library, session):
    pool, ids = filled(session, 2, capacity=3)
    pool.push(given(ids, frames(2)))
    good = {number: pool.snapshot(number) for number in ids}
    arrays = good[1]
    state = next(name for name in arrays if name.startswith("lstm"))
    two_rows = Session(data_of("exported_int8")).stream(2)
    wrong = {
        "the snapshot lacks the state 'lstm.0.c'": {name: a for name, a in arrays.items() if name != "lstm.0.c"},
        f"state {state!r} holds NaN or infinity": {**arrays, state: arrays[state] * np.float32(np.nan)},
        "the snapshot has 2 rows, the stream has 1": two_rows.snapshot(),
        "the snapshot has 'other', which": {**arrays, "other": arrays[state]},
    }
    for sentence, changed in wrong.items():
        with pytest.raises(InputError, match="^" + re.escape(sentence)):
            pool.attach(archived(changed))
    assert pool.attach(archived(arrays)) == 3
    python = Session(data_of("exported_int8")).pool(3)
    for _ in range(3):
        python.attach()
    with pytest.raises(InputError) as full:
        pool.attach()
    assert outcome(python.attach) == ("InputError", str(full.value))
    assert pool.steps(3) == 1
    for number in ids:
        assert not list(differing_bits(good[number], pool.snapshot(number), ""))


# Rule 3
@pytest.mark.parametrize("pushes", [0, 4])
def test_an_unknown_id_and_one_that_is_given_twice_refuse_the_whole_push(session, pushes):
    pool, ids = filled(session, 3)
    for turn in range(pushes):
        pool.push(given(ids, frames(3, turn)))
    pool.detach(ids[0])
    x, before = frames(2), [pool.snapshot(number) for number in ids[1:]]
    for number in (ids[0], 77, 0):
        with pytest.raises(InputError, match=rf"^no stream with the id {number} is attached to the pool: attach\(\)"):
            pool.push({ids[1]: x[0], number: x[1]})
    with pytest.raises(InputError, match=f"^the stream with the id {ids[1]} is given twice in one push"):
        pool.push_items([(ids[1], x[0]), (ids[2], x[0]), (ids[1], x[1])])
    for number, state in zip(ids[1:], before, strict=True):
        assert not list(differing_bits(state, pool.snapshot(number), ""))
    empty = pool.push({})
    assert (empty.answers, empty.refused) == ({}, {})
    assert set(pool.push(given(ids[1:], x)).answers) == set(ids[1:])


# Rules 4 to 6: the property test has more of them.
@pytest.mark.parametrize("times", [1, 2, 3, 4])  # gathered, and bound to the store
@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (np.array([0, 0, np.nan, 0, 0, 0], np.float32), r"step {}: input 'x' holds nan at index \[2\]; every value"),
        (np.full(6, -np.inf, np.float32), r"step {}: input 'x' holds -inf at index \[0\]"),
        (np.zeros(5, np.float32), r"input 'x' has shape \[5\], expected \[6\] or \[1, 6\] or \[1, time, 6\]"),
        (np.zeros(6), r"input 'x' has dtype float64, expected float32: convert it to float32$"),
        ({"y": np.zeros(6, np.float32)}, r"unknown input 'y'"),
        ({}, r"input 'x' is missing"),
    ],
)
def test_one_bad_piece_refuses_its_stream_only(session, bad, sentence, times):
    pool, ids = filled(session, 5)
    streams = {number: session.stream() for number in ids}
    for seed in range(times):
        got = pool.push(given(ids, frames(5, seed)))
        for number, frame in given(ids, frames(5, seed)).items():
            assert got.answers[number].tobytes() == streams[number].push(frame).tobytes()
    before = pool.snapshot(ids[2])
    for pieces in ({**given(ids, frames(5, 9)), ids[2]: bad}, {ids[2]: bad}):
        got = pool.push(pieces)
        assert list(got.refused) == [ids[2]]
        assert re.match(rf"stream {ids[2]}: " + sentence.format(times), str(got.refused[ids[2]]))
        assert not list(differing_bits(before, pool.snapshot(ids[2]), ""))
        for number, answer in got.answers.items():
            assert answer.tobytes() == streams[number].push(pieces[number]).tobytes()
    assert pool.push({ids[2]: frames(1)[0]}).answers[ids[2]].tobytes() == streams[ids[2]].push(frames(1)[0]).tobytes()


@pytest.mark.parametrize(("streams", "threads", "steps"), [(20, 1, 1), (24, 1, 1), (40, 3, 120)])
@pytest.mark.parametrize("bad", [(0,), (-1,), (7, -1)])
def test_a_bad_piece_among_many(session, streams, threads, steps, bad):
    """Rows are rounded up and cut among threads: what a bad row leaves in the buffers is not seen by the others."""
    assert threads == 1 or streams * steps * session.size_bytes > threads * pool_calls.LEAST_WORK
    pool, ids = filled(session, streams, streams, threads)
    alone = {number: session.stream() for number in ids}
    for turn in range(6):
        x = np.random.default_rng(turn).normal(size=(streams, 1, steps, 6)).astype(np.float32)
        pieces = given(ids, x)
        if turn % 2:
            pieces |= {ids[index]: np.full((1, steps, 6), np.nan, np.float32) for index in bad}
        got = pool.push(pieces)
        assert list(got.refused) == ([ids[index] for index in bad] if turn % 2 else [])
        for number, answer in got.answers.items():
            assert answer.tobytes() == alone[number].push(pieces[number]).tobytes()
    for number, stream in alone.items():
        assert pool.stream(number).save() == stream.save()


@pytest.mark.parametrize("threads", [1, 3])
def test_a_refused_token_refuses_its_stream_only(library, threads):
    session, python = library.open(data_of("language_model")), Session(data_of("language_model"))
    pool, ids = filled(session, 20, 20, threads)
    chunk = np.full((1, 400), 3, np.int64)
    bad = chunk.copy()
    bad[0, 300] = 1000
    got = pool.push({number: bad if number == 7 else chunk for number in ids})
    assert list(got.refused) == [7]
    error, sentence = outcome(lambda: python.stream().push(bad))
    assert (type(got.refused[7]).__name__, str(got.refused[7])) == (error, f"stream 7: {sentence}")
    expected = session.stream().push(chunk)
    assert all(answer.tobytes() == expected.tobytes() for answer in got.answers.values())
    assert pool.steps(7) == 0
    assert not pool.push(dict.fromkeys(ids, chunk)).refused


@pytest.mark.parametrize("rest", [0, 30])
def test_a_state_that_overflows_refuses_its_stream_only(library, rest):
    session = library.open(data_of("accumulator"))
    pool, ids = filled(session, 3 + rest, capacity=40)
    one, none = np.ones(1, np.float32), np.zeros(1, np.float32)
    pieces = {number: one if number == 2 else none for number in ids}
    for _ in range(2):
        assert not pool.push(pieces).refused
    before = pool.stream(2).save()
    for _ in range(3):
        got = pool.push(pieces)
        assert str(got.refused[2]) == (
            "stream 2: step 2: the new state is not finite: it was discarded, and the old state was kept"
        )
        assert (pool.stream(2).save(), len(got.answers)) == (before, len(ids) - 1)
    assert [pool.steps(number) for number in ids] == [5 if number != 2 else 2 for number in ids]


@pytest.mark.parametrize("name", ["exported_int8", "kept_look_ahead", "exported_last_step_int8"])
def test_an_ended_stream_is_refused_until_it_is_reset(library, name):
    session, python = library.open(data_of(name)), Session(data_of(name))
    pool, (one, two) = filled(session, 2)
    x = piece_of(python, batch=1, steps=5, form="chunk", seed=3)
    pool.push({one: x, two: x})
    alone = session.stream()
    alone.push(x)
    assert not list(differing_bits(alone.flush(), pool.stream(one).flush(), "flush"))
    for _ in range(2):
        got = pool.push({two: x, one: x})
        assert (list(got.answers), list(got.refused)) == ([two], [one])
        assert isinstance(got.refused[one], StreamingError)
        assert str(got.refused[one]).startswith("stream 1: the stream has ended with flush(): call reset()")
    assert pool.stream(one).flush() is not None
    pool.stream(one).reset()
    assert pool.steps(one) == 0
    assert list(pool.push({one: x}).answers) == [one]


# Rule 7
@pytest.mark.parametrize("name", ["each_call_whole", "kept_condition"])
def test_a_condition_is_held_from_a_push_that_was_accepted(library, name):
    session, python = library.open(data_of(name)), Session(data_of(name))
    condition = {"each_call_whole": "gain", "kept_condition": "speaker"}[name]
    pool, (number, other) = filled(session, 2)
    mine, (theirs, _) = python.pool(), (1, 2)
    mine.attach(), mine.attach()
    alone = session.stream()

    def same(pieces):
        got, wanted = pool.push({number: pieces}), mine.push({theirs: pieces})
        error, single = outcome(lambda: alone.push(pieces))
        if error:
            assert str(got.refused[number]) == str(wanted.refused[theirs]) == f"stream 1: {single}"
        else:
            assert not list(differing_bits(single, got.answers[number], ""))
            assert not list(differing_bits(wanted[theirs], got.answers[number], ""))

    first, second = (piece_of(python, batch=1, steps=6, form="chunk", seed=seed) for seed in (1, 2))
    without = {name: array for name, array in first.items() if name != condition}
    same(without)  # missing
    same(first)
    same(without)
    x = next(iter(without))
    same({**second, x: np.full_like(second[x], np.nan)})  # refused: the first condition stays
    same(without)
    same(second)
    same(without)
    assert condition in str(pool.push({other: without}).refused[other])


# Rule 9
def test_reset_and_restore(session):
    pool, ids = filled(session, 3)
    pool.push(given(ids, frames(3)))
    archive = pool.stream(ids[0]).save()
    pool.push(given(ids, frames(3, 1)))
    pool.stream(ids[1]).restore(archive)
    pool.stream(ids[2]).flush()
    pool.stream(ids[2]).restore(archive)
    assert [pool.steps(number) for number in ids] == [2, 1, 1]
    new = pool.attach(archive)
    alone = session.stream()
    alone.restore(archive)
    expected = alone.push(frames(1, 2)[0]).tobytes()
    got = pool.push({number: frames(1, 2)[0] for number in (new, ids[2], ids[1])}).answers
    assert [answer.tobytes() for answer in got.values()] == [expected] * 3
    pool.stream(ids[0]).reset()
    first = session.stream().push(frames(1)[0]).tobytes()
    assert pool.push({ids[0]: frames(1)[0]}).answers[ids[0]].tobytes() == first


def test_a_stream_in_a_row_that_was_used_starts_afresh(session):
    pool, ids = filled(session, 2)
    pool.push(given(ids, frames(2)))
    pool.detach(ids[0])
    new = pool.attach()
    assert pool.stream(new).save() == session.stream().save()
    assert pool.stream(new).flush().shape == session.stream().flush().shape == (1, 0, 4)


# Rule 11
def test_pools_outlive_their_session_and_do_not_touch_each_other(library):
    session = library.open(data_of("exported_int8"))
    pools = [filled(session, 3)[0] for _ in range(2)]
    x = frames(3)
    expected = [session.stream().push(frame).tobytes() for frame in x]
    session.close()
    for pool in pools:
        got = pool.push(given([1, 2, 3], x)).answers
        assert [answer.tobytes() for answer in got.values()] == expected


def test_a_handle_pushes_through_the_pool(session):
    pool, ids = filled(session, 3)
    stream, alone = pool.stream(ids[1]), session.stream()
    for turn in range(4):
        assert stream.push(frames(1, turn)[0]).tobytes() == alone.push(frames(1, turn)[0]).tobytes()
    assert stream.save() == alone.save()
    assert [pool.steps(number) for number in ids] == [0, 4, 0]
    with pytest.raises(InputError, match=r"^stream 2: step 4: input 'x' holds nan"):
        stream.push(np.full(6, np.nan, np.float32))
    pool.detach(ids[1])
    with pytest.raises(InputError, match="no stream with the id 2"):
        pool.stream(ids[1])


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_orders_subsets_and_places_give_the_same_bits(session, threads):
    """States in both places, rows in any order, holes between them, more rows than a plan has exactly."""
    pool, ids = filled(session, 30, 40, threads)
    alone, rng = {number: session.stream() for number in ids}, np.random.default_rng(threads)
    for turn in range(60):
        kind = turn % 6
        first = int(rng.integers(0, 12))
        chosen = {
            0: ids, 1: ids[first : first + 17], 2: ids[first : first + 17][::-1], 3: ids[::3], 4: ids[4:12],
            5: [ids[index] for index in rng.permutation(30)[:19]],
        }[kind]  # fmt: skip
        pieces = given(chosen, frames(len(chosen), turn))
        got = pool.push(pieces)
        assert list(got.answers) == chosen
        for number, answer in got.answers.items():
            assert answer.tobytes() == alone[number].push(pieces[number]).tobytes()
    for number, stream in alone.items():
        assert pool.stream(number).save() == stream.save()


def test_more_forms_and_plans_than_are_kept(session):
    pool, ids = filled(session, 20, 20)
    alone = {number: session.stream() for number in ids}
    for turn in range(2):
        for steps in range(1, 80):
            count = 1 + (steps * 7 + turn) % 20
            x = np.random.default_rng(steps).normal(size=(count, 1, steps, 6)).astype(np.float32)
            got = pool.push(given(ids[:count], x))
            for number, piece in given(ids[:count], x).items():
                assert got.answers[number].tobytes() == alone[number].push(piece).tobytes()
