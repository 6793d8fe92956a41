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
        "mse": 1.0,
        "mae": 1.0,
        "pearson": 1.0,
        "si-sdr": 1.0,
        "sdr": 1.0,
        "perplexity": 1.0,
        "bits-per-character": 1.0,
        "macro-f1": 0.01,
        "f1": 0.01,
        "event-f1": 0.01,
        "auc": 0.01,
        "agreement": 0.01,
        "word-error-rate": 0.01,
        "character-error-rate": 0.01,
    }
    better = [name for name, metric in METRICS.items() if metric.more_is_better]
    assert better == ["accuracy", "pearson", "si-sdr", "sdr", "macro-f1", "f1", "event-f1", "auc", "agreement"]
    assert all((metric.point == 0.01) == (metric.unit == "share") for metric in METRICS.values())


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
        r"^metric 'f2': unknown; expected one of accuracy, cross-entropy, mean-squared-error, mean-absolute-error, "
        r"mse, mae, pearson, si-sdr, sdr, perplexity, bits-per-character, macro-f1, f1, event-f1, auc, agreement, "
        r"word-error-rate, character-error-rate$"
    )
    with pytest.raises(InputError, match=expected):
        get_metric("f2")


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("f1:0.8", {"threshold": 0.8}),
        ("f1:threshold=-3e0", {"threshold": -3.0}),
        ("f1:0.8,output=a,b=c:0", {"threshold": 0.8, "output": "a,b=c:0"}),
        ("event-f1:3", {"tolerance": 3}),
        ("event-f1:3,match=point,threshold=1", {"tolerance": 3, "match": "point", "threshold": 1.0}),
        ("event-f1:match=both,tolerance=0", {"match": "both", "tolerance": 0}),
        ("si-sdr:skip", {"silence": "skip"}),
        ("mae:output=energy", {"output": "energy"}),
        ("accuracy:output=x", {"output": "x"}),
    ],
)
def test_options_behind_the_name(text, options):
    metric = get_metric(text)
    plain = METRICS[text.partition(":")[0]]
    assert metric.name == text
    fields = ("threshold", "tolerance", "match", "silence", "output")
    changed = {key: getattr(metric, key) for key in fields if getattr(metric, key, 0) != getattr(plain, key, 0)}
    assert changed == {key: value for key, value in options.items() if value != getattr(plain, key)}
    assert (metric.unit, metric.point, metric.target) == (plain.unit, plain.point, plain.target)
    assert get_metric(plain.name) is plain


@pytest.mark.parametrize(
    ("text", "got", "expected"),
    [
        ("f1:", "'' is not an option of f1", "threshold=NUMBER, background=CLASS, output=NAME"),
        ("f1:0.8,", "'' is not an option of f1", "threshold=NUMBER, background=CLASS, output=NAME"),
        ("f1:high", "'high' is not an option of f1", "threshold=NUMBER, background=CLASS, output=NAME"),
        ("f1:nan", "'nan' is not an option of f1", "threshold=NUMBER, background=CLASS, output=NAME"),
        ("f1:0.5,0.6", "'0.6' is not an option of f1", "threshold=NUMBER, background=CLASS, output=NAME"),
        ("f1:tolerance=3", "'tolerance=3' is not an option of f1", "threshold=NUMBER, background=CLASS, output=NAME"),
        (
            "f1:0.5,threshold=0.6",
            "option 'threshold=0.6' is given twice",
            "threshold=NUMBER, background=CLASS, output=NAME",
        ),
        ("mae:0.5", "'0.5' is not an option of mae", "output=NAME"),
        ("mae:output=", "'output=' is not an option of mae", "output=NAME"),
        ("sdr:ignore", "'ignore' is not an option of sdr", "silence=refuse|skip, output=NAME"),
        (
            "event-f1:-1",
            "'-1' is not an option of event-f1",
            "tolerance=STEPS, threshold=NUMBER, background=CLASS, match=onset|both|point, output=NAME",
        ),
        (
            "event-f1:1.5",
            "'1.5' is not an option of event-f1",
            "tolerance=STEPS, threshold=NUMBER, background=CLASS, match=onset|both|point, output=NAME",
        ),
    ],
)
def test_options_that_a_metric_does_not_have(text, got, expected):
    with pytest.raises(InputError) as error:
        get_metric(text)
    assert str(error.value) == f"metric {text}: {got}; expected {expected}"


