"""The RNN operators: function bodies on onnxruntime, their NumPy model, the float64 equations, their document."""

import re
from pathlib import Path

import numpy as np
import onnx.parser
import pytest
from support.networks import snr_db
from support.onnx_files import operator_session
from support.stored_weights import stored, tried

from lstm_edge import reference
from lstm_edge_exporters.functions import (
    DOMAIN,
    RnnVariant,
    all_rnns,
    function_digests,
    function_for,
    parse_gru_name,
    parse_rnn_name,
)
from lstm_edge_exporters.functions import simulation as numpy_model
from lstm_edge_exporters.functions.rnn import rnn_text
from lstm_edge_exporters.quantize.rounding import Scheme
from lstm_edge_exporters.verify.compare import CLOSE, assert_close

DOCUMENT = (Path(__file__).parents[2] / "docs" / "operators.md").read_text(encoding="utf-8")
VARIANTS = tried(all_rnns())
OUTPUTS = ("y", "h_out")
FOUR_BITS = (
    Scheme(kind="int4", block=32),
    Scheme(kind="int4", block=128),
    Scheme(kind="int4", block=32, symmetric=False),
)
# (I, H, B, T): hidden 1, sizes around and over a vector register, and rows of more than 1,040 columns.
SIZES = ((3, 1, 2, 4), (5, 3, 4, 6), (7, 17, 3, 5), (40, 100, 2, 7), (1100, 6, 2, 3))
# A rounding flip moves a state by a step of its row times a weight; the state has no gate that damps it.
FLIP = 2e-2


def float_weights(inputs: int, H: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    w, r = rng.standard_normal((inputs, H)) * inputs**-0.5, rng.standard_normal((H, H)) * H**-0.5
    arrays = {"w": w, "r": r, "b": rng.standard_normal(H) * 0.5}
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def rounded_weights(variant: RnnVariant, inputs: int, H: int, scheme: Scheme | None = None) -> dict[str, np.ndarray]:
    weights: dict[str, np.ndarray] = {}
    scheme, rng = scheme or FOUR_BITS[inputs % len(FOUR_BITS)], np.random.default_rng(inputs)
    for name, array in float_weights(inputs, H).items():
        weights |= stored(variant, name, array, scheme, rng)
    return weights


def random_feeds(variant: RnnVariant, inputs: int, H: int, B: int, T: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    feeds = {
        "x": rng.standard_normal((T, B, inputs)).astype(np.float32),
        "h": rng.uniform(-0.9, 0.9, (1, B, H)).astype(np.float32),
    }
    if variant.ragged:
        feeds["lengths"] = np.array([0, T, *rng.integers(1, T + 1, max(0, B - 2))])[:B]
    return feeds


def run_body(variant: RnnVariant, weights: dict, feeds: dict, function: onnx.FunctionProto | None = None) -> dict:
    ranks = {"x": 3, "h": 3, "lengths": 1}
    session = operator_session(variant.name, variant.inputs, OUTPUTS, weights, ranks, function=function)
    return dict(zip(OUTPUTS, session.run(list(OUTPUTS), feeds), strict=True))


def run_model(variant: RnnVariant, weights: dict, feeds: dict, **options: str) -> dict[str, np.ndarray]:
    answers = numpy_model.rnn(variant, feeds["x"], feeds["h"], weights, feeds.get("lengths"), **options)
    return dict(zip(OUTPUTS, answers, strict=True))


def run_reference(variant: RnnVariant, weights: dict, feeds: dict) -> dict[str, np.ndarray]:
    """The float64 equations on the operators' weights, whose biases are summed."""
    H = feeds["h"].shape[2]
    named = {"weight_ih_l0": weights["w"].T, "weight_hh_l0": weights["r"].T}
    named |= {"bias_ih_l0": weights["b"], "bias_hh_l0": np.zeros(H)}
    answers = reference.rnn(
        feeds["x"],
        named,
        hidden_size=H,
        activation="relu" if variant.relu else "tanh",
        state=feeds["h"],
        lengths=feeds.get("lengths"),
    )
    return dict(zip(OUTPUTS, answers, strict=True))


def ids(variant: RnnVariant) -> str:
    return variant.name


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v.storage == "int8"], ids=ids)
def test_the_models_equations_are_the_references(variant: RnnVariant) -> None:
    for sizes in SIZES:
        weights, feeds = float_weights(*sizes[:2]), random_feeds(variant, *sizes)
        got, expected = run_model(variant, weights, feeds, storage="float32"), run_reference(variant, weights, feeds)
        for name in OUTPUTS:
            assert_close(f"{variant.name} {sizes}: {name}", got[name], expected[name].astype(np.float32), CLOSE)


def differences(variant: RnnVariant, function: onnx.FunctionProto | None = None) -> np.ndarray:
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
    assert np.mean(found > CLOSE.absolute) < 0.1


@pytest.mark.parametrize("variant", VARIANTS, ids=ids)
def test_bodies_are_the_model_but_for_flips(variant: RnnVariant) -> None:
    assert_same_but_for_flips(differences(variant))


@pytest.mark.parametrize("ragged", [False, True])
def test_an_int8_relu_body_gives_the_models_bits(ragged: bool) -> None:
    """No tanh of onnxruntime's own is in it, and int8 sums are exact in every order."""
    assert differences(RnnVariant(relu=True, ragged=ragged)).max() == 0.0


