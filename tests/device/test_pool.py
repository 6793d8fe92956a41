"""A pool: ids, refusals of one stream while the others go on, states as values, what is copied."""

import dataclasses

import numpy as np
import pytest
from pooled import open_model, piece
from streamed import MODELS, answer_bytes

from lstm_edge_runtime import Pool, pool_calls, pool_plans
from lstm_edge_runtime.errors import InputError, StreamingError
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.state import State


@pytest.fixture
def session():
    return open_model("exported_int8")


def frames(count, seed=0, size=6):
    return np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)


def filled(session, streams, capacity=16, threads=1):
    pool = session.pool(capacity, threads)
    return pool, [pool.attach() for _ in range(streams)]


def test_ids_count_from_one_and_are_never_used_again(session):
    pool, ids = filled(session, 3)
    assert ids == [1, 2, 3]
    pool.detach(3)
    pool.detach(1)
    assert [pool.attach(), pool.attach()] == [4, 5]
    assert (pool.ids, len(pool)) == ((2, 4, 5), 3)
    assert 2 in pool
    assert 1 not in pool
    assert session.pool().capacity == 256
    assert isinstance(pool, Pool)


def test_answers_come_in_the_order_that_was_given(session):
    pool, ids = filled(session, 4)
    x = frames(4)
    got = pool.push({ids[index]: x[index] for index in (2, 0, 3)})
    assert list(got) == [ids[2], ids[0], ids[3]]
    assert got.refused == {}
    assert [pool.steps(number) for number in ids] == [1, 0, 1, 1]
    assert pool.state(ids[1]) == session.initial_state()
    for index in (2, 0, 3):
        assert got[ids[index]].tobytes() == session.stream().push(x[index]).tobytes()
    assert pool.push({}) == {}


def test_chunks_and_frames_in_one_push(session):
    pool, ids = filled(session, 3)
    x = frames(9)
    got = pool.push({ids[0]: x[0], ids[1]: x[None, 1:5], ids[2]: x[5:6]})
    assert [got[number].shape for number in ids] == [(4,), (1, 4, 4), (1, 4)]
    assert [pool.steps(number) for number in ids] == [1, 4, 1]
    assert got[ids[1]].tobytes() == session.stream().push(x[None, 1:5]).tobytes()


def test_an_unknown_id_refuses_the_whole_push(session):
    pool, ids = filled(session, 2)
    pool.detach(ids[0])
    for number in (ids[0], 77, "1"):
        with pytest.raises(InputError, match=rf"^no stream with the id {number!r} is attached to the pool: attach\(\)"):
            pool.push({ids[1]: frames(1)[0], number: frames(1)[0]})
    assert pool.steps(ids[1]) == 0
    with pytest.raises(InputError, match=r"^a push takes a mapping from the ids of streams to their pieces, got list$"):
        pool.push([frames(1)[0]])
    for action in (pool.detach, pool.state, pool.steps, pool.reset, pool.flush, pool.snapshot):
        with pytest.raises(InputError, match="no stream with the id 77"):
            action(77)


def test_a_full_pool_says_so(session):
    pool, ids = filled(session, 2, capacity=2)
    with pytest.raises(InputError, match=r"^the pool is full: all 2 streams are attached; detach one, or make a pool"):
        pool.attach()
    pool.detach(ids[0])
    assert pool.attach() == 3


@pytest.mark.parametrize(("capacity", "threads"), [(0, 1), (True, 1), (2.0, 1), (2, 0), (2, True), (2, 5000)])
def test_wrong_options_are_refused(session, capacity, threads):
    name = "threads" if isinstance(capacity, int) and capacity == 2 else "capacity"
    with pytest.raises(InputError, match=f"^{name} must be a positive integer"):
        session.pool(capacity, threads)


