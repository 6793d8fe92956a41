"""Streams of C and of Python, step by step: equal bits, equal refusals, one format of snapshots."""

import functools
import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.c_agreement import outcome, whole_state
from support.c_library import Library
from support.c_models import stored_models
from support.c_streams import WRONG, StreamPair, archived, every_piece, piece_of

from lstm_edge_runtime.errors import InputError, StreamingError

ONE_TO_ONE = ("exported_int8", "exported_float32", "last_step", "two_inputs", "language_model", "each_call", "lengths")
KEEPING = ("kept_condition", "kept_ids", "kept_image", "kept_last", "kept_look_ahead", "kept_padded", "kept_ragged",
           "kept_strided", "kept_up")  # fmt: skip
STREAMED = ONE_TO_ONE + KEEPING


@functools.cache
def data_of(name: str) -> bytes:
    return stored_models((name,))[name]


def pair_of(library: Library, name: str, batch: int = 1, kernels: str = "auto") -> StreamPair:
    return StreamPair(library, data_of(name), batch=batch, kernels=kernels)


@pytest.mark.parametrize("name", STREAMED)
@pytest.mark.parametrize("batch", [1, 3])
def test_pieces_give_pythons_bits(library, name, batch):
    pair = pair_of(library, name, batch)
    for number, (steps, form) in enumerate(every_piece(pair)):
        pair.push_drawn(steps, form, seed=number)
    # A condition that was replaced since the last output refuses the end.
    if isinstance(pair.flush(), tuple):
        assert name == "kept_condition"
    else:
        assert pair.push_drawn(1)[0] == "StreamingError"
    pair.flush()
    pair.reset()
    pair.push_drawn(4, seed=1)


@pytest.mark.parametrize("name", ["exported_int8", "lengths"])
def test_function_bodies_give_pythons_bits(library, name):
    pair = pair_of(library, name, kernels="off")
    for number, (steps, form) in enumerate(every_piece(pair)):
        pair.push_drawn(steps, form, seed=number)


@pytest.mark.parametrize("name", STREAMED)
def test_what_is_refused_leaves_the_stream_as_it_was(library, name):
    pair = pair_of(library, name)
    pair.push_drawn(3)
    seen = 0
    for kind in WRONG:
        for which in range(2):
            answer = pair.push_wrong(kind, which, form="frame" if which else "chunk", seed=which)
            seen += isinstance(answer, tuple)
    assert seen >= len(WRONG)
    pair.push_drawn(3, seed=1)


def test_a_state_that_overflows_is_refused(library):
    pair = pair_of(library, "accumulator")
    for _ in range(3):
        piece = {name: np.full_like(array, 3e38) for name, array in _piece(pair).items()}
        answer = pair.push(piece)
    assert answer[0] == "InputError"
    assert "not finite" in answer[1]


@pytest.mark.parametrize("batch", [1, 2])
def test_a_state_that_overflows_leaves_what_was_kept(library, batch):
    """The run has written a block of states and read another condition; the end still comes from those before."""
    pair = pair_of(library, "kept_condition", batch)
    for steps in (2, 2, 3):
        pair.push_drawn(steps, seed=0)
    piece = {name: np.full_like(array, 1e20) for name, array in _piece(pair, 4).items()}
    for _ in range(2):
        answer = pair.push(piece)
        assert "the new state is not finite" in answer[1]
        pair.snapshots()
    assert not isinstance(pair.flush(), tuple)


@pytest.mark.parametrize("name", ["exported_int8", "kept_padded"])
@pytest.mark.parametrize("rank", [-1, 9, 2**31 - 1])
def test_an_impossible_rank_is_refused(library, name, rank):
    session = library.open(data_of(name))
    stream = session.stream()
    x = np.zeros((1, 4, session.inputs[0].axes[-1]), np.float32)
    stream.push(x)
    with pytest.raises(TypeError, match=f"has rank {rank}, expected 0 to 8"):
        stream.push(x, rank=rank)
    stream.push(x)


def _piece(pair: StreamPair, steps: int = 2) -> dict[str, np.ndarray]:
    return piece_of(pair.session, batch=pair.batch, steps=steps, form="chunk", seed=0)


@pytest.mark.parametrize("name", STREAMED)
def test_snapshots_go_from_one_side_to_the_other(library, name):
    pair, other = pair_of(library, name, 2), pair_of(library, name, 2)
    for number in range(3):
        pair.push_drawn(number + 1, seed=number)
        for archive in (*pair.snapshots(), archived(pair.python.snapshot(), compressed=True)):
            other.restore(archive)
            assert other.c.steps == pair.c.steps
            other.snapshots()
            other.push_drawn(2, seed=9)
    pair.flush()
    other.restore(pair.c.save())
    other.push_drawn(1)


@pytest.mark.parametrize("name", KEEPING)
def test_a_snapshot_after_an_assigned_state_is_restored(library, name):
    """Such a stream has begun without a step of its own: it may lack conditions, and the call before its steps."""
    pair, other = pair_of(library, name, 2), pair_of(library, name, 2)
    streaming = pair.session.card.streaming
    pair.push_drawn(streaming.first + streaming.every)
    late = pair.session.stream(2)
    late.state = pair.python.state
    assert not isinstance(pair.restore(archived(late.snapshot())), tuple)
    for step in range(streaming.every + 1):
        for archive in pair.snapshots():
            assert not isinstance(other.restore(archive), tuple)
        for stream in (pair, other):
            stream.push_drawn(1, seed=step)
    other.flush()


