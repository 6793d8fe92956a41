"""Session: what is checked before a run, what a run gives, and that nothing passed in is touched."""

import ctypes
import inspect
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm_edge_runtime.artifact import TRAILER_BYTES
from lstm_edge_runtime.errors import ArtifactError, InputError
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.state import State

# float32 sums in another order: a few last bits of values of order one (2**-24 = 6e-8 each).
CLOSE = 1e-6


@pytest.fixture(scope="module")
def tagger(models):
    return Session(models / "tagger.onnx")


@pytest.fixture(scope="module")
def lengths_model(models):
    return Session(models / "lengths.onnx")


@pytest.fixture(scope="module")
def two_inputs(models):
    return Session(models / "two_inputs.onnx")


def frames(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def some_state(session, batch, seed=3):
    random = np.random.default_rng(seed)
    zeros = session.initial_state(batch).to_arrays()
    arrays = {name: random.uniform(-1, 1, array.shape).astype(np.float32) for name, array in zeros.items()}
    return State.from_arrays(session.states, arrays)


def test_an_open_file_says_what_it_is(tagger, models):
    assert tagger.verified
    assert tagger.notes == ()
    assert tagger.size_bytes == (models / "tagger.onnx").stat().st_size
    assert tagger.provider == "cpu"
    assert [spec.name for spec in tagger.inputs] == ["x"]
    assert [spec.name for spec in tagger.outputs] == ["logits"]
    assert [spec.input for spec in tagger.states] == ["lstm.0.h", "lstm.0.c", "lstm.1.h", "lstm.1.c"]
    assert Session((models / "tagger.onnx").read_bytes()).card == tagger.card


@pytest.mark.parametrize(("batch", "steps"), [(1, 1), (2, 3), (3, 17), (5, 1)])
def test_outputs_and_state_have_the_promised_shapes(tagger, batch, steps):
    outputs, state = tagger.run(frames(batch, steps, 3), some_state(tagger, batch))
    assert {name: (array.shape, array.dtype) for name, array in outputs.items()} == {
        "logits": ((batch, steps, 4), np.float32)
    }
    assert {name: array.shape for name, array in state.items()} == dict.fromkeys(tagger.initial_state(), (1, batch, 5))
    assert np.isfinite(outputs["logits"]).all()


def test_a_sequence_goes_on_from_its_state(tagger):
    x = frames(2, 7, 3)
    start = some_state(tagger, 2)
    whole, end = tagger.run(x, start)
    first, middle = tagger.run(x[:, :4], start)
    second, last = tagger.run(x[:, 4:], middle)
    np.testing.assert_allclose(np.concatenate([first["logits"], second["logits"]], 1), whole["logits"], atol=CLOSE)
    assert max(np.abs(end[name] - last[name]).max() for name in end) <= CLOSE
    from_zero, _ = tagger.run(x)
    assert np.abs(from_zero["logits"] - whole["logits"]).max() > 0.01  # the state matters
    np.testing.assert_array_equal(tagger.run(x, tagger.initial_state(2))[0]["logits"], from_zero["logits"])


def test_nothing_passed_in_is_written_and_nothing_returned_is_shared(lengths_model):
    x, lengths = frames(3, 4, 3), np.array([4, 0, 2])
    start = some_state(lengths_model, 3)
    before = [x.tobytes(), lengths.tobytes(), *(array.tobytes() for array in start.values())]
    for array in (x, lengths, *start.values()):
        array.flags.writeable = False
    outputs, state = lengths_model.run(x, start, lengths)
    assert [x.tobytes(), lengths.tobytes(), *(array.tobytes() for array in start.values())] == before
    for new in (*outputs.values(), *state.values()):
        assert not any(np.shares_memory(new, old) for old in (x, lengths, *start.values()))
        assert new.base is None or not np.shares_memory(new, x)


def test_four_threads_give_the_serial_answers(tagger):
    inputs = [frames(1 + seed % 3, 2 + seed % 5, 3, seed=seed) for seed in range(200)]
    serial = [tagger.run(x) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(tagger.run, inputs))
    for (outputs, state), (other_outputs, other_state) in zip(serial, threaded, strict=True):
        assert outputs["logits"].tobytes() == other_outputs["logits"].tobytes()
        assert state == other_state


def test_four_threads_may_each_have_a_stream(tagger):
    inputs = [frames(20, 3, seed=seed) for seed in range(4)]

    def stream(x):
        pushed = tagger.stream()
        return np.stack([pushed.push(frame) for frame in x])

    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(stream, inputs))
    assert [answer.tobytes() for answer in threaded] == [stream(x).tobytes() for x in inputs]


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({}, r"input 'x' is missing; the model's inputs are 'x'"),
        ({"X": frames(1, 1, 3)}, r"unknown input 'X'; the model's inputs are 'x'"),
        ({"x": frames(1, 1, 3), "lstm.0.h": frames(1, 1, 5)}, r"'lstm.0.h' is a state, not an input"),
        (
            [[[1.0, 2.0, 3.0]]],
            r"input 'x' must be a NumPy array, got list: numpy.asarray\(value, dtype=numpy.float32\)",
        ),
        (np.zeros((1, 1, 3)), r"has dtype float64, expected float32: convert it with .astype\(numpy.float32\)"),
        (np.zeros((1, 1, 3), ">f4"), r"input 'x' has dtype >f4, expected float32"),
        (frames(1, 3), r"input 'x' has shape \[1, 3\], expected \[batch, time, 3\]"),
        (frames(1, 2, 4), r"input 'x' has shape \[1, 2, 4\], expected \[batch, time, 3\]: axis 2 must be 3"),
        (frames(1, 0, 3), r"input 'x' has shape \[1, 0, 3\]: axis 1 \(time\) is empty, at least 1 is needed"),
        (frames(0, 2, 3), r"axis 0 \(batch\) is empty"),
        (np.full((1, 2, 3), np.nan, np.float32), r"input 'x' holds nan at index \[0, 0, 0\]"),
        (np.array([[[0, 1, 2], [3, -np.inf, 0]]], np.float32), r"input 'x' holds -inf at index \[0, 1, 1\]"),
    ],
)
def test_a_wrong_input_gets_a_sentence(tagger, inputs, sentence):
    with pytest.raises(InputError, match=sentence):
        tagger.run(inputs)


