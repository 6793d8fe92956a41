"""LSTM layers whose matrices or gates have different schemes: the cell's equations with a product for each part.

No operator has W and R, or the gates, in different schemes. Such a layer is written as the body of the float32 operator
(docs/operators.md: the input's products over the whole sequence, then a ``Scan`` over time) in which each product is
one for each group of columns that has one scheme, by ``LinearInt8V1``, ``LinearInt4V1`` or ``MatMul``. So every part
has the arithmetic of the fused operators, and what they promise about states, lengths, rows and chunks is kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.functions import DOMAIN, LINEAR_INT4, LINEAR_INT8, CellVariant, function_for
from lstm_edge_exporters.onnx_graph.edit import add_constant, add_node, add_shared, insert_body, owner, replace_node
from lstm_edge_exporters.onnx_graph.names import root_of, unique_name
from lstm_edge_exporters.quantize.request import GATES, LayerRequest
from lstm_edge_exporters.quantize.rounding import MatrixRounder
from lstm_edge_exporters.quantize.schemes import Scheme
from lstm_edge_exporters.quantize.storage import float16_value, to_float16
from lstm_edge_runtime.arrays import Array

__all__ = ["MixedCell", "Piece", "add_mixed", "mixed_bytes", "round_mixed"]


# Zero biases of a graph, by width.
_ZEROS = "lstm_edge.zeros"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Columns of a matrix that have one scheme.

    ``gates``: whose columns, in the operators' order; none for all columns of a matrix that is not split by gates.
    ``arrays``: what stores them: ``w`` [K, N] with ``w_scale`` and ``w_zero`` as the linear operators take them.
    """

    scheme: Scheme
    gates: tuple[str, ...]
    arrays: Mapping[str, Array]

    @property
    def columns(self) -> int:
        """N; of four bits, which are packed in pairs, by their scales."""
        return int(self.arrays["w_scale" if "w_scale" in self.arrays else "w"].shape[-1])


@dataclass(frozen=True, kw_only=True)
class MixedCell:
    """One direction of a layer: the float32 operator, its matrices in pieces, its other constants in float32."""

    variant: CellVariant
    pieces: Mapping[str, tuple[Piece, ...]]
    constants: Mapping[str, Array]


def round_mixed(
    path: str, variant: CellVariant, arrays: Mapping[str, Array], request: LayerRequest, rounder: MatrixRounder
) -> MixedCell:
    """Round the matrices of one direction in pieces.

    Args:
        path: the layer's name, with ``_reverse`` for its second direction; the rounder gets ``{path}.w`` and so on.
        variant: the float32 operator.
        arrays: its constants.
        request: what each part becomes.
        rounder: rounds what is int8 or int4.

    Raises:
        Refusal: a value is beyond float16's range.
        QuantizationError: a weight holds NaN or infinity.
    """
    pieces = {}
    for name in (name for name in variant.weights if variant.is_quantized(name)):
        groups = request.groups(name.upper()) if name in ("w", "r") else {request.scheme: ()}
        pieces[name] = tuple(
            Piece(scheme=scheme, gates=gates, arrays=_round(f"{path}.{name}", arrays[name], scheme, gates, rounder))
            for scheme, gates in groups.items()
        )
    constants = {name: array for name, array in arrays.items() if not variant.is_quantized(name)}
    return MixedCell(variant=variant, pieces=pieces, constants=constants)


def _round(name: str, matrix: Array, scheme: Scheme, gates: Sequence[str], rounder: MatrixRounder) -> dict[str, Array]:
    if gates:
        columns = np.split(matrix, len(GATES), axis=1)
        matrix = np.concatenate([columns[GATES.index(gate)] for gate in gates], axis=1)
    matrix = np.ascontiguousarray(matrix, np.float32)
    if scheme.kind == "float32":
        return {"w": matrix}
    if scheme.kind == "float16":
        return {"w": to_float16(name, matrix)}
    return {f"w{suffix}": array for suffix, array in rounder(name, matrix, scheme).items()}


