"""What the recurrent nodes of ONNX have in common: reading constants, directions, states, and putting ours in place."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.functions import DOMAIN, CellVariant, GruVariant
from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.edit import add_constant, add_node, add_shared, owner, replace_node
from lstm_edge_exporters.quantize.rounding import MatrixRounder, Scheme
from lstm_edge_runtime.arrays import Array

__all__ = [
    "Outcome",
    "Refusal",
    "RoundedLayer",
    "check_attributes",
    "connect_sides",
    "constant_inputs",
    "optional_inputs",
    "place",
    "round_weights",
    "sides_of",
]

Arrays = Mapping[str, Array]
INT64_MIN = -(2**63)
DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
_BACKWARD = {"start": -1, "end": INT64_MIN, "axis": 0, "step": -1}


class Refusal(Exception):  # noqa: N818 - never leaves this package: it becomes a row of the coverage table
    """Why a layer stays float32, by the name of the attribute or input that cannot be honoured."""


class Outcome(NamedTuple):
    """Bytes of a layer's constants before and after, and what the coverage table says beside the scheme."""

    before: int
    after: int
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class RoundedLayer:
    """A recurrent node as our operators have it: which one, and for each direction its constants, rounded."""

    variant: CellVariant | GruVariant
    weights: tuple[Arrays, ...]
    direction: str
    hidden_size: int


def optional_inputs(node: ir.Node, count: int) -> list[ir.Value | None]:
    """Return a node's inputs, those left out at the end as None, so that there are ``count``."""
    return [*node.inputs, *[None] * (count - len(node.inputs))]


def sides_of(node: ir.Node) -> int:
    """Return how many directions a node has; one for a direction that ``check_attributes`` will refuse."""
    direction = node.attributes["direction"].value if "direction" in node.attributes else "forward"
    return 2 if direction == "bidirectional" else 1


def check_attributes(node: ir.Node, *, activations: Sequence[str]) -> str:
    """Honour or refuse, by name, each attribute of ONNX's LSTM and GRU (opset 14) but ``linear_before_reset``.

    ``hidden_size`` says what the weights' shapes say; onnxruntime runs no node in which it is another.

    Args:
        node: the recurrent node.
        activations: the only ones that our operators have, of one direction.

    Returns:
        The direction.

    Raises:
        Refusal: an attribute cannot be honoured.
    """
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    sides = sides_of(node)
    if attributes.get("layout", 0) != 0:
        raise Refusal("attribute layout is 1, which onnxruntime does not run either")
    if "clip" in attributes:
        raise Refusal(f"attribute clip ({attributes['clip']}) has no int8 form")
    if attributes.get("input_forget", 0) != 0:
        raise Refusal("attribute input_forget has no int8 form")
    found = list(attributes.get("activations", [])) or [*activations] * sides
    if [str(name).lower() for name in found] != [name.lower() for name in activations] * sides:
        raise Refusal(f"attribute activations is {', '.join(map(str, found))}: only {', '.join(activations)}")
    direction = str(attributes.get("direction", "forward"))
    if direction not in DIRECTIONS:
        raise Refusal(f"attribute direction is {direction!r}")
    return direction


def constant_inputs(
    values: Mapping[str, ir.Value | None], needed: Sequence[str], kinds: Mapping[str, Sequence[Any]]
) -> dict[str, Array | None]:
    """Return the constants behind inputs; None for an optional one that is absent.

    Args:
        values: the inputs by the names that ONNX gives them.
        needed: those that must be there.
        kinds: dtypes that an input may have, float32 where it says nothing.

    Raises:
        Refusal: an input is not constant, of another dtype, or without elements.
    """
    constants = {name: constant_of(value) for name, value in values.items()}
    for name, value in values.items():
        array = constants[name]
        if array is None and (value is not None or name in needed):
            raise Refusal(f"input {name} is not constant")
        if array is not None and array.dtype not in kinds.get(name, (np.float32,)):
            expected = " or ".join(np.dtype(kind).name for kind in kinds.get(name, (np.float32,)))
            raise Refusal(f"input {name} is {array.dtype} {list(array.shape)}, expected {expected}")
        if array is not None and not array.size:
            raise Refusal(f"input {name} is {array.dtype} {list(array.shape)}, without elements")
    return constants


def round_weights(
    layer: str, variant: CellVariant | GruVariant, arrays: Arrays, scheme: Scheme, rounder: MatrixRounder
) -> dict[str, Array]:
    """Return the operator's constants by name: matrices rounded, with their scales; the rest in float32."""
    rounded: dict[str, Array] = {}
    for name, array in arrays.items():
        if variant.is_quantized(name):
            parts = rounder(f"{layer}.{name}", array, scheme)
            rounded |= {f"{name}{suffix}": part for suffix, part in parts.items()}
        else:
            rounded[name] = array.astype(np.float32)
    return rounded


def place(
    node: ir.Node, layer: RoundedLayer, *, lengths: ir.Value | None, states: Sequence[ir.Value | None], kind: str
) -> int:
    """Replace a node by one operator for each direction; ``states`` are h0, and c0 where the cell has one.

    Returns:
        Bytes of the constants.
    """
    name, graph = node.name or node.op_type.lower(), owner(node)

    def operator(side: int, moving: Sequence[ir.Value | None]) -> tuple[ir.Value, ...]:
        path = f"{name}_reverse" if side else name
        arrays = layer.weights[side]
        constants = [add_shared(graph, f"{path}.{kind}.{key}", arrays[key]) for key in layer.variant.weights]
        return add_node(
            node,
            layer.variant.name,
            [*moving, *constants],
            domain=DOMAIN,
            outputs=("y", "h_out", "c_out")[: 1 + len(states)],
            name=f"{path}/{kind}",
        )

    connect_sides(node, operator, layer.direction, layer.hidden_size, lengths=lengths, states=states)
    return sum(array.nbytes for arrays in layer.weights for array in arrays.values())


def connect_sides(
    node: ir.Node,
    operator: Callable[[int, Sequence[ir.Value | None]], tuple[ir.Value, ...]],
    direction: str,
    hidden_size: int,
    *,
    lengths: ir.Value | None,
    states: Sequence[ir.Value | None],
) -> None:
    """Replace a node by what ``operator`` adds for each direction: reversals, initial states and outputs around it.

    Args:
        node: the node.
        operator: takes the side (0, and 1 for the second direction) and the inputs x, the states and the lengths where
            rows have some; returns y [T, B, H] and the final states [1, B, H].
        direction: as ``check_attributes`` returned it.
        hidden_size: H.
        lengths: the node's lengths of rows, or None.
        states: the node's initial states; None stands for zeros.
    """
    x = node.inputs[0]
    ids = add_node(node, "Cast", [lengths], attributes={"to": 7})[0] if lengths is not None else None
    sides: list[tuple[ir.Value, ...]] = []
    backward = DIRECTIONS[direction]
    for side, reverse in enumerate(backward):
        sequence = _reversed(node, x, ids) if reverse else x
        given = [_initial(node, x, h, side=side, sides=len(backward), size=hidden_size) for h in states]
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
