"""A layer that was read, written into its graph in the scheme that was asked for."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.functions import DOMAIN, LINEAR_INT4, LINEAR_INT8, CellVariant, Variant
from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.edit import add_constant, add_node, add_shared, owner, remove_node, replace_node
from lstm_edge_exporters.onnx_graph.nodes import attribute_of
from lstm_edge_exporters.quantize.layer import Arrays, Outcome, Reader, RecurrentLayer, Refusal, WeightLayer
from lstm_edge_exporters.quantize.mixed import add_mixed, mixed_bytes, round_mixed
from lstm_edge_exporters.quantize.recurrent import DIRECTIONS, Recurrent
from lstm_edge_exporters.quantize.request import MATRICES, LayerRequest
from lstm_edge_exporters.quantize.rounding import MatrixRounder, Scheme
from lstm_edge_exporters.quantize.storage import float16_inputs, round_table, to_float16, unpacked_rows
from lstm_edge_exporters.quantize.tied import Tied
from lstm_edge_runtime.arrays import Array

__all__ = ["emit"]

INT64_MIN = -(2**63)
_BACKWARD = {"start": -1, "end": INT64_MIN, "axis": 0, "step": -1}

# Adds the nodes of one direction (0, and 1 for the second): takes x, the states and the lengths where rows have some;
# returns y [T, B, H] and the final states [1, B, H].
Operator = Callable[[int, Sequence[ir.Value | None]], tuple[ir.Value, ...]]


def emit(reader: Reader, request: LayerRequest, rounder: MatrixRounder, tied: Tied | None = None) -> Outcome:
    """Read a layer and put in its place, or store in its inputs, what a request asks for.

    Args:
        reader: of the layer.
        request: other than to leave the layer as it is.
        rounder: rounds the matrices of recurrent and linear layers.
        tied: the stored matrix that the layer shares with others, or None.

    Returns:
        Bytes before and after, and what the coverage table says beside the scheme.

    Raises:
        Refusal: the layer has no such form; the graph is as it was.
        QuantizationError: a weight holds NaN or infinity.
    """
    halves = _halves(reader, request)
    if halves:
        return float16_inputs(reader, halves) if tied is None else tied.half_input(reader)
    layer = reader.read()
    if isinstance(layer, RecurrentLayer):
        assert isinstance(reader, Recurrent)
        return _emit_recurrent(reader, layer, request, rounder)
    if reader.kind == "linear":
        return _emit_linear(reader, layer, request.scheme, rounder, tied)
    if reader.kind == "embedding":
        return _emit_embedding(reader, layer, request.scheme, tied)
    return _emit_convolution(reader, layer, request.scheme)


def _halves(reader: Reader, request: LayerRequest) -> dict[int, tuple[str, str]]:
    """The inputs to store as float16, where that and float32 is all that is asked of whole matrices; else none."""
    if all(scheme.kind != "float16" for scheme in (request.scheme, *request.gates.values())):
        return {}
    kinds = {}
    for position, names in reader.stored().items():
        matrix = names[0].upper()
        groups = request.groups(matrix) if matrix in MATRICES else {request.scheme: ()}
        kinds[position, names] = next(iter(groups)).kind if len(groups) == 1 else "apart"
    if set(kinds.values()) - {"float16", "float32"}:
        return {}
    return {position: names for (position, names), kind in kinds.items() if kind == "float16"}


def _emit_recurrent(reader: Recurrent, layer: RecurrentLayer, request: LayerRequest, rounder: MatrixRounder) -> Outcome:
    """Replace a recurrent node by one operator, or the equations of one, for each direction."""
    if request.gates:
        operator, after, note = _mixed(reader, layer, request, rounder)
    else:
        operator, after, note = _uniform(reader, layer, request.scheme, rounder)
    if layer.moving is None:
        _connect_sides(reader.node, layer, operator)
    else:
        replace_node(reader.node, operator(0, layer.moving))
    return Outcome(layer.size_bytes, after, note)


def _paths(name: str) -> tuple[str, str]:
    """The names of a layer's two directions."""
    return name, f"{name}_reverse"


def _mixed(
    reader: Recurrent, layer: RecurrentLayer, request: LayerRequest, rounder: MatrixRounder
) -> tuple[Operator, int, str]:
    """What adds the equations of each direction, the bytes of their constants, and a note; all directions are alike."""
    assert isinstance(layer.variant, CellVariant)
    paths = _paths(reader.path)
    cells = [
        round_mixed(paths[side], layer.variant, arrays, request, rounder) for side, arrays in enumerate(layer.sides)
    ]

    def operator(side: int, moving: Sequence[ir.Value | None]) -> tuple[ir.Value, ...]:
        return add_mixed(reader.node, paths[side], cells[side], moving)

    return operator, mixed_bytes(cells), ""


