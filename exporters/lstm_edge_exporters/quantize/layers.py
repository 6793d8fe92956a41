"""The layers of a model: the only place that decides the kind of a node."""

from collections.abc import Iterator

import onnx_ir as ir

from lstm_edge_exporters.front_end.graph import is_front_end
from lstm_edge_exporters.functions import DOMAIN, parse_cell_name
from lstm_edge_exporters.quantize.dynamic import DYNAMIC_DOMAIN, DYNAMIC_LSTM, DynamicLstm
from lstm_edge_exporters.quantize.feedforward import Conv, Embedding, Linear, Lookup
from lstm_edge_exporters.quantize.gru import Gru
from lstm_edge_exporters.quantize.integer import IntegerLayer, is_integer_layer
from lstm_edge_exporters.quantize.layer import Reader
from lstm_edge_exporters.quantize.lstm import Lstm, OwnCell
from lstm_edge_exporters.quantize.recurrent import Recurrent
from lstm_edge_exporters.quantize.rnn import Rnn

__all__ = ["find_layers", "layers_in_functions"]

_RECURRENT: dict[str, type[Recurrent]] = {"LSTM": Lstm, "GRU": Gru, "RNN": Rnn}


def find_layers(model: ir.Model) -> tuple[Reader, ...]:
    """Return a reader for every layer that has a quantized form, in graph order, nested graphs included.

    The fixed weights of a front end are no layers: rounding them would hide what is quiet beside what is loud.
    """
    readers = (_recurrent(node) or _feedforward(node) for node in model.graph.all_nodes())
    return tuple(reader for reader in readers if reader is not None)


def layers_in_functions(model: ir.Model) -> Iterator[tuple[ir.Function, Recurrent]]:
    """Yield each recurrent layer inside a local function, with the function: nodes there cannot be rewritten."""
    for function in model.functions.values():
        for node in function.all_nodes():
            reader = _recurrent(node)
            if reader is not None:
                yield function, reader


def _recurrent(node: ir.Node) -> Recurrent | None:
    if node.domain == DOMAIN:
        variant = parse_cell_name(node.op_type)
        return None if variant is None or variant.storage != "float32" else OwnCell(node=node)
    if node.domain == DYNAMIC_DOMAIN:
        return DynamicLstm(node=node) if node.op_type == DYNAMIC_LSTM else None
    kind = _RECURRENT.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    return None if kind is None else kind(node=node)


def _feedforward(node: ir.Node) -> Reader | None:
    if node.domain not in ("", "ai.onnx"):
        return None
    if is_front_end(node):
        return None
    if is_integer_layer(node):
        return IntegerLayer(node=node)
    for kind in (Linear, Embedding, Lookup, Conv):
        if kind.takes(node):
            return kind(node=node)
    return None
