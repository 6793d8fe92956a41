"""No file makes onnxruntime end the process while it is opened: its GRU and LSTM do over constants without steps."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from onnx import helper, numpy_helper  # noqa: E402

from lstm_edge_runtime.errors import ArtifactError  # noqa: E402
from lstm_edge_runtime.session import Session  # noqa: E402

GATES = {"LSTM": 4, "GRU": 3}
IMPORTS = [helper.make_opsetid("", 18), helper.make_opsetid("d", 1)]
REFUSED = r"^everything that goes into the (GRU|LSTM) layer 'rnn' is a constant, which onnxruntime would compute while"


def layer(name, x):
    return helper.make_node(name, [x, "W", "R"], ["Y", "h"], hidden_size=3, name="rnn")


def model(name, nodes, arrays=(), functions=(), layer_output="h"):
    """A model of x that adds the sum of a layer's last state; ``nodes`` make that."""
    value = helper.make_tensor_value_info
    weights = {key: np.ones((1, GATES[name] * 3, 3), np.float32) for key in ("W", "R")}
    initializers = [numpy_helper.from_array(array, key) for key, array in (weights | dict(arrays)).items()]
    nodes = [*nodes, helper.make_node("ReduceSum", [layer_output], ["sum"], keepdims=0)]
    nodes.append(helper.make_node("Add", ["x", "sum"], ["y"]))
    axes = ["time", "batch", 3]
    graph = helper.make_graph(nodes, "g", [value("x", 1, axes)], [value("y", 1, axes)], initializers)
    made = helper.make_model(graph, opset_imports=IMPORTS, functions=list(functions), ir_version=8)
    return made.SerializeToString()


EMPTY = {"c": np.zeros((0, 1, 3), np.float32)}
SHAPE = {"s": np.array([0, 1, 3])}


@pytest.mark.parametrize("name", ["GRU", "LSTM"])
def test_a_layer_of_constants_is_refused(name):
    fill = helper.make_node("ConstantOfShape", ["s"], ["filled"])
    turn = helper.make_node("Identity", ["filled"], ["turned"])
    shape = helper.make_node("Shape", ["x"], ["size"])
    sized = helper.make_node("ConstantOfShape", ["size"], ["filled"])
    for nodes, arrays in (
        ([layer(name, "c")], EMPTY),
        ([fill, turn, layer(name, "turned")], SHAPE),
        ([layer(name, "turned"), turn, fill], SHAPE),  # onnxruntime sorts the nodes
        ([shape, sized, turn, layer(name, "turned")], {}),
    ):
        with pytest.raises(ArtifactError, match=REFUSED):
            Session(model(name, nodes, arrays))


def test_a_layer_of_constants_in_a_branch_is_refused():
    branches = {
        f"{which}_branch": helper.make_graph(
            [layer("GRU", "c")], which, [], [helper.make_tensor_value_info("h", 1, None)]
        )
        for which in ("then", "else")
    }
    node = helper.make_node("If", ["yes"], ["h0"], **branches)
    with pytest.raises(ArtifactError, match=REFUSED):
        Session(model("GRU", [node], EMPTY | {"yes": np.array(True)}, layer_output="h0"))


def test_a_layer_of_constants_in_a_function_is_refused():
    """Whether it is one depends on the call: here on a constant that comes after it in the file."""
    body = [layer("GRU", "v")]
    function = helper.make_function("d", "F", ["u", "v", "W", "R"], ["h"], body, IMPORTS)
    fill = helper.make_node("ConstantOfShape", ["s"], ["filled"])
    call = helper.make_node("F", ["x", "filled", "W", "R"], ["h"], domain="d")
    with pytest.raises(ArtifactError, match=REFUSED):
        Session(model("GRU", [call, fill], SHAPE, [function]))
    honest = helper.make_node("F", ["c", "x", "W", "R"], ["h"], domain="d")
    Session(model("GRU", [honest], EMPTY, [function]))


def test_a_layer_with_an_input_of_the_graph_is_let_through():
    start = {"first": np.ones((1, 1, 3), np.float32)}
    state = helper.make_node("ReduceSum", ["x", "axis"], ["h0"])
    decoder = helper.make_node("GRU", ["first", "W", "R", "", "", "h0"], ["Y", "h"], hidden_size=3, name="rnn")
    session = Session(model("GRU", [state, decoder], start | {"axis": np.array([0])}))
    assert np.isfinite(session.run(np.ones((2, 1, 3), np.float32))[0]["y"]).all()
