"""A captured graph made fit to be read: names after the user's modules, nothing leaked from this machine."""

import ast

import onnx_ir as ir
from onnx_ir.passes import common

from lstm_edge_exporters.functions.names import DOMAIN

__all__ = ["strip", "tidy"]

# Where torch.onnx leaves the path of the module that a node comes from, as a Python list of strings.
NAME_SCOPES = "pkg.torch.onnx.name_scopes"

IR_VERSION = 8  # the oldest that has model-local functions; read by every onnxruntime since 1.10


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
    taken: set[str] = set()
    for node in model.graph:
        node.name = _unique(_node_name(node, prefix), taken)
        if node.op_type == "MatMul" and "/" in node.name:
            _name_weight(model.graph, node)
    strip(model)


def _node_name(node: ir.Node, prefix: str) -> str:
    """Return ``lstm.0`` for a recurrent layer, ``head/MatMul`` for a node of the module ``head``, else the operator."""
    weight = next((value for value in node.inputs if value is not None and value.is_initializer()), None)
    if weight is not None and weight.name and (node.op_type == "LSTM" or node.domain == DOMAIN):
        return weight.name.rpartition(".")[0]
    scopes = ast.literal_eval(node.metadata_props.get(NAME_SCOPES, "[]"))
    paths = [scope.removeprefix(prefix) for scope in scopes if isinstance(scope, str) and scope.startswith(prefix)]
    return f"{paths[-1]}/{node.op_type}" if paths else node.op_type


def _unique(name: str, taken: set[str]) -> str:
    candidate, count = name, 1
    while candidate in taken:
        candidate, count = f"{name}_{count}", count + 1
    taken.add(candidate)
    return candidate


def _name_weight(graph: ir.Graph, node: ir.Node) -> None:
    """Call a folded weight of a linear layer by the layer's name again: torch transposed it into a new constant."""
    weight = node.inputs[1]
    name = f"{node.name.partition('/')[0]}.weight"
    if weight is not None and weight.is_initializer() and name not in graph.initializers:
        weight.name = name


def strip(model: ir.Model) -> None:
    """Remove what names this machine or is not needed: source lines, paths, doc strings, unused parts; in place."""
    common.IdentityEliminationPass()(model)
    common.RemoveUnusedNodesPass()(model)
    common.RemoveUnusedFunctionsPass()(model)
    common.RemoveUnusedOpsetsPass()(model)
    common.ClearMetadataAndDocStringPass()(model)
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.graph.name = "lstm_edge"
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version, model.domain = "lstm-edge", "", None
    model.model_version = None
    # Shapes of inner values were inferred for the traced module; the names of their axes leak nothing but are noise.
    for node in model.graph.all_nodes():
        for value in node.outputs:
            value.metadata_props.clear()
            if not value.is_graph_output():
                value.shape = None
                value.type = None
