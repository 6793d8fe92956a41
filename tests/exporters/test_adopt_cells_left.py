"""Cells that are not certain: left alone, and the reason given."""

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.fallen_cells import (
    FORMS,
    GATES,
    GRU,
    NUMBERS,
    STATE_IFGO,
    UPDATES,
    H,
    assert_equal_answers,
    assert_left,
    file,
    fold,
    gru_arrays,
    lstm_arrays,
    random,
    replaced,
    unchecked,
)

from lstm_edge_exporters.adopt.cells import fold_cells
from lstm_edge_exporters.onnx_graph.reading import parse_model

LSTM_MUTATIONS = {
    "another activation of i": (
        replaced(("i = Sigmoid(za)", "i = HardSigmoid(za)")),
        "a gate is computed by HardSigmoid node 'HardSigmoid_i_4', expected Sigmoid for i and f, Tanh for g",
    ),
    "another activation of g": (
        replaced(("g = Tanh(zc)", "g = Relu(zc)")),
        "a gate is computed by Relu node 'Relu_g_6', expected Sigmoid for i and f, Tanh for g",
    ),
    "g through Sigmoid": (
        replaced(("g = Tanh(zc)", "g = Sigmoid(zc)")),
        "its activations are Sigmoid node 'Sigmoid_f_5', Sigmoid node 'Sigmoid_i_4', Sigmoid node 'Sigmoid_g_6', "
        "expected Sigmoid for i and f, Tanh for g",
    ),
    "another activation of o": (
        replaced(("o = Sigmoid(zd)", "o = HardSigmoid(zd)")),
        "gate o is computed by HardSigmoid node 'HardSigmoid_o_7', expected Sigmoid",
    ),
    "another activation of c'": (
        replaced(("t = Tanh(c_out)", "t = Relu(c_out)")),
        "h' is computed by Relu node 'Relu_t_11', expected Tanh",
    ),
    "a gate is an output": (
        replaced(("f = Sigmoid(zb)", "f = Sigmoid(zb) extra_out = Identity(f)")),
        "'f', inside the cell, is also used by Identity node 'Identity_extra_out_6'",
    ),
    "the gates are used elsewhere": (
        replaced(("t = Tanh(c_out)", "t = Tanh(c_out) extra_out = Relu(zc)")),
        "'zc', inside the cell, is also used by Relu node 'Relu_extra_out_12'",
    ),
    "weights that depend on an input": (
        replaced(("zh = Gemm<transB = 1>(h, wh, bh)", "dw = Mul(wh, c) zh = Gemm<transB = 1>(h, dw, bh)")),
        "Gemm node 'Gemm_zh_2' multiplies with 'dw', which is not constant",
    ),
    "a peephole": (
        replaced(("i = Sigmoid(za)", "p = Mul(c, peep) zp = Add(za, p) i = Sigmoid(zp)")),
        "a gate's input comes from Mul node 'Mul_p_4', which is not a product with constant weights",
    ),
    "a bias for each row": (
        replaced(("z = Add(zx, zh)", "zy = Add(zx, rows) z = Add(zy, zh)")),
        "Add node 'Add_zy_2' adds float32 [2, 20], expected float32 [20]",
    ),
    "a gate of x alone": (
        replaced(("o = Sigmoid(zd)", "only, k1, k2, k3 = Split<axis = 1, num_outputs = 4>(zx) o = Sigmoid(only)")),
        "gate o and gate i read different values (Sigmoid node 'Sigmoid_o_8')",
    ),
    "no recurrence": (
        replaced(("zh = Gemm<transB = 1>(h, wh, bh)", "zh = Gemm<transB = 1>(x, wx, bh)")),
        "no recurrent product: expected one of a hidden state with 5 columns",
    ),
    "unequal gates": (
        replaced(
            ("za, zb, zc, zd = Split<axis = 1, num_outputs = 4>(z)", "za, zb, zc, zd, ze = Split<axis = 1>(z, odd)")
        ),
        "gate f has 1 columns, gate i has 5",
    ),
    "split along the batch": (
        replaced(("Split<axis = 1, num_outputs = 4>", "Split<axis = 0, num_outputs = 4>")),
        "Split node 'Split_za_3' splits along axis 0, expected 1",
    ),
    "gates that are transposed": (
        replaced(("zx = Gemm<transB = 1>", "zx = Gemm<transA = 1, transB = 1>")),
        "Gemm node 'Gemm_zx_0' has transA = 1, expected 0",
    ),
    "half precision": (
        replaced(("(x, wx, bx)", "(x, wx16, bx)")),
        "Gemm node 'Gemm_zx_0' has float16 weights, expected float32",
    ),
}


