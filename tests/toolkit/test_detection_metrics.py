"""F1 with a threshold and F1 of events: by hand, and against slow plain Python on random sequences and resamples."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.metrics import METRICS, get_metric

EXACT = 1e-12

scores = st.integers(0, 8).map(lambda value: value / 8)


def slow_runs(marks):
    """First and last step of each run, one step after the other."""
    found = []
    for step, mark in enumerate(marks):
        if mark and step and marks[step - 1]:
            found[-1] = (found[-1][0], step)
        elif mark:
            found.append((step, step))
    return found


def slow_matching(fits, taken=frozenset()):
    """The most pairs: each event found is paired with each that it may be, or with none, recursively."""
    if not fits:
        return 0
    rest = slow_matching(fits[1:], taken)
    return max([rest, *(1 + slow_matching(fits[1:], taken | {j}) for j in fits[0] if j not in taken)])


def slow_counts(score, truth, tolerance, threshold, match):
    found = slow_runs([value >= threshold for value in score])
    if match == "point":
        times = [(max(range(first, last + 1), key=lambda t: (score[t], -t)),) for first, last in found]
        happened = [(step,) for step, mark in enumerate(truth) if mark]
    elif match == "onset":
        times, happened = [run[:1] for run in found], [run[:1] for run in slow_runs(truth)]
    else:
        times, happened = found, slow_runs(truth)
    fits = [
        [j for j, b in enumerate(happened) if all(abs(p - q) <= tolerance for p, q in zip(a, b, strict=True))]
        for a in times
    ]
    hits = slow_matching(fits)
    return np.array([hits, len(times) - hits, len(happened) - hits])


def slow_f1(counts):
    hits, alarms, misses = counts
    return 2 * hits / (2 * hits + alarms + misses) if hits + alarms + misses else np.nan


@st.composite
def detections(draw):
    """Sequences of scores and marks, at least one mark in all."""
    pairs = []
    for _ in range(draw(st.integers(1, 4))):
        steps = draw(st.integers(1, 14))
        score = draw(st.lists(scores, min_size=steps, max_size=steps))
        pairs.append((score, draw(st.lists(st.integers(0, 1), min_size=steps, max_size=steps))))
    if not any(any(truth) for _, truth in pairs):
        pairs.append(([0.5], [1]))
    return pairs


def joined(pairs):
    units = np.repeat(np.arange(len(pairs)), [len(truth) for _, truth in pairs])
    outputs, targets = (np.concatenate([np.array(pair[side]) for pair in pairs]) for side in (0, 1))
    return outputs.astype(np.float32), targets, units


@settings(deadline=None, max_examples=200)
@given(
    pairs=detections(),
    tolerance=st.integers(0, 3),
    threshold=st.sampled_from([0.25, 0.5, 0.8]),
    match=st.sampled_from(["onset", "both", "point"]),
)
def test_event_f1_is_a_ratio_of_sums_of_the_largest_matchings(pairs, tolerance, threshold, match):
    metric = get_metric(f"event-f1:{tolerance},threshold={threshold},match={match}")
    counts = [slow_counts(*pair, tolerance, threshold, match) for pair in pairs]
    outputs, targets, units = joined(pairs)
    estimate = metric.estimate(outputs, targets, units)
    assert estimate.value == pytest.approx(slow_f1(sum(counts)), abs=EXACT)
    lists = [[np.array(pair[side]) for pair in pairs] for side in (0, 1)]
    assert metric.estimate_sequences(*lists).value == estimate.value
    backwards = metric.estimate_sequences(*(rows[::-1] for rows in lists))
    assert backwards.value == estimate.value
    drawn = np.random.default_rng(0).integers(len(pairs), size=(6, len(pairs)))
    expected = [slow_f1(sum(counts[number] for number in row)) for row in drawn]
    np.testing.assert_allclose(estimate.resample(drawn), expected, atol=EXACT)


@settings(deadline=None)
@given(pairs=detections(), threshold=st.sampled_from([None, 0.25, 0.8]))
def test_f1_is_scikit_learns(pairs, threshold):
    metric = METRICS["f1"] if threshold is None else get_metric(f"f1:{threshold}")
    outputs, targets, units = joined(pairs)
    decided = outputs >= (0.5 if threshold is None else threshold)
    estimate = metric.estimate(outputs, targets, units)
    assert estimate.value == pytest.approx(f1_score(targets, decided, zero_division=np.nan), abs=EXACT)
    assert metric.estimate(outputs[:, np.newaxis], targets.astype(np.float32), units).value == estimate.value
    drawn = np.random.default_rng(0).integers(len(pairs), size=(6, len(pairs)))
    for row, value in zip(drawn, estimate.resample(drawn), strict=True):
        steps = np.concatenate([np.flatnonzero(units == number) for number in row])
        if not targets[steps].any() and not decided[steps].any():
            assert np.isnan(value)
        else:
            assert value == pytest.approx(f1_score(targets[steps], decided[steps], zero_division=0), abs=EXACT)


@pytest.mark.parametrize("seed", range(3))
def test_f1_of_several_things_adds_their_counts_up(seed):
    generator = np.random.default_rng(seed)
    outputs, targets = generator.random((40, 5)), generator.integers(0, 2, (40, 5))
    expected = f1_score(targets, outputs >= 0.7, average="micro")
    assert get_metric("f1:0.7")(outputs, targets) == pytest.approx(expected, abs=EXACT)
    one_by_one = METRICS["f1"].estimate_sequences(list(outputs), list(targets), per_step=False)
    assert one_by_one.units == 40
    assert one_by_one.value == pytest.approx(f1_score(targets, outputs >= 0.5, average="micro"), abs=EXACT)


def test_two_outputs_are_logits_or_probabilities_of_two_classes():
    logits = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32) * 3
    targets = np.arange(30) % 2
    probabilities = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float16)
    for threshold in (0.2, 0.5, 0.9):
        expected = f1_score(targets, 1 / (1 + np.exp(logits[:, 0] - logits[:, 1])) >= threshold)
        assert get_metric(f"f1:{threshold}")(logits, targets) == pytest.approx(expected, abs=EXACT)
        assert get_metric(f"f1:{threshold}")(probabilities, targets) == pytest.approx(expected, abs=EXACT)
    # Logits with the sum 1 are still logits.
    assert get_metric("f1:0.9")(np.array([[-1.0, 2.0], [2.0, -1.0]]), np.array([1, 0])) == 1.0
    assert get_metric("f1:0.99")(np.array([[-1.0, 2.0], [2.0, -1.0]]), np.array([1, 0])) == 0.0
    # Certain logits overflow nothing.
    assert METRICS["f1"](np.array([[9e4, -9e4], [-9e4, 9e4]]), np.array([0, 1])) == 1.0
    # Two targets are two things, not two classes.
    assert METRICS["f1"](np.array([[0.9, 0.1], [0.1, 0.9]]), np.array([[1, 0], [1, 0]])) == pytest.approx(2 / 4)


def test_the_threshold_itself_is_found():
    assert METRICS["f1"](np.array([0.5, 0.4]), np.array([1, 0])) == 1.0
    assert get_metric("f1:0.6")(np.array([0.5, 0.6]), np.array([1, 0])) == 0.0


def test_logits_need_a_threshold_of_their_own():
    logits, targets = np.array([-2.0, 0.0, 3.0]), np.array([0, 1, 1])
    for name in ("f1", "event-f1"):
        with pytest.raises(InputError) as error:
            METRICS[name].estimate(logits, targets, np.zeros(3, np.int64))
        assert str(error.value) == (
            f"metric {name}: the outputs go from -2 to 3, expected probabilities from 0 to 1, or a threshold in the "
            f"outputs' unit, such as {name}:threshold=0 for logits"
        )
    assert get_metric("f1:0")(logits, targets) == 1.0
    assert METRICS["f1"](np.array([0.0, 1.0, 1.0]), targets) == 1.0, "0 and 1 are probabilities"


@pytest.mark.parametrize(
    ("outputs", "targets", "message"),
    [
        (np.zeros(3), np.zeros(3, int), "no target is 1, so there is nothing to find; expected some"),
        (np.zeros(3), np.array([0, 1, 2]), r"a target is 2, expected 0 \(not there\) or 1 \(there\)"),
        (np.zeros(3), np.array([0, 1, 0.5]), r"a target is 0\.5, expected 0 \(not there\) or 1 \(there\)"),
        (np.zeros((3, 3)), np.array([0, 1, 1]), r"got outputs \[3, 3\] for targets \[3\], .*need background=CLASS"),
        (np.zeros((3, 2)), np.ones((3, 3)), r"got outputs \[3, 2\] for targets \[3, 3\], expected one score for each"),
        (np.zeros((2, 3)), np.array([0, 1, 1]), r"got outputs \[2, 3\] for targets \[3\], expected one score for each"),
        (np.zeros((0,)), np.zeros(0), r"got outputs \[0\] for targets \[0\], expected one score for each"),
    ],
)
def test_what_is_nothing_to_detect(outputs, targets, message):
    for name in ("f1", "event-f1"):
        with pytest.raises(InputError, match=f"^metric {name}: {message}"):
            METRICS[name].estimate(outputs, targets, np.zeros(len(targets), np.int64))


def test_events_need_steps():
    expected = "^metric event-f1: got one target for each sequence, expected one for each step$"
    with pytest.raises(InputError, match=expected):
        METRICS["event-f1"](np.array([0.1, 0.9]), np.array([0, 1]))


def events(found, happened, options="0", *, steps=20):
    """Return event F1 of marks at these steps in one sequence."""
    output, target = np.zeros(steps), np.zeros(steps, int)
    output[list(found)] = 1
    target[list(happened)] = 1
    return get_metric(f"event-f1:{options}").estimate(output, target, np.zeros(steps, np.int64)).value


def test_events_by_hand():
    # An event of steps 5 to 8 is found from 6 to 7: one late, one early.
    assert events([6, 7], range(5, 9), "0") == 0.0
    assert events([6, 7], range(5, 9), "1") == 1.0
    assert events([6, 7, 8, 9, 10], range(5, 9), "1") == 1.0
    assert events([6, 7, 8, 9, 10], range(5, 9), "1,match=both") == 0.0
    assert events([6, 7, 8, 9, 10], range(5, 9), "2,match=both") == 1.0
    # Two found for one event: one is a false alarm, so the precision is 1/2 and the recall 1.
    assert events([4, 6], [5], "1") == pytest.approx(2 / 3)
    # One found for two events: the recall is 1/2.
    assert events([5], [4, 6], "1") == pytest.approx(2 / 3)
    # Neighbouring steps are one event, or as points two.
    assert events([4, 5], [4, 5], "0") == 1.0
    assert events([4, 5], [4, 5], "0,match=point") == pytest.approx(2 / 3)
    assert events([0, 1], [0], "0") == events([18, 19], [18], "0") == 1.0


def test_a_point_is_found_at_the_highest_score():
    output, target = np.array([0.0, 0.6, 0.9, 0.9, 0.5, 0.0]), np.array([0, 0, 1, 0, 0, 0])
    units = np.zeros(6, np.int64)
    assert get_metric("event-f1:match=point").estimate(output, target, units).value == 1.0
    assert get_metric("event-f1:match=point").estimate(output[::-1], target, units).value == 1.0
    assert get_metric("event-f1:match=onset").estimate(output, target, units).value == 0.0


def test_an_event_ends_with_its_sequence():
    output, target = np.array([0.0, 1.0, 1.0, 0.0]), np.array([0, 1, 1, 0])
    metric = METRICS["event-f1"]
    two = metric.estimate(output, target, np.array([0, 0, 1, 1]))
    assert two.counts.tolist() == [[1, 0, 0], [1, 0, 0]]
    assert metric.estimate(output, target, np.zeros(4, np.int64)).counts.tolist() == [[1, 0, 0]]


def test_events_of_one_kind_are_not_matched_with_another():
    output, target = np.zeros((6, 2)), np.zeros((6, 2), int)
    output[2, 0] = output[4, 1] = target[2, 1] = target[4, 1] = 1
    counts = METRICS["event-f1"].estimate(output, target, np.zeros(6, np.int64)).counts
    assert counts.tolist() == [[1, 1, 1]]


def test_a_pair_moves_where_that_makes_one_more():
    happened = np.zeros(40, int)
    found = np.zeros(40)
    for marks, spans in ((found, [(0, 4), (6, 9), (11, 14)]), (happened, [(1, 3), (5, 9), (11, 15), (17, 18)])):
        for first, last in spans:
            marks[first : last + 1] = 1
    for tolerance in range(8):
        metric = get_metric(f"event-f1:{tolerance},match=both")
        expected = slow_f1(slow_counts(found.tolist(), happened.tolist(), tolerance, 0.5, "both"))
        assert metric.estimate(found, happened, np.zeros(40, np.int64)).value == pytest.approx(expected, abs=EXACT)


def test_all_small_cases_of_matching_times():
    places = [c for count in range(4) for c in itertools.combinations(range(0, 12, 2), count)]
    for found, happened in itertools.product(places, places):
        if happened:
            output, target = np.zeros(12), np.zeros(12, int)
            output[list(found)], target[list(happened)] = 1, 1
            counts = slow_counts(output.tolist(), target.tolist(), 2, 0.5, "onset")
            value = get_metric("event-f1:2").estimate(output, target, np.zeros(12, np.int64)).counts[0]
            assert value.tolist() == counts.tolist(), (found, happened)


def test_many_events_take_no_time():
    steps = 100_000
    target = np.zeros(steps, int)
    target[::2] = 1
    output = np.roll(target, 1).astype(float)
    for options in ("3", "3,match=both", "3,match=point"):
        value = get_metric(f"event-f1:{options}").estimate(output, target, np.zeros(steps, np.int64)).value
        assert value > 0.9999


@pytest.mark.parametrize("background", [0, 2])
def test_classes_except_the_background_are_things(background):
    generator = np.random.default_rng(background)
    logits, targets = generator.normal(size=(60, 4)), generator.integers(0, 4, 60)
    things = [number for number in range(4) if number != background]
    expected = f1_score(targets, logits.argmax(axis=1), labels=things, average="micro")
    assert get_metric(f"f1:background={background}")(logits, targets) == pytest.approx(expected, abs=EXACT)
    # Events of classes are those of one row of marks for each class.
    units = np.repeat([0, 1, 2], 20)
    marks, truth = (np.stack([c == number for number in things], axis=1) for c in (logits.argmax(axis=1), targets))
    for options in ("1,match=onset", "0,match=both"):
        by_class = get_metric(f"event-f1:{options},background={background}").estimate(logits, targets, units)
        by_mark = get_metric(f"event-f1:{options}").estimate(marks.astype(float), truth.astype(int), units)
        assert by_class.counts.tolist() == by_mark.counts.tolist()


def test_the_point_of_a_class_is_where_it_is_most_probable():
    logits = np.array([[0.0, 1, 0], [0, 9, 0], [0, 2, 0], [3, 0, 0], [0, 0, 1]])
    metric = get_metric("event-f1:background=0,match=point")
    steps = np.zeros(5, np.int64)
    assert metric.estimate(logits, np.array([0, 1, 0, 0, 2]), steps).value == 1.0
    assert metric.estimate(logits, np.array([1, 0, 0, 0, 2]), steps).value == pytest.approx(1 / 2)


@pytest.mark.parametrize("metric", ["accuracy", "auc", "macro-f1", "cross-entropy", "agreement", "f1:background=0"])
@pytest.mark.parametrize(
    ("dtype", "advice"),
    [
        (np.float32, "this output has no axis of classes: f1 judges one score for each sample, mse values"),
        (np.int64, "this output holds decisions: name the output that holds their logits, as in accuracy:output=NAME"),
    ],
)
def test_an_output_without_an_axis_of_classes_says_what_to_do(metric, dtype, advice):
    with pytest.raises(InputError, match=f"one class for each sample; {advice}$"):
        get_metric(metric)(np.array([0, 1, 1], dtype), np.array([0, 1, 1]))


@pytest.mark.parametrize(
    ("options", "targets", "sentence"),
    [
        ("background=3", [0, 1, 2], "background is 3, but the model has 3 classes; expected a class from 0 to 2"),
        ("0.5,background=0", [0, 1, 2], "background is 0, but has a threshold too; expected only one of them"),
        ("background=1", [1, 1, 1], "all targets are 1, the background; expected some others"),
    ],
)
def test_a_background_that_does_not_fit(options, targets, sentence):
    with pytest.raises(InputError, match=f"^metric f1:{options}: {sentence}$"):
        get_metric(f"f1:{options}")(np.eye(3), np.array(targets))
    with pytest.raises(InputError, match=r"expected logits \[samples, classes\] and one class for each sample$"):
        get_metric("f1:background=0")(np.eye(3), np.array([0, 1]))
