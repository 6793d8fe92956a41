"""Linear layers that onnxruntime quantized dynamically: row-wise operators with their integers, or a true sentence."""

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from support.onnx_files import FLOAT, model, weights

from lstm_edge_exporters.adopt import adopt_bytes
from lstm_edge_exporters.quantize import quantize_bytes
from lstm_edge_runtime import Session
from lstm_edge_runtime.arrays import Array

pytestmark = pytest.mark.slow

EXACT = "int8: weights and scales carried over exactly"
AGAIN = "int8: rounded again from its integers"
DEPENDS = "it rounds its input with one scale for the whole batch, so a row's answer depends on the rows beside it"
CELLS, WIDTH = 16, 12


def float_file(*, convolution: bool = False) -> bytes:
    """x [time, batch, 8], an LSTM, and two linear layers of which one has a bias; perhaps a convolution over time."""
    rng = np.random.default_rng(0)
    arrays = {k: a for k, a in weights(1, inputs=8, hidden=CELLS).items() if k != "P"} | {"one": np.array([1])}
    arrays |= {"M": (rng.normal(size=(CELLS, WIDTH)) * 0.3).astype(np.float32), "b": np.ones(WIDTH, np.float32)}
    arrays |= {"N": (rng.normal(size=(WIDTH, 5)) * 0.3).astype(np.float32)}
    nodes = [
        helper.make_node("LSTM", ["x", "W", "R", "B"], ["Y"], name="rnn", hidden_size=CELLS),
        helper.make_node("Squeeze", ["Y", "one"], ["flat"], name="flat"),
        helper.make_node("MatMul", ["flat", "M"], ["m"], name="/first/MatMul"),
        helper.make_node("Add", ["m", "b"], ["mb"], name="/first/Add"),
        helper.make_node("Relu", ["mb"], ["r"], name="relu"),
        helper.make_node("MatMul", ["r", "N"], ["y"], name="/second/MatMul"),
    ]
    if convolution:
        arrays["C"] = (rng.normal(size=(5, 5, 1)) * 0.5).astype(np.float32)
        nodes[-1].output[0] = "n"
        nodes.append(helper.make_node("Transpose", ["n"], ["nt"], name="turn", perm=[1, 2, 0]))
        nodes.append(helper.make_node("Conv", ["nt", "C"], ["c"], name="/conv/Conv", kernel_shape=[1]))
        nodes.append(helper.make_node("Transpose", ["c"], ["y"], name="back", perm=[2, 0, 1]))
    return model(nodes, {"x": (FLOAT, ["t", "n", 8])}, {"y": ["t", "n", 5]}, arrays)


def dynamic(tmp_path: Path, data: bytes, kind: QuantType, *, per_channel: bool = False) -> bytes:
    (tmp_path / "f.onnx").write_bytes(data)
    logging.disable(logging.CRITICAL)
    try:
        quantize_dynamic(tmp_path / "f.onnx", tmp_path / "q.onnx", weight_type=kind, per_channel=per_channel)
    finally:
        logging.disable(logging.NOTSET)
    return (tmp_path / "q.onnx").read_bytes()


def rows(data: bytes) -> tuple[Array, Array]:
    """Answers of eight rows of very different size together, and of each alone."""
    x = (
        np.random.default_rng(1).normal(size=(9, 8, 8)).astype(np.float32)
        * np.logspace(-1, 1, 8, dtype=np.float32)[:, None]
    )
    session = Session(data)
    alone = [session.run(np.ascontiguousarray(x[:, i : i + 1]))[0]["y"] for i in range(8)]
    return session.run(x)[0]["y"], np.concatenate(alone, axis=1)


@pytest.mark.parametrize(
    ("kind", "per_channel", "text"),
    [(QuantType.QInt8, False, EXACT), (QuantType.QInt8, True, EXACT), (QuantType.QUInt8, False, None)],
)
def test_integer_layers_become_row_wise(tmp_path: Path, kind: QuantType, per_channel: bool, text: str | None) -> None:
    data = dynamic(tmp_path, float_file(), kind, per_channel=per_channel)
    adopted = adopt_bytes(data)
    assert f"first (MatMulInteger): {DEPENDS}; lstm-edge quantize makes a row-wise layer of it" in adopted.notes
    whole, alone = rows(adopted.artifact.data)
    assert not np.array_equal(whole, alone)  # what the note says
    quantized = quantize_bytes(adopted.artifact.data)
    whole, alone = rows(quantized.data)
    np.testing.assert_array_equal(whole, alone)
    assert quantized.card.quantization is not None
    found = {row.layer: row.scheme for row in quantized.card.quantization.coverage}
    for layer in ("first", "second"):
        assert found[layer] in ((text,) if text else (EXACT, AGAIN))
    expected = Session(float_file()).run(np.ones((3, 2, 8), np.float32))[0]["y"]
    got = Session(quantized.data).run(np.ones((3, 2, 8), np.float32))[0]["y"]
    np.testing.assert_allclose(got, expected, atol=0.05)


def test_the_integers_are_those_of_the_file(tmp_path: Path) -> None:
    data = dynamic(tmp_path, float_file(), QuantType.QInt8)
    theirs = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load_from_string(data).graph.initializer}
    quantized = onnx.load_from_string(quantize_bytes(adopt_bytes(data).artifact.data).data)
    ours = {t.name: onnx.numpy_helper.to_array(t) for t in quantized.graph.initializer}
    np.testing.assert_array_equal(ours["first.int8.w"], theirs["M_quantized"])
    np.testing.assert_array_equal(ours["first.int8.w_scale"], np.full(WIDTH, theirs["M_scale"]))


def test_what_cannot_be_taken_over_is_listed(tmp_path: Path) -> None:
    data = dynamic(tmp_path, float_file(convolution=True), QuantType.QUInt8)
    adopted = adopt_bytes(data)
    assert f"conv (ConvInteger): {DEPENDS}" in adopted.notes
    rows_of = quantize_bytes(adopted.artifact.data).card.quantization
    assert rows_of is not None
    found = {row.layer: row.scheme for row in rows_of.coverage}
    assert found["conv"] == f"as it is: {DEPENDS}: ConvInteger has no row-wise form in this version"
    only = quantize_bytes(adopted.artifact.data, layers="recurrent").card.quantization
    assert only is not None
    left = {row.layer: row.scheme for row in only.coverage}
    assert left["first"] == f"as it is: {DEPENDS}: only recurrent layers were asked for"
