"""Schemes layer by layer: every scheme of every kind of layer, by its bytes and its answers, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import exported, operators, parsed, random_inputs, random_network_state, session_of
from onnx import TensorProto, helper, numpy_helper
from onnx_files import FLIP, FLOAT, H, I, feeds_of, gru_model, lstm_model, model, weights
from quantize_witness import noted, rounded_columns, rounded_rows, rows_times

from lstm_edge_exporters.quantize import Scheme, describe_parts, parse_scheme, quantize_bytes
from lstm_edge_exporters.quantize.rounding import round_matrix
from lstm_edge_runtime.errors import CoverageError, QuantizationError
from lstm_edge_runtime.providers import open_session
from lstm_edge_runtime.selftest import self_test
from lstm_edge_runtime.session import Session

# float32 sums of a few dozen products in another order.
CLOSE = 2e-6
TEXTS = ("float32", "float16", "int8", "int4", "int4:128", "int4:32:zero", "int4:128:zero")
SMALLER = TEXTS[1:]
V = 11


def random(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * max(shape[-1], 1) ** -0.5).astype(np.float32)


def embedding_model(rows: int, features: int) -> bytes:
    node = helper.make_node("Gather", ["table", "ids"], ["y"], name="embedding/Gather")
    inputs = {"ids": (TensorProto.INT64, ["batch", "time"])}
    return model([node], inputs, {"y": ["batch", "time", features]}, {"table": random((rows, features))})


def linear_model(k: int, n: int, *, gemm: bool = False) -> bytes:
    arrays = {"weight": random((n, k) if gemm else (k, n)), "bias": random((n,), seed=1)}
    if gemm:
        nodes = [helper.make_node("Gemm", ["x", "weight", "bias"], ["y"], name="head/Gemm", transB=1)]
    else:
        nodes = [
            helper.make_node("MatMul", ["x", "weight"], ["z"], name="head/MatMul"),
            helper.make_node("Add", ["z", "bias"], ["y"], name="head/Add"),
        ]
    return model(nodes, {"x": (FLOAT, ["batch", k])}, {"y": ["batch", n]}, arrays)


def convolution_model(shape: tuple[int, ...], *, groups: int = 1, bias: bool = True) -> bytes:
    arrays = {"weight": random(shape)} | ({"bias": random(shape[:1], seed=1)} if bias else {})
    node = helper.make_node("Conv", ["x", *arrays], ["y"], name="conv/Conv", group=groups)
    axes = ["batch", shape[1] * groups, *(["time", 8][: len(shape) - 2])]
    result = ["batch", shape[0], *(["steps", "columns"][: len(shape) - 2])]
    return model([node], {"x": (FLOAT, axes)}, {"y": result}, arrays)


def front_end(*, factor: float = 1.0) -> bytes:
    """A convolution, an LSTM, a head and tanh: named conv, rnn and head; ``factor`` scales the head's weights."""
    arrays = {"kernel": random((I, 2, 3)), "head": random((H, 4)) * np.float32(factor)}
    arrays |= {name: weights(1)[name] for name in ("W", "R", "B")} | {"one": np.array([1])}
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["c"], name="conv/Conv", pads=[1, 1]),
        helper.make_node("Transpose", ["c"], ["t"], name="turn", perm=[2, 0, 1]),
        helper.make_node("LSTM", ["t", "W", "R", "B"], ["Y"], name="rnn", hidden_size=H),
        helper.make_node("Squeeze", ["Y", "one"], ["flat"], name="flat"),
        helper.make_node("MatMul", ["flat", "head"], ["z"], name="head/MatMul"),
        helper.make_node("Tanh", ["z"], ["y"], name="tanh"),
    ]
    return model(nodes, {"x": (FLOAT, ["batch", 2, "time"])}, {"y": ["time", "batch", 4]}, arrays)


def quantized(data: bytes, part: str, text: str, **options: Any):
    return quantize_bytes(data, scheme="float32", parts={part: Scheme.parse(text)}, **options)


