"""Validation: the report, the verdict, refusals. The models are tiny graphs with known answers."""

import json
import math
import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lstm_edge.data import Dataset, TableOptions, parse_columns
from lstm_edge.validation.figures import difference_text, value_text
from lstm_edge.validation.judge import load_data, predict, validate
from lstm_edge_runtime.card import BATCH, TIME, ModelCard, Streaming, TensorSpec, serialize_card
from lstm_edge_runtime.errors import ArtifactError, BudgetError, DataError, InputError

# float32 logits of order one against their float64 values.
ROUNDED = 1e-6


def write_model(path, weight, *, time_first=False, per_step=False, card=True, features=3, scale=1.0):
    """Write ``sum over time of x, times weight``: float32 [batch, classes] from [batch, time, features]."""
    weight = np.asarray(weight, np.float32)
    axes = (TIME, BATCH, features) if time_first else (BATCH, TIME, features)
    answer = (*axes[:2], weight.shape[1]) if per_step else (BATCH, weight.shape[1])
    nodes = [] if per_step else [helper.make_node("ReduceSum", ["x", "axis"], ["sum"], keepdims=0)]
    nodes += [helper.make_node("MatMul", ["x" if per_step else "sum", "w"], ["logits"])]
    initializers = [numpy_helper.from_array(weight * np.float32(scale), "w")]
    if not per_step:
        initializers.append(numpy_helper.from_array(np.array([0 if time_first else 1]), "axis"))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, axes)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, answer)],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    if card:
        text = serialize_card(
            ModelCard(
                inputs=(TensorSpec(name="x", dtype="float32", axes=axes),),
                outputs=(TensorSpec(name="logits", dtype="float32", axes=answer),),
                streaming=Streaming(verdict="none", reason="a sum over time"),
                minimum_onnxruntime="1.18",
            )
        )
        helper.set_model_props(model, {"lstm_edge": text})
    onnx.save(model, path)
    return path


def dataset(samples=200, classes=3):
    """Sequences of which the sum over time is largest at the sample's class, so the identity is always right."""
    generator = np.random.default_rng(5)
    lengths = generator.integers(1, 6, samples)
    y = np.arange(samples) % classes
    x = 0.1 * generator.random((int(lengths.sum()), classes)).astype(np.float32)
    starts = np.cumsum(lengths) - lengths
    x[starts, y] += 3.0
    return Dataset(name="made", x=x, lengths=lengths, y=y)


def wrong_for(data, count):
    """The same sequences, ``count`` of them with another class: the identity model is wrong for these."""
    y = data.y.copy()
    y[:count] = (y[:count] + 1) % 3
    return Dataset(name=data.name, x=data.x, lengths=data.lengths, y=y)


@pytest.fixture
def models(tmp_path):
    """A reference that is always right, and a candidate that mistakes class 0 for class 1."""
    confused = np.eye(3)[:, [1, 0, 2]]
    return write_model(tmp_path / "new.onnx", confused), write_model(tmp_path / "old.onnx", np.eye(3))


def test_the_report_has_the_figures(models, tmp_path):
    candidate, reference = models
    data = dataset()
    report = validate(candidate, reference, data)
    right = np.mean(data.y == 2)
    assert (report.metric, report.data, report.samples, report.unit) == ("accuracy", "made", 200, "share")
    assert (report.reference, report.candidate) == (1.0, pytest.approx(right))
    assert report.drop == pytest.approx(1 - right)
    assert (report.max_drop, report.budget, report.passed) == (0.005, "0.5pt", False)
    assert report.agreement == pytest.approx(right)
    old = np.stack([row.astype(np.float64).sum(axis=0) for row in data])
    difference = old[:, [1, 0, 2]] - old
    assert report.max_abs_difference == pytest.approx(np.abs(difference).max(), abs=ROUNDED)
    assert report.mean_abs_difference == pytest.approx(np.abs(difference).mean(), abs=ROUNDED)
    expected = 10 * math.log10((old**2).sum() / (difference**2).sum())
    assert report.snr_db == pytest.approx(expected, abs=1e-4)
    assert report.reference_bytes == reference.stat().st_size
    assert (report.confidence, report.drop_bound) == (None, None)
    sentence = (
        f"over the budget: accuracy goes from 100.00% to {right:.2%}, a drop of {100 * (1 - right):.3g} pt; "
        "allowed is 0.5 pt (0.5pt)"
    )
    with pytest.raises(BudgetError, match="^" + re.escape(sentence) + "$"):
        report.check()


