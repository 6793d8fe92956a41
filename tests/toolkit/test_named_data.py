"""Sequences with named inputs and targets, and a metric of one output of them."""

import re

import numpy as np
import pytest

from lstm_edge.data import NamedDataset, data_sha256
from lstm_edge_runtime.errors import DataError, InputError
from lstm_edge_runtime.metrics import METRICS


def made(**changes):
    """Return three sequences with a timed input, a condition, and two targets."""
    generator = np.random.default_rng(3)
    values = {
        "name": "made",
        "inputs": {
            "x": [generator.normal(size=(steps, 4)).astype(np.float32) for steps in (2, 5, 3)],
            "speaker": list(generator.normal(size=(3, 6)).astype(np.float32)),
        },
        "targets": {"class": [np.asarray(number) for number in (1, 0, 1)]},
        "groups": np.array([7, 7, 8]),
        "ids": ("a", "b", "c"),
    }
    return NamedDataset(**(values | changes))


def test_a_subset_keeps_what_belongs_to_a_sequence():
    data = made()
    part = data.subset([2, 0], name="part")
    assert (len(data), len(part), part.name, part.ids) == (3, 2, "part", ("c", "a"))
    assert [len(row) for row in part.inputs["x"]] == [3, 2]
    assert part.inputs["speaker"][1] is data.inputs["speaker"][0]
    assert part.classes.tolist() == [1, 1]
    assert part.groups.tolist() == [8, 7]
    assert part.fingerprint(1) == data.fingerprint(0) != data.fingerprint(1)


def test_classes_are_one_integer_for_each_sequence():
    assert made().classes.tolist() == [1, 0, 1]
    assert made(targets={}).classes is None
    assert made(targets={"v": [np.float32(0.5)] * 3}).classes is None
    assert made(targets={"t": [np.arange(2), np.arange(5), np.arange(3)]}).classes is None


def test_the_digest_covers_names_and_numbers():
    digests = [
        data_sha256(data)
        for data in (
            made(),
            made(name="other"),
            made(targets={"other": made().targets["class"]}),
            made(inputs={"x": made().inputs["x"]}),
            made(layout="model"),
            made(lengths=np.array([1, 2, 3])),
        )
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 5


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"inputs": {}}, "has no sequences; expected at least one input with one sequence"),
        (
            {"targets": {"class": [np.asarray(1)] * 2}},
            "the target 'class' has 2 sequences, 'x' has 3; expected the same number",
        ),
        (
            {"inputs": {"x": [np.ones(2, np.float32), np.array([np.nan]), np.ones(2)]}},
            "the input 'x' of sequence 1 holds NaN or infinity; expected finite numbers",
        ),
        (
            {"inputs": {"x": [np.array(["a"])] * 3}},
            "the input 'x' of sequence 0 is <U1; expected a NumPy array of real numbers",
        ),
        (
            {"inputs": {"x": [np.zeros((0, 4))] * 3}},
            "the input 'x' of sequence 0 is empty, shape [0, 4]; expected at least one element",
        ),
        ({"lengths": np.array([1, 2])}, "lengths must be int64 [3], each 1 or more"),
        ({"layout": "batch-first"}, "layout is 'batch-first'; expected one of model, time-first"),
    ],
)
def test_what_is_wrong_is_one_sentence(changes, sentence):
    with pytest.raises(DataError, match="^" + re.escape(f"data made: {sentence}") + "$"):
        made(**changes)


def test_a_metric_of_sequences_joins_their_steps():
    generator = np.random.default_rng(0)
    outputs = [generator.normal(size=(steps, 3)) for steps in (2, 5, 4)]
    classes = [generator.integers(0, 3, len(row)) for row in outputs]
    found = METRICS["accuracy"].estimate_sequences(outputs, classes)
    right = [(row.argmax(1) == of).sum() for row, of in zip(outputs, classes, strict=True)]
    assert (found.units, found.value) == (3, sum(right) / 11)
    assert found.resample(np.array([[1, 1, 1]])).tolist() == [right[1] / 5]
    values = [generator.normal(size=(steps, 3)) for steps in (2, 5, 4)]
    found = METRICS["mean-squared-error"].estimate_sequences(outputs, values)
    every = np.concatenate(outputs) - np.concatenate(values)
    assert found.value == pytest.approx(np.square(every).mean(), rel=1e-12)
    assert found.units == 3


def test_a_target_of_another_shape_is_refused():
    expected = (
        "metric mean-squared-error: output [4, 3] and target [4, 2] of sequence 1: expected equal shapes, or one "
        "integer class for each row of logits"
    )
    with pytest.raises(InputError, match="^" + re.escape(expected) + "$"):
        METRICS["mean-squared-error"].estimate_sequences(
            [np.zeros((2, 3)), np.zeros((4, 3))], [np.zeros((2, 3)), np.zeros((4, 2))]
        )
