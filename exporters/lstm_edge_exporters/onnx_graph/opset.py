"""Converts older opsets to the toolkit's opset, node by node, in nested graphs too.

``onnx.version_converter`` takes whole models, nested graphs included (tried with onnx 1.23). Here it is handed one node
at a time, as a model of that node: an error names the node of the user's file, weights do not pass through it, and
nodes whose operator means the same in both opsets, nearly all of a recurrent model, are not touched.
"""

import onnx
import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.edit import add_constant, add_node, owner, replace_node
from lstm_edge_exporters.onnx_graph.names import unique_names
from lstm_edge_runtime.errors import ArtifactError

__all__ = ["LEAST_OPSET", "raise_opset"]

# Our functions, and ReduceMax with axes as an input, need this opset.
LEAST_OPSET = 18
# Below this ONNX's own converter has gaps, and If and Loop had other rules.
OLDEST_OPSET = 7

# Their bodies are converted node by node; the operators themselves only took more types since opset 11 (Scan: 9).
_CONTROL = {"If": 1, "Loop": 1, "Scan": 9}


def raise_opset(model: ir.Model) -> tuple[str, ...]:
    """Convert a model below opset 18 to opset 18; in place.

    Returns:
        One sentence on what was done, or nothing.

    Raises:
        ArtifactError: a node cannot be converted; the message names it and the reason.
    """
    source = model.opset_imports.get("", model.opset_imports.get("ai.onnx", 0))
    if "ai.onnx" in model.opset_imports:
        model.opset_imports[""] = model.opset_imports.pop("ai.onnx")
    if source >= LEAST_OPSET:
        return ()
    if source < OLDEST_OPSET:
        raise ArtifactError(
            f"the file has opset {source}: only opsets from {OLDEST_OPSET} on are converted to {LEAST_OPSET}"
        )
    if model.functions:
        raise ArtifactError(
            f"the file has opset {source} and local functions, which are not converted to opset {LEAST_OPSET}: "
            "inline them first (onnx.inliner.inline_local_functions)"
        )
    changed = [node for node in list(model.graph.all_nodes()) if _has_changed(node, source)]
    with unique_names(model):
        rewritten = [node.op_type for node in changed if _convert(node, source)]
    model.opset_imports[""] = LEAST_OPSET
    names = ", ".join(sorted(set(rewritten)))
    return (f"opset {source} was converted to {LEAST_OPSET}" + (f": {names} rewritten" if names else ""),)


def _has_changed(node: ir.Node, source: int) -> bool:
    if node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type in _CONTROL:
        if source < _CONTROL[node.op_type]:
            raise ArtifactError(f"{node.op_type} {node.name!r} of opset {source} is not converted")
        return False
    try:
        old, new = (onnx.defs.get_schema(node.op_type, version, "") for version in (source, LEAST_OPSET))
    except onnx.defs.SchemaError as error:
        raise ArtifactError(
            f"{node.op_type} {node.name!r} is not an operator of opset {source} or {LEAST_OPSET}"
        ) from error
    return bool(old.since_version != new.since_version)


def _convert(node: ir.Node, source: int) -> bool:
    """Convert one node and replace it by the result; returns whether it changed."""
    single = _single(node, source)
    try:
        converted = onnx.version_converter.convert_version(single, LEAST_OPSET)
        model = ir.from_proto(converted)
    except (RuntimeError, ValueError, TypeError, KeyError, onnx.checker.ValidationError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ArtifactError(
            f"the file has opset {source}, but {node.op_type} {node.name!r} cannot be converted to {LEAST_OPSET}: "
            f"{reason}"
        ) from error
    if [n.op_type for n in model.graph] == [node.op_type] and _same(node, next(iter(model.graph))):
        return False
    _splice(node, model)
    return True


def _single(node: ir.Node, source: int) -> onnx.ModelProto:
    """A model of this node alone: its constant inputs are initializers, the others inputs of whatever is known."""
    known = {value.name: constant_of(value) for value in node.inputs if value is not None}
    inputs, initializers = [], []
    for value in dict.fromkeys(value for value in node.inputs if value is not None):
        array = known[value.name]
        if array is not None and array.size <= 2**16:
            initializers.append(onnx.numpy_helper.from_array(array, str(value.name)))
            continue
        kind = int(value.dtype) if value.dtype is not None else onnx.TensorProto.FLOAT
        shape = None if value.shape is None else [s if isinstance(s, int) else None for s in value.shape]
        inputs.append(onnx.helper.make_tensor_value_info(str(value.name), kind, shape))
    outputs = [
        onnx.helper.make_tensor_value_info(
            str(value.name), int(value.dtype) if value.dtype is not None else onnx.TensorProto.FLOAT, None
        )
        for value in node.outputs
        if value.name
    ]
    graph = onnx.helper.make_graph([ir.to_proto(node)], "single", inputs, outputs, initializers)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", source)], ir_version=8)


def _same(old: ir.Node, new: ir.Node) -> bool:
    """Say whether the converter left the node as it was: the same inputs by name and the same attributes."""
    names = [[value.name if value is not None else "" for value in node.inputs] for node in (old, new)]
    texts = [sorted(ir.to_proto(a).SerializeToString() for a in node.attributes.values()) for node in (old, new)]
    return names[0] == names[1] and texts[0] == texts[1]


def _splice(node: ir.Node, single: ir.Model) -> None:
    graph = owner(node)
    inside = {value.name: value for value in node.inputs if value is not None}
    for name, value in single.graph.initializers.items():
        if name not in inside and value.const_value is not None:
            inside[name] = add_constant(graph, f"{node.name or node.op_type}.{name}", value.const_value.numpy())
    for part in single.graph:
        inputs = [None if value is None else inside[value.name] for value in part.inputs]
        attributes = {name: attribute.value for name, attribute in part.attributes.items()}
        made = add_node(
            node,
            part.op_type,
            inputs,
            attributes=attributes,
            outputs=[f"out{index}" if index else "out" for index in range(len(part.outputs))],
            name=f"{node.name or node.op_type}/{part.op_type}",
        )
        inside |= {value.name: new for value, new in zip(part.outputs, made, strict=True) if value.name}
    replace_node(node, [inside.get(value.name) if value.name else None for value in node.outputs])
