"""The GRU operators: function bodies on onnxruntime, their NumPy model, the float64 equations, their document."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx.parser
import pytest
from onnx import helper
from support.networks import snr_db
from support.onnx_files import FLOAT, gru_weights, model, operator_session
from support.stored_weights import stored, tried

from lstm_edge import reference
from lstm_edge_exporters.functions import (
    DOMAIN,
    GruVariant,
    all_grus,
    function_digests,
    function_for,
    parse_cell_name,
    parse_gru_name,
)
from lstm_edge_exporters.functions import simulation as numpy_model
from lstm_edge_exporters.functions.gru import gru_text
from lstm_edge_exporters.quantize.gru import gru_operator_weights
from lstm_edge_exporters.quantize.rounding import Scheme, round_matrix
from lstm_edge_exporters.verify.compare import CLOSE, assert_close
from lstm_edge_runtime.providers import open_session

DOCUMENT = (Path(__file__).parents[2] / "docs" / "operators.md").read_text(encoding="utf-8")
VARIANTS = tried(all_grus())
OUTPUTS = ("y", "h_out")
FOUR_BITS = (
    Scheme(kind="int4", block=32),
    Scheme(kind="int4", block=128),
    Scheme(kind="int4", block=32, symmetric=False),
)
# (I, H, B, T): hidden 1, sizes around and over a vector register, and rows of more than 1,040 columns.
SIZES = ((3, 1, 2, 4), (5, 3, 4, 6), (7, 17, 3, 5), (40, 100, 2, 7), (1100, 6, 2, 3))
# A rounding flip moves an output by a step of its row, as for the LSTM (test_operators).
FLIP = 5e-3


def float_weights(variant: GruVariant, inputs: int, H: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {"w": (inputs, 3 * H), "r": (H, 3 * H), "b": (3 * H,)} | ({"rb": (H,)} if variant.reset_after else {})
    return {
        name: (rng.standard_normal(shape) * (shape[0] ** -0.5 if len(shape) == 2 else 0.5)).astype(np.float32)
        for name, shape in shapes.items()
    }


def rounded_weights(variant: GruVariant, inputs: int, H: int, seed: int = 0) -> dict[str, np.ndarray]:
    weights: dict[str, np.ndarray] = {}
    scheme, rng = FOUR_BITS[(seed + inputs) % len(FOUR_BITS)], np.random.default_rng(seed)
    for name, array in float_weights(variant, inputs, H, seed).items():
        weights |= stored(variant, name, array, scheme, rng)
    return weights


def random_feeds(variant: GruVariant, inputs: int, H: int, B: int, T: int, seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    feeds = {
        "x": rng.standard_normal((T, B, inputs)).astype(np.float32),
        "h": rng.uniform(-0.9, 0.9, (1, B, H)).astype(np.float32),
    }
    if variant.ragged:
        feeds["lengths"] = np.array([0, T, *rng.integers(1, T + 1, max(0, B - 2))])[:B]
    return feeds


def run_body(variant: GruVariant, weights: dict, feeds: dict, function: onnx.FunctionProto | None = None) -> dict:
    ranks = {"x": 3, "h": 3, "lengths": 1}
    session = operator_session(variant.name, variant.inputs, OUTPUTS, weights, ranks, function=function)
    return dict(zip(OUTPUTS, session.run(list(OUTPUTS), feeds), strict=True))


def run_model(variant: GruVariant, weights: dict, feeds: dict, **options: str) -> dict[str, np.ndarray]:
    answers = numpy_model.gru(variant, feeds["x"], feeds["h"], weights, feeds.get("lengths"), **options)
    return dict(zip(OUTPUTS, answers, strict=True))


def run_reference(variant: GruVariant, weights: dict, feeds: dict) -> dict[str, np.ndarray]:
    """The float64 equations on the operators' weights, whose biases are summed."""
    H = feeds["h"].shape[2]
    recurrent_bias = np.concatenate([np.zeros(2 * H), weights.get("rb", np.zeros(H))])
    named = {"weight_ih_l0": weights["w"].T, "weight_hh_l0": weights["r"].T}
    named |= {"bias_ih_l0": weights["b"], "bias_hh_l0": recurrent_bias}
    answers = reference.gru(
        feeds["x"],
        named,
        hidden_size=H,
        reset_after=variant.reset_after,
        state=feeds["h"],
        lengths=feeds.get("lengths"),
    )
    return dict(zip(OUTPUTS, answers, strict=True))