def answers(data: bytes, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    return open_session(data).run(None, feeds)


def stored_bytes(data: bytes, names: set[str]) -> int:
    return sum(len(tensor.raw_data) for tensor in parsed(data).graph.initializer if tensor.name in names)


def blocks_of(k: int, text: str) -> int:
    return -(-k // (128 if ":128" in text else 32))


def table_bytes(rows: int, columns: int, text: str) -> int:
    """Bytes of a table stored by rows."""
    if text == "float16":
        return 2 * rows * columns
    if text == "int8":
        return rows * columns + 4 * rows
    blocks = blocks_of(columns, text)
    return rows * ((columns + 1) // 2) + 4 * rows * blocks + (rows * blocks if "zero" in text else 1)


def replaced(data: bytes, arrays: dict[str, np.ndarray]) -> bytes:
    proto = parsed(data)
    for tensor in proto.graph.initializer:
        if tensor.name in arrays:
            tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name].astype(np.float32), tensor.name))
    return proto.SerializeToString()


# --- schemes ---------------------------------------------------------------------------------------------------------


@given(st.sampled_from(("float32", "float16", "int8", "int4")), st.sampled_from((32, 128)), st.booleans())
def test_a_scheme_and_its_text(kind: Any, block: Any, symmetric: bool) -> None:
    if kind != "int4" and (block != 32 or not symmetric):
        with pytest.raises(QuantizationError, match=f"^blocks and zero points are for int4: {kind} has "):
            Scheme(kind=kind, block=block, symmetric=symmetric)
        return
    scheme = Scheme(kind=kind, block=block, symmetric=symmetric)
    assert Scheme.parse(scheme.text) == scheme
    assert parse_scheme(scheme.text) == scheme
    assert scheme.text in TEXTS


@given(st.text(max_size=16))
def test_other_texts_are_refused(text: str) -> None:
    if text in (*TEXTS, "int4:32"):
        return
    with pytest.raises(QuantizationError, match=r"^unknown scheme .*; known ones are int8, int4, int4:128, "):
        Scheme.parse(text)


def test_texts_say_what_they_mean() -> None:
    assert {text: str(Scheme.parse(text)) for text in TEXTS} == {
        "float32": "float32",
        "float16": "float16",
        "int8": "int8",
        "int4": "int4, block 32",
        "int4:128": "int4, block 128",
        "int4:32:zero": "int4, block 32, zero points",
        "int4:128:zero": "int4, block 128, zero points",
    }
    assert Scheme.parse("int4:32") == Scheme(kind="int4")
    for text, sentence in (
        ("int8:128", "unknown scheme 'int8:128'"),
        ("int4:64", "unknown scheme 'int4:64'"),
        ("INT8", "unknown scheme 'INT8'"),
    ):
        with pytest.raises(QuantizationError, match=f"^{sentence}; known ones are int8, int4, int4:128, int4:32:zero"):
            Scheme.parse(text)
    with pytest.raises(
        QuantizationError, match=r"^unknown scheme 'int3'; known ones are float32, float16, int8, int4$"
    ):
        Scheme(kind="int3")  # type: ignore[arg-type]  # what is wrong is the point
    with pytest.raises(QuantizationError, match=r"^the block is 64: int4 has blocks of 32 or 128 inputs$"):
        Scheme(kind="int4", block=64)  # type: ignore[arg-type]  # what is wrong is the point


# --- each kind of layer in each scheme -------------------------------------------------------------------------------


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


@pytest.mark.parametrize("text", ["int8", "int4", "int4:128:zero"])
def test_a_recurrent_layer_by_name_is_what_the_scheme_gives(text: str) -> None:
    for data in (lstm_model("bidirectional", lengths=True), gru_model("reverse")):
        assert quantized(data, "rnn", text).data == quantize_bytes(data, scheme=text).data


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


