"""One bound for all that is computed from a file's constants, whether it is read or folded into the graph."""

import tracemalloc

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from lstm_edge_exporters.onnx_graph.constants import constant_of, output_bytes, room_for
from lstm_edge_exporters.onnx_graph.fold import fold
from lstm_edge_exporters.onnx_graph.reading import parse_model

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
# 2**24 int64 are 128 MiB; from a file of a few bytes 64 MiB may be made.
MANY, FEW = 2**24, 2**10


def model(nodes: list[onnx.NodeProto], arrays: dict[str, np.ndarray]) -> ir.Model:
    """``big`` is made of constants, and its largest element is added to x."""
    nodes = [
        *nodes,
        helper.make_node("ReduceMax", ["big"], ["top"], keepdims=0),
        helper.make_node("Cast", ["top"], ["number"], to=FLOAT),
        helper.make_node("Add", ["x", "number"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", FLOAT, [3])],
        [helper.make_tensor_value_info("y", FLOAT, [3])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return parse_model(proto.SerializeToString())


def growing(count: int) -> dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray]]]:
    """Nodes that make ``count`` elements of few."""
    root = int(np.sqrt(count))
    few = {"few": np.arange(2)}
    return {
        "ConstantOfShape": (
            [helper.make_node("ConstantOfShape", ["n"], ["big"], value=numpy_helper.from_array(np.zeros(1, np.int64)))],
            {"n": np.array([count])},
        ),
        "Expand": ([helper.make_node("Expand", ["few", "n"], ["big"])], few | {"n": np.array([count // 2, 2])}),
        "Tile": ([helper.make_node("Tile", ["few", "n"], ["big"])], few | {"n": np.array([count // 2])}),
        "Pad": ([helper.make_node("Pad", ["few", "n"], ["big"])], few | {"n": np.array([0, count])}),
        "Range": (
            [helper.make_node("Range", ["zero", "n", "one"], ["big"])],
            {"zero": np.array(0), "n": np.array(count), "one": np.array(1)},
        ),
        "OneHot": (
            [helper.make_node("OneHot", ["few", "n", "values"], ["big"])],
            few | {"n": np.array(count // 2), "values": np.arange(2)},
        ),
        "Gather": (
            [helper.make_node("Gather", ["row", "ids"], ["big"])],
            {"row": np.zeros((1, root), np.int64), "ids": np.zeros(root, np.int64)},
        ),
        "Add": (
            [helper.make_node("Add", ["row", "column"], ["big"])],
            {"row": np.zeros((1, root), np.int64), "column": np.zeros((root, 1), np.int64)},
        ),
    }


@pytest.mark.parametrize("name", list(growing(FEW)))
def test_much_is_made_of_little_neither_way(name: str) -> None:
    parsed = model(*growing(MANY)[name])
    made = next(node for node in parsed.graph if node.op_type == name)
    assert constant_of(made.outputs[0]) is None
    fold(parsed)  # imports
    tracemalloc.start()
    try:
        fold(parsed)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**24
    assert name in [node.op_type for node in parsed.graph]


@pytest.mark.parametrize("name", list(growing(FEW)))
def test_little_is_made_both_ways(name: str) -> None:
    parsed = model(*growing(FEW)[name])
    made = next(node for node in parsed.graph if node.op_type == name)
    array = constant_of(made.outputs[0])
    fold(parsed)
    left = [node.op_type for node in parsed.graph]
    assert array is not None
    assert FEW <= array.size <= 2 * FEW
    assert left == ["Add"]


def test_a_chain_takes_from_the_room_that_is_left() -> None:
    """Three arrays of 24 MiB, one made of the other: two fit into 64 MiB."""
    zeros = numpy_helper.from_array(np.zeros(1, np.int64))
    nodes = [
        helper.make_node("ConstantOfShape", ["n"], ["first"], value=zeros),
        helper.make_node("Neg", ["first"], ["second"]),
        helper.make_node("Neg", ["second"], ["big"]),
    ]
    parsed = model(nodes, {"n": np.array([3 * 2**20])})
    found = [constant_of(node.outputs[0]) is not None for node in list(parsed.graph)[:3]]
    assert found == [True, True, False]


def test_weights_that_constant_nodes_hold_count_as_stored() -> None:
    """20 MB in a Constant node: its copies of 160 MB are no more than weights that are moved may take."""
    weight = np.ones((2**21, 5), np.float16)
    nodes = [helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(weight))]
    nodes += [
        helper.make_node("Transpose", ["w"], ["turned"]),
        helper.make_node("Cast", ["turned"], ["wide"], to=FLOAT),
        helper.make_node("Unsqueeze", ["wide", "zero"], ["big"]),
    ]
    parsed = model(nodes, {"zero": np.array([0])})
    big = next(node for node in parsed.graph if node.op_type == "Unsqueeze").outputs[0]
    array = constant_of(big)
    assert array is not None
    assert array.shape == (1, 5, 2**21)


@pytest.mark.parametrize("op_type", ["NonZero", "Unique", "Compress"])
def test_what_picks_elements_is_bounded_by_what_it_picks_from(op_type: str) -> None:
    inputs = {"x": np.eye(4, dtype=np.int64), "keep": np.ones(16, bool)}
    names = list(inputs)[: 2 if op_type == "Compress" else 1]
    outputs = ["a", "b", "c", "d"][: 4 if op_type == "Unique" else 1]
    node = ir.node(op_type, [ir.Value(name=name) for name in names], num_outputs=len(outputs))
    known = {name: inputs[name] for name in names}
    bound = output_bytes(node, known, 18)
    picked = {"NonZero": 8 * 2 * 4, "Unique": 8 * (2 + 2 + 16 + 2), "Compress": 8 * 16}[op_type]
    assert bound is not None
    assert picked <= bound < 2000 < room_for([])
