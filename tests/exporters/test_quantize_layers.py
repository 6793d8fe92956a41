"""``layers="recurrent"``: linear layers and embeddings stay float32, and the coverage says so."""

import numpy as np
import onnx
import pytest
from onnx import helper
from support.networks import operators
from support.onnx_files import FLOAT, H, I, assert_close_int8, model, weights

from lstm_edge_exporters.quantize import Scheme, describe_parts, quantize_bytes
from lstm_edge_runtime.errors import QuantizationError


def with_head(*, layer: bool = True) -> bytes:
    arrays = {"head": np.random.default_rng(0).standard_normal((H, 2)).astype(np.float32)}
    nodes = [helper.make_node("MatMul", ["Y" if layer else "x", "head"], ["y"], name="head/MatMul")]
    if layer:
        arrays |= {name: weights(1)[name] for name in ("W", "R", "B")}
        nodes.insert(0, helper.make_node("LSTM", ["x", "W", "R", "B"], ["Y"], name="rnn", hidden_size=H))
    axes = ["time", 1, "batch", 2] if layer else ["time", "batch", 2]
    return model(nodes, {"x": (FLOAT, ["time", "batch", I if layer else H])}, {"y": axes}, arrays)


@pytest.mark.parametrize("layers", ["all", "recurrent"])
def test_what_is_quantized(layers: str) -> None:
    artifact = quantize_bytes(with_head(), layers=layers)
    assert artifact.card.quantization is not None
    rows = {row.layer: (row.scheme, row.bytes_after < row.bytes_before) for row in artifact.card.quantization.coverage}
    assert rows["rnn"] == ("int8", True)
    assert "LSTM" not in operators(artifact.data)
    if layers == "all":
        assert rows["head"][0] == "int8"
        assert "MatMul" not in operators(artifact.data)
    else:
        assert rows["head"] == ("float32: only recurrent layers were asked for", False)
        assert "MatMul" in operators(artifact.data)


def test_no_recurrent_layer_is_refused() -> None:
    with pytest.raises(
        QuantizationError, match=r"^the model has no recurrent layer, and only recurrent layers were requested: "
    ):
        quantize_bytes(with_head(layer=False), layers="recurrent")


def test_an_unknown_word_is_refused() -> None:
    with pytest.raises(QuantizationError, match=r"^layers is 'some', expected one of all, recurrent$"):
        quantize_bytes(with_head(), layers="some")


@pytest.mark.parametrize("same", [True, False], ids=["the same weights", "other weights"])
def test_weights_that_several_nodes_share_are_stored_once(same: bool) -> None:
    """As in a loop over time that was unrolled: a node a step."""
    hidden = 16
    arrays = {f"{k}{i}": a for i in (0, 1) for k, a in weights(1, inputs=hidden, hidden=hidden, seed=i).items()}
    arrays = {name: array for name, array in arrays.items() if name[0] in "WRB"} | {"one": np.array([1])}
    nodes, x, sets = [], "x", (0, 0, 0) if same else (0, 1, 0)
    for step, chosen in enumerate(sets):
        names = [f"{k}{chosen}" for k in "WRB"]
        nodes.append(helper.make_node("LSTM", [x, *names], [f"Y{step}"], name=f"step{step}", hidden_size=hidden))
        nodes.append(helper.make_node("Squeeze", [f"Y{step}", "one"], [f"y{step}"], name=f"flat{step}"))
        x = f"y{step}"
    data = model(nodes, {"x": (FLOAT, ["time", "batch", hidden])}, {x: ["time", "batch", hidden]}, arrays)
    artifact = quantize_bytes(data)
    assert artifact.card.quantization is not None
    assert [row.scheme for row in artifact.card.quantization.coverage] == ["int8"] * 3
    stored = [t.name for t in onnx.load_from_string(artifact.data).graph.initializer if t.data_type == 3]
    first = ["step0.int8.r", "step0.int8.w"]
    assert sorted(stored) == (first if same else [*first, "step1.int8.r", "step1.int8.w"])
    # Rounding of three layers, each fed with the one before.
    assert_close_int8(data, artifact.data)


def test_linear_layers_of_nested_modules_keep_their_paths_apart() -> None:
    """torch's legacy exporter names a node by its modules; all of `/enc` under one name could not be told apart."""
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal((H, H)).astype(np.float32) for name in ("one", "two")}
    nodes = [
        helper.make_node("MatMul", ["x", "one"], ["m"], name="/enc/fc1/MatMul"),
        helper.make_node("MatMul", ["m", "two"], ["y"], name="/enc/fc2/MatMul"),
    ]
    data = model(nodes, {"x": (FLOAT, ["time", "batch", H])}, {"y": ["time", "batch", H]}, arrays)
    assert [part.layer for part in describe_parts(data)] == ["enc/fc1", "enc/fc2"]
    mixed = quantize_bytes(data, scheme="int8", parts={"enc/fc2": Scheme(kind="float16")})
    assert mixed.card.quantization is not None
    assert [row.scheme for row in mixed.card.quantization.coverage] == ["int8", "float16"]
