"""A decomposed GRU cell, recognized from its update ``h' = (1 - z) n + z h`` backwards."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.adopt.cells.affine import Affine, Stop, is_op, label, read_affine, through
from lstm_edge_exporters.adopt.cells.cell import ACTIVATIONS, Cell, check_inside, check_rows, factors, join_sources
from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.shapes import Shape

__all__ = ["looks_like_gru", "read_gru"]


@dataclass(frozen=True, kw_only=True)
class _Update:
    """``h' = (1 - z) n + z h``, or with z and 1 - z exchanged (``flipped``); z and n are their activations."""

    z: ir.Node
    n: ir.Node
    h: ir.Value
    flipped: bool
    nodes: frozenset[ir.Node]


def looks_like_gru(node: ir.Node) -> bool:
    """Say whether an ``Add`` node mixes two values as a GRU does, one of them with a gate inside its activation."""
    update = _update(node)
    return update is not None and _reset(update) is not None


def read_gru(node: ir.Node, shapes: Mapping[ir.Value, Shape]) -> Cell:
    """Read the cell whose new hidden state the ``Add`` node is.

    Raises:
        Stop: something is not certain; the message names the node.
    """
    update = _update(node)
    assert update is not None
    reset = _reset(update)
    assert reset is not None
    r, multiply, before = reset
    for name, gate, expected in (("z", update.z, "Sigmoid"), ("r", r, "Sigmoid"), ("n", update.n, "Tanh")):
        if not is_op(gate, expected):
            raise Stop(f"gate {name} is computed by {label(gate)}, expected {expected}")
    gates = {name: read_affine(through(gate.inputs[0]), shapes) for name, gate in (("z", update.z), ("r", r))}
    h, width = update.h, gates["z"].width
    if before:
        candidate, recurrent = _linear_before_reset(update, r, multiply, shapes)
    else:
        candidate, recurrent = _linear_after_reset(update, multiply, shapes)
    sources = gates["z"].weights.keys()
    x = tuple(source for source in sources if source is not h)
    if h not in sources or not x:
        raise Stop(f"gate z ({label(update.z)}) is not computed from an input and from {h.name!r}, the hidden state")
    if gates["r"].weights.keys() != sources or candidate.weights.keys() != set(x):
        raise Stop(f"the gates z, r and n do not read the same values ({label(update.n)})")
    if any(part.width != width for part in (gates["r"], candidate, recurrent)):
        raise Stop(f"the gates z, r and n have different numbers of columns ({label(update.n)})")
    check_rows([*x, h], {h: width}, shapes)
    nodes = {node, update.z, update.n, r, multiply, *update.nodes, *candidate.nodes, *recurrent.nodes}
    nodes = nodes.union(*(gate.nodes for gate in gates.values()))
    check_inside(nodes, {node.outputs[0]})
    z = _negated(gates["z"]) if update.flipped else gates["z"]
    n = _joined(candidate, recurrent, h)
    return Cell(
        kind="GRU",
        anchor=node,
        x=x,
        states=(h,),
        outputs=(node.outputs[0],),
        weights=join_sources([z, gates["r"], n], x, h),
        hidden_size=width,
        nodes=frozenset(nodes),
        linear_before_reset=int(before),
    )


def _update(node: ir.Node) -> _Update | None:
    """Read ``v + z (u - v)`` and ``z u + (1 - z) v``, which are the same, in any order of the operands."""
    if not is_op(node, "Add") or None in node.inputs:
        return None
    left, right = (through(value) for value in node.inputs)
    for mixed, kept in ((left, right), (right, left)):
        for difference, gate in _pairs(mixed):
            minus = difference.producer()
            if minus is None or not is_op(minus, "Sub"):
                continue
            u, v = (through(value) for value in minus.inputs)
            inner = frozenset(n for n in (mixed.producer(), minus) if n is not None)
            if kept is v and (found := _named(gate, u, v, inner)):
                return found
            if v.producer() is None or not _is_one(u):
                continue
            for other, same in _pairs(kept):
                # mixed = (1 - z) gate, kept = z other
                if same is v and (found := _named(v, other, gate, inner | {_producer(kept)})):
                    return found
    return None


def _named(z: ir.Value, u: ir.Value, v: ir.Value, nodes: frozenset[ir.Node]) -> _Update | None:
    """``z u + (1 - z) v`` with the candidate, the one of u and v that an activation makes, told from the state."""
    gate = z.producer()
    if gate is None or not is_op(gate, *ACTIVATIONS):
        return None
    for candidate, state, flipped in ((v, u, False), (u, v, True)):
        n = candidate.producer()
        if n is not None and is_op(n, *ACTIVATIONS):
            update = _Update(z=gate, n=n, h=state, flipped=flipped, nodes=nodes)
            if _reset(update) is not None:
                return update
    return None


