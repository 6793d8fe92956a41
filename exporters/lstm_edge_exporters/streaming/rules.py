"""Which operation does what with the steps of its inputs."""

from collections.abc import Callable

import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.nodes import attribute_of
from lstm_edge_exporters.streaming import cuts, moves, pointwise, recurrent, windows
from lstm_edge_exporters.streaming.errors import NotStreamable
from lstm_edge_exporters.streaming.flow import Flow, input_flow
from lstm_edge_exporters.streaming.padding import padded
from lstm_edge_exporters.streaming.rewriter import Rewriter
from lstm_edge_exporters.streaming.titles import title_of

__all__ = ["flow_through"]

_OWN = frozenset(("", "ai.onnx", "com.microsoft"))
_NORMALIZATIONS = frozenset(
    [
        "BatchNormalization",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "MeanVarianceNormalization",
        "RMSNormalization",
        "SimplifiedLayerNormalization",
    ]
)
_SAME_FOR_ALL = frozenset(("Expand", "ConstantOfShape", "Tile"))


def flow_through(rewriter: Rewriter, node: ir.Node) -> None:
    """Rewrite a node where it looks at more than one step, and note the flows of its outputs.

    Raises:
        NotStreamable: it needs the whole sequence, or it is not known how it treats time.
    """
    whole = cuts.put_together(node)
    if whole is not None and whole in rewriter.flows:
        rewriter.flows[node.outputs[0]] = rewriter.flows[whole]
        return
    if node in rewriter.kept or node.op_type in ("Shape", "Size"):
        return
    reason = next((rewriter.refused[value] for value in node.inputs if value in rewriter.refused), None)
    if reason is not None and not all(value.name in rewriter.measured.zeros for value in node.outputs):
        raise NotStreamable(reason)
    if reason is not None or all(rewriter.flow(value) is None for value in node.inputs):
        _without_steps(rewriter, node)
    else:
        _with_steps(rewriter, node)


def _with_steps(rewriter: Rewriter, node: ir.Node) -> None:
    _check_rows(rewriter, node)
    outputs = tuple(node.outputs)
    try:
        flow = _flow_of(rewriter, node)
    except NotStreamable as error:
        if any(rewriter.time_axis(value) is not None for value in outputs):
            raise
        # What has no steps may be multiplied by 0, as the first step is that gives zeros of the right shape.
        rewriter.refused.update(dict.fromkeys(outputs, str(error)))
        return
    if node.graph is None or flow is None:  # it was replaced, and its values have their flows
        return
    for value in outputs:
        axis = rewriter.time_axis(value)
        if axis is not None:
            rewriter.flows[value] = flow.at(axis)


def _without_steps(rewriter: Rewriter, node: ir.Node) -> None:
    """A value that depends on the number of steps alone: the same at all steps, or something unknown."""
    for value in node.outputs:
        axis = rewriter.time_axis(value)
        if axis is None:
            continue
        if node.op_type not in _SAME_FOR_ALL:
            raise NotStreamable(f"{title_of(node)} ({node.op_type}) depends on the position of a step in the sequence")
        rewriter.flows[value] = input_flow(axis, constant=True)


def _flow_of(rewriter: Rewriter, node: ir.Node) -> Flow | None:
    op, first = node.op_type, rewriter.flow(node.inputs[0]) if node.inputs else None
    if node.domain == "lstm_edge":
        return _own(rewriter, node)
    if node.domain not in _OWN:
        raise NotStreamable(f"{title_of(node)} ({node.domain}.{op}) is unknown")
    if op in _OF_SEVERAL:
        return _OF_SEVERAL[op](rewriter, node)
    if op == "Gather":
        moving = first or rewriter.flow(node.inputs[1])
        return None if moving is None else cuts.pick(rewriter, node, moving)
    if first is None or any(rewriter.flow(value) is not None for value in node.inputs[1:]):
        raise NotStreamable(f"{title_of(node)} ({op}) takes steps in a way that is not known")
    return _of_one(rewriter, node, first)


