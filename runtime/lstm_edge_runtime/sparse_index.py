"""Check the blocks of sparse matrices where function bodies run.

A kernel checks its matrices when it is created. A function body scatters the blocks: a number that stands there twice
would drop a block without a word, and a negative one would count from the end.
"""

from collections.abc import Mapping

import numpy as np

from lstm_edge_runtime._protobuf import Message, read_again
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.column_sums import LARGEST_COLUMN_SUM, RAW_CONTENT
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.function_check import DOMAIN
from lstm_edge_runtime.model_reading import ModelReading

__all__ = ["check_sparse_matrices"]

# TensorProto.DataType of what is checked.
_DTYPES = {1: np.float32, 3: np.int8, 6: np.int32, 7: np.int64}
_GATES = {"L": 4, "G": 3, "R": 1}  # by the first letter of the operator
_BLOCK_ROWS, _BLOCK_COLUMNS, _MOST_ROWS = 4, 16, 2**18


def check_sparse_matrices(data: bytes, reading: ModelReading) -> None:
    """Refuse a sparse matrix of an ``lstm_edge`` operator that docs/operators.md, "Sparse matrices", does not allow.

    This checks constants that are stored as raw bytes, as exporters write them, and that are direct inputs of nodes of
    the graph or of its subgraphs.

    Args:
        data: the whole file.
        reading: the result of ``read_model``.

    Raises:
        ArtifactError: numbers of blocks do not increase or are out of range, or a column's sum is over the limit.
    """
    for graph in reading.model.messages("graph"):
        _check_graph(data, graph, {})


def _check_graph(data: bytes, graph: Message, outer: Mapping[str, Message]) -> None:
    tensors = {**outer, **{tensor.text("name"): tensor for tensor in graph.messages("initializer")}}
    for node in graph.messages("node"):
        if node.text("op_type") == "Constant" and node.texts("output"):
            tensors |= {node.texts("output")[0]: t for a in node.messages("attribute") for t in a.messages("t")}
    for node in graph.messages("node"):
        if node.text("domain") == DOMAIN and "SparseInt8" in node.text("op_type"):
            _check_node(data, node, tensors)
        for attribute in node.messages("attribute"):
            for inner in (*attribute.messages("g"), *attribute.messages("graphs")):
                _check_graph(data, inner, tensors)


def _check_node(data: bytes, node: Message, tensors: Mapping[str, Message]) -> None:
    """Check each matrix of a node: only numbers of blocks are int32, and they follow the blocks and the scale."""
    arrays = [_array(data, tensors[name]) if name in tensors else None for name in node.texts("input")]
    for at in range(2, len(arrays) - 1):
        blocks, scale, index, rows = arrays[at - 2 : at + 2]
        if index is None or index.dtype != np.int32 or blocks is None or scale is None or rows is None:
            continue
        operator, name = node.text("op_type"), node.texts("input")[at - 2][:80]
        where, gates = f"{operator}: matrix {name!r}", _GATES[operator[0]]
        shape = (len(index), _BLOCK_ROWS, _BLOCK_COLUMNS)
        if blocks.shape != shape or rows.size != 1 or not 1 <= rows.item() <= _MOST_ROWS or scale.size < gates:
            raise ArtifactError(f"{where} has blocks of shape {list(blocks.shape)}, expected {list(shape)}")
        width = gates * -(-(len(scale) // gates) // _BLOCK_COLUMNS)
        _check_blocks(where, blocks, index.astype(np.int64), height=-(-rows.item() // _BLOCK_ROWS), width=width)


def _array(data: bytes, stored: Message) -> Array | None:
    tensor = read_again(data, stored, RAW_CONTENT)
    dims, raw, dtype = tensor.numbers("dims", data), tensor.fields.get("raw_data"), tensor.number("data_type")
    if dtype not in _DTYPES or not raw:
        return None
    start, end = raw[0]
    count = int(np.prod(dims, dtype=object)) if dims else 1
    if min(dims, default=0) < 0 or count * np.dtype(_DTYPES[dtype]).itemsize != end - start:  # onnxruntime refuses it
        return None
    return np.frombuffer(data, _DTYPES[dtype], count, start).reshape(dims)


def _check_blocks(where: str, blocks: Array, numbers: Array, *, height: int, width: int) -> None:
    """Check numbers of blocks and sums of columns; ``height`` and ``width`` count the places."""
    if numbers.size == 0 or numbers[0] < 0 or numbers[-1] >= width * height or (np.diff(numbers) <= 0).any():
        raise ArtifactError(
            f"{where} has numbers of blocks that do not increase from 0 to at most {width * height - 1}: "
            "the file is damaged or from a faulty tool; quantize the model again"
        )
    sums = np.zeros((width, _BLOCK_COLUMNS), np.int64)
    np.add.at(sums, numbers // height, np.abs(blocks.astype(np.int64)).sum(axis=1))
    if sums.max() > LARGEST_COLUMN_SUM:
        raise ArtifactError(
            f"{where} has a column whose magnitudes sum to {sums.max()}, at most {LARGEST_COLUMN_SUM} is allowed: "
            "quantize the model again"
        )
