"""Recurrent layers wherever they are: the outermost graph, the bodies of If, Loop and Scan, local functions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.carried import carried_inputs
from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.nodes import attribute_of, inputs_of
from lstm_edge_runtime.arrays import Array

__all__ = ["CELLS", "FoundLayer", "Initial", "find_layers", "is_zero", "layer_nodes", "start_of"]

Initial = Literal["absent", "zeros", "constant", "input", "computed"]

# What the operators are, by name; the second one is onnxruntime's.
CELLS = {"LSTM": "lstm", "DynamicQuantizeLSTM": "lstm", "GRU": "gru", "RNN": "rnn"}
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
# Positions of initial_h and initial_c.
STATES = {"lstm": {"h": 5, "c": 6}, "gru": {"h": 5}, "rnn": {"h": 5}}

# How far back a state is followed through moves and Loops.
LONGEST_CHAIN = 64
# Nodes whose output holds only elements of their first input.
_MOVES = frozenset(
    (
        "Cast",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    )
)


@dataclass(frozen=True, kw_only=True)
class FoundLayer:
    """One recurrent layer of a file.

    Attributes:
        name: the node's name, or its operator where it has none.
        where: the path through the bodies that contain it, such as ``If_0.then_branch``; empty at top level.
        operator: ``LSTM``, ``GRU``, ``RNN`` or ``DynamicQuantizeLSTM``.
        cell: ``lstm``, ``gru`` or ``rnn``.
        input_size, hidden_size: features; None where the file does not say.
        direction: ``forward``, ``reverse`` or ``bidirectional``.
        weights: how they are stored.
        initial: for each kind of state (``h``, ``c``) whether the initial one is absent, zeros, a constant, an input
            of the graph, or computed.
    """

    name: str
    where: str
    operator: str
    cell: str
    input_size: int | None
    hidden_size: int | None
    direction: str
    weights: str
    initial: dict[str, Initial]

    @property
    def directions(self) -> int:
        """1, or 2 for a bidirectional layer."""
        return 2 if self.direction == "bidirectional" else 1


def layer_nodes(model: ir.Model) -> Iterator[tuple[str, ir.Node]]:
    """Yield each recurrent node with the path of the bodies around it, in graph order; functions come last."""
    yield from _nodes(model.graph, "")
    for function in model.functions.values():
        for node in function.all_nodes():
            if _is_layer(node):
                yield f"function {function.domain}::{function.name}", node


def _nodes(graph: ir.Graph, where: str) -> Iterator[tuple[str, ir.Node]]:
    for node in graph:
        if _is_layer(node):
            yield where, node
        for name, attribute in node.attributes.items():
            if attribute.type == ir.AttributeType.GRAPH:
                step = f"{node.name or node.op_type}.{name}"
                yield from _nodes(attribute.as_graph(), f"{where} / {step}" if where else step)


def _is_layer(node: ir.Node) -> bool:
    domains = ("com.microsoft",) if node.op_type == "DynamicQuantizeLSTM" else ("", "ai.onnx")
    return node.op_type in CELLS and node.domain in domains


def find_layers(model: ir.Model) -> tuple[FoundLayer, ...]:
    """Describe every recurrent layer of a model; nothing is changed."""
    starts = carried_inputs(model.graph.all_nodes())
    return tuple(_describe(where, node, starts) for where, node in layer_nodes(model))


def _describe(where: str, node: ir.Node, starts: Mapping[ir.Value | None, ir.Value]) -> FoundLayer:
    cell = CELLS[node.op_type]
    inputs = inputs_of(node, 12)
    weight, recurrent = (_sizes(value) for value in inputs[1:3])
    turned = node.op_type == "DynamicQuantizeLSTM"  # its weights are [D, I, 4H]
    hidden = attribute_of(node, "hidden_size")
    if hidden is None and recurrent is not None:
        hidden = recurrent[1 if turned else 2]
    return FoundLayer(
        name=node.name or node.op_type,
        where=where,
        operator=node.op_type,
        cell=cell,
        input_size=None if weight is None else weight[1 if turned else 2],
        hidden_size=hidden,
        direction=attribute_of(node, "direction", "forward"),
        weights=_storage([value for value in inputs[1:4] if value is not None]),
        initial={kind: _initial(start_of(inputs[position], starts)) for kind, position in STATES[cell].items()},
    )


def _sizes(value: ir.Value | None) -> tuple[int, ...] | None:
    array = constant_of(value)
    if array is not None:
        return array.shape if array.ndim == 3 else None
    if value is None or value.shape is None or len(value.shape) != 3:
        return None
    sizes = tuple(size for size in value.shape if isinstance(size, int))
    return sizes if len(sizes) == 3 else None


def _storage(values: list[ir.Value]) -> str:
    """How weights are stored: initializers, or behind which nodes."""
    behind: dict[str, None] = {}
    for value in values:
        if constant_of(value) is None:
            inputs = [v.name for v in values if v.is_graph_input()]
            return f"graph inputs {', '.join(map(str, inputs))}" if inputs else "computed from the graph's inputs"
        stack, seen = [value], set()
        while stack:
            node = stack.pop().producer()
            if node is not None and node not in seen:
                seen.add(node)
                behind[node.op_type] = None
                stack += [parent for parent in node.inputs if parent is not None]
    return f"behind {', '.join(sorted(behind))}" if behind else "initializers"


def start_of(value: ir.Value | None, starts: Mapping[ir.Value | None, ir.Value]) -> ir.Value | None:
    """Return what a state is in the first step, where a Loop or a Scan carries it.

    Args:
        value: the state that enters a layer.
        starts: what ``carried_inputs`` found in the model.
    """
    current = value
    for _ in range(LONGEST_CHAIN):
        node = None if current is None else current.producer()
        if current in starts:
            value = current = starts[current]
        elif node is not None and node.op_type in _MOVES and node.inputs:
            current = node.inputs[0]
        else:
            break
    return value


def _initial(value: ir.Value | None) -> Initial:
    if value is None:
        return "absent"
    if is_zero(value):
        return "zeros"
    if constant_of(value) is not None:
        return "constant"
    node = value.producer()
    while node is not None and node.op_type in _MOVES:  # an input, perhaps cut out of a larger one or reshaped
        first = node.inputs[0] if node.inputs else None
        node = None if first is None else first.producer()
    return "input" if node is None else "computed"


def is_zero(value: ir.Value | None) -> bool:
    """Say whether a value is zeros whatever goes in: constant ones, or made by ConstantOfShape and moved about."""
    stack: list[ir.Value | None] = [value]
    seen: set[ir.Value | None] = set()
    while stack:
        current = stack.pop()
        if current in seen:
            continue
        seen.add(current)
        array = _plain_constant(current)
        if array is not None:
            if np.any(array != 0):
                return False
            continue
        node = None if current is None else current.producer()
        if node is None or node.domain not in ("", "ai.onnx"):
            return False
        if node.op_type == "ConstantOfShape":
            if "value" in node.attributes and np.any(node.attributes["value"].as_tensor().numpy() != 0):
                return False
        elif node.op_type == "Concat":
            stack += list(node.inputs)
        elif node.op_type in _MOVES:
            stack.append(node.inputs[0])
        else:
            return False
    return True


def _plain_constant(value: ir.Value | None) -> Array | None:
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()
