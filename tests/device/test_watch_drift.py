"""The population stability index against values worked out by hand, and what a changed microphone does to it."""

import dataclasses
import math

import numpy as np
import pytest
from streamed import MODELS

from lstm_edge_runtime import CardError, Metrics, Session
from lstm_edge_runtime.card import TensorSpec
from lstm_edge_runtime.reference_data import FeatureHistogram, ReferenceData
from lstm_edge_runtime.watch.drift import feature_count, feature_histograms, feature_rows, psi
from lstm_edge_runtime.watch.inputs import InputCounts, value_edges

FEATURES = 6
ROWS = np.random.default_rng(0).normal(size=(20_000, FEATURES)).astype(np.float32)


def test_the_index_of_two_bins_by_hand():
    # Shares (count + 1/2) / (total + 1): 3 of 7 and 1 of 3 give 3.5/8 and 1.5/4 in the first bin.
    p, q = 3.5 / 8, 1.5 / 4
    expected = (q - p) * math.log(q / p) + (p - q) * math.log((1 - q) / (1 - p))
    assert psi(np.array([3, 4]), np.array([1, 2])) == pytest.approx(expected, rel=1e-12)


def test_the_index_of_equal_shares_is_zero_and_of_an_empty_bin_finite():
    assert psi(np.array([9.5, 9.5, 9.5]), np.array([99.5, 99.5, 99.5])) == pytest.approx(0, abs=1e-15)
    # 10 and 0 against 0 and 10: shares 10.5/11 and 0.5/11, so 2 * (10/11) * ln 21.
    assert psi(np.array([10, 0]), np.array([0, 10])) == pytest.approx(20 / 11 * math.log(21), rel=1e-12)


def test_a_bin_that_does_not_exist_counts_for_nothing():
    two = psi(np.array([3.0, 4.0]), np.array([1.0, 2.0]))
    assert psi(np.array([3.0, 4.0, 0.0]), np.array([1.0, 2.0, 0.0]), np.array([True, True, False])) == two


def test_deciles_are_values_of_the_data_and_counts_are_theirs():
    [found] = feature_histograms(np.arange(1, 101, dtype=np.float32)[:, None])
    assert found.edges == tuple(range(10, 91, 10))
    assert found.counts == (10,) * 10


def test_repeated_values_share_a_bin_and_smaller_ones_would_show():
    [found] = feature_histograms(np.array([[0.0]] * 75 + [[1.0]] * 25, np.float32))
    assert found.edges == (float(str(np.nextafter(np.float32(0), np.float32(-1)))), 0.0, 1.0)
    assert found.counts == (0, 75, 25, 0)
    [constant] = feature_histograms(np.full((7, 1), 0.1, np.float32))
    assert constant.counts == (0, 7, 0)
    assert np.float32(constant.edges[1]) == np.float32(0.1)


