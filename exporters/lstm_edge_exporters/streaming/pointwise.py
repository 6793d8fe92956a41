"""Operations that treat each step alone, and the check that a node is one of them."""

from collections.abc import Sequence

import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.nodes import attribute_of
from lstm_edge_exporters.streaming.errors import NotStreamable
from lstm_edge_exporters.streaming.flow import Flow
from lstm_edge_exporters.streaming.joins import joined
from lstm_edge_exporters.streaming.moves import moved
from lstm_edge_exporters.streaming.rewriter import Rewriter
from lstm_edge_exporters.streaming.titles import title_of
from lstm_edge_runtime.card import TIME

__all__ = ["ELEMENTWISE", "along_axes", "axes_of", "concat", "elementwise", "matmul", "normalized", "split"]

ELEMENTWISE = frozenset(
    [
        "Abs",
        "Acos",
        "Acosh",
        "Add",
        "And",
        "Asin",
        "Asinh",
        "Atan",
        "Atanh",
        "BitShift",
        "Cast",
        "CastLike",
        "Ceil",
        "Celu",
        "Clip",
        "Cos",
        "Cosh",
        "DequantizeLinear",
        "Div",
        "Dropout",
        "Elu",
        "Equal",
        "Erf",
        "Exp",
        "FastGelu",
        "Floor",
        "Gelu",
        "Greater",
        "GreaterOrEqual",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "IsInf",
        "IsNaN",
        "LeakyRelu",
        "Less",
        "LessOrEqual",
        "Log",
        "Max",
        "Mean",
        "Min",
        "Mish",
        "Mod",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "PRelu",
        "Pow",
        "QuantizeLinear",
        "QuickGelu",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Shrink",
        "Sigmoid",
        "Sign",
        "Sin",
        "Sinh",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Sub",
        "Sum",
        "Swish",
        "Tan",
        "Tanh",
        "ThresholdedRelu",
        "Where",
        "Xor",
    ]
)


def elementwise(rewriter: Rewriter, node: ir.Node) -> Flow:
    """Inputs that are broadcast to each other; their axes of time must meet."""
    output = node.outputs[0]
    axis = rewriter.time_axis(output)
    if axis is None:
        raise NotStreamable(f"{title_of(node)} ({node.op_type}) loses the axis of time")
    from_right = len(rewriter.dims_of(output)) - axis
    positions = []
    for at, value in enumerate(node.inputs):
        flow = rewriter.flow(value)
        if value is None or flow is None:
            continue
        if len(rewriter.dims_of(value)) - flow.axis != from_right:
            raise NotStreamable(f"{title_of(node)} ({node.op_type}) combines the axis of time with another axis")
        positions.append(at)
    return joined(rewriter, node, positions).at(axis)


def along_axes(rewriter: Rewriter, node: ir.Node, flow: Flow, axes: Sequence[int] | None) -> Flow:
    """A reduction, a softmax or the like over some axes; None for all."""
    value = node.inputs[0]
    assert value is not None
    rank = len(rewriter.dims_of(value))
    if axes is None or flow.axis in [axis % rank for axis in axes]:
        raise NotStreamable(f"{title_of(node)} ({node.op_type}) runs over all steps of the sequence")
    return moved(rewriter, node, flow)


def axes_of(node: ir.Node) -> Sequence[int] | None:
    """Return the axes of a reduction: from its attribute or its second input; None for all."""
    found = attribute_of(node, "axes")
    if found is None and len(node.inputs) > 1 and node.inputs[1] is not None:
        constant = constant_of(node.inputs[1])
        if constant is None:
            raise NotStreamable(f"{title_of(node)} ({node.op_type}) has axes that are no constants")
        found = [int(axis) for axis in constant.reshape(-1)]
    return None if found is None or not found else list(found)


def normalized(rewriter: Rewriter, node: ir.Node, flow: Flow) -> Flow:
    """A normalization: BatchNormalization is an affine map, the others take the mean over some axes."""
    value = node.inputs[0]
    assert value is not None
    rank = len(rewriter.dims_of(value))
    if node.op_type == "BatchNormalization":
        if flow.axis == 1:
            raise NotStreamable(f"{title_of(node)} (BatchNormalization) has time for its channels")
        return moved(rewriter, node, flow)
    if node.op_type in ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"):
        start = attribute_of(node, "axis", -1) % rank
        return along_axes(rewriter, node, flow, range(start, rank))
    if node.op_type in ("InstanceNormalization", "GroupNormalization"):
        return along_axes(rewriter, node, flow, range(1, rank))
    return along_axes(rewriter, node, flow, attribute_of(node, "axes", (0, 2, 3)))


def matmul(rewriter: Rewriter, node: ir.Node) -> Flow:
    """A product of matrices: time may be a row or a batch axis, never the axis that is summed over."""
    axis = rewriter.time_axis(node.outputs[0])
    summed = f"{title_of(node)} ({node.op_type}) sums over time"
    left, right = node.inputs[0], node.inputs[1]
    flow = rewriter.flow(left)
    if node.op_type in ("Gemm", "FusedGemm"):
        row = 1 if attribute_of(node, "transA", 0) else 0
        if flow is None or flow.axis != row or rewriter.flow(right) is not None or axis != 0:
            raise NotStreamable(summed)
        return joined(rewriter, node, [at for at in range(len(node.inputs)) if at != 1]).at(0)
    for value, last in ((left, 1), (right, 2)):
        own = rewriter.flow(value)
        if own is None or value is None:
            continue
        if len(rewriter.dims_of(value)) - own.axis == last:
            raise NotStreamable(summed)
    if axis is None:
        raise NotStreamable(summed)
    if left is not None and right is not None and left in rewriter.flows and right in rewriter.flows:
        places = {len(rewriter.dims_of(v)) - rewriter.flows[v].axis for v in (left, right)}
        if len(places) != 1 or min(places) < 3:
            raise NotStreamable(f"{title_of(node)} ({node.op_type}) combines each step with others: attention?")
    return joined(rewriter, node, range(len(node.inputs))).at(axis)


def concat(rewriter: Rewriter, node: ir.Node) -> Flow:
    """A Concat along another axis than time."""
    axis = rewriter.time_axis(node.outputs[0])
    places = {rewriter.flows[value].axis for value in node.inputs if value is not None and rewriter.flow(value)}
    alone = [v for v in node.inputs if v is not None and rewriter.flow(v) is None]
    if axis is None or places != {axis} or any(TIME in rewriter.dims_of(v) for v in alone):
        raise NotStreamable(f"{title_of(node)} (Concat) joins the axis of time with another axis")
    return joined(rewriter, node, range(len(node.inputs)), spread=True)


def split(rewriter: Rewriter, node: ir.Node, flow: Flow) -> Flow:
    """A Split along another axis than time."""
    value = node.inputs[0]
    assert value is not None
    if attribute_of(node, "axis", 0) % len(rewriter.dims_of(value)) == flow.axis:
        raise NotStreamable(f"{title_of(node)} ({node.op_type}) cuts the sequence into parts")
    return flow
