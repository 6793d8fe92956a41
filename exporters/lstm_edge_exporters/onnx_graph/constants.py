"""Constant nodes evaluated one by one, with the size of each answer known before it is computed."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.providers import CPU_ARGUMENTS, RUNTIME_ERRORS, session_options

__all__ = ["evaluate"]


# A chain that moves, joins or converts stored weights holds a few copies of them (int8 to float32 is four); one that
# makes much of little holds no weights. 64 MiB leave room for a layer of zeros made by ConstantOfShape.
MOST_COPIES = 8
MOST_BYTES_FROM_NOTHING = 64 * 2**20
# Protobuf's limit on one message.
LARGEST_BYTES = 2**31
# Shapes, axes and pads are what a node's output size can depend on; longer arrays are only declared to the inference.
MOST_SHAPE_ELEMENTS = 1024


def evaluate(nodes: Sequence[ir.Node], value: ir.Value, *, opset: int) -> Array | None:
    """Compute a value from initializers and nodes that depend on nothing else.

    Args:
        nodes: the nodes, in order; ``value`` is an output of the last.
        value: what is wanted.
        opset: version of ONNX's own operators in the model.

    Returns:
        The constant; None where it cannot be computed, or would hold more than eight times the bytes that it is made
        of and 64 MiB. Nothing over that limit is allocated on the way.
    """
    leaves = {
        parent.name: parent.const_value
        for node in nodes
        for parent in node.inputs
        if parent is not None and parent.is_initializer() and parent.const_value is not None
    }
    stored = sum(tensor.nbytes for tensor in leaves.values())
    room = min(MOST_COPIES * stored + MOST_BYTES_FROM_NOTHING, LARGEST_BYTES) - stored
    known = {str(name): tensor.numpy() for name, tensor in leaves.items()}
    for node in nodes:
        outputs = [str(output.name) for output in node.outputs if output.name]
        model = _model_of(node, known, outputs, opset)
        size = _output_bytes(model, known, outputs)
        if size is None or size > room:
            return None
        arrays = _run(model, {name: known[name] for name in (entry.name for entry in model.graph.input)})
        if arrays is None:
            return None
        known |= dict(zip(outputs, arrays, strict=True))
        room -= size
    return known[str(value.name)]


def _model_of(node: ir.Node, known: Mapping[str, Array], outputs: Sequence[str], opset: int) -> onnx.ModelProto:
    """A model of this node alone; its inputs are inputs of the model."""
    names = dict.fromkeys(str(parent.name) for parent in node.inputs if parent is not None)
    graph = onnx.helper.make_graph(
        [ir.to_proto(node)],
        "constant",
        [
            onnx.helper.make_tensor_value_info(
                name, onnx.helper.np_dtype_to_tensor_dtype(known[name].dtype), known[name].shape
            )
            for name in names
        ],
        [onnx.ValueInfoProto(name=name) for name in outputs],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)


def _output_bytes(model: onnx.ModelProto, known: Mapping[str, Array], outputs: Sequence[str]) -> int | None:
    """Bytes of a node's outputs by ONNX's shape inference, which allocates none of them; None where it is unsure."""
    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    small = [entry.name for entry in model.graph.input if known[entry.name].size <= MOST_SHAPE_ELEMENTS]
    asked.graph.initializer.extend(onnx.numpy_helper.from_array(known[name], name) for name in small)
    try:
        inferred = onnx.shape_inference.infer_shapes(asked)
        total = 0
        for entry in inferred.graph.output:
            tensor = entry.type.tensor_type
            if entry.name not in outputs or not tensor.HasField("shape"):
                return None
            if not all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in tensor.shape.dim):
                return None
            dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
            if dtype.hasobject:
                return None
            total += math.prod(dim.dim_value for dim in tensor.shape.dim) * dtype.itemsize
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, ValueError, KeyError, RuntimeError):
        return None
    return total


def _run(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array] | None:
    options = session_options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"], **CPU_ARGUMENTS
        )
        return [np.asarray(array) for array in session.run(None, dict(feeds))]
    except RUNTIME_ERRORS:
        return None
