"""Budgets as text, and the bootstrap bound, against hand cases."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_edge.precision_search import BudgetRequest, quantize_to_budget
from lstm_edge.validation.bootstrap import interval, upper_bound
from lstm_edge.validation.judge import bootstrap_bound
from lstm_edge.validation.report import Budget, parse_budget
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.metrics import METRICS


@pytest.mark.parametrize(
    ("losses", "confidence", "expected"),
    [
        # Two samples: the resampled mean is 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4.
        ([1.0, 0.0], 0.2, 0.0),
        ([1.0, 0.0], 0.5, 0.5),
        ([1.0, 0.0], 0.7, 0.5),
        ([1.0, 0.0], 0.8, 1.0),
        ([0.25], 0.95, 0.25),
        ([0.0] * 50, 0.99, 0.0),
        ([-1.0, -1.0], 0.95, -1.0),
    ],
)
def test_the_bootstrap_bound_of_hand_cases(losses, confidence, expected):
    assert bootstrap_bound(np.array(losses), confidence) == expected


def test_the_bound_is_the_binomial_quantile_for_one_loss_in_370():
    losses = np.zeros(370)
    losses[17] = 1.0
    # The resampled number of losses is Binomial(370, 1/370): P(<= 2) = 0.9200, P(<= 3) = 0.9811. The levels asked
    # for are 5 and 11 standard errors of 10,000 draws away from these.
    assert bootstrap_bound(losses, 0.9) == pytest.approx(2 / 370)
    assert bootstrap_bound(losses, 0.95) == pytest.approx(3 / 370)
    assert bootstrap_bound(losses, 0.95, seed=9) == bootstrap_bound(losses, 0.95, seed=9)


def test_many_samples_are_resampled_in_blocks(monkeypatch):
    losses = np.random.default_rng(0).normal(size=50)
    whole = bootstrap_bound(losses, 0.95)
    monkeypatch.setattr("lstm_edge.validation.bootstrap.BLOCK", 1234)
    # The generator gives the same draws, however they are blocked.
    assert bootstrap_bound(losses, 0.95) == whole
    assert bootstrap_bound(losses, 0.95, seed=1) != whole


def test_an_interval_leaves_equal_shares_outside():
    values = np.random.default_rng(0).permutation(np.arange(1.0, 1001.0))
    assert interval(values, 0.9) == (50.0, 950.0)
    assert upper_bound(values, 0.9) == 900.0
    # Resamples on which a metric is not defined are left out.
    assert interval(np.append(values, [np.nan] * 500), 0.9) == (50.0, 950.0)


def test_a_bound_needs_samples_and_a_share():
    with pytest.raises(InputError, match=r"^bootstrap: got no samples, expected at least one$"):
        bootstrap_bound(np.array([]), 0.95)
    with pytest.raises(InputError, match=r"^confidence is 1, expected a share above 0 and below 1, such as 0\.95$"):
        bootstrap_bound(np.array([0.0]), 1)


UNITS = {"pt": ("pt", False), "%": ("pt", True), "dB": ("dB", False), "": ("", False)}


def budget(amount, unit):
    name, relative = UNITS[unit]
    return Budget(amount=amount, relative=relative, unit=name)


@pytest.mark.slow
@given(st.floats(0, 1e6, allow_subnormal=False), st.sampled_from(sorted(UNITS)), st.sampled_from(["", " ", "  "]))
def test_every_written_budget_is_read_back(amount, unit, space):
    assert parse_budget(f"{amount!r}{space}{unit}") == budget(amount, unit)
    short = float(f"{amount:g}")
    assert parse_budget(str(budget(short, unit))) == budget(short, unit)


@given(st.text(alphabet="0123456789.+-eEptdB% ٣x", max_size=8))
def test_a_text_is_a_budget_or_gets_the_sentence(text):
    match = re.fullmatch(r"\s*(\d+(\.\d+)?([eE][+-]?\d{1,3})?)\s*(pt|%|dB|)\s*", text, re.ASCII)
    if match is None or float(match[1]) == float("inf"):
        with pytest.raises(InputError, match="^max_drop is " + re.escape(repr(text)) + ", expected a number"):
            parse_budget(text)
    else:
        assert parse_budget(text) == budget(float(match[1]), match[4])


NOT_BUDGETS = ("", "-1pt", "nan%", "inf pt", "1e999pt", "0.5 points", "pt", "٣pt", "1,5%", "1__0%", "dB", "0.5db", "-1")


@pytest.mark.parametrize("text", NOT_BUDGETS)
def test_what_is_no_budget(text):
    sentence = (
        f"max_drop is {text!r}, expected a number, 0 or more, and a unit: 0.5pt (points of the metric), 0.5% (of the "
        "reference's value) or 0.5dB; or no unit, for that of the metric"
    )
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}$"):
        parse_budget(text)


@pytest.mark.parametrize(
    ("text", "metric", "sentence"),
    [
        ("0.5dB", "accuracy", "metric accuracy is in share; expected 0.5pt (points of the metric) or 0.5%"),
        ("1dB", "pearson", "metric pearson is in no unit; expected 1pt (points of the metric) or 1%"),
        ("1%", "si-sdr", "metric si-sdr is in dB; expected 1dB (a percentage of decibels has no meaning)"),
        (
            "0.01",
            "f1",
            "metric f1 is in share; expected a unit: 0.01pt (percentage points), 1pt (the share 0.01) or 0.01%",
        ),
    ],
)
def test_a_budget_in_another_unit_than_the_metrics(text, metric, sentence):
    with pytest.raises(InputError, match=f"^budget {re.escape(f'{text}: {sentence}')}$"):
        parse_budget(text).allowed(METRICS[metric], 0.9)


def test_budgets_in_the_metrics_unit():
    assert parse_budget("0.5pt").allowed(METRICS["accuracy"], 0.9) == 0.005
    assert parse_budget("0.5pt").allowed(METRICS["cross-entropy"], 0.9) == 0.5
    assert parse_budget("0.5%").allowed(METRICS["accuracy"], 0.8) == pytest.approx(0.004)
    assert parse_budget("50%").allowed(METRICS["cross-entropy"], 0.2) == pytest.approx(0.1)
    for text in ("0.5dB", "0.5pt", "0.5"):
        assert parse_budget(text).allowed(METRICS["si-sdr"], -3.0) == 0.5
    assert parse_budget("0.01").allowed(METRICS["pearson"], 0.9) == 0.01
    assert parse_budget("0.01").allowed(METRICS["mae"], 7.0) == 0.01
    assert parse_budget("1%").allowed(METRICS["f1"], 0.5) == 0.005


@pytest.mark.parametrize(
    ("metric", "budget", "sentence"),
    [
        ("f1:0", "0.01", "budget 0.01: metric f1:0 is in share; expected a unit: 0.01pt"),
        ("si-sdr", "2%", "budget 2%: metric si-sdr is in dB; expected 2dB"),
        ("event-f1:4", "1dB", "budget 1dB: metric event-f1:4 is in share; expected 1pt"),
        ("si-sdr:loud", "1dB", "metric si-sdr:loud: 'loud' is not an option of si-sdr"),
    ],
)
def test_a_search_refuses_a_budget_of_another_unit_before_it_reads_anything(tmp_path, metric, budget, sentence):
    request = BudgetRequest(
        source=tmp_path / "missing.onnx", output=tmp_path / "o.onnx", data="missing", metric=metric, max_drop=budget
    )
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}"):
        quantize_to_budget(request)