@given(st.lists(st.integers(0, 4), max_size=4), st.sampled_from(["float32", "float64", "int64", "bool"]))
@settings(deadline=None, max_examples=200)
def test_any_shape_runs_or_is_an_input_error(tagger, shape, dtype):
    right = len(shape) == 3 and shape[2] == 3 and 0 not in shape and dtype == "float32"
    try:
        outputs, _ = tagger.run(np.zeros(shape, dtype))
    except InputError:
        assert not right
    else:
        assert right
        assert outputs["logits"].shape == (*shape[:2], 4)


def test_two_inputs_go_by_name_and_must_agree(two_inputs):
    x, ids = frames(2, 3, 3), np.array([[1, 2, 3], [4, 5, 6]])
    outputs, _ = two_inputs.run({"ids": ids, "x": x})
    assert {name: array.shape for name, array in outputs.items()} == {"logits": (2, 3, 4), "hidden": (2, 3, 5)}
    with pytest.raises(InputError, match="got one array, and the model's inputs are 'x', 'ids': give each by its name"):
        two_inputs.run(x)
    with pytest.raises(InputError, match=r"input 'ids' has shape \[2, 2\]: its axis 'time' is 2, in 'x' it is 3"):
        two_inputs.run({"x": x, "ids": ids[:, :2]})
    with pytest.raises(InputError, match=r"onnxruntime refused these inputs: .*indices element out of data bounds"):
        two_inputs.run({"x": x, "ids": ids + 1000})


def test_lengths_end_each_row_at_its_last_valid_step(lengths_model):
    x, start = frames(3, 6, 3), some_state(lengths_model, 3)
    lengths = [6, 2, 0]
    outputs, state = lengths_model.run(x, start, lengths)
    for row, length in enumerate(lengths):
        assert not outputs["logits"][row, length:].any()  # no bias behind the cell: zero stays zero
        if length == 0:
            for name, array in start.items():
                np.testing.assert_array_equal(state[name][:, row], array[:, row])
            continue
        alone = State.from_arrays(start.specs, {name: array[:, row : row + 1] for name, array in start.items()})
        short, end = lengths_model.run(x[row : row + 1, :length], alone)
        np.testing.assert_allclose(outputs["logits"][row, :length], short["logits"][0], atol=CLOSE)
        assert max(np.abs(end[name][:, 0] - state[name][:, row]).max() for name in end) <= CLOSE


def test_lengths_left_out_mean_all_steps(lengths_model):
    x = frames(2, 5, 3)
    outputs, state = lengths_model.run(x)
    filled, filled_state = lengths_model.run(x, None, np.array([5, 5], np.int32))
    np.testing.assert_array_equal(outputs["logits"], filled["logits"])
    assert state == filled_state


