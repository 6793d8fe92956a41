"""Tables that several layers read: an embedding whose matrix is also the output layer's is stored once.

Which layers share a table is decided by value, so that it does not matter whether the file holds one table, reads it
through ``Transpose``, or holds a second copy that an exporter turned.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.edit import add_constant, add_node, owner
from lstm_edge_exporters.onnx_graph.names import root_of
from lstm_edge_exporters.quantize.feedforward import Embedding, Linear
from lstm_edge_exporters.quantize.layer import Outcome, Reader, Refusal
from lstm_edge_exporters.quantize.request import LayerRequest
from lstm_edge_exporters.quantize.rounding import round_columns
from lstm_edge_exporters.quantize.schemes import Kind
from lstm_edge_exporters.quantize.storage import to_float16
from lstm_edge_runtime.arrays import Array

__all__ = ["Tied", "find_tied"]

FLOAT = 1  # onnx.TensorProto.FLOAT


@dataclass(frozen=True, kw_only=True)
class Tied:
    """One matrix of several layers, stored when the first of them is rewritten.

    Attributes:
        reader: the layer that the stored matrix is named after.
        kind: ``int8`` or ``float16``.
        table: float32; int8: [K, V] as the linear layer multiplies it; float16: as ``reader`` has it.
        sizes: bytes of the stored arrays, by name, once they are made.
    """

    reader: Reader
    kind: Kind
    table: Array
    values: dict[str, ir.Value] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)

    def store(self) -> Mapping[str, ir.Value]:
        """Return ``w``, and for int8 ``w_scale`` [V], as initializers of the outermost graph.

        int8 is rounded to nearest, not by calibration: compensated columns serve the linear layer's inputs, and an
        embedding's rows would be further from the original's.

        Raises:
            QuantizationError: the table holds NaN or infinity.
            Refusal: a value is beyond float16's range.
        """
        if not self.values:
            title = f"{self.reader.name}.weight"
            if self.kind == "int8":
                w, scale = round_columns(title, self.table)
                self.arrays.update(w=w, w_scale=scale)
            else:
                self.arrays.update(w=to_float16(title, self.table))
            root = root_of(owner(self.reader.node))
            for name, array in self.arrays.items():
                self.values[name] = add_constant(root, f"{self.reader.name}.{self.kind}.{name}", array)
        return self.values

    @property
    def size_bytes(self) -> int:
        """Bytes of the stored arrays."""
        return sum(array.nbytes for array in self.arrays.values())

    def half(self, before: ir.Node, weight: Array) -> ir.Value:
        """Return the float16 matrix in the layout of ``weight``, float32; a ``Transpose`` is added where it differs."""
        stored = self.store()["w"]
        if _digest(weight) == _digest(self.table):
            return stored
        return add_node(before, "Transpose", [stored], attributes={"perm": [1, 0]})[0]

    def half_input(self, reader: Reader) -> Outcome:
        """Let a linear layer multiply the float16 matrix, converted to float32; its node stays what it is."""
        assert isinstance(reader, Linear)
        node, size, weight = reader.node, reader.size_bytes, reader.weight
        value = add_node(node, "Cast", [self.half(node, weight)], attributes={"to": FLOAT})[0]
        node.replace_input_with(reader.place, value)
        return Outcome(size, size - weight.nbytes + self.size_bytes)

    def rows(self, node: ir.Node) -> ir.Value:
        """Return the rows that an embedding's ``Gather`` looks up, float32 [..., K], of the int8 matrix [K, V]."""
        stored, ids = self.store(), node.inputs[1]
        assert ids is not None
        graph, path, lead = owner(node), f"{self.reader.name}.{self.kind}", None
        if ids.shape is None:  # the order of axes below needs their number
            lead = add_node(node, "Shape", [ids])[0]
            ids = add_node(node, "Reshape", [ids, add_constant(graph, f"{path}.flat", np.array([-1]))])[0]
        axes = 1 if ids.shape is None else len(ids.shape)
        turned = add_node(node, "Gather", [stored["w"], ids], attributes={"axis": 1})[0]
        order = [*range(1, axes + 1), 0]
        integers = add_node(node, "Transpose", [turned], attributes={"perm": order})[0] if axes else turned
        values = add_node(node, "Cast", [integers], attributes={"to": FLOAT})[0]
        last = add_constant(graph, f"{path}.last", np.array([-1]))
        scales = add_node(node, "Unsqueeze", [add_node(node, "Gather", [stored["w_scale"], ids])[0], last])[0]
        rows = add_node(node, "Mul", [values, scales])[0]
        if lead is None:
            return rows
        width = add_constant(graph, f"{path}.features", np.array([len(self.table)]))
        shape = add_node(node, "Concat", [lead, width], attributes={"axis": 0})[0]
        return add_node(node, "Reshape", [rows, shape], attributes={"allowzero": 1})[0]


def find_tied(pairs: Iterable[tuple[Reader, LayerRequest]]) -> dict[Reader, Tied]:
    """Return the layers that can read one stored matrix: an embedding and linear layers, all int8 or all float16.

    In int8 the scale of an embedding's row must be that of a linear layer's column, so the linear layer multiplies the
    transposed table. In float16 two linear layers can also share a matrix, one of them the transposed one.
    """
    asked: list[tuple[Embedding | Linear, Kind]] = [
        (reader, request.scheme.kind)
        for reader, request in pairs
        if isinstance(reader, Embedding | Linear) and not request.gates and not request.reason
    ]
    shapes = {reader.weight.shape for reader, kind in asked if isinstance(reader, Embedding) and kind == "int8"}
    groups: dict[tuple[Kind, bytes], list[tuple[Reader, Array]]] = {}
    for reader, kind in asked:
        table = _int8_table(reader, shapes) if kind == "int8" else reader.weight if kind == "float16" else None
        if table is not None:
            key = min(_digest(table), _digest(table.T)) if kind == "float16" else _digest(table)
            groups.setdefault((kind, key), []).append((reader, table))
    found: dict[Reader, Tied] = {}
    for (kind, _), members in groups.items():
        tied = _join(kind, members)
        found |= dict.fromkeys([reader for reader, _ in members], tied) if tied is not None else {}
    return found


def _int8_table(reader: Embedding | Linear, shapes: Collection[tuple[int, ...]]) -> Array | None:
    """The matrix [V, K] with a scale for each row, if it may be an embedding's, which have these shapes."""
    if isinstance(reader, Embedding):
        return reader.weight
    if not {reader.weight.shape, reader.weight.shape[::-1]} & set(shapes):
        return None
    try:
        return np.ascontiguousarray(reader.read().weight.T)
    except Refusal:
        return None


def _join(kind: Kind, members: Sequence[tuple[Reader, Array]]) -> Tied | None:
    """The matrix of a group; None where storing each layer's own costs no more, or scales would not agree."""
    linear = [reader for reader, _ in members if isinstance(reader, Linear)]
    embeddings = [(reader, table) for reader, table in members if isinstance(reader, Embedding)]
    if kind == "int8":
        return Tied(reader=linear[0], kind=kind, table=members[0][1].T) if linear and embeddings else None
    first, table = (embeddings or members)[0]
    if (
        len({_digest(other) for _, other in members}) == 1
        and len({id(reader.node.graph) for reader, _ in members}) == 1
    ):
        return None
    return Tied(reader=first, kind=kind, table=table)


def _digest(array: Array) -> bytes:
    shape = str(array.shape).encode()
    return hashlib.sha256(shape + np.ascontiguousarray(array).tobytes()).digest()
