"""The lstm_edge:: operators: each function body, run by onnxruntime, against the NumPy model; and their document."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from support.onnx_files import operator_session
from support.stored_weights import stored, tried

from lstm_edge_exporters.functions import (
    DOMAIN,
    LINEAR_INT4,
    LINEAR_INT8,
    CellVariant,
    all_cells,
    function_digests,
    function_for,
    parse_cell_name,
)
from lstm_edge_exporters.functions import simulation as numpy_model
from lstm_edge_exporters.quantize.rounding import LARGEST_COLUMN_SUM, Scheme, round_columns, round_matrix
from lstm_edge_exporters.verify.compare import CLOSE, assert_close

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")

VARIANTS = tried(all_cells())
FLOATS = [variant for variant in VARIANTS if variant.storage == "float32"]
ROUNDED = [variant for variant in VARIANTS if variant.storage != "float32"]
# How the four-bit matrices are made: every form that the operators allow.
FOUR_BITS = (
    Scheme(kind="int4", block=32),
    Scheme(kind="int4", block=128),
    Scheme(kind="int4", block=32, symmetric=False),
)

# (I, H, P, B, T): hidden 1, sizes around and over a vector register, and rows of more than 1,040 columns.
SIZES = ((3, 1, 1, 2, 4), (5, 3, 2, 4, 6), (7, 17, 6, 3, 5), (40, 100, 30, 2, 7), (1100, 6, 4, 2, 3))
# A rounding flip moves an int8 output by a step of its row; seen up to 2e-3, fed back from then on.
FLIP = 5e-3


def random_weights(variant: CellVariant, inputs: int, H: int, P: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    P = P if variant.projected else H
    shapes = {"w": (inputs, 4 * H), "r": (P, 4 * H), "b": (4 * H,), "po": (H, H), "v": (H, P)}
    shapes["p"] = (3, H) if variant.peephole == "diagonal" else (H, 3 * H)
    weights: dict[str, np.ndarray] = {}
    for name in variant.weights:
        if "_" in name:
            continue
        array = (rng.standard_normal(shapes[name]) / np.sqrt(max(1, shapes[name][0]))).astype(np.float32)
        weights |= stored(variant, name, array, FOUR_BITS[(seed + inputs) % len(FOUR_BITS)], rng)
    return weights


def random_feeds(
    variant: CellVariant, inputs: int, H: int, P: int, B: int, T: int, seed: int = 1
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    feeds = {
        "x": rng.standard_normal((T, B, inputs)).astype(np.float32),
        "h": rng.uniform(-0.9, 0.9, (1, B, P if variant.projected else H)).astype(np.float32),
        "c": rng.standard_normal((1, B, H)).astype(np.float32),
    }
    if variant.ragged:
        # An empty row, a full one, and shorter ones.
        feeds["lengths"] = np.array([0, T, *rng.integers(1, T + 1, max(0, B - 2))])[:B]
    return feeds


def run_cell(variant: CellVariant, weights: dict, feeds: dict) -> dict[str, np.ndarray]:
    outputs = ("y", "h_out", "c_out")
    session = operator_session(variant.name, variant.inputs, outputs, weights, {"x": 3, "h": 3, "c": 3, "lengths": 1})
    return dict(zip(outputs, session.run(list(outputs), feeds), strict=True))


def run_model(variant: CellVariant, weights: dict, feeds: dict) -> dict[str, np.ndarray]:
    answers = numpy_model.lstm(variant, feeds["x"], feeds["h"], feeds["c"], weights, feeds.get("lengths"))
    return dict(zip(("y", "h_out", "c_out"), answers, strict=True))


@pytest.mark.parametrize("variant", FLOATS, ids=lambda variant: variant.name)
def test_float_bodies_are_the_model(variant: CellVariant) -> None:
    for sizes in SIZES:
        weights, feeds = random_weights(variant, *sizes[:3]), random_feeds(variant, *sizes)
        got, expected = run_cell(variant, weights, feeds), run_model(variant, weights, feeds)
        for name in expected:
            assert_close(f"{variant.name} {sizes}: {name}", got[name], expected[name], CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ROUNDED, ids=lambda variant: variant.name)
def test_rounded_bodies_are_the_model_but_for_flips(variant: CellVariant) -> None:
    differences = []
    for sizes in SIZES:
        weights, feeds = random_weights(variant, *sizes[:3]), random_feeds(variant, *sizes)
        got, expected = run_cell(variant, weights, feeds), run_model(variant, weights, feeds)
        for name in expected:
            assert got[name].shape == expected[name].shape
            differences.append(np.abs(got[name] - expected[name]).ravel())
    found = np.concatenate(differences)
    assert np.median(found) < 1e-6
    assert found.max() < FLIP
    # A flip concerns one value of one row and step; it must stay the exception.
    assert np.mean(found > CLOSE.absolute) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("variant", ROUNDED, ids=lambda variant: variant.name)
def test_one_rounded_step_differs_by_sigmoid_alone_or_by_a_flip_that_is_there(variant: CellVariant) -> None:
    """Within a step the roundings of x, h and c are the model's to the bit; only what comes after tanh can flip."""
    for sizes in SIZES:
        weights, feeds = random_weights(variant, *sizes[:3]), random_feeds(variant, *sizes[:4], 1)
        got, expected = run_cell(variant, weights, feeds), run_model(variant, weights, feeds)
        assert_close("c_out", got["c_out"], expected["c_out"], CLOSE)
        if variant.peephole != "full" and not variant.projected:
            assert_close("h_out", got["h_out"], expected["h_out"], CLOSE)
            continue
        # c' (through po) or o · tanh(c') (through v) is rounded once more: a flip is one step of 127 in its row,
        # times a weight of at most 127 scales. Two flips in one product of these sizes were never seen.
        late = [name for name in ("po", "v") if f"{name}_scale" in weights]
        step = max(float(np.abs(expected["c_out"]).max()), 1.0) / 127
        largest = 15 if variant.storage == "int4" else 127
        quantum = sum(step * largest * float(weights[f"{name}_scale"].max()) for name in late)
        off = np.abs(got["h_out"] - expected["h_out"])
        assert off.max() < CLOSE.absolute + 2 * quantum
        # A flip moves its whole row.
        rows = (off > CLOSE.absolute).any(axis=(0, 2))
        assert rows.sum() <= max(1, len(rows) // 4)


@pytest.mark.parametrize("int8", [False, True], ids=["float32", "int8"])
def test_zero_denormal_and_huge_rows(int8: bool) -> None:
    variant = CellVariant(ragged=False, storage="int8" if int8 else "float32")
    weights = random_weights(variant, 5, 4, 4)
    feeds = random_feeds(variant, 5, 4, 4, 4, 3)
    feeds["x"][:, 0] = 0.0
    feeds["x"][:, 1] = np.float32(1e-40)
    feeds["x"][:, 2] = np.float32(1e30) * np.sign(feeds["x"][:, 2])
    feeds["h"][:, 0] = 0.0
    feeds["h"][:, 1] = np.float32(-1e-42)
    got, expected = run_cell(variant, weights, feeds), run_model(variant, weights, feeds)
    for name in expected:
        assert np.isfinite(got[name]).all()
        assert_close(name, got[name], expected[name], CLOSE)


def test_denormal_rows_round_to_zero_and_the_smallest_amax_is_the_floor() -> None:
    tiny = np.float32(2.0**-100)
    rows = np.array([[0, 0], [1e-40, -1e-42], [tiny, -tiny / 2], [3, -1.5]], np.float32)
    q, s = numpy_model.quantize_rows(rows)
    assert q.tolist() == [[0, 0], [0, 0], [127, -64], [127, -64]]
    np.testing.assert_array_equal(s[:, 0], np.array([tiny, tiny, tiny, 3], np.float32) / np.float32(127))


@pytest.mark.parametrize("shape", [(7,), (4, 7), (3, 2, 7), (2, 1, 3, 7)], ids=str)
def test_linear_is_the_model_to_the_bit(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(len(shape))
    w, scale = round_columns("w", rng.standard_normal((7, 5)).astype(np.float32))
    weights = {"w": w, "w_scale": scale, "b": rng.standard_normal(5).astype(np.float32)}
    x = rng.standard_normal(shape).astype(np.float32)
    session = operator_session(LINEAR_INT8, ("x", "w", "w_scale", "b"), ("y",), weights, {"x": len(shape)})
    np.testing.assert_array_equal(
        session.run(None, {"x": x})[0], numpy_model.linear("LinearInt8V1", x, weights), strict=True
    )


@pytest.mark.parametrize("scheme", FOUR_BITS, ids=str)
@pytest.mark.parametrize("sizes", [(7, 5), (1, 1), (32, 2), (33, 3), (300, 17)], ids=str)
def test_four_bit_linear_is_the_model(sizes: tuple[int, int], scheme: Scheme) -> None:
    """Blocks are added in another order by the body: the last bit of sums of order one."""
    rng = np.random.default_rng(sum(sizes))
    weight = (rng.standard_normal(sizes) / np.sqrt(sizes[0])).astype(np.float32)
    weights = {f"w{suffix}": part for suffix, part in round_matrix("w", weight, scheme).items()}
    weights["b"] = rng.standard_normal(sizes[1]).astype(np.float32)
    x = rng.standard_normal((3, 2, sizes[0])).astype(np.float32)
    session = operator_session(LINEAR_INT4, ("x", "w", "w_scale", "w_zero", "b"), ("y",), weights, {"x": 3})
    answer = session.run(None, {"x": x})[0]
    assert_close("y", answer, numpy_model.linear(LINEAR_INT4, x, weights), CLOSE)
    # Half a step of 15 a weight and of 127 an input, over sqrt(K) of them: within a fifth of outputs of order one.
    assert np.abs(answer - (x @ weight + weights["b"])).max() < 0.5


@pytest.mark.parametrize("scheme", FOUR_BITS, ids=str)
def test_four_bits_stay_within_half_a_scale(scheme: Scheme) -> None:
    weight = np.random.default_rng(4).standard_normal((70, 5)).astype(np.float32)
    parts = round_matrix("w", weight, scheme)
    q = numpy_model.unpack(parts[""], 5)
    rows = np.arange(70) // scheme.block
    zero = np.broadcast_to(parts["_zero"].astype(int), parts["_scale"].shape)[rows]
    error = np.abs((q - zero) * parts["_scale"][rows] - weight)
    # Rounding the zero point shifts the range by up to half a scale, which the outermost values then miss.
    assert (error <= parts["_scale"][rows] * (0.5 if scheme.symmetric else 1.0) * 1.0001).all()


@pytest.mark.parametrize("columns", [1040, 1041, 4096])
def test_sums_stay_exact_however_long_the_row(columns: int) -> None:
    """All weights and inputs at their largest: the case in which float32 would stop counting by ones."""
    w, scale = round_columns("w", np.full((columns, 3), 0.5, np.float32))
    assert np.abs(w.astype(int)).sum(axis=0).max() <= LARGEST_COLUMN_SUM == 132104
    weights = {"w": w, "w_scale": scale, "b": np.zeros(3, np.float32)}
    rng = np.random.default_rng(0)
    x = np.where(rng.random((6, columns)) < 0.9, 1.0, rng.uniform(-1, 1, (6, columns))).astype(np.float32)
    session = operator_session(LINEAR_INT8, ("x", "w", "w_scale", "b"), ("y",), weights, {"x": 2})
    answer = session.run(None, {"x": x})[0]
    np.testing.assert_array_equal(answer, numpy_model.linear("LinearInt8V1", x, weights), strict=True)
    # Half a level of 127 for x, and at 4,096 columns 32 levels of w instead of 127: 1.6 % of a weight at most.
    np.testing.assert_allclose(answer, x @ np.full((columns, 3), 0.5, np.float32), rtol=0.02)


def test_a_model_without_rounding_would_not_pass() -> None:
    """The comparison above can fail: the float cell is far from the int8 one."""
    variant, sizes = CellVariant(storage="int8"), SIZES[2]
    weights, feeds = random_weights(variant, *sizes[:3]), random_feeds(variant, *sizes)
    exact = {name: weights[name].astype(np.float32) * weights[f"{name}_scale"] for name in ("w", "r")}
    far = run_model(CellVariant(), exact | {"b": weights["b"]}, feeds)
    assert np.median(np.abs(run_cell(variant, weights, feeds)["y"] - far["y"])) > 1e-4


def test_names_and_variants() -> None:
    assert len({variant.name for variant in all_cells()}) == 12 * (1 + 3 * 3)
    for variant in all_cells():
        assert parse_cell_name(variant.name) == variant
        function = function_for(variant.name)
        assert (function.domain, function.name) == (DOMAIN, variant.name)
        assert tuple(function.input) == variant.inputs
        assert tuple(function.output) == ("y", "h_out", "c_out")
    for wrong in (
        "LstmV2",
        "lstmV1",
        "LstmInt8RaggedV1",
        "LstmProjectedFullV1",
        "XLstmV1",
        "LstmV1X",
        "",
        "LstmWInt8RInt8V1",
        "LstmWInt8V1",
    ):
        assert parse_cell_name(wrong) is None
    with pytest.raises(ValueError, match="no operator has a float32 matrix"):
        CellVariant(w_storage="int8")
    assert CellVariant(storage="int8", w_storage="int8") == CellVariant(storage="int8")
    mixed = CellVariant(storage="sparse_int8", w_storage="int4", projected=True)
    assert mixed.name == "LstmProjectedWInt4RSparseInt8V1"
    assert mixed.weights[3:] == ("r", "r_scale", "r_index", "r_rows", "b", "v", "v_scale")
    with pytest.raises(KeyError, match="lstm_edge::LstmV3 is not an operator of this version"):
        function_for("LstmV3")
    digests = function_digests()
    assert {*(variant.name for variant in all_cells()), LINEAR_INT8, LINEAR_INT4} <= set(digests)
    assert len(set(digests.values())) == len(digests)


def test_the_document_names_every_part_and_input() -> None:
    storages = ("Int8", "Int4", "SparseInt8")
    for part in ("Lstm", "Diagonal", "Full", "Projected", "Ragged", *storages, "V1", LINEAR_INT8, LINEAR_INT4):
        assert f"`{part}`" in DOCUMENT
    rows = re.findall(r"^\| `(\w+)` \|", DOCUMENT, re.MULTILINE)
    for variant in VARIANTS:
        for name in variant.inputs:
            assert name in rows or f"`{name}`" in DOCUMENT


def test_the_document_states_the_models_constants() -> None:
    def hexadecimal(value: np.float32) -> str:
        mantissa, exponent = float(value).hex().split("p")
        return f"{mantissa.rstrip('0')}p{exponent}"

    listed = re.search(r"E0 … E4 = (.+)", DOCUMENT)
    assert listed is not None
    assert listed[1].split(", ") == [hexadecimal(value) for value in numpy_model.EXPONENTIAL]
    assert f"n = round_half_even(y · {hexadecimal(numpy_model.LOG2_E)})" in DOCUMENT
    assert f"r = (y - n · {float(numpy_model.LN2_HIGH)}) - n · ({hexadecimal(numpy_model.LN2_LOW)})" in DOCUMENT
    assert f"y = max(y, {int(numpy_model.SMALLEST_EXPONENT)})" in DOCUMENT
    assert float(numpy_model.SMALLEST_AMAX) == 2.0**-100
    assert "m   = max(max_k |a[k]|, 2^-100)" in DOCUMENT
    assert f"{LARGEST_COLUMN_SUM:,}" in DOCUMENT


def test_the_errors_of_sigmoid_and_tanh_are_as_documented() -> None:
    x = np.concatenate([np.linspace(-20, 20, 400001), np.geomspace(1e-38, 90, 20001), [0.0, -0.0]]).astype(np.float32)
    exact = x.astype(np.float64)
    errors = [
        np.abs(numpy_model.sigmoid(x) - 1 / (1 + np.exp(-exact))).max(),
        np.abs(numpy_model.tanh(x) - np.tanh(exact)).max(),
    ]
    assert "largest errors: 8.9e-8 for both" in DOCUMENT
    for error in errors:
        assert 7e-8 < error < 8.95e-8
    assert np.signbit(numpy_model.tanh(np.array([-0.0], np.float32)))[0]
    saturated = np.array([-1e30, -200, 200, 1e30], np.float32)
    np.testing.assert_array_equal(numpy_model.tanh(saturated), np.float32([-1, -1, 1, 1]))
    assert (numpy_model.sigmoid(saturated) >= 0).all()


def test_the_benchmark_reproduces_the_polynomial() -> None:
    spec = importlib.util.spec_from_file_location("exponential", ROOT / "benchmarks" / "exponential.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    coefficients, error = script.fit()
    # One unit in the last place: least squares may round otherwise with another LAPACK.
    for fitted, used in zip(coefficients.astype(np.float32), numpy_model.EXPONENTIAL, strict=True):
        assert abs(fitted - used) <= np.spacing(used)
    assert 3.0e-9 < error < 3.2e-9