@pytest.mark.parametrize(
    ("lengths", "sentence"),
    [
        ([3], r"lengths has shape \[1\], expected \[2\]: one for each row"),
        ([1.0, 2.0], r"lengths has dtype float64, expected integers"),
        ([1, 6], r"lengths\[1\] is 6, expected 0 to 5"),
        ([-1, 2], r"lengths\[0\] is -1, expected 0 to 5"),
    ],
)
def test_wrong_lengths_get_a_sentence(lengths_model, lengths, sentence):
    with pytest.raises(InputError, match=sentence):
        lengths_model.run(frames(2, 5, 3), None, lengths)


def test_lengths_for_a_model_without_them_are_refused(tagger):
    with pytest.raises(InputError, match="the model takes no lengths: export it with --lengths"):
        tagger.run(frames(2, 5, 3), None, [5, 3])


def test_lengths_are_no_ordinary_input(lengths_model):
    with pytest.raises(InputError, match="'lengths' holds the valid lengths: pass it as lengths="):
        lengths_model.run({"x": frames(1, 2, 3), "lengths": np.array([2])})


def test_a_wrong_state_gets_a_sentence(tagger, lengths_model):
    x = frames(2, 3, 3)
    with pytest.raises(InputError, match="the state has 1 rows, the inputs have 2"):
        tagger.run(x, tagger.initial_state(1))
    with pytest.raises(InputError, match="state must be a State, got dict"):
        tagger.run(x, {})
    with pytest.raises(InputError, match=r"state 'lstm.1.h' is missing; the model has lstm.0.h, lstm.0.c"):
        tagger.run(x, lengths_model.initial_state(2))
    for batch_size in (0, -1, 1.5, True):
        with pytest.raises(InputError, match="batch_size must be a positive integer"):
            tagger.initial_state(batch_size)


def test_a_file_without_a_card_runs_and_says_what_is_unknown(models, tagger):
    bare = Session(models / "no_card.onnx")
    assert bare.card is None
    assert not bare.verified
    assert [note.split(":")[0] for note in bare.notes] == ["unverified", "no model card"]
    x, start = frames(2, 3, 3), some_state(tagger, 2)
    answers, empty = bare.run({"x": x, **start})
    outputs, state = tagger.run(x, start)
    assert len(empty) == 0
    np.testing.assert_array_equal(answers["logits"], outputs["logits"])
    np.testing.assert_array_equal(answers["lstm.1.c_out"], state["lstm.1.c"])


def test_int8_without_kernels_is_noted(models):
    assert any("folds int8 weights back to float32" in note for note in Session(models / "quantized.onnx").notes)


def test_what_is_no_model_gets_a_sentence(tmp_path):
    with pytest.raises(ArtifactError, match=r"none\.onnx: no such file"):
        Session(tmp_path / "none.onnx")
    path = tmp_path / "text.onnx"
    path.write_text("this is not a model")
    with pytest.raises(ArtifactError, match=r"text\.onnx: this is a text file, and an \.onnx file was expected"):
        Session(path)


def test_onnxruntime_prints_nothing_besides_the_sentence(models, capfd):
    data = (models / "exported_float32.onnx").read_bytes()[:-TRAILER_BYTES]
    assert b"forward" in data
    with pytest.raises(ArtifactError, match=r"onnxruntime cannot read the model: .*forwerd"):
        Session(data.replace(b"forward", b"forwerd"))
    assert "".join(capfd.readouterr()) == ""


def _keeps_messages_that_are_not_text():
    """Return whether Python says UnicodeDecodeError then; 3.11.2, that of Debian 12, drops the message alone."""
    try:
        ctypes.pythonapi.PyErr_SetString(ctypes.py_object(LookupError), b"\xba")
    except UnicodeDecodeError:
        return True
    except LookupError:
        return False


def test_bytes_of_the_file_that_onnxruntime_quotes_need_not_be_text(models, capfd):
    """Its binding raises UnicodeDecodeError then; its Python layer printed a banner and tried the same again."""
    data = (models / "exported_float32.onnx").read_bytes()[:-TRAILER_BYTES]
    told = r".*'forwar\\xba'" if _keeps_messages_that_are_not_text() else "Fail$"
    with pytest.raises(ArtifactError, match=f"onnxruntime cannot read the model: {told}"):
        Session(data.replace(b"forward", b"forwar\xba"))
    printed = "".join(capfd.readouterr())
    # Before 1.20 it has no way to turn the second try off.
    assert printed == "" or '"enable_fallback"' not in inspect.getsource(onnxruntime.InferenceSession.__init__)
