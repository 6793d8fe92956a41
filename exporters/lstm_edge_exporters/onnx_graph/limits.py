"""What a foreign file may not hold: text that is not UTF-8, sizes that its bytes do not back.

These checks run before any other tool reads the file. They allocate nothing by a size that the file declares.
"""

import math
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx

from lstm_edge_runtime.errors import ArtifactError

__all__ = ["check_external_data", "check_limits", "external_tensors"]

# The largest tensor that a file may declare or compute from its own constants: protobuf's limit on one message.
LARGEST_TENSOR_BYTES = 2**31
# An ONNX control-flow operator holds graphs; exporters nest four deep (a published VAD), protobuf stops at 100.
DEEPEST_NESTING = 32
MOST_AXES = 64  # NumPy's own limit
# Free text, in which a line break is no accident; every other string is a name.
_FREE_TEXT = ("doc_string", "value")


def check_limits(proto: onnx.ModelProto) -> None:
    """Refuse a model that is not what it declares.

    Raises:
        ArtifactError: a name is not UTF-8 or holds a control character; a tensor declares another size than its bytes
            have, or more than 2 GB; two weights have one name; graphs are nested too deeply.
    """
    _check_text(proto)
    for tensor in _tensors(proto):
        _check_tensor(tensor)
    for where, graph in _graphs(proto.graph, "graph", 0):
        if graph.sparse_initializer:
            raise ArtifactError(f"{where}: sparse initializers are not supported; store the weights densely")
        repeated = [name for name, count in Counter(tensor.name for tensor in graph.initializer).items() if count > 1]
        if repeated:
            raise ArtifactError(f"{where}: two weights have the name {_shown(repeated[0])}")
        for value in (*graph.input, *graph.output):
            _check_declared(value)
    _check_computed(proto)


def _shown(text: str | bytes) -> str:
    return repr(text[:40])


def _check_text(message: Any) -> None:
    """Refuse names that are not UTF-8 (protobuf hands them out as bytes), or that hold control characters."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            for text in (value,) if isinstance(value, str | bytes) else value:
                if not isinstance(text, str):
                    raise ArtifactError(f"the model cannot be read: {field.name} is not UTF-8 text ({_shown(text)})")
                if field.name not in _FREE_TEXT and not text.isprintable():
                    raise ArtifactError(
                        f"the model cannot be read: {field.name} holds a control character ({_shown(text)})"
                    )
        elif field.type == field.TYPE_MESSAGE:
            for nested in (value,) if hasattr(value, "ListFields") else value:
                _check_text(nested)


def _graphs(graph: onnx.GraphProto, where: str, depth: int) -> Iterator[tuple[str, onnx.GraphProto]]:
    if depth > DEEPEST_NESTING:
        raise ArtifactError(f"the model nests graphs more than {DEEPEST_NESTING} deep")
    yield where, graph
    for node in graph.node:
        for attribute in node.attribute:
            for nested in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graphs(nested, f"{where}/{node.name or node.op_type}.{attribute.name}", depth + 1)


def _item_bits(kind: int) -> int:
    """Bits of an element; four-bit kinds are the smallest that ONNX packs. 8 where the kind is unknown."""
    try:
        name = onnx.TensorProto.DataType.Name(kind)
        if name.endswith(("INT4", "4E2M1")):
            return 4
        return 2 if name.endswith("INT2") else int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize) * 8
    except (KeyError, ValueError, TypeError):
        return 8


def _check_tensor(tensor: onnx.TensorProto) -> None:
    """Compare what a tensor declares with the bytes that are there."""
    name, dims = _shown(tensor.name), list(tensor.dims)
    if len(dims) > MOST_AXES:
        raise ArtifactError(f"tensor {name} declares {len(dims)} axes: at most {MOST_AXES}")
    if any(dim < 0 for dim in dims):
        raise ArtifactError(f"tensor {name} declares the shape {dims}: a size cannot be negative")
    size = math.prod(dims) * _item_bits(tensor.data_type) // 8
    if size > LARGEST_TENSOR_BYTES:
        raise ArtifactError(f"tensor {name} declares the shape {dims}, {size} bytes: at most {LARGEST_TENSOR_BYTES}")
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        return
    if tensor.HasField("raw_data"):
        there = len(tensor.raw_data)
        if there != -(-math.prod(dims) * _item_bits(tensor.data_type) // 8):
            raise ArtifactError(f"tensor {name} declares the shape {dims}, {size} bytes, and holds {there} bytes")


def _check_declared(value: onnx.ValueInfoProto) -> None:
    tensor = value.type.tensor_type
    dims = [dim.dim_value for dim in tensor.shape.dim if dim.dim_value > 0]
    size = math.prod(dims) * _item_bits(tensor.elem_type) // 8
    if size > LARGEST_TENSOR_BYTES:
        raise ArtifactError(
            f"{_shown(value.name)} declares the shape {dims}, {size} bytes: at most {LARGEST_TENSOR_BYTES}"
        )


def _check_computed(proto: onnx.ModelProto) -> None:
    """Refuse a node whose output is huge whatever goes in, such as ConstantOfShape of a constant shape."""
    if sum(tensor.ByteSize() for tensor in proto.graph.initializer) > LARGEST_TENSOR_BYTES // 2:
        return  # the shape inference takes serialized models of less than 2 GB
    try:
        # Not data_prop=True: that writes out whatever ConstantOfShape and Range declare, to follow its elements.
        inferred = onnx.shape_inference.infer_shapes(proto)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, ValueError, RuntimeError):
        return  # what is wrong with the graph is for its reader and onnxruntime to say
    for _where, graph in _graphs(inferred.graph, "graph", 0):
        for value in (*graph.value_info, *graph.output):
            _check_declared(value)


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of a model, of nested graphs and functions too."""
    bodies: list[Any] = [proto.graph, *proto.functions]
    for body in bodies:
        for _where, graph in _graphs(body, "", 0):
            yield from graph.initializer if isinstance(graph, onnx.GraphProto) else ()
            for node in graph.node:
                for attribute in node.attribute:
                    yield from (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors)


