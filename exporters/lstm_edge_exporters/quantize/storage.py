"""Weights stored in fewer bits than the computation uses: float16, and rows of int8 or four bits, in ONNX operators.

Embeddings look their rows up first and unpack those; convolutions unpack everything, which is constant, so that
onnxruntime does it once, when it opens the file.
"""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.edit import add_constant, add_node, add_shared, owner
from lstm_edge_exporters.quantize.layer import Outcome, Reader, Refusal
from lstm_edge_exporters.quantize.rounding import Scheme, round_blocks, round_rows
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import QuantizationError

__all__ = ["Rows", "float16_inputs", "float16_value", "round_table", "to_float16", "unpacked_rows"]

# The arrays of a table [N, K] stored by rows: ``w``, ``w_scale`` and for four bits ``w_zero``.
Rows = dict[str, Array]

FLOAT = 1  # onnx.TensorProto.FLOAT


def to_float16(name: str, array: Array) -> NDArray[np.float16]:
    """Round to float16, half to even.

    Raises:
        QuantizationError: the weight holds NaN or infinity.
        Refusal: a value is beyond float16's range.
    """
    if not np.isfinite(array).all():
        raise QuantizationError(f"{name}: the weight holds NaN or infinity")
    with np.errstate(over="ignore"):
        rounded = array.astype(np.float16)
    if not np.isfinite(rounded).all():
        largest = float(np.abs(array).max())
        raise Refusal(f"{name} holds {largest:.6g}, and float16 ends at {np.finfo(np.float16).max:.0f}")
    return rounded


def float16_value(before: ir.Node, name: str, rounded: NDArray[np.float16]) -> ir.Value:
    """Return float32 values of a float16 constant: onnxruntime folds the Cast when it opens the file."""
    stored = add_shared(owner(before), name, rounded)
    return add_node(before, "Cast", [stored], attributes={"to": FLOAT}, name=f"{name}/Cast")[0]


def float16_inputs(reader: Reader, stored: Mapping[int, tuple[str, str]]) -> Outcome:
    """Store constant inputs of a layer's node as float16; the node stays what it is.

    Args:
        reader: of the layer.
        stored: some of the inputs that ``Reader.stored`` returns.

    Raises:
        Refusal: a value is beyond float16's range, or an input is not constant float32; the graph is as it was.
    """
    node, size, rounded = reader.node, reader.size_bytes, {}
    for position, (name, weight) in stored.items():
        array = constant_of(node.inputs[position])
        if array is None or array.dtype != np.float32:
            raise Refusal(f"input {name} is not a float32 constant")
        rounded[position] = to_float16(f"{reader.name}.{weight}", array)
    for position, (name, _) in stored.items():
        value = float16_value(node, f"{reader.name}.float16.{name}", rounded[position])
        node.replace_input_with(position, value)
    return Outcome(size, size - sum(array.nbytes for array in rounded.values()))


def round_table(name: str, table: Array, scheme: Scheme) -> Rows:
    """Round a table [N, K] by rows.

    Returns:
        int8: w int8 [N, K], w_scale float32 [N, 1]. int4: w uint8 [N, (K + 1) / 2] (column 2j in the low, 2j + 1 in
        the high half of byte j), w_scale float32 [N, blocks], w_zero uint8 [N, blocks], or [1, 1] where symmetric.

    Raises:
        QuantizationError: the table holds NaN or infinity.
    """
    if scheme.kind == "int8":
        rounded, scale = round_rows(name, table)
        return {"w": rounded, "w_scale": scale}
    packed, scale, zero = round_blocks(name, table.T, block=scheme.block, symmetric=scheme.symmetric)
    nibbles = np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)[:, : len(table)].T
    nibbles = np.pad(nibbles, ((0, 0), (0, nibbles.shape[1] % 2)))
    by_row = (nibbles[:, ::2] | (nibbles[:, 1::2] << 4)).astype(np.uint8)
    return {"w": by_row, "w_scale": np.ascontiguousarray(scale.T), "w_zero": np.ascontiguousarray(zero.T)}


def unpacked_rows(before: ir.Node, path: str, rows: Mapping[str, ir.Value], columns: int, scheme: Scheme) -> ir.Value:
    """Return float32 [N, K] of rows stored as ``round_table`` does; nodes are added before a node.

    Args:
        before: the node.
        path: what the names of constants begin with.
        rows: the values by ``round_table``'s names; rows of the table, or all of it.
        columns: K.
        scheme: int8, or int4.
    """
    if scheme.kind == "int8":
        values = add_node(before, "Cast", [rows["w"]], attributes={"to": FLOAT})[0]
        return add_node(before, "Mul", [values, rows["w_scale"]])[0]
    blocks = -(-columns // scheme.block)
    width = blocks * scheme.block if blocks > 1 else columns
    values = _nibbles(before, path, rows["w"], columns, width)
    zero = add_node(before, "Cast", [rows["w_zero"]], attributes={"to": FLOAT})[0]
    if blocks == 1:
        centred = add_node(before, "Sub", [values, zero])[0]
        return add_node(before, "Mul", [centred, rows["w_scale"]])[0]

    def ints(name: str, *numbers: int) -> ir.Value:
        return add_constant(owner(before), f"{path}.{name}", np.array(numbers))

    last = ints("last", 2)
    shaped = add_node(before, "Reshape", [values, ints("blocks", -1, blocks, scheme.block)])[0]
    centred = add_node(before, "Sub", [shaped, add_node(before, "Unsqueeze", [zero, last])[0]])[0]
    scaled = add_node(before, "Mul", [centred, add_node(before, "Unsqueeze", [rows["w_scale"], last])[0]])[0]
    flat = add_node(before, "Reshape", [scaled, ints("width", -1, width)])[0]
    if width == columns:
        return flat
    return add_node(before, "Slice", [flat, ints("first", 0), ints("columns", columns), ints("axis", 1)])[0]


def _nibbles(before: ir.Node, path: str, packed: ir.Value, columns: int, width: int) -> ir.Value:
    """Numbers 0 ... 15 of packed rows as float32 [N, width], zeros or the last byte's padding past the columns."""
    graph = owner(before)

    def constant(name: str, array: Array) -> ir.Value:
        return add_constant(graph, f"{path}.{name}", array)

    last = constant("pair", np.array([2]))
    low = add_node(before, "BitwiseAnd", [packed, constant("fifteen", np.array(15, np.uint8))])[0]
    high = add_node(
        before, "BitShift", [packed, constant("four", np.array(4, np.uint8))], attributes={"direction": "RIGHT"}
    )[0]
    halves = [add_node(before, "Unsqueeze", [half, last])[0] for half in (low, high)]
    pairs = add_node(before, "Concat", halves, attributes={"axis": 2})[0]
    stored = columns + columns % 2
    flat = add_node(before, "Reshape", [pairs, constant("pairs", np.array([-1, stored]))])[0]
    values = add_node(before, "Cast", [flat], attributes={"to": FLOAT})[0]
    if width < stored:
        bounds = [constant(name, np.array([number])) for name, number in (("from", 0), ("to", width), ("along", 1))]
        return add_node(before, "Slice", [values, *bounds])[0]
    if width > stored:
        return add_node(before, "Pad", [values, constant("pad", np.array([0, 0, 0, width - stored]))])[0]
    return values
