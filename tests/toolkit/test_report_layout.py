"""The drawings of the HTML report at any values: no text over another or outside, and marks that fill the frame."""

from itertools import combinations, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from lstm_edge.html_report.scatter import BOLD, CHARACTER, Point, draw_scatter
from lstm_edge.html_report.verdicts import Judged, draw_verdicts
from lstm_edge.html_report.words import Scale, size, tick_text

LINE, GAP = 15.0, 4.0
SCALE = Scale(name="mse", unit="", more_is_better=False, allowed=0.01)
WIDTHS = st.sampled_from([(860, 430), (344, 380)])
# Below the resolution of a metric in float64 there is nothing to draw.
DROPS = (st.floats(-0.05, 1.0) | st.floats(-1e-4, 1e-4)).map(lambda drop: round(drop, 9))
SPREADS = st.floats(0.0, 0.2).map(lambda spread: round(spread, 9))
SIZES = st.integers(2_000, 10**8)


def box(label, character):
    """Left, top, right and bottom of a label whose font is DejaVu Sans, the widest of the usual ones."""
    width = character * len(label.text)
    left = label.x - {"start": 0.0, "middle": width / 2, "end": width}[label.anchor]
    return left, label.y - LINE + 3, left + width, label.y + 3


def overlap(one, other):
    width, height = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    return width > 0 and height > 0


def character(label):
    return BOLD if label.role == "chosen" else CHARACTER


@settings(max_examples=60)
@given(
    st.lists(st.tuples(SIZES, DROPS, SPREADS), min_size=2, max_size=40),
    st.sampled_from([0.0, 1e-6, 1e-3, 0.01, 1.0]),
    WIDTHS,
)
def test_a_chart_has_its_texts_inside_and_its_marks_are_not_squeezed(found, budget, shape):
    names = ["float32 1.00×", "float16 0.51×", "int8 0.26×", "int4 0.17×"]
    roles = ["baseline"] * len(names) + ["search"] * len(found)
    points = [
        Point(x=x, drop=drop, low=drop - spread, high=drop + spread, role=role, title="", label=label, far="+1")
        for (x, drop, spread), role, label in zip(found, roles, names + [""] * len(found), strict=False)
    ]
    width, height = shape
    drawing = draw_scatter(
        points,
        budget=budget,
        budget_text="budget: 0.5 points",
        width=width,
        height=height,
        x_text=lambda value: tick_text(size(value)),
        y_text=SCALE.tick,
    )
    boxes = [box(label, character(label)) for label in drawing.labels]
    assert not [pair for pair in combinations(boxes, 2) if overlap(*pair)]
    for label in drawing.labels:
        left, top, right, bottom = box(label, character(label))
        assert left >= 0
        assert right <= width
        assert top >= 0
        assert bottom <= height, label
    ticks = [(tick.at, CHARACTER * len(tick.text) / 2) for tick in drawing.x.ticks]
    assert all(a + one + GAP <= b - other for (a, one), (b, other) in pairwise(ticks))
    assert len(ticks) >= 2
    # The budget and the farthest marks never leave less than a sixth of the axis to half of the marks.
    inside = [mark for mark in drawing.marks if not mark.beyond]
    assert 2 * len(inside) >= len(points)
    ends = [y for mark in inside for y in (mark.y, mark.low, mark.high) if y is not None] + [drawing.zero_y]
    if len({point.drop for point in points} | {0.0}) > 1:
        assert max(ends) - min(ends) >= 0.16 * (drawing.y.start - drawing.y.end)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(DROPS, SPREADS), min_size=1, max_size=5), DROPS.map(abs) | st.sampled_from([5.0, 60.0]), WIDTHS
)
def test_the_verdicts_have_their_texts_apart_and_inside(found, allowed, shape):
    width = shape[0]
    judged = [
        Judged(
            drop=drop,
            low=drop - spread,
            high=drop + spread,
            text=f"candidate {k}, 1.23 MB: −0.27 points (chosen)",
            short="1.23 MB: −0.27 points (chosen)",
            chosen=k == 0,
        )
        for k, (drop, spread) in enumerate(found)
    ]
    texts = {"zero_text": "no loss", "allowed_text": "budget: 0.5 points"}
    drawing = draw_verdicts(judged, allowed=allowed, width=width, **texts)
    boxes = [box(row.label, BOLD if row.chosen else CHARACTER) for row in drawing.rows]
    boxes += [box(label, CHARACTER) for label in (drawing.zero_label, drawing.allowed_label)]
    assert not [pair for pair in combinations(boxes, 2) if overlap(*pair)]
    for left, top, right, bottom in boxes:
        assert min(left, top) >= 0
        assert right <= width
        assert bottom <= drawing.height
    for row, (left, _, right, _) in zip(drawing.rows, boxes, strict=False):
        # A label is over its mark, also at the edges.
        assert left - 1 <= row.drop <= right + 1
        assert row.low <= row.drop <= row.high
        # Text of the usual length is never cut.
        assert "…" not in row.label.text
    # A budget far above never leaves less than a fifth of the axis to the losses.
    values = [0.0, *(value for one in judged for value in (one.low, one.high))]
    if max(values) > min(values):
        ends = [drawing.zero, *(x for row in drawing.rows for x in (row.low, row.high))]
        assert max(ends) - min(ends) >= 0.2 * width
    assert (drawing.allowed is None) == ("far beyond" in drawing.allowed_label.text)


def test_a_long_name_is_shortened_to_the_width():
    judged = [Judged(drop=0.1, low=None, high=None, text="x" * 300, short="x" * 200, chosen=True)]
    drawing = draw_verdicts(judged, allowed=0.0, zero_text="no loss", allowed_text="b" * 200, width=344)
    assert drawing.rows[0].label.text.endswith("x…")
    assert drawing.allowed_label.text.endswith("b…")
    assert drawing.zero_label.y != drawing.allowed_label.y
