"""Linear layers to ``LinearInt8V1`` or ``LinearInt4V1``; embeddings to a table of int8 rows with one scale each."""

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.functions import DOMAIN, LINEAR_INT4, LINEAR_INT8
from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.edit import add_constant, add_node, add_shared, owner, remove_node, replace_node
from lstm_edge_exporters.quantize.nodes import Outcome, Refusal
from lstm_edge_exporters.quantize.rounding import MatrixRounder, Scheme
from lstm_edge_exporters.quantize.storage import float16_value, round_table, to_float16, unpacked_rows
from lstm_edge_runtime.arrays import Array

__all__ = ["is_embedding", "is_linear", "layer_name", "linear_bytes", "quantize_embedding", "quantize_linear"]


def layer_name(node: ir.Node) -> str:
    """Return the module that a node came from: ``enc/fc1`` of ``/enc/fc1/MatMul``, else the node's own name."""
    # torch's legacy exporter writes the path of modules with a slash in front; what follows the last one is the node.
    name = (node.name or node.op_type).lstrip("/")
    return name.rpartition("/")[0] or name or node.op_type


def is_linear(node: ir.Node) -> bool:
    """Say whether a node multiplies activations with a constant float32 matrix [K, N], K and N at least 1."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in ("MatMul", "Gemm"):
        return False
    weight = constant_of(node.inputs[1])
    return _is_matrix(weight) and constant_of(node.inputs[0]) is None


def is_embedding(node: ir.Node) -> bool:
    """Say whether a node looks rows up in a constant float32 table [V, E], V and E at least 1."""
    if node.domain not in ("", "ai.onnx") or node.op_type != "Gather":
        return False
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
    return axis == 0 and _is_matrix(constant_of(node.inputs[0]))


def _is_matrix(array: Array | None) -> bool:
    return array is not None and array.ndim == 2 and array.dtype == np.float32 and array.size > 0


def quantize_linear(node: ir.Node, scheme: Scheme, rounder: MatrixRounder) -> Outcome:
    """Replace a MatMul (and the Add of its bias) or a Gemm by a quantized operator; returns bytes before and after.

    float16 leaves the node as it is: its weight is stored so, and converted when onnxruntime opens the file.

    Raises:
        Refusal: a Gemm has a scaling or a transposed input, or a value is beyond float16's range.
    """
    weight = constant_of(node.inputs[1])
    assert weight is not None
    if scheme.kind == "float16":
        return _store_linear(node, weight)
    if node.op_type == "Gemm":
        weight, bias = _read_gemm(node, weight)
        last = node
    else:
        last, bias = _following_bias(node, weight.shape[1])
    layer, graph = layer_name(node), owner(node)
    parts = rounder(f"{layer}.weight", weight, scheme)
    arrays = {f"w{suffix}": array for suffix, array in parts.items()}
    arrays["b"] = np.zeros(weight.shape[1], np.float32) if bias is None else bias
    constants = [add_shared(graph, f"{layer}.{scheme.kind}.{name}", array) for name, array in arrays.items()]
    operator = LINEAR_INT8 if scheme.kind == "int8" else LINEAR_INT4
    title = f"{layer}/{scheme.kind}"
    y = add_node(node, operator, [node.inputs[0], *constants], domain=DOMAIN, outputs=("y",), name=title)
    if last is not node:
        replace_node(last, y)
        remove_node(node)
    else:
        replace_node(node, y)
    before = weight.nbytes + (0 if bias is None else bias.nbytes)
    return Outcome(before, sum(array.nbytes for array in arrays.values()))


def _read_gemm(node: ir.Node, weight: Array) -> tuple[Array, Array | None]:
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    for name, neutral in (("alpha", 1.0), ("beta", 1.0), ("transA", 0)):
        if attributes.get(name, neutral) != neutral:
            raise Refusal(f"attribute {name} of Gemm is {attributes[name]}")
    if attributes.get("transB", 0):
        weight = np.ascontiguousarray(weight.T)
    given = node.inputs[2] if len(node.inputs) > 2 else None
    bias = constant_of(given)
    if given is not None and (bias is None or bias.shape not in ((weight.shape[1],), (1, weight.shape[1]))):
        raise Refusal("input C of Gemm is not a constant bias")
    return weight, None if bias is None else bias.reshape(-1)


def _following_bias(node: ir.Node, width: int) -> tuple[ir.Node, Array | None]:
    """Return the Add of a bias right behind the MatMul and the bias, or the MatMul itself and None."""
    product = node.outputs[0]
    uses = list(product.uses())
    if len(uses) != 1 or product.is_graph_output():
        return node, None
    add = uses[0][0]
    if add.op_type != "Add" or add.domain not in ("", "ai.onnx") or add.graph is not node.graph:
        return node, None
    other = add.inputs[1] if add.inputs[0] is product else add.inputs[0]
    bias = constant_of(other)
    if bias is None or bias.shape != (width,) or bias.dtype != np.float32:
        return node, None
    return add, bias


def linear_bytes(node: ir.Node) -> int:
    """Return the bytes of a linear layer's weight and bias."""
    weight = constant_of(node.inputs[1])
    assert weight is not None
    if node.op_type == "Gemm":
        bias = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
    else:
        bias = _following_bias(node, weight.shape[1])[1]
    return weight.nbytes + (0 if bias is None else bias.nbytes)


