"""float16 models computed in float32: weights widened exactly, the inputs and outputs keep their type."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.edit import append_node, owner
from lstm_edge_exporters.onnx_graph.names import name_in, rename, unique_name, unique_names
from lstm_edge_exporters.onnx_graph.reading import parse_model
from lstm_edge_exporters.onnx_graph.writing import draft

__all__ = ["has_float16", "widen_float16", "widened"]

HALF, SINGLE = ir.DataType.FLOAT16, ir.DataType.FLOAT
# Attributes that name the type of what a node makes.
_KINDS = ("to", "dtype", "output_dtype")


def has_float16(model: ir.Model) -> bool:
    """Say whether a weight, an input or a conversion of the model is float16."""
    values = [v for graph in _graphs(model) for v in (*graph.inputs, *graph.outputs, *graph.initializers.values())]
    if any(value.dtype == HALF for value in values):
        return True
    return any(_is_half(attribute) for node in _nodes(model) for attribute in node.attributes.values())


def widen_float16(model: ir.Model) -> tuple[str, ...]:
    """Convert everything from float16 to float32 except the model's inputs and outputs; in place.

    float32 holds every float16 number. onnxruntime itself computes float16 recurrent layers in float32 on the CPU, and
    rounds what goes from node to node; that rounding is left out.

    Returns:
        One sentence on what was done, or nothing where nothing is float16.
    """
    if not has_float16(model):
        return ()
    doors = [value for value in (*model.graph.inputs, *model.graph.outputs) if value.dtype == HALF]
    names = sorted(str(value.name) for value in doors)
    for graph in _graphs(model):
        _widen_values(graph)
    for node in _nodes(model):
        for name, attribute in list(node.attributes.items()):
            if _is_half(attribute):
                node.attributes[name] = _widened(name, attribute)
        for value in node.outputs:
            _widen_type(value)
    with unique_names(model):
        for value in doors:
            (_open if value.is_graph_input() else _close)(model.graph, value)
    kept = f"; {', '.join(names)} stay float16" if names else ""
    return (f"float16 weights and nodes are computed in float32, as onnxruntime does on the CPU{kept}",)


def widened(data: bytes) -> bytes:
    """Return a serialized model computed in float32, otherwise as it is."""
    model = parse_model(data)
    widen_float16(model)
    return draft(model).SerializeToString(deterministic=True)


def _graphs(model: ir.Model) -> Iterator[ir.Graph]:
    yield model.graph
    yield from model.graph.subgraphs()


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    yield from model.graph.all_nodes()
    for function in model.functions.values():
        yield from function.all_nodes()


def _is_half(attribute: ir.Attr) -> bool:
    if attribute.type == ir.AttributeType.TENSOR:
        return bool(attribute.as_tensor().dtype == HALF)
    return attribute.type == ir.AttributeType.INT and attribute.name in _KINDS and attribute.value == int(HALF)


def _widened(name: str, attribute: ir.Attr) -> ir.Attr:
    if attribute.type == ir.AttributeType.INT:
        return ir.AttrInt64(name, int(SINGLE))
    tensor = attribute.as_tensor()
    return ir.AttrTensor(name, ir.tensor(tensor.numpy().astype(np.float32), name=tensor.name))


def _widen_values(graph: ir.Graph) -> None:
    for value in graph.initializers.values():
        if value.const_value is not None and value.const_value.dtype == HALF:
            value.const_value = ir.tensor(value.const_value.numpy().astype(np.float32), name=value.name)
    for value in (*graph.inputs, *graph.outputs, *graph.initializers.values()):
        _widen_type(value)


def _widen_type(value: ir.Value) -> None:
    if value.dtype == HALF:
        value.dtype = SINGLE


def _open(graph: ir.Graph, value: ir.Value) -> None:
    """A float16 input: what read it reads its float32 copy."""
    users = list(value.uses())
    name = unique_name(graph, f"{value.name}/float32")
    node = ir.node("Cast", [value], {"to": int(SINGLE)}, num_outputs=1, name=name)
    node.outputs[0].name = f"{name}:out"
    for user, index in users:
        user.replace_input_with(index, node.outputs[0])
    first = next(iter(graph))
    owner(first).insert_before(first, node)
    name_in(graph, added=[node])
    value.dtype = HALF
    for place, output in enumerate(graph.outputs):
        if output is value:
            graph.outputs[place] = node.outputs[0]


def _close(graph: ir.Graph, value: ir.Value) -> None:
    """A float16 output: what leaves under its name is the rounded value."""
    name = str(value.name)
    shape = value.shape
    rename(graph, value, unique_name(graph, f"{name}/float32"))
    made = append_node(graph, "Cast", value, name=f"{name}/float16", output=name, attributes={"to": int(HALF)})
    made.dtype, made.shape = HALF, shape
    for place, output in enumerate(graph.outputs):
        if output is value:
            graph.outputs[place] = made
