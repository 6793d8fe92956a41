"""A convolution as ``QLinearConv``; between two of them values stay in eight bits."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lstm_edge_exporters.onnx_graph.edit import add_constant, add_node, add_shared, owner, remove_node, replace_node
from lstm_edge_exporters.quantize.convolutions.reading import Convolution
from lstm_edge_exporters.quantize.convolutions.rounding import Levels, Rounded

__all__ = ["emit_convolution"]

# They move values without computing, so that they may be applied to the eight-bit values as well.
_MOVES = frozenset({"Identity", "MaxPool", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Transpose", "Slice"})
# More nodes between two convolutions than this are not followed.
_LONGEST_WAY = 8
# Under this key a DequantizeLinear of ours has its levels.
_LEVELS = "lstm_edge.levels"
# Of a bias in units of the products, so that a sum of products has room in 32 bits.
_LARGEST_BIAS = 2.0**30


def emit_convolution(convolution: Convolution, rounded: Rounded, name: str) -> None:
    """Put ``QuantizeLinear``, ``QLinearConv`` and ``DequantizeLinear`` in a convolution's place.

    Args:
        convolution: in a graph, where convolutions before it are written already.
        rounded: its constants.
        name: what the names of nodes and constants begin with.
    """
    node, graph, path = convolution.node, owner(convolution.node), f"{name}.int8"
    way = _way_back(node)
    levels = rounded.x if way is None else way[-1].meta[_LEVELS]
    bias = _bias(convolution, rounded, levels)
    if np.abs(bias).max() > _LARGEST_BIAS:  # a much smaller scale before it: its input gets its own
        way, levels, bias = None, rounded.x, rounded.b
    x_scale, x_zero = _constants(graph, levels, f"{path}.x")
    if way is None:
        x = add_node(node, "QuantizeLinear", [node.inputs[0], x_scale, x_zero], name=f"{name}/QuantizeLinear")[0]
        x.type = ir.TensorType(ir.DataType.UINT8)
    else:
        x = _moved(way)
    y_scale, y_zero = _constants(graph, rounded.y, f"{path}.y")
    arrays = {"w": rounded.w, "w_scale": rounded.w_scale, "w_zero": np.zeros(len(rounded.w), np.int8)}
    w, w_scale, w_zero = (add_shared(graph, f"{path}.{role}", array) for role, array in arrays.items())
    b = add_shared(graph, f"{path}.b", bias.astype(np.int32))
    inputs = [x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, b]
    attributes = {key: attribute.value for key, attribute in node.attributes.items()}
    product = add_node(node, "QLinearConv", inputs, attributes=attributes, outputs=("y",), name=f"{name}/int8")[0]
    product.type = ir.TensorType(ir.DataType.UINT8)
    y = add_node(node, "DequantizeLinear", [product, y_scale, y_zero], name=f"{name}/DequantizeLinear")[0]
    back = y.producer()
    assert back is not None
    back.meta[_LEVELS] = rounded.y
    chain = [convolution.last]
    while chain[-1] is not node:
        before = chain[-1].inputs[0]
        assert before is not None
        previous = before.producer()
        assert previous is not None
        chain.append(previous)
    replace_node(chain[0], [y])
    for follower in chain[1:]:
        remove_node(follower)


def _constants(graph: ir.Graph, levels: Levels, path: str) -> tuple[ir.Value, ir.Value]:
    scale = add_constant(graph, f"{path}_scale", np.array(levels.scale, np.float32))
    return scale, add_constant(graph, f"{path}_zero", np.array(levels.zero, np.uint8))


def _bias(convolution: Convolution, rounded: Rounded, levels: Levels) -> NDArray[np.float64]:
    """The bias in units of the products."""
    return np.asarray(np.rint(convolution.bias / (rounded.w_scale.astype(np.float64) * float(levels.scale))))


def _way_back(node: ir.Node) -> list[ir.Node] | None:
    """The nodes from a convolution's input back to the DequantizeLinear of another one, if values only move there."""
    way: list[ir.Node] = []
    value = node.inputs[0]
    while value is not None and len(way) <= _LONGEST_WAY:
        before = value.producer()
        if before is None or before.graph is not node.graph:
            return None
        way.append(before)
        if _LEVELS in before.meta:
            return way
        alone = len(before.outputs) == 1 and len(list(value.uses())) == 1 and not value.is_graph_output()
        if not alone or before.op_type not in _MOVES or before.domain not in ("", "ai.onnx"):
            return None
        value = before.inputs[0]
    return None


def _moved(way: list[ir.Node]) -> ir.Value:
    """Let the nodes before the DequantizeLinear, which is the last of the way, move eight-bit values."""
    *movers, dequantize = way
    eight = dequantize.inputs[0]
    assert eight is not None
    if not movers:
        return eight
    movers[-1].replace_input_with(0, eight)
    for mover in movers:
        mover.outputs[0].type = ir.TensorType(ir.DataType.UINT8)
    return movers[0].outputs[0]
