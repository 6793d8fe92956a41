"""Operations with a window over time: convolution, pooling, transposed convolution, padding, cumulative sum.

A window of K elements (``(k - 1) * dilation + 1``) that moves by ``stride`` needs the K - stride elements before the
new ones. Padding before the first element is what the queue holds at the start; padding after the last is added in
the call that ends the sequence.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.nodes import attribute_of
from lstm_edge_exporters.streaming.cuts import dropped_behind, trimmed
from lstm_edge_exporters.streaming.errors import NotStreamable
from lstm_edge_exporters.streaming.flow import Flow, windows
from lstm_edge_exporters.streaming.rewriter import Rewriter
from lstm_edge_exporters.streaming.titles import title_of

__all__ = ["cumulative_sum", "pad", "transposed", "window"]

# Operators whose results are 0 or more: a maximum over them does not change when zeros stand for what is not there.
_NONNEGATIVE = frozenset(("Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs", "Softplus"))


class _Window:
    """The window of a node along the axis of time: its sizes in elements."""

    def __init__(self, rewriter: Rewriter, node: ir.Node, flow: Flow) -> None:
        value = node.inputs[0]
        assert value is not None
        self.rank = len(rewriter.dims_of(value)) - 2
        self.at = flow.axis - 2
        if self.at < 0:
            raise NotStreamable(f"{title_of(node)} ({node.op_type}) has time for its channels")
        kernel = attribute_of(node, "kernel_shape")
        if kernel is None:
            weight = node.inputs[1] if len(node.inputs) > 1 else None
            if weight is None:
                raise NotStreamable(f"{title_of(node)} ({node.op_type}) has a kernel of unknown size")
            kernel = rewriter.dims_of(weight)[2:]
        self.node = node
        self.stride = int(self._list("strides", 1)[self.at])
        self.size = (int(kernel[self.at]) - 1) * int(self._list("dilations", 1)[self.at]) + 1
        self.pads = self._pads()
        self.before, self.after = int(self.pads[self.at]), int(self.pads[self.at + self.rank])

    def _list(self, name: str, default: int, length: int | None = None) -> Sequence[int]:
        found: Sequence[int] = attribute_of(self.node, name, [default] * (length or self.rank))
        return found

    def _pads(self) -> list[int]:
        auto = attribute_of(self.node, "auto_pad", "NOTSET")
        pads = list(self._list("pads", 0, 2 * self.rank))
        if auto in ("NOTSET", "", "VALID"):
            return pads if auto != "VALID" else [0] * len(pads)
        raise NotStreamable(
            f"{title_of(self.node)} ({self.node.op_type}) has auto_pad {auto}: give its padding in numbers"
        )

    def without_pads(self) -> None:
        """Remove the node's own padding along time."""
        if not (self.pads[self.at] or self.pads[self.at + self.rank]):
            return
        self.pads[self.at] = self.pads[self.at + self.rank] = 0
        self.node.attributes["pads"] = ir.AttrInt64s("pads", self.pads)


def window(rewriter: Rewriter, node: ir.Node, flow: Flow) -> Flow:
    """Let a convolution or a pooling keep the elements that its next windows need."""
    if flow.axis == 0:  # each step is a row of its own
        return flow
    found = _Window(rewriter, node, flow)
    value, title = node.inputs[0], title_of(node)
    assert value is not None
    if node.op_type != "Conv":
        _check_pool(node, found, value)
    if found.stride == 1:
        found.after -= min(found.after, dropped_behind(rewriter, node, flow.axis))
    given = windows(flow.given, found.size, found.stride, found.before)
    total = windows(flow.total, found.size, found.stride, found.before + found.after)
    held = flow.given + found.before - found.stride * given
    if found.after or held.any():
        queued = rewriter.queue(node, value, flow.axis, held, title)
        node.replace_input_with(0, rewriter.pad_end(node, queued, flow.axis, found.after))
        found.without_pads()
    return Flow(axis=flow.axis, given=given, total=total, rate=flow.rate * found.stride)


def _check_pool(node: ir.Node, found: _Window, value: ir.Value) -> None:
    what = f"{title_of(node)} ({node.op_type})"
    if attribute_of(node, "ceil_mode", 0):
        raise NotStreamable(f"{what} has ceil_mode: its last window depends on where the sequence ends")
    if len(node.outputs) > 1 and node.outputs[1].uses():
        raise NotStreamable(f"{what} gives the indices of its maxima")
    if not (found.before or found.after):
        return
    if node.op_type == "MaxPool" and not _is_nonnegative(value):
        raise NotStreamable(f"{what} pads the sequence, and a maximum cannot start from zeros: pad before it")
    if node.op_type != "MaxPool" and not attribute_of(node, "count_include_pad", 0):
        raise NotStreamable(f"{what} leaves its padding out of the mean: set count_include_pad")


def _is_nonnegative(value: ir.Value) -> bool:
    producer = value.producer()
    while producer is not None and producer.op_type in ("Unsqueeze", "Squeeze", "Transpose", "Reshape", "MaxPool"):
        producer = None if producer.inputs[0] is None else producer.inputs[0].producer()
    return producer is not None and producer.op_type in _NONNEGATIVE


