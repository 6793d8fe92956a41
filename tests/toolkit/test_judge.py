"""One reference, many candidates: the reference is run once, intervals come from paired draws, steps have units."""

import functools
import json
import math
import re

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.judged_models import matrix_model, tagged
from support.text_models import exported_model
from typer.testing import CliRunner

from lstm_edge.cli import app
from lstm_edge.data import Dataset
from lstm_edge.data.text import TextData
from lstm_edge.validation import sequences as sequence_validation
from lstm_edge.validation import text as text_validation
from lstm_edge.validation.judge import Budget, Judge, choose_budget, default_metric, load_data, validate
from lstm_edge_runtime.artifact import TRAILER_KEY, append_trailer
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.metrics import METRICS

EYE = np.eye(3)
# A candidate that mistakes class 0 for class 1 where both are near.
SKEWED = np.array([[1, 0.8, 0], [0, 1, 0], [0, 0, 1]])
TEXT = TextData(name="made", text="".join(np.random.default_rng(0).choice(list("abcdefghijk \n"), 6000)))


@functools.cache
def loud_model(noise):
    """Return the language model with a head that is 30 times as loud, so that it decides by what it read."""
    model = onnx.ModelProto()
    model.ParseFromString(exported_model())
    heads = [t for t in model.graph.initializer if sorted(t.dims)[-1:] == [17] and "embedding" not in t.name]
    assert any(len(t.dims) == 2 for t in heads)
    for tensor in heads:
        weight = numpy_helper.to_array(tensor)
        change = np.random.default_rng(4).normal(size=weight.shape) * noise
        weight = (30 * weight + change if weight.ndim == 2 else 0 * weight).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    kept = [entry for entry in model.metadata_props if entry.key != TRAILER_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    return append_trailer(model.SerializeToString(deterministic=True))


def sequences(samples=60):
    """Return sequences of which the sum over time is mostly largest at the sample's class."""
    generator = np.random.default_rng(1)
    lengths = generator.integers(1, 6, samples)
    y = np.arange(samples) % 3
    x = 0.8 * generator.normal(size=(int(lengths.sum()), 3)).astype(np.float32)
    x[np.cumsum(lengths) - lengths, y] += 2
    return Dataset(name="made", x=x, lengths=lengths, y=y)


def linear(data, weight):
    """Return float64 answers of the matrix to each step, or to each sequence's sum."""
    if data.per_step:
        return data.x @ weight.astype(np.float32)
    return np.stack([row.sum(axis=0) for row in data]) @ weight.astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["accuracy", "macro-f1", "auc", "cross-entropy", "agreement"])
def test_a_second_candidate_gets_the_report_that_it_would_get_alone(monkeypatch, metric):
    data = sequences()
    reference, first, second = (matrix_model(w, per_step=False) for w in (EYE, SKEWED, SKEWED.T))
    runs = []
    real = sequence_validation.predict
    monkeypatch.setattr(sequence_validation, "predict", lambda *a, **k: runs.append(a[0]) or real(*a, **k))
    judge = Judge(reference, data, metric=metric, seed=3)
    assert runs == []
    reports = [judge.judge(candidate, max_drop="1pt", confidence=0.9) for candidate in (first, second)]
    assert runs == [reference, first, second]
    alone = [
        validate(c, reference, data, metric=metric, seed=3, max_drop="1pt", confidence=0.9) for c in (first, second)
    ]
    assert reports == alone
    assert reports[0].drop != reports[1].drop
    assert judge.metric.name == metric
    assert judge.dataset is data


def test_progress_covers_what_is_run():
    data = sequences(5)
    judge = Judge(matrix_model(EYE, per_step=False), data)
    for total in (10, 5):
        seen = []
        judge.judge(matrix_model(SKEWED, per_step=False), on_progress=lambda *figures, seen=seen: seen.append(figures))
        assert seen == [(done, total) for done in range(1, total + 1)]


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["accuracy", "macro-f1", "auc", "cross-entropy"])
def test_the_report_is_that_of_arrays(metric):
    data = sequences()
    report = validate(matrix_model(SKEWED, per_step=False), matrix_model(EYE, per_step=False), data, metric=metric)
    measure, sign = METRICS[metric], 1 if METRICS[metric].more_is_better else -1
    old, new = measure(linear(data, EYE), data.y), measure(linear(data, SKEWED), data.y)
    # float32 sums of a few numbers, in another order.
    assert (report.reference, report.candidate) == pytest.approx((old, new), abs=1e-6)
    assert report.drop == pytest.approx(sign * (old - new), abs=1e-6)
    assert report.agreement == np.mean(linear(data, EYE).argmax(1) == linear(data, SKEWED).argmax(1))
    # The intervals, from draws of another seed made here: they move by some percent of their width.
    generator, drops, values = np.random.default_rng(77), [], []
    for rows in generator.integers(len(data), size=(3000, len(data))):
        a, b = (measure(linear(data, w)[rows], data.y[rows]) for w in (EYE, SKEWED))
        drops.append(sign * (a - b))
        values.append(b)
    for low, high, expected in (
        (report.drop_low, report.drop_high, drops),
        (report.candidate_low, report.candidate_high, values),
    ):
        width = high - low
        assert width > 0
        assert (low, high) == pytest.approx(tuple(np.quantile(expected, [0.025, 0.975])), abs=0.12 * width)
    assert report.drop_low <= report.drop <= report.drop_high
    assert (report.interval_confidence, report.units, report.resamples) == (0.95, 60, 10_000)


