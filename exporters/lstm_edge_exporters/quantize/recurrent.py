"""Recurrent layers to int8 functions: ONNX's ``LSTM`` with all that it can say, and our own float32 cells."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lstm_edge_exporters.functions import DOMAIN, CellVariant, parse_cell_name
from lstm_edge_exporters.gates import LSTM_ONNX, LSTM_PYTORCH, PEEPHOLE_ONNX, PEEPHOLE_PYTORCH, reorder_gates
from lstm_edge_exporters.graph import add_constant, add_node, constant_of, owner, replace_node
from lstm_edge_exporters.quantize.rounding import Scheme, round_matrix

__all__ = ["FLOAT_CELLS", "Refusal", "is_float_recurrent", "quantize_recurrent"]

Array = NDArray[Any]

# Operators of other tools and of ONNX that hold recurrent weights in float32.
FLOAT_CELLS = ("LSTM", "GRU", "RNN")
INT64_MAX, INT64_MIN = 2**63 - 1, -(2**63)


class Refusal(Exception):  # noqa: N818 - never leaves this package: it becomes a row of the coverage table
    """Why a layer stays float32, by the name of the attribute or input that cannot be honoured."""


@dataclass(frozen=True, kw_only=True)
class _Onnx:
    """One ONNX ``LSTM`` node, read: per direction the weights in our operators' layout, and its optional inputs."""

    weights: tuple[Mapping[str, Array], ...]
    variant: CellVariant
    direction: str
    hidden_size: int


def is_float_recurrent(node: ir.Node) -> bool:
    """Say whether a node is a recurrent layer with float32 weights."""
    if node.domain == DOMAIN:
        variant = parse_cell_name(node.op_type)
        return variant is not None and not (variant.int8 or variant.int4)
    return node.domain in ("", "ai.onnx") and node.op_type in FLOAT_CELLS


def quantize_recurrent(node: ir.Node, scheme: Scheme) -> tuple[int, int]:
    """Replace a float32 recurrent node by quantized functions, in place.

    Returns:
        Bytes of the layer's constants before and after.

    Raises:
        Refusal: an attribute or input cannot be honoured; the graph is as it was.
    """
    if node.domain == DOMAIN:
        return _quantize_cell(node, scheme)
    if node.op_type != "LSTM":
        raise Refusal(f"operator {node.op_type} has no quantized form in this version")
    return _quantize_lstm(node, scheme)


def _quantize_cell(node: ir.Node, scheme: Scheme) -> tuple[int, int]:
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
    layer = node.name or node.op_type
    constants, after = _constants(owner(node), layer, target, arrays, scheme)
    outputs = add_node(
        node,
        target.name,
        [*moving, *constants],
        domain=DOMAIN,
        outputs=("y", "h_out", "c_out"),
        name=f"{layer}/{scheme.kind}",
    )
    replace_node(node, outputs)
    return sum(array.nbytes for array in arrays.values()), after


def _quantized(variant: CellVariant, scheme: Scheme) -> CellVariant:
    return replace(variant, int8=scheme.kind == "int8", int4=scheme.kind == "int4")


def _constants(
    graph: ir.Graph, layer: str, variant: CellVariant, arrays: Mapping[str, Array], scheme: Scheme
) -> tuple[list[ir.Value], int]:
    """Add the quantized cell's constants to the graph; returns them in the operator's order, and their bytes."""
    rounded: dict[str, Array] = {}
    for name, array in arrays.items():
        if variant.is_quantized(name):
            parts = round_matrix(f"{layer}.{name}", array, scheme)
            rounded |= {f"{name}{suffix}": part for suffix, part in parts.items()}
        else:
            rounded[name] = array.astype(np.float32)
    values = [add_constant(graph, f"{layer}.{scheme.kind}.{name}", rounded[name]) for name in variant.weights]
    return values, sum(array.nbytes for array in rounded.values())


