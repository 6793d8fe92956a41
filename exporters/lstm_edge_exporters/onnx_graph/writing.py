"""From a graph to the bytes of a model that carries the functions it calls."""

import onnx
import onnx.inliner
import onnx_ir as ir

from lstm_edge_exporters.functions import DOMAIN, function_for
from lstm_edge_runtime.errors import ArtifactError

__all__ = ["LARGEST_BYTES", "draft", "serialize", "to_proto"]

# Protobuf's limit on one message; external data is never written.
LARGEST_BYTES = 2**31 - 1


def serialize(model: ir.Model, *, plain: bool = False) -> bytes:
    """Serialize a graph with the functions that it calls, deterministically; arguments and errors as ``to_proto``."""
    data: bytes = to_proto(model, plain=plain).SerializeToString(deterministic=True)
    return data


def to_proto(model: ir.Model, *, plain: bool = False) -> onnx.ModelProto:
    """Return a graph with the functions that it calls as onnx has it, without metadata.

    Args:
        model: the graph; calls of ``lstm_edge::`` operators get their functions.
        plain: replace the calls by the functions' bodies, for consumers that know no local functions.

    Raises:
        ArtifactError: the model is over 2 GB, or does not pass ONNX's checker.
    """
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    if size > LARGEST_BYTES:
        raise ArtifactError(f"the model's weights are {size} bytes: an ONNX file holds at most {LARGEST_BYTES}")
    names = sorted({node.op_type for node in model.graph.all_nodes() if node.domain == DOMAIN})
    if names:
        model.opset_imports[DOMAIN] = 1
    proto = ir.to_proto(model)
    # Functions that a file came with stay unless they are ours, which are made again.
    foreign = [function for function in proto.functions if function.domain != DOMAIN]
    del proto.functions[:]
    proto.functions.extend(foreign + [function_for(name, model.opset_imports[""]) for name in names])
    if plain and proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
        kept = [entry for entry in proto.opset_import if entry.domain != DOMAIN]
        del proto.opset_import[:]
        proto.opset_import.extend(kept)
    del proto.metadata_props[:]
    _strip_tensors(proto.graph)
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        raise ArtifactError(f"the model does not pass ONNX's checker: {str(error).splitlines()[0][:300]}") from error
    return proto


def draft(model: ir.Model) -> onnx.ModelProto:
    """Return a model that is still being worked on as onnx has it, to be run or read again; nothing is checked.

    onnx_ir writes functions in other bytes than those it read, and a body of ours with other bytes is refused: those
    that the model has are made again.
    """
    proto = ir.to_proto(model)
    for function in proto.functions:
        if function.domain == DOMAIN:
            function.CopyFrom(function_for(function.name, model.opset_imports[""]))
    return proto


def _strip_tensors(graph: onnx.GraphProto) -> None:
    """Remove what other tools noted on tensors; onnx_ir keeps a tensor that it did not make as it came."""
    tensors = list(graph.initializer)
    for node in graph.node:
        tensors += [attribute.t for attribute in node.attribute if attribute.HasField("t")]
        for attribute in node.attribute:
            for nested in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _strip_tensors(nested)
    for tensor in tensors:
        tensor.ClearField("doc_string")
        del tensor.metadata_props[:]
