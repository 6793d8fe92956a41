"""Areas and F1 against scikit-learn, edits against the textbook's recursion, on random samples and resamples."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, roc_auc_score

from lstm_edge_runtime.metrics import METRICS, count_edits

# Sums of at most some hundred products in float64.
EXACT = 1e-12


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def samples(seed, classes, *, ties):
    """Random logits; with ties they are small integers, so that many samples have the same probabilities."""
    generator = np.random.default_rng(seed)
    logits = generator.integers(-1, 2, (40, classes)) if ties else generator.normal(size=(40, classes))
    y = np.concatenate([np.arange(classes), generator.integers(0, classes, 40 - classes)])
    return logits.astype(np.float64), y


@pytest.mark.slow
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_areas_are_scikit_learns(seed, classes, ties):
    logits, y = samples(seed, classes, ties=ties)

    def theirs(rows):
        scores = softmax(logits[rows])
        return roc_auc_score(y[rows], scores[:, 1] if classes == 2 else scores, multi_class="ovr")

    # Equal logits in another order have softmax probabilities that differ in the last bit: rounded, they tie again.
    assert METRICS["auc"](logits, y) == pytest.approx(theirs_rounded(logits, y, classes), abs=EXACT)
    if not ties:
        assert METRICS["auc"](logits, y) == pytest.approx(theirs(np.arange(40)), abs=EXACT)
    drawn = np.random.default_rng(seed + 100).integers(40, size=(20, 40))
    drawn = drawn[[len(np.unique(y[row])) == classes for row in drawn]]
    values = METRICS["auc"].estimate(logits, y).resample(drawn)
    for row, value in zip(drawn, values, strict=True):
        assert value == pytest.approx(theirs_rounded(logits[row], y[row], classes), abs=EXACT)


def theirs_rounded(logits, y, classes):
    scores = np.round(softmax(logits), 12)
    if classes == 2:
        return roc_auc_score(y, scores[:, 1])
    return np.mean([roc_auc_score(y == number, scores[:, number]) for number in range(classes)])


@pytest.mark.parametrize("seed", range(6))
def test_macro_f1_is_scikit_learns(seed):
    logits, y = samples(seed, 6, ties=False)
    y[y == 5] = 0  # a class that is never right, and one that may never be decided for
    logits[:, 4] -= 9
    metric = METRICS["macro-f1"]
    assert metric(logits, y) == pytest.approx(f1_score(y, logits.argmax(axis=1), average="macro"), abs=EXACT)
    drawn = np.random.default_rng(seed).integers(40, size=(20, 40))
    for row, value in zip(drawn, metric.estimate(logits, y).resample(drawn), strict=True):
        expected = f1_score(y[row], logits[row].argmax(axis=1), average="macro", zero_division=0)
        assert value == pytest.approx(expected, abs=EXACT)


@settings(deadline=None)
@given(st.text(alphabet="ab c", max_size=9), st.text(alphabet="ab c", max_size=9))
def test_edits_are_those_of_the_recursion(right, found):
    @cache
    def distance(i, j):
        if not i or not j:
            return i + j
        change = distance(i - 1, j - 1) + (right[i - 1] != found[j - 1])
        return min(change, distance(i - 1, j) + 1, distance(i, j - 1) + 1)

    assert count_edits(right, found) == distance(len(right), len(found))
    assert count_edits(right.split(), found.split()) == count_edits(found.split(), right.split())