@pytest.mark.parametrize(
    ("axes", "shape", "features"),
    [
        (("batch", "time", 3), (3,), 3),
        (("batch", "time", 3), (2, 3), 3),
        (("time", "batch", 3), (4, 2, 3), 3),
        (("batch", 2, 3, "time"), (1, 2, 3, 5), 6),
        (("batch", 2, 3, "time"), (2, 3), 6),
        (("batch", "time"), (1, 5), 1),
        (("batch", "time", 300), (1, 2, 300), 1),
    ],
)
def test_rows_of_a_piece(axes, shape, features):
    spec = TensorSpec(name="x", dtype="float32", axes=axes)
    assert feature_count(spec) == features
    piece = np.random.default_rng(0).normal(size=shape)
    rows = feature_rows(spec, piece)
    assert rows.shape == (piece.size // features, features)
    if axes == ("batch", 2, 3, "time") and len(shape) == 4:
        np.testing.assert_array_equal(rows[4], piece[0, :, :, 4].reshape(-1))


@pytest.fixture(scope="module")
def session():
    """A model whose card has reference data."""
    opened = Session(MODELS / "exported_int8.onnx")
    opened.card = dataclasses.replace(
        opened.card, reference=ReferenceData(data="made", inputs={"x": feature_histograms(ROWS)})
    )
    return opened


def drift_of(session, frames):
    metrics = Metrics(every=1)
    stream = session.stream(metrics=metrics)
    for frame in frames:
        stream.push(frame.astype(np.float32))
    return metrics.read().sampled.inputs["x"].drift


def test_unchanged_inputs_have_a_small_index(session):
    found = drift_of(session, np.random.default_rng(1).normal(size=(1500, FEATURES)))
    assert 0 < found.mean < 0.03
    assert found.mean <= found.worst < 0.1
    # 23 digests of 64 rows and one of 28, each of which halves every 512 rows.
    weights = [64 * 2 ** (-(1500 - 64 * (n + 1)) / 512) for n in range(23)]
    assert found.rows == pytest.approx(sum(weights) + 28, rel=1e-9)


@pytest.mark.parametrize(
    ("what", "change"),
    [("gain", lambda x: 2 * x), ("offset", lambda x: x + 1), ("noise", lambda x: x + np.sign(x))],
)
def test_a_change_of_all_features_shows_in_the_mean(session, what, change):
    assert drift_of(session, change(np.random.default_rng(2).normal(size=(900, FEATURES)))).mean > 0.25, what


def test_a_dead_channel_is_the_worst_feature(session):
    frames = np.random.default_rng(3).normal(size=(900, FEATURES))
    frames[:, 4] = 0
    found = drift_of(session, frames)
    assert found.worst_feature == 4
    assert found.worst > 1
    assert found.mean < found.worst / 5 + 0.03


def test_a_value_on_an_edge_is_in_the_bin_below_it():
    opened = Session(MODELS / "exported_int8.onnx")
    steps = np.random.default_rng(5).integers(0, 3, size=(900, FEATURES)).astype(np.float32)
    reference = ReferenceData(data="made", inputs={"x": feature_histograms(steps)})
    opened.card = dataclasses.replace(opened.card, reference=reference)
    assert drift_of(opened, np.random.default_rng(6).permutation(steps)).worst < 0.05


def test_the_window_forgets(session):
    rng = np.random.default_rng(4)
    old, new = rng.normal(size=(3000, FEATURES)), 3 * rng.normal(size=(1200, FEATURES))
    assert drift_of(session, [*new, *old]).mean < 0.05
    assert drift_of(session, [*old, *new]).mean > 0.25


def test_without_reference_data_or_with_few_rows_the_metric_is_absent(session):
    assert drift_of(session, ROWS[:100]) is None
    assert drift_of(Session(MODELS / "exported_int8.onnx"), ROWS[:300]) is None
    metrics = Metrics(every=1)
    stream = session.stream(metrics=metrics)
    for frame in ROWS[:200]:
        stream.push(frame)
    assert 'lstm_edge_input_psi_mean{input="x"}' in metrics.to_prometheus()
    assert '"psi_worst_feature"' in metrics.to_json_line()


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"z": (FeatureHistogram(edges=(0.0,), counts=(1, 1)),)}, "no float input of this name"),
        ({"x": (FeatureHistogram(edges=(0.0,), counts=(1, 1)),)}, "has 1 histograms, expected 6"),
        ({"x": (FeatureHistogram(edges=(1.0, 0.0), counts=(1, 1, 1)),) * 6}, "ascending edges"),
        ({"x": (FeatureHistogram(edges=(0.0,), counts=(1,)),) * 6}, "one count more than edges"),
        ({"x": (FeatureHistogram(edges=(0.0,), counts=(-1, 3)),) * 6}, "counts of at least 0"),
        ({"x": (FeatureHistogram(edges=(0.0,), counts=(0, 0)),) * 6}, "one value or more"),
    ],
)
def test_reference_data_that_contradict_the_model_are_refused(inputs, sentence):
    opened = Session(MODELS / "exported_int8.onnx")
    opened.card = dataclasses.replace(opened.card, reference=ReferenceData(data="made", inputs=inputs))
    with pytest.raises(CardError, match=sentence):
        opened.stream(metrics=Metrics())


@pytest.mark.parametrize("shape", [(2, 3), (1, 2, 3), (1, 1, 2, 3), (1, 2, 3, 1)])
def test_a_frame_counts_as_one_row_whatever_its_axes(shape):
    axes = ("batch", 2, 3, "time") if shape[-1] == 1 else ("batch", "time", 2, 3)
    spec = TensorSpec(name="x", dtype="float32", axes=axes)
    frame = np.float32([[-5.0, -0.5, 0.05], [0.5, 5.0, 50.0]])
    counts = InputCounts(spec, feature_histograms(ROWS), 2)
    held = counts.take(frame.reshape(shape), counts.take(-frame.reshape(shape), 0))
    assert held == 2
    sums = counts.counted(counts.nothing(), held)
    assert sums.values[-1] == 12
    assert sums.values.tolist() == [np.count_nonzero(np.stack([frame, -frame]) <= e) for e in value_edges(spec)]
    # Each value in the column of its feature: the ninth decile of a normal distribution is 1.28.
    assert sums.below[8].tolist() == [1, 2, 2, 2, 1, 1]