def _quantize_lstm(node: ir.Node, scheme: Scheme) -> tuple[int, int]:
    inputs = [*node.inputs, *[None] * (8 - len(node.inputs))]
    x, w, r, b, rows, h0, c0, p = inputs
    read = _read_lstm(node, {"W": w, "R": r, "B": b, "P": p}, scheme, ragged=rows is not None)
    layer, graph = node.name or "lstm", owner(node)
    ids = add_node(node, "Cast", [rows], attributes={"to": 7})[0] if rows is not None else None
    sides: list[tuple[ir.Value, ...]] = []
    after = 0
    backward = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[read.direction]
    for side, reverse in enumerate(backward):
        sequence = _reversed(node, x, ids) if reverse else x
        state = [_initial(node, x, value, side=side, sides=len(backward), size=read.hidden_size) for value in (h0, c0)]
        path = f"{layer}_reverse" if side else layer
        constants, size = _constants(graph, path, read.variant, read.weights[side], scheme)
        after += size
        moving = [sequence, *state, *([ids] if ids is not None else [])]
        y, h, c = add_node(
            node,
            read.variant.name,
            [*moving, *constants],
            domain=DOMAIN,
            outputs=("y", "h_out", "c_out"),
            name=f"{path}/{scheme.kind}",
        )
        sides.append((_reversed(node, y, ids) if reverse else y, h, c))
    before = sum(array.nbytes for array in (constant_of(v) for v in (w, r, b, p)) if array is not None)
    _connect(node, sides)
    return before, after


def _read_lstm(
    node: ir.Node,
    values: Mapping[str, ir.Value | None],
    scheme: Scheme,
    *,
    ragged: bool,
) -> _Onnx:
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    direction = str(attributes.get("direction", "forward"))
    sides = 2 if direction == "bidirectional" else 1
    _check_attributes(attributes, sides)
    constants = {name: constant_of(value) for name, value in values.items()}
    for name, value in values.items():
        if constants[name] is None and (value is not None or name in "WR"):
            raise Refusal(f"input {name} is not constant")
    W, R = constants["W"], constants["R"]
    assert W is not None
    assert R is not None
    hidden = R.shape[-1]
    shapes = {"W": (sides, 4 * hidden, W.shape[-1]), "R": (sides, 4 * hidden, hidden), "B": (sides, 8 * hidden)}
    for name, shape in (shapes | {"P": (sides, 3 * hidden)}).items():
        array = constants[name]
        if array is not None and (array.shape != shape or array.dtype != np.float32):
            raise Refusal(f"input {name} is {array.dtype} {list(array.shape)}, expected float32 {list(shape)}")
    B = constants["B"] if constants["B"] is not None else np.zeros((sides, 8 * hidden), np.float32)
    P = constants["P"]
    weights = tuple(_operator_weights(W[i], R[i], B[i], None if P is None else P[i]) for i in range(sides))
    variant = _quantized(CellVariant(peephole="none" if P is None else "diagonal", ragged=ragged), scheme)
    return _Onnx(weights=weights, variant=variant, direction=direction, hidden_size=hidden)


def _check_attributes(attributes: Mapping[str, Any], sides: int) -> None:
    """Honour or refuse, by name, each attribute of ONNX's LSTM (opset 14)."""
    if attributes.get("layout", 0) != 0:
        raise Refusal("attribute layout is 1, which onnxruntime does not run either")
    if "clip" in attributes:
        raise Refusal(f"attribute clip ({attributes['clip']}) has no int8 form")
    if attributes.get("input_forget", 0) != 0:
        raise Refusal("attribute input_forget has no int8 form")
    activations = list(attributes.get("activations", [])) or ["Sigmoid", "Tanh", "Tanh"] * sides
    if [str(name).lower() for name in activations] != ["sigmoid", "tanh", "tanh"] * sides:
        raise Refusal(f"attribute activations is {', '.join(map(str, activations))}: only Sigmoid, Tanh, Tanh")
    if attributes.get("direction", "forward") not in ("forward", "reverse", "bidirectional"):
        raise Refusal(f"attribute direction is {attributes['direction']!r}")


