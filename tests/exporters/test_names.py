"""Names counted once for a whole edit are those that a scan of the whole model would find to be free."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from lstm_edge_exporters.functions import function_for
from lstm_edge_exporters.onnx_graph.edit import (
    add_constant,
    add_node,
    add_output,
    append_node,
    insert_body,
    owner,
    remove_node,
    replace_node,
)
from lstm_edge_exporters.onnx_graph.names import Names, name_in, names_of, rename, unique_name, unique_names
from lstm_edge_exporters.onnx_graph.reading import parse_model

FLOAT = TensorProto.FLOAT


def model() -> ir.Model:
    """Nodes with names that repeat and that end in numbers, and an If with a node and an input of a Scan inside."""
    value = helper.make_tensor_value_info("step_out", FLOAT, [4])
    scan_body = helper.make_graph(
        [helper.make_node("Neg", ["step"], ["step_out"], name="a")],
        "body",
        [helper.make_tensor_value_info("step", FLOAT, [4])],
        [value],
    )
    branch = helper.make_graph(
        [helper.make_node("Scan", ["x"], ["branch_out"], name="a_2", body=scan_body, num_scan_inputs=1)],
        "branch",
        [],
        [helper.make_tensor_value_info("branch_out", FLOAT, [3, 4])],
    )
    other = helper.make_graph(
        [helper.make_node("Abs", ["x"], ["other_out"], name="other")],
        "other",
        [],
        [helper.make_tensor_value_info("other_out", FLOAT, [3, 4])],
    )
    nodes = [
        helper.make_node("Neg", ["x"], ["a_1"], name="a"),
        helper.make_node("Abs", ["a_1"], ["b"], name="b"),
        helper.make_node("If", ["yes"], ["y"], name="if", then_branch=branch, else_branch=other),
        helper.make_node("Add", ["b", "y"], ["z"], name="a_10"),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", FLOAT, [3, 4]), helper.make_tensor_value_info("yes", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("z", FLOAT, [3, 4])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return parse_model(proto.SerializeToString())


def scanned(parsed: ir.Model) -> Names:
    graphs = [parsed.graph, *parsed.graph.subgraphs()]
    taken = [value.name for graph in graphs for value in (*graph.inputs, *graph.initializers.values())]
    for node in parsed.graph.all_nodes():
        taken += [node.name, *(value.name for value in node.outputs)]
    return Names(taken)


def _replace(_graph: ir.Graph, node: ir.Node, name: str) -> None:
    replace_node(node, add_node(node, "Relu", [node.inputs[0]], name=name))


def _leave(graph: ir.Graph, node: ir.Node, name: str) -> None:
    add_output(graph, node.outputs[0], unique_name(graph, name), kind=None, shape=None)
    append_node(graph, "Neg", node.outputs[0], name=unique_name(graph, name), output=unique_name(graph, "b"))


EDITS: list[Callable[[ir.Graph, ir.Node, str], object]] = [
    lambda graph, _node, name: add_constant(graph, name, np.zeros(2, np.float32)),
    lambda _graph, node, name: add_node(node, "Neg", [node.inputs[0]], name=name),
    _replace,
    _leave,
    lambda graph, node, name: rename(graph, node, f"{name}_{len(name)}"),
    lambda graph, node, name: rename(graph, node.outputs[0], f"{name}_0"),
    lambda graph, node, name: insert_body(node, function_for("LstmV1"), unique_name(graph, name)),
]


def edit(parsed: ir.Model, rng: np.random.Generator) -> None:
    """One random edit of a node of any graph; the first node that nothing uses is removed now and then."""
    nodes = list(parsed.graph.all_nodes())
    node, name = nodes[int(rng.integers(len(nodes)))], str(rng.choice(["a", "b", "step", "x", "lstm"]))
    unused = [n for n in nodes if not any(v.uses() or v.is_graph_output() for v in n.outputs)]
    if unused and rng.random() < 0.3:
        remove_node(unused[0])
    elif node.op_type in ("Neg", "Abs", "Relu", "Add"):
        EDITS[int(rng.integers(len(EDITS)))](owner(node), node, name)


@pytest.mark.parametrize("seed", range(20))
def test_counted_names_are_those_of_a_scan(seed: int) -> None:
    parsed, rng = model(), np.random.default_rng(seed)
    with unique_names(parsed):
        for _ in range(30):
            edit(parsed, rng)
            names = scanned(parsed)
            for name in ("a", "a_1", "b", "step", "x", "lstm", "if", "y:replaced", ""):
                assert unique_name(parsed.graph, name) == names.free(name)


def test_a_name_is_free_again_when_its_last_user_goes() -> None:
    names = Names(["a", "a"])
    assert [names.take("a") for _ in range(3)] == ["a_1", "a_2", "a_3"]
    names.drop(["a", "a_2", "nobody"])
    assert names.free("a") == "a_2"
    names.drop(["a"])
    assert names.free("a") == "a"
    names.drop(["a_" + "9" * 5000, "a_٣"])
    assert [names.take("a") for _ in range(3)] == ["a", "a_2", "a_4"]


def test_the_count_ends_with_the_edit() -> None:
    """What is added past the helpers' backs is seen again by the next edit, and at once where it is noted."""
    parsed = model()
    with unique_names(parsed):
        with unique_names(parsed):
            pass
        node = ir.node("Neg", [parsed.graph.inputs[0]], name="new")
        parsed.graph.append(node)
        assert unique_name(parsed.graph, "new") == "new"
        name_in(parsed.graph, added=[node])
        assert unique_name(parsed.graph, "new") == "new_1"
        name_in(parsed.graph, removed=[node])
        parsed.graph.remove(node)
        assert unique_name(parsed.graph, "new") == "new"
        parsed.graph.append(node)
    assert unique_name(parsed.graph, "new") == "new_1"
    assert {"if", "y", "a_2", "a", "step", "step_out"} <= set(names_of(parsed.graph))
