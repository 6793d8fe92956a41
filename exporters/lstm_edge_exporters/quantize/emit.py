"""A layer that was read, written into its graph in the scheme that was asked for."""

import numpy as np

from lstm_edge_exporters.functions import DOMAIN, LINEAR_INT4, LINEAR_INT8
from lstm_edge_exporters.onnx_graph.edit import add_constant, add_node, add_shared, owner, remove_node, replace_node
from lstm_edge_exporters.onnx_graph.nodes import attribute_of
from lstm_edge_exporters.quantize.emit_recurrent import emit_recurrent
from lstm_edge_exporters.quantize.layer import Outcome, Reader, RecurrentLayer, Refusal, WeightLayer
from lstm_edge_exporters.quantize.recurrent import Recurrent
from lstm_edge_exporters.quantize.request import MATRICES, LayerRequest
from lstm_edge_exporters.quantize.rounding import MatrixRounder, Scheme
from lstm_edge_exporters.quantize.storage import float16_inputs, round_table, to_float16, unpacked_rows
from lstm_edge_exporters.quantize.tied import Tied
from lstm_edge_exporters.quantize.zero_blocks import Sparse

__all__ = ["emit"]


def emit(
    reader: Reader,
    request: LayerRequest,
    rounder: MatrixRounder,
    tied: Tied | None = None,
    *,
    sparse: Sparse = "auto",
) -> Outcome:
    """Read a layer and put in its place, or store in its inputs, what a request asks for.

    Args:
        reader: of the layer.
        request: other than to leave the layer as it is.
        rounder: rounds the matrices of recurrent and linear layers.
        tied: the stored matrix that the layer shares with others, or None.
        sparse: what is done with zero blocks of recurrent layers where the request leaves that open.

    Returns:
        Bytes before and after, and what the coverage table says beside the scheme.

    Raises:
        Refusal: the layer has no such form; the graph is as it was.
        QuantizationError: a weight holds NaN or infinity.
    """
    halves = _halves(reader, request)
    if halves:
        return float16_inputs(reader, halves) if tied is None else tied.half_input(reader)
    layer = reader.read()
    if isinstance(layer, RecurrentLayer):
        assert isinstance(reader, Recurrent)
        return emit_recurrent(reader, layer, request, rounder, sparse=sparse)
    if request.scheme.sparse:
        raise Refusal("only the W and R of a recurrent layer can have sparse weights")
    if reader.kind == "linear":
        return _emit_linear(reader, layer, request.scheme, rounder, tied)
    if reader.kind == "embedding":
        return _emit_embedding(reader, layer, request.scheme, tied)
    return _emit_convolution(reader, layer, request.scheme)


def _halves(reader: Reader, request: LayerRequest) -> dict[int, tuple[str, str]]:
    """The inputs to store as float16, where that and float32 is all that is asked of whole matrices; else none."""
    if all(scheme.kind != "float16" for scheme in (request.scheme, *request.gates.values())):
        return {}
    kinds = {}
    for position, names in reader.stored().items():
        matrix = names[0].upper()
        groups = request.groups(matrix) if matrix in MATRICES else {request.scheme: ()}
        kinds[position, names] = next(iter(groups)).kind if len(groups) == 1 else "apart"
    if set(kinds.values()) - {"float16", "float32"}:
        return {}
    return {position: names for (position, names), kind in kinds.items() if kind == "float16"}


def _emit_linear(
    reader: Reader, layer: WeightLayer, scheme: Scheme, rounder: MatrixRounder, tied: Tied | None
) -> Outcome:
    """Replace a MatMul (and the Add of its bias) or a Gemm by a quantized operator."""
    node, name, kind, weight = reader.node, reader.name, scheme.kind, layer.weight
    carried = bool(layer.carried) and kind == "int8"
    rounded = {} if carried or tied else rounder(f"{name}.weight", weight, scheme)
    arrays = dict(layer.carried) if carried else {f"w{suffix}": array for suffix, array in rounded.items()}
    arrays["b"] = np.zeros(weight.shape[1], np.float32) if layer.bias is None else layer.bias
    constants = list(tied.store().values()) if tied else []
    constants += [add_shared(owner(node), f"{name}.{kind}.{key}", array) for key, array in arrays.items()]
    operator = LINEAR_INT8 if kind == "int8" else LINEAR_INT4
    x = node.inputs[0] if layer.x is None else layer.x
    y = add_node(node, operator, [x, *constants], domain=DOMAIN, outputs=("y",), name=f"{name}/{kind}")
    replace_node(layer.last, y)
    after = sum(array.nbytes for array in arrays.values()) + (tied.size_bytes if tied else 0)
    bias = 0 if layer.bias is None else layer.bias.nbytes
    if layer.x is not None:  # a chain of integer nodes, which nothing uses any more
        note = "weights and scales carried over exactly" if carried else "rounded again from its integers"
        return Outcome(reader.input_bytes + bias, after, note)
    if layer.last is not node:
        remove_node(node)
    return Outcome(weight.nbytes + bias, after)


