"""ONNX's ``GRU`` to quantized functions: all that the node can say is honoured, or refused by name."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.functions import GruVariant
from lstm_edge_exporters.gates import GRU_ONNX, GRU_PYTORCH, reorder_gates
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
from lstm_edge_exporters.quantize.rounding import MatrixRounder, Scheme
from lstm_edge_runtime.arrays import Array

__all__ = ["ReadGru", "gru_operator_weights", "quantize_gru", "read_gru"]


@dataclass(frozen=True, kw_only=True)
class ReadGru:
    """What a GRU node says: the form of its cell, and for each direction the operators' arrays in float32."""

    reset_after: bool
    weights: tuple[dict[str, Array], ...]
    direction: str
    hidden_size: int
    lengths: ir.Value | None
    states: tuple[ir.Value | None, ...]
    size_bytes: int


def read_gru(node: ir.Node) -> ReadGru:
    """Read a GRU node.

    Raises:
        Refusal: an attribute or input has no quantized form.
    """
    _, w, r, b, rows, h0 = optional_inputs(node, 6)
    constants = constant_inputs({"W": w, "R": r, "B": b}, "WR", {})
    W, R, B = constants.values()
    assert W is not None
    assert R is not None
    hidden, sides = R.shape[-1], sides_of(node)
    direction = check_attributes(node, activations=("Sigmoid", "Tanh"))
    shapes = {"W": (sides, 3 * hidden, W.shape[-1]), "R": (sides, 3 * hidden, hidden), "B": (sides, 6 * hidden)}
    for name, shape in shapes.items():
        array = constants[name]
        if array is not None and array.shape != shape:
            raise Refusal(f"input {name} is {array.dtype} {list(array.shape)}, expected float32 {list(shape)}")
    biases = B if B is not None else np.zeros((sides, 6 * hidden), np.float32)
    before_reset = node.attributes["linear_before_reset"].as_int() if "linear_before_reset" in node.attributes else 0
    # ONNX: "when set to a nonzero value" the product comes first, which is the reset gate after it.
    after = before_reset != 0
    return ReadGru(
        reset_after=after,
        weights=tuple(gru_operator_weights(W[i], R[i], biases[i], reset_after=after) for i in range(sides)),
        direction=direction,
        hidden_size=hidden,
        lengths=rows,
        states=(h0,),
        size_bytes=sum(array.nbytes for array in constants.values() if array is not None),
    )


def quantize_gru(node: ir.Node, scheme: Scheme, rounder: MatrixRounder) -> Outcome:
    """Replace a GRU node by one int8 or int4 operator for each direction, in place.

    Raises:
        Refusal: an attribute or input cannot be honoured; the graph is as it was.
    """
    read, name = read_gru(node), node.name or "gru"
    variant = GruVariant(reset_after=read.reset_after, ragged=read.lengths is not None, int4=scheme.kind == "int4")
    weights = tuple(
        round_weights(f"{name}_reverse" if side else name, variant, arrays, scheme, rounder)
        for side, arrays in enumerate(read.weights)
    )
    layer = RoundedLayer(variant=variant, weights=weights, direction=read.direction, hidden_size=read.hidden_size)
    return Outcome(read.size_bytes, place(node, layer, lengths=read.lengths, states=read.states, kind=scheme.kind))


def gru_operator_weights(W: Array, R: Array, B: Array, *, reset_after: bool) -> dict[str, Array]:
    """From ONNX's layout (zrh rows) to the operators' (columns r z n), one direction.

    Args:
        W: float32 [3H, I].
        R: float32 [3H, H].
        B: float32 [6H], the input's biases before the recurrent ones.
        reset_after: the candidate's recurrent bias stays apart (``rb``), because the reset gate scales it.

    Returns:
        w [I, 3H], r [H, 3H], b [3H], and with ``reset_after`` rb [H].
    """

    def gates(array: Array) -> Array:
        return reorder_gates(array, src=GRU_ONNX, dst=GRU_PYTORCH)

    hidden = R.shape[-1]
    b, recurrent = gates(B[: 3 * hidden]), gates(B[3 * hidden :])
    if not reset_after:
        return {"w": gates(W).T, "r": gates(R).T, "b": b + recurrent}
    b[: 2 * hidden] += recurrent[: 2 * hidden]
    return {"w": gates(W).T, "r": gates(R).T, "b": b, "rb": recurrent[2 * hidden :]}
