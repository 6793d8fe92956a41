"""Reading and rewriting ONNX graphs: parsing with checks, constants wherever they come from, small edits."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from lstm_edge_exporters.functions import DOMAIN, function_for
from lstm_edge_exporters.onnx_graph.constants import evaluate
from lstm_edge_exporters.onnx_graph.limits import check_external_data, check_limits, external_tensors
from lstm_edge_exporters.onnx_graph.quiet import quiet
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.artifact import check_integrity
from lstm_edge_runtime.errors import ArtifactError, first_line
from lstm_edge_runtime.function_check import check_inlining
from lstm_edge_runtime.model_reading import ModelReading, TornError, read_model

__all__ = [
    "add_constant",
    "add_node",
    "add_shared",
    "constant_of",
    "drop_unused",
    "nest",
    "owner",
    "parse_model",
    "parse_proto",
    "read_again",
    "read_proto",
    "replace_node",
    "root_of",
    "unique_name",
    "with_weights",
]


# How far back a constant is followed; exporters produce chains of about ten nodes.
LONGEST_CHAIN = 64
_RANDOM = ("Random", "Bernoulli", "Multinomial")
# onnx_ir's graphs do not know what they are nested in; parse_model leaves it under this key.
_ROOT = "lstm_edge.root"
# Smaller constants (a bias of 255 cells) are not worth a name that comes from another layer.
_LEAST_SHARED_BYTES = 1024
_SHARED = "lstm_edge.shared"


def parse_model(data: bytes) -> ir.Model:
    """Parse a model file for rewriting.

    Raises:
        IntegrityError: the file carries a trailer that does not agree with its bytes.
        ArtifactError: the bytes are no ONNX model, are not what they declare (see ``check_limits``), refer to
            external data, or define one of our operators otherwise.
    """
    check_integrity(data)
    proto, reading = parse_proto(data)
    check_inlining(reading)
    check_limits(proto)
    if not proto.graph.node:
        raise ArtifactError("this is not an ONNX model: it has no nodes")
    for function in proto.functions:
        if function.domain == DOMAIN:
            _check_function(function, next((entry.version for entry in proto.opset_import if not entry.domain), 0))
    if reading.external:
        named = [tensor.name for tensor in external_tensors(proto)]
        what = f"weight {named[0]!r}" if named else f"the tensor {reading.external[0]}"
        raise ArtifactError(f"{what} lies in another file: load and save the model as one file first")
    return read_proto(proto)


def parse_proto(data: bytes) -> tuple[onnx.ModelProto, ModelReading]:
    """Parse a file that somebody else wrote, if it can be read in one way only.

    Returns:
        The model as onnx reads it, and what the device's checks read of the same bytes.

    Raises:
        ArtifactError: the bytes are no ONNX model, or readers take them in different ways (see ``read_model``).
    """
    torn, reading = None, None
    try:
        reading = read_model(data)
    except TornError as error:
        torn = error  # onnx says in its own words that it is no model
    try:
        proto = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise ArtifactError(f"this is not an ONNX model: {error}") from error
    if reading is None:
        raise ArtifactError(f"this is not an ONNX model: {torn}")
    return proto, reading


def read_proto(proto: onnx.ModelProto) -> ir.Model:
    """Return a model of ours for rewriting; one that somebody else wrote goes through ``parse_model``.

    Raises:
        ArtifactError: onnx_ir cannot read it.
    """
    try:
        with quiet():
            model = ir.from_proto(proto)
    except (ValueError, TypeError, KeyError, AttributeError, ir.serde.SerdeError) as error:
        raise ArtifactError(f"the model cannot be read: {first_line(error)}") from error
    for nested in model.graph.subgraphs():
        nested.meta[_ROOT] = model.graph
    return model


def read_again(model: ir.Model) -> ir.Model:
    """Return a copy of a model without what nothing uses any more.

    Nodes of a branch that was folded away still count as users of the weights around it (onnx_ir 1.1), so that
    ``drop_unused`` alone keeps those: 0.5 to 0.9 MB of a published VAD.
    """
    copy = read_proto(ir.to_proto(model))
    drop_unused(copy)
    return copy


def with_weights(data: bytes, folder: str | os.PathLike[str]) -> bytes:
    """Return a model with its weights inside: those in files of their own are read from the model's folder.

    Bytes that are no model, or that hold their weights already, are returned as they are.

    Raises:
        ArtifactError: a file of weights is missing, too short, or outside the folder (see ``check_external_data``).
    """
    try:
        proto, reading = parse_proto(data)
    except ArtifactError:
        return data  # parse_model, which reads the same bytes next, says why it refuses them
    if not reading.external:
        return data
    check_integrity(data)
    try:
        check_external_data(proto, folder)
        onnx.load_external_data_for_model(proto, os.fspath(folder))
        return proto.SerializeToString(deterministic=True)
    except (ArtifactError, OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ArtifactError(f"weights that lie in another file cannot be read: {first_line(error)}") from error


def _check_function(function: onnx.FunctionProto, opset: int) -> None:
    try:
        ours = function_for(function.name, opset)
    except KeyError as error:
        raise ArtifactError(
            f"the file calls {DOMAIN}::{function.name}, which this version does not know: update lstm-edge"
        ) from error
    if function.SerializeToString(deterministic=True) != ours.SerializeToString(deterministic=True):
        raise ArtifactError(
            f"the file's body of {DOMAIN}::{function.name} is not the one that docs/operators.md fixes: "
            "names in this domain never change their meaning"
        )


def constant_of(value: ir.Value | None) -> Array | None:
    """Return the constant that a value always has, or None when it depends on an input of the graph.

    Initializers and ``Constant`` nodes are read; chains of other nodes between constants and the value (``Slice``,
    ``Concat``, ``Transpose``, ``Unsqueeze``, ... as exporters leave them) are evaluated by onnxruntime, within
    limits (see ``constants.evaluate``).
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
    return evaluate(nodes, value, opset=root_of(owner(nodes[0])).opset_imports.get("", 18))


