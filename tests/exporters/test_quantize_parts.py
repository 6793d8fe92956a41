"""Schemes layer by layer: every scheme of every kind of layer, by its bytes and its answers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from support.networks import exported, operators, parsed, random_inputs, random_network_state, session_of
from support.onnx_files import FLIP, feeds_of, gru_model, lstm_model
from support.part_models import (
    CLOSE,
    SMALLER,
    TEXTS,
    V,
    answers,
    blocks_of,
    convolution_model,
    embedding_model,
    linear_model,
    quantized,
    replaced,
    stored_bytes,
    table_bytes,
)
from support.quantize_witness import noted, rounded_columns, rounded_rows, rows_times

from lstm_edge_exporters.quantize import Scheme, parse_scheme, quantize_bytes
from lstm_edge_runtime.card import parse_card, serialize_card
from lstm_edge_runtime.errors import QuantizationError
from lstm_edge_runtime.providers import open_session
from lstm_edge_runtime.selftest import self_test
from lstm_edge_runtime.session import Session

KINDS_WITHOUT_BLOCKS = ("float32", "float16", "int8")
FORMS = [{"kind": kind} for kind in KINDS_WITHOUT_BLOCKS]
FORMS += [{"kind": "int4", "block": block, "symmetric": zero} for block in (32, 128) for zero in (True, False)]


@pytest.mark.parametrize("kind", KINDS_WITHOUT_BLOCKS)
@pytest.mark.parametrize("form", [{"block": 32}, {"symmetric": False}, {"block": 32, "symmetric": False}], ids=str)
def test_blocks_and_zero_points_are_for_int4(kind: Any, form: dict[str, Any]) -> None:
    with pytest.raises(QuantizationError, match=f"^blocks and zero points are for int4: {kind} has "):
        Scheme(kind=kind, **form)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_scheme_and_its_text(form: dict[str, Any]) -> None:
    scheme = Scheme(**form)
    assert Scheme.parse(scheme.text) == scheme
    assert parse_scheme(scheme.text) == scheme
    assert scheme.text in TEXTS


@given(st.text(max_size=16).filter(lambda text: text not in (*TEXTS, "int4")))
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(QuantizationError, match=r"^unknown scheme .*; known ones are int8, int4:32, int4:128, "):
        Scheme.parse(text)


def test_texts_say_what_they_mean() -> None:
    assert {text: str(Scheme.parse(text)) for text in TEXTS} == {
        "float32": "float32",
        "float16": "float16",
        "int8": "int8",
        "int4:32": "int4, block 32",
        "int4:128": "int4, block 128",
        "int4:32:zero": "int4, block 32, zero points",
        "int4:128:zero": "int4, block 128, zero points",
    }
    assert Scheme.parse("int4") == parse_scheme("int4") == Scheme(kind="int4", block=128)
    for text, sentence in (
        ("int8:128", "unknown scheme 'int8:128'"),
        ("int4:64", "unknown scheme 'int4:64'"),
        ("INT8", "unknown scheme 'INT8'"),
    ):
        with pytest.raises(
            QuantizationError, match=f"^{sentence}; known ones are int8, int4:32, int4:128, int4:32:zero"
        ):
            Scheme.parse(text)
    with pytest.raises(
        QuantizationError, match=r"^unknown scheme 'int3'; known ones are float32, float16, int8, int4$"
    ):
        Scheme(kind="int3")  # type: ignore[arg-type]  # what is wrong is the point
    with pytest.raises(QuantizationError, match=r"^the block is 64: int4 has blocks of 32 or 128 inputs$"):
        Scheme(kind="int4", block=64)  # type: ignore[arg-type]  # what is wrong is the point


# --- each kind of layer in each scheme -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("text", SMALLER)
@pytest.mark.parametrize("features", [1, 33, 40, 64, 160])
def test_embeddings(features: int, text: str) -> None:
    data = embedding_model(V, features)
    artifact = quantized(data, "embedding", text)
    size = table_bytes(V, features, text)
    row = noted(artifact).coverage[0]
    assert (row.layer, row.scheme, row.bytes_before, row.bytes_after) == (
        *("embedding", str(Scheme.parse(text))),
        *(4 * V * features, size),
    )
    names = {f"embedding.{kind}.w{end}" for kind in ("float16", "int8", "int4") for end in ("", "_scale", "_zero")}
    assert stored_bytes(artifact.data, names) == size
    ids = np.array([[0, V - 1, 3, 3, -1], [5, 6, 7, 8, 9]])
    got = answers(artifact.data, {"ids": ids})[0]
    expected = rounded_rows(numpy_helper.to_array(parsed(data).graph.initializer[0]), text)[ids]
    np.testing.assert_allclose(got, expected, atol=1e-7, rtol=1e-6)
    assert answers(artifact.data, {"ids": ids[:1, :1]})[0].shape == (1, 1, features)


@pytest.mark.parametrize("text", SMALLER)
@pytest.mark.parametrize("gemm", [False, True], ids=["matmul", "gemm"])
def test_linear_layers(gemm: bool, text: str) -> None:
    k, n = 70, 7
    data = linear_model(k, n, gemm=gemm)
    artifact = quantized(data, "head", text)
    weight, bias = (numpy_helper.to_array(tensor) for tensor in parsed(data).graph.initializer)
    matrix = weight.T if gemm else weight
    blocks = blocks_of(k, text)
    sizes = {"float16": 2 * k * n, "int8": k * n + 4 * n}
    packed = k * 4 + 4 * n * blocks + (n * blocks if "zero" in text else 1)
    row = noted(artifact).coverage[0]
    assert (row.bytes_before, row.bytes_after) == (4 * (k * n + n), sizes.get(text, packed) + 4 * n)
    x = np.random.default_rng(3).standard_normal((5, k)).astype(np.float32)
    expected = rows_times(x, rounded_columns(matrix, text), text) + bias
    difference = np.abs(answers(artifact.data, {"x": x})[0] - expected)
    assert difference.max() <= (CLOSE if text == "float16" else FLIP)
    assert np.median(difference) <= CLOSE


@pytest.mark.slow
@pytest.mark.parametrize("text", SMALLER)
@pytest.mark.parametrize(
    ("shape", "groups"), [((6, 4, 3), 1), ((6, 1, 9), 3), ((5, 21, 2), 1), ((3, 2, 4, 5), 2), ((1, 1, 1), 1)]
)
def test_convolutions(shape: tuple[int, ...], groups: int, text: str) -> None:
    if shape[0] % groups:
        shape = (shape[0] * groups, *shape[1:])
    data = convolution_model(shape, groups=groups, bias=shape[0] != 5)
    artifact = quantized(data, "conv", text)
    weight = numpy_helper.to_array(parsed(data).graph.initializer[0])
    rounded = rounded_rows(weight.reshape(len(weight), -1), text).reshape(shape)
    row = noted(artifact).coverage[0]
    bias = 0 if shape[0] == 5 else 4 * shape[0]
    assert row.bytes_before == weight.nbytes + bias
    assert row.bytes_after == table_bytes(shape[0], weight[0].size, text) + bias
    size = (3, shape[1] * groups, *(9, 8)[: len(shape) - 2])
    x = np.random.default_rng(3).standard_normal(size).astype(np.float32)
    expected = answers(replaced(data, {"weight": rounded}), {"x": x})[0]
    np.testing.assert_allclose(answers(artifact.data, {"x": x})[0], expected, atol=CLOSE, rtol=1e-6)
    assert operators(artifact.data)[-1] == "Conv"


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("make", [lstm_model, gru_model], ids=["lstm", "gru"])
def test_recurrent_layers_in_float16(make: Any, direction: str) -> None:
    """The node stays what it is; states and lengths too."""
    data = make(direction, lengths=True, state=True)
    artifact = quantized(data, "rnn", "float16")
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in parsed(data).graph.initializer}
    rounded = {name: arrays[name].astype(np.float16) for name in "WR"}
    feeds = feeds_of(open_session(data), batch=3, time=8)
    expected = answers(replaced(data, rounded), feeds)
    for left, right in zip(answers(artifact.data, feeds), expected, strict=True):
        np.testing.assert_array_equal(left, right)
    assert any(not np.array_equal(a, b) for a, b in zip(answers(data, feeds), expected, strict=True))
    row = noted(artifact).coverage[0]
    size = sum(array.nbytes for array in arrays.values())
    assert (row.scheme, row.bytes_before) == ("float16", size)
    assert row.bytes_after == size - 2 * sum(array.size for array in rounded.values())
    assert operators(artifact.data) == ["Cast", "Cast", "LSTM" if make is lstm_model else "GRU"]


@pytest.mark.parametrize("text", ["int8", "int4:32", "int4:128:zero"])
def test_a_recurrent_layer_by_name_is_what_the_scheme_gives(text: str) -> None:
    for data in (lstm_model("bidirectional", lengths=True), gru_model("reverse")):
        assert quantized(data, "rnn", text).data == quantize_bytes(data, scheme=text).data


@pytest.mark.slow
@pytest.mark.parametrize("name", ["full", "projected", "diagonal", "language-model", "full-projected-bidirectional"])
def test_a_whole_model_in_float16(name: str) -> None:
    data = exported(name)
    artifact = quantize_bytes(data, scheme="float16")
    assert {row.scheme for row in noted(artifact).coverage} == {"float16"}
    assert noted(artifact).scheme == "float16"
    proto = parsed(data)
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor)
        matrix = array.ndim > 1 and not (name == "diagonal" and tensor.name.endswith((".B", ".P")))
        if array.dtype == np.float32 and matrix and not tensor.name.endswith(".B"):
            rounded = array.astype(np.float16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
    session = session_of(data)
    feeds = dict(random_inputs(session, 4, 9)) | dict(random_network_state(session, 4))
    del proto.metadata_props[:]
    for left, right in zip(answers(artifact.data, feeds), answers(proto.SerializeToString(), feeds), strict=True):
        np.testing.assert_allclose(left, right, atol=CLOSE, rtol=0)
    assert self_test(Session(artifact.data)).passed


@pytest.mark.slow
def test_a_float16_file_is_half() -> None:
    data = exported("wide-language-model")
    assert len(quantize_bytes(data, scheme="float16").data) < 0.52 * len(data)


@pytest.mark.parametrize("text", SMALLER)
def test_onnxruntime_folds_what_unpacks_a_convolution(text: str, tmp_path: Path) -> None:
    options, path = onnxruntime.SessionOptions(), tmp_path / "optimized.onnx"
    options.optimized_model_filepath, options.log_severity_level = str(path), 3
    data = quantized(convolution_model((6, 4, 3)), "conv", text).data
    onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    assert [node.op_type for node in onnx.load(str(path)).graph.node] in (["Conv"], ["FusedConv"])
    assert len(parsed(data).graph.node) > 1


# --- mixes of layers -------------------------------------------------------------------------------------------------


def test_int4_means_blocks_of_128_in_a_request_and_the_card_says_the_block() -> None:
    data = linear_model(200, 5)
    assert Scheme(kind="int4") == parse_scheme("int4") == parse_scheme("int4:128") == parse_scheme("int4", block=128)
    assert parse_scheme("int4", symmetric=False).text == "int4:128:zero"
    assert parse_scheme("int4", block=32, symmetric=False).text == "int4:32:zero"
    wide, narrow = (quantize_bytes(data, scheme=text) for text in ("int4", "int4:32"))
    assert wide.data == quantize_bytes(data, scheme="int4:128").data
    assert set(noted(wide).parts.values()) == {"int4:128"}
    assert set(noted(narrow).parts.values()) == {"int4:32"}
    # The parts of an earlier card, which had no block, make the same file again.
    old = json.loads(serialize_card(narrow.card))
    old["quantization"]["parts"] = dict.fromkeys(old["quantization"]["parts"], "int4")
    again = parse_card(json.dumps(old)).quantization
    assert again is not None
    parts = {part: Scheme.parse(text) for part, text in again.parts.items()}
    assert quantize_bytes(data, scheme="float32", parts=parts).data == narrow.data
    with pytest.raises(QuantizationError, match=r"^blocks and zero points are for int4: int8 has one scale a column$"):
        parse_scheme("int8", block=32)
