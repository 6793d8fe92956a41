"""Quantization of ONNX's LSTM: every form of the node is honoured, or refused by name; never silent."""

from itertools import product

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from support.networks import operators, parsed
from support.onnx_files import (
    FLIP,
    FLOAT,
    B,
    H,
    I,
    assert_close_int8,
    both,
    feeds_of,
    lstm_model,
    model,
    weights,
)

from lstm_edge_exporters.functions import CellVariant
from lstm_edge_exporters.functions import simulation as numpy_model
from lstm_edge_exporters.quantize import quantize_bytes
from lstm_edge_exporters.quantize.lstm import lstm_operator_weights
from lstm_edge_exporters.quantize.rounding import round_columns
from lstm_edge_runtime.errors import ArtifactError, CoverageError
from lstm_edge_runtime.providers import open_session


def composed(data: bytes, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the operators' NumPy model answers, a direction at a time, for the file's one LSTM node."""
    proto = parsed(data)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    node = proto.graph.node[0]
    direction = next(a.s.decode() for a in node.attribute if a.name == "direction")
    backward = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[direction]
    variant = CellVariant(peephole="diagonal" if "P" in arrays else "none", ragged="rows" in feeds, storage="int8")
    rows = feeds["rows"].astype(np.int64) if "rows" in feeds else None
    ys, hs, cs = [], [], []
    for side, reverse in enumerate(backward):
        bias = arrays["B"][side] if "B" in arrays else np.zeros(8 * H, np.float32)
        stored = {name: arrays[name][side] for name in ("W", "R", "P") if name in arrays} | {"B": bias}
        floats = lstm_operator_weights(stored)
        rounded: dict[str, np.ndarray] = {}
        for name, array in floats.items():
            if variant.is_quantized(name):
                rounded[name], rounded[f"{name}_scale"] = round_columns(name, array)
            else:
                rounded[name] = array
        zeros = np.zeros((1, B, H), np.float32)
        h, c = (feeds[name][side : side + 1] if name in feeds else zeros for name in ("h0", "c0"))
        x = turned(feeds["x"], rows) if reverse else feeds["x"]
        y, h, c = numpy_model.lstm(variant, x, h, c, rounded, rows)
        ys.append(turned(y, rows) if reverse else y)
        hs.append(h)
        cs.append(c)
    return {"Y": np.stack(ys, axis=1), "Y_h": np.concatenate(hs), "Y_c": np.concatenate(cs), "flat": ys[0]}


def turned(x: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    """x [T, B, F] backwards in time, each row up to its length."""
    result = x.copy()
    for row in range(x.shape[1]):
        steps = x.shape[0] if rows is None else rows[row]
        result[:steps, row] = x[:steps, row][::-1]
    return result


FORMS = list(product(("forward", "reverse", "bidirectional"), *[(False, True)] * 4))


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_form_of_the_node(form: tuple) -> None:
    direction, bias, lengths, state, peephole = form
    data = lstm_model(direction, bias=bias, lengths=lengths, state=state, peephole=peephole)
    artifact = quantize_bytes(data)
    assert artifact.card.quantization is not None
    (row,) = artifact.card.quantization.coverage
    assert (row.layer, row.operator, row.scheme) == ("rnn", "LSTM", "int8")
    assert "LSTM" not in operators(artifact.data)
    name = f"lstm_edge::Lstm{'Diagonal' * peephole}{'Ragged' * lengths}Int8V1"
    assert operators(artifact.data).count(name) == (2 if direction == "bidirectional" else 1)
    onnx.checker.check_model(parsed(artifact.data), full_check=True)
    assert_close_int8(data, artifact.data)
    expected = composed(data, feeds_of(open_session(data)))
    _, got = both(data, artifact.data)
    for key, array in got.items():
        off = np.abs(array - expected[key])
        assert np.median(off) < 1e-6
        assert off.max() < FLIP


OUTPUTS = [combination for combination in product(("Y", ""), ("Y_h", ""), ("Y_c", "")) if any(combination)]


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("outputs", OUTPUTS, ids=str)
def test_any_combination_of_outputs(outputs: tuple[str, ...], direction: str) -> None:
    data = lstm_model(direction, outputs=tuple(name for name in outputs if name), state=True)
    assert_close_int8(data, quantize_bytes(data).data)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_a_squeeze_behind_the_node_is_taken_in(direction: str) -> None:
    data = lstm_model(direction, squeeze=True)
    artifact = quantize_bytes(data)
    found = operators(artifact.data)
    assert not {"Squeeze", "Unsqueeze"} & set(found)
    assert_close_int8(data, artifact.data)


def test_a_value_that_is_two_outputs() -> None:
    """Y squeezed twice, both of them outputs of the graph, and squeezed and used whole."""
    arrays = weights(1) | {"one": np.array([1])}
    nodes = [helper.make_node("LSTM", ["x", "W", "R", "B"], ["Y"], name="rnn", hidden_size=H)]
    nodes += [helper.make_node("Squeeze", ["Y", "one"], [name], name=name) for name in ("first", "second")]
    flat = ["time", "batch", H]
    x = {"x": (FLOAT, ["time", "batch", I])}
    arrays.pop("P")
    data = model(nodes, x, {"first": flat, "second": flat}, arrays)
    assert_close_int8(data, quantize_bytes(data).data)
    data = model(nodes, x, {"first": flat, "Y": ["time", 1, "batch", H], "second": flat}, arrays)
    assert_close_int8(data, quantize_bytes(data).data)


REFUSED = {
    "clip": ({"clip": 3.0}, "attribute clip (3.0) has no int8 form"),
    "input_forget": ({"input_forget": 1}, "attribute input_forget has no int8 form"),
    "activations": (
        {"activations": ["Sigmoid", "Tanh", "Relu"]},
        "attribute activations is Sigmoid, Tanh, Relu: only Sigmoid, Tanh, Tanh",
    ),
    "hard-sigmoid": (
        {"activations": ["HardSigmoid", "Tanh", "Tanh"], "activation_alpha": [0.2], "activation_beta": [0.5]},
        "attribute activations is HardSigmoid, Tanh, Tanh: only Sigmoid, Tanh, Tanh",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_attributes_without_an_int8_form_are_refused_by_name(name: str) -> None:
    attributes, sentence = REFUSED[name]
    data = lstm_model(**attributes)
    with pytest.raises(CoverageError) as caught:
        quantize_bytes(data)
    assert str(caught.value) == (
        f"rnn (LSTM) stays float32: {sentence}. Nothing was written; --allow-unquantized accepts that"
    )
    artifact = quantize_bytes(data, allow_unquantized=True)
    assert artifact.card.quantization is not None
    row = artifact.card.quantization.coverage[0]
    assert (row.layer, row.scheme) == ("rnn", f"float32: {sentence}")
    assert row.bytes_before == row.bytes_after == 4 * 4 * H * (I + H + 2)
    assert operators(artifact.data) == ["LSTM"]
    whole, got = both(data, artifact.data)
    for key in whole:
        np.testing.assert_array_equal(got[key], whole[key])


def test_layout_1_is_refused() -> None:
    """onnxruntime does not open it; the sentence comes from there, or from the quantizer."""
    arrays = weights(1)
    del arrays["P"]
    node = helper.make_node("LSTM", ["x", "W", "R", "B"], ["Y"], name="rnn", hidden_size=H, layout=1)
    data = model([node], {"x": (FLOAT, ["batch", "time", I])}, {"Y": ["batch", "time", 1, H]}, arrays)
    with pytest.raises((ArtifactError, CoverageError), match=r"layout|Batchwise"):
        quantize_bytes(data)


def test_default_attributes_spelt_out_are_honoured() -> None:
    data = lstm_model("bidirectional", activations=["sigmoid", "TANH", "Tanh"] * 2, input_forget=0, layout=0)
    assert_close_int8(data, quantize_bytes(data).data)


@pytest.mark.parametrize("name", ["W", "R", "B", "P"])
@pytest.mark.parametrize("how", ["input", "overridable"])
def test_weights_that_are_not_constant_are_refused_by_name(name: str, how: str) -> None:
    arrays = weights(1)
    shape = list(arrays[name].shape)
    inputs = {"x": (FLOAT, ["time", "batch", I]), name: (FLOAT, shape)}
    if how == "input":
        del arrays[name]
    names = ["x", "W", "R", "B", "", "", "", "P"]
    node = helper.make_node("LSTM", names, ["Y"], name="rnn", hidden_size=H)
    data = model([node], inputs, {"Y": ["time", 1, "batch", H]}, arrays)
    with pytest.raises(CoverageError, match=rf"^rnn \(LSTM\) stays float32: input {name} is not constant\. Nothing"):
        quantize_bytes(data)
