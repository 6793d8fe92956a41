"""The card of a quantized file names the outputs that are not the same to the bit, and what makes them so."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.onnx_files import FLOAT, model, weights
from typer.testing import CliRunner

from lstm_edge.cli import app
from lstm_edge_exporters.quantize import Scheme, quantize_bytes
from lstm_edge_runtime.commands.device import inspect
from lstm_edge_runtime.session import Session

I, H = 24, 96  # noqa: E741  the equations' own letters
NODE = helper.make_node


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng([seed, *shape]).standard_normal(shape) * 0.3).astype(np.float32)


def lstm(x: str = "x") -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """``h`` [time, batch, H] of an LSTM over ``x``, and its states."""
    arrays = {name: array for name, array in weights(1, inputs=I, hidden=H).items() if name in "WRB"}
    nodes = [
        NODE("LSTM", [x, "W", "R", "B", "", "h0", "c0"], ["Y", "hn", "cn"], name="rnn", hidden_size=H),
        NODE("Squeeze", ["Y", "one"], ["h"], name="squeeze"),
    ]
    return nodes, arrays | {"one": np.array([1])}


def file_of(nodes: list[onnx.NodeProto], arrays: dict[str, np.ndarray], outputs: dict[str, list[Any]]) -> bytes:
    state = (FLOAT, [1, "batch", H])
    inputs = {"x": (FLOAT, ["time", "batch", I]), "h0": state, "c0": state}
    leaving = outputs | {"hn": [1, "batch", H], "cn": [1, "batch", H]}
    return model(nodes, inputs, leaving, arrays)


def heads() -> bytes:
    """Three answers: the LSTM's own, one behind a linear layer, one behind sums that no layer is."""
    nodes, arrays = lstm()
    arrays |= {"head": random(H, 7), "axes": np.array([-1])}
    nodes += [
        NODE("Sigmoid", ["h"], ["plain"], name="act"),
        NODE("MatMul", ["h", "head"], ["linear"], name="head/MatMul"),
        NODE("ReduceMean", ["h", "axes"], ["mean"], name="mean"),
    ]
    axes = ["time", "batch"]
    return file_of(nodes, arrays, {"plain": [*axes, H], "linear": [*axes, 7], "mean": [*axes, 1]})


def inexact(data: bytes, **options: Any) -> Any:
    card = quantize_bytes(data, **options).card
    assert card.quantization is not None
    return card.quantization.inexact


def test_a_linear_layer_that_stays_float32_is_named_for_what_it_reaches() -> None:
    data = heads()
    mean = {"mean": ("mean (ReduceMean)",)}
    assert inexact(data) == mean
    assert inexact(data, parts={"head": Scheme(kind="float32")}) == mean | {"linear": ("head (MatMul)",)}
    assert inexact(data, parts={"head": Scheme(kind="float16")}) == mean | {"linear": ("head (MatMul)",)}
    assert inexact(data, scheme="float16") is None, "no output is claimed to be the same to the bit"


@pytest.mark.parametrize("form", ["convolution", "attention", "two-dimensional convolution", "logarithm", "loop"])
def test_float32_in_front_reaches_all_that_is_behind_it(form: str) -> None:
    arrays: dict[str, np.ndarray] = {}
    front = {
        "convolution": [
            NODE("Transpose", ["x"], ["turned"], name="turn", perm=[1, 2, 0]),
            NODE("Conv", ["turned", "kernel"], ["conv"], name="front/Conv", kernel_shape=[3], pads=[2, 0]),
            NODE("Transpose", ["conv"], ["z"], name="back", perm=[2, 0, 1]),
        ],
        "two-dimensional convolution": [
            NODE("Unsqueeze", ["x", "one"], ["wide"], name="wide"),
            NODE("Conv", ["wide", "plane"], ["conv"], name="front/Conv", kernel_shape=[1, 3], pads=[0, 1, 0, 1]),
            NODE("Squeeze", ["conv", "one"], ["z"], name="narrow"),
        ],
        "attention": [
            NODE("Transpose", ["x"], ["rows"], name="turn", perm=[1, 0, 2]),
            NODE("Transpose", ["x"], ["columns"], name="columns", perm=[1, 2, 0]),
            NODE("MatMul", ["rows", "columns"], ["scores"], name="front/scores"),
            NODE("Softmax", ["scores"], ["shares"], name="front/shares", axis=-1),
            NODE("MatMul", ["shares", "rows"], ["mixed"], name="front/mix"),
            NODE("Transpose", ["mixed"], ["z"], name="back", perm=[1, 0, 2]),
        ],
        "logarithm": [
            NODE("Abs", ["x"], ["positive"], name="abs"),
            NODE("Add", ["positive", "small"], ["above"], name="above"),
            NODE("Log", ["above"], ["z"], name="front"),
        ],
        "loop": [NODE("Scan", ["x"], ["z"], name="scan", num_scan_inputs=1, body=body())],
    }[form]
    arrays |= {"kernel": random(I, I, 3), "plane": random(1, 1, 1, 3), "small": np.float32(0.1), "matrix": random(I, I)}
    used = {name for node in front for name in node.input} | ({"matrix"} if form == "loop" else set())
    nodes, more = lstm("z")
    arrays = {name: array for name, array in arrays.items() if name in used} | more
    nodes += [NODE("Identity", ["h"], ["y"], name="leave")]
    data = file_of([*front, *nodes], arrays, {"y": ["time", "batch", H]})
    names = {
        "attention": ("front/scores (MatMul)", "front/shares (Softmax)", "front/mix (MatMul)"),
        "logarithm": ("front (Log)",),
        "loop": ("product (MatMul)",),
    }.get(form, ("front (Conv)",))
    options = {"parts": {"product": Scheme(kind="float32")}} if form == "loop" else {}
    assert inexact(data, **options) == dict.fromkeys(("y", "hn", "cn"), names)


