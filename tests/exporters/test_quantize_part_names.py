"""Which part gets which scheme: addresses, precedence, what is listed, and what is refused."""

from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper
from support.networks import exported, operators, parsed
from support.onnx_files import FLOAT, H, I, gru_model, lstm_model, model, weights
from support.part_models import (
    SMALLER,
    TEXTS,
    V,
    answers,
    convolution_model,
    embedding_model,
    front_end,
    linear_model,
    quantized,
    random,
    replaced,
)
from support.quantize_witness import noted

from lstm_edge_exporters.quantize import Scheme, describe_parts, quantize_bytes
from lstm_edge_exporters.quantize.rounding import round_matrix
from lstm_edge_runtime.errors import CoverageError, QuantizationError
from lstm_edge_runtime.session import Session


def test_the_most_specific_part_wins_and_the_rest_has_the_scheme() -> None:
    parts = {"rnn": Scheme(kind="int4", block=32), "conv": Scheme(kind="float16")}
    artifact = quantize_bytes(front_end(), scheme="int8", parts=parts)
    quantization = noted(artifact)
    assert [(row.layer, row.operator, row.scheme) for row in quantization.coverage] == [
        ("conv", "Conv", "float16"),
        ("rnn", "LSTM", "int4, block 32"),
        ("head", "MatMul", "int8"),
    ]
    assert (quantization.scheme, dict(quantization.parts)) == (
        "mixed",
        {"conv": "float16", "rnn": "int4:32", "head": "int8"},
    )
    again = {part: Scheme.parse(text) for part, text in quantization.parts.items()}
    assert quantize_bytes(front_end(), scheme="float32", parts=again).data == artifact.data
    parts |= {"rnn.R": Scheme(kind="int8"), "rnn.R.f": Scheme(kind="float16")}
    row = noted(quantize_bytes(front_end(), parts=parts)).coverage[1]
    assert row.scheme == "W int4, block 32, R i g o int8, R f float16"


def test_a_convolution_stays_float32_unless_it_is_named() -> None:
    for scheme in ("int8", "int4", "float16"):
        artifact = quantize_bytes(front_end(), scheme=scheme)
        assert [row.layer for row in noted(artifact).coverage] == ["rnn", "head"]
        assert noted(artifact).scheme == str(Scheme.parse(scheme))
        kernels = [t for t in parsed(artifact.data).graph.initializer if t.name == "kernel"]
        assert [tensor.data_type for tensor in kernels] == [FLOAT]


@pytest.mark.slow
def test_embeddings_are_int8_rows_in_int4_files_unless_named() -> None:
    data = exported("language-model")
    found = noted(quantize_bytes(data, scheme="int4:32"))
    assert (found.scheme, found.coverage[0].scheme, found.parts["embedding"]) == ("int4, block 32", "int8", "int8")
    named = noted(quantize_bytes(data, scheme="int4:32", parts={"embedding": Scheme(kind="int4", block=32)}))
    assert (named.scheme, named.coverage[0].scheme) == ("int4, block 32", "int4, block 32")
    other = noted(quantize_bytes(data, scheme="int4:32", parts={"embedding": Scheme(kind="int8")}))
    assert (other.scheme, dict(other.parts)) == ("mixed", dict(found.parts))


def test_a_part_wins_over_recurrent_layers_only() -> None:
    artifact = quantize_bytes(front_end(), layers="recurrent", parts={"head": Scheme(kind="int4", block=32)})
    assert [row.scheme for row in noted(artifact).coverage] == ["int8", "int4, block 32"]
    left = noted(quantize_bytes(front_end(), layers="recurrent"))
    assert left.coverage[1].scheme == "float32: only recurrent layers were asked for"
    assert (left.scheme, dict(left.parts)) == ("int8", {"rnn": "int8", "head": "float32"})


def test_a_recurrent_layer_may_be_asked_to_stay_float32() -> None:
    artifact = quantize_bytes(front_end(), parts={"rnn": Scheme(kind="float32")})
    assert [row.scheme for row in noted(artifact).coverage] == ["float32", "int8"]
    assert "LSTM" in operators(artifact.data)
    assert noted(artifact).coverage[0].bytes_before == noted(artifact).coverage[0].bytes_after


