"""A file of another tool: no card, and something of everything that a graph can hold; small, and it runs."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["foreign_model"]

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
_value = helper.make_tensor_value_info


def foreign_model() -> bytes:
    """Return a model from x, float32 [2, 1, 3], to y of the same shape: control flow, a function, recurrent layers."""
    random = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)

    gates = [
        (name, [weights(f"{name}.W", 1, count * 3, 3), weights(f"{name}.R", 1, count * 3, 3)])
        for name, count in (("LSTM", 4), ("GRU", 3), ("RNN", 1))
    ]
    nodes = []
    last = "x"
    for name, tensors in gates:
        nodes.append(helper.make_node(name, [last, *(t.name for t in tensors)], [f"{name}.Y"], hidden_size=3))
        nodes.append(helper.make_node("Squeeze", [f"{name}.Y", "one"], [f"{name}.y"]))
        last = f"{name}.y"
    nodes += [
        helper.make_node(
            "If", ["yes"], ["chosen"], then_branch=_branch("Relu", last), else_branch=_branch("Neg", last)
        ),
        helper.make_node("Loop", ["count", "yes", "chosen"], ["looped"], body=_loop_body()),
        helper.make_node("Scan", ["carry", "looped"], ["end", "scanned"], body=_scan_body(), num_scan_inputs=1),
        helper.make_node("Twice", ["scanned"], ["twice"], domain="other", by=2.0),
        helper.make_node("SequenceConstruct", ["twice", "x"], ["pair"]),
        helper.make_node("SequenceAt", ["pair", "zero"], ["first"]),
        helper.make_node("Concat", ["first", "x"], ["long"], axis=0),
        helper.make_node("Slice", ["long", "starts", "ends", "axes"], ["cut"]),
        helper.make_node("TopK", ["cut", "three"], ["top", "which"], axis=-1),
        helper.make_node("GatherElements", ["cut", "which"], ["sorted"], axis=-1),
        helper.make_node("Constant", [], ["bias"], value_floats=[0.5, 1.0, 1.5]),
        helper.make_node("Add", ["sorted", "bias"], ["biased"]),
        helper.make_node("Mul", ["biased", "dense"], ["y"]),
    ]
    arrays = {
        "one": np.array([1]), "yes": np.array(True), "count": np.array(2), "carry": np.zeros((1, 3), np.float32),
        "zero": np.array(0), "starts": np.array([0]), "ends": np.array([2]), "axes": np.array([0]),
        "three": np.array([3]),
    }  # fmt: skip
    initializers = [tensor for _, tensors in gates for tensor in tensors]
    initializers += [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("other", 1)]
    twice = helper.make_function(
        "other", "Twice", ["x"], ["y"],
        [helper.make_node("Constant", [], ["two"]), helper.make_node("Mul", ["x", "two"], ["y"])],
        imports, attributes=["by"],
    )  # fmt: skip
    twice.node[0].attribute.add(name="value_float", ref_attr_name="by", type=onnx.AttributeProto.FLOAT)
    shape = [2, 1, 3]
    graph = helper.make_graph(nodes, "foreign", [_value("x", FLOAT, shape)], [_value("y", FLOAT, shape)], initializers)
    values = TensorProto(name="dense", data_type=FLOAT, dims=[2], float_data=[1.5, 2.5])
    indices = TensorProto(data_type=INT64, dims=[2], int64_data=[0, 2])
    graph.sparse_initializer.add(values=values, indices=indices, dims=[3])
    return helper.make_model(graph, opset_imports=imports, functions=[twice], ir_version=8).SerializeToString()


def _branch(operator: str, value: str) -> onnx.GraphProto:
    node = helper.make_node(operator, [value], [f"out.{operator}"])
    return helper.make_graph([node], operator, [], [_value(f"out.{operator}", FLOAT, None)])


def _loop_body() -> onnx.GraphProto:
    """Once round, whatever number a change makes of the count: a model is a program, and may take its time."""
    nodes = [helper.make_node("Add", ["v", "v"], ["v_out"]), helper.make_node("Not", ["go"], ["go_out"])]
    inputs = [_value("i", INT64, []), _value("go", BOOL, []), _value("v", FLOAT, None)]
    return helper.make_graph(nodes, "loop", inputs, [_value("go_out", BOOL, []), _value("v_out", FLOAT, None)])


def _scan_body() -> onnx.GraphProto:
    nodes = [helper.make_node("Add", ["s", "e"], ["s_out"]), helper.make_node("Identity", ["s_out"], ["e_out"])]
    inputs = [_value("s", FLOAT, [1, 3]), _value("e", FLOAT, [1, 3])]
    return helper.make_graph(nodes, "scan", inputs, [_value("s_out", FLOAT, [1, 3]), _value("e_out", FLOAT, [1, 3])])
