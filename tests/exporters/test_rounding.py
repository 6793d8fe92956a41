"""Weights to int8: half a step of error, and sums that stay exact in float32 however long a column is."""

import numpy as np
import pytest

from lstm_edge_exporters.quantize.rounding import round_columns, round_rows
from lstm_edge_runtime.errors import QuantizationError


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
