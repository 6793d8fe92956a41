"""Weights to int4: every element within half a step, whatever the signs and sizes of a block are, and 0 stays 0."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lstm_edge_exporters.quantize.rounding import round_blocks
from lstm_edge_runtime.errors import QuantizationError

LARGEST = float(np.finfo(np.float32).max)
SMALLEST_SCALE = 2.0**-100  # a block of smaller weights gets this step


def halves(packed: np.ndarray, columns: int) -> np.ndarray:
    """The nibbles uint8 [K, N] of bytes [K, (N + 1) / 2], one by one."""
    q = np.zeros((len(packed), columns), np.uint8)
    for column in range(columns):
        q[:, column] = packed[:, column // 2] // 16 if column % 2 else packed[:, column // 2] % 16
    return q


def restored(weight: np.ndarray, *, block: int, symmetric: bool) -> tuple[np.ndarray, np.ndarray]:
    """Round; returns what the nibbles stand for and each element's step, float64 [K, N]; checks the layout."""
    packed, scale, zero = round_blocks("w", weight, block=block, symmetric=symmetric)
    k, n = weight.shape
    blocks = -(-k // block)
    assert (packed.dtype, scale.dtype, zero.dtype) == (np.uint8, np.float32, np.uint8)
    assert (packed.shape, scale.shape) == ((k, (n + 1) // 2), (blocks, n))
    assert zero.shape == ((1, 1) if symmetric else (blocks, n))
    assert np.isfinite(scale).all()
    assert scale.min() >= SMALLEST_SCALE
    # 0 is one of the sixteen values of each block.
    assert (zero == 8).all() if symmetric else zero.max() <= 15
    if n % 2:
        assert (packed[:, -1] // 16 == 0).all()
    rows = np.arange(k) // block
    steps = scale.astype(np.float64)[rows]
    zeros = np.broadcast_to(zero, scale.shape).astype(np.float64)[rows]
    return (halves(packed, n) - zeros) * steps, steps


def check_half_a_step(weight: np.ndarray, *, block: int, symmetric: bool) -> None:
    got, steps = restored(weight, block=block, symmetric=symmetric)
    # A range that holds 0 is cut at half steps: no value is further from the grid, the ends included. w / scale is at
    # most 15 and has float32's relative error of 2**-24 twice, in the division and in the scale.
    assert (np.abs(got - weight.astype(np.float64)) <= (0.5 + 1e-5) * steps).all()
    np.testing.assert_array_equal(got[weight == 0], 0.0)


@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "zero-points"])
@pytest.mark.parametrize("sign", [1, -1], ids=["positive", "negative"])
def test_a_block_of_one_sign_is_within_half_a_step(sign: int, symmetric: bool) -> None:
    """The range is widened to hold 0: that of 5..6 would have steps of 1/15, from 0 to 1, and be off by 5."""
    weight = sign * np.linspace(5, 6, 32, dtype=np.float32)[:, None]
    check_half_a_step(weight, block=32, symmetric=symmetric)
    _, scale, zero = round_blocks("w", weight, block=32, symmetric=symmetric)
    steps = (7 if sign > 0 else 8) if symmetric else 15
    np.testing.assert_allclose(scale, [[6 / steps]], rtol=2e-7)
    assert zero == (8 if symmetric else 0 if sign > 0 else 15)


def test_nibbles_scales_and_zero_points_by_hand() -> None:
    #                   two blocks of two inputs, the second short; three columns
    weight = np.array([[15.0, -8.0, 5.0], [0.0, 7.0, 10.0], [-3.0, 0.0, 1.0]], np.float32)
    packed, scale, zero = round_blocks("w", weight, block=2, symmetric=False)
    np.testing.assert_array_equal(scale, np.array([[1, 1, 10 / 15], [0.2, 2.0**-100, 1 / 15]], np.float32))
    np.testing.assert_array_equal(zero, [[0, 8, 0], [15, 0, 0]])
    # 5.0 is 7.5 steps of 10 / 15: rounded to the even 8.
    np.testing.assert_array_equal(halves(packed, 3), [[15, 0, 8], [0, 15, 15], [0, 0, 15]])
    np.testing.assert_array_equal(packed, [[15, 8], [0xF0, 15], [0, 15]])

    packed, scale, zero = round_blocks("w", weight, block=2, symmetric=True)
    np.testing.assert_array_equal(scale, np.array([[15 / 7, 1, 10 / 7], [3 / 8, 2.0**-100, 1 / 7]], np.float32))
    np.testing.assert_array_equal(zero, [[8]])
    np.testing.assert_array_equal(halves(packed, 3), [[15, 0, 12], [8, 15, 15], [0, 8, 15]])


@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "zero-points"])
def test_zeros_stay_zeros(symmetric: bool) -> None:
    weight = np.zeros((40, 3), np.float32)
    weight[5, 1], weight[33, 2] = 2.0, -0.0
    got, steps = restored(weight, block=32, symmetric=symmetric)
    np.testing.assert_array_equal(got[:, [0, 2]], 0.0)
    np.testing.assert_array_equal(got[weight == 0], 0.0)
    np.testing.assert_array_equal(steps[:, 0], SMALLEST_SCALE)
    assert got[5, 1] == pytest.approx(2.0)


