"""Makes a captured graph readable: names after the user's modules, nothing leaked from this machine."""

import ast

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from lstm_edge_exporters.functions.names import DOMAIN
from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.edit import add_constant, drop_unused, replace_node
from lstm_edge_exporters.onnx_graph.names import Names, unique_names
from lstm_edge_exporters.onnx_graph.nodes import attribute_of

__all__ = ["free_output_names", "strip", "tidy"]

# Where torch.onnx leaves the path of the module that a node comes from, as a Python list of strings.
NAME_SCOPES = "pkg.torch.onnx.name_scopes"
# And the classes of these modules.
CLASS_HIERARCHY = "pkg.torch.onnx.class_hierarchy"

IR_VERSION = 8  # the oldest that has model-local functions; read by every onnxruntime since 1.10
# Layers that torch folds a BatchNorm behind them into.
_FUSED = ("Conv", "ConvTranspose", "Gemm")


def free_output_names(model: ir.Model) -> None:
    """Rename what has the name of an input or an output of the graph and is none; in place.

    torch.onnx gives inputs and outputs the names that it was asked for, and a value inside the graph may have one
    already: it calls them after operators, such as ``add`` or ``maximum_1``.
    """
    outputs = {id(value) for value in model.graph.outputs}
    taken = {value.name for value in (*model.graph.inputs, *model.graph.outputs)}
    values = [value for node in model.graph.all_nodes() for value in node.outputs]
    names = Names([*taken, *(value.name for value in values)])
    for value in values:
        if value.name in taken and id(value) not in outputs:
            value.name = names.take(f"{value.name}_inside")


def tidy(model: ir.Model, *, prefix: str, root: str) -> None:
    """Name nodes and initializers after the modules they come from, then ``strip``; in place.

    Args:
        model: what torch exported.
        prefix: the path of the user's module inside the exported wrapper, removed from all names.
        root: what stands for the module itself where its path is empty.
    """
    for name, value in list(model.graph.initializers.items()):
        if name.startswith(prefix):
            path = name.removeprefix(prefix)
            value.name = f"{root}.{path}" if path.split(".")[0].split("_")[0].isdecimal() else path
    with unique_names(model):
        _pick_pieces(model.graph)
    names = Names()
    for node in model.graph:
        node.name = names.take(_node_name(node, prefix))
        if node.op_type == "MatMul" and "/" in node.name:
            _name_weight(model.graph, node)
    for body in model.graph.subgraphs():
        _name_linears(body, names)
    strip(model)


def _pick_pieces(graph: ir.Graph) -> None:
    """Let a Gather that picks one layer's state from all of them joined (``h_n[-1]``) take it from that layer itself.

    The Concat is then unused. (A Slice and a Concat were measured at 2.6 µs of a step of 6 µs.)
    """
    for node in list(graph):
        if node.op_type != "Gather" or attribute_of(node, "axis", 0) != 0:
            continue
        joined, index = node.inputs[0], constant_of(node.inputs[1])
        concat = None if joined is None else joined.producer()
        if concat is None or concat.op_type != "Concat" or concat.attributes["axis"].as_int() != 0:
            continue
        pieces = [piece for piece in concat.inputs if piece is not None and piece.shape is not None]
        single = len(pieces) == len(concat.inputs) and all(piece.shape and piece.shape[0] == 1 for piece in pieces)
        if single and index is not None and index.ndim == 0:
            node.replace_input_with(0, pieces[int(index)])
            node.replace_input_with(1, add_constant(graph, "first", np.array(0)))


def _node_name(node: ir.Node, prefix: str) -> str:
    """Return ``lstm.0`` for a recurrent layer, ``head/MatMul`` for a node of the module ``head``, else the operator."""
    weight = next((value for value in node.inputs if value is not None and value.is_initializer()), None)
    if weight is not None and weight.name and (node.op_type in ("LSTM", "GRU", "RNN") or node.domain == DOMAIN):
        return weight.name.rpartition(".")[0]
    fused = "batchnorm" in node.metadata_props.get(CLASS_HIERARCHY, "").lower()
    if fused and node.op_type in _FUSED and weight is not None and (weight.name or "").endswith(".weight"):
        # torch's optimizer folded a BatchNorm into the layer before, and the node has the scope of the former.
        return f"{(weight.name or '').removesuffix('.weight')}/{node.op_type}"
    scopes = ast.literal_eval(node.metadata_props.get(NAME_SCOPES, "[]"))
    paths = [scope.removeprefix(prefix) for scope in scopes if isinstance(scope, str) and scope.startswith(prefix)]
    return f"{paths[-1]}/{node.op_type}" if paths else node.op_type


def _name_linears(body: ir.Graph, names: Names) -> None:
    """Name the linear layers of a Scan's body after their weights, which the outer graph holds."""
    for node in body:
        weight = node.inputs[1] if node.op_type in ("Gemm", "MatMul") and len(node.inputs) > 1 else None
        if weight is not None and weight.is_initializer() and (weight.name or "").endswith(".weight"):
            node.name = names.take(f"{(weight.name or '').removesuffix('.weight')}/{node.op_type}")


def _name_weight(graph: ir.Graph, node: ir.Node) -> None:
    """Call a folded weight of a linear layer by the layer's name again: torch transposed it into a new constant."""
    weight = node.inputs[1]
    name = f"{(node.name or '').partition('/')[0]}.weight"
    if weight is not None and weight.is_initializer() and name not in graph.initializers:
        weight.name = name


def _drop_identities(model: ir.Model) -> None:
    """Remove Identity nodes except where a graph needs them: each of its outputs must be a separate value.

    onnx_ir's own pass gives the body of a Scan one value as two outputs; onnxruntime (1.32) leaves the memory of one
    of them as it was.
    """
    for node in list(model.graph.all_nodes()):
        if node.op_type != "Identity" or node.domain not in ("", "ai.onnx"):
            continue
        source, result = node.inputs[0], node.outputs[0]
        if source is None:
            continue
        inner = source.producer() is not None and source.graph is result.graph
        if not result.is_graph_output() or (inner and not source.is_graph_output()):
            replace_node(node, [source])


def strip(model: ir.Model) -> None:
    """Remove what names this machine or is not needed: source lines, paths, doc strings, unused parts; in place."""
    _drop_identities(model)
    drop_unused(model)
    common.ClearMetadataAndDocStringPass()(model)
    model.metadata_props.clear()
    model.doc_string = None
    model.graph.metadata_props.clear()
    model.graph.name = "lstm_edge"
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version, model.domain = "lstm-edge", "", None
    model.model_version = None
    # The pass above leaves what torch noted on inputs and initializers: its own names for them.
    for graph in (model.graph, *model.graph.subgraphs()):
        for value in (*graph.inputs, *graph.outputs, *graph.initializers.values()):
            value.metadata_props.clear()
            value.doc_string = None
    # Shapes of inner values were inferred for the traced module; the names of their axes leak nothing but are noise.
    for node in model.graph.all_nodes():
        for value in node.outputs:
            value.metadata_props.clear()
            if not value.is_graph_output():
                value.shape = None
                value.type = None