@pytest.mark.parametrize("mutation", list(LSTM_MUTATIONS))
def test_an_lstm_that_is_not_certain_is_left_alone(mutation: str) -> None:
    change, reason = LSTM_MUTATIONS[mutation]
    text = change(GATES + STATE_IFGO)
    data = unchecked(text)
    state = next(node.name for node in parse_model(data).graph.all_nodes() if node.outputs[0].name == "c_out")
    assert_left(data, f"LSTM cell at Add node '{state}': recognized, but not folded: {reason}")


def test_an_output_inside_the_cell() -> None:
    text = GATES + STATE_IFGO.replace("f = Sigmoid(zb)", "extra_out = Sigmoid(zb)").replace("f, c", "extra_out, c")
    assert_left(
        unchecked(text),
        "LSTM cell at Add node 'Add_c_out_10': recognized, but not folded: 'extra_out', inside the cell, is an output "
        "of the graph (Sigmoid node 'Sigmoid_extra_out_5')",
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("h_out = Mul(o, t)", "h_out = Mul(o, c_out)"),
        ("t = Tanh(c_out)", "t = Tanh(c)"),
        ("c_out = Add(fc, ig)", "c_out = Sub(fc, ig)"),
        ("c_out = Add(fc, ig)", "c_out = Add(fc, g)"),
        ("ig = Mul(i, g)", "ig = Div(i, g)"),
    ],
)
def test_what_is_no_lstm_is_not_mentioned(old: str, new: str) -> None:
    model = parse_model(unchecked(replaced((old, new))(GATES + STATE_IFGO)))
    assert fold_cells(model) == ()


def test_rows_that_are_broadcast() -> None:
    """A state of one row meets a batch: Add and Mul broadcast it, an LSTM node would not."""
    proto = onnx.load_from_string(file(GATES + STATE_IFGO, lstm_arrays()))
    proto.graph.input[1].type.tensor_type.shape.dim[0].dim_value = 1
    assert_left(
        proto.SerializeToString(),
        "LSTM cell at Add node 'Add_c_out_10': recognized, but not folded: the batch axes of 'x' and 'h' are not "
        "known to be equal",
    )


def test_sequences_are_no_rows() -> None:
    """MatMul and Add work on three axes too; an LSTM node would take the first for time."""
    arrays = lstm_arrays()
    proto = onnx.load_from_string(file(FORMS["MatMul and Add"] + STATE_IFGO, arrays))
    for value in (*proto.graph.input, *proto.graph.output):
        sizes = [axis.dim_value or axis.dim_param for axis in value.type.tensor_type.shape.dim]
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, ["b", 4, *sizes[1:]]))
    assert_left(
        proto.SerializeToString(),
        "LSTM cell at Add node 'Add_c_out_14': recognized, but not folded: the shape of 'x' has 3 axes, expected "
        "[batch, features]",
    )


def square(first: str, second: str, *, packed: bool = False) -> bytes:
    """x as wide as the states: which of two sources is h must come from elsewhere than widths."""
    gates = GATES.replace("wx, bx", f"{first}, bx").replace("wh, bh", f"{second}, bh")
    arrays = {first: random(4 * H, H), second: random(4 * H, H, seed=1), "bx": random(4 * H), "bh": random(4 * H)}
    proto = onnx.load_from_string(unchecked(gates + STATE_IFGO, arrays=arrays))
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = H
    if packed:
        del proto.graph.input[1:]
        proto.graph.input.append(helper.make_tensor_value_info("state", TensorProto.FLOAT, [2, "b", H]))
        for index, name in enumerate("hc"):
            proto.graph.initializer.append(numpy_helper.from_array(np.array(index), f"index_{name}"))
            proto.graph.node.insert(0, helper.make_node("Gather", ["state", f"index_{name}"], [name], axis=0))
    return proto.SerializeToString()


