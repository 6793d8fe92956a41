"""The search for scales: what its grids may be, what each element may lose, and that columns and blocks are apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lstm_edge_exporters.functions.simulation import unpack
from lstm_edge_exporters.quantize.rounding import round_matrix
from lstm_edge_exporters.quantize.scales import SHARES, Grid, as_scale, best_grid, round_to, stored
from lstm_edge_exporters.quantize.schemes import Scheme

LARGEST = float(np.finfo(np.float32).max)
SMALLEST_SCALE = 2.0**-100  # a block of smaller weights gets this step

INT8, INT4, ZERO = Scheme(), Scheme(kind="int4", block=32), Scheme(kind="int4", block=32, symmetric=False)
SCHEMES = (INT8, INT4, ZERO, Scheme(kind="int4", block=128), Scheme(kind="int4", block=128, symmetric=False))
TEXTS = [scheme.text for scheme in SCHEMES]
EVERY_SEARCH = [(search, clip) for search in (False, True) for clip in (False, True)]


def values(grid: Grid, weight: np.ndarray) -> np.ndarray:
    scale, zero = grid.of_inputs(len(weight))
    return (round_to(grid, weight) - zero) * scale


def steps(grid: Grid, weight: np.ndarray) -> np.ndarray:
    return grid.of_inputs(len(weight))[0]


def plain(weight: np.ndarray, scheme: Scheme) -> Grid:
    return best_grid(weight, np.ones(len(weight)), scheme, search=False, clip=False)


@pytest.mark.parametrize("sign", [1, -1], ids=["positive", "negative"])
@pytest.mark.parametrize("scheme", SCHEMES, ids=TEXTS)
def test_a_block_of_one_sign_is_within_half_a_step(scheme: Scheme, sign: int) -> None:
    """As in rounding: without 0 in its range a block of 5..6 would be off by 5."""
    weight = sign * np.linspace(5, 6, 32, dtype=np.float32).astype(np.float64)[:, None]
    grid = plain(weight, scheme)
    levels = {"int8": 127, "int4": (7 if sign > 0 else 8) if scheme.symmetric else 15}[scheme.kind]
    np.testing.assert_allclose(grid.scale, [[6 / levels]], rtol=1e-7)
    expected = {"int8": 0, "int4": 8 if scheme.symmetric else 0 if sign > 0 else 15}[scheme.kind]
    np.testing.assert_array_equal(grid.zero, [[expected]])
    assert (np.abs(values(grid, weight) - weight) <= (0.5 + 1e-5) * grid.scale).all()
    for search, clip in EVERY_SEARCH:
        found = best_grid(weight, np.ones(32), scheme, search=search, clip=clip)
        assert np.square(values(found, weight) - weight).sum() <= np.square(values(grid, weight) - weight).sum()


@pytest.mark.parametrize("scheme", SCHEMES, ids=TEXTS)
def test_zeros_have_the_smallest_step_whatever_is_searched(scheme: Scheme) -> None:
    weight = np.zeros((40, 3))
    for search, clip in EVERY_SEARCH:
        grid = best_grid(weight, np.ones(40), scheme, search=search, clip=clip)
        np.testing.assert_array_equal(grid.scale, SMALLEST_SCALE)
        np.testing.assert_array_equal(values(grid, weight), 0.0)


@pytest.mark.parametrize("scheme", SCHEMES, ids=TEXTS)
def test_a_block_that_is_met_exactly_keeps_its_first_grid(scheme: Scheme) -> None:
    """Of equal candidates the first is taken, the whole range without a refit."""
    weight = np.array([[0.0], [7.0], [-8.0], [3.0]]) if scheme.kind == "int4" else np.array([[127.0], [-5.0], [0.0]])
    for search, clip in EVERY_SEARCH:
        grid = best_grid(weight, np.ones(len(weight)), scheme, search=search, clip=clip)
        np.testing.assert_array_equal(grid.scale, 1.0)
        np.testing.assert_array_equal(values(grid, weight), weight)


def test_columns_and_blocks_are_searched_apart() -> None:
    """More columns than are searched at once, and a short last block: each is what it is alone."""
    rng = np.random.default_rng(5)
    weight, importance = rng.standard_normal((70, 131)), rng.uniform(0.1, 2, 70)
    whole = best_grid(weight, importance, ZERO, search=True, clip=True)
    assert whole.scale.shape == whole.zero.shape == (3, 131)
    for column in (0, 127, 128, 130):
        part = slice(column, column + 1)
        for block, rows in enumerate((slice(0, 32), slice(32, 64), slice(64, 70))):
            alone = best_grid(weight[rows, part], importance[rows], ZERO, search=True, clip=True)
            # A short block is padded with zeros in the one and with none in the other: sums of other lengths.
            np.testing.assert_allclose(whole.scale[block, part], alone.scale[0], rtol=1e-6)
            np.testing.assert_array_equal(whole.zero[block, part], alone.zero[0])


def test_a_share_of_the_range_clips_both_ends() -> None:
    """One outlier at each end that hardly counts: the smallest share is best, and rounds both to the ends."""
    weight = np.concatenate([np.linspace(-0.69, 0.69, 30), [1.0, -1.0]])[:, None]
    importance = np.concatenate([np.ones(30), [1e-6, 1e-6]])
    grid = best_grid(weight, importance, ZERO, search=False, clip=True)
    np.testing.assert_allclose(grid.scale, [[min(SHARES) * 2 / 15]], rtol=1e-6)
    assert sorted(round_to(grid, weight)[-2:, 0]) == [0, 15]
    assert np.abs(values(grid, weight) - weight)[:30].max() <= 0.51 * grid.scale.item()


def test_a_refit_is_the_least_squares_fit() -> None:
    """Weights of 4 and 0.9 steps: the best scale for the rounded 4 and 1, which weigh 1 and 3."""
    weight, importance = np.array([[127.0], [0.9]]), np.array([1.0, 3e5])
    grid = best_grid(weight, importance, INT8, search=True, clip=False)
    expected = (127 * 127 + 3e5 * 1 * 0.9) / (127 * 127 + 3e5)
    np.testing.assert_allclose(grid.scale, [[expected]], rtol=1e-6)


@pytest.mark.parametrize(
    ("scale", "held"),
    [(0.0, SMALLEST_SCALE), (-1.0, SMALLEST_SCALE), (1e-45, SMALLEST_SCALE), (0.1, float(np.float32(0.1))), (3.0, 3.0)],
)
def test_scales_are_as_a_file_holds_them(scale: float, held: float) -> None:
    got = as_scale(np.array([[scale]]))
    assert got.dtype == np.float64
    assert got == held


@pytest.mark.parametrize(("inputs", "columns"), [(37, 5), (38, 5), (37, 4), (1, 1)])
@pytest.mark.parametrize("scheme", SCHEMES, ids=TEXTS)
def test_what_is_stored_is_what_was_rounded(scheme: Scheme, inputs: int, columns: int) -> None:
    rng = np.random.default_rng(6)
    weight = rng.standard_normal((inputs, columns)).astype(np.float32)
    grid = plain(weight.astype(np.float64), scheme)
    assert grid.scale.shape == grid.zero.shape == (1 if scheme.kind == "int8" else -(-inputs // scheme.block), columns)
    q = round_to(grid, weight.astype(np.float64))
    parts, expected = stored(q, grid, scheme), round_matrix("w", weight, scheme)
    assert {name: (a.dtype, a.shape) for name, a in parts.items()} == {
        name: (a.dtype, a.shape) for name, a in expected.items()
    }
    np.testing.assert_array_equal(parts[""] if scheme.kind == "int8" else unpack(parts[""], columns), q)
    np.testing.assert_array_equal(parts["_scale"], grid.scale if scheme.kind == "int4" else grid.scale[0])
    if scheme.kind == "int4":
        np.testing.assert_array_equal(np.broadcast_to(parts["_zero"], grid.zero.shape), grid.zero)


ELEMENTS = (
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.floats(-1, 1, width=32),
    st.floats(5, 6, width=32),
    st.floats(-6, -5, width=32),
    st.floats(-(2.0**-100), 2.0**-100, width=32),
    st.sampled_from([LARGEST, -LARGEST, 0.0, -0.0, 1e-45, -1e-45, 1.0]),
)


@given(data=st.data(), k=st.integers(1, 70), n=st.integers(1, 4), scheme=st.sampled_from(SCHEMES))
@settings(max_examples=150, deadline=None)
def test_any_weights_have_a_grid_that_holds_them(data: st.DataObject, k: int, n: int, scheme: Scheme) -> None:
    weight = data.draw(arrays(np.float32, (k, n), elements=data.draw(st.sampled_from(ELEMENTS)))).astype(np.float64)
    whole = plain(weight, scheme)
    assert (np.abs(values(whole, weight) - weight) <= (0.5 + 1e-5) * steps(whole, weight)).all()
    least = np.square(values(whole, weight) - weight)
    starts = np.arange(0, k, whole.block)
    for search, clip in EVERY_SEARCH[1:]:
        grid = best_grid(weight, np.ones(k), scheme, search=search, clip=clip)
        assert (grid.block, grid.lowest, grid.highest) == (whole.block, whole.lowest, whole.highest)
        np.testing.assert_array_equal(grid.scale, grid.scale.astype(np.float32))
        assert grid.scale.min() >= SMALLEST_SCALE
        # 0 is on every grid, and so stays 0.
        assert (grid.zero == np.rint(grid.zero)).all()
        assert ((grid.lowest <= grid.zero) & (grid.zero <= grid.highest)).all()
        np.testing.assert_array_equal(values(grid, weight)[weight == 0], 0.0)
        # The sums of the search are in another order than these.
        errors = np.add.reduceat(np.square(values(grid, weight) - weight), starts)
        assert (errors <= np.add.reduceat(least, starts) * (1 + 1e-9)).all()