def test_the_rounder_gets_the_matrices_by_name() -> None:
    seen: dict[str, tuple[tuple[int, ...], str]] = {}

    def halved(name: str, matrix: np.ndarray, scheme: Scheme) -> dict[str, np.ndarray]:
        assert matrix.dtype == np.float32
        seen[name] = (matrix.shape, scheme.text)
        return round_matrix(name, matrix / 2, scheme)

    data = front_end()
    parts = {"rnn.R.f": Scheme(kind="int4", block=32), "rnn.R.o": Scheme(kind="int4", block=32)}
    artifact = quantize_bytes(data, parts=parts, rounder=halved, calibration_sha256="ab" * 32)
    assert seen.pop("head.weight") == ((H, 4), "int8")
    assert seen.pop("rnn.w") == ((I, 4 * H), "int8")
    # The columns of two gates each; the second call is what is seen.
    assert seen == {"rnn.r": ((H, 2 * H), "int4:32")}
    assert noted(artifact).calibration_sha256 == "ab" * 32
    x = np.random.default_rng(0).standard_normal((2, 2, 6)).astype(np.float32)
    halves = {name: array / 2 for name, array in zip("WR", (weights(1)["W"], weights(1)["R"]), strict=True)}
    head = numpy_helper.to_array(next(t for t in parsed(data).graph.initializer if t.name == "head"))
    expected = answers(replaced(data, halves | {"head": head / 2}), {"x": x})[0]
    assert np.abs(answers(artifact.data, {"x": x})[0] - expected).max() < 0.1 * np.abs(expected).max()
    bidirectional = lstm_model("bidirectional")
    quantize_bytes(bidirectional, rounder=halved)
    assert set(seen) == {"rnn.w", "rnn.r", "rnn_reverse.w", "rnn_reverse.r"}


# --- what a model has ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_parts_of_a_model() -> None:
    conv, rnn, head = describe_parts(front_end())
    assert [(part.layer, part.kind, part.operator) for part in (conv, rnn, head)] == [
        ("conv", "convolution", "Conv"),
        ("rnn", "recurrent", "LSTM"),
        ("head", "linear", "MatMul"),
    ]
    assert [part.parameters for part in (conv, rnn, head)] == [I * 2 * 3, 4 * H * (I + H) + 8 * H, 4 * H]
    assert all(part.bytes == 4 * part.parameters for part in (conv, rnn, head))
    gates = tuple(f"rnn.{matrix}.{gate}" for matrix in "WR" for gate in "ifgo")
    assert (conv.parts, head.parts) == (("conv",), ("head",))
    assert rnn.parts == ("rnn", "rnn.W", "rnn.R", *gates)
    for part in (conv, rnn, head):
        assert {scheme.text for scheme in part.schemes} == set(TEXTS)
    data = exported("language-model")
    rows = noted(quantize_bytes(data)).coverage
    assert [(part.layer, part.bytes) for part in describe_parts(data)] == [(r.layer, r.bytes_before) for r in rows]


@pytest.mark.slow
def test_every_described_scheme_works() -> None:
    """Each scheme of each layer, alone; float32 is nothing to do."""
    for data in (front_end(), lstm_model(clip=1.0), gru_model()):
        layers = describe_parts(data)
        assert layers
        for layer in layers:
            assert {scheme.kind for scheme in layer.schemes} >= {"float32", "float16"}
            for scheme in layer.schemes:
                if scheme.kind != "float32":
                    artifact = quantize_bytes(data, scheme="float32", parts={layer.layer: scheme})
                    assert noted(artifact).parts[layer.layer] == scheme.text
                    assert Session(artifact.data).card == artifact.card


def test_layers_without_a_quantized_form_say_so() -> None:
    clipped, gru = describe_parts(lstm_model(clip=1.0))[0], describe_parts(gru_model())[0]
    assert clipped.parts == ("rnn",)
    assert {scheme.text for scheme in clipped.schemes} == {"float16", "float32"}
    assert (gru.parts, {scheme.text for scheme in gru.schemes}) == (("rnn", "rnn.W", "rnn.R"), set(TEXTS))


