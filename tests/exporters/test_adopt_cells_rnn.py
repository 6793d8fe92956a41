"""RNN cells of single operators: folded where the recurrent product is known, left where it may be another layer."""

import io
import warnings
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from support.fallen_cells import FOLDED, H, I, assert_equal_answers, assert_left, file, fold, operators, random
from torch import nn

from lstm_edge_exporters.adopt import adopt_bytes
from lstm_edge_exporters.verify.compare import assert_close
from lstm_edge_runtime.session import Session

ARRAYS = {"wx": random(H, I), "wh": random(H, H), "bx": random(H), "bh": random(H, seed=1)}
PRODUCTS = {
    "two Gemm": "zx = Gemm<transB = 1>(x, wx, bx) zh = Gemm<transB = 1>(h, wh, bh) z = Add(zx, zh)",
    "MatMul and Add": "wxt = Transpose(wx) wht = Transpose(wh) zx = MatMul(x, wxt) zh = MatMul(h, wht) "
    "zs = Add(zh, zx) both = Add(bx, bh) z = Add(both, zs)",
    "x and h together": "w = Concat<axis = 1>(wx, wh) xh = Concat<axis = 1>(x, h) z0 = Gemm<transB = 1>(xh, w, bx) "
    "z = Add(z0, bh)",
    "without a bias": "zx = Gemm<transB = 1>(x, wx) zh = Gemm<transB = 1>(h, wh) z = Add(zh, zx)",
}


@pytest.mark.parametrize("activation", ["Tanh", "Relu"])
@pytest.mark.parametrize("form", PRODUCTS)
def test_one_step(form: str, activation: str) -> None:
    data = file(f"{PRODUCTS[form]} h_out = {activation}(z)", ARRAYS, states="h")
    folded, sentences = fold(data)
    assert operators(folded).count("RNN") == 1
    assert not {"Gemm", "MatMul", "Tanh", "Relu"} & set(operators(folded))
    assert [sentence.split(": ", 1)[1] for sentence in sentences] == [
        "RNN cell of single operators, folded into one RNN node with one time step"
    ]
    assert_equal_answers(data, folded)


def renamed(data: bytes, names: dict[str, str]) -> bytes:
    proto = onnx.load_from_string(data)
    for values in (proto.graph.input, proto.graph.output, proto.graph.initializer):
        for value in values:
            value.name = names.get(value.name, value.name)
    for node in proto.graph.node:
        for field in (node.input, node.output):
            field[:] = [names.get(name, name) for name in field]
    return proto.SerializeToString()


def test_the_name_of_the_recurrent_matrix_says_which_input_is_the_state() -> None:
    data = file(f"{PRODUCTS['two Gemm']} h_out = Tanh(z)", ARRAYS, states="h")
    assert_left_alone(renamed(data, {"h_out": "answer"}))
    named = renamed(data, {"h_out": "answer", "wh": "cell.weight_hh", "wx": "cell.weight_ih"})
    folded, sentences = fold(named)
    assert sentences == ("cell: RNN cell of single operators, folded into one RNN node with one time step",)
    assert_equal_answers(named, folded)


def assert_left_alone(data: bytes) -> None:
    """Nothing changes, and nothing is said: it is an ordinary layer of two inputs."""
    folded, sentences = fold(data)
    assert sentences == ()
    assert operators(folded) == operators(data)


def test_what_may_be_another_layer_stays() -> None:
    """A vector that is fused with the input, a matrix that is not square, a gate."""
    fused = file(f"{PRODUCTS['two Gemm']} y = Tanh(z) h_out = Mul(y, h)", ARRAYS, states="h")
    assert_left_alone(fused)
    assert_left_alone(renamed(fused, {"wh": "cell.weight_hh"}))
    scaled = file(f"{PRODUCTS['two Gemm']} y = Tanh(z) h_out = Add(y, y)", ARRAYS, states="h")
    assert_left_alone(scaled)
    alone = file("z = Gemm<transB = 1>(h, wh, bh) h_out = Tanh(z)", ARRAYS, states="h")
    assert_left_alone(alone)
    assert_left_alone(file(f"{PRODUCTS['two Gemm']} h_out = Sigmoid(z)", ARRAYS, states="h"))