def ids(variant: GruVariant) -> str:
    return variant.name


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v.storage == "int8"], ids=ids)
def test_the_models_equations_are_the_references(variant: GruVariant) -> None:
    for sizes in SIZES:
        weights, feeds = float_weights(variant, *sizes[:2]), random_feeds(variant, *sizes)
        got, expected = run_model(variant, weights, feeds, storage="float32"), run_reference(variant, weights, feeds)
        for name in OUTPUTS:
            assert_close(f"{variant.name} {sizes}: {name}", got[name], expected[name].astype(np.float32), CLOSE)


@pytest.mark.parametrize("reset_after", [False, True])
def test_onnxs_gru_is_the_same_cell(reset_after: bool) -> None:
    """linear_before_reset and the gates' order mean what the operators' weights make of them."""
    inputs, H, B, T = 3, 5, 4, 6
    arrays = gru_weights(1)
    node = helper.make_node(
        "GRU", ["x", "W", "R", "B", "", "h"], ["Y", "Y_h"], hidden_size=H, linear_before_reset=int(reset_after)
    )
    data = model(
        [node],
        {"x": (FLOAT, ["T", "B", inputs]), "h": (FLOAT, [1, "B", H])},
        {"Y": ["T", 1, "B", H], "Y_h": [1, "B", H]},
        arrays,
    )
    variant = GruVariant(reset_after=reset_after)
    feeds = random_feeds(variant, inputs, H, B, T)
    weights = gru_operator_weights({name: arrays[name][0] for name in "WRB"}, reset_after=reset_after)
    assert set(weights) == {"w", "r", "b"} | ({"rb"} if reset_after else set())
    expected = run_reference(variant, weights, feeds)
    y, h = open_session(data).run(None, feeds)
    assert_close("y", y[:, 0], expected["y"].astype(np.float32), CLOSE)
    assert_close("h", h, expected["h_out"].astype(np.float32), CLOSE)


def differences(variant: GruVariant, function: onnx.FunctionProto | None = None) -> np.ndarray:
    found = []
    for sizes in SIZES:
        weights, feeds = rounded_weights(variant, *sizes[:2]), random_feeds(variant, *sizes)
        got, expected = run_body(variant, weights, feeds, function), run_model(variant, weights, feeds)
        for name in OUTPUTS:
            assert got[name].shape == expected[name].shape
            found.append(np.abs(got[name] - expected[name]).ravel())
    return np.concatenate(found)


def assert_same_but_for_flips(found: np.ndarray) -> None:
    assert np.median(found) < 1e-6
    assert found.max() < FLIP
    # A flip concerns one value of one row and step; it must stay the exception.
    assert np.mean(found > CLOSE.absolute) < 0.1


@pytest.mark.parametrize("variant", VARIANTS, ids=ids)
def test_bodies_are_the_model_but_for_flips(variant: GruVariant) -> None:
    assert_same_but_for_flips(differences(variant))


@pytest.mark.parametrize("variant", VARIANTS, ids=ids)
def test_one_step_differs_by_sigmoid_alone_or_by_a_flip_that_is_there(variant: GruVariant) -> None:
    """Within a step x and h are rounded as the model does to the bit; only r ⊙ h, which is behind a σ, can flip."""
    for inputs, H, B, _ in SIZES:
        weights, feeds = rounded_weights(variant, inputs, H), random_feeds(variant, inputs, H, B, 1)
        got, expected = run_body(variant, weights, feeds), run_model(variant, weights, feeds)
        if variant.reset_after:
            assert_close("h_out", got["h_out"], expected["h_out"], CLOSE)
            continue
        # One step of 127 in a row of at most one, times the largest weight; two flips in a row were never seen.
        quantum = (15 if variant.storage == "int4" else 127) * float(weights["r_scale"].max()) / 127
        off = np.abs(got["h_out"] - expected["h_out"])
        assert off.max() < CLOSE.absolute + 2 * quantum
        assert np.mean(off > CLOSE.absolute) < 0.25