def mixed_bytes(cells: Sequence[MixedCell]) -> int:
    """Return the bytes of the constants of all directions; zero biases of one width are stored once a graph."""
    pieces = [piece for cell in cells for found in cell.pieces.values() for piece in found]
    arrays = [array for piece in pieces for array in piece.arrays.values()]
    arrays += [array for cell in cells for array in cell.constants.values()]
    # The input's products are outside the Scan, for both directions in one graph; all others are in each Scan's body.
    outside = {width for cell in cells for width in _zero_widths(cell, ["w"])}
    inside = [width for cell in cells for width in _zero_widths(cell, [name for name in cell.pieces if name != "w"])]
    return sum(array.nbytes for array in arrays) + 4 * (sum(outside) + sum(inside))


def _zero_widths(cell: MixedCell, matrices: Sequence[str]) -> set[int]:
    """The widths of the zero biases that the pieces of matrices need."""
    pieces = [piece for name in matrices for piece in cell.pieces[name]]
    return {piece.columns for piece in pieces if "w_scale" in piece.arrays}


def add_mixed(before: ir.Node, path: str, cell: MixedCell, moving: Sequence[ir.Value | None]) -> tuple[ir.Value, ...]:
    """Add one direction in front of a node.

    Args:
        before: the node.
        path: as for ``round_mixed``; names begin with it.
        cell: what ``round_mixed`` returned.
        moving: x, h, c, and the lengths where rows have some.

    Returns:
        y [T, B, P], h_out [1, B, P], c_out [1, B, H].
    """
    graph = owner(before)
    title = unique_name(graph, f"{path}/mixed")
    function = function_for(cell.variant.name, root_of(graph).opset_imports.get("", 18))
    inputs, outputs = insert_body(before, function, title)
    formals = dict(zip(cell.variant.inputs, inputs, strict=True))
    constants = {name: add_shared(graph, f"{path}.mixed.{name}", array) for name, array in cell.constants.items()}
    for name, value in (*zip(cell.variant.inputs, moving, strict=False), *constants.items()):
        assert value is not None
        ir.convenience.replace_all_uses_with(formals[name], value)
    for name, pieces in cell.pieces.items():
        for product, _ in list(formals[name].uses()):
            _split_product(product, f"{path}.mixed.{name}", pieces)
    return outputs


def _split_product(product: ir.Node, path: str, pieces: Sequence[Piece]) -> None:
    """Replace ``MatMul(source, matrix)`` by a product for each piece, put together in the order of the gates."""
    source = product.inputs[0]
    results = [_multiply(product, source, f"{path}{n or ''}", piece) for n, piece in enumerate(pieces)]
    if len(pieces) == 1:
        replace_node(product, results)
        return
    columns: dict[str, ir.Value] = {}
    for piece, result in zip(pieces, results, strict=True):
        count = len(piece.gates)
        parts: Sequence[ir.Value] = [result]
        if count > 1:
            attributes = {"axis": -1, "num_outputs": count}
            parts = add_node(product, "Split", [result], attributes=attributes, outputs=piece.gates)
        columns |= dict(zip(piece.gates, parts, strict=True))
    joined = add_node(product, "Concat", [columns[gate] for gate in GATES], attributes={"axis": -1})
    replace_node(product, joined)


def _multiply(before: ir.Node, source: ir.Value | None, path: str, piece: Piece) -> ir.Value:
    """One product; its constants stand in the graph that contains it.

    In a Scan's body onnxruntime (1.18) does not tell a kernel that a value from outside is constant.
    """
    kind, graph = piece.scheme.kind, owner(before)
    if kind == "float16":
        weight = float16_value(before, f"{path}.{kind}.w", piece.arrays["w"])
        return add_node(before, "MatMul", [source, weight])[0]
    values = [add_shared(graph, f"{path}.{kind}.{key}", array) for key, array in piece.arrays.items()]
    if kind == "float32":
        return add_node(before, "MatMul", [source, *values])[0]
    operator = LINEAR_INT8 if kind == "int8" else LINEAR_INT4
    inputs = [source, *values, _zeros(graph, piece.columns)]
    return add_node(before, operator, inputs, domain=DOMAIN, outputs=("y",))[0]


def _zeros(graph: ir.Graph, width: int) -> ir.Value:
    """The bias of a linear operator that has none: the cell adds its own to the input's products."""
    made: dict[int, ir.Value] = graph.meta.setdefault(_ZEROS, {})
    if width not in made:
        made[width] = add_constant(graph, f"zeros.{width}", np.zeros(width, np.float32))
    return made[width]
