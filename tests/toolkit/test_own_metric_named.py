"""A user's function with names: dicts of all outputs, lengths and inputs; the function itself instead of its name."""

import re
import sys
import types

import numpy as np
import pytest
from support.judged_models import matrix_model, tagged

from lstm_edge.validation.judge import validate
from lstm_edge.validation.own_metric import OwnMetric, load_metric
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.metrics import METRICS

EYE, SKEWED = np.eye(3), np.array([[1, 0.8, 0], [0, 1, 0], [0, 0, 1]])


def judged(metric, **options):
    return validate(matrix_model(SKEWED), matrix_model(EYE), tagged(), metric=metric, max_drop="90pt", **options)


def wrong(predictions, targets, lengths):
    """Return the share of wrong steps of each sequence; sequences have different lengths, so there are lists."""
    assert isinstance(predictions["y"], list)
    assert [len(row) for row in predictions["y"]] == [len(row) for row in targets["y"]] == lengths.tolist()
    found = [(row.argmax(axis=1) != to).mean() for row, to in zip(predictions["y"], targets["y"], strict=True)]
    predictions["y"].clear()  # what a function does to its arguments changes nothing
    return found


wrong.more_is_better = False


def overall(predictions, targets, lengths, inputs):
    """Return one number over all sequences, with the inputs."""
    right = sum((row.argmax(axis=1) == to).sum() for row, to in zip(predictions["y"], targets["y"], strict=True))
    assert sum(len(row) for row in inputs["x"]) == lengths.sum()
    return right / lengths.sum()


overall.more_is_better, overall.unit = True, "share"


def expected():
    data = tagged()
    decided = [(row @ SKEWED.astype(np.float32)).argmax(axis=1) for row in data]
    return [(found == data.target(number)).mean() for number, found in enumerate(decided)], data.lengths


def test_a_function_of_three_parameters_gets_each_sequence():
    report = judged(wrong)
    shares, _ = expected()
    assert report.candidate == pytest.approx(1 - np.mean(shares), abs=1e-12)
    assert (report.samples, report.samples_are, report.units, report.resamples) == (12, "sequences", 12, 10_000)


def test_a_function_of_four_parameters_gets_the_inputs_and_may_return_one_number():
    report = judged(overall)
    shares, lengths = expected()
    assert report.candidate == pytest.approx(np.average(shares, weights=lengths), abs=1e-12)
    assert (report.units, report.resamples) == (12, 1_000)
    built_in = judged("accuracy")
    assert (report.reference, report.candidate) == pytest.approx((built_in.reference, built_in.candidate), abs=1e-12)
    assert report.drop_low == pytest.approx(built_in.drop_low, abs=0.02)


def test_the_number_of_parameters_says_what_a_function_takes():
    def two(outputs, targets):
        return 0.0

    def tuned(outputs, targets, threshold=0.5):
        return 0.0

    def three(predictions, targets, lengths=None):
        return 0.0

    def four(p, t, n, x):
        return 0.0

    for function, count in ((two, 2), (tuned, 2), (three, 3), (four, 4), (lambda *arrays: 0.0, 2)):
        function.more_is_better = False
        metric = load_metric(function)
        assert isinstance(metric, OwnMetric)
        assert metric.parameters == count
        assert metric.takes_names(2)
        assert metric.takes_names(1) == (count > 2)


def test_a_metric_may_be_given_as_itself():
    assert load_metric(METRICS["auc"]) is METRICS["auc"]
    assert judged(METRICS["accuracy"]) == judged("accuracy")


@pytest.fixture
def mine(monkeypatch):
    module = types.ModuleType("mine_with_names")
    module.wrong, module.flat = wrong, lambda outputs, targets: (outputs.argmax(axis=1) != targets).astype(float)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module.__name__


def test_a_function_of_two_parameters_may_name_its_output(mine):
    report = judged(f"{mine}:flat:less:output=y")
    built_in = judged("accuracy")
    assert report.metric == f"{mine}:flat:output=y"
    assert (report.samples_are, report.candidate) == ("steps", pytest.approx(1 - built_in.candidate, abs=1e-12))
    assert report.drop_low == pytest.approx(built_in.drop_low, abs=1e-12)
    sentence = f"metric {mine}:flat:output=z: model has no output 'z'; expected one of y"
    with pytest.raises(InputError, match="^" + re.escape(sentence) + "$"):
        judged(f"{mine}:flat:less:output=z")
    sentence = (
        f"metric {mine}:wrong: has 3 parameters, so it takes all outputs; leave out :output=y, or give the "
        "function two parameters"
    )
    with pytest.raises(InputError, match="^" + re.escape(sentence) + "$"):
        judged(f"{mine}:wrong:output=y")


def test_the_direction_of_a_function_is_never_guessed():
    def cost(outputs, targets):
        return 0.0

    with pytest.raises(InputError, match=r"got no better direction; give the function an attribute more_is_better"):
        judged(cost)


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        ([0.0] * 11, "returned numbers of shape [11]; expected one number, or 12, one for each sequence"),
        ([0.0] * 11 + [np.nan], "returned nan for sequence 11; expected one number, or 12, one for each sequence"),
        ("much", "returned a str; expected one number, or 12, one for each sequence"),
    ],
)
def test_a_wrong_answer_is_one_sentence(returned, sentence):
    def bad(predictions, targets, lengths):
        return returned

    bad.more_is_better = True
    name = f"{__name__}:test_a_wrong_answer_is_one_sentence.<locals>.bad"
    with pytest.raises(InputError, match="^" + re.escape(f"model: metric {name}: {sentence}") + "$"):
        judged(bad)