@pytest.mark.parametrize("reset_after", [False, True])
def test_zero_denormal_and_huge_rows(reset_after: bool) -> None:
    variant = GruVariant(reset_after=reset_after)
    weights, feeds = rounded_weights(variant, 5, 4), random_feeds(variant, 5, 4, 4, 3)
    feeds["x"][:, 0] = 0.0
    feeds["x"][:, 1] = np.float32(1e-40)
    feeds["x"][:, 2] = np.float32(1e30) * np.sign(feeds["x"][:, 2])
    feeds["h"][:, 0] = 0.0
    feeds["h"][:, 1] = np.float32(-1e-42)
    got, expected = run_body(variant, weights, feeds), run_model(variant, weights, feeds)
    for name in OUTPUTS:
        assert np.isfinite(got[name]).all()
        assert np.abs(got[name] - expected[name]).max() < FLIP


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v.ragged], ids=ids)
def test_a_short_row_stops_and_an_empty_one_keeps_its_state(variant: GruVariant) -> None:
    weights, feeds = rounded_weights(variant, 5, 3), random_feeds(variant, 5, 3, 4, 6)
    feeds["lengths"] = np.array([0, 6, 2, 1])
    got = run_body(variant, weights, feeds)
    np.testing.assert_array_equal(got["h_out"][:, 0], feeds["h"][:, 0])
    for row, length in enumerate(feeds["lengths"]):
        np.testing.assert_array_equal(got["y"][length:, row], 0.0)
        if length:
            np.testing.assert_array_equal(got["h_out"][0, row], got["y"][length - 1, row])
    # The same row without lengths, cut to its own.
    whole = replace(variant, ragged=False)
    cut = {"x": np.ascontiguousarray(feeds["x"][:2, 2:3]), "h": np.ascontiguousarray(feeds["h"][:, 2:3])}
    np.testing.assert_array_equal(run_body(whole, weights, cut)["h_out"][:, 0], got["h_out"][:, 2])