def _reset(update: _Update) -> tuple[ir.Node, ir.Node, bool] | None:
    """The reset gate's activation, the ``Mul`` that applies it, and whether it follows the product with R.

    ``n = tanh(W x + r (R h + b))`` is ``linear_before_reset=1``, ``n = tanh(W x + R (r h))`` is 0 (ONNX's GRU).
    """
    if not update.n.inputs or update.n.inputs[0] is None:
        return None
    add = through(update.n.inputs[0]).producer()
    for operand in add.inputs if add is not None and is_op(add, "Add") else ():
        for gate, _ in _pairs(through(operand)):
            r = gate.producer()
            if r is not None and is_op(r, *ACTIVATIONS):
                return r, _producer(through(operand)), True
    for multiply in update.h.consumers():
        if is_op(multiply, "Mul") and multiply not in update.nodes:
            for gate, state in _pairs(multiply.outputs[0]):
                r = gate.producer()
                if r is not None and state is update.h and is_op(r, *ACTIVATIONS) and r is not update.z:
                    return r, multiply, False
    return None


def _linear_before_reset(
    update: _Update, r: ir.Node, multiply: ir.Node, shapes: Mapping[ir.Value, Shape]
) -> tuple[Affine, Affine]:
    add = _producer(through(update.n.inputs[0]))
    inputs = [through(value) for value in add.inputs]
    others = [value for value in inputs if value is not multiply.outputs[0]]
    inner = [other for gate, other in _pairs(multiply.outputs[0]) if gate is r.outputs[0]]
    if len(others) != 1 or len(inner) != 1:
        raise Stop(f"{label(add)} does not compute gate n as W x + r (R h)")
    candidate, recurrent = read_affine(others[0], shapes), read_affine(inner[0], shapes)
    if recurrent.weights.keys() != {update.h}:
        raise Stop(f"what {label(multiply)} resets is not computed from {update.h.name!r}, the hidden state, alone")
    return replace(candidate, nodes=candidate.nodes | {add}), recurrent


def _linear_after_reset(update: _Update, multiply: ir.Node, shapes: Mapping[ir.Value, Shape]) -> tuple[Affine, Affine]:
    # The reset state is [B, H] as h is; the widths of a Concat with it need that.
    state, reset = update.h, multiply.outputs[0]
    known = {**shapes, reset: shapes[state]} if state in shapes else shapes
    whole = read_affine(through(update.n.inputs[0]), known)
    if reset not in whole.weights or update.h in whole.weights:
        raise Stop(f"gate n ({label(update.n)}) is not computed from the reset state {reset.name!r}")
    biases = dict(whole.biases)
    # Where [x, r h] meets one matrix, what joins them goes too: nothing else can use it (check_inside).
    joins = {node for node in reset.consumers() if is_op(node, "Concat")}
    recurrent = Affine(
        weights={state: whole.weights[reset]},
        biases={state: biases.pop(reset)} if reset in biases else {},
        nodes=whole.nodes | joins,
        width=whole.width,
    )
    weights = {source: array for source, array in whole.weights.items() if source is not reset}
    return replace(whole, weights=weights, biases=biases), recurrent


def _joined(candidate: Affine, recurrent: Affine, h: ir.Value) -> Affine:
    """The candidate's two parts as one gate; the recurrent part's biases stay under h, which the reset covers."""
    biases = dict(candidate.biases)
    biases[h] = recurrent.bias(h, None)
    return replace(candidate, weights={**candidate.weights, h: recurrent.weights[h]}, biases=biases)


def _negated(gate: Affine) -> Affine:
    """1 - sigmoid(a) = sigmoid(-a)."""
    return replace(
        gate,
        weights={source: np.negative(array) for source, array in gate.weights.items()},
        biases={source: np.negative(array) for source, array in gate.biases.items()},
    )


def _pairs(product: ir.Value) -> list[tuple[ir.Value, ir.Value]]:
    """Both orders of a product's two factors."""
    found = factors(product)
    return [(found[0], found[1]), (found[1], found[0])] if len(found) == 2 else []


def _is_one(value: ir.Value) -> bool:
    array = constant_of(value)
    return array is not None and array.size == 1 and float(array.ravel()[0]) == 1.0


def _producer(value: ir.Value) -> ir.Node:
    node = value.producer()
    assert node is not None
    return node
