"""SI-SDR, SDR and correlation: by hand, and against slow plain Python on random sequences and resamples."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.metrics import LIMIT_DB, METRICS, get_metric

# Sums of some hundred products in float64, and a logarithm.
CLOSE = 1e-9


def slow_sdr(estimate, target):
    """The definition in exact fractions; at the end one logarithm."""
    signal = sum(Fraction(s) ** 2 for s in target)
    noise = sum((Fraction(s) - Fraction(e)) ** 2 for s, e in zip(target, estimate, strict=True))
    return limited(signal, noise)


def slow_si_sdr(estimate, target):
    inner = sum(Fraction(s) * Fraction(e) for s, e in zip(target, estimate, strict=True))
    factor = inner / sum(Fraction(s) ** 2 for s in target)
    wanted = [factor * Fraction(s) for s in target]
    return limited(
        sum(w**2 for w in wanted), sum((w - Fraction(e)) ** 2 for w, e in zip(wanted, estimate, strict=True))
    )


def limited(signal, noise):
    if signal == 0:
        return -100.0
    return 100.0 if noise == 0 else min(max(10 * math.log10(signal / noise), -100.0), 100.0)


SLOW = {"sdr": slow_sdr, "si-sdr": slow_si_sdr}


def slow_pearson(x, y):
    x_mean, y_mean = math.fsum(x) / len(x), math.fsum(y) / len(y)
    x, y = [v - x_mean for v in x], [v - y_mean for v in y]
    spread = math.fsum(v * v for v in x) * math.fsum(v * v for v in y)
    return math.fsum(a * b for a, b in zip(x, y, strict=True)) / math.sqrt(spread)


# Values with few digits, so that a residual is either 0 or far from it.
numbers = st.integers(-64, 64).map(lambda value: value / 16)


@st.composite
def sequences(draw, *, most=5):
    """Pairs of an estimate and a target that is not silent, of 2 to 9 steps each."""
    pairs = []
    for _ in range(draw(st.integers(1, most))):
        steps = draw(st.integers(2, 9))
        target = draw(st.lists(numbers, min_size=steps, max_size=steps).filter(any))
        pairs.append((draw(st.lists(numbers, min_size=steps, max_size=steps)), target))
    return pairs


def joined(pairs, *, columns=False):
    outputs, targets = (np.concatenate([pair[side] for pair in pairs]).astype(np.float32) for side in (0, 1))
    units = np.repeat(np.arange(len(pairs)), [len(target) for _, target in pairs])
    return (outputs[:, np.newaxis] if columns else outputs), targets, units


def rows(pairs):
    return [[np.array(pair[side], np.float32) for pair in pairs] for side in (0, 1)]


@pytest.mark.parametrize("name", ["si-sdr", "sdr"])
@settings(deadline=None)
@given(data=st.data())
def test_a_ratio_is_the_mean_of_the_definition_over_sequences(name, data):
    pairs = data.draw(sequences())
    metric, expected = METRICS[name], [SLOW[name](*pair) for pair in pairs]
    mean = pytest.approx(math.fsum(expected) / len(expected), abs=CLOSE)
    estimate = metric.estimate(*joined(pairs))
    assert estimate.value == mean
    assert metric.estimate(*joined(pairs, columns=True)).value == mean
    assert metric.estimate_sequences(*rows(pairs)).value == mean
    drawn = np.random.default_rng(0).integers(len(pairs), size=(5, len(pairs)))
    for row, value in zip(drawn, estimate.resample(drawn), strict=True):
        assert value == pytest.approx(math.fsum(expected[n] for n in row) / len(row), abs=CLOSE)


def test_ratios_by_hand():
    target, estimate = np.array([[3.0, 4.0]], np.float32), np.array([[3.0, 3.0]], np.float32)
    assert METRICS["sdr"](estimate, target) == pytest.approx(10 * math.log10(25 / 1), abs=CLOSE)
    # <e, s> / |s|^2 = 21 / 25; a s = (2.52, 3.36), a s - e = (-0.48, 0.36).
    assert METRICS["si-sdr"](estimate, target) == pytest.approx(10 * math.log10(17.64 / 0.36), abs=CLOSE)
    # An estimate at a right angle to the target has nothing of it.
    assert METRICS["si-sdr"](np.array([[4.0, -3.0]]), target) == -LIMIT_DB
    assert METRICS["sdr"](np.array([[4.0, -3.0]]), target) == pytest.approx(10 * math.log10(25 / 50), abs=CLOSE)


@pytest.mark.parametrize("factor", [2.0, -1.0, 1e-3, 1e20, 1e-200, 1e200])
def test_only_si_sdr_ignores_the_scale(factor):
    generator = np.random.default_rng(1)
    target = generator.normal(size=(3, 50))
    estimate = target + 0.1 * generator.normal(size=(3, 50))
    plain = METRICS["si-sdr"](estimate, target)
    assert plain == pytest.approx(20, abs=1)
    assert METRICS["si-sdr"](factor * estimate, target) == pytest.approx(plain, abs=CLOSE)
    assert METRICS["si-sdr"](estimate, factor * target) == pytest.approx(plain, abs=CLOSE)
    assert METRICS["sdr"](factor * estimate, factor * target) == pytest.approx(METRICS["sdr"](estimate, target))
    assert METRICS["sdr"](factor * estimate, target) != pytest.approx(METRICS["sdr"](estimate, target), abs=0.1)


def test_frames_and_channels_are_one_signal_and_the_order_of_sequences_is_free():
    generator = np.random.default_rng(2)
    targets = [generator.normal(size=(steps, 4)) for steps in (3, 7, 5)]
    outputs = [target + 0.3 * generator.normal(size=target.shape) for target in targets]
    for name in ("si-sdr", "sdr"):
        value = METRICS[name].estimate_sequences(outputs, targets).value
        each = [METRICS[name](o.reshape(1, -1), t.reshape(1, -1)) for o, t in zip(outputs, targets, strict=True)]
        assert value == pytest.approx(sum(each) / 3, abs=CLOSE)
        assert METRICS[name].estimate_sequences(outputs[::-1], targets[::-1]).value == pytest.approx(value, abs=CLOSE)
        # All steps as one signal is another number: steps of different sequences are not joined.
        whole = METRICS[name](np.concatenate(outputs).reshape(1, -1), np.concatenate(targets).reshape(1, -1))
        assert abs(whole - value) > 1e-3


def test_equal_and_silent_estimates_have_finite_ratios():
    target = np.array([[1.0, -2.0, 3.0]])
    for name, silent in (("si-sdr", -LIMIT_DB), ("sdr", 0.0)):
        assert METRICS[name](target, target) == LIMIT_DB
        assert METRICS[name](target * 0, target) == silent
        # A difference below what 100 dB has counts as 100 dB.
        assert METRICS[name](target + np.array([[1e-7, 0, 0]]), target) == LIMIT_DB
        assert METRICS[name](target + np.array([[1e-4, 0, 0]]), target) < LIMIT_DB
    assert METRICS["sdr"](target * 1e7, target) == -LIMIT_DB


def test_a_silent_target_is_refused_or_left_out():
    outputs, targets = np.array([[1.0, 2.0], [1.0, 1.0], [2.0, 0.0]]), np.array([[1.0, 1.0], [0.0, 0.0], [1.0, 1.0]])
    for name in ("si-sdr", "sdr"):
        with pytest.raises(InputError) as error:
            METRICS[name](outputs, targets)
        assert str(error.value) == (
            f"metric {name}: the target of sequence 1 is silent (all values are 0), which has no ratio in dB; expected "
            "a signal, or silence=skip to leave such sequences out"
        )
        skipped = get_metric(f"{name}:silence=skip").estimate(outputs, targets)
        assert skipped.value == METRICS[name](outputs[[0, 2]], targets[[0, 2]])
        assert skipped.units == 3
        values = skipped.resample(np.array([[0, 1, 2], [1, 1, 0], [1, 1, 1]]))
        assert values[0] == pytest.approx(skipped.value)
        assert values[1] == pytest.approx(METRICS[name](outputs[:1], targets[:1]))
        assert np.isnan(values[2])
        with pytest.raises(InputError, match=f"^metric {name}:skip: the targets of all sequences are silent, expected"):
            get_metric(f"{name}:skip")(outputs[1:2], targets[1:2])


def test_what_is_no_signal_is_refused():
    for name in ("si-sdr", "sdr"):
        with pytest.raises(InputError, match=f"^metric {name}: the target of sequence 0 has one value, expected the"):
            METRICS[name](np.ones((3, 1)), np.ones(3))
        with pytest.raises(InputError, match=r"^metric: got shapes \[2, 3\] and \[2, 4\], expected two equal ones"):
            METRICS[name](np.ones((2, 4)), np.ones((2, 3)))
    with pytest.raises(InputError, match=r"^metric: sequence 1 has 4 steps in the output and 5 in the target, expect"):
        METRICS["sdr"].estimate_sequences([np.ones(3), np.ones(4)], [np.ones(3), np.ones(5)])
    with pytest.raises(
        InputError, match=r"the output of sequence 1 is \[3, 2\], that of sequence 0 is \[3, 1\]; expec"
    ):
        METRICS["sdr"].estimate_sequences([np.ones((3, 1)), np.ones((3, 2))], [np.ones(3), np.ones(3)])


@settings(deadline=None)
@given(data=st.data())
def test_correlation_is_the_definition_over_all_steps(data):
    pairs = data.draw(sequences().filter(lambda found: len({v for _, target in found for v in target}) > 1))
    outputs, targets, units = joined(pairs)
    estimate = METRICS["pearson"].estimate(outputs, targets, units)
    constant = len(set(outputs.tolist())) == 1
    expected = 0.0 if constant else slow_pearson(outputs.tolist(), targets.tolist())
    assert estimate.value == pytest.approx(expected, abs=CLOSE)
    assert METRICS["pearson"].estimate_sequences(*rows(pairs)).value == pytest.approx(expected, abs=CLOSE)
    drawn = np.random.default_rng(0).integers(len(pairs), size=(5, len(pairs)))
    for row, value in zip(drawn, estimate.resample(drawn), strict=True):
        steps = np.concatenate([np.flatnonzero(units == number) for number in row])
        x, y = outputs[steps].tolist(), targets[steps].tolist()
        if len(set(y)) == 1:
            assert np.isnan(value)
        else:
            assert value == pytest.approx(0.0 if len(set(x)) == 1 else slow_pearson(x, y), abs=CLOSE)


def test_correlation_by_hand_and_its_invariances():
    x, y = np.array([1.0, 2.0, 3.0, 6.0]), np.array([2.0, 1.0, 4.0, 5.0])
    # Deviations -2 -1 0 3 and -1 -2 1 2: products 10, squares 14 and 10.
    value = METRICS["pearson"](x, y)
    assert value == pytest.approx(10 / math.sqrt(140), abs=CLOSE)
    assert METRICS["pearson"](1e6 + 3 * x, y - 1e6) == pytest.approx(value, abs=CLOSE)
    assert METRICS["pearson"](-x, y) == pytest.approx(-value, abs=CLOSE)
    # Values far from 0 keep their digits; the steps of float32 at 3e7 are 2.
    far = (3e7 + 4 * x).astype(np.float32)
    assert METRICS["pearson"](far, y) == pytest.approx(value, abs=CLOSE)
    # Of several values the mean of the correlations, not the correlation of all.
    both = METRICS["pearson"](np.stack([x, 100 - x], axis=1), np.stack([y, y], axis=1))
    assert both == pytest.approx(0.0, abs=CLOSE)
    # Without a time axis the values of a sequence are not steps.
    pairs = [list(np.stack([x, 50 * x], axis=1)), list(np.stack([y, 50 - y], axis=1))]
    assert METRICS["pearson"].estimate_sequences(*pairs, per_step=False).value == pytest.approx(0.0, abs=CLOSE)
    assert METRICS["pearson"].estimate_sequences(*pairs, per_step=False).units == 4


def test_constants_have_no_correlation():
    y = np.array([2.0, 1.0, 4.0])
    assert METRICS["pearson"](y[:, np.newaxis], y) == pytest.approx(1.0, abs=CLOSE)
    # The target of sequence 0 is the mean of all in each step.
    units, targets = np.array([0, 0, 1, 1]), np.array([2.0, 2.0, 1.0, 3.0])
    values = METRICS["pearson"].estimate(np.arange(4.0), targets, units).resample(np.array([[0, 0], [1, 1]]))
    assert np.isnan(values).tolist() == [True, False]
    assert METRICS["pearson"](np.full(3, 0.1), y) == 0.0
    with pytest.raises(InputError, match=r"^metric pearson: the target value is 7 in all 3 samples, expected values "):
        METRICS["pearson"](y, np.full(3, 7.0))
    with pytest.raises(InputError, match=r"^metric pearson: the target value 1 is 0 in all 3 samples, expected values"):
        METRICS["pearson"](np.ones((3, 2)), np.stack([y, y * 0], axis=1))


@pytest.mark.parametrize("short", ["mse", "mae"])
def test_the_short_names_are_the_long_ones(short):
    long = METRICS[{"mse": "mean-squared-error", "mae": "mean-absolute-error"}[short]]
    outputs, targets = np.random.default_rng(0).normal(size=(2, 5, 3))
    assert METRICS[short](outputs, targets) == long(outputs, targets)
    assert (METRICS[short].unit, METRICS[short].more_is_better) == (long.unit, False)


def test_a_better_candidate_has_a_negative_drop():
    generator = np.random.default_rng(3)
    targets = [generator.normal(size=40) for _ in range(20)]
    near, far = ([t + scale * generator.normal(size=40) for t in targets] for scale in (0.1, 0.2))
    for name in ("si-sdr", "sdr", "pearson"):
        good, bad = (METRICS[name].estimate_sequences(rows, targets) for rows in (near, far))
        drop = METRICS[name].loss(good, bad)
        assert drop.value > 0
        assert METRICS[name].loss(bad, good).value == pytest.approx(-drop.value)
        drawn = generator.integers(20, size=(4, 20))
        assert drop.resample(drawn) == pytest.approx(good.resample(drawn) - bad.resample(drawn), abs=CLOSE)
