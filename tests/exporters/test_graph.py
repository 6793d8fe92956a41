"""Reading and rewriting graphs: constants wherever they come from, unique names, outputs that stay outputs."""

from itertools import pairwise

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.edit import add_constant, add_node, drop_unused, owner, replace_node
from lstm_edge_exporters.onnx_graph.reading import parse_model
from lstm_edge_exporters.onnx_graph.tidy import strip
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.providers import open_session

FLOAT = TensorProto.FLOAT
VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


def model(
    nodes: list[onnx.NodeProto],
    *,
    outputs: tuple[str, ...] = ("y",),
    arrays: dict[str, np.ndarray] | None = None,
    inputs: tuple[str, ...] = ("x",),
    opset: int = 18,
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, FLOAT, [3, 4]) for name in inputs],
        [helper.make_tensor_value_info(name, FLOAT, [None, None]) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (arrays or {"w": VALUES}).items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return proto.SerializeToString()


def value(parsed: ir.Model, name: str) -> ir.Value:
    """The value of that name: a graph's input, an initializer or a node's output."""
    for candidate in (*parsed.graph.inputs, *parsed.graph.initializers.values()):
        if candidate.name == name:
            return candidate
    return next(out for node in parsed.graph.all_nodes() for out in node.outputs if out.name == name)


def node_of(parsed: ir.Model, name: str) -> ir.Node:
    return next(node for node in parsed.graph.all_nodes() if node.name == name)


def run(parsed: ir.Model, **feeds: np.ndarray) -> list[np.ndarray]:
    return open_session(ir.to_proto(parsed).SerializeToString()).run(None, feeds)


def test_constants_are_read_through_chains() -> None:
    nodes = [
        helper.make_node("Constant", [], ["two"], value_float=2.0),
        helper.make_node("Transpose", ["w"], ["turned"], perm=[1, 0]),
        helper.make_node("Mul", ["turned", "two"], ["doubled"]),
        helper.make_node("Concat", ["doubled", "doubled"], ["joined"], axis=1),
        helper.make_node("MatMul", ["x", "joined"], ["y"]),
        helper.make_node("Add", ["x", "w"], ["depends"]),
    ]
    parsed = parse_model(model(nodes))
    np.testing.assert_array_equal(constant_of(value(parsed, "w")), VALUES)
    np.testing.assert_array_equal(constant_of(value(parsed, "joined")), np.concatenate([2 * VALUES.T] * 2, axis=1))
    assert constant_of(value(parsed, "two")) == 2.0
    for name in ("x", "y", "depends"):
        assert constant_of(value(parsed, name)) is None
    assert constant_of(None) is None


def test_what_only_looks_constant_is_not() -> None:
    """An initializer that is an input can be overridden; random numbers and branches are not evaluated."""
    inner = [helper.make_node("Identity", ["w"], ["inner"])]
    body = helper.make_graph(inner, "body", [], [helper.make_tensor_value_info("inner", FLOAT, [3, 4])])
    nodes = [
        helper.make_node("RandomNormal", [], ["random"], shape=[3, 4]),
        helper.make_node("Add", ["random", "w"], ["noisy"]),
        helper.make_node("Neg", ["v"], ["overridable"]),
        helper.make_node("If", ["yes"], ["branched"], then_branch=body, else_branch=body),
        helper.make_node("Sum", ["x", "noisy", "overridable", "branched"], ["y"]),
    ]
    arrays = {"w": VALUES, "v": VALUES, "yes": np.array(True)}
    parsed = parse_model(model(nodes, arrays=arrays, inputs=("x", "v")))
    for name in ("random", "noisy", "v", "overridable", "branched"):
        assert constant_of(value(parsed, name)) is None


def test_a_chain_is_followed_only_so_far() -> None:
    names = ["w", *(f"n{i}" for i in range(80)), "end"]
    nodes = [helper.make_node("Neg", [a], [b]) for a, b in pairwise(names)]
    parsed = parse_model(model([*nodes, helper.make_node("Add", ["x", "end"], ["y"])]))
    assert constant_of(value(parsed, "n40")) is not None
    assert constant_of(value(parsed, "end")) is None


def test_a_constant_that_cannot_be_computed_is_none() -> None:
    nodes = [helper.make_node("MatMul", ["w", "w"], ["m"]), helper.make_node("Add", ["x", "m"], ["y"])]
    parsed = parse_model(model(nodes))
    assert constant_of(value(parsed, "m")) is None


def nested() -> ir.Model:
    """An If whose branch has a node and an initializer of its own."""

    def body(name: str) -> onnx.GraphProto:
        inner = [helper.make_node("Add", ["x", f"{name}_w"], [f"{name}_out"], name=f"{name}_add")]
        outputs = [helper.make_tensor_value_info(f"{name}_out", FLOAT, [3, 4])]
        return helper.make_graph(inner, name, [], outputs, [numpy_helper.from_array(VALUES, f"{name}_w")])

    nodes = [
        helper.make_node("Relu", ["x"], ["positive"], name="relu"),
        helper.make_node("If", ["yes"], ["y"], name="if", then_branch=body("then"), else_branch=body("else")),
    ]
    return parse_model(model(nodes, arrays={"yes": np.array(True)}, outputs=("y", "positive")))


def test_new_names_are_unique_over_nested_graphs() -> None:
    parsed = nested()
    relu, inner = node_of(parsed, "relu"), node_of(parsed, "then_add")
    outer = [add_constant(owner(relu), "then_w", VALUES), add_constant(owner(relu), "then_w", VALUES)]
    assert [constant.name for constant in outer] == ["then_w_1", "then_w_2"]
    assert add_constant(owner(inner), "yes", VALUES).name == "yes_1"
    assert add_constant(owner(inner), "positive", VALUES).name == "positive_1"
    first = add_node(relu, "Neg", [relu.inputs[0]], name="same")[0]
    second = add_node(inner, "Neg", [inner.inputs[0]], name="same")[0]
    assert (first.name, second.name) == ("same:out", "same_1:out")
    assert add_node(inner, "Neg", [inner.inputs[0]])[0].name == "then_add/Neg:out"
    # A value may be called as a new node would be.
    assert add_node(relu, "Neg", [relu.inputs[0]], name="then_out")[0].name == "then_out_1:out"
    onnx.checker.check_model(ir.to_proto(parsed), full_check=True)


def test_nodes_in_a_branch_can_be_replaced() -> None:
    parsed = nested()
    inner = node_of(parsed, "then_add")
    replace_node(inner, add_node(inner, "Sub", list(inner.inputs)))
    y, positive = run(parsed, x=VALUES)
    np.testing.assert_array_equal(y, VALUES - VALUES)
    np.testing.assert_array_equal(positive, VALUES)


def test_outputs_keep_their_names() -> None:
    nodes = [helper.make_node("Neg", ["x"], ["y"], name="neg"), helper.make_node("Abs", ["y"], ["z"], name="abs")]
    parsed = parse_model(model(nodes, outputs=("y", "z")))
    neg = node_of(parsed, "neg")
    replace_node(neg, add_node(neg, "Mul", [neg.inputs[0], add_constant(owner(neg), "two", np.float32([2]))]))
    assert [output.name for output in parsed.graph.outputs] == ["y", "z"]
    y, z = run(parsed, x=-VALUES)
    np.testing.assert_array_equal(y, -2 * VALUES)
    np.testing.assert_array_equal(z, 2 * VALUES)


def test_one_value_for_two_outputs_and_an_input_for_an_output() -> None:
    nodes = [helper.make_node("Neg", ["x"], [name], name=name) for name in ("a", "b", "c")]
    parsed = parse_model(model(nodes, outputs=("a", "b", "c")))
    first = node_of(parsed, "a")
    new = add_node(first, "Abs", [first.inputs[0]])[0]
    replace_node(first, [new])
    replace_node(node_of(parsed, "b"), [new])
    replace_node(node_of(parsed, "c"), [parsed.graph.inputs[0]])
    assert [output.name for output in parsed.graph.outputs] == ["a", "b", "c"]
    assert len({id(output) for output in parsed.graph.outputs}) == 3
    strip(parsed)
    a, b, c = run(parsed, x=-VALUES)
    np.testing.assert_array_equal(a, VALUES)
    np.testing.assert_array_equal(b, VALUES)
    np.testing.assert_array_equal(c, -VALUES)


def test_strip_keeps_the_outputs_of_a_scan_apart() -> None:
    """One value as two outputs of a Scan's body: onnxruntime would leave one of them unwritten."""
    body = helper.make_graph(
        [
            helper.make_node("Add", ["carried", "step"], ["sum"]),
            helper.make_node("Identity", ["sum"], ["next"]),
            helper.make_node("Identity", ["sum"], ["seen"]),
            helper.make_node("Identity", ["step"], ["echo"]),
        ],
        "body",
        [helper.make_tensor_value_info(name, FLOAT, [4]) for name in ("carried", "step")],
        [helper.make_tensor_value_info(name, FLOAT, [4]) for name in ("next", "seen", "echo")],
    )
    scan = helper.make_node("Scan", ["zero", "same"], ["last", "y", "echoes"], body=body, num_scan_inputs=1)
    same = helper.make_node("Identity", ["x"], ["same"])
    parsed = parse_model(model([same, scan], outputs=("y", "echoes"), arrays={"zero": np.zeros(4, np.float32)}))
    strip(parsed)
    y, echoes = run(parsed, x=VALUES)
    np.testing.assert_array_equal(y, np.cumsum(VALUES, axis=0))
    np.testing.assert_array_equal(echoes, VALUES)
    # The two that are needed stay, the other two are gone.
    assert sum(node.op_type == "Identity" for node in parsed.graph.all_nodes()) == 2


def test_strip_removes_what_other_tools_noted() -> None:
    proto = onnx.ModelProto()
    proto.ParseFromString(model([helper.make_node("Add", ["x", "w"], ["y"], doc_string="secret")]))
    proto.doc_string = proto.graph.doc_string = proto.graph.input[0].doc_string = "secret"
    for holder in (proto, proto.graph, proto.graph.node[0], proto.graph.input[0]):
        holder.metadata_props.add(key="secret", value="secret")
    proto.producer_name = proto.graph.name = proto.domain = "secret"
    parsed = parse_model(proto.SerializeToString())
    strip(parsed)
    assert b"secret" not in ir.to_proto(parsed).SerializeToString()


def test_unused_parts_are_dropped() -> None:
    nodes = [helper.make_node("Neg", ["x"], ["y"]), helper.make_node("Add", ["x", "w"], ["unused"])]
    parsed = parse_model(model(nodes))
    drop_unused(parsed)
    assert [node.op_type for node in parsed.graph] == ["Neg"]
    assert not parsed.graph.initializers


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ArtifactError, match="this is not an ONNX model: it has no nodes"):
        parse_model(b"")
    with pytest.raises(ArtifactError, match="this is not an ONNX model: Error parsing message"):
        parse_model(b"\xff\xff\xff")
    named = helper.make_node("Neg", ["x"], ["y"], name="Q" * 7)
    with pytest.raises(ArtifactError, match=r"the model cannot be read: name is not UTF-8 text \(b'\\x80Q+'\)"):
        parse_model(model([named]).replace(b"Q" * 7, b"\x80" + b"Q" * 6))
