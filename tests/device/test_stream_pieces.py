"""Streams of several inputs and outputs: which input is named, whose memory an answer is, which axes may be."""

import dataclasses

import numpy as np
import pytest

from lstm_edge_runtime.errors import InputError, StreamingError
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.stream import Stream


@pytest.fixture(scope="module")
def two_inputs(models):
    return Session(models / "two_inputs.onnx")


def piece(seed):
    rng = np.random.default_rng(seed)
    return {"x": rng.normal(size=3).astype(np.float32), "ids": np.int64(rng.integers(1, 5))}


def test_answers_of_several_outputs_belong_to_the_caller(two_inputs):
    stream = two_inputs.stream()
    first = stream.push(piece(1))
    kept = {name: array.copy() for name, array in first.items()}
    second = stream.push(piece(2))
    for name, array in first.items():
        assert not np.shares_memory(array, second[name])
        np.testing.assert_array_equal(array, kept[name])


def test_the_input_that_fits_no_form_is_named(two_inputs):
    """x fits one form of three, ids none."""
    wrong = {"x": np.zeros((1, 2, 3), np.float32), "ids": np.zeros((1, 2, 3, 4), np.int64)}
    with pytest.raises(InputError, match=r"^input 'ids' has shape \[1, 2, 3, 4\]"):
        two_inputs.stream().push(wrong)


class Renamed:
    """A session, with one axis of its input called otherwise."""

    def __init__(self, session, axis):
        self._session = session
        spec = session.inputs[0]
        self.inputs = (dataclasses.replace(spec, axes=tuple(axis if a == "time" else a for a in spec.axes)),)

    def __getattr__(self, name):
        return getattr(self._session, name)


def test_an_axis_that_is_neither_batch_nor_time_cannot_be_streamed(models):
    tagger = Session(models / "tagger.onnx")
    assert Stream(Renamed(tagger, "time"), batch_size=1, on_nonfinite="refuse").push(np.zeros(3, np.float32)).shape == (
        4,
    )
    sentence = "the model cannot be streamed: 'x' has the axis 'frames', which is neither 'batch' nor 'time'"
    with pytest.raises(StreamingError, match=f"^{sentence}$"):
        Stream(Renamed(tagger, "frames"), batch_size=1, on_nonfinite="refuse")