def external_tensors(proto: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Return the tensors whose values lie in a separate file."""
    return [
        tensor
        for tensor in _tensors(proto)
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data
    ]


def check_external_data(proto: onnx.ModelProto, folder: str | os.PathLike[str]) -> None:
    """Refuse weights in files outside the model's folder, and more of them than the model may have.

    Raises:
        ArtifactError: a location is absolute, leaves the folder (also through a symlink), is not a file or too short;
            or all weights together are over 2 GB.
    """
    root, total = Path(folder).resolve(), 0
    for tensor in external_tensors(proto):
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location, name = entries.get("location", ""), _shown(tensor.name)
        _check_text(tensor)
        if not location or not location.isprintable() or os.path.isabs(location) or "\\" in location:
            raise ArtifactError(
                f"weight {name} is stored in {_shown(location)}: "
                "only a relative path to a file beside the model is read"
            )
        path = (root / location).resolve()
        if not path.is_relative_to(root):
            raise ArtifactError(
                f"weight {name} is stored in {_shown(location)}, outside the model's folder: it is not read"
            )
        if not path.is_file():
            raise ArtifactError(
                f"weight {name} is stored in {_shown(location)}, but there is no such file beside the model"
            )
        _check_tensor(tensor)
        size = -(-math.prod(tensor.dims) * _item_bits(tensor.data_type) // 8)
        given = [entries.get("offset", "0"), entries.get("length", str(size))]
        if not all(text.isdecimal() and len(text) < 20 for text in given):
            raise ArtifactError(f"weight {name}: its offset and length must be numbers, got {given}")
        offset, length = map(int, given)
        if length != size or offset + length > path.stat().st_size:
            raise ArtifactError(
                f"weight {name} needs {size} bytes by its shape, at byte {offset} of {_shown(location)}, "
                f"but {length} bytes are declared and the file has {path.stat().st_size}"
            )
        total += size
        if total > LARGEST_TENSOR_BYTES:
            raise ArtifactError(f"the weights in external files have more than {LARGEST_TENSOR_BYTES} bytes in total")
