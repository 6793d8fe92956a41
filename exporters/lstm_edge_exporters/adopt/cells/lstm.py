"""A decomposed LSTM cell, recognized from its state update ``c' = f c + i g``, ``h' = o tanh(c')`` backwards."""

import itertools
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import onnx_ir as ir

from lstm_edge_exporters.adopt.cells.affine import LONGEST_CHAIN, Affine, Stop, is_op, label, read_affine, through
from lstm_edge_exporters.adopt.cells.cell import (
    ACTIVATIONS,
    Cell,
    check_inside,
    check_rows,
    factors,
    has_recurrent_matrix,
    join_sources,
)
from lstm_edge_exporters.gates import LSTM_ONNX
from lstm_edge_exporters.onnx_graph.shapes import Shape

__all__ = ["looks_like_lstm", "read_lstm"]

_MOVES = ("Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """One way to read a cell: its ``Add`` node, the gates' activations by name, c, and what makes h' of c'."""

    node: ir.Node
    gates: Mapping[str, ir.Node]
    c: ir.Value
    tail: tuple[ir.Node, ir.Node, ir.Node]


def looks_like_lstm(node: ir.Node) -> bool:
    """Say whether a node is an ``Add`` of two products that reads and goes on like the cell state of an LSTM."""
    if not is_op(node, "Add") or not all(_multiplies(value) for value in node.inputs):
        return False
    active = [value for product in node.inputs for value in factors(product) if is_op(value.producer(), *ACTIVATIONS)]
    return len(active) >= 2 and bool(_tails(node))


def read_lstm(
    node: ir.Node,
    shapes: Mapping[ir.Value, Shape],
    partners: Mapping[ir.Value, ir.Value],
    entering: AbstractSet[ir.Value],
) -> Cell:
    """Read the cell whose new state the ``Add`` node is.

    Args:
        node: a node that ``looks_like_lstm``.
        shapes: what is known of the values' shapes.
        partners: for the cell states of cells that are folded already, the hidden states that belong to them.
        entering: values that a state can come from: the graph's inputs, and what a Loop or a Scan carries.

    Raises:
        Stop: something is not certain; the message names the node.
    """
    tails = _tails(node)
    if len(tails) != 1:
        names = ", ".join(label(multiply) for _, multiply, _ in tails)
        raise Stop(f"its cell state goes into several products: {names}")
    squash, _, gate = tails[0]
    _check_activation("h'", squash, "Tanh")
    _check_activation("gate o", gate, "Sigmoid")
    cells, stops = [], []
    for gates, c in _assignments(node):
        try:
            parts = _Parts(node=node, gates={**gates, "o": gate}, c=c, tail=tails[0])
            cells.append(_read(parts, shapes, partners, entering))
        except Stop as stop:
            stops.append(stop)
    if len(cells) > 1:
        raise Stop(f"{label(node)} can be read in {len(cells)} ways")
    if not cells:
        raise stops[0] if stops else Stop(_why_no_gates(node))
    return cells[0]


def _multiplies(value: ir.Value | None) -> bool:
    return value is not None and is_op(value.producer(), "Mul")


def _tails(node: ir.Node) -> list[tuple[ir.Node, ir.Node, ir.Node]]:
    """For each ``activation(c') * activation(...)``: the first activation, the product and the gate's activation."""
    found = []
    for squash in node.outputs[0].consumers():
        if is_op(squash, *ACTIVATIONS):
            for multiply in squash.outputs[0].consumers():
                others = [value.producer() for value in factors(multiply.outputs[0]) if value is not squash.outputs[0]]
                if is_op(multiply, "Mul") and len(others) == 1 and is_op(others[0], *ACTIVATIONS):
                    assert others[0] is not None
                    found.append((squash, multiply, others[0]))
    return found


def _assignments(node: ir.Node) -> Iterator[tuple[dict[str, ir.Node], ir.Value]]:
    """Every way to name the four factors i, g, f and c by their activations."""
    products = [factors(value) for value in node.inputs]
    for (first, second), turn_ig, turn_fc in itertools.product(
        (products, products[::-1]), (slice(None), slice(None, None, -1)), (slice(None), slice(None, None, -1))
    ):
        (i, g), (f, c) = first[turn_ig], second[turn_fc]
        nodes = {"i": i.producer(), "f": f.producer(), "g": g.producer()}
        if is_op(nodes["i"], "Sigmoid") and is_op(nodes["f"], "Sigmoid") and is_op(nodes["g"], "Tanh"):
            yield {name: gate for name, gate in nodes.items() if gate is not None}, through(c)


def _check_activation(what: str, node: ir.Node, expected: str) -> None:
    if not is_op(node, expected):
        raise Stop(f"{what} is computed by {label(node)}, expected {expected}")


def _why_no_gates(node: ir.Node) -> str:
    producers = [value.producer() for product in node.inputs for value in factors(product)]
    active = [producer for producer in producers if producer is not None and is_op(producer, *ACTIVATIONS)]
    others = [producer for producer in active if not is_op(producer, "Sigmoid", "Tanh")]
    if others:
        return f"a gate is computed by {label(others[0])}, expected Sigmoid for i and f, Tanh for g"
    names = ", ".join(label(producer) for producer in active)
    return f"its activations are {names}, expected Sigmoid for i and f, Tanh for g"


def _read(
    parts: _Parts,
    shapes: Mapping[ir.Value, Shape],
    partners: Mapping[ir.Value, ir.Value],
    entering: AbstractSet[ir.Value],
) -> Cell:
    node, activations, c, (squash, multiply, _) = parts.node, parts.gates, parts.c, parts.tail
    gates = {name: read_affine(through(gate.inputs[0]), shapes) for name, gate in activations.items()}
    width = gates["i"].width
    for name, gate in gates.items():
        if gate.width != width:
            raise Stop(f"gate {name} has {gate.width} columns, gate i has {width}")
        if gate.weights.keys() != gates["i"].weights.keys():
            raise Stop(f"gate {name} and gate i read different values ({label(activations[name])})")
    h = _hidden(gates, c, width, partners, entering)
    x = tuple(source for source in gates["i"].weights if source is not h)
    check_rows([*x, h, c], {h: width, c: width}, shapes)
    products = [value.producer() for value in node.inputs if value is not None]
    nodes = {node, squash, multiply, *activations.values(), *(product for product in products if product is not None)}
    nodes = nodes.union(*(gate.nodes for gate in gates.values()))
    check_inside(nodes, {node.outputs[0], multiply.outputs[0]})
    return Cell(
        kind="LSTM",
        anchor=node,
        x=x,
        states=(h, c),
        outputs=(multiply.outputs[0], node.outputs[0]),
        weights=join_sources([gates[{"c": "g"}.get(name, name)] for name in LSTM_ONNX], x, h),
        hidden_size=width,
        nodes=frozenset(nodes),
    )


def _hidden(
    gates: Mapping[str, Affine],
    c: ir.Value,
    width: int,
    partners: Mapping[ir.Value, ir.Value],
    entering: AbstractSet[ir.Value],
) -> ir.Value:
    """The source that is the hidden state: by its width, else by where it comes from, else by its matrix's name.

    Both products are summed, so that x and h play the same part in the equations: what tells them apart is that h
    comes from where c comes from, or, where c enters the graph as it is, that h does and x does not.
    """
    sources = [source for source, array in gates["i"].weights.items() if array.shape[0] == width]
    if len(gates["i"].weights) < 2 or not sources:
        raise Stop(f"no recurrent product: expected one of a hidden state with {width} columns")
    if len(sources) == 1:
        return sources[0]
    for candidates in (
        [source for source in sources if source is partners.get(c)],
        [source for source in sources if source is c or _siblings(source, c)],
        [source for source in sources if _root(source) is _root(c)],
        [source for source in sources if _enters_with(_root(source), _root(c), entering)],
        [source for source in sources if has_recurrent_matrix(source)],
    ):
        if len(candidates) == 1:
            return candidates[0]
    names = " and ".join(repr(source.name) for source in sources)
    raise Stop(f"{names} both have {width} columns, and nothing says which of them is the hidden state")


def _siblings(value: ir.Value, other: ir.Value) -> bool:
    """Say whether two values are parts of one tensor, as the states of one packed state are."""
    left, right = value.producer(), other.producer()
    if left is None or right is None:
        return False
    return left is right or (left.op_type == right.op_type and bool(left.inputs) and left.inputs[0] is right.inputs[0])


def _root(value: ir.Value) -> ir.Value:
    """The value that all elements of this one come from."""
    for _ in range(LONGEST_CHAIN):
        node = value.producer()
        if node is None or not is_op(node, *_MOVES) or node.inputs[0] is None:
            break
        value = node.inputs[0]
    return value


def _enters_with(value: ir.Value, other: ir.Value, entering: AbstractSet[ir.Value]) -> bool:
    return value in entering and other in entering and value.graph is other.graph
