"""What one fused operator stores of a recurrent layer: matrices rounded in their schemes, and zero blocks left out."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from lstm_edge_exporters.functions import CellVariant, GruVariant, Storage, Variant
from lstm_edge_exporters.quantize.layer import Arrays, RecurrentLayer, Refusal
from lstm_edge_exporters.quantize.request import GATES, MATRICES, LayerRequest
from lstm_edge_exporters.quantize.rounding import MatrixRounder, round_columns
from lstm_edge_exporters.quantize.schemes import Scheme
from lstm_edge_exporters.quantize.zero_blocks import Sparse, ZeroBlocks, clear_blocks, count_blocks, pack_blocks
from lstm_edge_runtime.arrays import Array

__all__ = [
    "DIRECTION_NAMES",
    "FusedLayer",
    "decide",
    "fuse",
    "gates_of",
    "is_fused",
    "settled",
    "sparse_savings",
]

# What follows the layer's name in the names of its directions.
DIRECTION_NAMES = ("", "_reverse")
_INTEGERS = ("int8", "int4")


@dataclass(frozen=True, kw_only=True)
class FusedLayer:
    """A layer as its operators store it.

    Attributes:
        variant: the operator, the same for all directions.
        sides: for each direction the operator's constants by name.
        request: what each part became.
        density: the share of the blocks that is not zero, of the int8 matrices among ``W`` and ``R``.
        note: what the coverage table says beside the scheme.
    """

    variant: Variant
    sides: tuple[Arrays, ...]
    request: LayerRequest
    density: Mapping[str, float]
    note: str


def is_fused(request: LayerRequest) -> bool:
    """Say whether one operator has what is asked: W and R whole, in int8 or int4, other matrices as R."""
    schemes = [request.whole(matrix) for matrix in MATRICES]
    if any(scheme is None or scheme.kind not in _INTEGERS for scheme in schemes):
        return False
    return not request.others or schemes[1] is None or request.scheme.kind == schemes[1].kind


def fuse(
    path: str, layer: RecurrentLayer, request: LayerRequest, rounder: MatrixRounder, *, sparse: Sparse
) -> FusedLayer:
    """Round the matrices of a layer, and decide for its W and R apart whether zero blocks are left out.

    Args:
        path: the layer's name; the rounder gets ``{path}.w``, ``{path}_reverse.w`` and so on.
        layer: the layer.
        request: for which ``is_fused`` holds.
        rounder: rounds what is not carried over.
        sparse: what is done with zero blocks where the request leaves that open.

    Raises:
        Refusal: sparse weights are requested of a matrix that they would make larger.
        QuantizationError: a weight holds NaN or infinity.
    """
    schemes = {matrix.lower(): request.whole(matrix) or request.scheme for matrix in MATRICES}
    sides = []
    for side, name in zip(range(len(layer.sides)), DIRECTION_NAMES, strict=False):
        # Zero blocks are found in what a rounder gives, so it rounds for dense matrices.
        dense = {m: replace(schemes.get(m, request.scheme), sparse=False) for m in layer.sides[side]}
        sides.append(_rounded(f"{path}{name}", layer, side, dense, rounder))
    gates = gates_of(layer.variant)
    found = {
        name: count_blocks([arrays[name] for arrays in sides], gates=gates)
        for name, scheme in schemes.items()
        if scheme.kind == "int8"
    }
    schemes |= {name: _decided(name.upper(), schemes[name], blocks, sparse) for name, blocks in found.items()}
    variant = replace(layer.variant, storage=_storage(schemes["r"]), w_storage=_storage(schemes["w"]))
    packed = [_packed(arrays, schemes, gates) for arrays in sides]
    return FusedLayer(
        variant=variant,
        sides=tuple({name: arrays[name] for name in variant.weights} for arrays in packed),
        request=settled(request, schemes, others=sum(map(layer.variant.is_quantized, layer.sides[0])) > len(schemes)),
        density={name.upper(): round(blocks.density, 6) for name, blocks in found.items()},
        note=_note(layer, schemes),
    )


def sparse_savings(layer: RecurrentLayer) -> dict[str, int]:
    """Return by ``W`` and ``R`` the bytes that sparse int8 weights take less than dense ones, rounded to nearest.

    Raises:
        QuantizationError: a weight holds NaN or infinity.
    """
    savings = {}
    for matrix in MATRICES:
        name = matrix.lower()
        rounded = [
            layer.carried[side][name] if layer.carried else round_columns(name, arrays[name])[0]
            for side, arrays in enumerate(layer.sides)
        ]
        blocks = count_blocks(rounded, gates=gates_of(layer.variant))
        if blocks.is_smaller:
            savings[matrix] = blocks.dense_bytes - blocks.sparse_bytes
    return savings


def _rounded(
    path: str, layer: RecurrentLayer, side: int, schemes: Mapping[str, Scheme], rounder: MatrixRounder
) -> dict[str, Array]:
    """The constants of one direction by name, matrices with their scales."""
    rounded: dict[str, Array] = {}
    for name, array in layer.sides[side].items():
        if not layer.variant.is_quantized(name):
            rounded[name] = array.astype(np.float32)
        elif layer.carried and schemes[name].kind == "int8":
            rounded |= {f"{name}{suffix}": layer.carried[side][f"{name}{suffix}"] for suffix in ("", "_scale")}
        else:
            may_be_sparse = name in ("w", "r") and schemes[name].kind == "int8"
            cleared = clear_blocks(f"{path}.{name}", array, gates=gates_of(layer.variant)) if may_be_sparse else array
            parts = rounder(f"{path}.{name}", cleared, schemes[name])
            rounded |= {f"{name}{suffix}": part for suffix, part in parts.items()}
    return rounded


def gates_of(variant: Variant) -> int:
    """Return how many gates the columns of W and R are of."""
    if isinstance(variant, CellVariant):
        return 4
    return 3 if isinstance(variant, GruVariant) else 1


def _decided(matrix: str, scheme: Scheme, blocks: ZeroBlocks, sparse: Sparse) -> Scheme:
    """The scheme of an int8 matrix with the decision on its zero blocks."""
    if scheme.sparse and not blocks.is_smaller:
        raise Refusal(
            f"{matrix} has density {blocks.density:.3f}: sparse weights would take {blocks.sparse_bytes:,} bytes, and "
            f"dense ones take {blocks.dense_bytes:,}"
        )
    return replace(scheme, sparse=scheme.sparse or decide(blocks, sparse))


def decide(blocks: ZeroBlocks, sparse: Sparse) -> bool:
    """Say whether zero blocks are left out where nothing else is requested."""
    return blocks.pays if sparse == "auto" else blocks.is_smaller and sparse != "off"


def _packed(arrays: Arrays, schemes: Mapping[str, Scheme], gates: int) -> dict[str, Array]:
    packed = dict(arrays)
    for name, scheme in schemes.items():
        if scheme.sparse:
            packed |= {f"{name}{suffix}": part for suffix, part in pack_blocks(arrays[name], gates=gates).items()}
    return packed


def _storage(scheme: Scheme) -> Storage:
    if scheme.kind == "int4":
        return "int4"
    return "sparse_int8" if scheme.sparse else "int8"


def settled(request: LayerRequest, schemes: Mapping[str, Scheme], *, others: bool) -> LayerRequest:
    """Return a request with what W and R became, by ``w`` and ``r``; ``others``: of an LSTM, stay dense."""
    rest = replace(request.scheme, sparse=False)
    if len({*schemes.values(), *([rest] if others else [])}) == 1:
        return replace(request, scheme=schemes["r"], gates={}, others=others)
    gates = {f"{matrix}.{gate}": schemes[matrix.lower()] for matrix, gate in product(MATRICES, GATES)}
    return replace(request, scheme=rest, gates=gates, others=others)


def _note(layer: RecurrentLayer, schemes: Mapping[str, Scheme]) -> str:
    """What became of integers that the layer held before."""
    if layer.inexact is None:
        return ""
    four = [name.upper() for name, scheme in schemes.items() if scheme.kind == "int4"]
    if not layer.carried:
        return f"dequantized and rounded anew, because of {'four bits' if four else layer.inexact}"
    if not four:
        return "weights and scales carried over exactly"
    if len(four) == len(schemes):
        return "dequantized and rounded anew, because of four bits"
    return f"{four[0]} dequantized and rounded anew, because of four bits; the rest carried over exactly"
