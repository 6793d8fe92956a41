"""The plots of ``train`` and ``select``: no text over another or outside, and data that fill their axes."""

import math
from itertools import combinations, pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lstm_edge.axes import log_axis
from lstm_edge.training.figures import epoch_ticks, shortened, value_text
from lstm_edge.training.plot import draw_curves
from lstm_edge.training.record import Epoch
from lstm_edge.training.selection import Candidate, SelectionReport
from lstm_edge.training.selection.plot import draw_selection
from lstm_edge.training.selection.settings import Architecture, Limits

# Pixels by which two boxes may touch: text boxes have empty lines above and below the letters.
TOUCH = 1.0
OWN = "my_package.metrics.of_a_line_in_the_second_hall:cost_of_the_rejected_parts:less"
LONG = "recordings/" + "of_a_campaign_in_the_second_hall_" * 4 + ".parquet"


def candidate(hidden, mean, error, size, *, layers=1, density=1.0, within=True):
    return Candidate(
        architecture=Architecture(hidden=hidden, layers=layers, density=density),
        parameters=size,
        int8_bytes=size,
        step_us=1.0,
        streamed=True,
        within_limits=within,
        scores=(mean - error, mean + error),
    )


def selection(*candidates, metric="accuracy", limit=None, data="japanese-vowels"):
    return SelectionReport(
        data=data,
        samples=270,
        task="classification",
        metric=metric,
        split="stratified",
        folds=5,
        seed=0,
        limits=Limits(max_bytes=limit),
        study="s",
        best=candidates[-1].architecture,
        chosen=candidates[len(candidates) // 2].architecture,
        candidates=candidates,
    )


def training(count, loss, metric, norm, name="accuracy"):
    history = tuple(
        Epoch(
            number=number,
            train_loss=loss(number),
            held_out_loss=1.1 * loss(number),
            held_out_metric=metric(number),
            grad_norm_mean=norm(number),
            grad_norm_max=3 * norm(number),
            learning_rate=1e-3,
            updates=1,
            seconds=1.0,
            per_second=1.0,
        )
        for number in range(1, count + 1)
    )
    return SimpleNamespace(history=history, metric=name, best=history[count // 2])


MANY = tuple(
    candidate(h, 0.8 + 0.02 * math.log2(h) + 0.01 * n, 0.008, int(4 * h * h * n * d) + 9000, layers=n, density=d)
    for d in (1.0, 0.33)
    for n in (1, 2, 3)
    for h in (8, 16, 32, 48, 64, 96, 128)
)
SELECTIONS = {
    "one": selection(candidate(32, 0.9, 0.01, 15_000)),
    "equal": selection(*(candidate(h, 0.95, 0.0, 500 * h) for h in (16, 32, 64))),
    "near": selection(*(candidate(30 + k, 0.95 + 0.002 * k, 0.003, 20_000 + 300 * k) for k in range(4)), metric=OWN),
    "decades": selection(
        *(candidate(h, 10.0**-k, 10.0**-k / 5, 10 ** (3 + 2 * k)) for k, h in enumerate((2, 64, 512, 4096))),
        metric="mean-squared-error",
        data=LONG,
    ),
    "many": selection(*MANY, limit=20_000),
    "limit far away": selection(*MANY[:4], limit=5_000_000),
}
TRAININGS = {
    "one": training(1, lambda _: 2.0, lambda _: 0.3, lambda _: 1.0),
    "equal": training(10, lambda _: 2.0, lambda _: 0.3, lambda _: 0.0),
    "decades": training(500, lambda k: 10.0 ** (6 - k / 80), lambda k: 1e6 / k, lambda k: 10.0 ** (3 - k / 50), "mse"),
    "tiny": training(3, lambda k: 1e-7 * (1 + 1 / k), lambda k: 0.999 + 1e-5 * k, lambda k: 1e-9 * k),
    "own metric": training(
        2, lambda k: 2.0 / k, lambda k: -12.0 + k, float, "my_package.metrics.of_the_line:cost:less"
    ),
}


def drawn(figure):
    """Return the figure's box, and the box of each visible text under its text; the layout is done."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    texts = []
    for axes in figure.axes:
        texts += [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        texts += [*axes.get_xticklabels(), *axes.get_yticklabels()]
    texts += [text for legend in figure.legends for text in legend.get_texts()]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts if text.get_text()]
    boxes += [("the legend", legend.get_window_extent(renderer)) for legend in figure.legends]
    return figure.bbox, boxes


def check_texts(figure):
    frame, boxes = drawn(figure)
    for text, box in boxes:
        outside = min(box.x0 - frame.x0, box.y0 - frame.y0, frame.x1 - box.x1, frame.y1 - box.y1)
        assert outside >= 0, text
    for (one, a), (other, b) in combinations([entry for entry in boxes if entry[0] != "the legend"], 2):
        width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert min(width, height) <= TOUCH, f"{one!r} is over {other!r}"


def check_axes(axes):
    """The data fill at least half of each direction in which they differ, and the ticks say where they are."""
    lines = [
        line.get_xydata() for line in axes.lines if len(line.get_xdata()) and line.get_transform() == axes.transData
    ]
    points = axes.transData.transform(np.concatenate(lines))
    for values, length, ticks in zip(
        points.T, (axes.bbox.width, axes.bbox.height), (axes.get_xticklabels(), axes.get_yticklabels()), strict=True
    ):
        span = np.ptp(values)
        assert span == pytest.approx(0, abs=1e-6) or span >= 0.5 * length
        texts = [tick.get_text() for tick in ticks]
        assert len(set(texts)) == len(texts) <= 10
        assert texts


@pytest.mark.slow
@pytest.mark.parametrize("name", SELECTIONS)
def test_a_plot_of_a_selection_has_readable_texts_and_no_empty_half(name):
    figure = draw_selection(SELECTIONS[name])
    check_texts(figure)
    check_axes(figure.axes[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAININGS)
def test_a_plot_of_a_training_has_readable_texts_and_no_empty_half(name):
    figure = draw_curves(TRAININGS[name])
    check_texts(figure)
    for axes in figure.axes:
        check_axes(axes)


@pytest.mark.slow
@settings(max_examples=4, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(1, 4096), st.floats(0.0, 1.0), st.floats(0.0, 0.2), st.integers(1000, 10**9)),
        min_size=1,
        max_size=12,
        unique_by=lambda found: found[0],
    )
)
def test_any_selection_has_readable_texts(found):
    figure = draw_selection(selection(*(candidate(*values) for values in found)))
    check_texts(figure)
    check_axes(figure.axes[0])


@pytest.mark.slow
def test_what_has_no_room_is_counted_and_the_chosen_one_is_named():
    report = SELECTIONS["many"]
    axes = draw_selection(report).axes[0]
    missing = len(MANY) - len(axes.texts)
    assert 0 < missing < len(MANY) / 2
    assert f"{missing} of {len(MANY)} numbers have no room here" in axes.get_xlabel()
    assert str(report.chosen.hidden) == axes.texts[0].get_text()
    assert "no room" not in draw_selection(SELECTIONS["near"]).axes[0].get_xlabel()


@given(st.floats(1e-9, 1e9), st.floats(1.0001, 1e9), st.integers(3, 8))
def test_a_logarithmic_axis_always_has_two_ticks(low, factor, count):
    axis = log_axis(low, low * factor, 0.0, 300.0, count=count, text=repr)
    assert 2 <= len(axis.ticks) <= count
    assert all(a.at < b.at for a, b in pairwise(axis.ticks))


@given(st.integers(1, 10**6))
def test_the_ticks_of_epochs_are_few_and_whole(last):
    ticks = epoch_ticks(last)
    assert 1 <= len(ticks) <= 6
    assert all(1 <= tick <= last for tick in ticks)


def test_the_numbers_of_an_axis_are_short():
    share, error = value_text("accuracy"), value_text("mean-squared-error")
    assert [share(0.95, 2), share(0.9525, 4), share(0.5, 12)] == ["95%", "95.25%", "50%"]
    assert [error(v, d) for v, d in ((0.5, 2), (-12.0, 0), (1.5e-7, 9), (1e6, 0), (0.01, 12), (0.0, 8))] == [
        "0.50",
        "-12",
        "1.5e-7",
        "1e6",
        "0.01",
        "0",
    ]
    assert shortened("short", 9) == "short"
    assert shortened("0123456789", 7) == "012…789"
