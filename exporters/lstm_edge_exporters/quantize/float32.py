"""Float32 layers as calls of the operators that have a float32 kernel: nothing is rounded."""

import numpy as np

from lstm_edge_exporters.functions import Float32Variant
from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.nodes import inputs_of
from lstm_edge_exporters.onnx_graph.own_float32 import to_own
from lstm_edge_exporters.quantize.gru import Gru
from lstm_edge_exporters.quantize.layer import Outcome, Reader, Refusal
from lstm_edge_exporters.quantize.lstm import Lstm, OwnCell
from lstm_edge_runtime.arrays import Array

__all__ = ["fuse"]


def fuse(reader: Reader) -> Outcome:
    """Let a recurrent layer call a float32 operator; a cell of ours calls one already.

    Returns:
        Bytes before and after, which differ where a bias that was absent is stored as zeros, and the operator.

    Raises:
        Refusal: no operator expresses the layer; the graph is as it was.
    """
    if isinstance(reader, OwnCell):
        return Outcome(reader.size_bytes, reader.size_bytes, reader.operator)
    if not isinstance(reader, Lstm | Gru):
        raise Refusal(f"no float32 operator has a kernel for {reader.node.op_type}")
    try:
        layer = reader.read()
    except Refusal as refusal:
        raise Refusal(str(refusal).replace("no int8 form", "no float32 operator with a kernel")) from refusal
    _, w, r, b, rows, _, _, p = inputs_of(reader.node, 8)
    weights: dict[str, Array] = {}
    for name, value in (("w", w), ("r", r), ("b", b), ("p", p)):
        constant = constant_of(value)
        if constant is not None:
            weights[name] = constant
    if "b" not in weights:
        sides, height, _ = weights["w"].shape
        weights["b"] = np.zeros((sides, 2 * height), np.float32)
    variant = Float32Variant(
        cell="LSTM" if isinstance(reader, Lstm) else "GRU",
        diagonal="p" in weights,
        reset_after=isinstance(reader, Gru) and reader.resets_after,
        ragged=rows is not None,
    )
    to_own(reader.node, variant, weights)
    return Outcome(layer.size_bytes, sum(array.nbytes for array in weights.values()), reader.operator)
