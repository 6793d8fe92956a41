"""The known shapes inside a graph, inferred on a copy: the model itself is unchanged."""

from collections.abc import Iterator, Mapping

import onnx
import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.carried_shapes import infer_carried
from lstm_edge_exporters.onnx_graph.constants import constant_of

__all__ = ["Shape", "known_shapes", "known_types", "shape_of"]

# One entry an axis: its size, its symbolic name, or None where neither is known.
Shape = tuple[int | str | None, ...]

# Weights above this are named to shape inference without their values; what it computes with are short shape vectors.
LARGEST_KEPT_BYTES = 1024
# Elements of a vector that shape inference follows one by one; shapes have less than ten.
LONGEST_VECTOR = 2**16


def known_shapes(model: ir.Model) -> Mapping[ir.Value, Shape]:
    """Return the shapes that follow from the inputs' and from what the file says of its inner values.

    The names that a file gives to the axes of its outputs are left out: torch's legacy exporter calls the batch
    axis of every output by another name. A model that cannot be analysed has no known shapes.
    """
    proto = _without_weights(model)
    for output in proto.graph.output:
        for axis in output.type.tensor_type.shape.dim:
            axis.ClearField("dim_param")
    try:
        follow = _vectors_are_short(model, onnx.shape_inference.infer_shapes(proto))
        inferred = ir.from_proto(infer_carried(proto, data_prop=follow))
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError, TypeError):
        return {}
    pairs = zip(_inner_values(model.graph), _inner_values(inferred.graph), strict=True)
    shapes = {value: _axes(copy.shape) for value, copy in pairs if copy.shape is not None}
    return shapes | {value: _axes(value.shape) for value in model.graph.inputs if value.shape is not None}


def known_types(model: ir.Model) -> Mapping[str, int]:
    """Return ONNX's type of each element by the value's name, in nested graphs too, where it is known."""
    try:
        inferred = onnx.shape_inference.infer_shapes(_without_weights(model))
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError, TypeError):
        return {}
    found: dict[str, int] = {}
    for graph in (inferred.graph, *_bodies(inferred.graph)):
        for value in (*graph.input, *graph.output, *graph.value_info):
            found[value.name] = value.type.tensor_type.elem_type
        found |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    return {name: kind for name, kind in found.items() if kind}


def _vectors_are_short(model: ir.Model, inferred: onnx.ModelProto) -> bool:
    """Say whether data propagation, which writes out the elements of vectors, would stay small.

    It takes 70 bytes of memory for each element that ConstantOfShape, Concat and the like declare (onnx 1.23), so that
    a file of a kilobyte can ask for all memory.
    """
    for node in model.graph.all_nodes():
        shape = constant_of(node.inputs[0]) if node.op_type == "ConstantOfShape" and node.inputs else None
        if shape is not None and shape.size == 1 and shape.reshape(-1)[0] > LONGEST_VECTOR:
            return False
    axes = [value.type.tensor_type.shape.dim for value in inferred.graph.value_info]
    return all(len(dims) != 1 or dims[0].dim_value <= LONGEST_VECTOR for dims in axes)


def shape_of(value: ir.Value, shapes: Mapping[ir.Value, Shape]) -> Shape | None:
    """Return a value's shape where it is known, from ``known_shapes`` or because the value is a constant."""
    if value.const_value is not None:
        return tuple(value.const_value.shape.numpy())
    return shapes.get(value)


def _without_weights(model: ir.Model) -> onnx.ModelProto:
    """A copy of the model for shape inference: large initializers of the outer graph are inputs, without values."""
    proto = ir.to_proto(model)
    kept = [tensor for tensor in proto.graph.initializer if tensor.ByteSize() <= LARGEST_KEPT_BYTES]
    present = {value.name for value in proto.graph.input}
    for tensor in proto.graph.initializer:
        if tensor.ByteSize() > LARGEST_KEPT_BYTES and tensor.name not in present:
            described = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            proto.graph.input.append(described)
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    for body in _bodies(proto.graph):
        # Inference does not look for the axes of a Squeeze outside of the body that it is in.
        read = {name for node in body.node for name in node.input}
        body.initializer.extend(tensor for tensor in kept if tensor.name in read)
    return proto


def _bodies(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    for node in graph.node:
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                if body.node:
                    yield body
                    yield from _bodies(body)


def _inner_values(graph: ir.Graph) -> Iterator[ir.Value]:
    """The nodes' outputs of a graph, and all values of those nested in it, in an order that a copy has too."""
    for node in graph:
        yield from node.outputs
        for attribute in node.attributes.values():
            nested = (attribute.value,) if attribute.type == ir.AttributeType.GRAPH else ()
            for body in attribute.value if attribute.type == ir.AttributeType.GRAPHS else nested:
                yield from list(body.inputs)
                yield from _inner_values(body)


def _axes(shape: ir.Shape) -> Shape:
    return tuple(axis if isinstance(axis, int) else axis.value for axis in shape)
