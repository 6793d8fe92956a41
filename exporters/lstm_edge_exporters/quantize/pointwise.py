"""Convolutions of width 1 behind recurrent layers, which are linear layers: written as such, to be quantized as such.

Left as float32 they would sum in an order that depends on the number of steps, and an int8 file's answers would depend
on how a sequence is cut.
"""

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.edit import add_constant, add_node, owner, replace_node
from lstm_edge_exporters.onnx_graph.names import rename, unique_names
from lstm_edge_exporters.onnx_graph.nodes import attribute_of, inputs_of

__all__ = ["linear_convolutions"]

# From [batch, channels, time] to [batch, time, channels], and back.
_SWAP = [0, 2, 1]


def linear_convolutions(model: ir.Model, recurrent: Collection[ir.Node]) -> None:
    """Write each convolution [M, C, 1] behind a recurrent node as Transpose, MatMul, Add, Transpose; in place.

    The MatMul gets the convolution's name.
    """
    nodes = [node for node in model.graph if _is_pointwise(node) and _is_behind(node, recurrent)]
    with unique_names(model):
        for node in nodes:
            _rewrite(node)


def _is_pointwise(node: ir.Node) -> bool:
    if node.op_type != "Conv" or node.domain not in ("", "ai.onnx"):
        return False
    weight, bias = constant_of(node.inputs[1]), inputs_of(node, 3)[2]
    plain = weight is not None and weight.dtype == np.float32 and weight.ndim == 3 and weight.shape[2] == 1
    same = all(set(attribute_of(node, name, [1])) <= {1} for name in ("strides", "dilations"))
    unpadded = not any(attribute_of(node, "pads", [0])) and attribute_of(node, "auto_pad", "NOTSET") == "NOTSET"
    known = bias is None or constant_of(bias) is not None
    return plain and same and unpadded and known and attribute_of(node, "group", 1) == 1


def _is_behind(node: ir.Node, recurrent: Collection[ir.Node]) -> bool:
    stack, seen = [node], {node}
    while stack:
        for value in stack.pop().inputs:
            before = None if value is None else value.producer()
            if before in recurrent:
                return True
            if before is not None and before not in seen:
                seen.add(before)
                stack.append(before)
    return False


def _rewrite(node: ir.Node) -> None:
    graph, name = owner(node), node.name or node.op_type
    weight, bias = constant_of(node.inputs[1]), constant_of(inputs_of(node, 3)[2])
    assert weight is not None
    rename(graph, node, f"{name}/convolution")
    turned = add_node(node, "Transpose", [node.inputs[0]], attributes={"perm": _SWAP}, name=f"{name}/Transpose")[0]
    matrix = add_constant(graph, f"{name}.weight", np.ascontiguousarray(weight[:, :, 0].T))
    product = add_node(node, "MatMul", [turned, matrix], name=name)[0]
    if bias is not None:
        product = add_node(node, "Add", [product, add_constant(graph, f"{name}.bias", bias)], name=f"{name}/Add")[0]
    answer = add_node(node, "Transpose", [product], attributes={"perm": _SWAP}, name=f"{name}/Transpose")[0]
    replace_node(node, [answer])