def test_the_interval_is_two_sided_at_the_confidence_and_the_bound_one_sided():
    candidate, reference = matrix_model(SKEWED, per_step=False), matrix_model(EYE, per_step=False)
    wide, narrow = (validate(candidate, reference, sequences(), confidence=c) for c in (0.95, 0.5))
    assert wide.drop_low < narrow.drop_low <= narrow.drop_high < wide.drop_high
    assert wide.drop_bound < wide.drop_high
    assert (narrow.interval_confidence, wide.interval_confidence) == (0.5, 0.95)
    # 95 % in the middle have 97.5 % below their end.
    assert wide.drop_high == validate(candidate, reference, sequences(), confidence=0.975).drop_bound


def test_the_intervals_are_shown_and_in_the_json():
    report = validate(matrix_model(SKEWED, per_step=False), matrix_model(EYE, per_step=False), sequences())
    rows = dict(report.rows())
    # The drop of a share in points, the share in percent.
    assert rows["drop, 95 % interval"] == f"{100 * report.drop_low:.3g} to {100 * report.drop_high:.3g} pt"
    assert rows["candidate, 95 % interval"] == f"{report.candidate_low:.2%} to {report.candidate_high:.2%}"
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    for key in ("drop_low", "drop_high", "candidate_low", "candidate_high", "interval_confidence", "units"):
        assert document[key] == getattr(report, key)
    assert document["drop_bound"] is None


@pytest.mark.parametrize("time_first", [False, True])
@pytest.mark.parametrize("metric", ["accuracy", "macro-f1", "auc", "cross-entropy", "agreement"])
def test_taggers_are_judged_by_steps(metric, time_first):
    data = tagged()
    reference, candidate = (matrix_model(w, time_first=time_first) for w in (EYE, SKEWED))
    report = validate(candidate, reference, data, metric=metric)
    measure = METRICS[metric]
    decided = linear(data, EYE).argmax(1)
    targets = decided if metric == "agreement" else data.y
    assert report.reference == pytest.approx(measure(linear(data, EYE), targets), abs=1e-6)
    assert report.candidate == pytest.approx(measure(linear(data, SKEWED), targets), abs=1e-6)
    assert (report.samples, report.samples_are, report.units) == (len(data.x), "steps", 12)
    assert report.agreement == np.mean(decided == linear(data, SKEWED).argmax(1))
    assert ("validated on", f"tagged, {len(data.x)} steps") in report.rows()


def test_a_bootstrap_of_steps_draws_sequences():
    """Whole sequences are right or wrong: drawn step by step the interval would be much too narrow."""
    data = tagged(40, mistakes=0.4)
    report = validate(matrix_model(EYE), matrix_model(EYE), data)
    right = [float((row.argmax(1) == data.target(number)).mean()) for number, row in enumerate(data)]
    assert set(right) == {0.0, 1.0}
    deviation = math.sqrt(report.candidate * (1 - report.candidate) / 40)
    # 3.92 standard deviations of a share over 40; lengths differ, which makes it a little wider.
    assert report.candidate_high - report.candidate_low == pytest.approx(3.92 * deviation, rel=0.2)
    by_step = 3.92 * math.sqrt(report.candidate * (1 - report.candidate) / len(data.x))
    assert report.candidate_high - report.candidate_low > 1.7 * by_step


def test_values_of_steps_are_judged_too():
    data = tagged()
    values = Dataset(name="v", x=data.x, lengths=data.lengths, y=data.x[:, :2], per_step=True)
    report = validate(
        matrix_model(1.5 * EYE[:, :2]), matrix_model(EYE[:, :2]), values, metric="mean-absolute-error", max_drop="9pt"
    )
    assert (report.reference, report.agreement, report.samples_are) == (0.0, None, "steps")
    assert report.candidate == pytest.approx(0.5 * np.abs(values.y).mean(), abs=1e-6)


def test_models_and_data_of_steps_and_of_sequences_are_not_mixed():
    of_steps, of_sequences = matrix_model(EYE), matrix_model(EYE, per_step=False)
    with pytest.raises(InputError, match=r"^model: output 'y' has no time axis, but data tagged has a target for each"):
        validate(of_sequences, of_sequences, tagged())
    with pytest.raises(InputError, match=r"^model: output 'y' has a time axis, expected one answer for each sequence$"):
        validate(of_steps, of_steps, sequences())


