"""`lstm-edge run --calls`: calls with archives of arrays, without a device."""

import io
import json

import numpy as np
import pytest
from support.fleet_cases import NEW

from lstm_edge_runtime import Session
from lstm_edge_runtime.commands.run import run
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.files import decode_arrays, encode_arrays

X = np.random.default_rng(3).normal(size=(1, 5, 6)).astype(np.float32)


def call(arrays, word="fresh"):
    body = encode_arrays(arrays)
    return f"{word} {len(body)}\n".encode() + body


def answers(*calls):
    """The first line, and each answer: arrays, or the sentence of a refusal."""
    written = io.BytesIO()
    report = run(NEW, calls=io.BytesIO(b"".join(calls)), on_answer=written.write)
    assert report.lines == len(calls)
    written.seek(0)
    word, _, facts = written.readline().partition(b" ")
    assert word == b"ready"
    found = []
    while line := written.readline():
        word, _, rest = line.decode().partition(" ")
        found.append(json.loads(rest) if word == "refused" else decode_arrays(written.read(int(rest)), "answer"))
    return json.loads(facts), found


def test_a_call_is_fresh_or_continues_the_one_before():
    session = Session(NEW)
    whole, _ = session.run(X)
    _, state = session.run(X[:, :2])
    rest, _ = session.run(X[:, 2:], state)
    facts, found = answers(
        call({"x": X}), call({"x": X[:, :2]}), call({"x": X[:, 2:]}, "continue"), call({"x": X, **_zeros(session)})
    )
    assert facts["kernels"] == session.kernels
    np.testing.assert_array_equal(found[0]["logits"], whole["logits"])
    np.testing.assert_array_equal(found[2]["logits"], rest["logits"])
    np.testing.assert_array_equal(found[3]["logits"], whole["logits"])


def _zeros(session):
    return dict(session.initial_state(1))


def test_a_refused_call_does_not_end_the_run_and_leaves_no_state():
    bad = X.copy()
    bad[0, 1, 2] = np.nan
    _, found = answers(call({"x": X}), call({"x": bad}), call({"x": X}, "continue"), call({"x": X}))
    assert found[1] == "input 'x' holds nan at index [0, 1, 2]; every value must be finite"
    assert found[2] == "call 3: there is no call before it that it could continue"
    np.testing.assert_array_equal(found[3]["logits"], found[0]["logits"])


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"again 12\n", "call 1: its header is b'again 12\\n', expected 'fresh BYTES' or 'continue BYTES'"),
        (b"fresh 12", "call 1: its header is b'fresh 12', expected 'fresh BYTES' or 'continue BYTES'"),
        (b"fresh 12\nabc", "call 1: the input ends after 3 of 12 bytes"),
        (b"fresh 99999999999\n", "call 1: it has 99,999,999,999 bytes, at most 17,179,869,184 are read"),
    ],
)
def test_what_is_not_a_call_ends_the_run(data, sentence):
    with pytest.raises(InputError) as refused:
        run(NEW, calls=io.BytesIO(data), on_answer=io.BytesIO().write)
    assert str(refused.value) == sentence


def test_other_modes_and_files_are_refused():
    with pytest.raises(InputError, match="--calls and --prompt exclude one another"):
        run(NEW, calls=io.BytesIO(), prompt="a")
    with pytest.raises(InputError, match="--calls reads standard input and writes standard output: leave out -o"):
        run(NEW, calls=io.BytesIO(), output="out.npz")


def test_any_name_of_an_array_comes_back():
    arrays = {"file": np.zeros((2, 0), np.int64), "a/b": np.array([True]), "lstm.0.h": np.float32([[1.5]])}
    found = decode_arrays(encode_arrays(arrays), "here")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
