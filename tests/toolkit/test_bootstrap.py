"""The bootstrap's draws: the same for every estimate, as many as the dearest affords, in blocks that fit a device."""

import math

import numpy as np
import pytest

from lstm_edge.amounts import check_confidence
from lstm_edge.validation import bootstrap
from lstm_edge.validation.bootstrap import bootstrap_bound, interval, resample, upper_bound
from lstm_edge_runtime.errors import InputError


class Counting:
    """An estimate that keeps the draws that it is shown; its value is the first unit of each."""

    value = 0.0

    def __init__(self, units, resamples=10_000):
        self.units, self.resamples, self.drawn = units, resamples, []

    def resample(self, drawn):
        self.drawn.append(drawn)
        return drawn[:, 0].astype(np.float64)


def test_all_estimates_see_the_same_draws_as_many_as_the_dearest_affords() -> None:
    cheap, dear = Counting(7), Counting(7, resamples=30)
    values = resample([cheap, dear], seed=3)
    assert [part.shape for part in values] == [(30,), (30,)]
    np.testing.assert_array_equal(np.concatenate(cheap.drawn), np.concatenate(dear.drawn))
    np.testing.assert_array_equal(values[0], np.concatenate(cheap.drawn)[:, 0])
    drawn = np.concatenate(cheap.drawn)
    assert drawn.shape == (30, 7)
    assert set(drawn.ravel().tolist()) == set(range(7))


@pytest.mark.parametrize(
    ("units", "blocks"),
    [
        (50, [20, 20, 20, 20, 20]),  # 1,000 numbers at once
        (400, [2] * 50),  # 800: a third draw would be one too many
        (1000, [1] * 100),
        (5000, [1] * 100),  # one draw alone is larger
        (7, [100]),
    ],
)
def test_draws_come_in_blocks_of_bounded_size(monkeypatch, units, blocks) -> None:
    monkeypatch.setattr(bootstrap, "BLOCK", 1000)
    estimate = Counting(units, resamples=100)
    values = resample([estimate], seed=0)[0]
    assert [len(drawn) for drawn in estimate.drawn] == blocks
    np.testing.assert_array_equal(values, np.concatenate(estimate.drawn)[:, 0])


def test_a_bound_of_a_device_is_16_megabytes() -> None:
    estimate = Counting(300_000, resamples=20)
    resample([estimate], seed=0)
    assert max(drawn.nbytes for drawn in estimate.drawn) <= 16_000_000
    assert len(estimate.drawn) == 4


def test_a_metric_that_no_resample_defines_has_no_bound() -> None:
    undefined = np.full(9, np.nan)
    assert math.isnan(upper_bound(undefined, 0.9))
    assert all(math.isnan(end) for end in interval(undefined, 0.9))
    assert type(upper_bound(undefined, 0.9)) is type(upper_bound(np.ones(9), 0.9)) is float


def test_the_bound_is_a_value_that_was_drawn() -> None:
    """The smallest that the share does not exceed, not one between two."""
    assert upper_bound(np.array([3.0, 1.0, 2.0, 4.0]), 0.5) == 2.0
    assert upper_bound(np.array([3.0, 1.0, 2.0, 4.0]), 0.51) == 3.0


@pytest.mark.parametrize("confidence", [0, 1, -0.1, 1.5, math.nan, math.inf])
def test_a_confidence_is_a_share_between_0_and_1(confidence) -> None:
    for refuses in (check_confidence, lambda share: bootstrap_bound(np.ones(3), share)):
        with pytest.raises(InputError, match=rf"^confidence is {confidence}, expected a share above 0 and below 1, "):
            refuses(confidence)


def test_none_is_no_confidence_and_allowed() -> None:
    check_confidence(None)
    check_confidence(0.95)
