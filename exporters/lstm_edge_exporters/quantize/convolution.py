"""Convolutions with weights stored as float16, int8 or four bits; they compute in float32.

int8: one scale an output channel. Four bits: a scale for each block of a channel's inputs, flattened as ONNX stores
them. The weight is made float again by operators on constants, which onnxruntime folds when it opens the file: it saves
disk and transfer, not time.
"""

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.edit import add_constant, add_node, add_shared, owner
from lstm_edge_exporters.quantize.dense import layer_name
from lstm_edge_exporters.quantize.nodes import Outcome
from lstm_edge_exporters.quantize.schemes import Scheme
from lstm_edge_exporters.quantize.storage import float16_value, round_table, to_float16, unpacked_rows

__all__ = ["convolution_bytes", "is_convolution", "quantize_convolution"]


def is_convolution(node: ir.Node) -> bool:
    """Say whether a node is a convolution with a constant float32 weight [M, C / groups, ...]."""
    if node.domain not in ("", "ai.onnx") or node.op_type != "Conv":
        return False
    weight = constant_of(node.inputs[1])
    return weight is not None and weight.dtype == np.float32 and weight.ndim > 2 and weight.size > 0


def convolution_bytes(node: ir.Node) -> int:
    """Return the bytes of a convolution's weight and bias."""
    arrays = [constant_of(value) for value in node.inputs[1:3]]
    return sum(array.nbytes for array in arrays if array is not None)


def quantize_convolution(node: ir.Node, scheme: Scheme) -> Outcome:
    """Store a convolution's weight in a scheme; the node stays what it is.

    Raises:
        Refusal: a value is beyond float16's range.
        QuantizationError: the weight holds NaN or infinity.
    """
    weight = constant_of(node.inputs[1])
    assert weight is not None
    layer, size = layer_name(node), convolution_bytes(node)
    path = f"{layer}.{scheme.kind}"
    if scheme.kind == "float16":
        rounded = to_float16(f"{layer}.weight", weight)
        node.replace_input_with(1, float16_value(node, f"{path}.w", rounded))
        return Outcome(size, size - rounded.nbytes)
    table = weight.reshape(len(weight), -1)
    arrays = round_table(f"{layer}.weight", table, scheme)
    stored = {key: add_shared(owner(node), f"{path}.{key}", array) for key, array in arrays.items()}
    rows = unpacked_rows(node, path, stored, table.shape[1], scheme)
    shape = add_constant(owner(node), f"{path}.shape", np.array(weight.shape))
    node.replace_input_with(1, add_node(node, "Reshape", [rows, shape])[0])
    return Outcome(size, size - weight.nbytes + sum(array.nbytes for array in arrays.values()))
