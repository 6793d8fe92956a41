"""Batch-first recurrent nodes: ONNX's ``layout=1``, which onnxruntime refuses, becomes ``layout=0`` and Transposes."""

from collections.abc import Sequence

import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.edit import add_node, owner, replace_node
from lstm_edge_exporters.onnx_graph.names import rename, unique_names
from lstm_edge_exporters.onnx_graph.nodes import attribute_of

__all__ = ["rewrite_layout"]

# Where the operators have their batch-first inputs: X and initial_h in all of them, initial_c in LSTM.
_INPUTS = {"LSTM": (0, 5, 6), "GRU": (0, 5), "RNN": (0, 5)}

# [B, T, I] and [T, B, I], [B, D, H] and [D, B, H]: the same exchange of the first two axes either way.
_SWAP = (1, 0, 2)
# Y from [T, D, B, H] to [B, T, D, H].
_Y = (2, 0, 1, 3)


def rewrite_layout(model: ir.Model) -> tuple[str, ...]:
    """Rewrite every LSTM, GRU and RNN node with ``layout=1``, in all graphs of the model; in place.

    With ``layout=1`` X is ``[batch, time, input]``, the states ``[batch, directions, hidden]`` and Y
    ``[batch, time, directions, hidden]`` (ONNX operators LSTM, GRU and RNN from opset 14 on). ``sequence_lens`` and
    the weights are the same in both layouts.

    Returns:
        One sentence for each node that was rewritten, or that is in a local function and stays as it is.
    """
    nodes = [node for graph in (model.graph, *model.graph.subgraphs()) for node in graph if _is_batch_first(node)]
    with unique_names(model):
        sentences = [_rewrite(node) for node in nodes]
    for function in model.functions.values():
        sentences += [
            f"{function.name}/{node.name} ({node.op_type}): layout is 1, which onnxruntime does not run, and is kept: "
            "the node is inside a local function; inline it first (onnx.inliner.inline_local_functions)"
            for node in function.all_nodes()
            if _is_batch_first(node)
        ]
    return tuple(sentences)


def _is_batch_first(node: ir.Node) -> bool:
    known = node.domain in ("", "ai.onnx") and node.op_type in _INPUTS
    return known and bool(attribute_of(node, "layout", 0) == 1)


def _rewrite(node: ir.Node) -> str:
    name, inputs = node.name or node.op_type, list(node.inputs)
    for position in _INPUTS[node.op_type]:
        if position < len(inputs) and inputs[position] is not None:
            inputs[position] = _transposed(node, inputs[position], _SWAP)
    # The new node takes the old one's name: cards and coverage tables call layers by it.
    rename(owner(node), node, f"{name}/layout=1")
    outputs = add_node(
        node,
        node.op_type,
        inputs,
        attributes={key: attribute for key, attribute in node.attributes.items() if key != "layout"},
        outputs=("Y", "Y_h", "Y_c")[: len(node.outputs)],
        name=name,
    )
    orders = (_Y, _SWAP, _SWAP)
    turned: list[ir.Value | None] = []
    for old, new, order in zip(node.outputs, outputs, orders, strict=False):
        used = bool(old.uses()) or old.is_graph_output()
        if not used:
            rename(owner(node), new, "")  # an output that nobody asked for stays absent
        turned.append(_transposed(node, new, order) if used else None)
    replace_node(node, turned)
    return (
        f"{name} ({node.op_type}): layout 1 (batch first), which onnxruntime does not run, "
        "became layout 0 between Transpose nodes"
    )


def _transposed(node: ir.Node, value: ir.Value | None, order: Sequence[int]) -> ir.Value:
    return add_node(node, "Transpose", [value], attributes={"perm": list(order)})[0]
