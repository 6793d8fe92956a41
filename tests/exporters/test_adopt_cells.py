"""Cells that an exporter took apart: folded into one node where everything is certain."""

import itertools

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.fallen_cells import (
    FOLDED,
    FORMS,
    GATES,
    GRU,
    GRU_AFTER,
    NUMBERS,
    STATE,
    STATE_IFGO,
    UPDATES,
    H,
    I,
    assert_equal_answers,
    assert_folded,
    feeds_of,
    file,
    fold,
    gru_file,
    lstm_arrays,
    operators,
    random,
)

from lstm_edge_exporters.onnx_graph.reading import parse_model
from lstm_edge_exporters.quantize import quantize_bytes
from lstm_edge_exporters.verify.compare import assert_close
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.providers import open_session


def lstm_equations(arrays: dict[str, Array], order: str, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """The cell in float64, the gates in the given order: the witness that knows nothing of onnxruntime."""
    wide = {name: array.astype(np.float64) for name, array in arrays.items()}
    z = x @ wide["wx"].T + wide["bx"] + h @ wide["wh"].T + wide["bh"]
    gate = dict(zip(order, np.split(z, 4, axis=1), strict=True))

    def sigmoid(value: Array) -> Array:
        return 1 / (1 + np.exp(-value))

    new = sigmoid(gate["f"]) * c + sigmoid(gate["i"]) * np.tanh(gate["g"])
    return sigmoid(gate["o"]) * np.tanh(new), new


@pytest.mark.parametrize("order", ["".join(order) for order in itertools.permutations("ifgo")])
def test_every_gate_order(order: str) -> None:
    arrays = lstm_arrays()
    places = {gate: "abcd"[order.index(gate)] for gate in order}
    data = file(GATES + STATE.format(**places), arrays)
    folded, sentences = assert_folded(data, ["LSTM"])
    assert sentences == ("lstm_cell: LSTM cell of single operators, folded into one LSTM node with one time step",)
    feeds = feeds_of(data, 4)
    wanted = lstm_equations(arrays, order, feeds["x"], feeds["h"], feeds["c"])
    for name, got, want in zip("hc", open_session(folded).run(None, feeds), wanted, strict=True):
        assert_close(name, np.asarray(got), want.astype(np.float32), FOLDED)


@pytest.mark.parametrize("form", list(FORMS))
def test_forms_of_the_product(form: str) -> None:
    assert_folded(file(FORMS[form] + STATE_IFGO, lstm_arrays() | NUMBERS), ["LSTM"])


def test_operands_in_any_order() -> None:
    for fc, ig, new, out in itertools.product(
        ("f, c", "c, f"), ("i, g", "g, i"), ("fc, ig", "ig, fc"), ("o, t", "t, o")
    ):
        state = STATE_IFGO.replace("f, c", fc).replace("i, g", ig).replace("fc, ig", new).replace("o, t", out)
        assert_folded(file(GATES + state, lstm_arrays()), ["LSTM"])


@pytest.mark.parametrize("opset", [11, 13])
def test_older_opsets(opset: int) -> None:
    split = "Split<axis = 1, split = [5, 5, 5, 5]>(z)" if opset < 13 else "Split<axis = 1>(z)"
    gates = GATES.replace("Split<axis = 1, num_outputs = 4>(z)", split)
    assert_folded(file(gates + STATE_IFGO, lstm_arrays(), opset=opset), ["LSTM"])


def test_several_inputs_beside_the_state() -> None:
    """Gates of x, of h and of the cell state's own copy: what is not h becomes the node's input."""
    gates = GATES.replace("z = Add(zx, zh)", "ze = MatMul(extra, we) zy = Add(ze, zx) z = Add(zy, zh)")
    arrays = lstm_arrays() | {"we": random(2, 4 * H), "half": np.full((1,), 0.5, np.float32), "k2": np.array([2])}
    text = "extra = Slice(x, k0, k2, one)" + gates + STATE_IFGO
    folded, _ = fold(file(text, arrays | NUMBERS))
    assert operators(folded).count("LSTM") == 1
    assert "Concat" in operators(folded)
    assert_equal_answers(file(text, arrays | NUMBERS), folded)


def test_a_folded_cell_is_quantized() -> None:
    folded, _ = fold(file(GATES + STATE_IFGO, lstm_arrays()))
    artifact = quantize_bytes(folded)
    assert artifact.card.quantization is not None
    assert [(row.layer, row.scheme) for row in artifact.card.quantization.coverage] == [("lstm_cell", "int8")]


def test_two_branches_of_one_graph() -> None:
    """Each branch of an If has its cell, over weights in the outer graph; the states are packed."""
    one = onnx.load_from_string(file(GATES + STATE_IFGO, lstm_arrays()))
    branches = []
    for name in ("then", "else"):
        nodes = [
            helper.make_node("Gather", ["state", "k0"], [f"{name}_h"], axis=0),
            helper.make_node("Gather", ["state", "k1"], [f"{name}_c"], axis=0),
        ]
        for node in one.graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            renamed = {"h": f"{name}_h", "c": f"{name}_c"}
            local = {output for other in one.graph.node for output in other.output}
            copy.input[:] = [renamed.get(n, f"{name}_{n}" if n in local else n) for n in node.input]
            copy.output[:] = [f"{name}_{n}" for n in node.output]
            nodes.append(copy)
        outs = [helper.make_tensor_value_info(f"{name}_{n}_out", TensorProto.FLOAT, ["b", H]) for n in "hc"]
        branches.append(helper.make_graph(nodes, name, [], outs))
    chosen = helper.make_node("If", ["yes"], ["h_out", "c_out"], then_branch=branches[0], else_branch=branches[1])
    yes = helper.make_node("ReduceMax", ["positive"], ["yes_int"], keepdims=0)
    nodes = [
        helper.make_node("Greater", ["x", "zero"], ["greater"]),
        helper.make_node("Cast", ["greater"], ["positive"], to=6),
    ]
    nodes += [yes, helper.make_node("Cast", ["yes_int"], ["yes"], to=9), chosen]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", I]),
        helper.make_tensor_value_info("state", TensorProto.FLOAT, [2, "b", H]),
    ]
    extra = {"k0": np.array(0), "k1": np.array(1), "zero": np.float32(0)}
    tensors = [*one.graph.initializer, *(numpy_helper.from_array(np.asarray(a), n) for n, a in extra.items())]
    graph = helper.make_graph(nodes, "other", inputs, list(one.graph.output), tensors)
    data = helper.make_model(graph, opset_imports=list(one.opset_import), ir_version=8).SerializeToString()
    folded, sentences = fold(data)
    assert len(sentences) == 2
    assert operators(folded).count("LSTM") == 2
    assert "Sigmoid" not in operators(folded)
    assert_equal_answers(data, folded)


@pytest.mark.parametrize("update", list(UPDATES))
@pytest.mark.parametrize("gates", [GRU, GRU_AFTER], ids=["linear_before_reset", "linear_after_reset"])
def test_forms_of_a_gru(gates: str, update: str) -> None:
    data = gru_file(gates + UPDATES[update])
    folded, sentences = assert_folded(data, ["GRU"])
    assert sentences == ("gru_cell: GRU cell of single operators, folded into one GRU node with one time step",)
    node = next(node for node in parse_model(folded).graph.all_nodes() if node.op_type == "GRU")
    assert node.attributes["linear_before_reset"].as_int() == (gates is GRU)


def test_the_state_that_is_forgotten_may_be_any_value() -> None:
    """c is an input of ONNX's LSTM: a cell that forgets another state than the file's own is still a cell."""
    text = "other = Relu(c)" + GATES + STATE_IFGO.replace("f, c", "f, other")
    assert_folded(file(text, lstm_arrays()), ["LSTM"])