@pytest.mark.parametrize("times", [1, 3])  # a push that was not seen before, and one that is bound to the store
@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (np.array([0, 0, np.nan, 0, 0, 0], np.float32), r"step {}: input 'x' holds nan at index \[2\]; every value"),
        (np.full(6, np.inf, np.float32), r"step {}: input 'x' holds inf at index \[0\]"),
        (np.zeros(5, np.float32), r"input 'x' has shape \[5\], expected \[6\] or \[1, 6\] or \[1, time, 6\]"),
        (np.zeros(6), r"input 'x' has dtype float64, expected float32: convert it"),
        (np.zeros(6, ">f4"), r"input 'x' has dtype >f4, expected float32: convert it"),
        ([0.0] * 6, r"input 'x' must be a NumPy array, got list"),
        ({"y": np.zeros(6, np.float32)}, r"unknown input 'y'"),
    ],
)
def test_one_bad_piece_refuses_its_stream_only(session, bad, sentence, times):
    pool, ids = filled(session, 5)
    streams = [session.stream() for _ in ids]
    for seed in range(times):
        x = frames(5, seed)
        pool.push(dict(zip(ids, x, strict=True)))
        for stream, frame in zip(streams, x, strict=True):
            stream.push(frame)
    before = pool.state(ids[2])
    x = frames(5, 9)
    given = {**dict(zip(ids, x, strict=True)), ids[2]: bad}
    got = pool.push(given)
    assert list(got.refused) == [ids[2]]
    with pytest.raises(InputError, match=rf"^stream {ids[2]}: " + sentence.format(times)):
        got[ids[2]]
    with pytest.raises(KeyError):
        got[77]
    assert pool.state(ids[2]) == before
    assert pool.steps(ids[2]) == times
    for index in (0, 1, 3, 4):
        assert got[ids[index]].tobytes() == streams[index].push(x[index]).tobytes()
    again = pool.push(dict(zip(ids, x, strict=True)))
    assert again[ids[2]].tobytes() == streams[2].push(x[2]).tobytes()


@pytest.mark.parametrize(("streams", "threads"), [(20, 1), (24, 1), (40, 3)])
@pytest.mark.parametrize("bad", [(0,), (-1,), (7, -1)])
def test_a_bad_piece_among_many(session, streams, threads, bad, monkeypatch):
    """Rows are rounded up and cut among threads: what a bad row leaves in the buffers is not seen by the others."""
    monkeypatch.setattr(pool_calls, "LEAST_WORK", 1)
    pool, ids = filled(session, streams, streams, threads)
    alone = {number: session.stream() for number in ids}
    for turn in range(6):
        given = dict(zip(ids, frames(streams, turn), strict=True))
        if turn % 2:
            given |= {ids[index]: np.full(6, np.nan, np.float32) for index in bad}
        got = pool.push(given)
        assert list(got.refused) == ([ids[index] for index in bad] if turn % 2 else [])
        assert list(got) == [number for number in ids if number not in got.refused]
        for number, answer in got.items():
            assert answer.tobytes() == alone[number].push(given[number]).tobytes()
    assert [pool.state(number) for number in ids] == [stream.state for stream in alone.values()]


def test_a_refused_token_refuses_its_stream_only():
    session = open_model("language_model")
    pool, ids = filled(session, 20, capacity=20)
    got = pool.push({number: 1000 if number == 7 else 3 for number in ids})
    assert list(got.refused) == [7]
    with pytest.raises(InputError, match=r"^stream 7: step 0: onnxruntime refused this input, the state is unchanged"):
        got[7]
    assert pool.state(7) == session.initial_state()
    expected = session.stream().push(3)
    assert all(got[number].tobytes() == expected.tobytes() for number in ids if number != 7)
    assert not pool.push(dict.fromkeys(ids, 3)).refused


@pytest.mark.parametrize("rest", [0, 30])
def test_a_state_that_overflows_refuses_its_stream_only(rest):
    session = open_model("accumulator")
    pool, ids = filled(session, 3 + rest, capacity=40)
    one, none = np.ones(1, np.float32), np.zeros(1, np.float32)
    given = {number: one if number == 2 else none for number in ids}
    for _ in range(2):
        assert not pool.push(given).refused
    before = pool.state(2)
    for _ in range(3):
        got = pool.push(given)
        assert str(got.refused[2]) == (
            "stream 2: step 2: the new state is not finite: it was discarded, and the old state was kept"
        )
        assert (pool.state(2), len(got)) == (before, len(ids) - 1)
    assert [pool.steps(number) for number in ids] == [5 if number != 2 else 2 for number in ids]