def _constant_ancestors(value: ir.Value) -> list[ir.Node] | None:
    """Nodes that compute the value from constants alone, in order; None when it depends on something else."""
    ordered: list[ir.Node] = []
    seen: set[ir.Node] = set()

    def visit(current: ir.Value, depth: int) -> bool:
        if current.is_initializer():
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


def owner(node: ir.Node) -> ir.Graph:
    """Return the graph that a node stands in.

    Raises:
        ArtifactError: the node stands in no graph.
    """
    graph = node.graph
    if not isinstance(graph, ir.Graph):
        raise ArtifactError(f"node {node.name!r} stands in a function: only nodes of graphs can be rewritten")
    return graph


def root_of(graph: ir.Graph) -> ir.Graph:
    """Return the outermost graph around a graph, which may be the body of an ``If``, ``Loop`` or ``Scan``."""
    root = graph.meta.get(_ROOT, graph)
    assert isinstance(root, ir.Graph)
    return root


def nest(inner: ir.Graph, outer: ir.Graph) -> None:
    """Note that a new graph is nested in another one, as ``parse_model`` does, so that names in it stay unique."""
    inner.meta[_ROOT] = root_of(outer)


def unique_name(graph: ir.Graph, name: str) -> str:
    """Return ``name``, else ``name_1``, ...: one that no node and no value has, in any graph of the model.

    Names must not repeat between a graph and those nested in it, and tools take names for identities.
    """
    root = root_of(graph)
    graphs = [root, *root.subgraphs()]
    taken = {value.name for part in graphs for value in (*part.inputs, *part.initializers.values())}
    for node in root.all_nodes():
        taken |= {node.name, *(value.name for value in node.outputs)}
    unique, count = name, 1
    while unique in taken:
        unique, count = f"{name}_{count}", count + 1
    return unique


def add_constant(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    """Add an initializer under a name of its own (``name``, else ``name_1``, ...)."""
    unique = unique_name(graph, name)
    tensor = ir.tensor(np.ascontiguousarray(array) if array.ndim else array, name=unique)
    value = ir.Value(name=unique, const_value=tensor, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
    graph.register_initializer(value)
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
    return tuple(node.outputs)


def replace_node(node: ir.Node, replacements: Sequence[ir.Value | None]) -> None:
    """Put new values in the place of a node's outputs and remove it; graph outputs keep their names and types."""
    graph = owner(node)
    for old, replacement in zip(node.outputs, replacements, strict=False):
        if replacement is None:
            continue
        new = replacement
        if old.is_graph_output():
            if new.is_graph_output() or new.producer() is None:
                # A value has one name, so a second output (or one that is an input) needs a node of its own.
                new = add_node(node, "Identity", [new])[0]
            name = old.name
            new.shape, new.type = old.shape, old.type
            ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
            old.name, new.name = f"{name}:replaced", name
        else:
            ir.convenience.replace_all_uses_with(old, new)
    graph.remove(node, safe=True)


def drop_unused(model: ir.Model) -> None:
    """Remove nodes, initializers and functions that nothing uses any more; in place."""
    from onnx_ir.passes import common

    common.RemoveUnusedNodesPass()(model)
    common.RemoveUnusedFunctionsPass()(model)  # type: ignore[no-untyped-call]  # onnx_ir leaves its __init__ bare
    common.RemoveUnusedOpsetsPass()(model)