# What is wrong: the variant, and lines of its body's text with what stands in their place.
AFTER, BEFORE, RAGGED = GruVariant(reset_after=True), GruVariant(), GruVariant(reset_after=True, ragged=True)
MUTATIONS: dict[str, tuple[GruVariant, str, str]] = {
    "gates of the input swapped": (AFTER, "x_r, x_z, x_n = Split", "x_z, x_r, x_n = Split"),
    "gates of h swapped": (AFTER, "h_r, h_z, h_n = Split", "h_z, h_r, h_n = Split"),
    "candidate first": (AFTER, "h_r, h_z, h_n = Split", "h_n, h_r, h_z = Split"),
    "no recurrent bias": (AFTER, "biased = Add (h_n, rb)", "biased = Identity (h_n)"),
    "recurrent bias outside of the reset gate": (
        AFTER,
        "biased = Add (h_n, rb)\n      gated = Mul (reset, biased)\n",
        "scaled = Mul (reset, h_n)\n      gated = Add (scaled, rb)\n",
    ),
    "no bias": (AFTER, "zb = Add (zx, b)", "zb = Identity (zx)"),
    "no reset gate": (AFTER, "gated = Mul (reset, biased)", "gated = Identity (biased)"),
    "reset by the update gate": (AFTER, "gated = Mul (reset, biased)", "gated = Mul (update, biased)"),
    "update exchanged": (
        AFTER,
        "added = Mul (share, n)\n      kept = Mul (update,",
        "added = Mul (update, n)\n      kept = Mul (share,",
    ),
    "h not kept": (AFTER, "h_new = Add (added, kept)", "h_new = Identity (added)"),
    "candidate by sigmoid": (AFTER, "n = Tanh (a_n)", "n = Sigmoid (a_n)"),
    "128 levels": (AFTER, "levels = Constant <value_float = 127.0>", "levels = Constant <value_float = 128.0>"),
    "h not rounded": (AFTER, "zh_sum = MatMul (h_prev_q,", "zh_sum = MatMul (h_prev_scaled,"),
    "x not rounded": (AFTER, "zx_sum = MatMul (x_q,", "zx_sum = MatMul (x_scaled,"),
    "one scale for all rows": (
        AFTER,
        "x_amax = ReduceMax <keepdims = 1> (x_abs, last)",
        "x_amax = ReduceMax <keepdims = 1> (x_abs)",
    ),
    "reset before: not gated": (BEFORE, "gated = Mul (reset, h_prev)", "gated = Identity (h_prev)"),
    "reset before: not rounded": (BEFORE, "h_n_sum = MatMul (gated_q,", "h_n_sum = MatMul (gated_scaled,"),
    "reset before: the scale of h": (BEFORE, "h_n_row = Mul (h_n_sum, gated_s)", "h_n_row = Mul (h_n_sum, h_prev_s)"),
    "the state runs past the length": (RAGGED, "h_next = Where (valid, h_new, h_prev)", "h_next = Identity (h_new)"),
    "outputs past the length": (RAGGED, "y_step = Where (valid, h_new, zero)", "y_step = Identity (h_new)"),
    "one step too many": (RAGGED, "inside = Less (t, lengths)", "inside = LessOrEqual (t, lengths)"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_body_is_caught(name: str) -> None:
    variant, right, wrong = MUTATIONS[name]
    text = gru_text(variant)
    assert text.count(right) == 1
    function = onnx.parser.parse_function(text.replace(right, wrong))
    found = differences(variant, function)
    with pytest.raises(AssertionError):
        assert_same_but_for_flips(found)


def test_reset_before_and_after_are_different_cells() -> None:
    """The equations of one on the weights of the other are far off, with the biases where each has them."""
    weights, feeds = rounded_weights(AFTER, *SIZES[2][:2]), random_feeds(AFTER, *SIZES[2])
    other = {name: array for name, array in weights.items() if name != "rb"}
    H = SIZES[2][1]
    other["b"] = weights["b"] + np.concatenate([np.zeros(2 * H, np.float32), weights["rb"]])
    assert np.median(np.abs(run_body(AFTER, weights, feeds)["y"] - run_model(BEFORE, other, feeds)["y"])) > 1e-2


@pytest.mark.parametrize("reset_after", [False, True])
@pytest.mark.parametrize(("inputs", "hidden"), [(64, 128), (128, 256)])
def test_signal_to_noise_against_the_float64_equations(reset_after: bool, inputs: int, hidden: int) -> None:
    """Over 100 steps: int8 40.5 to 41.2 dB, int4 in blocks of 32 20.0 to 20.8 dB."""
    variant = GruVariant(reset_after=reset_after)
    floats, feeds = float_weights(variant, inputs, hidden), random_feeds(variant, inputs, hidden, 4, 100)
    expected = run_reference(variant, floats, feeds)["y"]
    for four, least in ((False, 38.0), (True, 17.0)):
        variant = GruVariant(reset_after=reset_after, storage="int4" if four else "int8")
        weights: dict[str, np.ndarray] = {}
        for name, array in floats.items():
            parts = (
                round_matrix(name, array, Scheme(kind="int4", block=32) if four else Scheme())
                if array.ndim == 2
                else {"": array}
            )
            weights |= {f"{name}{suffix}": part for suffix, part in parts.items()}
        measured = snr_db(expected, run_body(variant, weights, feeds)["y"])
        assert measured > least


def test_names_and_variants() -> None:
    alike = [v.name for v in sorted(all_grus(), key=lambda v: (v.reset_after, v.ragged)) if v.w_storage is None]
    assert [name for name in alike if "Sparse" not in name] == [
        "GruInt8V1",
        "GruInt4V1",
        "GruRaggedInt8V1",
        "GruRaggedInt4V1",
        "GruResetAfterInt8V1",
        "GruResetAfterInt4V1",
        "GruResetAfterRaggedInt8V1",
        "GruResetAfterRaggedInt4V1",
    ]
    digests = function_digests()
    for variant in all_grus():
        assert parse_gru_name(variant.name) == variant
        assert parse_cell_name(variant.name) is None
        function = function_for(variant.name)
        assert (function.domain, function.name) == (DOMAIN, variant.name)
        assert tuple(function.input) == variant.inputs
        assert tuple(function.output) == OUTPUTS
        assert variant.name in digests
    assert len(set(digests.values())) == len(digests)
    int4 = GruVariant(reset_after=True, ragged=True, storage="int4")
    assert int4.inputs == ("x", "h", "lengths", "w", "w_scale", "w_zero", "r", "r_scale", "r_zero", "b", "rb")
    assert GruVariant().inputs == ("x", "h", "w", "w_scale", "r", "r_scale", "b")
    for wrong in (
        "GruV1",
        "GruV2",
        "GruInt8V2",
        "GruRaggedResetAfterInt8V1",
        "LstmInt8V1",
        "GruInt8V1X",
        "XGruInt8V1",
        "",
    ):
        assert parse_gru_name(wrong) is None
    with pytest.raises(KeyError, match="lstm_edge::GruV2 is not an operator of this version"):
        function_for("GruV2")


def test_the_document_says_what_the_model_does() -> None:
    section = DOCUMENT.partition("## GRU cells")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)`", section, re.MULTILINE)
    assert {"Gru", "ResetAfter", "Ragged", "V1", "x", "h", "lengths", "w", "r", "b", "rb"} <= set(rows)
    assert "r z n" in section
    for line in ("h' = ((1 - z) · n) + (z · h)", "n = tanh(x_n + r · (h_n + rb))", "n = tanh(x_n + h_n)"):
        assert line in section
    assert "from `GruInt8V1` to `GruResetAfterRaggedWSparseInt8RInt4V1`" in section
    assert "there are 4 cells in each of nine storages" in section
    assert len({variant.name for variant in all_grus()}) == 4 * 9