def test_equal_models_pass_with_zero_budget_and_null_in_json(models):
    _, reference = models
    report = validate(reference, reference, dataset(), max_drop="0%")
    report.check()
    assert report.snr_db == math.inf
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert document["snr_db"] is None
    assert (document["passed"], document["drop"], document["agreement"]) == (True, 0.0, 1.0)
    wanted = {"metric", "reference", "candidate", "drop", "max_drop", "passed", "samples", "agreement"}
    assert wanted | {"max_abs_difference", "snr_db", "reference_bytes", "candidate_bytes"} <= document.keys()


@pytest.mark.parametrize(
    ("lost", "budget", "passed"),
    [(1, "0.5pt", True), (2, "0.5pt", False), (2, "1pt", True), (1, "0.5%", True), (1, "0.49%", False)],
)
def test_a_drop_of_exactly_the_budget_passes(tmp_path, lost, budget, passed):
    # The candidate is wrong for `lost` of 200 sequences: 1 is 0.005 and 0.5 points.
    data = dataset()
    report = validate_losses(tmp_path, data, lost=lost, max_drop=budget)
    assert report.drop == pytest.approx(lost / 200, abs=1e-15)
    assert report.passed is passed


def validate_losses(tmp_path, data, *, lost, gained=0, **options):
    """A fourth feature that only the candidate reads pushes chosen sequences to a wrong class."""
    x = np.concatenate([data.x, np.zeros((len(data.x), 2), np.float32)], axis=1)
    starts = np.cumsum(data.lengths) - data.lengths
    target = np.eye(3)
    x[starts[:lost], 3] = 10.0  # the candidate adds 10 to class 0 where the answer is class 1, 2, ... or 0
    x[starts[len(data) - gained :], 4] = 10.0  # the reference does, so these are lost by the reference
    y = data.y.copy()
    keep = np.where(y == 0, 1, y)
    x[starts, keep] += np.float32(5.0)
    bump = np.array([[1.0, 0.0, 0.0]])
    off = np.zeros((1, 3))
    candidate = write_model(tmp_path / "c.onnx", np.concatenate([target, bump, off]), features=5)
    reference = write_model(tmp_path / "r.onnx", np.concatenate([target, off, bump]), features=5)
    return validate(candidate, reference, Dataset(name="d", x=x, lengths=data.lengths, y=keep), **options)


def test_a_relative_budget_is_a_share_of_the_references_value(tmp_path):
    # The reference is right for 150 of 200, the candidate for 149 of these and 50 others lost by the reference.
    report = validate_losses(tmp_path, dataset(), lost=51, gained=50, max_drop="1%")
    assert report.reference == 0.75
    assert report.max_drop == pytest.approx(0.0075)
    assert report.drop == pytest.approx(0.005)
    assert report.passed


def test_the_confidence_bound_decides_when_asked_for(tmp_path):
    data = dataset()
    estimate = validate_losses(tmp_path, data, lost=51, gained=50, max_drop="1pt")
    bounded = validate_losses(tmp_path, data, lost=51, gained=50, max_drop="1pt", confidence=0.95)
    assert estimate.passed
    assert not bounded.passed
    assert bounded.drop == estimate.drop
    # 101 samples of 200 differ by one, so the mean's deviation is sqrt(0.505 / 200) = 0.050; 1.645 of these.
    assert bounded.drop_bound == pytest.approx(0.005 + 1.645 * 0.0502, abs=0.01)
    with pytest.raises(
        BudgetError, match=r"a drop of 0\.5 pt \(at most \d[\d.]* pt at confidence 0\.95\); allowed is 1 pt"
    ):
        bounded.check()


