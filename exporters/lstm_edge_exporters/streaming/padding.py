"""Zeros that are put before or after a sequence by Concat."""

import onnx_ir as ir

from lstm_edge_exporters.streaming.errors import NotStreamable
from lstm_edge_exporters.streaming.flow import Flow
from lstm_edge_exporters.streaming.rewriter import Rewriter
from lstm_edge_exporters.streaming.titles import title_of
from lstm_edge_exporters.streaming.windows import padded_flow

__all__ = ["padded"]


def padded(rewriter: Rewriter, node: ir.Node) -> Flow:
    """A Concat along time: one sequence, with zeros of a fixed number of steps before and after it."""
    title = title_of(node)
    timed = [at for at, value in enumerate(node.inputs) if rewriter.flow(value) is not None]
    if len(timed) != 1:
        raise NotStreamable(f"{title} (Concat) joins sequences one after the other")
    value = node.inputs[timed[0]]
    assert value is not None
    flow = rewriter.flows[value]
    counts = [0, 0]
    for at, other in enumerate(node.inputs):
        if at == timed[0] or other is None:
            continue
        size = rewriter.dims_of(other)[flow.axis]
        if not isinstance(size, int) or not rewriter.is_zero(other):
            raise NotStreamable(f"{title} (Concat) puts other steps than zeros before or after the sequence")
        counts[at > timed[0]] += size
    new, made = padded_flow(rewriter, node, value, flow, before=counts[0], after=counts[1])
    if new is value:
        new = rewriter.node(node, "Identity", [value], like=value)
    rewriter.replace(node, [new])
    rewriter.flows[new] = made
    return made
