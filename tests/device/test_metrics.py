"""Metrics against hand-computed values; NumPy only."""

import math

import numpy as np
import pytest

from lstm_edge_runtime import metrics
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.metrics import METRICS, get_metric

# The formulas run in float64; the hand values are exact up to a few roundings.
EXACT = 1e-12

LOGITS = np.array([[2.0, 0.0, 1.0], [0.0, 0.0, 3.0], [1.0, 5.0, 1.0], [0.0, 1.0, 0.5]], dtype=np.float32)
CLASSES = np.array([0, 1, 1, 2])


def test_accuracy_counts_the_largest_logit():
    scores = METRICS["accuracy"].per_sample(LOGITS, CLASSES)
    assert scores.tolist() == [1.0, 0.0, 1.0, 0.0]
    assert METRICS["accuracy"](LOGITS, CLASSES) == 0.5


def test_cross_entropy_is_minus_the_log_of_the_softmax():
    expected = [
        -math.log(math.exp(2) / (math.exp(2) + 1 + math.e)),
        -math.log(1 / (2 + math.exp(3))),
        -math.log(math.exp(5) / (2 * math.e + math.exp(5))),
        -math.log(math.exp(0.5) / (1 + math.e + math.exp(0.5))),
    ]
    np.testing.assert_allclose(METRICS["cross-entropy"].per_sample(LOGITS, CLASSES), expected, atol=EXACT, rtol=0)


def test_cross_entropy_of_huge_logits_stays_finite():
    logits = np.array([[3e4, -3e4]], dtype=np.float32)
    assert METRICS["cross-entropy"](logits, np.array([1])) == pytest.approx(6e4, abs=EXACT)


def test_errors_are_means_over_each_samples_targets():
    outputs = np.array([[1.0, 2.0], [0.0, -1.0], [3.0, 3.0]], dtype=np.float32)
    targets = np.array([[1.0, 4.0], [1.0, 1.0], [3.0, 3.0]], dtype=np.float32)
    assert METRICS["mean-squared-error"].per_sample(outputs, targets).tolist() == [2.0, 2.5, 0.0]
    assert METRICS["mean-absolute-error"].per_sample(outputs, targets).tolist() == [1.0, 1.5, 0.0]
    assert METRICS["mean-squared-error"](outputs, targets) == 1.5


def test_one_target_matches_a_column_of_outputs_without_broadcasting():
    outputs, targets = np.array([[1.0], [5.0]], dtype=np.float32), np.array([0.0, 2.0], dtype=np.float32)
    assert METRICS["mean-absolute-error"].per_sample(outputs, targets).tolist() == [1.0, 3.0]


def test_losses_are_positive_where_the_candidate_is_worse():
    old, new = np.array([1.0, 0.0]), np.array([0.0, 0.0])
    assert METRICS["accuracy"].losses(old, new).tolist() == [1.0, 0.0]
    assert METRICS["cross-entropy"].losses(old, new).tolist() == [-1.0, 0.0]


def test_perplexity_and_bits_of_known_probabilities():
    # Probabilities 1/2 and 1/8 for the right token: on average 2 bits, so as unsure as among 4 equal tokens.
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.5, 0.375, 0.125]]))
    targets = np.array([0, 2])
    assert METRICS["bits-per-character"].per_sample(logits, targets) == pytest.approx([1.0, 3.0], abs=EXACT)
    assert METRICS["bits-per-character"](logits, targets) == pytest.approx(2.0, abs=EXACT)
    assert METRICS["perplexity"](logits, targets) == pytest.approx(4.0, abs=EXACT)


def test_only_a_share_has_percentage_points():
    assert {name: metric.point for name, metric in METRICS.items()} == {
        "accuracy": 0.01,
        "cross-entropy": 1.0,
        "mean-squared-error": 1.0,
        "mean-absolute-error": 1.0,
        "perplexity": 1.0,
        "bits-per-character": 1.0,
    }
    assert [name for name, metric in METRICS.items() if metric.more_is_better] == ["accuracy"]


def test_agreement_compares_decisions():
    other = LOGITS.copy()
    other[1] = [9.0, 0.0, 3.0]
    other[2] *= 0.5
    assert metrics.agreement(LOGITS, other) == 0.75


def test_differences_and_signal_to_noise():
    reference = np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32)
    candidate = reference + np.array([[0.5, 0.0], [0.0, -0.25]], dtype=np.float32)
    assert metrics.max_abs_difference(reference, candidate) == 0.5
    assert metrics.mean_abs_difference(reference, candidate) == 0.75 / 4
    assert metrics.snr_db(reference, candidate) == pytest.approx(10 * math.log10(25 / 0.3125), abs=EXACT)
    assert metrics.snr_db(reference, reference) == math.inf
    assert metrics.snr_db(np.zeros((1, 2)), np.ones((1, 2))) == -math.inf


def test_an_unknown_metric_lists_the_known_ones():
    expected = (
        r"^metric 'f1': unknown; expected one of accuracy, cross-entropy, mean-squared-error, mean-absolute-error, "
        r"perplexity, bits-per-character$"
    )
    with pytest.raises(InputError, match=expected):
        get_metric("f1")


@pytest.mark.parametrize(
    ("outputs", "targets", "message"),
    [
        (np.zeros((2, 3, 4)), np.zeros(2, np.int64), r"got outputs \[2, 3, 4\] and classes \[2\], expected logits"),
        (np.zeros((2, 3)), np.zeros(3, np.int64), r"got outputs \[2, 3\] and classes \[3\]"),
        (np.zeros((0, 3)), np.zeros(0, np.int64), r"got outputs \[0, 3\] and classes \[0\]"),
        (np.zeros((2, 3)), np.zeros(2), "the classes are float64, expected integers"),
        (np.zeros((2, 3)), np.array([0, 3]), "the classes go from 0 to 3, but the model has 3 outputs"),
        (np.zeros((2, 3)), np.array([-1, 2]), "the classes go from -1 to 2"),
    ],
)
def test_outputs_that_are_no_logits_of_these_classes_are_refused(outputs, targets, message):
    for name in ("accuracy", "cross-entropy", "perplexity", "bits-per-character"):
        with pytest.raises(InputError, match=message):
            METRICS[name].per_sample(outputs, targets)


@pytest.mark.parametrize("shapes", [((2, 3), (2, 4)), ((2,), (2, 2)), ((0,), (0,))])
def test_unequal_or_empty_values_are_refused(shapes):
    targets, outputs = (np.zeros(shape, np.float32) for shape in shapes)
    for function in (
        METRICS["mean-squared-error"].per_sample,
        metrics.snr_db,
        metrics.agreement,
        metrics.max_abs_difference,
    ):
        with pytest.raises(InputError, match="expected two equal ones with at least one element"):
            function(outputs, targets)