def test_a_metric_where_less_is_better_drops_when_it_rises(tmp_path):
    data = dataset()
    flat = write_model(tmp_path / "flat.onnx", np.eye(3), scale=0.1)
    sharp = write_model(tmp_path / "sharp.onnx", np.eye(3))
    worse = validate(flat, sharp, data, metric="cross-entropy", max_drop="0.1pt")
    assert worse.candidate > worse.reference
    assert worse.drop == pytest.approx(worse.candidate - worse.reference)
    assert (worse.max_drop, worse.unit, worse.passed) == (0.1, "nats", False)
    better = validate(sharp, flat, data, metric="cross-entropy", max_drop="0pt")
    assert better.passed
    assert better.drop < 0


def test_regression_has_no_decisions(tmp_path):
    data = dataset()
    sums = np.stack([row.sum(axis=0) for row in data])
    values = Dataset(name="v", x=data.x, lengths=data.lengths, y=sums)
    reference = write_model(tmp_path / "r.onnx", np.eye(3))
    candidate = write_model(tmp_path / "c.onnx", np.eye(3), scale=1.5)
    report = validate(candidate, reference, values, metric="mean-absolute-error", max_drop="10pt")
    assert report.agreement is None
    assert report.reference < ROUNDED
    assert report.candidate == pytest.approx(0.5 * np.abs(sums).mean(), abs=ROUNDED)


def test_time_first_and_cardless_models_run_too(tmp_path):
    data = dataset(samples=7)
    expected = predict(write_model(tmp_path / "a.onnx", np.eye(3)), data).outputs
    assert expected.shape == (7, 3)
    turned = write_model(tmp_path / "b.onnx", np.eye(3), time_first=True)
    bare = write_model(tmp_path / "c.onnx", np.eye(3), card=False)
    assert np.array_equal(predict(turned, data).outputs, expected)
    assert np.array_equal(predict(bare, data).outputs, expected)


def test_progress_covers_both_models(models):
    seen = []
    validate(*models, dataset(samples=5), on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 10) for done in range(1, 11)]


def test_models_may_be_bytes(models, tmp_path):
    candidate, reference = models
    data = dataset(samples=5)
    assert validate(candidate.read_bytes(), reference.read_bytes(), data) == validate(candidate, reference, data)
    other = write_model(tmp_path / "other.onnx", np.ones((5, 3)), features=5)
    with pytest.raises(InputError, match=r"^model: input 'x' is float32\[batch, time, 5\]"):
        predict(other.read_bytes(), data)


def test_a_bundled_name_means_its_test_split(tmp_path):
    model = write_model(tmp_path / "m.onnx", np.random.default_rng(0).normal(size=(12, 9)), features=12)
    report = validate(model, model, "japanese-vowels")
    assert (report.data, report.samples) == ("japanese-vowels:test", 370)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"metric": "f2"}, "metric 'f2': unknown; expected one of accuracy"),
        ({"max_drop": "little"}, "max_drop is 'little', expected a number"),
        ({"confidence": 95.0}, "confidence is 95.0, expected a share above 0 and below 1, such as 0.95"),
        (
            {"metric": "mean-squared-error"},
            "metric mean-squared-error: data made has y of int64, expected float32 values",
        ),
    ],
)
def test_wrong_arguments_are_refused_before_a_model_is_opened(tmp_path, options, sentence):
    with pytest.raises(InputError, match="^" + re.escape(sentence)):
        validate(tmp_path / "none.onnx", tmp_path / "none.onnx", dataset(samples=3), **options)


def test_models_that_do_not_fit_are_refused(tmp_path):
    data = dataset(samples=3)
    good = write_model(tmp_path / "good.onnx", np.eye(3))
    wide = write_model(tmp_path / "wide.onnx", np.ones((3, 4)))
    steps = write_model(tmp_path / "steps.onnx", np.eye(3), per_step=True)
    other = write_model(tmp_path / "other.onnx", np.ones((5, 3)), features=5)
    broken = write_model(tmp_path / "nan.onnx", np.eye(3), scale=np.nan)
    for candidate, sentence in (
        (
            wide,
            f"model {wide}: its outputs are [4] for each sequence, the reference's are [3]; expected the same shape",
        ),
        (steps, f"model {steps}: output 'logits' has a time axis, expected one answer for each sequence"),
        (other, f"model {other}: input 'x' is float32[batch, time, 5], but data made has float32[batch, time, 3]"),
        (broken, f"model {broken}: output 'logits' holds NaN or infinity for sequence 0"),
    ):
        with pytest.raises(InputError, match="^" + re.escape(sentence) + "$"):
            validate(candidate, good, data)
    small = write_model(tmp_path / "small.onnx", np.ones((3, 2)))
    with pytest.raises(InputError, match="the classes go from 0 to 2, but the model has 2 outputs"):
        validate(small, small, data)


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=re.escape(str(tmp_path / "none.onnx"))):
        validate(tmp_path / "none.onnx", tmp_path / "none.onnx", dataset(samples=3))


