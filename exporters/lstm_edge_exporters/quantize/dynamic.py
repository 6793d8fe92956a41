"""onnxruntime's ``DynamicQuantizeLSTM`` (com.microsoft) to our operators: the weights as they are where that is exact.

Its matrices are [directions, K, 4H] with gates i o f c along the columns, int8 or uint8, with one scale and one zero
point a direction or a column. Where the integers less their zero point fit our own form, as those of symmetric int8 do,
they and their scales carry over; all else is made float and rounded anew. The activations' scales are by row and step
from here on, as in all of our operators.
"""

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.functions import CellVariant
from lstm_edge_exporters.gates import LSTM_ONNX, LSTM_PYTORCH, reorder_gates
from lstm_edge_exporters.quantize.nodes import (
    Outcome,
    Refusal,
    RoundedLayer,
    check_attributes,
    constant_inputs,
    optional_inputs,
    place,
    round_weights,
    sides_of,
)
from lstm_edge_exporters.quantize.rounding import LARGEST_COLUMN_SUM, LEVELS, MatrixRounder, Scheme
from lstm_edge_runtime.arrays import Array

__all__ = ["DYNAMIC_DOMAIN", "DYNAMIC_LSTM", "quantize_dynamic_lstm"]

DYNAMIC_DOMAIN = "com.microsoft"
DYNAMIC_LSTM = "DynamicQuantizeLSTM"

ToOperator = Callable[[Array, Array, Array, Array | None], dict[str, Array]]
_BYTES = (np.int8, np.uint8)
_KINDS = {"W": _BYTES, "R": _BYTES, "W_zero_point": _BYTES, "R_zero_point": _BYTES}


def quantize_dynamic_lstm(node: ir.Node, scheme: Scheme, rounder: MatrixRounder, to_operator: ToOperator) -> Outcome:
    """Replace a DynamicQuantizeLSTM by one operator for each direction; the note says what became of the weights.

    Args:
        node: the node.
        scheme: int8, or int4, which always rounds anew.
        rounder: rounds a matrix where it is rounded anew.
        to_operator: puts one direction's float W [4H, I], R [4H, H], B [8H] and P [3H] into the operators' layout.

    Raises:
        Refusal: an attribute or input cannot be honoured; the graph is as it was.
    """
    if scheme.kind == "float16":
        raise Refusal("its weights are int8 or uint8, which float16 would only enlarge")
    _, w, r, b, rows, h0, c0, p, *rest = optional_inputs(node, 12)
    values = {"W": w, "R": r, "B": b, "P": p}
    values |= dict(zip(("W_scale", "W_zero_point", "R_scale", "R_zero_point"), rest, strict=True))
    constants = constant_inputs(values, [name for name in values if name not in "BP"], _KINDS)
    arrays = {name: array for name, array in constants.items() if array is not None}
    hidden, sides = arrays["R"].shape[-1] // 4, sides_of(node)
    direction = check_attributes(node, activations=("Sigmoid", "Tanh", "Tanh"))
    _check_shapes(arrays, sides, hidden)
    before = sum(array.nbytes for array in arrays.values())
    arrays.setdefault("B", np.zeros((sides, 8 * hidden), np.float32))
    for name in ("W_scale", "W_zero_point", "R_scale", "R_zero_point"):
        # One a direction, or one a column: from here on one a column.
        arrays[name] = np.broadcast_to(arrays[name].reshape(sides, -1), (sides, 4 * hidden))
    reason = "four bits" if scheme.kind == "int4" else _inexact(arrays)
    variant = CellVariant(
        peephole="diagonal" if "P" in arrays else "none",
        ragged=rows is not None,
        int8=scheme.kind == "int8",
        int4=scheme.kind == "int4",
    )
    name = node.name or "lstm"
    weights = []
    for i in range(sides):
        side = {key: array[i] for key, array in arrays.items()}
        floats = to_operator(_dequantized(side, "W").T, _dequantized(side, "R").T, side["B"], side.get("P"))
        if reason:
            weights.append(round_weights(f"{name}_reverse" if i else name, variant, floats, scheme, rounder))
        else:
            weights.append({key: floats[key] for key in ("b", "p") if key in floats} | _carried(side))
    layer = RoundedLayer(variant=variant, weights=tuple(weights), direction=direction, hidden_size=hidden)
    note = f"dequantized and rounded anew, because of {reason}" if reason else "weights and scales carried over exactly"
    return Outcome(before, place(node, layer, lengths=rows, states=(h0, c0), kind=scheme.kind), note)


def _check_shapes(arrays: Mapping[str, Array], sides: int, hidden: int) -> None:
    columns = 4 * hidden
    shapes: dict[str, tuple[int, ...]] = {"W": (sides, arrays["W"].shape[1], columns), "R": (sides, hidden, columns)}
    shapes |= {"B": (sides, 8 * hidden), "P": (sides, 3 * hidden)}
    for name, array in arrays.items():
        allowed = (shapes[name],) if name in shapes else ((sides,), (sides, columns))
        if array.shape not in allowed:
            expected = " or ".join(str(list(shape)) for shape in allowed)
            raise Refusal(f"input {name} is {array.dtype} {list(array.shape)}, expected {expected}")
        if name.endswith("_scale") and not (np.isfinite(array).all() and (array > 0).all()):
            raise Refusal(f"input {name} holds a scale that is not positive and finite")


def _centred(arrays: Mapping[str, Array], name: str) -> Array:
    """The integers [..., K, 4H] less their zero points, as int32: times the scale they are the weights."""
    zero = arrays[f"{name}_zero_point"].astype(np.int32)
    return np.asarray(arrays[name].astype(np.int32) - zero[..., None, :], np.int32)


def _inexact(arrays: Mapping[str, Array]) -> str:
    """Why the integers are not ours as they are; nothing when they are."""
    for name in ("W", "R"):
        magnitudes = np.abs(_centred(arrays, name))
        if (magnitudes > LEVELS).any():
            return f"weights in {name} that are more than {LEVELS} from their zero point"
        if (magnitudes.sum(axis=1) > LARGEST_COLUMN_SUM).any():
            return f"a column of {name} whose sums float32 would not count exactly"
    return ""


def _dequantized(side: Mapping[str, Array], name: str) -> Array:
    """(q - zero point) · scale in float32: [K, 4H]."""
    return np.asarray(_centred(side, name).astype(np.float32) * side[f"{name}_scale"], np.float32)


def _carried(side: Mapping[str, Array]) -> dict[str, Array]:
    """The matrices of one direction in the operators' gate order, with the scales that they have."""

    def gates(array: Array) -> Array:
        return reorder_gates(array, src=LSTM_ONNX, dst=LSTM_PYTORCH, axis=-1)

    carried = {}
    for ours, theirs in (("w", "W"), ("r", "R")):
        carried[ours] = gates(_centred(side, theirs)).astype(np.int8)
        carried[f"{ours}_scale"] = gates(side[f"{theirs}_scale"])
    return carried
