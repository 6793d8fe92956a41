"""Check the blocks of sparse matrices where function bodies run.

A kernel checks its matrices when it is created. A function body scatters the blocks: a number that stands there twice
would drop a block without a word, and a negative one would count from the end.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lstm_edge_runtime._protobuf import Message, read_again
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.column_sums import LARGEST_COLUMN_SUM, RAW_CONTENT, operators_with_tensors
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.model_reading import ModelReading

__all__ = ["check_sparse_matrices"]

# TensorProto.DataType of what is checked.
_DTYPES = {1: np.float32, 3: np.int8, 6: np.int32, 7: np.int64}
_GATES = {"L": 4, "G": 3, "R": 1}  # by the first letter of the operator
_BLOCK_ROWS, _BLOCK_COLUMNS, _MOST_ROWS = 4, 16, 2**18
_MATRIX_DTYPES = ["int8", "float32", "int32", "int64"]  # blocks, scale, numbers of blocks, rows


@dataclass(frozen=True, kw_only=True, slots=True)
class _Constant:
    """The values of a tensor as a list, and the axes that the file declares, which NumPy may not be able to give it."""

    values: Array
    shape: tuple[int, ...]


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
    for node, tensors in operators_with_tensors(reading):
        name = node.text("op_type")
        if "SparseInt8" in name and name[0] in _GATES:
            _check_node(data, node, tensors)


def _check_node(data: bytes, node: Message, tensors: Mapping[str, Message]) -> None:
    """Check each matrix of a node: only numbers of blocks are int32, and they follow the blocks and the scale."""
    arrays = [_array(data, tensors[name]) if name in tensors else None for name in node.texts("input")]
    for at in range(2, len(arrays) - 1):
        blocks, scale, index, rows = arrays[at - 2 : at + 2]
        if index is None or index.values.dtype != np.int32 or blocks is None or scale is None or rows is None:
            continue
        operator, name = node.text("op_type"), node.texts("input")[at - 2][:80]
        _check_matrix(f"{operator}: matrix {name!r}", _GATES[operator[0]], (blocks, scale, index, rows))


def _check_matrix(where: str, gates: int, inputs: tuple[_Constant, _Constant, _Constant, _Constant]) -> None:
    """Check the dtypes and shapes of blocks, scales, numbers of blocks and rows, and then the numbers."""
    blocks, scale, index, rows = inputs
    found = [constant.values.dtype.name for constant in inputs]
    if found != _MATRIX_DTYPES or len(index.shape) != 1 or len(scale.shape) != 1:
        axes = [len(constant.shape) for constant in inputs]
        raise ArtifactError(
            f"{where} has blocks, scales, numbers of blocks and rows of dtypes {found} with {axes} axes, expected "
            f"{_MATRIX_DTYPES} with [3, 1, 1, 1] axes: export the model again"
        )
    shape = (index.shape[0], _BLOCK_ROWS, _BLOCK_COLUMNS)
    if blocks.shape != shape:
        raise ArtifactError(f"{where} has blocks of shape {_shown(blocks.shape)}, expected {list(shape)}")
    if rows.values.size != 1 or not 1 <= rows.values[0] <= _MOST_ROWS or scale.values.size < gates:
        raise ArtifactError(
            f"{where} has the numbers of rows {rows.values[:3].tolist()} and {scale.values.size} scales, expected one "
            f"number from 1 to {_MOST_ROWS} and at least {gates} scales: export the model again"
        )
    height, width = -(-int(rows.values[0]) // _BLOCK_ROWS), gates * -(-(scale.values.size // gates) // _BLOCK_COLUMNS)
    _check_blocks(where, blocks.values.reshape(shape), index.values.astype(np.int64), height=height, width=width)


def _shown(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape[:8]))}{', ...' * (len(shape) > 8)}]"


def _array(data: bytes, stored: Message) -> _Constant | None:
    tensor = read_again(data, stored, RAW_CONTENT)
    dims, raw, dtype = tensor.numbers("dims", data), tensor.fields.get("raw_data"), tensor.number("data_type")
    if dtype not in _DTYPES or not raw:
        return None
    start, end = raw[0]
    # The product of 32 sizes above 1 is more than a file has bytes; that of a million takes hours.
    count = 0 if 0 in dims else math.prod(itertools.islice((size for size in dims if size > 1), 32))
    if count * np.dtype(_DTYPES[dtype]).itemsize != end - start:  # onnxruntime refuses it
        return None
    return _Constant(values=np.frombuffer(data, _DTYPES[dtype], count, start), shape=tuple(dims))


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
