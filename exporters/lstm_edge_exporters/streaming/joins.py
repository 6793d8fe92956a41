"""Values that are combined step by step: each waits for the slowest."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.streaming.errors import NotStreamable
from lstm_edge_exporters.streaming.flow import Flow
from lstm_edge_exporters.streaming.rewriter import Rewriter
from lstm_edge_exporters.streaming.titles import title_of

__all__ = ["align", "joined"]


def joined(rewriter: Rewriter, node: ir.Node, positions: Sequence[int], *, spread: bool = False) -> Flow:
    """Let the timed inputs of a node wait for each other, and return their common flow.

    Args:
        rewriter: the graph.
        node: the node.
        positions: which of its inputs are combined; those without steps are left out.
        spread: an input that is the same at all steps must have as many elements as the others (``Concat``); otherwise
            one element is enough, as operators broadcast it.
    """
    timed = [(at, value) for at in positions if (value := node.inputs[at]) is not None and rewriter.flow(value)]
    moving = [(at, value) for at, value in timed if not rewriter.flows[value].constant]
    if not moving:
        return rewriter.flows[timed[0][1]]
    flows = [rewriter.flows[value] for _, value in moving]
    slowest = _slowest(node, flows)
    leader = next(value for (_, value), flow in zip(moving, flows, strict=True) if flow.same_steps(slowest))
    for at, value in moving:
        if not rewriter.flows[value].same_steps(slowest):
            node.replace_input_with(at, _waiting(rewriter, node, value, leader, slowest))
    for at, value in timed:
        if rewriter.flows[value].constant and not slowest.plain:
            node.replace_input_with(at, _spread(rewriter, node, value, leader, spread=spread))
    return Flow(axis=slowest.axis, given=slowest.given, total=slowest.total, rate=slowest.rate)


def _slowest(node: ir.Node, flows: Sequence[Flow]) -> Flow:
    least = np.minimum.reduce([flow.given for flow in flows])
    found = next((flow for flow in flows if np.array_equal(flow.given, least)), None)
    if found is None:
        raise NotStreamable(f"{title_of(node)} ({node.op_type}) combines values that wait for each other by turns")
    if any(not np.array_equal(flow.total[-1024:], found.total[-1024:]) for flow in flows):
        raise NotStreamable(f"{title_of(node)} ({node.op_type}) combines values of different numbers of steps")
    return found


def _waiting(rewriter: Rewriter, node: ir.Node, value: ir.Value, leader: ir.Value, slowest: Flow) -> ir.Value:
    """The part of a value that has its counterpart in the slower one; the rest is kept."""
    flow = rewriter.flows[value]
    queued = rewriter.queue(node, value, flow.axis, flow.given - slowest.given, f"{title_of(node)}.waiting")
    count = rewriter.steps_in(node, leader, rewriter.flows[leader].axis)
    return rewriter.slice(node, queued, flow.axis, 0, count)


def _spread(rewriter: Rewriter, node: ir.Node, value: ir.Value, leader: ir.Value, *, spread: bool) -> ir.Value:
    axis = rewriter.flows[value].axis
    one = rewriter.slice(node, value, axis, 0, 1)
    if not spread:
        return one
    count = rewriter.steps_in(node, leader, rewriter.flows[leader].axis)
    shape = rewriter.shape_like(node, rewriter.dims_of(value), count)
    return rewriter.node(node, "Expand", [one, shape], like=value)


def align(rewriter: Rewriter, outputs: Sequence[ir.Value]) -> list[ir.Value]:
    """Let the outputs of the graph wait for the slowest, so that each call gives as many steps of each.

    Returns:
        The outputs; one that waits is another value of the same name.

    Raises:
        NotStreamable: they have different numbers of steps.
    """
    moving = [value for value in outputs if not rewriter.flows[value].constant]
    flows = [rewriter.flows[value] for value in moving]
    if len(flows) < 2 or all(flow.same_steps(flows[0]) for flow in flows):
        return list(outputs)
    if any(not np.array_equal(flow.total, flows[0].total) for flow in flows):
        raise NotStreamable("the outputs have different numbers of steps")
    least = np.minimum.reduce([flow.given for flow in flows])
    leader = next((value for value, flow in zip(moving, flows, strict=True) if np.array_equal(flow.given, least)), None)
    if leader is None:
        raise NotStreamable("the outputs wait for each other by turns")
    slowest = rewriter.flows[leader]
    return [
        value
        if value not in moving or rewriter.flows[value].same_steps(slowest)
        else _output_that_waits(rewriter, value, leader, slowest)
        for value in outputs
    ]


def _output_that_waits(rewriter: Rewriter, value: ir.Value, leader: ir.Value, slowest: Flow) -> ir.Value:
    name, flow = str(value.name), rewriter.flows[value]
    node = rewriter.append_identity(value, name)
    node.replace_input_with(0, _waiting(rewriter, node, value, leader, slowest))
    waiting = node.outputs[0]
    rewriter.flows[waiting] = Flow(axis=flow.axis, given=slowest.given, total=slowest.total, rate=slowest.rate)
    return waiting