@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "zero-points"])
@pytest.mark.parametrize("value", [0.3, -0.3, 1e-28, -1e-28, 1e-30, -2e-30, 1e-45, -1e-45, 3e38, -LARGEST, LARGEST])
def test_one_element_is_met(value: float, symmetric: bool) -> None:
    """The largest value of a block lies on its grid, unless its step would be below the smallest one."""
    weight = np.array([[value]], np.float32)
    check_half_a_step(weight, block=32, symmetric=symmetric)
    got, _ = restored(weight, block=32, symmetric=symmetric)
    if abs(value) > 15 * SMALLEST_SCALE:
        np.testing.assert_allclose(got, weight, rtol=1e-6)


@pytest.mark.parametrize("block", [32, 128])
@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "zero-points"])
def test_a_short_last_block_has_a_scale_of_its_elements_only(symmetric: bool, block: int) -> None:
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((block + 1, 5)).astype(np.float32)
    weight[block] = np.array([1e-3, -1e-3, 100.0, -100.0, 0.0])
    check_half_a_step(weight, block=block, symmetric=symmetric)
    _, scale, _ = round_blocks("w", weight, block=block, symmetric=symmetric)
    _, alone, _ = round_blocks("w", weight[block:], block=block, symmetric=symmetric)
    np.testing.assert_array_equal(scale[1:], alone)


def test_a_range_beyond_the_largest_float_is_rounded_too() -> None:
    """Its ends are finite, their difference is not: the step of 6.8e38 / 15 is."""
    weight = np.array([[LARGEST, 1.0], [-LARGEST, -1.0], [LARGEST / 2, 0.5]], np.float32)
    for symmetric in (True, False):
        check_half_a_step(weight, block=32, symmetric=symmetric)
    _, scale, _ = round_blocks("w", weight, block=32, symmetric=False)
    np.testing.assert_allclose(scale, [[LARGEST / 7.5, 2 / 15]], rtol=2e-7)


@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "zero-points"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(bad: float, symmetric: bool) -> None:
    weight = np.ones((3, 2), np.float32)
    weight[2, 1] = bad
    with pytest.raises(QuantizationError, match=r"^layer\.w: the weight holds NaN or infinity$"):
        round_blocks("layer.w", weight, block=32, symmetric=symmetric)


# One kind of block at a time: anything float32 has; one size and both signs; one sign; what is below the smallest step.
ELEMENTS = (
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.floats(-1, 1, width=32),
    st.floats(5, 6, width=32),
    st.floats(-6, -5, width=32),
    st.floats(-(2.0**-100), 2.0**-100, width=32),
    st.sampled_from([LARGEST, -LARGEST, 0.0, -0.0, 1e-45, -1e-45, 1.0]),
)


@given(data=st.data(), k=st.integers(1, 70), n=st.integers(1, 4), block=st.sampled_from([32, 128]), zero=st.booleans())
@settings(max_examples=150, deadline=None)
def test_every_element_is_within_half_a_step(data: st.DataObject, k: int, n: int, block: int, zero: bool) -> None:
    elements = data.draw(st.sampled_from(ELEMENTS))
    weight = data.draw(arrays(np.float32, (k, n), elements=elements))
    check_half_a_step(weight, block=block, symmetric=not zero)
    # The step itself is no larger than the block's range with 0 asks for: 1/15 of it, or the larger side by 8 or by 7.
    _, steps = restored(weight, block=block, symmetric=not zero)
    for start in range(0, k, block):
        part = weight[start : start + block].astype(np.float64)
        low, high = np.minimum(part.min(axis=0), 0), np.maximum(part.max(axis=0), 0)
        span = (high - low) / 15 if zero else np.maximum(-low / 8, high / 7)
        np.testing.assert_allclose(steps[start], np.maximum(span, SMALLEST_SCALE), rtol=3e-7)
