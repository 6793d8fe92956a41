"""A difference beside the scale of its output, for any two numbers that a comparison may find."""

import math

import pytest

from lstm_edge.amounts import beside_scale


@pytest.mark.parametrize(
    ("worst", "scale", "text"),
    [
        (0.01, 1.0, "0.01 of up to 1 (40 dB below)"),
        (2.0, 1.0, "2 of up to 1 (-6 dB below)"),
        (0.01, None, "0.01"),
        (0.0, 3.0, "0 of up to 3"),
        (0.01, 0.0, "0.01 of up to 0"),
        # What a candidate answers may be infinite or NaN, and so may what it is compared with.
        (math.inf, 1.0, "inf of up to 1"),
        (math.nan, 1.0, "nan of up to 1"),
        (1.0, math.inf, "1 of up to inf"),
        (1e-200, 1e200, "1e-200 of up to 1e+200 (8000 dB below)"),
        (1e200, 1e-200, "1e+200 of up to 1e-200 (-8000 dB below)"),
    ],
)
def test_a_difference_is_said_with_what_it_is_to_be_compared_with(worst, scale, text):
    assert beside_scale(worst, scale) == text