def transposed(rewriter: Rewriter, node: ir.Node, flow: Flow) -> Flow:
    """Let a transposed convolution keep the elements that still add to later outputs.

    Element i adds to the outputs i * stride ... i * stride + K - 1; so the outputs of t new elements begin at
    c * stride, with c = ceil((K - stride) / stride) elements in front of them.
    """
    if flow.axis == 0:
        return flow
    found = _Window(rewriter, node, flow)
    value, title = node.inputs[0], title_of(node)
    assert value is not None
    if attribute_of(node, "output_shape") is not None:
        raise NotStreamable(f"{title} (ConvTranspose) has a fixed output shape")
    extra = int(attribute_of(node, "output_padding", [0] * found.rank)[found.at])
    tail = found.size - found.stride + extra
    if tail < 0:
        raise NotStreamable(f"{title} (ConvTranspose) has a stride over its kernel's size")
    spare = min(tail, found.after + dropped_behind(rewriter, node, flow.axis))
    tail, found.after = tail - spare, max(found.after - spare, 0)
    keeps = -(-max(found.size - found.stride, 0) // found.stride)
    queued = rewriter.queue(node, value, flow.axis, np.full_like(flow.given, keeps), title)
    before, after = found.before, found.after
    found.without_pads()
    raw = rewriter.node(node, "ConvTranspose", [queued, *node.inputs[1:]], **_attributes(node))
    rewriter.dims[raw] = rewriter.dims_of(node.outputs[0])
    start = keeps * found.stride
    count = rewriter.node(
        node,
        "Mul",
        [rewriter.steps_in(node, value, flow.axis), rewriter.ints(node, "stride", [found.stride])],
    )
    end = rewriter.node(node, "Add", [count, rewriter.ints(node, "start", [start])])
    if tail:
        end = rewriter.node(node, "Add", [end, rewriter.at_end(node, tail)])
    new = rewriter.slice(node, raw, flow.axis, start, end)
    made = Flow(
        axis=flow.axis,
        given=np.asarray(found.stride * flow.given),
        total=np.where(flow.total > 0, found.stride * flow.total + tail, 0),
        rate=flow.rate / Fraction(found.stride),
    )
    new, made = trimmed(rewriter, node, new, made, start=before, drops=after, title=title)
    rewriter.replace(node, [new])
    rewriter.flows[new] = made
    return made


def _attributes(node: ir.Node) -> dict[str, Any]:
    return {name: attribute.value for name, attribute in node.attributes.items()}


def pad(rewriter: Rewriter, node: ir.Node, flow: Flow) -> Flow:
    """Zeros before the first step are held by a queue; zeros after the last come with the end."""
    title = title_of(node)
    pads = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
    value = node.inputs[0]
    assert value is not None
    rank = len(rewriter.dims_of(value))
    if pads is None or pads.size != 2 * rank or (len(node.inputs) > 3 and node.inputs[3] is not None):
        raise NotStreamable(f"{title} (Pad) pads by numbers that are no constants")
    before, after = int(pads[flow.axis]), int(pads[flow.axis + rank])
    if before == after == 0:
        return flow
    mode = attribute_of(node, "mode", "constant")
    filling = constant_of(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else np.zeros(1)
    if mode != "constant" or filling is None or filling.any():
        raise NotStreamable(f"{title} (Pad) fills with other values than zeros along time (mode {mode})")
    if before < 0 or after < 0:
        raise NotStreamable(f"{title} (Pad) removes steps")
    others = np.array(pads, np.int64)
    others[[flow.axis, flow.axis + rank]] = 0
    padded, made = padded_flow(rewriter, node, value, flow, before=before, after=after)
    node.replace_input_with(0, padded)
    node.replace_input_with(1, rewriter.ints(node, "pads", others))
    return made


def padded_flow(
    rewriter: Rewriter, node: ir.Node, value: ir.Value, flow: Flow, *, before: int, after: int
) -> tuple[ir.Value, Flow]:
    """Return a value with zeros before its first and after its last element."""
    given, total = flow.given + before, flow.total + before + after
    given[0] = total[0] = 0
    if before:
        value = rewriter.queue(node, value, flow.axis, flow.given + before - given, title_of(node))
    made = Flow(axis=flow.axis, given=given, total=total, rate=flow.rate)
    return rewriter.pad_end(node, value, flow.axis, after), made


def cumulative_sum(rewriter: Rewriter, node: ir.Node, flow: Flow) -> Flow:
    """Start from the last sum; it is the first element, so that the order of additions stays."""
    axis, value = constant_of(node.inputs[1]), node.inputs[0]
    assert value is not None
    rank = len(rewriter.dims_of(value))
    if axis is None:
        raise NotStreamable(f"{title_of(node)} (CumSum) has an axis that is no constant")
    if int(axis.reshape(-1)[0]) % rank != flow.axis:
        return flow
    if attribute_of(node, "exclusive", 0) or attribute_of(node, "reverse", 0):
        raise NotStreamable(f"{title_of(node)} (CumSum) is exclusive or runs backwards")
    front, keep = rewriter.carry(node, value, flow.axis, title_of(node))
    sums = rewriter.node(node, "CumSum", [front, node.inputs[1]], like=value)
    keep(sums)
    new = rewriter.slice(node, sums, flow.axis, 1)
    rewriter.replace(node, [new])
    rewriter.flows[new] = flow
    return flow
