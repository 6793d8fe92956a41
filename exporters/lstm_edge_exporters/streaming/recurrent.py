"""Recurrent layers: they keep their own state, and give an element for each element."""

import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.nodes import attribute_of
from lstm_edge_exporters.streaming.errors import NotStreamable
from lstm_edge_exporters.streaming.flow import Flow
from lstm_edge_exporters.streaming.joins import joined
from lstm_edge_exporters.streaming.rewriter import Rewriter
from lstm_edge_exporters.streaming.titles import title_of

__all__ = ["LAYERS", "layer", "scan"]

LAYERS = frozenset(("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"))


def layer(rewriter: Rewriter, node: ir.Node) -> Flow:
    """A layer over time, or over another axis with time among its rows."""
    timed = [(at, flow) for at, value in enumerate(node.inputs) if (flow := rewriter.flow(value)) is not None]
    places = {(at, flow.axis) for at, flow in timed if at == 0}
    if places == {(0, 1)} and node.domain != "lstm_edge":  # its rows are steps: it runs over another axis
        return timed[0][1]
    if places != {(0, 0)} or any(at != 0 for at, _ in timed):
        raise NotStreamable(f"{title_of(node)} ({node.op_type}) takes steps in a way that is not known")
    if attribute_of(node, "direction", "forward") != "forward":
        raise NotStreamable(f"{title_of(node)} ({node.op_type}) runs backwards: it needs the whole sequence")
    rewriter.layers.append(timed[0][1])
    return timed[0][1]


def scan(rewriter: Rewriter, node: ir.Node) -> Flow:
    """A Scan forward over time."""
    count = attribute_of(node, "num_scan_inputs", 0)
    first = len(node.inputs) - count
    directions = attribute_of(node, "scan_input_directions", [0] * count)
    axes = attribute_of(node, "scan_input_axes", [0] * count)
    for at, value in enumerate(node.inputs):
        flow = rewriter.flow(value)
        if flow is None:
            continue
        rank = 0 if value is None else len(rewriter.dims_of(value))
        if at < first or directions[at - first] or axes[at - first] % rank != flow.axis:
            raise NotStreamable(f"{title_of(node)} (Scan) runs backwards, or over another axis than time")
    if any(attribute_of(node, "scan_output_directions", [])):
        raise NotStreamable(f"{title_of(node)} (Scan) runs backwards")
    made = joined(rewriter, node, range(first, len(node.inputs)), spread=True)
    rewriter.layers.append(made)
    return made