def test_the_forms_of_the_metrics():
    forms = metrics.metric_forms()
    assert [form.partition("[")[0] for form in forms] == list(METRICS)
    assert "f1[:threshold=NUMBER, background=CLASS]" in forms
    assert "event-f1[:tolerance=STEPS, threshold=NUMBER, background=CLASS, match=onset|both|point]" in forms
    assert "accuracy" in forms


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
    for name in ("accuracy", "cross-entropy", "perplexity", "bits-per-character", "macro-f1", "auc", "agreement"):
        with pytest.raises(InputError, match=message):
            METRICS[name].estimate(outputs, targets)


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


def test_macro_f1_by_hand():
    # Decisions 0 2 1 1 for classes 0 1 1 2: class 0 is found, of class 1 one of two with one false alarm, 2 never.
    assert METRICS["macro-f1"](LOGITS, CLASSES) == pytest.approx((1 + 0.5 + 0) / 3, abs=EXACT)
    # A fourth class that never occurs counts for nothing.
    wider = np.concatenate([LOGITS, np.full((4, 1), -9, np.float32)], axis=1)
    assert METRICS["macro-f1"](wider, CLASSES) == METRICS["macro-f1"](LOGITS, CLASSES)


def test_the_area_counts_pairs_in_order_and_ties_half():
    # Class 1 by the difference of the logits: 2, 1 and 1; class 0: 1, 0. Five of six pairs in order, one a tie.
    logits = np.array([[0, 2], [0, 1], [0, 1], [0, 1], [0, 0]], np.float32)
    classes = np.array([1, 1, 1, 0, 0])
    assert METRICS["auc"](logits, classes) == pytest.approx((1 + 1 + 1 + 1 + 0.5 + 0.5) / 6, abs=EXACT)
    assert METRICS["auc"](-logits, classes) == pytest.approx(1 / 6, abs=EXACT)
    # Large logits of which a softmax would make the same probability, 1 or 0, are still in order.
    assert METRICS["auc"](np.array([[0, 90], [0, 91]], np.float32), np.array([0, 1])) == 1.0
    certain = np.array([[0, 1, 900], [0, 1, 1000], [0, 900, 0], [900, 0, 0]], np.float32)
    assert METRICS["auc"](certain, np.array([0, 2, 1, 0])) == pytest.approx((3.5 / 4 + 1 + 1) / 3, abs=EXACT)


def test_an_area_needs_two_classes():
    expected = "^metric auc: all 2 samples are of class 1, expected samples of two classes or more$"
    with pytest.raises(InputError, match=expected):
        METRICS["auc"](LOGITS[:2], np.array([1, 1]))


def test_agreement_holds_decisions_against_the_references():
    assert METRICS["agreement"](LOGITS, np.array([0, 2, 0, 1])) == 0.75
    with pytest.raises(
        InputError, match=r"^metric agreement: the model has one output, expected logits of two classes"
    ):
        METRICS["agreement"](np.ones((3, 1)), np.zeros(3, np.int64))


@pytest.mark.parametrize(
    ("right", "found", "edits"),
    [
        ("", "", 0),
        ("abc", "abc", 0),
        ("abc", "", 3),
        ("", "abc", 3),
        ("kitten", "sitting", 3),
        ("saturday", "sunday", 3),
        ("ab", "ba", 2),
        ("abcdef", "bcdefa", 2),
        ("aaaa", "bbb", 4),
    ],
)
def test_edits_of_known_pairs(right, found, edits):
    assert metrics.count_edits(right, found) == edits


