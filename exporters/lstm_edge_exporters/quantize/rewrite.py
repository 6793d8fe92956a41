"""Every layer of a model to what a request says of it, and a row of the coverage table for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from lstm_edge_exporters.functions import DOMAIN
from lstm_edge_exporters.onnx_graph.names import unique_names
from lstm_edge_exporters.quantize.convolution import quantize_convolution
from lstm_edge_exporters.quantize.dense import quantize_embedding, quantize_linear
from lstm_edge_exporters.quantize.nodes import Outcome, Refusal
from lstm_edge_exporters.quantize.parts import FoundLayer, layer_bytes
from lstm_edge_exporters.quantize.recurrent import (
    constant_bytes,
    is_recurrent,
    is_recurrent_operator,
    quantize_recurrent,
)
from lstm_edge_exporters.quantize.request import LayerRequest
from lstm_edge_exporters.quantize.rounding import MatrixRounder
from lstm_edge_exporters.quantize.schemes import Scheme
from lstm_edge_runtime.card import Coverage
from lstm_edge_runtime.errors import CoverageError, QuantizationError

__all__ = ["Row", "check_rows", "rewrite"]

FLOAT32 = Scheme(kind="float32")


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of one layer: coverage, parts as compact texts, whether that was refused, whether a part named it."""

    coverage: Coverage
    parts: Mapping[str, str]
    refused: bool = False
    named: bool = False


def rewrite(
    model: ir.Model,
    layers: Sequence[FoundLayer],
    requests: Sequence[LayerRequest],
    rounder: MatrixRounder,
    *,
    default: Scheme,
) -> tuple[Row, ...]:
    """Quantize layers in place.

    Args:
        model: the model.
        layers: what ``find_layers`` found in it.
        requests: one for each layer.
        rounder: rounds the matrices of recurrent and linear layers.
        default: what a recurrent layer becomes that no part names.

    Returns:
        A row for each layer, in graph order, and for each recurrent one inside a local function, which stays as it is.
        A convolution that stays float32 without being named has none.

    Raises:
        QuantizationError: a weight holds NaN or infinity.
    """
    pairs = zip(layers, requests, strict=True)
    with unique_names(model):
        rows = [
            _rewrite_layer(layer, request, rounder)
            for layer, request in pairs
            if layer.kind != "convolution" or request.named
        ]
    for function in model.functions.values():
        for node in function.all_nodes():
            if is_recurrent(node):
                reason = f"{_left(node)}: it stands inside a local function"
                coverage = _coverage(f"{function.name}/{node.name}", node.op_type, reason, 0, 0)
                rows.append(Row(coverage=coverage, parts={}, refused=default != FLOAT32))
    return tuple(rows)


def check_rows(rows: Sequence[Row], *, allow_unquantized: bool) -> None:
    """Refuse a model in which a recurrent layer, or one that the request names, is not what was asked.

    Raises:
        QuantizationError: there is nothing to quantize.
        CoverageError: a layer stayed as it was and ``allow_unquantized`` is False.
    """
    if not rows:
        raise QuantizationError("the model has no float32 recurrent, linear or embedding layer: nothing to quantize")
    stayed = [
        row.coverage for row in rows if row.refused and (row.named or is_recurrent_operator(row.coverage.operator))
    ]
    if stayed and not allow_unquantized:
        reasons = "; ".join(f"{row.layer} ({row.operator}) stays {row.scheme}" for row in stayed)
        raise CoverageError(f"{reasons}. Nothing was written; --allow-unquantized accepts that")
    if not any(row.refused or set(row.parts.values()) - {FLOAT32.text} for row in rows):
        raise QuantizationError("every layer is to stay float32: nothing to quantize")


def _rewrite_layer(layer: FoundLayer, request: LayerRequest, rounder: MatrixRounder) -> Row:
    node, operator = layer.node, layer.operator
    size = layer_bytes(layer)
    if request.reason:
        # As ever: the bias of a MatMul, which stands in an Add of its own, is not counted.
        bare = constant_bytes(node)
        coverage = _coverage(layer.name, operator, f"{_left(node)}: {request.reason}", bare, bare)
        return Row(coverage=coverage, parts={layer.name: FLOAT32.text})
    if not request.gates and request.scheme == FLOAT32:
        coverage = _coverage(layer.name, operator, _left(node), size, size)
        return Row(coverage=coverage, parts={layer.name: FLOAT32.text})
    try:
        before, after, note = _quantize(layer, request, rounder)
    except Refusal as refusal:
        bare = constant_bytes(node)
        coverage = _coverage(layer.name, operator, f"{_left(node)}: {refusal}", bare, bare)
        return Row(coverage=coverage, parts={layer.name: FLOAT32.text}, refused=True, named=request.named)
    coverage = _coverage(layer.name, operator, f"{request}: {note}" if note else str(request), before, after)
    return Row(coverage=coverage, parts=request.texts(layer.name))


def _quantize(layer: FoundLayer, request: LayerRequest, rounder: MatrixRounder) -> Outcome:
    if layer.kind == "recurrent":
        return quantize_recurrent(layer.node, request, rounder)
    if layer.kind == "linear":
        return quantize_linear(layer.node, request.scheme, rounder)
    if layer.kind == "embedding":
        return quantize_embedding(layer.node, request.scheme)
    return quantize_convolution(layer.node, request.scheme)


def _left(node: ir.Node) -> str:
    """What a layer is that was not quantized; ``DynamicQuantizeLSTM`` was int8 before."""
    return FLOAT32.text if node.domain in ("", "ai.onnx", DOMAIN) else "as it is"


def _coverage(layer: str, operator: str, scheme: str, before: int, after: int) -> Coverage:
    return Coverage(layer=layer, operator=operator, scheme=scheme, bytes_before=before, bytes_after=after)