def test_relu_of_minus_zero_is_zero_and_nan_stays() -> None:
    """Without a recurrence and a bias, relu sees x times one weight as it is."""
    variant = RnnVariant(relu=True)
    weights = rounded_weights(variant, 1, 2)
    weights |= {"b": np.full(2, -0.0, np.float32), "r": np.zeros((2, 2), np.int8)}
    feeds = {"x": np.array([[[0.5], [-0.5], [-0.0], [np.nan]]], np.float32), "h": np.zeros((1, 4, 2), np.float32)}
    with np.errstate(invalid="ignore"):
        model = run_model(variant, weights, feeds)["y"]
    for y in (model, run_body(variant, weights, feeds)["y"]):
        assert np.isnan(y[0, 3]).all()
        assert not np.signbit(y[0, :3]).any()
        assert (y[0, :2].max(axis=0) > 0).all()
        assert (y[0, :2].min(axis=0) == 0).all()


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v.ragged], ids=ids)
def test_a_short_row_stops_and_an_empty_one_keeps_its_state(variant: RnnVariant) -> None:
    weights, feeds = rounded_weights(variant, 5, 3), random_feeds(variant, 5, 3, 4, 6)
    feeds["lengths"] = np.array([0, 6, 2, 1])
    got = run_body(variant, weights, feeds)
    np.testing.assert_array_equal(got["h_out"][:, 0], feeds["h"][:, 0])
    for row, length in enumerate(feeds["lengths"]):
        np.testing.assert_array_equal(got["y"][length:, row], 0.0)
        if length:
            np.testing.assert_array_equal(got["h_out"][0, row], got["y"][length - 1, row])


# What is wrong: the variant, and lines of its body's text with what replaces them.
TANH, RELU, RAGGED = RnnVariant(), RnnVariant(relu=True), RnnVariant(ragged=True)
MUTATIONS: dict[str, tuple[RnnVariant, str, str]] = {
    "no bias": (TANH, "zb = Add (zx, b)", "zb = Identity (zx)"),
    "recurrence subtracted": (TANH, "a = Add (z, zh)", "a = Sub (z, zh)"),
    "sigmoid": (TANH, "h_new = Tanh (a)", "h_new = Sigmoid (a)"),
    "no activation": (RELU, "h_new = Where (below, zero, a)", "h_new = Identity (a)"),
    "relu turned": (RELU, "below = LessOrEqual (a, zero)", "below = LessOrEqual (zero, a)"),
    "h not rounded": (TANH, "zh_sum = MatMul (h_prev_q,", "zh_sum = MatMul (h_prev_scaled,"),
    "x not rounded": (RELU, "zx_sum = MatMul (x_q,", "zx_sum = MatMul (x_scaled,"),
    "128 levels": (TANH, "levels = Constant <value_float = 127.0>", "levels = Constant <value_float = 128.0>"),
    "the state runs past the length": (RAGGED, "h_next = Where (valid, h_new, h_prev)", "h_next = Identity (h_new)"),
    "one step too many": (RAGGED, "inside = Less (t, lengths)", "inside = LessOrEqual (t, lengths)"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_body_is_caught(name: str) -> None:
    variant, right, wrong = MUTATIONS[name]
    text = rnn_text(variant)
    assert text.count(right) == 1
    found = differences(variant, onnx.parser.parse_function(text.replace(right, wrong)))
    with pytest.raises(AssertionError):
        assert_same_but_for_flips(found)


@pytest.mark.parametrize("relu", [False, True])
def test_signal_to_noise_against_the_float64_equations(relu: bool) -> None:
    """I = 64, H = 128, 100 steps, int8 and int4 in blocks of 32."""
    variant = RnnVariant(relu=relu)
    floats, feeds = float_weights(64, 128), random_feeds(variant, 64, 128, 4, 100)
    expected = run_reference(variant, floats, feeds)["y"]
    for four, least in ((False, 30.0), (True, 9.0)):
        rounded = RnnVariant(relu=relu, storage="int4" if four else "int8")
        weights = rounded_weights(rounded, 64, 128, Scheme(kind="int4", block=32) if four else Scheme())
        assert snr_db(expected, run_body(rounded, weights, feeds)["y"]) > least


def test_names_and_variants() -> None:
    alike = [v.name for v in sorted(all_rnns(), key=lambda v: (v.relu, v.ragged)) if v.w_storage is None]
    assert len({v.name for v in all_rnns()}) == 4 * 9
    assert [name for name in alike if "Sparse" not in name] == [
        "RnnInt8V1",
        "RnnInt4V1",
        "RnnRaggedInt8V1",
        "RnnRaggedInt4V1",
        "RnnReluInt8V1",
        "RnnReluInt4V1",
        "RnnReluRaggedInt8V1",
        "RnnReluRaggedInt4V1",
    ]
    digests = function_digests()
    for variant in all_rnns():
        assert parse_rnn_name(variant.name) == variant
        assert parse_gru_name(variant.name) is None
        function = function_for(variant.name)
        assert (function.domain, function.name) == (DOMAIN, variant.name)
        assert tuple(function.input) == variant.inputs
        assert tuple(function.output) == OUTPUTS
        assert variant.name in digests
    assert RnnVariant(ragged=True, storage="int4").inputs == (
        "x",
        "h",
        "lengths",
        *("w", "w_scale", "w_zero", "r", "r_scale", "r_zero"),
        "b",
    )
    for wrong in ("RnnV1", "RnnReluV1", "RnnInt8V2", "RnnRaggedReluInt8V1", "xRnnInt8V1", "RnnInt8V1x"):
        assert parse_rnn_name(wrong) is None


def test_the_document_has_the_inputs() -> None:
    section = DOCUMENT.split("## RNN cells")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| [^|]* \| ([^|]*) \|", section, re.MULTILINE)
    assert rows == [("x", "all"), ("h", "all"), ("lengths", "`Ragged`"), ("w", "all"), ("r", "all"), ("b", "all")]
