"""Shapes of what a Loop or a Scan carries from step to step, which ONNX's inference leaves open: by induction."""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx

__all__ = ["infer_carried"]

# A Loop in a Loop has the shapes of its first step only after the outer one has them.
MOST_ROUNDS = 6
# What onnx (1.23) calls an axis that it knows nothing of; the next inference may give the name to another one.
MADE_UP = "unk__"

_Dims = tuple[int | str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Carried:
    """One carried value: its name outside, and what it is called inside, where it enters and where it leaves."""

    outside: str
    entering: onnx.ValueInfoProto
    leaving: onnx.ValueInfoProto


def infer_carried(proto: onnx.ModelProto, *, data_prop: bool) -> onnx.ModelProto:
    """Infer shapes, those of carried values too; ``proto`` itself is changed.

    A carried value has the shape that it starts with if the body gives that shape back wherever it gets it: the first
    step has it, and each step hands it on. What the file itself says of these values is not used.
    """
    found = list(_carried(proto.graph))
    for carried in found:
        _forget(carried.entering)
        _forget(carried.leaving)
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=data_prop)
    refused: set[int] = set()
    for _ in range(MOST_ROUNDS if found else 0):
        copies = list(_carried(inferred.graph))
        known = _known(inferred.graph)
        changed = False
        for index, (carried, copy) in enumerate(zip(found, copies, strict=True)):
            start, now, end = known.get(copy.outside), _dims(copy.entering), _dims(copy.leaving)
            if index in refused or start is None:
                continue
            if now is None:
                _set(carried.entering, start)
                changed = True
            elif now != start or end != start:
                changed = _forget(carried.entering) or changed
                refused.add(index)
        if not changed:
            return inferred
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=data_prop)
    return inferred if not found else _bare(proto, found, data_prop=data_prop)


def _bare(proto: onnx.ModelProto, found: list[_Carried], *, data_prop: bool) -> onnx.ModelProto:
    """What is known without any carried value: the rounds did not end."""
    for carried in found:
        _forget(carried.entering)
    return onnx.shape_inference.infer_shapes(proto, data_prop=data_prop)


def _carried(graph: onnx.GraphProto) -> Iterator[_Carried]:
    """Every carried value, those of outer graphs first."""
    for node in graph.node:
        bodies = [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]
        if node.op_type in ("Loop", "Scan") and node.domain in ("", "ai.onnx") and len(bodies) == 1:
            yield from _pairs(node, bodies[0])
        for body in bodies:
            yield from _carried(body)


def _pairs(node: onnx.NodeProto, body: onnx.GraphProto) -> Iterator[_Carried]:
    if node.op_type == "Loop":
        outside, entering, leaving = node.input[2:], body.input[2:], body.output[1:]
    else:
        count = len(node.input) - next((a.i for a in node.attribute if a.name == "num_scan_inputs"), len(node.input))
        outside, entering, leaving = node.input[:count], body.input[:count], body.output[:count]
    for name, before, after in zip(outside, entering, leaving, strict=False):
        yield _Carried(outside=name, entering=before, leaving=after)


def _known(graph: onnx.GraphProto) -> dict[str, _Dims]:
    """The shapes of a graph's values by name, of nested graphs too; names do not repeat in a model."""
    known: dict[str, _Dims] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = _dims(value)
        if dims is not None:
            known.setdefault(value.name, dims)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                known |= _known(attribute.g)
    return known


def _dims(value: onnx.ValueInfoProto) -> _Dims | None:
    """The axes of a value where all are known; a name that inference made up says nothing."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    dims = [dim.dim_param or (dim.dim_value if dim.HasField("dim_value") else "") for dim in tensor.shape.dim]
    open_axes = [dim == "" or str(dim).startswith(MADE_UP) for dim in dims]
    return None if any(open_axes) else tuple(dims)


def _forget(value: onnx.ValueInfoProto) -> bool:
    known = value.type.tensor_type.HasField("shape")
    if known:
        value.type.tensor_type.ClearField("shape")
    return known


def _set(value: onnx.ValueInfoProto, dims: _Dims) -> None:
    shape = value.type.tensor_type.shape
    shape.SetInParent()
    del shape.dim[:]
    for dim in dims:
        axis = shape.dim.add()
        if isinstance(dim, int):
            axis.dim_value = dim
        else:
            axis.dim_param = dim