# --- refusals --------------------------------------------------------------------------------------------------------


def test_an_unknown_part_lists_the_known_ones() -> None:
    with pytest.raises(QuantizationError) as caught:
        quantize_bytes(front_end(), parts={"lstm": Scheme()})
    assert str(caught.value) == (
        "the model has no part 'lstm'; its parts are conv, rnn (and .W, .R, .W.i ... .R.o), head"
    )
    for part in ("rnn.B", "rnn.W.x", "rnn.", "head.W.q", ""):
        with pytest.raises(QuantizationError, match=r"^the model has no part .*; its parts are conv, rnn "):
            quantize_bytes(front_end(), parts={part: Scheme()})


def test_gates_of_a_gru_have_no_schemes_of_their_own() -> None:
    with pytest.raises(QuantizationError) as caught:
        quantize_bytes(gru_model(), parts={"rnn.R.f": Scheme()})
    assert str(caught.value) == "rnn.R.f: only the gates of an LSTM can have their own schemes; name rnn.W or rnn.R"


def test_matrices_of_a_layer_without_an_int8_form_have_no_schemes_of_their_own() -> None:
    with pytest.raises(QuantizationError) as caught:
        quantize_bytes(lstm_model(clip=1.0), parts={"rnn.W": Scheme()})
    assert str(caught.value) == (
        "rnn.W: rnn has no matrices that can have their own schemes; name the whole layer, rnn"
    )


def two_lstms(*names: str, **of_the_second: Any) -> bytes:
    """Two LSTM nodes with the same weights on the same input."""
    nodes = [
        helper.make_node(
            "LSTM", ["x", "W", "R", "B"], [f"Y{i}"], name=name, hidden_size=H, **of_the_second if i else {}
        )
        for i, name in enumerate(names)
    ]
    arrays = {name: weights(1)[name] for name in ("W", "R", "B")}
    return model(
        nodes, {"x": (FLOAT, ["time", "batch", I])}, {f"Y{i}": ["time", 1, "batch", H] for i in (0, 1)}, arrays
    )


def test_a_part_that_stands_for_two_layers_is_refused() -> None:
    """``a.W`` is the first one's matrix and the second one's name."""
    data = two_lstms("a", "a.W")
    with pytest.raises(QuantizationError) as caught:
        quantize_bytes(data, scheme="float32", parts={"a.W": Scheme()})
    assert str(caught.value) == (
        "a.W: layers a and a.W both have a part of this name; rename one of their nodes, or name none of the two"
    )
    assert noted(quantize_bytes(data, scheme="float32", parts={"a": Scheme()})).parts == {"a": "int8", "a.W": "float32"}


def test_a_layer_that_was_refused_does_not_hide_another_one_of_its_name() -> None:
    """The card's map makes the same file again; a part may not say that what became int8 stayed float32."""
    data = two_lstms("", "", clip=1.0)
    artifact = quantize_bytes(data, allow_unquantized=True)
    assert [row.scheme[:7] for row in noted(artifact).coverage] == ["int8", "float32"]
    assert noted(artifact).parts == {"LSTM": "int8"}
    parts = {part: Scheme.parse(text) for part, text in noted(artifact).parts.items()}
    assert quantize_bytes(data, scheme="float32", parts=parts, allow_unquantized=True).data == artifact.data


