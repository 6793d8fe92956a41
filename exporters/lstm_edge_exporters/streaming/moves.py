"""Operations that move elements without looking at their neighbours in time: Reshape, Transpose, Expand, Resize, ..."""

import math
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.nodes import attribute_of
from lstm_edge_exporters.streaming.errors import NotStreamable
from lstm_edge_exporters.streaming.flow import Flow
from lstm_edge_exporters.streaming.measure import MEASURED_BATCH, Dims
from lstm_edge_exporters.streaming.rewriter import Rewriter
from lstm_edge_exporters.streaming.titles import title_of
from lstm_edge_runtime.card import TIME

__all__ = ["expand", "moved", "reshape", "resize"]

# Rows that a batch stands for in ``_rows_before``; any number that is no size of an axis does.
_BATCH = 1_000_003


def moved(rewriter: Rewriter, node: ir.Node, flow: Flow) -> Flow:
    """Return the flow of an operator whose output has the same steps along another axis."""
    axis = rewriter.time_axis(node.outputs[0])
    if axis is None:
        raise NotStreamable(f"{title_of(node)} ({node.op_type}) loses the axis of time")
    return flow.at(axis)


def reshape(rewriter: Rewriter, node: ir.Node, flow: Flow) -> Flow:
    """A Reshape must leave the axis of time whole, or split each element into a fixed number of elements."""
    value, title = node.inputs[0], title_of(node)
    assert value is not None
    axis = rewriter.time_axis(node.outputs[0])
    if axis is None:
        raise NotStreamable(f"{title} ({node.op_type}) loses the axis of time")
    old, new = rewriter.dims_of(value), rewriter.dims_of(node.outputs[0])
    folded = str(node.outputs[0].name) in rewriter.measured.folded
    times = 1 if folded != flow.rows else _times(rewriter, node, flow)
    if folded == flow.rows and _rows_before(old, flow.axis) != _rows_before(new, axis):
        raise NotStreamable(f"{title} ({node.op_type}) mixes the axis of time with others")
    if node.op_type == "Reshape" and not (flow.plain and times == 1):
        # What the file says may be computed from the steps of the input, which are others.
        shape = rewriter.shape_like(node, new, -1)
        node.replace_input_with(1, shape)
        node.attributes.pop("allowzero", None)
    if times == 1:
        return replace(flow, axis=axis, rows=folded)
    given, total = flow.given * times, flow.total * times
    return Flow(axis=axis, given=np.asarray(given), total=np.asarray(total), rate=flow.rate / times)


def _times(rewriter: Rewriter, node: ir.Node, flow: Flow) -> int:
    """Output elements for each input element along time."""
    after = rewriter.measured.steps[str(node.outputs[0].name)]
    rows = MEASURED_BATCH if flow.rows else 1
    counts = [int(flow.total[steps]) * rows for steps in rewriter.measured.lengths]
    ratios = {two / one for one, two in zip(counts, after, strict=True)}
    ratio = ratios.pop()
    if ratios:
        raise NotStreamable(f"{title_of(node)} ({node.op_type}) mixes the axis of time with others")
    if ratio < 1 or ratio != int(ratio):
        raise NotStreamable(f"{title_of(node)} ({node.op_type}) puts several steps into one")
    return int(ratio)


def _rows_before(dims: Dims, axis: int) -> int:
    sizes = [dim if isinstance(dim, int) else _BATCH * int(str(dim).partition("*")[2] or 1) for dim in dims[:axis]]
    return math.prod(sizes)


def expand(rewriter: Rewriter, node: ir.Node, flow: Flow) -> Flow:
    """An Expand along other axes; along time the value's own size is kept."""
    made = moved(rewriter, node, flow)
    if not flow.plain:
        node.replace_input_with(1, rewriter.shape_like(node, rewriter.dims_of(node.outputs[0]), 1))
    return made


def resize(rewriter: Rewriter, node: ir.Node, flow: Flow) -> Flow:
    """Upsampling that repeats each element a whole number of times."""
    value, title = node.inputs[0], title_of(node)
    assert value is not None
    axis = rewriter.time_axis(node.outputs[0])
    if axis != flow.axis:
        raise NotStreamable(f"{title} ({node.op_type}) moves the axis of time")
    times = _times(rewriter, node, flow)
    old, new = rewriter.dims_of(value), rewriter.dims_of(node.outputs[0])
    if attribute_of(node, "mode", "nearest") != "nearest" and times != 1:
        raise NotStreamable(f"{title} ({node.op_type}) interpolates between steps")
    if not all(isinstance(dim, int) or dim == other for dim, other in zip(old, new, strict=True)):
        raise NotStreamable(f"{title} ({node.op_type}) resizes an axis of unknown size")
    scales = [
        float(times) if dim == TIME else 1.0 if isinstance(dim, str) else float(other) / float(dim)
        for dim, other in zip(old, new, strict=True)
    ]
    if node.op_type == "Resize":
        vector = rewriter.floats(node, "scales", scales)
        while len(node.inputs) < 3:
            node.resize_inputs(3)
        node.replace_input_with(2, vector)
        if len(node.inputs) > 3:
            node.resize_inputs(3)
    return Flow(
        axis=flow.axis,
        given=np.asarray(flow.given * times),
        total=np.asarray(flow.total * times),
        rate=flow.rate / times,
    )