def _emit_embedding(reader: Reader, layer: WeightLayer, scheme: Scheme, tied: Tied | None) -> Outcome:
    """Replace a Gather by one of rows stored as float16, int8 or four bits, which are unpacked behind it.

    int8: one scale a row. Four bits: a scale for each block of a row.
    """
    node, table, ids, graph = reader.node, layer.weight, reader.node.inputs[1], owner(reader.node)
    path = f"{reader.name}.{scheme.kind}"
    if scheme.kind == "float16":
        rounded = to_float16(f"{reader.name}.weight", table)
        stored = tied.half(node, table) if tied else add_shared(graph, f"{path}.w", rounded)
        axis = {"axis": attribute_of(node, "axis", 0)}
        rows = add_node(node, "Gather", [stored, ids], attributes=axis if axis["axis"] else None)
        replace_node(node, add_node(node, "Cast", rows, attributes={"to": 1}))
        return Outcome(table.nbytes, rounded.nbytes)
    if tied:
        replace_node(node, [tied.rows(node)])
        return Outcome(table.nbytes, tied.size_bytes)
    if scheme not in reader.schemes():
        raise Refusal(
            f"{scheme} has scales for rows of a matrix, and this table {list(table.shape)} is read in another form"
        )
    arrays = round_table(f"{reader.name}.weight", table, scheme)
    if scheme.kind == "int4":  # blocks are unpacked from rows [N, K]
        ids = add_node(node, "Reshape", [ids, add_constant(graph, f"{path}.flat", np.array([-1]))])[0]
    found = {}
    for key, array in arrays.items():
        stored = add_shared(graph, f"{path}.{key}", array)
        # One zero point for the whole table has no rows to look up.
        found[key] = stored if len(array) != len(table) else add_node(node, "Gather", [stored, ids])[0]
    values = unpacked_rows(node, path, found, table.shape[1], scheme)
    if scheme.kind == "int4":
        lead = add_node(node, "Shape", [node.inputs[1]])[0]
        width = add_constant(graph, f"{path}.features", np.array([table.shape[1]]))
        shape = add_node(node, "Concat", [lead, width], attributes={"axis": 0})[0]
        values = add_node(node, "Reshape", [values, shape])[0]
    replace_node(node, [values])
    return Outcome(table.nbytes, sum(array.nbytes for array in arrays.values()))


def _emit_convolution(reader: Reader, layer: WeightLayer, scheme: Scheme) -> Outcome:
    """Store a convolution's weight as int8 or four bits; the node stays what it is.

    int8: one scale an output channel. Four bits: a scale for each block of a channel's inputs, flattened as ONNX stores
    them. The weight is made float again by operators on constants, which onnxruntime folds when it opens the file: it
    saves disk and transfer, not time.
    """
    node, weight, graph, size = reader.node, layer.weight, owner(reader.node), reader.size_bytes
    path, table = f"{reader.name}.{scheme.kind}", weight.reshape(len(weight), -1)
    arrays = round_table(f"{reader.name}.weight", table, scheme)
    stored = {key: add_shared(graph, f"{path}.{key}", array) for key, array in arrays.items()}
    rows = unpacked_rows(node, path, stored, table.shape[1], scheme)
    shape = add_constant(graph, f"{path}.shape", np.array(weight.shape))
    node.replace_input_with(1, add_node(node, "Reshape", [rows, shape])[0])
    return Outcome(size, size - weight.nbytes + sum(array.nbytes for array in arrays.values()))