def _operator_weights(W: Array, R: Array, B: Array, P: Array | None) -> dict[str, Array]:
    """From ONNX's layout (iofc rows) to the operators' (columns i f g o), one direction."""

    def gates(array: Array) -> Array:
        return reorder_gates(array, src=LSTM_ONNX, dst=LSTM_PYTORCH)

    hidden = R.shape[-1]
    arrays = {"w": gates(W).T, "r": gates(R).T, "b": gates(B[: 4 * hidden]) + gates(B[4 * hidden :])}
    if P is not None:
        arrays["p"] = reorder_gates(P, src=PEEPHOLE_ONNX, dst=PEEPHOLE_PYTORCH).reshape(3, hidden)
    return arrays


def _reversed(node: ir.Node, x: ir.Value | None, rows: ir.Value | None) -> ir.Value:
    """Reverse [T, B, F] in time, each row up to its length where rows have lengths."""
    if rows is not None:
        attributes = {"batch_axis": 1, "time_axis": 0}
        return add_node(node, "ReverseSequence", [x, rows], attributes=attributes)[0]
    graph = owner(node)
    bounds = [add_constant(graph, f"{node.name}.{n}", np.array([v])) for n, v in _BACKWARD.items()]
    return add_node(node, "Slice", [x, *bounds])[0]


_BACKWARD = {"start": -1, "end": INT64_MIN, "axis": 0, "step": -1}


def _initial(
    node: ir.Node, x: ir.Value | None, given: ir.Value | None, *, side: int, sides: int, size: int
) -> ir.Value:
    """The state [1, B, size] that one direction starts from: the given one's part, or zeros."""
    graph = owner(node)
    if given is None:
        batch = add_node(node, "Shape", [x], attributes={"start": 1, "end": 2})[0]
        one = add_constant(graph, f"{node.name}.one", np.array([1]))
        width = add_constant(graph, f"{node.name}.size", np.array([size]))
        shape = add_node(node, "Concat", [one, batch, width], attributes={"axis": 0})[0]
        return add_node(node, "ConstantOfShape", [shape])[0]
    if sides == 1:
        return given
    bounds = [add_constant(graph, f"{node.name}.side", np.array([v])) for v in (side, side + 1, 0)]
    return add_node(node, "Slice", [given, *bounds])[0]


def _connect(node: ir.Node, sides: list[tuple[ir.Value, ...]]) -> None:
    """Put the directions' outputs in the place of the node's Y [T, D, B, H], Y_h and Y_c [D, B, H]."""
    y = node.outputs[0]
    squeezes = [consumer for consumer, _ in y.uses()]
    if len(sides) == 1 and squeezes and not y.is_graph_output() and all(_squeezes_directions(s) for s in squeezes):
        for squeeze in squeezes:
            replace_node(squeeze, [sides[0][0]])
        replace_node(node, [None, sides[0][1], sides[0][2]])
        return
    one = add_constant(owner(node), f"{node.name}.directions", np.array([1]))
    whole = [add_node(node, "Unsqueeze", [side[0], one])[0] for side in sides]
    joined = whole[0] if len(sides) == 1 else add_node(node, "Concat", whole, attributes={"axis": 1})[0]
    states = [
        sides[0][i] if len(sides) == 1 else add_node(node, "Concat", [s[i] for s in sides], attributes={"axis": 0})[0]
        for i in (1, 2)
    ]
    replace_node(node, [joined, *states])


def _squeezes_directions(node: ir.Node) -> bool:
    if node.op_type != "Squeeze" or node.domain not in ("", "ai.onnx") or len(node.inputs) != 2:
        return False
    axes = constant_of(node.inputs[1])
    return axes is not None and axes.tolist() == [1]