def test_states_are_values(session):
    pool, (one, two) = filled(session, 2)
    pool.push({one: frames(1)[0]})
    state = pool.state(one)
    pool.push({one: frames(1, 1)[0]})
    third = pool.attach(state)
    pool.set_state(two, state)
    stream = session.stream()
    stream.state = state
    expected = stream.push(frames(1, 2)[0]).tobytes()
    got = pool.push({two: frames(1, 2)[0], third: frames(1, 2)[0]})
    assert [got[number].tobytes() for number in (two, third)] == [expected] * 2
    assert pool.detach(third) == stream.state
    with pytest.raises(InputError, match=r"^the state has 2 rows, a stream of a pool has 1$"):
        pool.attach(session.initial_state(2))
    with pytest.raises(InputError, match=r"^state must be a State, got dict: State\.from_arrays"):
        pool.set_state(two, dict(state))
    with pytest.raises(InputError, match="NaN or infinity"):
        pool.attach(State(session.states, {name: array * np.float32(np.nan) for name, array in state.items()}))
    assert len(pool) == 2


@pytest.mark.parametrize("action", ["reset", "set_state", "restore", "leave"])
@pytest.mark.parametrize("pushes", [2, 3, 4])
def test_a_state_changes_between_two_pushes_of_the_same_streams(session, action, pushes):
    pool, ids = filled(session, 4)
    alone = [session.stream() for _ in ids]
    for turn in range(pushes + 3):
        x = frames(4, turn)
        if turn == pushes:
            if action == "leave":
                pool.detach(ids[1])
                ids[1], alone[1] = pool.attach(), session.stream()
            elif action == "reset":
                pool.reset(ids[1])
                alone[1].reset()
            elif action == "set_state":
                alone[1].state = alone[2].state
                pool.set_state(ids[1], alone[1].state)
            else:
                alone[1].restore(alone[2].snapshot())
                pool.restore(ids[1], alone[1].snapshot())
        got = pool.push(dict(zip(ids, x, strict=True)))
        assert [got[n].tobytes() for n in ids] == [s.push(f).tobytes() for s, f in zip(alone, x, strict=True)]


def test_streams_share_a_call_only_if_they_agree_in_what_has_no_batch_axis():
    """A state without batch axis says whether a stream has begun: one that has shares no call with one that has not."""
    session, calls = open_model("kept_condition"), []
    pool, (old, new) = filled(session, 2)
    run = session.onnxruntime_session.run

    class Counting:
        def run(self, names, feeds):
            calls.append(len(feeds["speaker"]))
            return run(names, feeds)

    pool._streams._session = Counting()  # private: how often the graph is called is not seen from outside
    rng, alone = np.random.default_rng(4), [session.stream(), session.stream()]
    x = piece(session, rng, 2, "chunk")
    pool.push({old: x})
    alone[0].push(x)
    x = piece(session, rng, 2, "chunk")
    got = pool.push({old: x, new: x})
    assert [got[old].tobytes(), got[new].tobytes()] == [stream.push(x).tobytes() for stream in alone]
    assert calls == [1, 1, 1]
    pool.push({old: x, new: x})
    assert calls == [1, 1, 1, 2]


def test_a_stream_moves_to_a_pool_and_back():
    session = open_model("kept_strided")
    x = np.random.default_rng(1).normal(size=(1, 20, 3)).astype(np.float32)
    alone, stream, (pool, [number]) = session.stream(), session.stream(), filled(session, 1)
    expected = [alone.push(x[:, :4]), alone.push(x[:, 4:9]), alone.push(x[:, 9:]), alone.flush()]
    got = [stream.push(x[:, :4])]
    pool.restore(number, stream.snapshot())
    got.append(pool.push({number: x[:, 4:9]})[number])
    stream.restore(pool.snapshot(number))
    assert stream.steps == pool.steps(number) == 9
    got += [stream.push(x[:, 9:]), stream.flush()]
    assert [array.tobytes() for array in got] == [array.tobytes() for array in expected]


