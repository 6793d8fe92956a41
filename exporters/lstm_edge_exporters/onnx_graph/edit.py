"""Edits of ONNX graphs: nodes, values and bodies of functions are added, replaced and removed, names stay unique."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from lstm_edge_exporters.onnx_graph.names import name_in, nest, rename, unique_name
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import ArtifactError

__all__ = [
    "add_constant",
    "add_node",
    "add_output",
    "add_shared",
    "append_node",
    "drop_unused",
    "insert_body",
    "owner",
    "remove_node",
    "replace_node",
]

# Smaller constants (a bias of 255 cells) are not worth a name that comes from another layer.
_LEAST_SHARED_BYTES = 1024
_SHARED = "lstm_edge.shared"


def owner(node: ir.Node) -> ir.Graph:
    """Return the graph that contains a node.

    Raises:
        ArtifactError: the node is in no graph.
    """
    graph = node.graph
    if not isinstance(graph, ir.Graph):
        raise ArtifactError(f"node {node.name!r} is in a function: only nodes of graphs can be rewritten")
    return graph


def add_constant(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    """Add an initializer under its own name (``name``, else ``name_1``, ...)."""
    unique = unique_name(graph, name)
    tensor = ir.tensor(np.ascontiguousarray(array) if array.ndim else array, name=unique)
    value = ir.Value(name=unique, const_value=tensor, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
    graph.register_initializer(value)
    name_in(graph, added=[value])
    return value


def add_shared(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    """Return an initializer that was added here before with the same content, else add one.

    A loop over time that was unrolled has a node a step with the same weights, a module called twice two.
    """
    if array.nbytes < _LEAST_SHARED_BYTES:
        return add_constant(graph, name, array)
    made: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = graph.meta.setdefault(_SHARED, {})
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).digest()
    key = (str(array.dtype), array.shape, digest)
    if key not in made:
        made[key] = add_constant(graph, name, array)
    return made[key]


def add_node(
    before: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    *,
    attributes: Mapping[str, Any] | None = None,
    domain: str = "",
    outputs: Sequence[str] = ("out",),
    name: str | None = None,
) -> tuple[ir.Value, ...]:
    """Insert a node before another one; outputs are named after the node, so that names stay readable and unique."""
    graph = owner(before)
    unique = unique_name(graph, name or f"{before.name}/{op_type}")
    node = ir.node(op_type, inputs, attributes, domain=domain, num_outputs=len(outputs), name=unique)
    for value, output in zip(node.outputs, outputs, strict=True):
        value.name = f"{unique}:{output}"
    graph.insert_before(before, node)
    name_in(graph, added=[node])
    return tuple(node.outputs)


def append_node(
    graph: ir.Graph,
    op_type: str,
    value: ir.Value,
    *,
    name: str,
    output: str,
    attributes: Mapping[str, Any] | None = None,
) -> ir.Value:
    """Append a node with one input and one output, under names that the caller found to be free."""
    node = ir.node(op_type, [value], attributes, num_outputs=1, name=name)
    node.outputs[0].name = output
    graph.append(node)
    name_in(graph, added=[node])
    return node.outputs[0]


def add_output(
    graph: ir.Graph, value: ir.Value, name: str, *, kind: ir.TypeProtocol | None, shape: ir.Shape | None
) -> ir.Value:
    """Let a value leave a graph under a name that the caller found to be free.

    Args:
        graph: the graph.
        value: a value of it. One that is a node's output and leaves the graph nowhere else is renamed itself; any
            other is copied by an ``Identity`` node, since a value has one name.
        name: the output's name.
        kind: the output's type; None where it is not known.
        shape: the output's shape; None where it is not known.
    """
    if value.is_graph_output() or value.producer() is None:
        value = append_node(graph, "Identity", value, name=f"{name}/Identity", output=name)
    else:
        rename(graph, value, name)
    value.shape, value.type = shape, kind
    graph.outputs.append(value)
    return value


def insert_body(
    before: ir.Node, function: onnx.FunctionProto, title: str
) -> tuple[Sequence[ir.Value], tuple[ir.Value, ...]]:
    """Insert the nodes of a function's body before a node, under names that begin with a title; a Scan has the title.

    Returns:
        The function's parameters, whose uses the caller replaces, and its results.
    """
    graph = owner(before)
    body = ir.serde.deserialize_function(function)
    for part in (body.graph, *body.subgraphs()):
        for value in part.inputs:
            value.name = f"{title}:{value.name}"
    for count, node in enumerate(body.all_nodes()):
        node.name = title if node.op_type == "Scan" else f"{title}/{node.op_type}_{count}"
        for value in node.outputs:
            value.name = f"{title}:{value.name}"
    for nested in body.subgraphs():
        nest(nested, graph)
    outputs = tuple(body.outputs)
    body.outputs.clear()
    nodes = list(body)
    body.remove(nodes)
    graph.insert_before(before, nodes)
    name_in(graph, added=nodes)
    return body.inputs, outputs


def replace_node(node: ir.Node, replacements: Sequence[ir.Value | None]) -> None:
    """Replace a node's outputs by new values and remove the node; graph outputs keep their names and types."""
    graph = owner(node)
    for old, replacement in zip(node.outputs, replacements, strict=False):
        if replacement is None:
            continue
        new = replacement
        if old.is_graph_output():
            if new.is_graph_output() or new.producer() is None:
                # A value has one name, so a second output (or one that is an input) needs its own node.
                new = add_node(node, "Identity", [new])[0]
            name = str(old.name)
            new.shape, new.type = old.shape, old.type
            ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
            rename(graph, old, f"{name}:replaced")
            rename(graph, new, name)
        else:
            ir.convenience.replace_all_uses_with(old, new)
    remove_node(node)


def remove_node(node: ir.Node) -> None:
    """Remove a node that nothing uses.

    Raises:
        ValueError: something uses it.
    """
    graph = owner(node)
    graph.remove(node, safe=True)
    name_in(graph, removed=[node])


def drop_unused(model: ir.Model) -> None:
    """Remove nodes, initializers and functions that nothing uses any more; in place."""
    common.RemoveUnusedNodesPass()(model)
    for nested in model.graph.subgraphs():  # the pass (onnx_ir 1.1) leaves the initializers of bodies
        for name, value in list(nested.initializers.items()):
            if not value.uses() and not value.is_graph_output():
                del nested.initializers[name]
    common.RemoveUnusedFunctionsPass()(model)  # type: ignore[no-untyped-call]  # onnx_ir leaves its __init__ bare
    common.RemoveUnusedOpsetsPass()(model)
