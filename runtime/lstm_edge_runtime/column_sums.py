"""Check the limit on the sum of magnitudes of an int8 column where function bodies run.

A kernel checks its matrices when it is created. A function body multiplies float32 numbers without a check. Sums over
the limit are rounded in the order in which onnxruntime adds them, so the result would differ between devices.
"""

from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from lstm_edge_runtime._onnx_schema import SCHEMAS, Schema
from lstm_edge_runtime._protobuf import Message, read_again
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.function_check import DOMAIN
from lstm_edge_runtime.model_reading import ModelReading

__all__ = ["LARGEST_COLUMN_SUM", "RAW_CONTENT", "check_column_sums", "operators_with_tensors"]

# docs/operators.md: with activations in -127..127 every sum is below 2**24, up to which float32 holds every integer.
LARGEST_COLUMN_SUM = (2**24 - 1) // 127
_MOST_ROWS = LARGEST_COLUMN_SUM // 127  # a column of this many weights of 127 is within the limit
_INT8 = 3  # TensorProto.DataType
_ROWS_AT_ONCE = 4096
# The content is read for the few tensors that are checked: a file may have a million others.
_TENSOR = SCHEMAS["TensorProto"]
RAW_CONTENT = Schema(
    tags={tag: replace(f, kept=f.name in {"dims", "data_type", "raw_data"}) for tag, f in _TENSOR.tags.items()},
    numbers=_TENSOR.numbers,
)


def check_column_sums(data: bytes, reading: ModelReading) -> None:
    """Refuse an int8 matrix of an ``lstm_edge`` operator with a column whose magnitudes sum to more than 132,104.

    This checks constants that are stored as raw bytes, as exporters write them, and that are direct inputs of nodes of
    the graph or of its subgraphs. Only a kernel checks a matrix that is computed or passed through another function.

    Args:
        data: the whole file.
        reading: the result of ``read_model``.

    Raises:
        ArtifactError: there is such a column; the message names operator, matrix, column and sum.
    """
    for node, tensors in operators_with_tensors(reading):
        if "Int8" in node.text("op_type"):
            for name in node.texts("input"):
                if name in tensors:
                    _check_tensor(data, node.text("op_type"), name, tensors[name])


def operators_with_tensors(reading: ModelReading) -> Iterator[tuple[Message, Mapping[str, Message]]]:
    """Return each node of the domain ``lstm_edge`` in the graph and its subgraphs, and the constants that it can name.

    Args:
        reading: the result of ``read_model``.
    """
    for graph in reading.model.messages("graph"):
        yield from _operators(graph, ChainMap())


def _operators(graph: Message, outer: ChainMap[str, Message]) -> Iterator[tuple[Message, Mapping[str, Message]]]:
    own = {tensor.text("name"): tensor for tensor in graph.messages("initializer")}
    for node in graph.messages("node"):
        if node.text("op_type") == "Constant" and node.texts("output"):
            own |= {node.texts("output")[0]: t for a in node.messages("attribute") for t in a.messages("t")}
    tensors = outer.new_child(own)  # a copy for each of many subgraphs would take hours
    for node in graph.messages("node"):
        if node.text("domain") == DOMAIN:
            yield node, tensors
        for attribute in node.messages("attribute"):
            for inner in (*attribute.messages("g"), *attribute.messages("graphs")):
                yield from _operators(inner, tensors)


def _check_tensor(data: bytes, operator: str, name: str, stored: Message) -> None:
    tensor = read_again(data, stored, RAW_CONTENT)
    dims, raw = tensor.numbers("dims", data), tensor.fields.get("raw_data")
    if tensor.number("data_type") != _INT8 or len(dims) != 2 or not raw or dims[0] <= _MOST_ROWS:
        return
    start, end = raw[0]
    rows, columns = dims
    if not columns or end - start != rows * columns:  # an empty matrix, or one that onnxruntime refuses
        return
    matrix = np.frombuffer(data, np.int8, end - start, start).reshape(rows, columns)
    sums = np.zeros(columns, np.int64)
    for first in range(0, rows, _ROWS_AT_ONCE):
        sums += np.abs(matrix[first : first + _ROWS_AT_ONCE].astype(np.int16)).sum(axis=0, dtype=np.int64)
    if sums.max() > LARGEST_COLUMN_SUM:
        column = int(np.argmax(sums > LARGEST_COLUMN_SUM))
        raise ArtifactError(
            f"{operator}: the magnitudes of column {column} of {name[:80]!r} sum to {sums[column]}, "
            f"at most {LARGEST_COLUMN_SUM} is allowed: quantize the model again"
        )
