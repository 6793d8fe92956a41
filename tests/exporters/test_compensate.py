"""Rounding that knows the activations: against the paper's steps written out, and what it brings on correlated rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.networks import exported, random_inputs, session_of, snr_db

from lstm_edge_exporters.functions.simulation import unpack
from lstm_edge_exporters.quantize import quantize_bytes
from lstm_edge_exporters.quantize.calibration import Calibration, collect
from lstm_edge_exporters.quantize.compensate import DAMPING, calibrated_rounder, round_in_order
from lstm_edge_exporters.quantize.rounding import LARGEST_COLUMN_SUM, Scheme, round_matrix
from lstm_edge_exporters.quantize.scales import SHARES, Grid, best_grid, round_to
from lstm_edge_runtime.errors import QuantizationError
from lstm_edge_runtime.selftest import self_test
from lstm_edge_runtime.session import Session

INT8, INT4 = Scheme(kind="int8"), Scheme(kind="int4", block=32)
SCHEMES = (INT8, INT4, Scheme(kind="int4", block=128), Scheme(kind="int4", block=32, symmetric=False))
NAMES = [str(scheme) for scheme in SCHEMES]


def correlated(inputs: int, *, rows: int = 600, seed: int = 0) -> np.ndarray:
    """Rows whose columns have few sources between them, as the states of a recurrent layer do."""
    rng = np.random.default_rng(seed)
    sources = rng.standard_normal((rows, max(1, inputs // 4)))
    mixed = sources @ rng.standard_normal((sources.shape[1], inputs)) / np.sqrt(sources.shape[1])
    return mixed + 0.1 * rng.standard_normal((rows, inputs))


def random_matrix(inputs: int, columns: int, *, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((inputs, columns)).astype(np.float32)


def calibration_of(**grams: np.ndarray) -> Calibration:
    return Calibration(grams=grams, rows=600, missing={"other.w": "it was not seen"}, sha256="0" * 64)


def restored(parts: dict[str, np.ndarray], scheme: Scheme, inputs: int, columns: int) -> np.ndarray:
    """What a file's arrays stand for, float64 [K, N]; every constraint of the operator is checked on the way."""
    scale = parts["_scale"]
    assert scale.dtype == np.float32
    assert np.isfinite(scale).all()
    assert (scale > 0).all()
    if scheme.kind == "int8":
        assert set(parts) == {"", "_scale"}
        assert (parts[""].dtype, parts[""].shape, scale.shape) == (np.int8, (inputs, columns), (columns,))
        assert np.abs(parts[""].astype(int)).max() <= 127
        assert np.abs(parts[""].astype(int)).sum(axis=0).max() <= LARGEST_COLUMN_SUM
        return parts[""] * scale.astype(np.float64)
    blocks = -(-inputs // scheme.block)
    assert set(parts) == {"", "_scale", "_zero"}
    assert (parts[""].dtype, parts[""].shape) == (np.uint8, (inputs, -(-columns // 2)))
    assert scale.shape == (blocks, columns)
    zero = parts["_zero"]
    assert (zero.dtype, zero.shape) == (np.uint8, (1, 1) if scheme.symmetric else (blocks, columns))
    assert (zero == 8).all() if scheme.symmetric else zero.max() <= 15
    if columns % 2:
        assert not (parts[""][:, -1] >> 4).any()
    q = unpack(parts[""], columns)
    each = [np.repeat(np.broadcast_to(a, scale.shape), scheme.block, axis=0)[:inputs] for a in (zero, scale)]
    return (q - each[0].astype(int)) * each[1].astype(np.float64)


def cost(weight: np.ndarray, rounded: np.ndarray, rows: np.ndarray) -> float:
    return float(np.square(rows @ (weight - rounded)).sum())


@pytest.mark.parametrize("scheme", SCHEMES, ids=NAMES)
def test_with_everything_off_it_is_plain_rounding(scheme: Scheme) -> None:
    weight, rows = random_matrix(70, 7), correlated(70)
    rounder = calibrated_rounder(calibration_of(w=rows.T @ rows), compensate=False, search_scales=False, clip=False)
    expected, got = round_matrix("w", weight, scheme), rounder("w", weight, scheme)
    assert expected.keys() == got.keys()
    for key, array in expected.items():
        np.testing.assert_array_equal(got[key], array)


@pytest.mark.parametrize("scheme", SCHEMES, ids=NAMES)
@pytest.mark.parametrize("shape", [(70, 7), (200, 130), (33, 1)], ids=str)
def test_each_part_lowers_the_error_of_the_products(scheme: Scheme, shape: tuple[int, int]) -> None:
    """Judged on other rows than those that were seen, of the same sources."""
    both = correlated(shape[0], rows=2000)
    rows, others = both[:1000], both[1000:]
    weight = random_matrix(*shape)
    calibration = calibration_of(w=rows.T @ rows)

    def loss(**parts: bool) -> float:
        rounder = calibrated_rounder(
            calibration, **dict.fromkeys(("compensate", "search_scales", "clip"), False) | parts
        )
        return cost(weight, restored(rounder("w", weight, scheme), scheme, *shape), others)

    plain = loss()
    every = loss(compensate=True, search_scales=True, clip=True)
    # Seen with 200 x 130 weights: 12 to 14 % of plain rounding's error with compensation, 92 to 94 % with scales alone,
    # 82 to 91 % with clipping alone (int8: 97 and 100 %), 80 to 88 % with both.
    assert loss(compensate=True) < 0.5 * plain
    assert every < 0.5 * plain
    if shape[1] > 100 and scheme.kind == "int4":
        searched, clipped = loss(search_scales=True), loss(clip=True)
        assert searched < 0.95 * plain
        assert clipped < 0.95 * plain
        assert loss(search_scales=True, clip=True) < min(searched, clipped)


@pytest.mark.parametrize("scheme", SCHEMES, ids=NAMES)
def test_one_input_is_rounded_no_worse(scheme: Scheme) -> None:
    """Nothing is there to make up for its error."""
    weight, rows = random_matrix(1, 4), correlated(1, rows=1000)
    calibration = calibration_of(w=rows.T @ rows)
    off = calibrated_rounder(calibration, compensate=False, search_scales=False, clip=False)
    plain, every = (
        cost(weight, restored(rounder("w", weight, scheme), scheme, 1, 4), rows)
        for rounder in (off, calibrated_rounder(calibration))
    )
    assert every <= plain


@pytest.mark.parametrize("inputs", [5, 128, 150, 300])
def test_the_order_and_the_arithmetic_are_the_papers(inputs: int) -> None:
    """Against optimal brain quantization as it is derived: the inverse of what is left, made smaller input by input."""
    rows = correlated(inputs, seed=7)
    gram = rows.T @ rows
    gram = gram / gram.trace() * inputs + 0.05 * np.eye(inputs)
    weight = random_matrix(inputs, 6).astype(np.float64)
    grid = best_grid(weight, np.diag(gram), INT4, search=True, clip=True)
    scale, zero = grid.of_inputs(inputs)
    rest, expected, inverse = weight.copy(), np.zeros_like(weight), np.linalg.inv(gram)
    for k in np.argsort(-np.diag(gram), kind="stable"):
        expected[k] = (np.rint(rest[k] / scale[k]) + zero[k]).clip(0, 15)
        error = (rest[k] - (expected[k] - zero[k]) * scale[k]) / inverse[k, k]
        rest -= np.outer(inverse[:, k], error)
        inverse = inverse - np.outer(inverse[:, k], inverse[k]) / inverse[k, k]
        inverse[k, k] = 1.0  # done with: its row and column are zero
    got = round_in_order(weight, gram, grid)
    # float64 rounds the two ways differently, and a value in thousands may lie at a half.
    assert (got == expected).mean() > 0.999


def test_the_second_of_two_equal_inputs_makes_up_for_the_first() -> None:
    grid = Grid(scale=np.ones((1, 1)), zero=np.full((1, 1), 8.0), block=32, lowest=0, highest=15)
    weight = np.array([[0.4], [0.4]])
    np.testing.assert_array_equal(round_to(grid, weight), [[8], [8]])
    # 0.4 is lost with the first; 0.4 + 0.4 / 1.01 is nearer to 1 than to 0.
    gram = np.ones((2, 2)) + DAMPING * np.eye(2)
    np.testing.assert_array_equal(round_in_order(weight, gram, grid), [[8], [9]])
    # The more active one goes first.
    gram[1, 1] += 1.0
    np.testing.assert_array_equal(round_in_order(weight, gram, grid), [[9], [8]])


@pytest.mark.parametrize("scheme", SCHEMES, ids=NAMES)
def test_the_search_never_does_worse_and_weighs_the_inputs(scheme: Scheme) -> None:
    weight = random_matrix(70, 40).astype(np.float64)
    importance = np.random.default_rng(2).uniform(0.5, 2, 70)

    def errors(grid: Grid) -> np.ndarray:
        scale, zero = grid.of_inputs(70)
        e = importance[:, None] * (weight - (round_to(grid, weight) - zero) * scale) ** 2
        return np.add.reduceat(e, np.arange(0, 70, grid.block), axis=0)

    plain = best_grid(weight, importance, scheme, search=False, clip=False)
    # In float64, where round_matrix has float32: the last bit may differ.
    np.testing.assert_allclose(plain.scale, np.atleast_2d(round_matrix("w", weight, scheme)["_scale"]), rtol=2e-7)
    searched, clipped, both = (
        best_grid(weight, importance, scheme, search=s, clip=c) for s, c in ((True, False), (False, True), (True, True))
    )
    for better in (searched, clipped, both):
        assert (errors(better) <= errors(plain)).all()
        # 255 levels are not made better by leaving the largest weight out.
        assert (errors(better) < errors(plain)).mean() >= (0.0 if scheme.kind == "int8" and better is clipped else 0.3)
    assert (errors(both) <= np.minimum(errors(clipped), errors(searched))).all()
    assert clipped.scale.min() >= plain.scale[clipped.scale == clipped.scale.min()].min() * min(SHARES) * 0.999
    # An input that counts a thousand times is met nearly exactly where the others leave the choice.
    heavy = np.where(np.arange(70) == 3, 1000.0, 1.0)
    grid = best_grid(weight, heavy, scheme, search=True, clip=True)
    scale, zero = grid.of_inputs(70)
    missed = np.abs(weight - (round_to(grid, weight) - zero) * scale)[3].mean()
    scale, zero = both.of_inputs(70)
    assert missed < 0.5 * np.abs(weight - (round_to(both, weight) - zero) * scale)[3].mean()


def test_an_outlier_is_cut_off() -> None:
    """One weight that hardly counts no longer widens the steps of the 31 others."""
    weight = random_matrix(32, 9).astype(np.float64)
    weight[5] = 6.0
    importance = np.where(np.arange(32) == 5, 1e-5, 1.0)
    plain, clipped = (best_grid(weight, importance, INT4, search=False, clip=clip) for clip in (False, True))
    np.testing.assert_allclose(plain.scale, 6 / 7, rtol=1e-6)
    assert (clipped.scale < 0.8 * 6 / 7).all()
    np.testing.assert_array_equal(round_to(clipped, weight)[5], 15)


@pytest.mark.slow
@pytest.mark.parametrize("parts", [{}, {"search_scales": False, "clip": False}], ids=["all", "compensation"])
def test_long_int8_columns_keep_their_sums_exact(parts: dict[str, bool]) -> None:
    inputs = 1300
    weight = np.full((inputs, 3), 0.7, np.float32)
    weight[:, 1] *= np.where(np.arange(inputs) % 2, 1, -1)
    weight[:, 2] = random_matrix(inputs, 1)[:, 0]
    rows = correlated(inputs, rows=200)
    got = calibrated_rounder(calibration_of(w=rows.T @ rows), **parts)("w", weight, INT8)
    values = restored(got, INT8, inputs, 3)
    assert np.abs(got[""].astype(int)).sum(axis=0)[:2].min() > 0.98 * LARGEST_COLUMN_SUM
    # A hundred levels for the columns of equal magnitude; compensation moves a few weights by two steps.
    np.testing.assert_allclose(values[:, :2], weight[:, :2], atol=2 * got["_scale"][0])
    np.testing.assert_allclose(values[:, 2], weight[:, 2], atol=3 * got["_scale"][2])


@given(
    inputs=st.integers(1, 140),
    columns=st.integers(1, 9),
    scheme=st.sampled_from(SCHEMES),
    exponent=st.integers(-36, 30),
    kind=st.sampled_from(["normal", "zeros", "one-sided", "dead inputs"]),
)
@settings(max_examples=60, deadline=None)
def test_whatever_comes_in_the_operators_constraints_hold(
    inputs: int, columns: int, scheme: Scheme, exponent: int, kind: str
) -> None:
    weight = random_matrix(inputs, columns)
    weight = (weight * (kind != "zeros") if kind != "one-sided" else np.abs(weight)) * np.float32(10.0**exponent)
    rows = correlated(inputs, rows=50)
    if kind == "dead inputs":
        rows[:, ::2] = 0.0
    got = calibrated_rounder(calibration_of(w=rows.T @ rows))("w", weight, scheme)
    error = np.abs(restored(got, scheme, inputs, columns) - weight)
    # No weight is further off than its column's range.
    assert (error <= 1.01 * (weight.max(axis=0) - weight.min(axis=0) + np.abs(weight).max(axis=0)) + 2e-30).all()


def test_inputs_that_were_never_active_are_rounded_plainly() -> None:
    rows = correlated(64)
    rows[:, 10:20] = 0.0
    weight = random_matrix(64, 8)
    got = calibrated_rounder(calibration_of(w=rows.T @ rows), search_scales=False, clip=False)("w", weight, INT4)
    plain = round_matrix("w", weight, INT4)
    np.testing.assert_array_equal(got[""][10:20], plain[""][10:20])
    assert (got[""][:10] != plain[""][:10]).any()
    silent = calibrated_rounder(calibration_of(w=np.zeros((64, 64))), search_scales=False, clip=False)
    np.testing.assert_array_equal(silent("w", weight, INT4)[""], plain[""])


def test_columns_do_not_depend_on_each_other() -> None:
    """Gates that are stored apart are rounded as they are together."""
    rows, weight = correlated(96), random_matrix(96, 40)
    rounder = calibrated_rounder(calibration_of(w=rows.T @ rows))
    whole, part = rounder("w", weight, INT4), rounder("w", weight[:, 10:20].copy(), INT4)
    np.testing.assert_array_equal(part["_scale"], whole["_scale"][:, 10:20])
    assert (part[""] == whole[""][:, 5:10]).mean() > 0.999


def test_a_missing_matrix_is_rounded_without_compensation() -> None:
    rows, weight = correlated(64), random_matrix(64, 8)
    rounder = calibrated_rounder(calibration_of(w=rows.T @ rows))
    got = rounder("other.w", weight, INT4)
    grid = best_grid(weight.astype(np.float64), np.ones(64), INT4, search=True, clip=True)
    np.testing.assert_array_equal(unpack(got[""], 8), round_to(grid, weight.astype(np.float64)))


def test_what_does_not_belong_together_is_refused() -> None:
    rounder = calibrated_rounder(calibration_of(w=np.eye(64)))
    with pytest.raises(
        QuantizationError, match=r"strange\.w: the calibration belongs to another model: it has w, other\.w"
    ):
        rounder("strange.w", random_matrix(64, 8), INT4)
    with pytest.raises(QuantizationError, match="w: the calibration saw 64 inputs, the matrix has 63"):
        rounder("w", random_matrix(63, 8), INT4)
    for bad in (np.nan, np.inf):
        weight = random_matrix(64, 8)
        weight[3, 2] = bad
        with pytest.raises(QuantizationError, match="w: the weight holds NaN or infinity"):
            rounder("w", weight, INT4)


@pytest.mark.slow
def test_a_language_model_in_four_bits_is_nearer_to_its_parent() -> None:
    """The whole way: collect, quantize, run; judged on ids that were not seen."""
    data = exported("wide-language-model")
    session = session_of(data)
    calibration = collect(data, [random_inputs(session, 16, 40, seed=seed) for seed in range(2)])
    assert calibration.missing == {}
    others = random_inputs(session, 4, 50, seed=9)
    expected = session.run(others)[0]

    files: list[bytes] = []

    def quality(**parts: bool) -> float:
        artifact = quantize_bytes(data, scheme="int4:32", rounder=calibrated_rounder(calibration, **parts))
        files.append(artifact.data)
        assert self_test(Session(artifact.data, kernels="off")).passed
        got = Session(artifact.data, kernels="off").run(others)[0]
        return min(snr_db(expected[key], got[key]) for key in expected)

    plain = quality(compensate=False, search_scales=False, clip=False)
    scales = quality(compensate=False)
    every = quality()
    assert scales > plain + 0.3
    assert every > plain + 3.0
    assert quality() == every
    assert files[-1] == files[-2] != files[-3]
