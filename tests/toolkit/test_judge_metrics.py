"""The metrics of signals and detections, judged from data to report: targets, budget, intervals, refusals."""

import re

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.judged_models import matrix_model

from lstm_edge import validate
from lstm_edge.data import Dataset, NamedDataset
from lstm_edge_runtime.card import BATCH, TIME, ModelCard, Streaming, TensorSpec, serialize_card
from lstm_edge_runtime.errors import BudgetError, InputError
from lstm_edge_runtime.metrics import get_metric

# The float32 products of onnxruntime and NumPy differ in the last bit.
CLOSE = 1e-6

# Of two features the first is what is looked for; a candidate lets a little of the second through.
EXACT, LEAKY = [[1.0], [0.0]], [[1.0], [0.03]]


def noisy(*, sequences=12, seed=0, detect=False, labels=()):
    """Return sequences of a signal and a noise; the target is the signal with some noise, or where it is positive."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(20, 40, sequences)
    x = generator.normal(size=(int(lengths.sum()), 2)).astype(np.float32)
    x[:, 0] = np.convolve(x[:, 0], np.ones(5), "same")
    y = x[:, 0] + 0.1 * generator.normal(size=len(x)).astype(np.float32)
    y = (y > 0).astype(np.int64) if detect else y.astype(np.float32)
    return Dataset(name="made", x=x, lengths=lengths, y=y, per_step=True, labels=labels)


def outputs_of(data, weight):
    return [row @ np.float32(weight) for row in data], [data.target(number) for number in range(len(data))]


@pytest.mark.parametrize(
    ("metric", "budget", "detect"),
    [
        ("si-sdr", "0.5dB", False),
        ("sdr", "0.5", False),
        ("si-sdr:skip", "0.5pt", False),
        ("mae", "0.01", False),
        ("mse:output=y", "5%", False),
        ("pearson", "0.01", False),
        ("f1:0", "2pt", True),
        ("f1:threshold=0.5", "5%", True),
        ("event-f1:1,threshold=0", "10pt", True),
        ("event-f1:threshold=0,match=both", "10pt", True),
    ],
)
def test_the_report_has_the_metric_of_both_models_and_paired_intervals(metric, budget, detect):
    data = noisy(detect=detect)
    report = validate(
        matrix_model(LEAKY), matrix_model(EXACT), data, metric=metric, max_drop=budget, confidence=0.9, seed=3
    )
    measure = get_metric(metric)
    old, new = (measure.estimate_sequences(*outputs_of(data, weight)) for weight in (EXACT, LEAKY))
    sign = 1 if measure.more_is_better else -1
    assert (report.metric, report.unit, report.budget) == (metric, measure.unit, budget)
    assert (report.reference, report.candidate) == pytest.approx((old.value, new.value), abs=CLOSE)
    assert report.drop == pytest.approx(sign * (old.value - new.value), abs=CLOSE)
    assert (report.units, report.samples, report.samples_are) == (12, len(data.x), "steps")
    # The bootstrap draws whole sequences, and both models are measured on the same ones.
    drawn = np.random.default_rng(3).integers(12, size=(10_000, 12))
    drops = sign * (old.resample(drawn) - new.resample(drawn))
    assert (report.drop_low, report.drop_high) == pytest.approx(
        np.quantile(drops, [0.05, 0.95], method="inverted_cdf"), abs=CLOSE
    )
    assert report.drop_bound == pytest.approx(np.quantile(drops, 0.9, method="inverted_cdf"), abs=CLOSE)
    assert report.passed == (report.drop_bound <= report.max_drop)


def test_a_budget_in_decibels_passes_and_breaks():
    data = noisy()
    for budget, passed in (("5dB", True), ("0.01dB", False)):
        report = validate(matrix_model(LEAKY), matrix_model(EXACT), data, metric="si-sdr", max_drop=budget)
        assert report.passed is passed
        assert report.max_drop == float(budget.removesuffix("dB"))
        assert f"allowed drop ({budget})" in dict(report.rows())
        assert dict(report.rows())["si-sdr, reference"].endswith(" dB")
    with pytest.raises(BudgetError, match=r"^over the budget: si-sdr goes from .* allowed is 0\.01 dB \(0\.01dB\)$"):
        report.check()


def test_a_detector_of_named_classes_finds_the_second_one():
    data = noisy(detect=True, labels=("noise", "speech"))
    report = validate(matrix_model(LEAKY), matrix_model(EXACT), data, metric="f1:0")
    plain = validate(matrix_model(LEAKY), matrix_model(EXACT), noisy(detect=True), metric="f1:0")
    assert (report.reference, report.candidate) == (plain.reference, plain.candidate)
    two = [[0.0, 1.0], [0.0, 0.0]]
    logits = validate(matrix_model(two), matrix_model(two), data, metric="f1:0.5")
    assert logits.reference == pytest.approx(report.reference)


@pytest.mark.parametrize(
    ("metric", "budget", "sentence"),
    [
        ("si-sdr", "1%", "budget 1%: metric si-sdr is in dB; expected 1dB (a percentage of decibels has no meaning)"),
        ("mae", "1dB", "budget 1dB: metric mae is in units of the output; expected 1pt (points of the metric) or 1%"),
        ("f1", "1pt", "model: metric f1: a target is "),
        ("accuracy", "1pt", "metric accuracy: data made has y of float32, expected integer classes"),
        ("si-sdr:0.5", "1dB", "metric si-sdr:0.5: '0.5' is not an option of si-sdr; expected silence=refuse|skip, out"),
    ],
)
def test_what_does_not_fit_is_one_sentence(metric, budget, sentence):
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}"):
        validate(matrix_model(LEAKY), matrix_model(EXACT), noisy(), metric=metric, max_drop=budget)


def test_a_signal_needs_values():
    with pytest.raises(InputError, match=r"^metric si-sdr: data made has y of int64, expected float32 values$"):
        validate(matrix_model(LEAKY), matrix_model(EXACT), noisy(detect=True), metric="si-sdr")


def test_integers_of_a_file_are_samples(tmp_path):
    data = noisy()
    pulse_code = np.round(1000 * data.y).astype(np.int16)
    np.savez(tmp_path / "made.npz", x=data.x, lengths=data.lengths, y=pulse_code)
    report = validate(matrix_model(LEAKY), matrix_model(EXACT), str(tmp_path / "made.npz"), metric="si-sdr")
    expected = get_metric("si-sdr").estimate_sequences(
        outputs_of(data, EXACT)[0],
        np.split(pulse_code.astype(np.float32), np.cumsum(data.lengths)[:-1]),
    )
    assert report.reference == pytest.approx(expected.value, abs=CLOSE)


def two_outputs(leak=0.0, *, channels_first=False) -> bytes:
    """Return a model of x [batch, time, 2] to ``signal`` [batch, time, 1] and ``alarm``, the same times ten."""
    time_axes = (BATCH, 2, TIME) if channels_first else (BATCH, TIME, 2)
    answer = (BATCH, 1, TIME) if channels_first else (BATCH, TIME, 1)
    weight = np.array([[1.0, leak]] if channels_first else [[1.0], [leak]], np.float32)
    product = ["w", "x"] if channels_first else ["x", "w"]
    graph = helper.make_graph(
        [helper.make_node("MatMul", product, ["signal"]), helper.make_node("Mul", ["signal", "ten"], ["alarm"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, time_axes)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, answer) for name in ("signal", "alarm")],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.float32(10), "ten")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    card = ModelCard(
        inputs=(TensorSpec(name="x", dtype="float32", axes=time_axes),),
        outputs=tuple(TensorSpec(name=name, dtype="float32", axes=answer) for name in ("signal", "alarm")),
        streaming=Streaming(verdict="none", reason="made by hand"),
        minimum_onnxruntime="1.18",
    )
    helper.set_model_props(model, {"lstm_edge": serialize_card(card)})
    return model.SerializeToString()


def named(data, detect, *, channels_first=False, **more):
    """Return the same sequences with a target for each output, with or without the axis of one channel."""
    rows = [data[number] for number in range(len(data))]
    targets = [data.target(number) for number in range(len(data))]
    marks = [detect.target(number) for number in range(len(data))]
    if channels_first:
        rows, targets = [row.T.copy() for row in rows], [target[np.newaxis] for target in targets]
        marks = [mark[np.newaxis] for mark in marks]
    else:
        targets = [target[:, np.newaxis] for target in targets]
    return NamedDataset(name="made", inputs={"x": rows}, targets={"signal": targets, "alarm": marks}, **more)


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize(
    ("metric", "budget"),
    [
        ("si-sdr:output=signal", "1dB"),
        ("sdr:silence=skip,output=signal", "1dB"),
        ("mae:output=signal", "0.1"),
        ("mse:output=signal", "0.1"),
        ("pearson:output=signal", "0.1"),
        ("f1:0,output=alarm", "5pt"),
        ("event-f1:1,threshold=0,output=alarm", "20pt"),
    ],
)
def test_an_output_of_several_is_measured_as_if_it_were_alone(metric, budget, channels_first):
    data, detect = noisy(), noisy(detect=True)
    files = (two_outputs(0.03, channels_first=channels_first), two_outputs(channels_first=channels_first))
    report = validate(*files, named(data, detect, channels_first=channels_first), metric=metric, max_drop=budget)
    plain = metric.partition("output=")[0].rstrip(",:")
    alone = detect if metric.endswith("alarm") else data
    expected = validate(matrix_model(LEAKY), matrix_model(EXACT), alone, metric=plain, max_drop=budget)
    same = ("reference", "candidate", "drop", "drop_low", "drop_high", "samples", "units", "samples_are")
    for field in same:
        found, wanted = getattr(report, field), getattr(expected, field)
        assert found == (wanted if isinstance(wanted, str) else pytest.approx(wanted, rel=1e-4, abs=CLOSE)), field


def test_the_output_must_be_named_and_exist():
    data = named(noisy(), noisy(detect=True))
    with pytest.raises(
        InputError, match=r"^metric mae: data made has targets for signal, alarm; name the output to me"
    ):
        validate(two_outputs(0.03), two_outputs(), data, metric="mae")
    with pytest.raises(InputError, match=r"^metric mae:output=noise: .* has no output 'noise'; expected one of signal"):
        validate(two_outputs(0.03), two_outputs(), data, metric="mae:output=noise")
    with pytest.raises(InputError, match=r"^metric mae:output=noise: .* has no output 'noise'; expected one of y$"):
        validate(matrix_model(LEAKY), matrix_model(EXACT), noisy(), metric="mae:output=noise")


def test_named_classes_of_one_score_are_the_second_one():
    data, detect = noisy(), noisy(detect=True)
    for labels in ((), ("noise", "speech"), ("0", "1")):
        given = named(data, detect, labels=labels)
        report = validate(two_outputs(0.03), two_outputs(), given, metric="f1:0,output=alarm")
        expected = validate(matrix_model(LEAKY), matrix_model(EXACT), detect, metric="f1:0")
        assert report.candidate == pytest.approx(expected.candidate)


def test_a_whole_signal_without_time_axis_is_one_sequence():
    # A model of fixed windows: [batch, 16] to [batch, 16].
    generator = np.random.default_rng(5)
    windows = generator.normal(size=(30, 16)).astype(np.float32)
    data = NamedDataset(
        name="made",
        inputs={"x": [row[np.newaxis] for row in windows]},
        targets={"y": list(windows + 0.1 * generator.normal(size=(30, 16)).astype(np.float32))},
    )
    weight = np.eye(16, dtype=np.float32)
    report = validate(
        matrix_model(weight + 0.02, per_step=False),
        matrix_model(weight, per_step=False),
        data,
        metric="si-sdr",
        max_drop="9dB",
    )
    expected = [get_metric("si-sdr").estimate(windows, np.stack(data.targets["y"])).value]
    assert [report.reference] == pytest.approx(expected, abs=1e-4)
    assert (report.samples, report.samples_are, report.units) == (30, "sequences", 30)
    with pytest.raises(InputError, match="event-f1:1: got one target for each sequence, expected one for each step"):
        validate(matrix_model(weight, per_step=False), matrix_model(weight, per_step=False), data, metric="event-f1:1")