def test_an_undefined_metric_is_one_sentence():
    data = sequences()
    one = Dataset(name="one", x=data.x, lengths=data.lengths, y=np.zeros(len(data), np.int64))
    model = matrix_model(EYE, per_step=False)
    expected = "model: metric auc: all 60 samples are of class 0, expected samples of two classes or more"
    with pytest.raises(InputError, match="^" + re.escape(expected) + "$"):
        validate(model, model, one, metric="auc")
    values = Dataset(name="v", x=data.x, lengths=data.lengths, y=data.x[: len(data), :1])
    with pytest.raises(InputError, match=r"^metric agreement: data v has y of float32, expected integer classes$"):
        validate(model, model, values, metric="agreement")


def test_a_perplexity_beyond_all_numbers_is_refused():
    loud = text_validation.Means(sums=np.array([1e4]), counts=np.array([1.0]), finish=np.exp)
    from lstm_edge.validation.report import parse_budget, weigh

    with pytest.raises(InputError, match=r"^metric perplexity: is inf for the reference; expected a finite number$"):
        weigh(METRICS["perplexity"], loud, loud, parse_budget("1%"), confidence=None, seed=0)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("metric", ["perplexity", "bits-per-character", "agreement"])
def test_a_text_is_judged_with_or_without_kept_logits(monkeypatch, metric, kept):
    if not kept:
        monkeypatch.setattr(text_validation, "KEPT_BYTES", 1000)
    judge = Judge(loud_model(0.0), TEXT, metric=metric, seed=1)
    totals, reports = [], []
    for candidate in (loud_model(2.0), loud_model(0.0), loud_model(2.0)):
        seen = []
        reports.append(judge.judge(candidate, max_drop="50%", on_progress=lambda *f, seen=seen: seen.append(f)))
        assert seen[-1][0] == seen[-1][1]
        totals.append(seen[-1][1] // reports[-1].samples)
    assert totals == ([2, 1, 1] if kept else [2, 2, 2])
    assert (
        reports[0]
        == reports[2]
        == validate(loud_model(2.0), loud_model(0.0), TEXT, metric=metric, seed=1, max_drop="50%")
    )
    assert (reports[1].drop, reports[1].drop_low, reports[1].drop_high) == (0.0, 0.0, 0.0)
    assert reports[0].drop_low < reports[0].drop < reports[0].drop_high
    # Two rows of 2,999 tokens are six blocks each.
    assert (reports[0].units, reports[0].samples_are) == (12, "tokens")


def test_agreement_on_a_text_is_the_share_of_equal_decisions():
    report = validate(loud_model(2.0), loud_model(0.0), TEXT, metric="agreement", max_drop="50pt")
    assert report.reference == 1.0
    assert report.candidate == pytest.approx(report.agreement, abs=1e-12)
    assert 0.5 < report.candidate < 1
    assert load_data("king-james", "agreement").name == "king-james:test"


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_judges_a_tagger(tmp_path):
    data = tagged()
    np.savez(tmp_path / "t.npz", x=data.x, lengths=data.lengths, y=data.y)
    (tmp_path / "old.onnx").write_bytes(matrix_model(EYE))
    (tmp_path / "new.onnx").write_bytes(matrix_model(SKEWED))
    arguments = ("validate", tmp_path / "new.onnx", "--against", tmp_path / "old.onnx", "--data", tmp_path / "t.npz")
    result = run(*arguments, "--metric", "macro-f1", "--json", "--confidence", 0.9, "--max-drop", "90pt")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert (document["metric"], document["samples_are"], document["interval_confidence"]) == ("macro-f1", "steps", 0.9)
    assert document["drop_low"] < document["drop_high"]
    assert run(*arguments, "--metric", "auc", "--max-drop", "0pt").exit_code == 1


def test_the_metric_is_the_datas_own_where_none_is_named(tmp_path):
    generator = np.random.default_rng(3)
    x, lengths = generator.normal(size=(40, 2)).astype(np.float32), np.full(20, 2)
    np.savez(tmp_path / "classes.npz", x=x, lengths=lengths, y=np.arange(20) % 2)
    np.savez(tmp_path / "values.npz", x=x, lengths=lengths, y=generator.normal(size=20).astype(np.float32))
    (tmp_path / "text.txt").write_text(TEXT.text)
    names = {"classes.npz": "accuracy", "values.npz": "mean-squared-error", "text.txt": "perplexity"}
    for name, metric in names.items():
        data = load_data(str(tmp_path / name), None)
        assert default_metric(data) == metric
        assert (
            choose_budget(None, metric, data)
            == choose_budget("0.5pt", None, data)
            == Budget(amount=0.5, relative=False)
        )
        if metric != "accuracy":
            # Half a point of squared error may be anything: nobody chose it.
            with pytest.raises(
                InputError, match=rf"the metric is {metric}, which has no default budget: give one with"
            ):
                choose_budget(None, None, data)
