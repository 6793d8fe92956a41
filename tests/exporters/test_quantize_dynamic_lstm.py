"""onnxruntime's DynamicQuantizeLSTM becomes ours: integers and scales as they are where that is exact, else anew."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.networks import operators, parsed, snr_db
from support.onnx_files import FLOAT, B, H, I, T, both, feeds_of, lstm_model, weights

from lstm_edge_exporters.functions import CellVariant
from lstm_edge_exporters.functions import simulation as numpy_model
from lstm_edge_exporters.gates import reorder_gates
from lstm_edge_exporters.quantize import quantize_bytes
from lstm_edge_exporters.quantize.rounding import Scheme
from lstm_edge_runtime.errors import CoverageError
from lstm_edge_runtime.providers import open_session

EXACT = "int8: weights and scales carried over exactly"


def rounded(matrix: np.ndarray, *, per_column: bool, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """W or R [D, 4H, K] as the operator wants it: integers [D, K, 4H], scales and zero points [D] or [D, 4H]."""
    values = np.swapaxes(matrix, 1, 2)
    axes = (1,) if per_column else (1, 2)
    if kind in ("symmetric", "uint8-symmetric"):
        scale = np.abs(values).max(axis=axes, keepdims=True) / 127
        zero = np.full(scale.shape, 128 if kind == "uint8-symmetric" else 0)
    else:
        low, high = values.min(axis=axes, keepdims=True), values.max(axis=axes, keepdims=True)
        scale = (high - low) / 254
        zero = np.rint(-low / scale) - (127 if kind == "int8" else 0)
    dtype, bounds = (np.uint8, (0, 255)) if kind.startswith("uint8") else (np.int8, (-127, 127))
    integers = np.clip(np.rint(values / scale) + zero, *bounds).astype(dtype)
    sides = len(matrix)
    shape = (sides, -1) if per_column else (sides,)
    return integers, scale.reshape(shape).astype(np.float32), zero.reshape(shape).astype(dtype)


def dynamic_model(
    direction: str = "forward",
    *,
    per_column: bool = True,
    kind: str = "symmetric",
    lengths: bool = False,
    state: bool = False,
    peephole: bool = False,
    bias: bool = True,
    features: int = I,
    change: dict[str, np.ndarray] | None = None,
    **attributes: Any,
) -> bytes:
    sides = 2 if direction == "bidirectional" else 1
    floats = weights(sides)
    arrays: dict[str, np.ndarray] = {}
    for name in "WR":
        parts = rounded(floats[name], per_column=per_column, kind=kind)
        arrays |= dict(zip((name, f"{name}_scale", f"{name}_zero_point"), parts, strict=True))
    arrays |= ({"B": floats["B"]} if bias else {}) | ({"P": floats["P"]} if peephole else {}) | (change or {})
    inputs = {"x": (FLOAT, ["time", "batch", features])}
    names = ["x", "W", "R", "B" if bias else "", "", "", "", "P" if peephole else ""]
    names += ["W_scale", "W_zero_point", "R_scale", "R_zero_point"]
    if lengths:
        inputs["rows"], names[4] = (TensorProto.INT32, ["batch"]), "rows"
    if state:
        for position, name in ((5, "h0"), (6, "c0")):
            inputs[name], names[position] = (FLOAT, [sides, "batch", H]), name
    options = {"hidden_size": H, "direction": direction} | attributes
    outputs = {"Y": ["time", sides, "batch", H], "Y_h": [sides, "batch", H], "Y_c": [sides, "batch", H]}
    node = helper.make_node("DynamicQuantizeLSTM", names, list(outputs), name="rnn", domain="com.microsoft", **options)
    graph = helper.make_graph(
        [node],
        "other",
        [helper.make_tensor_value_info(name, kind, axes) for name, (kind, axes) in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, axes) for name, axes in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()


def stored(data: bytes) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in parsed(data).graph.initializer}


@pytest.mark.slow
@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("extra", [(), ("lengths",), ("state", "peephole")], ids=str)
def test_symmetric_weights_are_carried_over_exactly(direction: str, per_column: bool, extra: tuple) -> None:
    data = dynamic_model(direction, per_column=per_column, **dict.fromkeys(extra, True))
    artifact = quantize_bytes(data)
    assert artifact.card.quantization is not None
    (row,) = artifact.card.quantization.coverage
    assert (row.layer, row.operator, row.scheme) == ("rnn", "com.microsoft::DynamicQuantizeLSTM", EXACT)
    assert row.bytes_before == sum(array.nbytes for array in stored(data).values())
    name = f"lstm_edge::Lstm{'Diagonal' * ('peephole' in extra)}{'Ragged' * ('lengths' in extra)}Int8V1"
    assert operators(artifact.data).count(name) == (2 if direction == "bidirectional" else 1)
    assert "com.microsoft" not in {entry.domain for entry in parsed(artifact.data).opset_import}
    onnx.checker.check_model(parsed(artifact.data), full_check=True)
    before, after = stored(data), stored(artifact.data)
    for side in range(2 if direction == "bidirectional" else 1):
        path = "rnn_reverse" if side else "rnn"
        for ours, theirs in (("w", "W"), ("r", "R")):
            q = reorder_gates(before[theirs][side], src="iofc", dst="ifgo", axis=1)
            scale = np.broadcast_to(before[f"{theirs}_scale"][side], (4 * H,))
            np.testing.assert_array_equal(after[f"{path}.int8.{ours}"], q, strict=True)
            expected = reorder_gates(scale, src="iofc", dst="ifgo")
            np.testing.assert_array_equal(after[f"{path}.int8.{ours}_scale"], expected, strict=True)
    whole, got = both(data, artifact.data)
    for key in whole:
        # Both round activations to eight bits, each in its own way.
        assert snr_db(whole[key], got[key]) > 28, key


# What the file stores, and whether its integers less their zero point stay within 127.
STORED = {
    "uint8": ({"kind": "uint8", "per_column": False}, False),
    "zero-points": ({"kind": "int8", "per_column": False}, False),
    "uint8-around-128": ({"kind": "uint8-symmetric"}, True),
}


def float_answer(data: bytes) -> dict[str, np.ndarray]:
    """The answer of the float32 LSTM with the weights that the integers stand for."""
    arrays = stored(data)
    floats = {}
    for name in "WR":
        scale, zero = (np.asarray(arrays[f"{name}_{part}"]) for part in ("scale", "zero_point"))
        shape = (len(scale), 1, -1)
        q = arrays[name].astype(np.float32) - zero.astype(np.float32).reshape(shape)
        floats[name] = np.swapaxes(q * scale.reshape(shape), 1, 2)
    proto = parsed(lstm_model())
    for tensor in proto.graph.initializer:
        array = floats.get(tensor.name, arrays.get(tensor.name))
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))
    session = open_session(proto.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds_of(session)), strict=True))


@pytest.mark.parametrize("name", STORED)
def test_other_integers_are_carried_over_where_they_fit_and_else_rounded_anew(name: str) -> None:
    options, fits = STORED[name]
    data = dynamic_model(**options)
    artifact = quantize_bytes(data)
    assert artifact.card.quantization is not None
    (row,) = artifact.card.quantization.coverage
    reason = "weights in W that are more than 127 from their zero point"
    assert row.scheme == (EXACT if fits else f"int8: dequantized and rounded anew, because of {reason}")
    assert operators(artifact.data).count("lstm_edge::LstmInt8V1") == 1
    if fits:
        before, after = stored(data), stored(artifact.data)
        q = reorder_gates(before["W"][0], src="iofc", dst="ifgo", axis=1).astype(int) - 128
        np.testing.assert_array_equal(after["rnn.int8.w"], q)
    expected = float_answer(data)
    _, got = both(data, artifact.data)
    for key, want in expected.items():
        assert snr_db(want, got[key]) > 30, key


def test_zero_points_that_were_dropped_would_be_seen() -> None:
    data = dynamic_model(kind="uint8", per_column=False)
    zeros = dynamic_model(kind="uint8", per_column=False, change={"W_zero_point": np.zeros(1, np.uint8)})
    _, got = both(zeros, quantize_bytes(zeros).data)
    assert snr_db(float_answer(data)["Y"], got["Y"]) < 10


def test_a_weight_of_minus_128_is_rounded_anew() -> None:
    integers = rounded(weights(1)["W"], per_column=True, kind="symmetric")[0]
    integers[0, 1, 2] = -128
    artifact = quantize_bytes(dynamic_model(change={"W": integers}))
    assert artifact.card.quantization is not None
    scheme = "int8: dequantized and rounded anew, because of weights in W that are more than 127 from their zero point"
    assert artifact.card.quantization.coverage[0].scheme == scheme


def test_columns_with_large_sums_are_rounded_anew() -> None:
    """1,100 inputs at their largest: 1,100 · 127 is more than the 132,104 that keep float32 sums exact."""
    arrays = weights(1, inputs=1100)
    integers, scale, zero = rounded(np.sign(arrays["W"]), per_column=True, kind="symmetric")
    assert (np.abs(integers) == 127).all()
    change = {"W": integers, "W_scale": scale, "W_zero_point": zero}
    artifact = quantize_bytes(dynamic_model(features=1100, change=change))
    assert artifact.card.quantization is not None
    scheme = "int8: dequantized and rounded anew, because of a column of W whose sums float32 would not count exactly"
    assert artifact.card.quantization.coverage[0].scheme == scheme


def test_int4_rounds_anew() -> None:
    artifact = quantize_bytes(dynamic_model(), scheme="int4:32")
    assert artifact.card.quantization is not None
    (row,) = artifact.card.quantization.coverage
    assert row.scheme == f"{Scheme(kind='int4', block=32)}: dequantized and rounded anew, because of four bits"
    assert "lstm_edge::LstmInt4V1" in operators(artifact.data)


def test_the_answer_is_the_operators_on_the_carried_weights() -> None:
    data = dynamic_model(state=True)
    artifact = quantize_bytes(data)
    arrays = {name.removeprefix("rnn.int8."): array for name, array in stored(artifact.data).items()}
    feeds = feeds_of(open_session(data))
    y, h, c = numpy_model.lstm(CellVariant(storage="int8"), feeds["x"], feeds["h0"], feeds["c0"], arrays)
    _, got = both(data, artifact.data)
    assert got["Y"].shape == (T, 1, B, H)
    for want, key in ((y, "Y"), (h, "Y_h"), (c, "Y_c")):
        assert np.median(np.abs(got[key].reshape(want.shape) - want)) < 1e-6


REFUSED = {
    "clip": ({"clip": 3.0}, "attribute clip (3.0) has no int8 form"),
    "input_forget": ({"input_forget": 1}, "attribute input_forget has no int8 form"),
    "activations": (
        {"activations": ["Sigmoid", "Tanh", "Relu"]},
        "attribute activations is Sigmoid, Tanh, Relu: only Sigmoid, Tanh, Tanh",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_honoured_is_refused_by_name(name: str) -> None:
    attributes, sentence = REFUSED[name]
    data = dynamic_model(**attributes)
    with pytest.raises(CoverageError) as caught:
        quantize_bytes(data)
    assert str(caught.value) == (
        f"rnn (com.microsoft::DynamicQuantizeLSTM) stays as it is: {sentence}. "
        "Nothing was written; --allow-unquantized accepts that"
    )
    artifact = quantize_bytes(data, allow_unquantized=True)
    assert operators(artifact.data) == ["com.microsoft::DynamicQuantizeLSTM"]
