"""Replaces a decomposed cell by one ONNX ``LSTM``, ``GRU`` or ``RNN`` node with a single time step."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.adopt.cells.cell import Cell
from lstm_edge_exporters.onnx_graph.edit import add_constant, add_node, owner, remove_node, replace_node
from lstm_edge_exporters.onnx_graph.names import rename, root_of
from lstm_edge_exporters.onnx_graph.shapes import Shape, shape_of

__all__ = ["Builder"]


# From this opset on Squeeze and Unsqueeze have their axes as an input (ONNX operator Unsqueeze, version 13).
AXES_AS_INPUT = 13


@dataclass(frozen=True, kw_only=True)
class Builder:
    """Folds cells one after the other, and keeps what the next one needs.

    ``shapes``: grows by the new values' shapes; ``partners``: for each new cell state, its hidden state;
    ``constants``: weights already in a graph, by their content, so that the steps of an unrolled loop share them;
    ``names``: the layers' names by the same content, in the order they were folded.
    """

    shapes: dict[ir.Value, Shape]
    partners: dict[ir.Value, ir.Value] = field(default_factory=dict)
    constants: dict[tuple[int, str], tuple[ir.Value, ...]] = field(default_factory=dict)
    names: dict[tuple[int, str, str], list[str]] = field(default_factory=dict)

    def fold(self, cell: Cell) -> None:
        """Replace the cell's nodes by one recurrent node, in place."""
        anchor, name = cell.anchor, _layer_name(cell)
        x = cell.x[0] if len(cell.x) == 1 else self._add(anchor, "Concat", cell.x, name, {"axis": 1})
        states = [self._axis(anchor, "Unsqueeze", value, name) for value in cell.states]
        attributes: dict[str, Any] = {"hidden_size": cell.hidden_size}
        if cell.kind == "GRU":
            attributes["linear_before_reset"] = cell.linear_before_reset
        if cell.kind == "RNN" and cell.activation != "Tanh":
            attributes["activations"] = [cell.activation]
        outputs = add_node(
            anchor,
            cell.kind,
            [self._axis(anchor, "Unsqueeze", x, name), *self._weights(cell, name), None, *states],
            attributes=attributes,
            outputs=("Y", "Y_h", "Y_c")[: len(states) + 1],
            name=name,
        )
        rename(owner(anchor), outputs[0], "")  # one step: Y holds the same values as Y_h
        node = outputs[1].producer()
        assert node is not None
        self._remember(cell, node.name or name)
        new = [self._axis(anchor, "Squeeze", value, node.name or name) for value in outputs[1:]]
        self._connect(cell, new)

    def _connect(self, cell: Cell, new: Sequence[ir.Value]) -> None:
        """Give the new states the old ones' uses, and remove what computed those."""
        shape = shape_of(cell.states[0], self.shapes)
        assert shape is not None
        for value in new:
            self.shapes[value] = shape
        if cell.kind == "LSTM":
            self.partners[new[1]] = new[0]
        for old, value in zip(cell.outputs, new, strict=True):
            node = old.producer()
            assert node is not None
            replace_node(node, [value])
        left = {node for node in cell.nodes if node.graph is not None}
        while unused := [node for node in left if not any(v.uses() or v.is_graph_output() for v in node.outputs)]:
            for node in unused:
                remove_node(node)
                left.discard(node)

    def _weights(self, cell: Cell, name: str) -> tuple[ir.Value, ...]:
        graph = owner(cell.anchor)
        key = (id(graph), _digest(cell))
        if key not in self.constants:
            pairs = zip(("weight", "recurrence", "bias"), cell.weights, strict=True)
            self.constants[key] = tuple(add_constant(graph, f"{name}.{part}", array) for part, array in pairs)
        return self.constants[key]

    def _remember(self, cell: Cell, name: str) -> None:
        self.names.setdefault((id(owner(cell.anchor)), _digest(cell), cell.kind), []).append(name)

    def _axis(self, before: ir.Node, op_type: str, value: ir.Value, name: str) -> ir.Value:
        """Add or remove the first axis: the time of X, the direction of a state."""
        graph = owner(before)
        if root_of(graph).opset_imports.get("", AXES_AS_INPUT) < AXES_AS_INPUT:
            return self._add(before, op_type, [value], name, {"axes": [0]})
        key = (id(graph), "axis")
        if key not in self.constants:
            self.constants[key] = (add_constant(graph, f"{name}.axis", np.array([0])),)
        return self._add(before, op_type, [value, *self.constants[key]], name, None)

    def _add(
        self,
        before: ir.Node,
        op_type: str,
        inputs: Sequence[ir.Value],
        name: str,
        attributes: Mapping[str, Any] | None,
    ) -> ir.Value:
        return add_node(before, op_type, inputs, attributes=attributes, name=f"{name}/{op_type}")[0]


def _digest(cell: Cell) -> str:
    digest = hashlib.sha256(f"{cell.kind} {cell.linear_before_reset} {cell.activation}".encode())
    for array in cell.weights:
        digest.update(f"{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _layer_name(cell: Cell) -> str:
    """``rnn`` where a weight is ``rnn.weight_ih``, else the scope of the update's node, else the kind of cell."""
    for node in sorted(cell.nodes, key=lambda node: node.name or ""):
        for value in node.inputs if node.op_type in ("Gemm", "MatMul") else ():
            name = (value.name or "") if value is not None and value.is_initializer() else ""
            match = re.fullmatch(r"(.+)\.weight_[ih]h(_l\d+)?", name)
            if match:
                return match[1]
    scope, _, _ = (cell.anchor.name or "").rpartition("/")
    return scope.strip("/").replace("/", ".") or f"{cell.kind.lower()}_cell"
