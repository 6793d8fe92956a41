"""Rewrites every layer of a model as requested and returns a row of the coverage table for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.liveness import live_nodes
from lstm_edge_exporters.onnx_graph.names import unique_names
from lstm_edge_exporters.quantize.emit import emit
from lstm_edge_exporters.quantize.feedforward import Lookup
from lstm_edge_exporters.quantize.layer import Reader, Refusal
from lstm_edge_exporters.quantize.layers import layers_in_functions
from lstm_edge_exporters.quantize.request import LayerRequest
from lstm_edge_exporters.quantize.rounding import MatrixRounder
from lstm_edge_exporters.quantize.schemes import Scheme
from lstm_edge_exporters.quantize.tied import Tied, find_tied
from lstm_edge_runtime.card import Coverage
from lstm_edge_runtime.errors import CoverageError, QuantizationError

__all__ = ["Row", "check_rows", "rewrite"]

FLOAT32 = Scheme(kind="float32")


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of one layer: coverage, parts as compact texts, whether that was refused, whether a part named it."""

    coverage: Coverage
    parts: Mapping[str, str]
    recurrent: bool
    refused: bool = False
    named: bool = False


def rewrite(
    model: ir.Model,
    readers: Sequence[Reader],
    requests: Sequence[LayerRequest],
    rounder: MatrixRounder,
    *,
    default: Scheme,
) -> tuple[Row, ...]:
    """Quantize layers in place.

    Args:
        model: the model.
        readers: what ``find_layers`` found in it.
        requests: one for each layer.
        rounder: rounds the matrices of recurrent and linear layers.
        default: what a recurrent layer becomes that no part names.

    Returns:
        A row for each layer, in graph order, and for each recurrent one inside a local function, which stays as it is.
        A convolution and a table that only float16 stores have none where they stay float32 without being named.

    Raises:
        QuantizationError: a weight holds NaN or infinity.
    """
    pairs = list(zip(readers, requests, strict=True))
    live = live_nodes(model)
    tied = find_tied(pair for pair in pairs if pair[0].node in live)
    with unique_names(model):
        rows = [
            _rewrite_layer(reader, request, rounder, tied.get(reader))
            if reader.node in live
            else _row_of_dead(reader, request)
            for reader, request in pairs
            if request.named or _has_row(reader, request)
        ]
    for function, reader in layers_in_functions(model):
        reason = f"{reader.left}: it stands inside a local function"
        coverage = Coverage(
            layer=f"{function.name}/{reader.node.name}",
            operator=reader.node.op_type,
            scheme=reason,
            bytes_before=0,
            bytes_after=0,
        )
        rows.append(Row(coverage=coverage, parts={}, recurrent=True, refused=default != FLOAT32))
    return tuple(rows)


def check_rows(rows: Sequence[Row], *, allow_unquantized: bool) -> None:
    """Refuse a model in which a recurrent layer, or one that the request names, is not what was asked.

    Raises:
        QuantizationError: there is nothing to quantize.
        CoverageError: a layer stayed as it was and ``allow_unquantized`` is False.
    """
    if not rows:
        raise QuantizationError("the model has no float32 recurrent, linear or embedding layer: nothing to quantize")
    stayed = [row.coverage for row in rows if row.refused and (row.named or row.recurrent)]
    if stayed and not allow_unquantized:
        reasons = "; ".join(f"{row.layer} ({row.operator}) stays {row.scheme}" for row in stayed)
        raise CoverageError(f"{reasons}. Nothing was written; --allow-unquantized accepts that")
    if not any(row.refused or set(row.parts.values()) - {FLOAT32.text} for row in rows):
        raise QuantizationError("the request leaves every layer float32: nothing to quantize")


def _has_row(reader: Reader, request: LayerRequest) -> bool:
    return reader.kind != "convolution" and (not isinstance(reader, Lookup) or request.scheme in reader.schemes())


def _row_of_dead(reader: Reader, request: LayerRequest) -> Row:
    """A layer whose numbers reach no output is not quantized, whatever was asked, and does not count as covered."""
    size = reader.input_bytes
    text = f"{reader.left}: no output depends on its numbers"
    return Row(
        coverage=Coverage(
            layer=reader.name, operator=reader.operator, scheme=text, bytes_before=size, bytes_after=size
        ),
        parts={reader.name: FLOAT32.text},
        recurrent=False,
        refused=True,
        named=request.named,
    )


def _rewrite_layer(reader: Reader, request: LayerRequest, rounder: MatrixRounder, tied: Tied | None) -> Row:
    text, parts, refused = reader.left, {reader.name: FLOAT32.text}, False
    before = after = reader.size_bytes
    if request.reason:
        text = f"{reader.left}: {request.reason}"
        before = after = reader.input_bytes
    elif request.gates or request.scheme != FLOAT32:
        bare = reader.input_bytes
        try:
            before, after, note = emit(reader, request, rounder, tied)
            text, parts = f"{request}: {note}" if note else str(request), request.texts(reader.name)
        except Refusal as refusal:
            text, before, after, refused = f"{reader.left}: {refusal}", bare, bare, True
    return Row(
        coverage=Coverage(
            layer=reader.name, operator=reader.operator, scheme=text, bytes_before=before, bytes_after=after
        ),
        parts=parts,
        recurrent=reader.kind == "recurrent",
        refused=refused,
        named=request.named,
    )