def test_float16_ends_at_65504() -> None:
    half = Scheme(kind="float16")
    with pytest.raises(CoverageError) as caught:
        quantize_bytes(front_end(factor=1e6), scheme="float16", parts={"head": half})
    largest = np.abs(random((H, 4)) * np.float32(1e6)).max()
    assert str(caught.value) == (
        f"head (MatMul) stays float32: head.weight holds {largest:.6g}, and float16 ends at 65504. "
        "Nothing was written; --allow-unquantized accepts that"
    )
    accepted = quantize_bytes(front_end(factor=1e6), scheme="float16", parts={"head": half}, allow_unquantized=True)
    assert dict(noted(accepted).parts) == {"rnn": "float16", "head": "float32"}
    # A linear layer that is not named says so in its row, as ever.
    row = noted(quantize_bytes(front_end(factor=1e6), scheme="float16")).coverage[1]
    assert row.scheme == f"float32: head.weight holds {largest:.6g}, and float16 ends at 65504"
    beyond = replaced(lstm_model(), {"W": weights(1)["W"] * np.float32(1e6)})
    for parts in ({}, {"rnn.W": half}, {"rnn.W.g": half}):
        with pytest.raises(
            CoverageError, match=r"^rnn \(LSTM\) stays float32: rnn\.[wW] holds .*float16 ends at 65504\."
        ):
            quantize_bytes(beyond, scheme="float32" if parts else "float16", parts=parts)


@pytest.mark.parametrize(("largest", "fits"), [(65519.99, True), (65520.0, False)])
def test_the_last_value_that_rounds_into_float16(largest: float, fits: bool) -> None:
    table = np.full((V, 3), largest, np.float32)
    data = replaced(embedding_model(V, 3), {"table": table})
    if fits:
        assert answers(quantized(data, "embedding", "float16").data, {"ids": np.array([[2]])})[0].max() == 65504
    else:
        with pytest.raises(CoverageError, match=r"embedding\.weight holds 65520, and float16 ends at 65504"):
            quantized(data, "embedding", "float16")


@pytest.mark.parametrize("text", SMALLER)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(text: str, value: float) -> None:
    for data, part, name in (
        (convolution_model((6, 4, 3)), "conv", "weight"),
        (embedding_model(V, 40), "embedding", "table"),
        (linear_model(5, 3), "head", "weight"),
    ):
        array = numpy_helper.to_array(parsed(data).graph.initializer[0]).copy()
        array.flat[3] = value
        with pytest.raises(QuantizationError, match=f"^{part}.weight: the weight holds NaN or infinity$"):
            quantized(replaced(data, {name: array}), part, text)


@pytest.mark.parametrize(
    "data",
    [linear_model(3, 0), linear_model(0, 3, gemm=True), embedding_model(0, 3), embedding_model(3, 0)],
    ids=["no-columns", "no-inputs", "no-rows", "no-features"],
)
@pytest.mark.parametrize("text", ["int8", "int4"])
def test_a_matrix_without_elements_is_no_layer(data: bytes, text: str) -> None:
    """It has no largest value to take a scale from."""
    assert describe_parts(data) == ()
    with pytest.raises(QuantizationError, match=r"^the model has no float32 recurrent, linear or embedding layer: "):
        quantize_bytes(data, scheme=text)


def test_a_recurrent_layer_without_inputs_stays_float32() -> None:
    arrays = weights(1) | {"W": np.zeros((1, 4 * H, 0), np.float32)}
    node = helper.make_node("LSTM", ["x", "W", "R", "B"], ["Y"], name="rnn", hidden_size=H)
    used = {name: arrays[name] for name in ("W", "R", "B")}
    data = model([node], {"x": (FLOAT, ["time", "batch", "none"])}, {"Y": ["time", 1, "batch", H]}, used)
    assert describe_parts(data)[0].parts == ("rnn",)
    sentence = rf"^rnn \(LSTM\) stays float32: input W is float32 \[1, {4 * H}, 0\], without elements\. "
    with pytest.raises(CoverageError, match=sentence):
        quantize_bytes(data)


def test_nothing_to_do_is_refused() -> None:
    with pytest.raises(QuantizationError, match=r"^the request leaves every layer float32: nothing to quantize$"):
        quantize_bytes(front_end(), scheme="float32", parts={"rnn": Scheme(kind="float32")})


def test_a_mixed_file_is_not_quantized_again() -> None:
    once = quantize_bytes(front_end(), parts={"rnn.R": Scheme(kind="int4", block=32)}).data
    with pytest.raises(QuantizationError, match=r"^the model is quantized already \(mixed\): start from the float32"):
        quantize_bytes(once)