def test_a_cell_whose_sum_is_used_elsewhere_is_named() -> None:
    inner = "zx = Gemm<transB = 1>(x, wx, bx) zh = Gemm<transB = 1>(h, wh, bh) z = Add(zx, zh) h_out = Tanh(z)"
    data = file(f"{inner} g_out = Identity(z)", ARRAYS, states="h, g")
    assert_left(
        data,
        "RNN cell at Tanh node 'Tanh_h_out_3': recognized, but not folded: 'z', inside the cell, is also used by "
        "Identity node 'Identity_g_out_4'",
    )


def scanned() -> bytes:
    """A Scan over time with an RNN cell of single operators, whose state has no telling name."""
    node = helper.make_node
    body = helper.make_graph(
        [
            node("MatMul", ["step", "A"], ["p"], name="p"),
            node("MatMul", ["old", "M"], ["q"], name="q"),
            node("Add", ["p", "q"], ["s"], name="s"),
            node("Tanh", ["s"], ["new"], name="act"),
            node("Identity", ["new"], ["each"], name="each"),
        ],
        "body",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", k]) for n, k in (("old", H), ("step", H))],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", H]) for n in ("new", "each")],
    )
    nodes = [
        node("Transpose", ["x"], ["turned"], name="turn", perm=[1, 0, 2]),
        node("Scan", ["first", "turned"], ["last", "steps"], name="scan", num_scan_inputs=1, body=body),
        node("Transpose", ["steps"], ["y"], name="back", perm=[1, 0, 2]),
    ]
    graph = helper.make_graph(
        nodes,
        "scanned",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", "t", H]),
            helper.make_tensor_value_info("first", TensorProto.FLOAT, ["b", H]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", "t", H]),
            helper.make_tensor_value_info("last", TensorProto.FLOAT, ["b", H]),
        ],
        [numpy_helper.from_array(random(H, H), "A"), numpy_helper.from_array(random(H, H, seed=3), "M")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(made)
    return made.SerializeToString()


def test_a_scan_of_single_operators_is_one_layer() -> None:
    """What the Scan carries is the state, though x has as many features."""
    adopted = adopt_bytes(scanned())
    (layer,) = adopted.artifact.card.layers
    assert (layer.cell, layer.hidden_size, layer.activation) == ("rnn", H, "tanh")
    assert [node.op_type for node in onnx.load_from_string(adopted.artifact.data).graph.node].count("Scan") == 0
    assert adopted.artifact.card.parity is not None
    assert adopted.artifact.card.parity.max_abs_difference < 1e-6
    assert [spec.input for spec in adopted.artifact.card.states] == ["first"]


class Loop(nn.Module):
    """RNNCell in a Python loop; x has as many features as the cell."""

    def __init__(self, nonlinearity: str, *, layers: int = 1) -> None:
        super().__init__()
        self.cells = nn.ModuleList([nn.RNNCell(4, 4, nonlinearity=nonlinearity) for _ in range(layers)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ys = [x[:, t] for t in range(5)]
        for cell in self.cells:
            h = x.new_zeros(x.shape[0], 4)
            inputs, ys = ys, []
            for step in inputs:
                h = cell(step, h)
                ys.append(h)
        return torch.stack(ys, 1)


@pytest.mark.slow
@pytest.mark.parametrize(("nonlinearity", "layers"), [("tanh", 1), ("relu", 2)])
@pytest.mark.parametrize("dynamo", [False, True])
def test_a_loop_of_torchs_cells_is_one_layer(nonlinearity: str, layers: int, dynamo: bool) -> None:
    torch.manual_seed(0)
    module, x = Loop(nonlinearity, layers=layers).eval(), torch.randn(3, 5, 4)
    options: dict[str, Any] = {"input_names": ["x"], "opset_version": 18, "verbose": False}
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's remarks on its older exporter
        if dynamo:
            program = torch.onnx.export(
                module, (x,), dynamo=True, dynamic_shapes=({0: torch.export.Dim("b")},), **options
            )
            assert program is not None
            data = bytes(program.model_proto.SerializeToString())
        else:
            torch.onnx.export(module, (x,), stream, dynamo=False, dynamic_axes={"x": {0: "b"}}, **options)
            data = stream.getvalue()
    adopted = adopt_bytes(data)
    found = [(layer.cell, layer.activation) for layer in adopted.artifact.card.layers]
    assert found == [("rnn", nonlinearity)] * layers
    assert [n.op_type for n in onnx.load_from_string(adopted.artifact.data).graph.node].count("RNN") == layers
    with torch.no_grad():
        want = module(x).numpy()
    (got,) = Session(adopted.artifact.data).run(x.numpy())[0].values()
    assert_close("RNN", np.asarray(got), want, FOLDED)