def test_error_rates_are_ratios_of_sums():
    right = ["the cat sat", "a b c d", ""]
    found = ["the cat", "a x c d", "oh"]
    # One deletion, one substitution and one insertion for seven words; 4 + 1 + 2 characters of 18.
    assert METRICS["word-error-rate"](found, right) == pytest.approx(3 / 7, abs=EXACT)
    assert METRICS["character-error-rate"](found, right) == pytest.approx((4 + 1 + 2) / 18, abs=EXACT)
    assert METRICS["word-error-rate"](["The", "cat."], ["the", "cat"]) == 1.0, "texts are compared as they are"
    with pytest.raises(InputError, match=r"^metric word-error-rate: the right texts are all empty, expected a word at"):
        METRICS["word-error-rate"](["a"], [" "])
    with pytest.raises(InputError, match=r"^metric word-error-rate: got 1 texts for 2 right ones, expected one for"):
        METRICS["word-error-rate"](["a"], ["a", "b"])


# Sequences 0 and 1 have two steps, sequence 2 one.
UNITS = np.array([0, 0, 1, 1, 2])
STEPS = np.array([[3, 0, 1], [0, 2, 0], [0, 1, 5], [1, 0, 0], [0, 1, 0]], np.float32)
STEP_CLASSES = np.array([0, 2, 2, 0, 1])


@pytest.mark.parametrize("name", ["accuracy", "cross-entropy", "perplexity", "macro-f1", "auc"])
def test_a_resample_is_the_metric_of_the_samples_drawn(name):
    metric = METRICS[name]
    drawn = np.array([[0, 1, 2], [2, 2, 0], [1, 1, 1], [0, 2, 1]])
    estimate = metric.estimate(STEPS, STEP_CLASSES, UNITS)
    assert estimate.units == 3
    assert estimate.value == pytest.approx(metric(STEPS, STEP_CLASSES), abs=EXACT)
    for row, value in zip(drawn, estimate.resample(drawn), strict=True):
        steps = np.concatenate([np.flatnonzero(unit == UNITS) for unit in row])
        assert value == pytest.approx(metric(STEPS[steps], STEP_CLASSES[steps]), abs=EXACT)


def test_a_resample_of_texts_and_one_without_a_word():
    metric = METRICS["word-error-rate"]
    right, found = ["a b", "", "c"], ["a", "x", "c"]
    values = metric.estimate(found, right).resample(np.array([[0, 1, 2], [0, 0, 2], [1, 1, 1]]))
    assert values.tolist() == [2 / 3, 2 / 5, 3.0]


def test_a_resample_of_one_class_has_no_area():
    estimate = METRICS["auc"].estimate(LOGITS[:2], np.array([0, 1]))
    assert np.isnan(estimate.resample(np.array([[0, 0], [0, 1]]))).tolist() == [True, False]


def test_areas_of_many_scores_are_resampled_less_often():
    logits = np.random.default_rng(0).normal(size=(60_000, 3))
    assert METRICS["auc"].estimate(logits, np.arange(60_000) % 3).resamples == 1_000_000_000 // 180_000
    assert METRICS["auc"].estimate(LOGITS, CLASSES).resamples == 10_000


def test_a_loss_is_paired_and_has_the_metrics_direction():
    better, worse = LOGITS, -LOGITS
    for name in ("accuracy", "cross-entropy", "macro-f1", "auc"):
        metric = METRICS[name]
        old, new = metric.estimate(better, CLASSES), metric.estimate(worse, CLASSES)
        assert metric.loss(old, new).value > 0
        assert metric.loss(new, old).value == pytest.approx(-metric.loss(old, new).value)
        drawn = np.array([[0, 1, 2, 3], [1, 1, 3, 0]])
        sign = 1 if metric.more_is_better else -1
        expected = sign * (old.resample(drawn) - new.resample(drawn))
        np.testing.assert_allclose(metric.loss(old, new).resample(drawn), expected, atol=EXACT)
