"""Constants from all sources: initializers, ``Constant`` nodes, and what other nodes make of those.

One bound holds for all that is computed from a file's constants (``room_for``); no more than it is ever allocated on a
file's word. ``constant_of`` reads and changes nothing, ``fold.fold`` rewrites the graph.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from lstm_edge_exporters.onnx_graph.edit import owner
from lstm_edge_exporters.onnx_graph.names import root_of
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.providers import CPU_ARGUMENTS, RUNTIME_ERRORS, session_options

__all__ = ["constant_of", "output_bytes", "room_for"]

# How far back a constant is followed; exporters produce chains of about ten nodes.
LONGEST_CHAIN = 64
_RANDOM = ("Random", "Bernoulli", "Multinomial")
# A chain that moves, joins or converts stored weights holds a few copies of them (int8 to float32 is four); one that
# makes much of little holds no weights. 64 MiB leave room for a layer of zeros made by ConstantOfShape.
MOST_COPIES = 8
MOST_BYTES_FROM_NOTHING = 64 * 2**20
# Protobuf's limit on one message.
LARGEST_BYTES = 2**31
# Shapes, axes and pads are what a node's output size can depend on; longer arrays are only declared to the inference.
MOST_SHAPE_ELEMENTS = 1024
# Their outputs' sizes depend on what they pick: the element, an index for each axis and three more at most.
_PICKS = ("Compress", "NonZero", "Unique")


def room_for(stored: Iterable[ir.TensorProtocol]) -> int:
    """Return how many bytes may be computed from stored constants: seven times theirs, and 64 MiB."""
    size = sum(tensor.nbytes for tensor in stored)
    return min((MOST_COPIES - 1) * size + MOST_BYTES_FROM_NOTHING, LARGEST_BYTES)


def constant_of(value: ir.Value | None) -> Array | None:
    """Return the constant that a value always has, or None when it depends on an input of the graph.

    Initializers and ``Constant`` nodes are read; chains of other nodes between constants and the value (``Slice``,
    ``Concat``, ``Transpose``, ``Unsqueeze``, ... as exporters leave them) are evaluated by onnxruntime, within
    limits (see ``room_for``).
    """
    if value is None:
        return None
    if value.is_graph_input():  # an initializer that is an input too (IR version 3) is only a default
        return None
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        return tensor.numpy()
    nodes = _constant_ancestors(value)
    if nodes is None:
        return None
    return _evaluate(nodes, value, opset=root_of(owner(nodes[0])).opset_imports.get("", 18))


def _constant_ancestors(value: ir.Value) -> list[ir.Node] | None:
    """Nodes that compute the value from constants alone, in order; None when it depends on something else."""
    ordered: list[ir.Node] = []
    seen: set[ir.Node] = set()

    def visit(current: ir.Value, depth: int) -> bool:
        if ir.convenience.get_const_tensor(current) is not None:
            return not current.is_graph_input()
        node = current.producer()
        if node is None or depth > LONGEST_CHAIN or node.domain not in ("", "ai.onnx"):
            return False
        if node in seen:
            return True
        if node.op_type.startswith(_RANDOM) or any(a.type == ir.AttributeType.GRAPH for a in node.attributes.values()):
            return False
        if not all(parent is None or visit(parent, depth + 1) for parent in node.inputs):
            return False
        seen.add(node)
        ordered.append(node)
        return True

    return ordered if visit(value, 0) else None


def _evaluate(nodes: Sequence[ir.Node], value: ir.Value, *, opset: int) -> Array | None:
    """Compute a value, an output of the last node, from constants and nodes that depend on nothing else.

    Returns:
        The constant; None where it cannot be computed, or there is no room for it (``room_for``).
    """
    leaves = {
        str(parent.name): tensor
        for node in nodes
        for parent in node.inputs
        if parent is not None and (tensor := ir.convenience.get_const_tensor(parent)) is not None
    }
    room = room_for(leaves.values())
    known = {name: tensor.numpy() for name, tensor in leaves.items()}
    for node in nodes:
        size = output_bytes(node, known, opset)
        if size is None or size > room:
            return None
        room -= size
        model = _model_of(node, known, opset)
        arrays = _run(model, {name: known[name] for name in (entry.name for entry in model.graph.input)})
        if arrays is None:
            return None
        known |= dict(zip((entry.name for entry in model.graph.output), arrays, strict=True))
    return known[str(value.name)]


def _model_of(node: ir.Node, known: Mapping[str, Array], opset: int) -> onnx.ModelProto:
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
        [onnx.ValueInfoProto(name=output.name) for output in node.outputs if output.name],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)


def output_bytes(node: ir.Node, known: Mapping[str, Array], opset: int) -> int | None:
    """Return the bytes of a node's outputs, or a bound of them; None where there is none.

    ONNX's shape inference says them, which allocates none of them.

    Args:
        node: an operator of ONNX itself.
        known: its inputs by name.
        opset: version of ONNX's own operators in the model.
    """
    if node.op_type in _PICKS:
        arrays = [known[str(value.name)] for value in node.inputs if value is not None]
        return sum(array.size * (array.itemsize + 8 * (array.ndim + 3)) for array in arrays)
    try:
        asked = _model_of(node, known, opset)
        small = [entry.name for entry in asked.graph.input if known[entry.name].size <= MOST_SHAPE_ELEMENTS]
        asked.graph.initializer.extend(onnx.numpy_helper.from_array(known[name], name) for name in small)
        inferred = onnx.shape_inference.infer_shapes(asked)
        total = 0
        for entry in inferred.graph.output:
            tensor = entry.type.tensor_type
            if not tensor.HasField("shape"):
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
