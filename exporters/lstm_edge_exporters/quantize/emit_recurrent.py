"""A recurrent layer that was read, written into its graph: one operator, or its equations, for each direction."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.functions import DOMAIN, CellVariant
from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.edit import add_constant, add_node, add_shared, owner, replace_node
from lstm_edge_exporters.quantize.fused import DIRECTION_NAMES, FusedLayer, fuse, is_fused
from lstm_edge_exporters.quantize.layer import Outcome, RecurrentLayer, Refusal
from lstm_edge_exporters.quantize.mixed import add_mixed, mixed_bytes, round_mixed
from lstm_edge_exporters.quantize.recurrent import DIRECTIONS, Recurrent
from lstm_edge_exporters.quantize.request import MATRICES, LayerRequest
from lstm_edge_exporters.quantize.rounding import MatrixRounder
from lstm_edge_exporters.quantize.zero_blocks import Sparse

__all__ = ["emit_recurrent"]

INT64_MIN = -(2**63)
_BACKWARD = {"start": -1, "end": INT64_MIN, "axis": 0, "step": -1}

# Adds the nodes of one direction (0, and 1 for the second): takes x, the states and the lengths where rows have some;
# returns y [T, B, H] and the final states [1, B, H].
Operator = Callable[[int, Sequence[ir.Value | None]], tuple[ir.Value, ...]]


def emit_recurrent(
    reader: Recurrent, layer: RecurrentLayer, request: LayerRequest, rounder: MatrixRounder, *, sparse: Sparse
) -> Outcome:
    """Replace a recurrent node by one operator, or the equations of one, for each direction.

    Args:
        reader: of the layer.
        layer: what it read.
        request: what each part becomes; not what float16 stores.
        rounder: rounds the matrices.
        sparse: what is done with zero blocks where the request leaves that open.

    Raises:
        Refusal: the layer has no such form; the graph is as it was.
        QuantizationError: a weight holds NaN or infinity.
    """
    if is_fused(request):
        fused = fuse(reader.path, layer, request, rounder, sparse=sparse)
        operator = _operator(reader, layer, fused)
        after = sum(array.nbytes for arrays in fused.sides for array in arrays.values())
        outcome = Outcome(layer.size_bytes, after, fused.note, fused.request, fused.density)
    else:
        operator, after = _mixed(reader, layer, request, rounder)
        outcome = Outcome(layer.size_bytes, after)
    if layer.moving is None:
        _connect_sides(reader.node, layer, operator)
    else:
        replace_node(reader.node, operator(0, layer.moving))
    return outcome


def _mixed(
    reader: Recurrent, layer: RecurrentLayer, request: LayerRequest, rounder: MatrixRounder
) -> tuple[Operator, int]:
    """What adds the equations of each direction, and the bytes of their constants; all directions are alike."""
    if any(scheme.sparse for scheme in (request.scheme, *request.gates.values())):
        raise Refusal(f"{request}: sparse weights need a W and an R in int8 or int4, each with one scheme")
    if not isinstance(layer.variant, CellVariant):
        raise Refusal(f"{request}: only an LSTM can have an int8 or int4 matrix beside a float32 or float16 one")
    paths = [f"{reader.path}{name}" for name in DIRECTION_NAMES]
    cells = [
        round_mixed(path, layer.variant, arrays, request, rounder)
        for path, arrays in zip(paths, layer.sides, strict=False)
    ]

    def operator(side: int, moving: Sequence[ir.Value | None]) -> tuple[ir.Value, ...]:
        return add_mixed(reader.node, paths[side], cells[side], moving)

    return operator, mixed_bytes(cells)


def _operator(reader: Recurrent, layer: RecurrentLayer, fused: FusedLayer) -> Operator:
    """What adds the operator of each direction."""
    node, variant = reader.node, fused.variant
    kinds = {scheme.kind for matrix in MATRICES for scheme in fused.request.groups(matrix)}
    kind = kinds.pop() if len(kinds) == 1 else "mixed"

    def operator(side: int, moving: Sequence[ir.Value | None]) -> tuple[ir.Value, ...]:
        title, arrays = f"{reader.title}{DIRECTION_NAMES[side]}", fused.sides[side]
        constants = [add_shared(owner(node), f"{title}.{kind}.{name}", array) for name, array in arrays.items()]
        return add_node(
            node,
            variant.name,
            [*moving, *constants],
            domain=DOMAIN,
            outputs=("y", "h_out", "c_out")[: 1 + len(layer.states)],
            name=f"{title}/{kind}",
        )

    return operator


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