def _uniform(
    reader: Recurrent, layer: RecurrentLayer, scheme: Scheme, rounder: MatrixRounder
) -> tuple[Operator, int, str]:
    """What adds the operator of each direction, the bytes of their constants, and a note."""
    sides, note = _rounded(reader.path, layer, scheme, rounder)
    node, variant, kind = reader.node, _quantized(layer.variant, scheme), scheme.kind

    def operator(side: int, moving: Sequence[ir.Value | None]) -> tuple[ir.Value, ...]:
        title = _paths(reader.title)[side]
        constants = [add_shared(owner(node), f"{title}.{kind}.{name}", sides[side][name]) for name in variant.weights]
        return add_node(
            node,
            variant.name,
            [*moving, *constants],
            domain=DOMAIN,
            outputs=("y", "h_out", "c_out")[: 1 + len(layer.states)],
            name=f"{title}/{kind}",
        )

    return operator, sum(array.nbytes for arrays in sides for array in arrays.values()), note


def _rounded(
    layer_path: str, layer: RecurrentLayer, scheme: Scheme, rounder: MatrixRounder
) -> tuple[Sequence[Arrays], str]:
    """The operator's constants by name for each direction, matrices with their scales, and a note."""
    if layer.carried and scheme.kind == "int8":
        return layer.carried, "weights and scales carried over exactly"
    sides = []
    for path, arrays in zip(_paths(layer_path), layer.sides, strict=False):
        rounded: dict[str, Array] = {}
        for name, array in arrays.items():
            if layer.variant.is_quantized(name):
                parts = rounder(f"{path}.{name}", array, scheme)
                rounded |= {f"{name}{suffix}": part for suffix, part in parts.items()}
            else:
                rounded[name] = array.astype(np.float32)
        sides.append(rounded)
    if layer.inexact is None:
        return sides, ""
    reason = "four bits" if scheme.kind == "int4" else layer.inexact
    return sides, f"dequantized and rounded anew, because of {reason}"


def _quantized(variant: Variant, scheme: Scheme) -> Variant:
    return replace(variant, storage="int4" if scheme.kind == "int4" else "int8", w_storage=None)


def _connect_sides(node: ir.Node, layer: RecurrentLayer, operator: Operator) -> None:
    """Replace a node by what ``operator`` adds for each direction: reversals, initial states and outputs around it."""
    x, lengths, backward = node.inputs[0], layer.lengths, DIRECTIONS[layer.direction]
    ids = add_node(node, "Cast", [lengths], attributes={"to": 7})[0] if lengths is not None else None
    sides: list[tuple[ir.Value, ...]] = []
    for side, reverse in enumerate(backward):
        sequence = _reversed(node, x, ids) if reverse else x
        size = layer.hidden_size
        given = [_initial(node, x, h, side=side, sides=len(backward), size=size) for h in layer.states]
        y, *last = operator(side, [sequence, *given, *([ids] if ids is not None else [])])
        sides.append((_reversed(node, y, ids) if reverse else y, *last))
    _connect(node, sides)


def _reversed(node: ir.Node, x: ir.Value | None, rows: ir.Value | None) -> ir.Value:
    """Reverse [T, B, F] in time, each row up to its length where rows have lengths."""
    if rows is not None:
        attributes = {"batch_axis": 1, "time_axis": 0}
        return add_node(node, "ReverseSequence", [x, rows], attributes=attributes)[0]
    graph = owner(node)
    bounds = [add_constant(graph, f"{node.name}.{n}", np.array([v])) for n, v in _BACKWARD.items()]
    return add_node(node, "Slice", [x, *bounds])[0]


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
    """Put the directions' outputs in the place of the node's Y [T, D, B, H] and its final states [D, B, H]."""
    y = node.outputs[0]
    squeezes = [consumer for consumer, _ in y.uses()]
    if len(sides) == 1 and squeezes and not y.is_graph_output() and all(_squeezes_directions(s) for s in squeezes):
        for squeeze in squeezes:
            replace_node(squeeze, [sides[0][0]])
        replace_node(node, [None, *sides[0][1:]])
        return
    one = add_constant(owner(node), f"{node.name}.directions", np.array([1]))
    whole = [add_node(node, "Unsqueeze", [side[0], one])[0] for side in sides]
    joined = whole[0] if len(sides) == 1 else add_node(node, "Concat", whole, attributes={"axis": 1})[0]
    states = [
        sides[0][i] if len(sides) == 1 else add_node(node, "Concat", [s[i] for s in sides], attributes={"axis": 0})[0]
        for i in range(1, len(sides[0]))
    ]
    replace_node(node, [joined, *states])


def _squeezes_directions(node: ir.Node) -> bool:
    if node.op_type != "Squeeze" or node.domain not in ("", "ai.onnx") or len(node.inputs) != 2:
        return False
    axes = constant_of(node.inputs[1])
    return axes is not None and axes.tolist() == [1]


