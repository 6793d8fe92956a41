"""LSTM, GRU and RNN cells that an exporter took apart, folded back into recurrent nodes where everything is certain."""

from collections.abc import Set as AbstractSet

import onnx_ir as ir

from lstm_edge_exporters.adopt.cells.affine import Stop, is_op, label
from lstm_edge_exporters.adopt.cells.build import Builder
from lstm_edge_exporters.adopt.cells.gru import looks_like_gru, read_gru
from lstm_edge_exporters.adopt.cells.lstm import looks_like_lstm, read_lstm
from lstm_edge_exporters.adopt.cells.rnn import find_rnn_cells, read_rnn
from lstm_edge_exporters.onnx_graph.carried import carried_inputs
from lstm_edge_exporters.onnx_graph.names import unique_names
from lstm_edge_exporters.onnx_graph.shapes import known_shapes
from lstm_edge_runtime.arrays import Array

__all__ = ["fold_cells", "fold_cells_apart"]


def fold_cells(model: ir.Model) -> tuple[str, ...]:
    """Fold cells of ``Gemm``, ``Split``, ``Sigmoid``, ``Tanh``, ``Mul`` and ``Add`` nodes, in every graph; in place.

    A cell is recognized from its state update backwards (LSTM: ``c' = f c + i g``, ``h' = o tanh(c')``; GRU:
    ``h' = (1 - z) n + z h``; RNN: ``h' = tanh(W x + R h + b)``, where it is known which product is the recurrent one).
    Where its weights are constant, the gates' order follows from the data flow, all rows of the batch are kept apart,
    and nothing inside is used elsewhere, one ONNX ``LSTM``, ``GRU`` or ``RNN`` node with one time step takes its place;
    the node's states stand where the cell's stood, under the same names where those are outputs.

    Returns:
        One sentence for each layer that was folded (a loop that was unrolled over time uses one layer several
        times), and for each cell that was recognized and left as it was: it names the node that stopped it.
    """
    folded, left = fold_cells_apart(model)
    return (*folded, *left)


def fold_cells_apart(model: ir.Model) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Fold cells as ``fold_cells`` does; the sentences on what was folded and those on what was left are two tuples."""
    graphs = (model.graph, *model.graph.subgraphs())
    found = [node for graph in graphs for node in graph if looks_like_lstm(node) or looks_like_gru(node)]
    activations = any(is_op(node, "Tanh", "Relu") for graph in graphs for node in graph)
    if not found and not activations:
        return (), ()
    shapes = dict(known_shapes(model))
    simple = find_rnn_cells(model, shapes)
    if not found and not simple:
        return (), ()
    carried = (value for value in carried_inputs(model.graph.all_nodes()) if value is not None)
    entering = {*model.graph.inputs, *carried}
    builder = Builder(shapes=shapes)
    with unique_names(model):
        left = tuple(sentence for node in found if (sentence := _fold(node, builder, entering)))
        left += tuple(sentence for node, matrix in simple.items() if (sentence := _fold_simple(node, matrix, builder)))
    return tuple(_folded(kind, names) for (_, _, kind), names in builder.names.items()), left


def _fold(node: ir.Node, builder: Builder, entering: AbstractSet[ir.Value]) -> str:
    """Fold the cell whose update a node is; return why not, or nothing."""
    lstm = looks_like_lstm(node)
    try:
        read = read_lstm(node, builder.shapes, builder.partners, entering) if lstm else read_gru(node, builder.shapes)
    except Stop as stop:
        return f"{'LSTM' if lstm else 'GRU'} cell at {label(node)}: recognized, but not folded: {stop}"
    builder.fold(read)
    return ""


def _fold_simple(node: ir.Node, matrix: Array, builder: Builder) -> str:
    """Fold the RNN cell whose activation a node is; return why not, or nothing."""
    if node.graph is None:  # part of another cell
        return ""
    try:
        cell = read_rnn(node, matrix, builder.shapes)
    except Stop as stop:
        return f"RNN cell at {label(node)}: recognized, but not folded: {stop}"
    builder.fold(cell)
    return ""


def _folded(kind: str, names: list[str]) -> str:
    if len(names) == 1:
        return f"{names[0]}: {kind} cell of single operators, folded into one {kind} node with one time step"
    return (
        f"{names[0]}: {kind} cell of single operators with the same weights {len(names)} times, a loop unrolled over "
        f"time, folded step by step into {len(names)} {kind} nodes with one time step: {', '.join(names)}"
    )