@pytest.mark.parametrize("name", ["exported_int8", "kept_look_ahead", "kept_condition", "exported_last_step_int8"])
def test_an_ended_stream_is_refused_until_it_is_reset(name):
    session = open_model(name)
    pool, (one, two) = filled(session, 2)
    rng, stream = np.random.default_rng(3), session.stream()
    x = piece(session, rng, 5, "chunk")
    pool.push({one: x, two: x})
    stream.push(x)
    assert answer_bytes(pool.flush(one)) == answer_bytes(stream.flush())
    for _ in range(2):
        got = pool.push({two: x, one: x})
        assert (list(got), list(got.refused)) == ([two], [one])
        with pytest.raises(StreamingError, match=r"^stream 1: the stream has ended with flush\(\): call reset\(\)"):
            got[one]
    pool.reset(one)
    assert pool.steps(one) == 0
    assert list(pool.push({one: x})) == [one]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("bidirectional", "the model cannot be streamed: lstm is bidirectional"),
        ("no_card", "the model cannot be streamed: it has no model card"),
    ],
)
def test_what_cannot_be_streamed_cannot_be_pooled(name, sentence):
    with pytest.raises(StreamingError, match=sentence):
        open_model(name).pool()


def one_row(session):
    for side in ("inputs", "outputs"):
        specs = getattr(session, side)
        setattr(session, side, tuple(dataclasses.replace(spec, axes=(1, *spec.axes[1:])) for spec in specs))


def without_batch(session):
    session.outputs = (dataclasses.replace(session.outputs[0], axes=("time", 4)),)


def held_state(session):
    first, *others = session.states
    session.states = (dataclasses.replace(first, axes=(1, 1, 7)), *others)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (one_row, "no input has a dynamic batch axis; use one Stream for each"),
        (without_batch, "output 'logits' has no batch axis; use one Stream for each"),
        (held_state, "state 'lstm.0.h' has no batch axis; use one Stream for each"),
    ],
)
def test_streams_that_cannot_share_calls_are_refused(change, sentence):
    session = Session(MODELS / "exported_int8.onnx")
    change(session)
    with pytest.raises(StreamingError, match="^the model cannot be pooled: " + sentence):
        session.pool()


@pytest.mark.parametrize("by", [1e-3, 1e-7])
def test_a_model_whose_rows_depend_on_each_other_is_refused(by, monkeypatch):
    """The card of an int8 file says that rows are the same to the bit: any other bit is refused."""
    session = Session(MODELS / "exported_int8.onnx")
    run = session.run

    def mixed(inputs):
        outputs, state = run(inputs)
        rows = len(next(iter(inputs.values())))
        return {name: array + np.float32(by * rows) for name, array in outputs.items()}, state

    # As a newer file says; those here were made before.
    session.card = session.card.replace(quantization=dataclasses.replace(session.card.quantization, inexact={}))
    monkeypatch.setattr(session, "run", mixed)
    with pytest.raises(
        StreamingError,
        match=r"'logits' of 3 rows in a call differs by up to .* from that of each row alone, the card says",
    ):
        session.pool()


def test_the_same_streams_side_by_side_are_not_copied(session, monkeypatch):
    pool, ids = filled(session, 6)
    copies = []
    store = pool._streams._store  # private: what is copied is not seen from outside
    gather = type(store).gather
    monkeypatch.setattr(store, "gather", lambda *given: copies.append(len(given[0])) or gather(store, *given))
    for seed in range(5):
        pool.push(dict(zip(ids[1:5], frames(4, seed), strict=True)))
    assert copies == [4, 4]
    pool.push(dict(zip((ids[0], ids[5]), frames(2), strict=True)))
    pool.push(dict(zip(reversed(ids[1:5]), frames(4), strict=True)))
    assert copies == [4, 4, 2, 4]


def test_plans_are_bounded(session, monkeypatch):
    monkeypatch.setattr(pool_plans, "MOST_PLANS", 5)
    pool, ids = filled(session, 16)
    streams = [session.stream() for _ in ids]
    for rows in (*range(1, 17), *range(16, 0, -3)):
        x = frames(rows, rows)
        got = pool.push(dict(zip(ids, x, strict=False)))
        for number, stream, frame in zip(ids, streams, x, strict=False):
            assert got[number].tobytes() == stream.push(frame).tobytes()
    assert len(pool._streams._calls._plans._plans) == 5
