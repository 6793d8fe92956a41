"""The comparator fails closed: shapes, dtypes, NaN, infinity, emptiness, and the sentence it says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lstm_edge_exporters.verify.cases import Case, Comparison
from lstm_edge_exporters.verify.compare import CLOSE, EXACT, FLOAT64, STREAM, Difference, assert_close, compare, worst
from lstm_edge_runtime.errors import ParityError


def test_difference_says_how_much_and_where() -> None:
    expected = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    got = expected.copy()
    got[1, 2], got[0, 1] = 5.5, 2.1
    difference = compare("y", got, expected)
    assert difference == Difference(
        name="y", max_abs=0.5, mean_abs=pytest.approx(0.1), index=(1, 2), got=5.5, expected=6.0, scale=6.0
    )
    assert str(difference) == "y: 0.5 at [1, 2] (got 5.5, expected 6.0)"


def test_over_the_tolerance_raises_the_sentence() -> None:
    with pytest.raises(ParityError) as caught:
        assert_close("h", np.array([[0.0, 1.5]]), np.array([[0.0, 1.0]]), CLOSE)
    assert str(caught.value) == "h: differs by 0.5 at [0, 1]: got 1.5, expected 1.0, tolerance CLOSE is 2e-06"


@pytest.mark.parametrize("tolerance", [EXACT, FLOAT64, CLOSE, STREAM], ids=lambda tolerance: tolerance.name)
def test_the_tolerance_itself_passes_and_the_next_float_does_not(tolerance) -> None:
    expected = np.zeros(3)
    assert assert_close("y", np.array([0, tolerance.absolute, 0]), expected, tolerance).max_abs == tolerance.absolute
    with pytest.raises(ParityError, match=f"tolerance {tolerance.name} is "):
        assert_close("y", np.array([0, np.nextafter(tolerance.absolute, 1), 0]), expected, tolerance)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("sides", ["got", "expected", "both"])
def test_non_finite_is_a_failure_on_either_side_and_on_both(value: float, dtype: type, sides: str) -> None:
    got, expected = np.zeros((2, 2), dtype), np.zeros((2, 2), dtype)
    if sides in ("got", "both"):
        got[1, 0] = value
    if sides in ("expected", "both"):
        expected[1, 0] = value
    side = "expected" if sides == "expected" else "got"
    message = rf"^y: {side} is {value} at \[1, 0\], expected finite numbers on both sides$"
    with pytest.raises(ParityError, match=message):
        compare("y", got, expected)


@pytest.mark.parametrize(
    ("got", "expected", "message"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2)), r"y: got shape \(2, 3\), expected \(3, 2\)"),
        (np.zeros((1, 3)), np.zeros(3), r"y: got shape \(1, 3\), expected \(3,\)"),
        (np.zeros(3, np.float32), np.zeros(3), "y: got dtype float32, expected float64"),
        (np.zeros((0, 3)), np.zeros((0, 3)), r"y: nothing to compare in shape \(0, 3\), expected at least one element"),
        (np.array(["a"]), np.array(["a"]), "y: cannot compare dtype <U1, expected floats, integers or booleans"),
    ],
)
def test_what_cannot_be_compared_is_a_failure(got: np.ndarray, expected: np.ndarray, message: str) -> None:
    with pytest.raises(ParityError, match=f"^{message}$"):
        compare("y", got, expected)


def test_integers_are_compared_exactly_past_2_to_the_53() -> None:
    big = np.array([2**53, -(2**63)])
    assert compare("n", big, big).max_abs == 0.0
    with pytest.raises(ParityError, match=r"^n: differs by 1 at \[0\]"):
        assert_close("n", big + np.array([1, 0]), big, EXACT)
    assert compare("n", np.array([2**63 - 1]), np.array([-(2**63)])).max_abs == 2.0**64


def test_booleans_and_scalars() -> None:
    assert compare("b", np.array([True, False]), np.array([True, True])).index == (1,)
    assert compare("s", np.float32(1.5), np.float32(1.0)).index == ()
    with pytest.raises(ParityError, match=r"^n: differs by 3 at \[\]: got 4.0"):
        assert_close("n", np.array(4), np.array(1), EXACT)


def test_huge_floats_do_not_overflow_into_a_pass() -> None:
    top = np.finfo(np.float64).max
    assert compare("y", np.array([top]), np.array([-top])).max_abs == np.inf


FINITE = arrays.arrays(np.float32, (2, 3), elements=st.floats(-4, 4, width=32))


@given(values=FINITE, row=st.integers(0, 1), column=st.integers(0, 2), shift=st.floats(0.125, 2, width=32))
def test_any_single_change_is_found_where_it_is(values: np.ndarray, row: int, column: int, shift: float) -> None:
    changed = values.copy()
    changed[row, column] += np.float32(shift)
    assert assert_close("y", values, values.copy(), EXACT).max_abs == 0.0
    for got, expected in ((changed, values), (values, changed)):
        assert compare("y", got, expected).index == (row, column)
        with pytest.raises(ParityError):
            assert_close("y", got, expected, CLOSE)


def test_worst_is_the_largest_and_nothing_is_no_answer() -> None:
    small = compare("h", np.array([1.0]), np.array([1.25]))
    large = compare("c", np.array([1.0]), np.array([0.5]))
    assert worst(iter([small, large, small])) is large
    with pytest.raises(ParityError, match=r"^nothing was compared: expected at least one difference$"):
        worst([])


def test_the_scale_is_that_of_the_output_with_the_worst_difference() -> None:
    near = compare("position", np.array([1000.001]), np.array([1000.0]))
    far = compare("y", np.array([0.5, -0.75]), np.array([0.25, -0.75]))
    nothing = Comparison(against="x", max_abs_difference=0.0, tolerance=None, ran=())
    both = nothing.with_case(Case(batch=2, time=3), [near, far])
    assert (both.max_abs_difference, both.scale) == (0.25, 0.75)
    more = both.with_case(Case(batch=1, time=1), [near])
    assert (more.max_abs_difference, more.scale) == (0.25, 0.75)
    assert [str(case) for case in more.ran] == ["batch 2, time 3", "batch 1, time 1"]
