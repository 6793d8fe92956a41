"""Recurrent layers to quantized functions: which node is one, and ONNX's ``LSTM`` and our own float32 cells."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.functions import DOMAIN, CellVariant, parse_cell_name
from lstm_edge_exporters.gates import LSTM_ONNX, LSTM_PYTORCH, PEEPHOLE_ONNX, PEEPHOLE_PYTORCH, reorder_gates
from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.edit import add_node, add_shared, owner, replace_node
from lstm_edge_exporters.quantize.dynamic import DYNAMIC_DOMAIN, DYNAMIC_LSTM, quantize_dynamic_lstm
from lstm_edge_exporters.quantize.gru import quantize_gru
from lstm_edge_exporters.quantize.mixed import add_mixed, mixed_bytes, round_mixed
from lstm_edge_exporters.quantize.nodes import (
    Outcome,
    Refusal,
    RoundedLayer,
    check_attributes,
    connect_sides,
    constant_inputs,
    optional_inputs,
    place,
    round_weights,
    sides_of,
)
from lstm_edge_exporters.quantize.request import MATRICES, LayerRequest
from lstm_edge_exporters.quantize.rounding import MatrixRounder, Scheme
from lstm_edge_exporters.quantize.storage import float16_inputs
from lstm_edge_runtime.arrays import Array

__all__ = [
    "FLOAT_CELLS",
    "ReadLstm",
    "Refusal",
    "constant_bytes",
    "is_recurrent",
    "is_recurrent_operator",
    "matrix_inputs",
    "quantize_recurrent",
    "read_cell",
    "read_lstm",
]


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


def quantize_recurrent(node: ir.Node, request: LayerRequest, rounder: MatrixRounder) -> Outcome:
    """Replace a recurrent node by quantized functions, or store its weights as float16; in place.

    Raises:
        Refusal: an attribute or input cannot be honoured; the graph is as it was.
    """
    scheme = request.scheme
    if node.domain == DYNAMIC_DOMAIN:
        return quantize_dynamic_lstm(node, scheme, rounder, _operator_weights)
    stored = _float16_matrices(node, request)
    if stored:
        return float16_inputs(node, node.name or node.op_type, stored, constant_bytes(node))
    if request.gates:
        return _mix(node, request, rounder)
    if node.domain == DOMAIN:
        return _quantize_cell(node, scheme, rounder)
    if node.op_type == "GRU":
        return quantize_gru(node, scheme, rounder)
    if node.op_type != "LSTM":
        raise Refusal(f"operator {node.op_type} has no quantized form in this version")
    return _quantize_lstm(node, scheme, rounder)


def _float16_matrices(node: ir.Node, request: LayerRequest) -> dict[int, str]:
    """The matrices to store as float16 where that, and float32, is all that is asked of whole matrices; else none."""
    schemes = {}
    for position, name in matrix_inputs(node).items():
        groups = request.groups(name.upper()) if name.upper() in MATRICES else {request.scheme: ()}
        schemes[position, name] = next(iter(groups)).kind if len(groups) == 1 else "apart"
    if set(schemes.values()) - {"float16", "float32"}:
        return {}
    return {position: name for (position, name), kind in schemes.items() if kind == "float16"}


def matrix_inputs(node: ir.Node) -> dict[int, str]:
    """Return the positions of a float32 recurrent node's matrices, each with its name."""
    if node.domain != DOMAIN:
        return {1: "W", 2: "R"}
    variant = parse_cell_name(node.op_type)
    assert variant is not None
    return {i: name for i, name in enumerate(variant.inputs) if name in variant.weights and variant.is_quantized(name)}


def constant_bytes(node: ir.Node) -> int:
    """Return the bytes of the constants among a node's inputs."""
    return sum(array.nbytes for array in map(constant_of, node.inputs) if array is not None)


@dataclass(frozen=True, kw_only=True)
class ReadLstm:
    """What a float32 LSTM node or cell of ours says, in the operators' terms.

    ``variant``: the float32 operator; ``weights``: its arrays for each direction; ``states``: h0 and c0.
    """

    variant: CellVariant
    weights: tuple[dict[str, Array], ...]
    direction: str
    hidden_size: int
    lengths: ir.Value | None
    states: tuple[ir.Value | None, ...]
    size_bytes: int


def read_lstm(node: ir.Node) -> ReadLstm:
    """Read an ``LSTM`` node.

    Raises:
        Refusal: an attribute or input has no quantized form.
    """
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
    return ReadLstm(
        variant=CellVariant(peephole="none" if P is None else "diagonal", ragged=rows is not None),
        weights=tuple(_operator_weights(W[i], R[i], biases[i], None if P is None else P[i]) for i in range(sides)),
        direction=direction,
        hidden_size=hidden,
        lengths=rows,
        states=(h0, c0),
        size_bytes=sum(array.nbytes for array in constants.values() if array is not None),
    )


