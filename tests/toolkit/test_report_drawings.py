"""The drawings of the HTML report lie where the values are, and its numbers are written for people."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.html_page import Page, rows
from support.report_cases import example, failed, with_evaluations

from lstm_edge.axes import linear_axis, log_axis
from lstm_edge.html_report import render_report
from lstm_edge.html_report.bars import draw_histogram
from lstm_edge.html_report.scatter import Point, draw_scatter, pareto_front
from lstm_edge.html_report.words import (
    Scale,
    measured,
    percent,
    ratio,
    seconds,
    signed_percent,
    size,
    step_time,
    tick_text,
)
from lstm_edge.precision_search import Evaluation
from lstm_edge.precision_search.report import Baseline

HAIR = 0.11  # pixels are rounded to a tenth


def point(x, drop, **more):
    values = {"low": None, "high": None, "role": "search", "title": ""} | more
    return Point(x=x, drop=drop, **values)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(-4, 4)), max_size=12))
def test_the_front_is_what_no_other_beats(points):
    judged = [point(x, drop) for x, drop in points]

    def beaten(p):
        return any(o.x <= p.x and o.drop <= p.drop and (o.x, o.drop) != (p.x, p.drop) for o in judged)

    front = pareto_front(judged)
    assert {(p.x, p.drop) for p in front} == {(p.x, p.drop) for p in judged if not beaten(p)}
    assert [p.x for p in front] == sorted({p.x for p in front})


def scatter(points, **more):
    settings = {"budget": 1.0, "budget_text": "budget", "width": 600, "height": 400}
    return draw_scatter(points, x_text=str, y_text=lambda value, _: str(value), **(settings | more))


def test_places_follow_the_values():
    drawing = scatter([point(100, 1.0, low=0.5, high=1.5), point(400, 0.0), point(200, 3.0)])
    left, middle, right = drawing.marks
    assert left.x < middle.x < right.x
    # Logarithmic: twice the size is the same way everywhere.
    assert abs((middle.x - left.x) - (right.x - middle.x)) <= 2 * HAIR
    assert left.y == drawing.budget_y
    assert right.y == drawing.zero_y
    assert left.high < left.y < left.low  # pixels count downwards
    assert abs((left.low - left.y) - (left.y - left.high)) <= 2 * HAIR
    assert [mark.front for mark in drawing.marks] == [True, False, True]
    assert drawing.front == f"M{left.x} {left.y}L{right.x} {left.y}L{right.x} {right.y}L{drawing.x.end} {right.y}"


def test_near_sizes_are_on_a_linear_axis():
    drawing = scatter([point(100, 0.5), point(150, 0.4), point(200, 0.3)])
    places = [mark.x for mark in drawing.marks]
    assert abs(places[0] + places[2] - 2 * places[1]) <= 2 * HAIR


def test_a_few_far_points_are_at_the_edge_and_say_so():
    far = point(10, 50.0, low=40.0, high=60.0, role="baseline", label="int4", far="+50")
    near = [point(60 + k, 0.5 - 0.1 * k) for k in range(6)]
    drawing = scatter([far, *near, point(50, -90.0)])
    marks = {mark.beyond: mark for mark in drawing.marks}
    assert set(marks) == {-1, 0, 1}
    assert (marks[1].y, marks[1].low, marks[1].high) == (drawing.y.end, None, None)
    assert marks[-1].y == drawing.y.start
    assert drawing.beyond == 2
    assert [label.text for label in drawing.labels] == ["budget", "int4: +50"]
    # Many far ones are what there is to see.
    assert scatter([far, far, near[0]]).beyond == 0


def test_a_budget_far_above_the_points_is_named_and_does_not_squeeze_them():
    points = [point(60 + k, 0.01 * k) for k in range(4)]
    for budget, shown in ((0.1, True), (1.0, False)):
        drawing = scatter(points, budget=budget)
        assert (drawing.budget_y is not None) == shown
        [label] = drawing.labels
        assert label.text == ("budget" if shown else "↑ budget, far above")
        assert drawing.y.end < label.y < drawing.y.start


def test_without_different_losses_nothing_is_drawn():
    report = with_evaluations(example(), lambda found: replace(found, drop=0.0))
    page = Page(render_report(report))
    assert "There is nothing to draw" in page.text
    assert "Size and loss of perplexity, on the tuning data" in [e["text"] for e in page.all("h2")]
    assert not [e for e in page.all("path") if e.get("class") == "front" and "viewBox" in e]


def test_a_single_file_and_a_budget_of_nothing_can_be_drawn():
    drawing = scatter([point(1000, 0.0)], budget=0.0)
    assert drawing.x.start < drawing.marks[0].x < drawing.x.end
    assert drawing.marks[0].y == drawing.budget_y == drawing.zero_y


def test_what_was_not_judged_is_counted_and_what_is_there_twice_is_drawn_once():
    judged = {"value": 3.0, "low": 0.0, "high": 0.1, "passed": False}

    def built(number, size, drop):
        known = {} if drop is None else judged | {"drop": drop}
        parts = {"x": str(number)}
        return Evaluation(number=number, stage="search", parts=parts, bytes=size, saved=0, step_us=None, **known)

    baselines = tuple(Baseline(name=name, evaluation=built(9, size, 0.01)) for name, size in (("a", 100), ("b", 50)))
    tried = [(100, 0.01), (50, 0.01), (100, 0.02), (70, 0.02), (70, 0.02), (60, None)]
    evaluations = tuple(built(number, size, drop) for number, (size, drop) in enumerate(tried))
    report = replace(failed(), baselines=baselines, evaluations=evaluations)
    page = Page(render_report(report))
    assert "1 candidate was not evaluated or not timed, and has no mark." in page.text
    titles = [e["text"].split(":")[0] for e in page.all("title") if e["in"][-1] == "g"]
    drawn = ["number 2", "number 3", "a", "b"]
    assert "a: 100 bytes, loss +0.0100000 (0 to +0.1000000)" in [
        e["text"] for e in page.all("title")
    ]  # without its parts
    assert Counter(titles) == Counter(drawn * 2)  # at both widths
    assert "has no mark" not in Page(render_report(replace(report, evaluations=evaluations[:-1]))).text


def test_tuning_data_are_in_the_chart_and_held_out_data_in_the_drawing_of_the_verdicts():
    report = example()
    chosen, evaluations = report.answer, report.evaluations
    refused = replace(chosen, parts={"head": "int4"}, passed=False)
    page = Page(render_report(replace(report, evaluations=(*evaluations[:-1], refused, chosen))))
    assert chosen == evaluations[-1]
    tuned = next(e for e in evaluations if e.stage != "held-out" and e.parts == chosen.parts)
    description = page.all("desc")[0]["text"]
    assert f"The chosen file: number {tuned.number}:" in description
    labels = Counter(e["text"] for e in page.all("text") if "halo" in e.get("class", ""))
    drop = f"{chosen.drop:+.4f}"
    assert labels["chosen"] == labels[f"candidate, 521 kB: {drop} (chosen)"] == 2  # at each width
    assert labels[f"candidate, 521 kB: {drop} (over)"] == 2
    assert len(page.all("circle", **{"class": "ring"})) == 3  # two widths and the legend
    found = rows(page, "Size, metric and loss")
    heads = [number for number, row in enumerate(found) if len(row) == 1]
    assert [found[number][0].split(",")[0] for number in heads] == ["Tuning data", "Held-out data"]
    assert found[heads[1] - 1][0] == found[-1][0] == "● chosen"
    assert found[heads[1] - 1][3:5] != found[-1][3:5]
    held = [e for e in page.all("tr") if "held" in e.get("class", "").split()]
    assert len(held) == 3 + 2 * 2  # of the comparison, and two files of two rows


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 8))
def test_a_linear_axis_has_round_ticks_inside(low, span, count):
    high = low + span
    axis = linear_axis(low, high, 400.0, 10.0, count=count, text=lambda value, decimals: f"{value:.{decimals}f}")
    assert (axis.at(low), axis.at(high)) == (400.0, 10.0)
    assert len(axis.ticks) <= count + 1
    assert all(10.0 <= tick.at <= 400.0 for tick in axis.ticks)
    assert len({tick.text for tick in axis.ticks}) == len(axis.ticks)
    for tick in axis.ticks:
        assert abs(axis.at(float(tick.text)) - tick.at) <= HAIR


@given(st.floats(0.5, 1e9), st.floats(1.2, 1e6))
def test_a_logarithmic_axis_has_few_ticks_inside(low, factor):
    axis = log_axis(low, low * factor, 0.0, 300.0, count=5, text=repr)
    assert len(axis.ticks) <= 5
    places = [tick.at for tick in axis.ticks]
    assert places == sorted(places)
    assert all(abs(axis.at(float(tick.text)) - tick.at) <= HAIR for tick in axis.ticks)


def test_the_histogram_shows_single_outliers_and_no_empty_bins():
    drawing = draw_histogram([-2.0, -1.0, 0.0, 1.0, 2.0], [1, 0, 10_000, 100], width=600, height=300)
    heights = [bar.height for bar in drawing.bars]
    assert len(heights) == 3
    assert heights[0] > 5
    assert heights[1] > heights[2] > heights[0]
    # Logarithmic: from 1 to 100 is as far as from 100 to 10,000.
    assert abs((heights[2] - heights[0]) - (heights[1] - heights[2])) <= 3 * HAIR
    assert [bar.title for bar in drawing.bars] == ["-2 to -1: 1", "0 to 1: 10,000", "1 to 2: 100"]
    assert all(a.x < b.x for a, b in pairwise(drawing.bars))


# The words.


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (size(812), "812 bytes"),
        (size(999_400), "999 kB"),
        (size(999_700), "1.000 MB"),
        (size(1_234_567), "1.23 MB"),
        (size(45_600_000), "45.6 MB"),
        (size(2_500_000_000), "2.50 GB"),
        (size(-152), "−152 bytes"),
        (size(-1_500), "−1.50 kB"),
        (size(0), "0 bytes"),
        (tick_text(size(1_500_000)), "1.5 MB"),
        (tick_text(size(700_000)), "700 kB"),
        (tick_text(step_time(25.0)), "25 µs"),
        (step_time(1234.5), "1,234 µs"),
        (step_time(None), "not measured"),
        (measured(28.32, "{:.1f} dB"), "28.3 dB"),
        (measured(float("inf"), "{:.1f} dB"), "not measured"),
        (measured(None, "{:.1f} dB"), "not measured"),
        (ratio(26, 100), "0.26×"),
        (ratio(9, 100), "0.090×"),
        (percent(74, 100), "−26%"),
        (percent(120, 100), "+20%"),
        (signed_percent(-0.01, -2.0), "−0.50%"),
        (signed_percent(0.01, 0.0), None),
        (seconds(12.34), "12.3 s"),
        (seconds(150), "2.5 min"),
        (seconds(9000), "2.5 h"),
    ],
)
def test_numbers_are_written_for_people(found, expected):
    assert found == expected


def test_drops_have_the_decimals_that_the_budget_asks_for():
    nats = Scale(name="cross-entropy", unit="nats", more_is_better=False, allowed=0.0167)
    assert [nats.drop(v) for v in (0.02, -0.1234567, 1e-6, 0.0, None)] == [
        "+0.0200",
        "−0.1235",
        "0.0000",
        "0",
        "not measured",
    ]
    assert (nats.value(3.1415926), nats.budget) == ("3.1416 nats", "0.0167 nats")
    assert (nats.interval(-0.01, 0.02), nats.interval(None, None)) == ("−0.0100 to +0.0200", "not measured")
    assert nats.drop_axis == "loss of cross-entropy, nats"
    share = Scale(name="accuracy", unit="share", more_is_better=True, allowed=0.005)
    assert (share.value(0.98765), share.drop(0.00123), share.budget) == ("98.77%", "+0.123 points", "0.5 points")
    assert share.tick(0.005, 3) == "0.5"
    assert share.drop_axis == "loss of accuracy, percentage points"
    # The unit of several words is on the axis, and not behind each figure.
    squares = Scale(name="mse", unit="squared units of the output", more_is_better=False, allowed=0.000579)
    assert (squares.value(0.011377), squares.loss(-0.000198), squares.budget) == ("0.011377", "−0.000198", "0.000579")
    assert squares.drop_axis == "loss of mse, squared units of the output"
    # A budget that asks for more than seven decimals: three significant digits, as on the command line.
    tiny = Scale(name="cross-entropy", unit="nats", more_is_better=False, allowed=3.09e-9)
    assert (tiny.drop(6.8448e-7), tiny.drop(-0.00018563061), tiny.budget) == ("+6.84e-07", "−0.000186", "3.09e-09 nats")
    exact = Scale(name="error", unit="", more_is_better=False, allowed=0.0)
    assert exact.drop(0.012345) == "+0.0123"
    # What float32 has follows from the candidate and its drop, in either direction.
    assert share.reference(0.98, 0.01) == pytest.approx(0.99)
    assert nats.reference(3.2, 0.1) == pytest.approx(3.1)
