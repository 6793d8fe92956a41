"""onnxruntime's ``DynamicQuantizeLSTM`` (com.microsoft) to our operators: the weights as they are where that is exact.

Its matrices are [directions, K, 4H] with gates i o f c along the columns, int8 or uint8, with one scale and one zero
point a direction or a column. Where the integers less their zero point fit our own form, as those of symmetric int8 do,
they and their scales carry over; all others are dequantized and rounded again. Activations then have a scale per row
and step, as in all of our operators.
"""

from collections.abc import Mapping

import numpy as np

from lstm_edge_exporters.functions import CellVariant
from lstm_edge_exporters.gates import LSTM_ONNX, LSTM_PYTORCH, reorder_gates
from lstm_edge_exporters.onnx_graph.nodes import inputs_of
from lstm_edge_exporters.quantize.layer import RecurrentLayer, Refusal
from lstm_edge_exporters.quantize.lstm import lstm_operator_weights
from lstm_edge_exporters.quantize.recurrent import Recurrent, constant_inputs
from lstm_edge_exporters.quantize.rounding import LARGEST_COLUMN_SUM, LEVELS
from lstm_edge_exporters.quantize.schemes import EVERY_SCHEME, Scheme
from lstm_edge_runtime.arrays import Array

__all__ = ["DYNAMIC_DOMAIN", "DYNAMIC_LSTM", "DynamicLstm"]

DYNAMIC_DOMAIN = "com.microsoft"
DYNAMIC_LSTM = "DynamicQuantizeLSTM"

_SCALES = ("W_scale", "W_zero_point", "R_scale", "R_zero_point")
_BYTES = (np.int8, np.uint8)
_KINDS = {"W": _BYTES, "R": _BYTES, "W_zero_point": _BYTES, "R_zero_point": _BYTES}


class DynamicLstm(Recurrent):
    """onnxruntime's ``DynamicQuantizeLSTM``."""

    @property
    def path(self) -> str:
        """As an LSTM's."""
        return self.node.name or "lstm"

    @property
    def left(self) -> str:
        """Not float32: the layer was int8 before."""
        return "as it is"

    def schemes(self) -> tuple[Scheme, ...]:
        """Every one but float16; float32 leaves the layer, which is int8 already, as it is."""
        return tuple(scheme for scheme in EVERY_SCHEME if scheme.kind != "float16")

    def stored(self) -> Mapping[int, tuple[str, str]]:
        """Refuse: float16 is larger than what the layer has."""
        raise Refusal("its weights are int8 or uint8, which float16 would only enlarge")

    def read(self) -> RecurrentLayer:
        """Read the node.

        Raises:
            Refusal: an attribute or input cannot be honoured.
        """
        _, w, r, b, rows, h0, c0, p, *rest = inputs_of(self.node, 12)
        values = {"W": w, "R": r, "B": b, "P": p} | dict(zip(_SCALES, rest, strict=True))
        arrays = constant_inputs(values, [name for name in values if name not in "BP"], _KINDS)
        hidden, count = arrays["R"].shape[-1] // 4, self.sides
        direction = self.direction("Sigmoid", "Tanh", "Tanh")
        _check_shapes(arrays, count, hidden)
        size = sum(array.nbytes for array in arrays.values())
        arrays.setdefault("B", np.zeros((count, 8 * hidden), np.float32))
        for name in _SCALES:
            # Broadcast per-direction scales to one per column.
            arrays[name] = np.broadcast_to(arrays[name].reshape(count, -1), (count, 4 * hidden))
        inexact = _inexact(arrays)
        sides = [{key: array[side] for key, array in arrays.items()} for side in range(count)]
        floats = [
            lstm_operator_weights(side | {name: _dequantized(side, name).T for name in ("W", "R")}) for side in sides
        ]
        return RecurrentLayer(
            variant=CellVariant(peephole="diagonal" if "P" in arrays else "none", ragged=rows is not None),
            sides=tuple(floats),
            direction=direction,
            lengths=rows,
            states=(h0, c0),
            size_bytes=size,
            carried=() if inexact else tuple(f | _carried(side) for f, side in zip(floats, sides, strict=True)),
            inexact=inexact,
        )


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
    """Return why the integers cannot be carried over exactly, or an empty text if they can."""
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
