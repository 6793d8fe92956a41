"""Which nodes the outputs depend on: one of which only the shape is asked for is computed for nothing."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.edit import add_constant, add_node, drop_unused, owner, replace_node
from lstm_edge_exporters.onnx_graph.names import root_of, unique_names
from lstm_edge_exporters.onnx_graph.nodes import attribute_of
from lstm_edge_exporters.onnx_graph.shapes import Shape, known_shapes

__all__ = ["drop_shape_only", "live_nodes"]

# What is worth taking out where only its shape is asked for: layers, and what cells are made of.
_HEAVY = ("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM", "MatMul", "Gemm", "Conv")
# Shape with a range, which an answer of one axis is cut with, is of this opset.
_RANGES = 15


def live_nodes(model: ir.Model) -> set[ir.Node]:
    """Return the nodes whose numbers an output of the model depends on, in nested graphs too.

    What goes into a ``Shape`` or a ``Size`` gives no numbers; all that a body puts out counts as used.
    """
    live: set[ir.Node] = set()
    stack = list(model.graph.outputs)
    seen = set(stack)
    while stack:
        node = stack.pop().producer()
        if node is None or node in live:
            continue
        live.add(node)
        found = [] if _asks_for_shape(node) else [value for value in node.inputs if value is not None]
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                found.extend(attribute.as_graph().outputs)
            elif attribute.type == ir.AttributeType.GRAPHS:
                found.extend(value for graph in attribute.as_graphs() for value in graph.outputs)
        stack += [value for value in found if value not in seen]
        seen.update(found)
    return live


def _asks_for_shape(node: ir.Node) -> bool:
    return node.op_type in ("Shape", "Size") and node.domain in ("", "ai.onnx")


def drop_shape_only(model: ir.Model) -> None:
    """Let a ``Shape`` whose value is computed for nothing else ask the inputs, and drop what computed it; in place.

    TensorFlow's converter leaves the first step of a layer beside its Loop for the shape of the initial state.
    """
    if model.opset_imports.get("", 0) < _RANGES:
        return
    live = live_nodes(model)
    dead = [node for node in model.graph.all_nodes() if node not in live]
    asked = [node for node in live if node.op_type == "Shape" and _asks_for_shape(node)]
    asked = [node for node in asked if node.inputs[0] is not None and node.inputs[0].producer() in set(dead)]
    if not asked or not any(node.op_type in _HEAVY for node in dead):
        return
    shapes = known_shapes(model)
    places = {
        axis: (value, index)
        for value in reversed(model.graph.inputs)
        for index, axis in enumerate(shapes.get(value, ()))
        if isinstance(axis, str)
    }
    with unique_names(model):
        for node in asked:
            shape = shapes.get(node.inputs[0]) if node.inputs[0] is not None else None
            if shape is not None and all(isinstance(axis, int) or axis in places for axis in shape):
                _answer(node, shape, places)
    drop_unused(model)


def _answer(node: ir.Node, shape: Shape, places: Mapping[str, tuple[ir.Value, int]]) -> None:
    """Replace a Shape node by its answer: constants, and axes of the graph's inputs."""
    start, end = attribute_of(node, "start", 0), attribute_of(node, "end", len(shape))
    parts: list[ir.Value] = [_axis(node, axis, places) for axis in shape[start:end]]
    if not parts:
        return
    replace_node(node, [parts[0] if len(parts) == 1 else add_node(node, "Concat", parts, attributes={"axis": 0})[0]])


def _axis(node: ir.Node, axis: int | str | None, places: Mapping[str, tuple[ir.Value, int]]) -> ir.Value:
    if isinstance(axis, int):
        return add_constant(root_of(owner(node)), f"{node.name or 'Shape'}.size", np.array([axis]))
    assert axis is not None
    value, index = places[axis]
    return add_node(node, "Shape", [value], attributes={"start": index, "end": index + 1})[0]
