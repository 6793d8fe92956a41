"""Zero blocks of a file that is quantized already: its int8 weights stay as they are, without those blocks.

Nothing is rounded again, so every answer stays the same to the bit, and so does what the card says of the file but for
storage: the operators, schemes, bytes and densities.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from lstm_edge_exporters.functions import (
    DOMAIN,
    CellVariant,
    Variant,
    parse_cell_name,
    parse_gru_name,
    parse_rnn_name,
)
from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.edit import add_node, add_shared, owner, replace_node
from lstm_edge_exporters.onnx_graph.names import unique_names
from lstm_edge_exporters.quantize.fused import decide, gates_of, settled
from lstm_edge_exporters.quantize.request import MATRICES, LayerRequest
from lstm_edge_exporters.quantize.rewrite import refuse_dense
from lstm_edge_exporters.quantize.schemes import SPARSE_INT8, Scheme
from lstm_edge_exporters.quantize.zero_blocks import Sparse, ZeroBlocks, count_blocks, pack_blocks
from lstm_edge_runtime.card import Coverage, Quantization, stored_scheme

__all__ = ["leave_out_zero_blocks"]


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """One direction of a layer: its node, and the operator."""

    node: ir.Node
    variant: Variant

    def input(self, name: str) -> ir.Value | None:
        """Return an input by the operator's name for it."""
        return self.node.inputs[self.variant.inputs.index(name)]


def leave_out_zero_blocks(model: ir.Model, quantization: Quantization, sparse: Sparse) -> Quantization | None:
    """Store int8 matrices W and R of a quantized model without their zero blocks, in place.

    Args:
        model: the model.
        quantization: what its card says.
        sparse: what is done with zero blocks.

    Returns:
        What the new card says, or None if no matrix becomes sparse; the model is as it was then.

    Raises:
        CoverageError: sparse weights are required, and a recurrent layer has none.
    """
    rows = {row.layer.lower(): row for row in quantization.coverage}
    changed: dict[str, tuple[Coverage, Mapping[str, str]]] = {}
    names: list[tuple[ir.Node, str]] = []
    dense = []
    with unique_names(model):
        for title, cells in _layers(model).items():
            row, found = rows.get(title.lower()), _blocks(cells)
            chosen = [name for name, blocks in found.items() if decide(blocks, sparse)] if row is not None else []
            if not chosen and not _is_sparse(cells):
                shares = ", ".join(f"{name.upper()} has density {b.density:.3f}" for name, b in found.items())
                dense.append(f"{title} ({shares or cells[0].node.op_type})")
            if row is None or not chosen:
                continue
            saved = sum(found[name].dense_bytes - found[name].sparse_bytes for name in chosen)
            request = _became(row.layer, quantization.parts, cells[0].variant, chosen)
            density = {name.upper(): round(blocks.density, 6) for name, blocks in found.items()}
            after = replace(
                row, scheme=str(request), bytes_after=row.bytes_after - saved, density={**row.density, **density}
            )
            changed[row.layer] = after, request.texts(row.layer)
            names += [_rewrite(cell, chosen) for cell in cells]
    if sparse == "required":
        refuse_dense(dense)
    for node, name in names:
        node.name = name
    if not changed:
        return None
    parts = {part: text for part, text in quantization.parts.items() if _owner(part, changed) is None}
    return replace(
        quantization,
        coverage=tuple(changed[row.layer][0] if row.layer in changed else row for row in quantization.coverage),
        parts=parts | {part: text for _, texts in changed.values() for part, text in texts.items()},
    )


def _layers(model: ir.Model) -> dict[str, list[_Cell]]:
    """The cells of each layer: its directions, and its calls, by the layer's name."""
    found: dict[str, list[_Cell]] = {}
    for node in model.graph.all_nodes():
        names = (parse_cell_name, parse_gru_name, parse_rnn_name) if node.domain == DOMAIN else ()
        variant = next((variant for parse in names if (variant := parse(node.op_type)) is not None), None)
        if variant is not None and isinstance(node.graph, ir.Graph):
            title = (node.name or node.op_type).rpartition("/")[0].removesuffix("_reverse")
            found.setdefault(title, []).append(_Cell(node=node, variant=variant))
    return found


def _blocks(cells: Sequence[_Cell]) -> dict[str, ZeroBlocks]:
    """The blocks of the dense int8 matrices among W and R that all cells of a layer have."""
    found = {}
    for name in (matrix.lower() for matrix in MATRICES):
        matrices = [constant_of(cell.input(name)) for cell in cells if cell.variant.storage_of(name) == "int8"]
        arrays = [matrix for matrix in matrices if matrix is not None]
        if len(arrays) == len(cells):
            found[name] = count_blocks(arrays, gates=gates_of(cells[0].variant))
    return found


def _is_sparse(cells: Sequence[_Cell]) -> bool:
    return any(cell.variant.storage_of(name) == "sparse_int8" for cell in cells for name in ("w", "r"))


def _became(layer: str, parts: Mapping[str, str], variant: Variant, chosen: Sequence[str]) -> LayerRequest:
    """The layer's schemes by the card's parts, with the matrices that became sparse."""
    whole = Scheme.parse(stored_scheme(parts.get(layer, "int8")))
    texts = {matrix: parts.get(f"{layer}.{matrix}") for matrix in MATRICES}
    schemes = {m.lower(): whole if text is None else Scheme.parse(stored_scheme(text)) for m, text in texts.items()}
    others = isinstance(variant, CellVariant) and (variant.projected or variant.peephole == "full")
    return settled(LayerRequest(scheme=whole), schemes | dict.fromkeys(chosen, SPARSE_INT8), others=others)


def _rewrite(cell: _Cell, chosen: Sequence[str]) -> tuple[ir.Node, str]:
    """Replace a node by one whose chosen matrices are sparse; returns it with the name that it shall have."""
    node, variant, name = cell.node, cell.variant, str(cell.node.name)
    storages = {m: "sparse_int8" if m in chosen else variant.storage_of(m) for m in ("w", "r")}
    new = replace(variant, storage=storages["r"], w_storage=storages["w"])
    values = dict(zip(variant.inputs, node.inputs, strict=True))
    for matrix in chosen:
        array = constant_of(values[matrix])
        assert array is not None
        for suffix, part in pack_blocks(array, gates=gates_of(variant)).items():
            values[f"{matrix}{suffix}"] = add_shared(owner(node), f"{name.replace('/', '.')}.{matrix}{suffix}", part)
    outputs = ("y", "h_out", "c_out")[: len(node.outputs)]
    inputs = [values[key] for key in new.inputs]
    results = add_node(node, new.name, inputs, domain=DOMAIN, outputs=outputs, name=f"{name}/sparse")
    made = results[0].producer()
    assert made is not None
    replace_node(node, results)
    return made, name


def _owner(part: str, layers: Mapping[str, object]) -> str | None:
    """The layer among some that a part belongs to."""
    return next((name for name in layers if part == name or part in (f"{name}.W", f"{name}.R")), None)