def read_cell(node: ir.Node) -> dict[str, Array]:
    """Return the constants of a float32 cell of ours by the operator's names.

    Raises:
        Refusal: one of them is not constant.
    """
    variant = parse_cell_name(node.op_type)
    assert variant is not None
    arrays: dict[str, Array] = {}
    for name, value in zip(variant.inputs, node.inputs, strict=True):
        if name in variant.weights:
            constant = constant_of(value)
            if constant is None:
                raise Refusal(f"input {name} is not constant")
            arrays[name] = constant
    return arrays


def _quantize_cell(node: ir.Node, scheme: Scheme, rounder: MatrixRounder) -> Outcome:
    variant = parse_cell_name(node.op_type)
    assert variant is not None
    arrays = read_cell(node)
    target = _quantized(variant, scheme)
    layer, graph = node.name or node.op_type, owner(node)
    rounded = round_weights(layer, target, arrays, scheme, rounder)
    constants = [add_shared(graph, f"{layer}.{scheme.kind}.{name}", rounded[name]) for name in target.weights]
    outputs = add_node(
        node,
        target.name,
        [*_moving(node, variant), *constants],
        domain=DOMAIN,
        outputs=("y", "h_out", "c_out"),
        name=f"{layer}/{scheme.kind}",
    )
    replace_node(node, outputs)
    before, after = (sum(array.nbytes for array in part.values()) for part in (arrays, rounded))
    return Outcome(before, after)


def _moving(node: ir.Node, variant: CellVariant) -> list[ir.Value | None]:
    """The inputs of a cell of ours that are no weights: x, h, c and the lengths where rows have some."""
    return [value for name, value in zip(variant.inputs, node.inputs, strict=True) if name not in variant.weights]


def _quantized(variant: CellVariant, scheme: Scheme) -> CellVariant:
    return replace(variant, int8=scheme.kind == "int8", int4=scheme.kind == "int4")


def _quantize_lstm(node: ir.Node, scheme: Scheme, rounder: MatrixRounder) -> Outcome:
    read, name = read_lstm(node), node.name or "lstm"
    variant = _quantized(read.variant, scheme)
    weights = tuple(
        round_weights(f"{name}_reverse" if side else name, variant, arrays, scheme, rounder)
        for side, arrays in enumerate(read.weights)
    )
    layer = RoundedLayer(variant=variant, weights=weights, direction=read.direction, hidden_size=read.hidden_size)
    return Outcome(read.size_bytes, place(node, layer, lengths=read.lengths, states=read.states, kind=scheme.kind))


def _mix(node: ir.Node, request: LayerRequest, rounder: MatrixRounder) -> Outcome:
    """Replace an LSTM by its equations with a product for each part; the second direction has the same schemes."""
    layer = node.name or node.op_type.lower()
    if node.domain == DOMAIN:
        variant = parse_cell_name(node.op_type)
        assert variant is not None
        arrays = read_cell(node)
        cell = round_mixed(layer, variant, arrays, request, rounder)
        size = sum(array.nbytes for array in arrays.values())
        replace_node(node, add_mixed(node, layer, cell, _moving(node, variant)))
        return Outcome(size, mixed_bytes([cell]))
    read = read_lstm(node)
    paths = [layer, f"{layer}_reverse"][: len(read.weights)]
    cells = [
        round_mixed(path, read.variant, arrays, request, rounder)
        for path, arrays in zip(paths, read.weights, strict=True)
    ]

    def operator(side: int, moving: Sequence[ir.Value | None]) -> tuple[ir.Value, ...]:
        return add_mixed(node, paths[side], cells[side], moving)

    connect_sides(node, operator, read.direction, read.hidden_size, lengths=read.lengths, states=read.states)
    return Outcome(read.size_bytes, mixed_bytes(cells))


def _operator_weights(W: Array, R: Array, B: Array, P: Array | None) -> dict[str, Array]:
    """From ONNX's layout (iofc rows) to the operators' (columns i f g o), one direction."""

    def gates(array: Array) -> Array:
        return reorder_gates(array, src=LSTM_ONNX, dst=LSTM_PYTORCH)

    hidden = R.shape[-1]
    arrays = {"w": gates(W).T, "r": gates(R).T, "b": gates(B[: 4 * hidden]) + gates(B[4 * hidden :])}
    if P is not None:
        arrays["p"] = reorder_gates(P, src=PEEPHOLE_ONNX, dst=PEEPHOLE_PYTORCH).reshape(3, hidden)
    return arrays