def _store_linear(node: ir.Node, weight: Array) -> Outcome:
    layer, size = layer_name(node), linear_bytes(node)
    rounded = to_float16(f"{layer}.weight", weight)
    node.replace_input_with(1, float16_value(node, f"{layer}.float16.w", rounded))
    return Outcome(size, size - rounded.nbytes)


def quantize_embedding(node: ir.Node, scheme: Scheme) -> Outcome:
    """Replace a Gather by one of rows stored as float16, int8 or four bits; returns bytes before and after.

    A row is looked up and then unpacked. int8: one scale a row. Four bits: a scale for each block of a row.

    Raises:
        Refusal: a value is beyond float16's range.
    """
    table, ids = constant_of(node.inputs[0]), node.inputs[1]
    assert table is not None
    layer, graph = layer_name(node), owner(node)
    path = f"{layer}.{scheme.kind}"
    if scheme.kind == "float16":
        rounded = to_float16(f"{layer}.weight", table)
        rows = add_node(node, "Gather", [add_shared(graph, f"{path}.w", rounded), ids])
        replace_node(node, add_node(node, "Cast", rows, attributes={"to": 1}))
        return Outcome(table.nbytes, rounded.nbytes)
    arrays = round_table(f"{layer}.weight", table, scheme)
    size = sum(array.nbytes for array in arrays.values())
    if scheme.kind == "int8":
        found = {
            key: add_node(node, "Gather", [add_shared(graph, f"{path}.{key}", a), ids])[0] for key, a in arrays.items()
        }
        replace_node(node, [unpacked_rows(node, path, found, table.shape[1], scheme)])
        return Outcome(table.nbytes, size)
    flat = add_node(node, "Reshape", [ids, add_constant(graph, f"{path}.flat", np.array([-1]))])[0]
    found = {
        # One zero point for the whole table has no rows to look up.
        key: stored if len(array) != len(table) else add_node(node, "Gather", [stored, flat])[0]
        for key, array in arrays.items()
        for stored in [add_shared(graph, f"{path}.{key}", array)]
    }
    values = unpacked_rows(node, path, found, table.shape[1], scheme)
    lead = add_node(node, "Shape", [ids])[0]
    width = add_constant(graph, f"{path}.features", np.array([table.shape[1]]))
    shape = add_node(node, "Concat", [lead, width], attributes={"axis": 0})[0]
    replace_node(node, add_node(node, "Reshape", [values, shape]))
    return Outcome(table.nbytes, size)