def give_labels(path, labels):
    model = onnx.load(path)
    text = next(entry for entry in model.metadata_props if entry.key == "lstm_edge")
    text.value = json.dumps(json.loads(text.value) | {"labels": labels})
    onnx.save(model, path)
    return path


def csv_of(path, names):
    """Write one sequence of one step for each name; the identity answers with the name's number among a, b and c."""
    rows = [[f"{name}{number}", 0, *np.eye(3)["abc012".index(name) % 3], name] for number, name in enumerate(names)]
    lines = ["sequence,step,x0,x1,x2,target", *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_a_file_that_lacks_a_class_is_numbered_as_the_model_is(tmp_path):
    named = give_labels(write_model(tmp_path / "named.onnx", np.eye(3)), ["a", "b", "c"])
    assert validate(named, named, csv_of(tmp_path / "ac.csv", "acca")).reference == 1.0
    plain = write_model(tmp_path / "plain.onnx", np.eye(3))
    assert validate(plain, plain, csv_of(tmp_path / "02.csv", "0220")).reference == 1.0


def test_a_label_that_the_model_never_saw_is_refused(tmp_path):
    named = give_labels(write_model(tmp_path / "named.onnx", np.eye(3)), ["a", "b", "d"])
    with pytest.raises(DataError, match="the label 'c' was never seen in training; expected one of 'a', 'b', 'd'"):
        validate(named, named, csv_of(tmp_path / "ac.csv", "acca"))


def test_models_with_other_labels_are_not_compared(tmp_path):
    one = give_labels(write_model(tmp_path / "one.onnx", np.eye(3)), ["a", "b", "c"])
    other = give_labels(write_model(tmp_path / "other.onnx", np.eye(3)), ["c", "b", "a"])
    with pytest.raises(InputError, match=r"other\.onnx: its labels differ from the reference's"):
        validate(other, one, csv_of(tmp_path / "abc.csv", "abc"))


def test_columns_of_a_csv_have_any_names_and_integers_are_values_for_a_metric_of_values(tmp_path):
    path = tmp_path / "load.csv"
    path.write_text("day,hour,a,b,c,peak\n1,0,1,2,3,6\n1,1,1,0,0,6\n2,5,0,4,0,4\n")
    model = write_model(tmp_path / "m.onnx", np.ones((3, 1)))
    columns = parse_columns("sequence=day,step=hour,target=peak")
    data = load_data(str(path), "mean-absolute-error", table=TableOptions(columns=columns))
    assert validate(model, model, data, metric="mean-absolute-error").reference == pytest.approx(0.5, abs=ROUNDED)
    with pytest.raises(InputError, match=r"are for tables, leave them out"):
        load_data("king-james", "perplexity", table=TableOptions(columns=columns))


def test_a_share_is_in_percent_and_a_difference_of_two_in_points():
    assert (value_text(0.9432, "share"), difference_text(0.00333, "share")) == ("94.32%", "0.333 pt")
    assert (value_text(1.5, "nats"), difference_text(-0.25, "nats")) == ("1.5 nats", "-0.25 nats")
    assert difference_text(0.1, "") == "0.1"


def test_the_report_never_prints_a_drop_in_percent(tmp_path):
    report = validate_losses(tmp_path, dataset(), lost=51, gained=50, max_drop="1%", confidence=0.95)
    rows = dict(report.rows())
    assert rows["accuracy, reference"].endswith("%")
    drops = {name: text for name, text in rows.items() if "drop" in name}
    assert len(drops) == 4
    assert all(text.endswith(" pt") and "%" not in text for text in drops.values()), drops
