"""Turns ONNX's ``LSTM`` and ``GRU`` nodes into calls of the float32 operators that have kernels, and back.

The body of such an operator is the node itself, so nothing else of the graph changes: neither names nor their order.
"""

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from lstm_edge_exporters.functions import DOMAIN, Float32Variant, parse_float32_name
from lstm_edge_exporters.onnx_graph.edit import add_shared, owner
from lstm_edge_exporters.onnx_graph.names import name_in, unique_name
from lstm_edge_exporters.onnx_graph.nodes import attribute_of, inputs_of
from lstm_edge_runtime.arrays import Array

__all__ = ["to_onnx", "to_own"]


def to_onnx(model: ir.Model) -> None:
    """Replace every call of a float32 operator whose body is one node by that node; in place."""
    for node in model.graph.all_nodes():
        variant = parse_float32_name(node.op_type) if node.domain == DOMAIN else None
        if variant is None:
            continue
        inputs = dict(zip(variant.inputs, inputs_of(node, len(variant.inputs)), strict=True))
        _become(node, "", variant.cell, [inputs.get(name) for name in variant.onnx_inputs], variant.attributes)
    nodes = [*model.graph.all_nodes(), *(n for function in model.functions.values() for n in function.all_nodes())]
    called = {node.op_type for node in nodes if node.domain == DOMAIN}
    for identifier in list(model.functions):
        domain, name, _ = identifier
        if domain == DOMAIN and name not in called:
            del model.functions[identifier]
    if not called:
        model.opset_imports.pop(DOMAIN, None)


def to_own(node: ir.Node, variant: Float32Variant, weights: Mapping[str, Array]) -> None:
    """Replace an ``LSTM`` or ``GRU`` node that an operator expresses by a call of it; in place.

    Args:
        node: the node.
        variant: the operator.
        weights: the constants behind the node's inputs, by the operator's names. A kernel takes only initializers of
            the node's own graph: each that is something else is stored again.
    """
    graph, hidden = owner(node), weights["r"].shape[-1]
    given = inputs_of(node, 8)
    names = ("x", "w", "r", "b", "lengths", "h", "c", "p")
    found: dict[str, ir.Value | None] = dict(zip(names, given, strict=True))
    for name, array in weights.items():
        value = found[name]
        if value is None or not value.is_initializer() or value.name not in graph.initializers:
            found[name] = add_shared(graph, f"{node.name or node.op_type.lower()}.{name.upper()}", array)
    direction = attribute_of(node, "direction", "forward")
    node.attributes.clear()
    attributes = {"hidden_size": hidden, "direction": direction}
    _become(node, DOMAIN, variant.name, [found[name] for name in variant.inputs], attributes)
    count = len(node.outputs)
    node.resize_outputs(len(variant.outputs))
    for number, (value, name) in enumerate(zip(node.outputs, variant.outputs, strict=True)):
        if number >= count or not value.name:  # a kernel gives all outputs
            value.name = unique_name(graph, f"{node.name or node.op_type}:{name}")
            name_in(graph, added=[value])


def _become(
    node: ir.Node, domain: str, op_type: str, inputs: list[ir.Value | None], attributes: Mapping[str, Any]
) -> None:
    node.domain, node.op_type = domain, op_type
    node.resize_inputs(len(inputs))
    for position, value in enumerate(inputs):
        node.replace_input_with(position, value)
    for name, value in attributes.items():
        node.attributes[name] = ir.convenience.convert_attribute(name, value)