@pytest.mark.parametrize("data", [square("rnn_weight_ih", "rnn_weight_hh"), square("a", "b", packed=True)])
def test_an_input_as_wide_as_the_state(data: bytes) -> None:
    folded, _ = fold(data)
    model = parse_model(folded)
    node = next(node for node in model.graph.all_nodes() if node.op_type == "LSTM")
    unsqueeze = node.inputs[5].producer() if node.inputs[5] is not None else None
    assert unsqueeze is not None
    assert unsqueeze.inputs[0] is not None
    assert unsqueeze.inputs[0].name == "h"
    assert_equal_answers(data, folded)


def test_an_input_as_wide_as_the_state_that_nothing_tells_apart() -> None:
    assert_left(
        square("a", "b"),
        "LSTM cell at Add node 'Add_c_out_10': recognized, but not folded: 'x' and 'h' both have 5 columns, and "
        "nothing says which of them is the hidden state",
    )


GRU_MUTATIONS = {
    "another activation of z": (
        replaced(("z = Sigmoid(zs)", "z = HardSigmoid(zs)")),
        "gate z is computed by HardSigmoid node 'HardSigmoid_z_7', expected Sigmoid",
    ),
    "another activation of n": (
        replaced(("n = Tanh(ns)", "n = Relu(ns)")),
        "gate n is computed by Relu node 'Relu_n_10', expected Tanh",
    ),
    "the reset gate is used elsewhere": (
        replaced(("n = Tanh(ns)", "n = Tanh(ns) extra_out = Relu(r)")),
        "'r', inside the cell, is also used by Relu node 'Relu_extra_out_11'",
    ),
    "what is reset has a part of x": (
        replaced(("rn = Mul(r, nh)", "no = Add(nh, nx) rn = Mul(r, no)")),
        "what Mul node 'Mul_rn_9' resets is not computed from 'h', the hidden state, alone",
    ),
    "the state that is kept is another one": (
        replaced(("d = Sub(h, n)", "e = Relu(h) d = Sub(e, n)")),
        "what Mul node 'Mul_rn_8' resets is not computed from 'e', the hidden state, alone",
    ),
}


@pytest.mark.parametrize("mutation", list(GRU_MUTATIONS))
def test_a_gru_that_is_not_certain_is_left_alone(mutation: str) -> None:
    change, reason = GRU_MUTATIONS[mutation]
    data = unchecked(change(GRU + UPDATES["n + z (h - n)"]), states="h", arrays=gru_arrays())
    state = next(node.name for node in parse_model(data).graph.all_nodes() if node.outputs[0].name == "h_out")
    assert_left(data, f"GRU cell at Add node '{state}': recognized, but not folded: {reason}")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("h_out = Add(m, n)", "h_out = Add(m, h)"),  # z (h - n) + h
        ("h_out = Add(m, n)", "h_out = Sub(m, n)"),
        ("rn = Mul(r, nh)", "rn = Add(r, nh)"),
        ("rn = Mul(r, nh)", "rn = Relu(nh)"),  # a highway layer
    ],
)
def test_what_is_no_gru_is_not_mentioned(old: str, new: str) -> None:
    text = replaced((old, new))(GRU + UPDATES["n + z (h - n)"])
    assert fold_cells(parse_model(unchecked(text, states="h", arrays=gru_arrays()))) == ()


def test_a_file_without_cells() -> None:
    assert fold_cells(parse_model(file("h_out = Relu(h) c_out = Add(c, h)", {}))) == ()


def test_bounds_that_double_take_no_time() -> None:
    """A chain in which each number is the sum of the last one twice: read once each, not 2^30 times."""
    chain = " ".join(f"n{i + 1} = Sub(n{i}, q{i}) q{i + 1} = Add(n{i}, q{i})" for i in range(28))
    gates = (
        "zx = Gemm<transB = 1>(x, wx, bx) zh = Gemm<transB = 1>(h, wh, bh) z = Add(zx, zh) s = Shape(z) "
        f"n0 = Gather<axis = 0>(s, one) q0 = Gather<axis = 0>(s, one) {chain} za = Slice(z, k0, n28, one) "
        "zb, zc, zd, ze = Split<axis = 1, num_outputs = 4>(z)"
    )
    model = parse_model(unchecked(gates + STATE_IFGO, arrays=lstm_arrays() | NUMBERS))
    (sentence,) = fold_cells(model)
    assert "recognized, but not folded" in sentence
