"""Weights to int8: half a step of error, and sums that stay exact in float32 however long a column is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lstm_edge_exporters.quantize.rounding import Scheme, round_columns, round_matrix, round_rows
from lstm_edge_runtime.errors import QuantizationError

LARGEST = float(np.finfo(np.float32).max)
# A column of smaller weights is rounded as if its largest magnitude were this.
SMALLEST_AMAX = 2.0**-100
ELEMENTS = (
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.floats(-1, 1, width=32),
    st.floats(5, 6, width=32),
    st.floats(-(2.0**-99), 2.0**-99, width=32),
    st.sampled_from([LARGEST, -LARGEST, 0.0, -0.0, 1e-45, -1e-45, 1.0]),
)


def test_rounding_weights() -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((1041, 9)).astype(np.float32)
    weight[:, 0] = 0
    rounded, scale = round_columns("w", weight)
    assert (rounded.dtype, scale.dtype, scale.shape) == (np.int8, np.float32, (9,))
    assert np.abs(rounded).max() == 127
    # Half a step, and the last bits of a division in float32.
    assert (np.abs(rounded * scale - weight) <= 0.5001 * scale).all()
    table, row_scale = round_rows("t", weight.T.copy())
    np.testing.assert_array_equal(table, rounded.T)
    np.testing.assert_array_equal(row_scale[:, 0], scale)
    for bad in (np.nan, np.inf):
        weight[3, 2] = bad
        with pytest.raises(QuantizationError, match=r"layer\.w: the weight holds NaN or infinity"):
            round_columns("layer.w", weight)
        with pytest.raises(QuantizationError, match=r"layer\.w: the weight holds NaN or infinity"):
            round_rows("layer.w", weight)


@pytest.mark.parametrize("columns", [1040, 1041, 1500, 4096, 20000])
@pytest.mark.parametrize("value", [1.0, -0.3, 1e-30])
def test_a_columns_sum_stays_under_the_limit(columns: int, value: float) -> None:
    weight = np.full((columns, 2), value, np.float32)
    weight[::2, 1] *= -1
    rounded, scale = round_columns("w", weight)
    assert np.abs(rounded.astype(np.int64)).sum(axis=0).max() <= 132104
    # At 20,000 columns six levels are left: half of one is 8 %.
    np.testing.assert_allclose(rounded * scale, weight, rtol=0.5 / (132104 / columns - 1))
    if columns == 1040:
        assert np.abs(rounded).max() == 127


@pytest.mark.parametrize(
    ("values", "q", "amax"),
    [
        ([5.0, 6.0], [106, 127], 6.0),
        ([-5.0, -6.0], [-106, -127], 6.0),
        ([0.0, -0.0], [0, 0], SMALLEST_AMAX),
        ([3e38, -LARGEST], [112, -127], LARGEST),
        ([1e-45, -1e-45], [0, 0], SMALLEST_AMAX),
        ([2.0**-100, -(2.0**-101)], [127, -64], SMALLEST_AMAX),
        ([-0.25, 0.0], [-127, 0], 0.25),
    ],
)
def test_a_columns_scale_is_its_largest_magnitude_by_127(values: list[float], q: list[int], amax: float) -> None:
    """Of one sign, of zeros, of what is nearly too large or too small for float32; a column of one element too."""
    column = np.array(values, np.float32)[:, None]
    expected = np.float32(amax) / np.float32(127)
    for rounded, scale in (round_columns("w", column), tuple(part.T for part in round_rows("w", column.T))):
        np.testing.assert_array_equal(rounded[:, 0], q)
        np.testing.assert_array_equal(np.ravel(scale), [expected])
    one, scale = round_columns("w", column[:1])
    assert abs(one.item() * scale.item() - values[0]) <= 0.501 * scale.item()


@given(data=st.data(), k=st.integers(1, 40), n=st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_every_element_is_within_half_a_step(data: st.DataObject, k: int, n: int) -> None:
    elements = data.draw(st.sampled_from(ELEMENTS))
    weight = data.draw(arrays(np.float32, (k, n), elements=elements))
    for rounded, scale in (round_columns("w", weight), round_rows("w", weight)):
        assert np.abs(rounded.astype(int)).max() <= 127
        assert np.isfinite(scale).all()
        assert scale.min() >= np.float32(SMALLEST_AMAX / 127)
        # 127 steps with float32's relative error of 2**-24 twice.
        error = np.abs(rounded * scale.astype(np.float64) - weight.astype(np.float64))
        assert (error <= (0.5 + 4e-5) * scale.astype(np.float64)).all()


def test_a_column_at_the_limit_is_left_alone() -> None:
    """1,040 magnitudes of 127 and one of 24 sum to 132,104 itself; one of 25 is one too many."""
    at_the_limit = np.array([127.0] * 1040 + [24.0], np.float32)[:, None]
    rounded, scale = round_columns("w", at_the_limit)
    assert (np.abs(rounded.astype(int)).sum(), scale.item()) == (132104, 1.0)
    at_the_limit[-1] = 25.0
    rounded, scale = round_columns("w", np.repeat(at_the_limit, 2, axis=1) * np.array([1.0, 0.0], np.float32))
    assert np.abs(rounded.astype(int)).sum() < 132104
    # It grows in steps of 1.001 until the weights round to 126: at 127 / 126.5 = 1.004.
    assert 1.001 <= scale[0] < 1.006
    assert scale[1] == np.float32(SMALLEST_AMAX / 127), "the other column keeps its scale"


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_other_floats_are_rounded_as_their_float32(dtype: type) -> None:
    weight = np.random.default_rng(1).standard_normal((40, 6)).astype(dtype)
    for scheme in (Scheme(), Scheme(kind="int4", block=32), Scheme(kind="int4", block=32, symmetric=False)):
        got, expected = (round_matrix("w", w, scheme) for w in (weight, weight.astype(np.float32)))
        for name, array in expected.items():
            np.testing.assert_array_equal(got[name], array, strict=True)
    got, expected = round_rows("w", weight), round_rows("w", weight.astype(np.float32))
    for mine, theirs in zip(got, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs, strict=True)
