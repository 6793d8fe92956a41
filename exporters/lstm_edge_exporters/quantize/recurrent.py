"""Recurrent layers to quantized functions: which node is one, and ONNX's ``LSTM`` and our own float32 cells."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lstm_edge_exporters.functions import DOMAIN, CellVariant, parse_cell_name
from lstm_edge_exporters.gates import LSTM_ONNX, LSTM_PYTORCH, PEEPHOLE_ONNX, PEEPHOLE_PYTORCH, reorder_gates
from lstm_edge_exporters.graph import add_node, add_shared, constant_of, owner, replace_node
from lstm_edge_exporters.quantize.dynamic import DYNAMIC_DOMAIN, DYNAMIC_LSTM, quantize_dynamic_lstm
from lstm_edge_exporters.quantize.gru import quantize_gru
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
from lstm_edge_exporters.quantize.rounding import Scheme

__all__ = ["FLOAT_CELLS", "Refusal", "is_recurrent", "is_recurrent_operator", "quantize_recurrent"]

Array = NDArray[Any]

# ONNX's operators that hold recurrent weights in float32.
FLOAT_CELLS = ("LSTM", "GRU", "RNN")


def is_recurrent(node: ir.Node) -> bool:
    """Say whether a node is a recurrent layer for ``quantize_recurrent``: float32, or ``DynamicQuantizeLSTM``."""
    if node.domain == DOMAIN:
        variant = parse_cell_name(node.op_type)
        return variant is not None and not (variant.int8 or variant.int4)
    if node.domain == DYNAMIC_DOMAIN:
        return node.op_type == DYNAMIC_LSTM
    return node.domain in ("", "ai.onnx") and node.op_type in FLOAT_CELLS


def is_recurrent_operator(operator: str) -> bool:
    """Say whether an operator, written as a coverage table does (``domain::name``), is a recurrent layer's."""
    domain, _, name = operator.rpartition("::")
    if domain == DOMAIN:
        return parse_cell_name(name) is not None
    return name in FLOAT_CELLS or operator == f"{DYNAMIC_DOMAIN}::{DYNAMIC_LSTM}"


def quantize_recurrent(node: ir.Node, scheme: Scheme) -> Outcome:
    """Replace a recurrent node by quantized functions, in place.

    Raises:
        Refusal: an attribute or input cannot be honoured; the graph is as it was.
    """
    if node.domain == DOMAIN:
        return _quantize_cell(node, scheme)
    if node.domain == DYNAMIC_DOMAIN:
        return quantize_dynamic_lstm(node, scheme, _operator_weights)
    if node.op_type == "GRU":
        return quantize_gru(node, scheme)
    if node.op_type != "LSTM":
        raise Refusal(f"operator {node.op_type} has no quantized form in this version")
    return _quantize_lstm(node, scheme)


def _quantize_cell(node: ir.Node, scheme: Scheme) -> Outcome:
    variant = parse_cell_name(node.op_type)
    assert variant is not None
    arrays: dict[str, Array] = {}
    for name, value in zip(variant.inputs, node.inputs, strict=True):
        if name in variant.weights:
            constant = constant_of(value)
            if constant is None:
                raise Refusal(f"input {name} is not constant")
            arrays[name] = constant
    target = _quantized(variant, scheme)
    moving = [value for name, value in zip(variant.inputs, node.inputs, strict=True) if name not in variant.weights]
    layer, graph = node.name or node.op_type, owner(node)
    rounded = round_weights(layer, target, arrays, scheme)
    constants = [add_shared(graph, f"{layer}.{scheme.kind}.{name}", rounded[name]) for name in target.weights]
    outputs = add_node(
        node,
        target.name,
        [*moving, *constants],
        domain=DOMAIN,
        outputs=("y", "h_out", "c_out"),
        name=f"{layer}/{scheme.kind}",
    )
    replace_node(node, outputs)
    before, after = (sum(array.nbytes for array in part.values()) for part in (arrays, rounded))
    return Outcome(before, after)


def _quantized(variant: CellVariant, scheme: Scheme) -> CellVariant:
    return replace(variant, int8=scheme.kind == "int8", int4=scheme.kind == "int4")


def _quantize_lstm(node: ir.Node, scheme: Scheme) -> Outcome:
    _, w, r, b, rows, h0, c0, p = optional_inputs(node, 8)
    constants = constant_inputs({"W": w, "R": r, "B": b, "P": p}, "WR", {})
    W, R, B, P = constants.values()
    assert W is not None
    assert R is not None
    hidden, sides = R.shape[-1], sides_of(node)
    direction = check_attributes(node, activations=("Sigmoid", "Tanh", "Tanh"))
    shapes = {"W": (sides, 4 * hidden, W.shape[-1]), "R": (sides, 4 * hidden, hidden), "B": (sides, 8 * hidden)}
    for name, shape in (shapes | {"P": (sides, 3 * hidden)}).items():
        array = constants[name]
        if array is not None and array.shape != shape:
            raise Refusal(f"input {name} is {array.dtype} {list(array.shape)}, expected float32 {list(shape)}")
    biases = B if B is not None else np.zeros((sides, 8 * hidden), np.float32)
    variant = _quantized(CellVariant(peephole="none" if P is None else "diagonal", ragged=rows is not None), scheme)
    name = node.name or "lstm"
    weights = tuple(
        round_weights(
            f"{name}_reverse" if i else name,
            variant,
            _operator_weights(W[i], R[i], biases[i], None if P is None else P[i]),
            scheme,
        )
        for i in range(sides)
    )
    layer = RoundedLayer(variant=variant, weights=weights, direction=direction, hidden_size=hidden)
    before = sum(array.nbytes for array in constants.values() if array is not None)
    return Outcome(before, place(node, layer, lengths=rows, states=(h0, c0), kind=scheme.kind))


def _operator_weights(W: Array, R: Array, B: Array, P: Array | None) -> dict[str, Array]:
    """From ONNX's layout (iofc rows) to the operators' (columns i f g o), one direction."""

    def gates(array: Array) -> Array:
        return reorder_gates(array, src=LSTM_ONNX, dst=LSTM_PYTORCH)

    hidden = R.shape[-1]
    arrays = {"w": gates(W).T, "r": gates(R).T, "b": gates(B[: 4 * hidden]) + gates(B[4 * hidden :])}
    if P is not None:
        arrays["p"] = reorder_gates(P, src=PEEPHOLE_ONNX, dst=PEEPHOLE_PYTORCH).reshape(3, hidden)
    return arrays
