"""Array files and JSON lines: what goes in, what comes out, and what is refused."""

import io
import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_edge_runtime.errors import InputError, OutputError
from lstm_edge_runtime.files import check_array_target, read_arrays, write_arrays
from lstm_edge_runtime.lines import stream_lines, to_json
from lstm_edge_runtime.session import Session


@pytest.fixture(scope="module")
def tagger(models):
    return Session(models / "tagger.onnx")


def answers(session, text, batch_size=1):
    lines = stream_lines(session.stream(batch_size), session.inputs, io.BytesIO(text.encode()))
    return [json.loads(line) for line in lines]


def test_arrays_come_back(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    write_arrays(tmp_path / "a.npy", {"any": array})
    np.testing.assert_array_equal(read_arrays(tmp_path / "a.npy"), array)
    write_arrays(tmp_path / "a.npz", {"x": array, "lstm.0.h": array[:1]})
    back = read_arrays(tmp_path / "a.npz")
    assert list(back) == ["x", "lstm.0.h"]
    np.testing.assert_array_equal(back["lstm.0.h"], array[:1])


def test_what_is_no_array_file_is_refused(tmp_path):
    np.save(tmp_path / "object.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "text.npy").write_text("text")
    (tmp_path / "zip.npz").write_bytes(b"PK\3\4 and nothing")
    for name in ("object.npy", "text.npy", "zip.npz"):
        with pytest.raises(InputError, match=rf"{name}: not a readable .npy or .npz file of numbers"):
            read_arrays(tmp_path / name)
    with pytest.raises(InputError, match="no such file"):
        read_arrays(tmp_path / "none.npy")
    with pytest.raises(InputError, match="this is a directory"):
        read_arrays(tmp_path)


@pytest.mark.parametrize(
    ("name", "count", "sentence"),
    [
        ("y.txt", 1, "must end in .npy or .npz"),
        ("y.npy", 2, "an .npy file holds one array, there are 2: use a name that ends in .npz"),
        ("none/y.npy", 1, "does not exist; make it first"),
    ],
)
def test_a_wrong_target_is_refused_before_anything_runs(tmp_path, name, count, sentence):
    with pytest.raises(OutputError, match=sentence):
        check_array_target(tmp_path / name, count)
    assert os.listdir(tmp_path) == []


def test_each_line_gives_a_line(tagger):
    x = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    text = "\n".join(json.dumps(line) for line in [x[0].tolist(), x[1:2].tolist(), [x[2:].tolist()]])
    stream = tagger.stream()
    expected = [stream.push(x[0]), stream.push(x[1:2]), stream.push(x[None, 2:])]
    for got, array in zip(answers(tagger, text), expected, strict=True):
        np.testing.assert_array_equal(np.array(got, np.float32), array)


def test_reset_and_blank_lines_give_no_line(tagger):
    first, second, third = answers(tagger, '[1, 2, 3]\n\n[1, 2, 3]\n{"reset": true}\n  \n[1, 2, 3]')
    assert first == third
    assert first != second


def test_named_inputs_and_outputs(models):
    session = Session(models / "two_inputs.onnx")
    (answer,) = answers(session, '{"ids": 3, "x": [0.5, 0.25, 1]}')
    assert [len(answer[name]) for name in ("logits", "hidden")] == [4, 5]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("[NaN, 0, 0]", "line 2: NaN is not JSON; every value must be a finite number"),
        ("[0, -Infinity, 0]", "line 2: -Infinity is not JSON"),
        ("[0, 1e60, 0]", r"line 2: step 1: input 'x' holds inf at index \[1\]"),
        ("[0, 0]", r"line 2: input 'x' has shape \[2\], expected \[3\]"),
        ("[[0, 0, 0], [0]]", "line 2: input 'x': nested lists must have equal lengths"),
        ('["a", 0, 0]', "line 2: input 'x' takes float32, got a JSON value that holds something else"),
        ("[true, false, true]", "line 2: input 'x' takes float32, got a JSON value that holds something else"),
        ("[null, 0, 0]", "line 2: input 'x' takes float32, got a JSON value that holds something else"),
        ("[0, 0, 0", "line 2: not a line of JSON"),
        ("\xff\xfe", "line 2: "),
        ("null", "line 2: input 'x' takes float32"),
        ('{"y": [0, 0, 0]}', "line 2: unknown input 'y'"),
        ('{"reset": false}', "line 2: unknown input 'reset'"),
        ("[" * 100_000, "line 2: not a line of JSON"),
    ],
)
def test_a_bad_line_is_named_after_the_good_ones(tagger, line, sentence):
    lines = stream_lines(tagger.stream(), tagger.inputs, [b"[0, 0, 0]\n", line.encode("utf-8", "surrogatepass")])
    next(lines)
    with pytest.raises(InputError, match=sentence):
        next(lines)


def test_token_ids_are_integers_in_range(models):
    session = Session(models / "two_inputs.onnx")
    for ids, sentence in {
        "1.5": "takes int64",
        str(2**63): "outside the range of int64",
        str(2**70): "takes int64",
    }.items():
        with pytest.raises(InputError, match=f"line 1: input 'ids' .*{sentence}|line 1: input 'ids' {sentence}"):
            answers(session, f'{{"ids": {ids}, "x": [0, 0, 0]}}')


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_json_gives_back_the_same_float32(values):
    array = np.array(values, np.float32)
    back = np.array(json.loads(json.dumps(to_json(array))), np.float32)
    assert back.tobytes() == array.tobytes()


def test_json_has_no_nan():
    array = np.array([[np.nan, 1.5], [np.inf, -np.inf]], np.float32)
    assert to_json({"y": array}) == {"y": [[None, 1.5], [None, None]]}
    assert to_json(np.array([[1, 2]])) == [[1, 2]]