def _emit_linear(
    reader: Reader, layer: WeightLayer, scheme: Scheme, rounder: MatrixRounder, tied: Tied | None
) -> Outcome:
    """Replace a MatMul (and the Add of its bias) or a Gemm by a quantized operator."""
    node, name, kind, weight = reader.node, reader.name, scheme.kind, layer.weight
    carried = bool(layer.carried) and kind == "int8"
    rounded = {} if carried or tied else rounder(f"{name}.weight", weight, scheme)
    arrays = dict(layer.carried) if carried else {f"w{suffix}": array for suffix, array in rounded.items()}
    arrays["b"] = np.zeros(weight.shape[1], np.float32) if layer.bias is None else layer.bias
    constants = list(tied.store().values()) if tied else []
    constants += [add_shared(owner(node), f"{name}.{kind}.{key}", array) for key, array in arrays.items()]
    operator = LINEAR_INT8 if kind == "int8" else LINEAR_INT4
    x = node.inputs[0] if layer.x is None else layer.x
    y = add_node(node, operator, [x, *constants], domain=DOMAIN, outputs=("y",), name=f"{name}/{kind}")
    replace_node(layer.last, y)
    after = sum(array.nbytes for array in arrays.values()) + (tied.size_bytes if tied else 0)
    bias = 0 if layer.bias is None else layer.bias.nbytes
    if layer.x is not None:  # a chain of integer nodes, which nothing uses any more
        note = "weights and scales carried over exactly" if carried else "rounded again from its integers"
        return Outcome(reader.input_bytes + bias, after, note)
    if layer.last is not node:
        remove_node(node)
    return Outcome(weight.nbytes + bias, after)


def _emit_embedding(reader: Reader, layer: WeightLayer, scheme: Scheme, tied: Tied | None) -> Outcome:
    """Replace a Gather by one of rows stored as float16, int8 or four bits, which are unpacked behind it.

    int8: one scale a row. Four bits: a scale for each block of a row.
    """
    node, table, ids, graph = reader.node, layer.weight, reader.node.inputs[1], owner(reader.node)
    path = f"{reader.name}.{scheme.kind}"
    if scheme.kind == "float16":
        rounded = to_float16(f"{reader.name}.weight", table)
        stored = tied.half(node, table) if tied else add_shared(graph, f"{path}.w", rounded)
        axis = {"axis": attribute_of(node, "axis", 0)}
        rows = add_node(node, "Gather", [stored, ids], attributes=axis if axis["axis"] else None)
        replace_node(node, add_node(node, "Cast", rows, attributes={"to": 1}))
        return Outcome(table.nbytes, rounded.nbytes)
    if tied:
        replace_node(node, [tied.rows(node)])
        return Outcome(table.nbytes, tied.size_bytes)
    if scheme not in reader.schemes():
        raise Refusal(
            f"{scheme} has scales for rows of a matrix, and this table {list(table.shape)} is read in another form"
        )
    arrays = round_table(f"{reader.name}.weight", table, scheme)
    if scheme.kind == "int4":  # blocks are unpacked from rows [N, K]
        ids = add_node(node, "Reshape", [ids, add_constant(graph, f"{path}.flat", np.array([-1]))])[0]
    found = {}
    for key, array in arrays.items():
        stored = add_shared(graph, f"{path}.{key}", array)
        # One zero point for the whole table has no rows to look up.
        found[key] = stored if len(array) != len(table) else add_node(node, "Gather", [stored, ids])[0]
    values = unpacked_rows(node, path, found, table.shape[1], scheme)
    if scheme.kind == "int4":
        lead = add_node(node, "Shape", [node.inputs[1]])[0]
        width = add_constant(graph, f"{path}.features", np.array([table.shape[1]]))
        shape = add_node(node, "Concat", [lead, width], attributes={"axis": 0})[0]
        values = add_node(node, "Reshape", [values, shape])[0]
    replace_node(node, [values])
    return Outcome(table.nbytes, sum(array.nbytes for array in arrays.values()))


def _emit_convolution(reader: Reader, layer: WeightLayer, scheme: Scheme) -> Outcome:
    """Store a convolution's weight as int8 or four bits; the node stays what it is.

    int8: one scale an output channel. Four bits: a scale for each block of a channel's inputs, flattened as ONNX stores
    them. The weight is made float again by operators on constants, which onnxruntime folds when it opens the file: it
    saves disk and transfer, not time.
    """
    node, weight, graph, size = reader.node, layer.weight, owner(reader.node), reader.size_bytes
    path, table = f"{reader.name}.{scheme.kind}", weight.reshape(len(weight), -1)
    arrays = round_table(f"{reader.name}.weight", table, scheme)
    stored = {key: add_shared(graph, f"{path}.{key}", array) for key, array in arrays.items()}
    rows = unpacked_rows(node, path, stored, table.shape[1], scheme)
    shape = add_constant(graph, f"{path}.shape", np.array(weight.shape))
    node.replace_input_with(1, add_node(node, "Reshape", [rows, shape])[0])
    return Outcome(size, size - weight.nbytes + sum(array.nbytes for array in arrays.values()))
