"""Padding that an exporter wrote as a node of its own becomes the padding of the convolution behind it."""

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.edit import replace_node
from lstm_edge_exporters.onnx_graph.nodes import attribute_of

__all__ = ["fuse_padding"]


def fuse_padding(model: ir.Model) -> None:
    """Remove each Pad of zeros that only a Conv reads, and pad in the Conv; in place."""
    for node in list(model.graph):
        if node.op_type != "Pad" or node.outputs[0].is_graph_output():
            continue
        users = list(node.outputs[0].uses())
        pads = _zeros_padded(node)
        if len(users) != 1 or pads is None:
            continue
        conv = users[0].node
        rank = pads.size // 2
        fits = conv.op_type == "Conv" and users[0].idx == 0 and conv.graph is node.graph
        if (
            not fits
            or attribute_of(conv, "auto_pad", "NOTSET") not in ("NOTSET", "")
            or pads[[0, 1, rank, rank + 1]].any()
        ):
            continue
        own = np.asarray(attribute_of(conv, "pads", [0] * (2 * rank - 4)))
        added = np.concatenate([pads[2:rank], pads[rank + 2 :]])
        conv.attributes["pads"] = ir.AttrInt64s("pads", [int(number) for number in own + added])
        replace_node(node, [node.inputs[0]])


def _zeros_padded(node: ir.Node) -> "np.ndarray[tuple[int, ...], np.dtype[np.int64]] | None":
    """The pads of a node that pads all axes with zeros by constant numbers; None for any other."""
    if attribute_of(node, "mode", "constant") != "constant" or len(node.inputs) < 2:
        return None
    pads = constant_of(node.inputs[1])
    filling = constant_of(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else np.zeros(1)
    if pads is None or filling is None or filling.any() or (len(node.inputs) > 3 and node.inputs[3] is not None):
        return None
    pads = np.asarray(pads, np.int64).reshape(-1)
    return pads if pads.size >= 6 and pads.size % 2 == 0 and (pads >= 0).all() else None
