"""Rewrites every layer of a model as requested and returns a row of the coverage table for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.liveness import live_nodes
from lstm_edge_exporters.onnx_graph.names import unique_names
from lstm_edge_exporters.quantize.emit import emit
from lstm_edge_exporters.quantize.feedforward import Lookup
from lstm_edge_exporters.quantize.float32 import fuse
from lstm_edge_exporters.quantize.layer import Reader, Refusal
from lstm_edge_exporters.quantize.layers import layers_in_functions
from lstm_edge_exporters.quantize.request import LayerRequest
from lstm_edge_exporters.quantize.rounding import MatrixRounder
from lstm_edge_exporters.quantize.schemes import SPARSE_INT8, Scheme
from lstm_edge_exporters.quantize.tied import Tied, find_tied
from lstm_edge_exporters.quantize.zero_blocks import Sparse
from lstm_edge_runtime.card import Coverage
from lstm_edge_runtime.errors import CoverageError, QuantizationError

__all__ = ["Row", "check_rows", "refuse_dense", "rewrite"]

FLOAT32 = Scheme(kind="float32")


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of one layer: coverage, parts as compact texts, whether that was refused, whether a part named it.

    ``density``: of a recurrent layer's int8 matrices, by ``W`` and ``R``; ``fused``: it calls a float32 operator that
    has a kernel.
    """

    coverage: Coverage
    parts: Mapping[str, str]
    recurrent: bool
    refused: bool = False
    named: bool = False
    density: Mapping[str, float] = field(default_factory=dict)
    fused: bool = False


def rewrite(
    model: ir.Model,
    readers: Sequence[Reader],
    requests: Sequence[LayerRequest],
    rounder: MatrixRounder,
    *,
    default: Scheme,
    sparse: Sparse = "auto",
) -> tuple[Row, ...]:
    """Quantize layers in place.

    Args:
        model: the model.
        readers: what ``find_layers`` found in it.
        requests: one for each layer.
        rounder: rounds the matrices of recurrent and linear layers.
        default: what a recurrent layer becomes that no part names.
        sparse: what is done with zero blocks of recurrent layers.

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
            _rewrite_layer(reader, request, rounder, tied.get(reader), sparse)
            if reader.node in live
            else _row_of_dead(reader, request)
            for reader, request in pairs
            if (request.named or _has_row(reader, request)) and not request.scheme.static
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
        refused = default != FLOAT32 or any(request.fused for request in requests)
        rows.append(Row(coverage=coverage, parts={}, recurrent=True, refused=refused))
    return tuple(rows)


def check_rows(rows: Sequence[Row], *, allow_unquantized: bool, sparse: Sparse = "auto") -> None:
    """Refuse a model in which a recurrent layer, or one that the request names, is not what was asked.

    Raises:
        QuantizationError: there is nothing to quantize, or sparse weights are required of a model without a recurrent
            layer.
        CoverageError: a layer stayed as it was and ``allow_unquantized`` is False, or sparse weights are required and a
            recurrent layer has none.
    """
    if not rows:
        raise QuantizationError("the model has no float32 recurrent, linear or embedding layer: nothing to quantize")
    stayed = [row.coverage for row in rows if row.refused and (row.named or row.recurrent)]
    if stayed and not allow_unquantized:
        reasons = "; ".join(f"{row.layer} ({row.operator}) stays {row.scheme}" for row in stayed)
        raise CoverageError(f"{reasons}. Nothing was written; --allow-unquantized accepts that")
    if not any(row.refused or row.fused or set(row.parts.values()) - {FLOAT32.text} for row in rows):
        raise QuantizationError("the request leaves every layer float32: nothing to quantize")
    if sparse == "required":
        _check_sparse(rows)


def _check_sparse(rows: Sequence[Row]) -> None:
    """Refuse a model in which a recurrent layer has no sparse matrix; the message has the density of each matrix."""
    recurrent = [row for row in rows if row.recurrent]
    if not recurrent:
        raise QuantizationError("sparse weights are required, and the model has no recurrent layer")
    dense = [row for row in recurrent if SPARSE_INT8.text not in row.parts.values()]
    found = []
    for row in dense:
        densities = ", ".join(f"{matrix} has density {share:.3f}" for matrix, share in row.density.items())
        found.append(f"{row.coverage.layer} ({densities or row.coverage.scheme})")
    refuse_dense(found)


def refuse_dense(layers: Sequence[str]) -> None:
    """Refuse recurrent layers, each with its densities, that have no sparse matrix where that is required.

    Raises:
        CoverageError: there are some.
    """
    if layers:
        raise CoverageError(
            f"sparse weights are required of every recurrent layer, and would not be smaller in {'; '.join(layers)}. "
            "Nothing was written; prune blocks of 16 cells by 4 inputs to zero, or let --sparse auto decide"
        )


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


def _rewrite_layer(
    reader: Reader, request: LayerRequest, rounder: MatrixRounder, tied: Tied | None, sparse: Sparse
) -> Row:
    text, parts, refused, fused = reader.left, {reader.name: FLOAT32.text}, False, False
    operator = reader.operator
    before = after = reader.size_bytes
    density: Mapping[str, float] = {}
    if request.reason:
        text = f"{reader.left}: {request.reason}"
        before = after = reader.input_bytes
    elif request.fused or request.gates or request.scheme != FLOAT32:
        bare = reader.input_bytes
        try:
            made = fuse(reader) if request.fused else emit(reader, request, rounder, tied, sparse=sparse)
            before, after, note, became, density = made
            became, fused = became or request, request.fused
            text, parts = f"{became}: {note}" if note else str(became), became.texts(reader.name)
        except Refusal as refusal:
            text, before, after, refused = f"{reader.left}: {refusal}", bare, bare, True
    return Row(
        coverage=Coverage(
            layer=reader.name,
            operator=operator,
            scheme=text,
            bytes_before=before,
            bytes_after=after,
            density=density if min(density.values(), default=1.0) < 1.0 else {},
        ),
        parts=parts,
        recurrent=reader.kind == "recurrent",
        refused=refused,
        named=request.named,
        density=density,
        fused=fused,
    )
