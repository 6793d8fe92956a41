"""A decomposed RNN cell, ``h' = tanh(W x + R h + b)`` or with ``Relu``, told from other sums of two products."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.adopt.caches import same_stem
from lstm_edge_exporters.adopt.cells.affine import LONGEST_CHAIN, Affine, Stop, is_op, read_affine, through
from lstm_edge_exporters.adopt.cells.cell import Cell, check_inside, check_rows, has_recurrent_matrix, join_sources
from lstm_edge_exporters.onnx_graph.carried import past_identities, slots_of
from lstm_edge_exporters.onnx_graph.shapes import Shape
from lstm_edge_runtime.arrays import Array

__all__ = ["find_rnn_cells", "read_rnn"]

_ACTIVATIONS = ("Tanh", "Relu")
_MOVES = ("Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


@dataclass(frozen=True, kw_only=True)
class _Sum:
    """What an activation is of: at least two products; ``node`` is the activation."""

    node: ir.Node
    affine: Affine


def find_rnn_cells(model: ir.Model, shapes: Mapping[ir.Value, Shape]) -> dict[ir.Node, Array]:
    """Return the activations that are RNN cells, each with its recurrent matrix ``[H, H]``.

    The equations alone do not say which of two products is the recurrent one, or that there is one. It is where the
    next cell, with the same weights, multiplies this one's answer; where a Loop or a Scan carries the answer to the
    next step; where the matrix has the name of one; and where an input and an output of the graph belong together.
    """
    graphs = (model.graph, *model.graph.subgraphs())
    nodes = [node for graph in graphs for node in graph if is_op(node, *_ACTIVATIONS)]
    sums = {found.node.outputs[0]: found for node in nodes if (found := _sum(node, shapes)) is not None}
    cells: dict[ir.Node, Array] = {}
    for found in sums.values():
        for source, matrix in _square(found):
            before = sums.get(through(source))
            if before is not None and _alike(before, found, matrix, source):
                cells |= {before.node: matrix, found.node: matrix}
    carried = dict(_carried(model))
    for value, found in sums.items():
        if found.node not in cells:
            chosen = [matrix for source, matrix in _square(found) if _returns(source, value, carried, model.graph)]
            chosen = chosen or [matrix for source, matrix in _square(found) if _is_named(source, value, model.graph)]
            cells |= {found.node: chosen[0]} if len(chosen) == 1 else {}
    return cells


def read_rnn(node: ir.Node, matrix: Array, shapes: Mapping[ir.Value, Shape]) -> Cell:
    """Read the cell whose activation a node is, and whose recurrent matrix is this.

    Raises:
        Stop: something is not certain; the message names the node.
    """
    affine = read_affine(through(node.inputs[0]), shapes)
    states = [source for source, array in affine.weights.items() if np.array_equal(array, matrix)]
    if len(states) != 1:
        raise Stop("two of its products have the same matrix, and nothing says which of them is the recurrent one")
    h, width = states[0], affine.width
    x = tuple(source for source in affine.weights if source is not h)
    check_rows([*x, h], {h: width}, shapes)
    nodes = frozenset({node, *affine.nodes})
    check_inside(nodes, {node.outputs[0]})
    return Cell(
        kind="RNN",
        anchor=node,
        x=x,
        states=(h,),
        outputs=(node.outputs[0],),
        weights=join_sources([affine], x, h),
        hidden_size=width,
        nodes=nodes,
        activation=node.op_type,
    )


def _sum(node: ir.Node, shapes: Mapping[ir.Value, Shape]) -> _Sum | None:
    value = node.inputs[0]
    add = None if value is None else through(value).producer()
    # An Add of two products, or one product with both, joined.
    if value is None or not is_op(add, "Add", "Gemm", "MatMul"):
        return None
    try:
        affine = read_affine(through(value), shapes)
    except Stop:
        return None
    return _Sum(node=node, affine=affine) if len(affine.weights) > 1 else None


def _square(found: _Sum) -> list[tuple[ir.Value, Array]]:
    width = found.affine.width
    return [(source, array) for source, array in found.affine.weights.items() if array.shape == (width, width)]


def _alike(one: _Sum, two: _Sum, matrix: Array, h: ir.Value) -> bool:
    """Say whether two sums have the same matrices and biases, where the second multiplies h with this matrix."""
    if one.node.op_type != two.node.op_type or one.affine.width != two.affine.width:
        return False
    first = [array for _, array in one.affine.weights.items() if not np.array_equal(array, matrix)]
    second = [array for source, array in two.affine.weights.items() if source is not h]
    if len(first) + 1 != len(one.affine.weights) or len(first) != len(second):
        return False
    same = all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    return same and np.array_equal(_bias(one.affine), _bias(two.affine))


def _bias(affine: Affine) -> Array:
    return affine.bias(*affine.weights, None)


def _carried(model: ir.Model) -> Iterable[tuple[ir.Value, ir.Value]]:
    """The carried values of Loops and Scans: what leaves the body, and where it enters it at the next step."""
    for node in model.graph.all_nodes():
        slots = slots_of(node)
        for place in range(slots.carried if slots is not None else 0):
            assert slots is not None
            yield (
                slots.body.inputs[slots.entering + place],
                past_identities(slots.body.outputs[slots.leaving + place]),
            )


def _returns(source: ir.Value, answer: ir.Value, carried: Mapping[ir.Value, ir.Value], graph: ir.Graph) -> bool:
    """Say whether the next step starts from this answer in the place of the source."""
    root = _root(source)
    if root in carried:
        return carried[root] is answer
    if root not in graph.inputs:
        return False
    return any(same_stem(str(root.name), str(leaving.name)) for leaving in _leaving([answer]))


def _is_named(source: ir.Value, answer: ir.Value, graph: ir.Graph) -> bool:
    """Say whether a source enters the graph, meets a matrix with a recurrent one's name, and the answer leaves it."""
    return _root(source) in graph.inputs and has_recurrent_matrix(source) and bool(_leaving([answer]))


def _root(value: ir.Value) -> ir.Value:
    for _ in range(LONGEST_CHAIN):
        node = value.producer()
        if node is None or not is_op(node, *_MOVES) or node.inputs[0] is None:
            break
        value = node.inputs[0]
    return value


def _leaving(values: Sequence[ir.Value]) -> list[ir.Value]:
    """The graph's outputs that a value is, perhaps moved."""
    found, stack = [], list(values)
    while stack:
        value = stack.pop()
        if value.is_graph_output():
            found.append(value)
        stack += [output for node in value.consumers() if is_op(node, *_MOVES) for output in node.outputs]
    return found