@pytest.mark.parametrize("name", ["exported_int8", "kept_padded", "kept_condition", "language_model"])
def test_wrong_snapshots_are_refused(library, name):
    pair, other = pair_of(library, name), pair_of(library, name)
    pair.push_drawn(3)
    arrays = pair.python.snapshot()
    refused = 0
    for key, array in arrays.items():
        changes = [{k: v for k, v in arrays.items() if k != key}, {**arrays, key: array.astype(np.float64)}]
        changes += [{**arrays, key: array[None]}, {**arrays, "it's": array}]
        if array.dtype.kind == "f" and array.size:
            changes.append({**arrays, key: np.full_like(array, np.nan)})
        if array.dtype.kind == "i":
            changes += [{**arrays, key: array - 1000}, {**arrays, key: array + 2**40}]
        for change in changes:
            refused += isinstance(other.restore(archived(change)), tuple)
            other.snapshots()
    assert refused >= 3 * len(arrays)
    for bad in (b"", b"PK", archived(arrays)[:-30], b"x" * 200):
        error, _ = outcome(lambda bad=bad: other.c.restore(bad))
        assert error in ("InputError", "ArtifactError")
    other.push_drawn(2)


def test_a_model_that_cannot_be_streamed_says_why(library):
    for name in ("bidirectional", "no_card"):
        session = library.open(data_of(name))
        with pytest.raises(StreamingError, match="cannot be streamed"):
            session.stream()
    session = library.open(data_of("exported_int8"))
    for batch in (0, -1):
        with pytest.raises(InputError):
            session.stream(batch)


def test_streams_outlive_their_session(library):
    session = library.open(data_of("exported_int8"))
    stream = session.stream()
    x = np.ones((1, 2, 6), np.float32)
    before = stream.push(x)
    session.close()
    stream.reset()
    assert stream.push(x).tobytes() == before.tobytes()


def test_streams_of_one_session_do_not_touch_each_other(library):
    session = library.open(data_of("exported_int8"))
    streams = [session.stream(batch) for batch in (1, 1, 2)]
    x = np.random.default_rng(0).normal(size=(2, 7, 6)).astype(np.float32)
    whole = session.run(x)[0]["logits"]
    for step in range(7):
        for row, stream in enumerate(streams[:2]):
            assert stream.push(x[row, step]).tobytes() == whole[row, step].tobytes()
        assert streams[2].push(x[:, step]).tobytes() == whole[:, step].tobytes()


def test_run_takes_lengths_and_states(library):
    pair = pair_of(library, "lengths", 2)
    x = _piece(pair)
    for lengths in ([2, 1], [0, 0], [2, 2]):
        want, state = pair.session.run(x, lengths=lengths)
        got, c_state = pair.c_session.run(x, lengths)
        assert {name: a.tobytes() for name, a in want.items()} == {name: a.tobytes() for name, a in got.items()}
        assert {name: a.tobytes() for name, a in state.items()} == {name: a.tobytes() for name, a in c_state.items()}
    given = whole_state(pair.session, 2)
    want, _ = pair.session.run({**x, **given})
    got, _ = pair.c_session.run({**x, **given})
    assert all(got[name].tobytes() == array.tobytes() for name, array in want.items())


STEPS = st.one_of(
    st.tuples(st.just("push"), st.integers(1, 6), st.sampled_from(["chunk", "frame", "bare"])),
    st.tuples(st.just("wrong"), st.sampled_from(WRONG), st.integers(0, 5)),
    st.tuples(st.just("flush")),
    st.tuples(st.just("reset")),
    st.tuples(st.just("keep")),
    st.tuples(st.just("restore"), st.booleans()),
)


def play(library: Library, name: str, batch: int, steps: list) -> None:
    """Do random steps on both sides; every one compares answers, refusals and the number of steps."""
    pair = pair_of(library, name, batch)
    kept = pair.snapshots()
    for number, step in enumerate(steps):
        if step[0] == "push":
            pair.push_drawn(step[1], step[2], seed=number)
        elif step[0] == "wrong":
            pair.push_wrong(step[1], step[2], seed=number)
        elif step[0] == "flush":
            pair.flush()
        elif step[0] == "reset":
            pair.reset()
        elif step[0] == "keep":
            kept = pair.snapshots()
        else:
            pair.restore(kept[step[1]])
    pair.snapshots()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(name=st.sampled_from(STREAMED), batch=st.integers(1, 3), steps=st.lists(STEPS, max_size=12))
def test_random_steps_agree(library, name, batch, steps):
    play(library, name, batch, steps)


@pytest.mark.long
@settings(max_examples=1500, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(name=st.sampled_from(STREAMED), batch=st.integers(1, 4), steps=st.lists(STEPS, max_size=40))
def test_many_random_steps_agree(library, name, batch, steps):
    play(library, name, batch, steps)


def test_a_snapshot_of_c_is_an_archive_that_numpy_reads(library):
    pair = pair_of(library, "exported_int8")
    pair.push_drawn(2)
    with np.load(io.BytesIO(pair.c.save()), allow_pickle=False) as archive:
        assert sorted(archive.files) == sorted(pair.python.snapshot())