def body() -> onnx.GraphProto:
    """One step: a product with a matrix of the outer graph."""
    return helper.make_graph(
        [NODE("MatMul", ["step", "matrix"], ["moved"], name="product/MatMul")],
        "body",
        [helper.make_tensor_value_info("step", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("moved", TensorProto.FLOAT, None)],
    )


def test_what_is_not_named_is_the_same_to_the_bit() -> None:
    artifact = quantize_bytes(heads(), parts={"head": Scheme(kind="float32")})
    assert artifact.card.quantization is not None
    named = artifact.card.quantization.inexact
    assert named is not None
    session = Session(artifact.data)
    x = np.random.default_rng(0).standard_normal((70, 3, I)).astype(np.float32)

    def run(x: np.ndarray, h: np.ndarray, c: np.ndarray) -> dict[str, np.ndarray]:
        return session.run({"x": x, "h0": h, "c0": c})[0]

    start = np.zeros((1, 3, H), np.float32)
    whole, pieces = run(x, start, start), []
    alone = run(x[:, 1:2], start[:, :1], start[:, :1])
    for step in x:
        pieces.append(run(step[None], pieces[-1]["hn"], pieces[-1]["cn"]) if pieces else run(step[None], start, start))
    assert sorted(set(whole) - set(named)) == ["cn", "hn", "plain"]
    np.testing.assert_array_equal(np.concatenate([piece["plain"] for piece in pieces]), whole["plain"])
    for name in ("cn", "hn"):
        np.testing.assert_array_equal(pieces[-1][name], whole[name])
    for name in ("cn", "hn", "plain"):
        np.testing.assert_array_equal(alone[name][:, 0], whole[name][:, 1])


def test_shapes_and_integers_make_nothing_inexact() -> None:
    """A sum of integers is exact; the shape of a float32 product is no number that it computed."""
    nodes, arrays = lstm()
    arrays |= {"head": random(H, 7), "zero": np.array([0])}
    nodes += [
        NODE("Shape", ["h"], ["sizes"], name="sizes"),
        NODE("ReduceSum", ["sizes", "zero"], ["total"], name="total"),
        NODE("Cast", ["total"], ["number"], name="number", to=1),
        NODE("MatMul", ["h", "head"], ["linear"], name="head/MatMul"),
        NODE("Shape", ["linear"], ["linears"], name="linears"),
        NODE("Cast", ["linears"], ["float"], name="float", to=1),
        NODE("Add", ["h", "number"], ["y"], name="add"),
        NODE("Add", ["h", "first"], ["z"], name="more"),
        NODE("Gather", ["float", "zero"], ["first"], name="first"),
    ]
    nodes[-2], nodes[-1] = nodes[-1], nodes[-2]
    axes = ["time", "batch", H]
    data = file_of(nodes, arrays, {"y": axes, "z": axes})
    assert inexact(data) == {}


def test_inspect_says_it(tmp_path: Any) -> None:
    path = tmp_path / "m.onnx"
    for parts, said, other in (
        ({}, "mean may differ in its last bits with batch, chunks and processor: onnxruntime", "linear may differ"),
        ({"head": Scheme(kind="float32")}, "linear may differ in its last bits with batch, chunks and", "every answer"),
    ):
        path.write_bytes(quantize_bytes(heads(), parts=parts).data)
        shown = " ".join(CliRunner().invoke(app, ["inspect", str(path)]).output.split())
        assert said in shown
        assert other not in shown
    nodes, arrays = lstm()
    path.write_bytes(quantize_bytes(file_of([*nodes[:1]], {k: v for k, v in arrays.items() if k != "one"}, {})).data)
    shown = " ".join(CliRunner().invoke(app, ["inspect", str(path)]).output.split())
    assert "every answer of a row is the same to the bit in any batch, any chunks and on any number of threads" in shown


def test_inspect_lists_the_integer_layers_of_another_tools_file(tmp_path: Any) -> None:
    nodes = [
        NODE("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="round"),
        NODE("MatMulInteger", ["q", "w", "z"], ["n"], name="/fc/MatMul_quant"),
        NODE("Cast", ["n"], ["f"], name="cast", to=1),
        NODE("Mul", ["f", "s"], ["y"], name="scale"),
        NODE("QuantizeLinear", ["x", "step", "mid"], ["fixed"], name="fixed"),
        NODE("MatMulInteger", ["fixed", "w", "mid"], ["n2"], name="other"),
        NODE("Cast", ["n2"], ["y2"], name="cast2", to=1),
    ]
    arrays = {"w": np.ones((I, 4), np.int8), "step": np.float32(0.1), "mid": np.uint8(128)}
    path = tmp_path / "m.onnx"
    path.write_bytes(model(nodes, {"x": (FLOAT, ["batch", I])}, {"y": ["batch", 4], "y2": ["batch", 4]}, arrays))
    found = [(layer.name, layer.operator, layer.activations) for layer in inspect(path).integer_layers]
    assert found == [
        ("/fc/MatMul_quant", "MatMulInteger", "one scale for the whole batch"),
        ("other", "MatMulInteger", "as the file computes them"),
    ]
    shown = CliRunner().invoke(app, ["inspect", str(path)]).output
    assert "one scale for the whole batch" in " ".join(shown.split())