def test_the_most_specific_part_wins_and_the_rest_has_the_scheme() -> None:
    parts = {"rnn": Scheme(kind="int4"), "conv": Scheme(kind="float16")}
    artifact = quantize_bytes(front_end(), scheme="int8", parts=parts)
    quantization = noted(artifact)
    assert [(row.layer, row.operator, row.scheme) for row in quantization.coverage] == [
        ("conv", "Conv", "float16"),
        ("rnn", "LSTM", "int4, block 32"),
        ("head", "MatMul", "int8"),
    ]
    assert (quantization.scheme, dict(quantization.parts)) == (
        "mixed",
        {"conv": "float16", "rnn": "int4", "head": "int8"},
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


def test_embeddings_are_int8_rows_in_int4_files_unless_named() -> None:
    data = exported("language-model")
    found = noted(quantize_bytes(data, scheme="int4"))
    assert (found.scheme, found.coverage[0].scheme, found.parts["embedding"]) == ("int4, block 32", "int8", "int8")
    named = noted(quantize_bytes(data, scheme="int4", parts={"embedding": Scheme(kind="int4")}))
    assert (named.scheme, named.coverage[0].scheme) == ("int4, block 32", "int4, block 32")
    other = noted(quantize_bytes(data, scheme="int4", parts={"embedding": Scheme(kind="int8")}))
    assert (other.scheme, dict(other.parts)) == ("mixed", dict(found.parts))


def test_a_part_wins_over_recurrent_layers_only() -> None:
    artifact = quantize_bytes(front_end(), layers="recurrent", parts={"head": Scheme(kind="int4")})
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
    parts = {"rnn.R.f": Scheme(kind="int4"), "rnn.R.o": Scheme(kind="int4")}
    artifact = quantize_bytes(data, parts=parts, rounder=halved, calibration_sha256="ab" * 32)
    assert seen.pop("head.weight") == ((H, 4), "int8")
    assert seen.pop("rnn.w") == ((I, 4 * H), "int8")
    # The columns of two gates each; the second call is what is seen.
    assert seen == {"rnn.r": ((H, 2 * H), "int4")}
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


def test_every_described_scheme_works() -> None:
    """Each scheme of each layer, alone; float32 is nothing to do."""
    for data in (front_end(), lstm_model(clip=1.0), gru_model()):
        for layer in describe_parts(data):
            for scheme in layer.schemes:
                if scheme.kind != "float32":
                    artifact = quantize_bytes(data, scheme="float32", parts={layer.layer: scheme})
                    assert noted(artifact).parts[layer.layer] == scheme.text
                    assert Session(artifact.data).card == artifact.card


def test_layers_without_a_quantized_form_say_so() -> None:
    clipped, gru = describe_parts(lstm_model(clip=1.0))[0], describe_parts(gru_model())[0]
    assert clipped.parts == ("rnn",)
    assert {scheme.text for scheme in clipped.schemes} == {"float16", "float32"}
    assert (gru.parts, {scheme.text for scheme in gru.schemes}) == (("rnn",), set(TEXTS))


# --- refusals --------------------------------------------------------------------------------------------------------


def test_an_unknown_part_lists_the_known_ones() -> None:
    with pytest.raises(QuantizationError) as caught:
        quantize_bytes(front_end(), parts={"lstm": Scheme()})
    assert str(caught.value) == (
        "the model has no part 'lstm'; known ones are conv, rnn (and .W, .R, .W.i ... .R.o), head"
    )
    for part in ("rnn.B", "rnn.W.x", "rnn.", "head.W.q", ""):
        with pytest.raises(QuantizationError, match=r"^the model has no part .*; known ones are conv, rnn "):
            quantize_bytes(front_end(), parts={part: Scheme()})


@pytest.mark.parametrize("part", ["rnn.W", "rnn.R.f"])
def test_matrices_of_a_gru_have_no_schemes_of_their_own(part: str) -> None:
    with pytest.raises(QuantizationError) as caught:
        quantize_bytes(gru_model(), parts={part: Scheme()})
    assert str(caught.value) == (
        f"{part}: rnn is no LSTM whose matrices can have schemes of their own; name the whole layer, rnn"
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
    for parts in ({}, {"rnn": Scheme(kind="float32")}):
        with pytest.raises(QuantizationError, match=r"^every layer is to stay float32: nothing to quantize$"):
            quantize_bytes(front_end(), scheme="float32", parts=parts)


def test_a_mixed_file_is_not_quantized_again() -> None:
    once = quantize_bytes(front_end(), parts={"rnn.R": Scheme(kind="int4")}).data
    with pytest.raises(QuantizationError, match=r"^the model is quantized already \(mixed\): start from the float32"):
        quantize_bytes(once)