def _of_one(rewriter: Rewriter, node: ir.Node, flow: Flow) -> Flow | None:
    op = node.op_type
    rule = _RULES.get(op)
    if rule is None and op.startswith("Reduce"):
        rule = _reduced
    if rule is None:
        raise NotStreamable(f"{title_of(node)} ({op}): it is not known how it treats time")
    return rule(rewriter, node, flow)


def _layer(rewriter: Rewriter, node: ir.Node, _flow: Flow) -> Flow:
    return recurrent.layer(rewriter, node)


def _reduced(rewriter: Rewriter, node: ir.Node, flow: Flow) -> Flow:
    return pointwise.along_axes(rewriter, node, flow, pointwise.axes_of(node))


def _along_one(rewriter: Rewriter, node: ir.Node, flow: Flow) -> Flow:
    default = 0 if node.op_type.startswith("Arg") else -1
    return pointwise.along_axes(rewriter, node, flow, [attribute_of(node, "axis", default)])


def _joined_along(rewriter: Rewriter, node: ir.Node) -> Flow:
    return padded(rewriter, node) if _along(rewriter, node) else pointwise.concat(rewriter, node)


_OF_SEVERAL: dict[str, Callable[[Rewriter, ir.Node], Flow]] = {
    **dict.fromkeys(pointwise.ELEMENTWISE, pointwise.elementwise),
    **dict.fromkeys(("MatMul", "Gemm", "FusedMatMul", "MatMulInteger"), pointwise.matmul),
    "Concat": _joined_along,
    "Scan": recurrent.scan,
}
_RULES: dict[str, Callable[[Rewriter, ir.Node, Flow], Flow | None]] = {
    **dict.fromkeys(recurrent.LAYERS, _layer),
    **dict.fromkeys(("Conv", "AveragePool", "MaxPool", "LpPool"), windows.window),
    **dict.fromkeys(_NORMALIZATIONS, pointwise.normalized),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "ArgMax", "ArgMin", "LpNormalization", "TopK"), _along_one),
    **dict.fromkeys(("Transpose", "Squeeze", "Unsqueeze"), moves.moved),
    "ConvTranspose": windows.transposed,
    "CumSum": windows.cumulative_sum,
    "Expand": moves.expand,
    "Flatten": moves.reshape,
    "Pad": windows.pad,
    "Reshape": moves.reshape,
    "Resize": moves.resize,
    "Slice": cuts.cut,
    "Split": pointwise.split,
}


def _along(rewriter: Rewriter, node: ir.Node) -> bool:
    value = next(value for value in node.inputs if value is not None and rewriter.flow(value) is not None)
    axis = int(attribute_of(node, "axis", 0)) % len(rewriter.dims_of(value))
    return axis == rewriter.flows[value].axis


def _own(rewriter: Rewriter, node: ir.Node) -> Flow:
    """An operator of our own: a recurrent layer [time, batch, features], or one that treats each row alone."""
    if node.op_type.startswith(("Lstm", "Gru", "Rnn", "Peephole", "FullPeephole")):
        return recurrent.layer(rewriter, node)
    value, flow = node.inputs[0], rewriter.flow(node.inputs[0])
    if value is None or flow is None or flow.axis == len(rewriter.dims_of(value)) - 1:
        raise NotStreamable(f"{title_of(node)} ({node.op_type}) takes steps in a way that is not known")
    return moves.moved(rewriter, node, flow)


def _check_rows(rewriter: Rewriter, node: ir.Node) -> None:
    """Where the steps of all rows lie along one axis, an operation along it would mix them."""
    along = node.op_type in ("CumSum", "Pad", "Slice", "Scan", "Split", "Resize") or node.op_type in recurrent.LAYERS
    for value in node.inputs:
        flow = rewriter.flow(value)
        mixed = along or (node.op_type == "Concat" and _along(rewriter, node)) or node.domain == "lstm_edge"
        if flow is not None and flow.rows and mixed and not (flow.axis == 1 and node.op_type in recurrent.LAYERS):
            raise NotStreamable(f"{title_of(node)} ({node.op_type}) runs over the steps of all rows at once")
