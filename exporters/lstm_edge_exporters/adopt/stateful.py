"""Hidden initial states made explicit: an input and an output for each layer and kind of state."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from lstm_edge_exporters.adopt.find import CELLS, STATES, is_zero, layer_nodes, start_of
from lstm_edge_exporters.onnx_graph.carried import carried_inputs
from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.edit import add_output, append_node
from lstm_edge_exporters.onnx_graph.fold import forget_shapes
from lstm_edge_exporters.onnx_graph.liveness import live_nodes
from lstm_edge_exporters.onnx_graph.names import name_in, unique_name, unique_names
from lstm_edge_exporters.onnx_graph.nodes import attribute_of, inputs_of
from lstm_edge_runtime.card import BATCH, StateSpec
from lstm_edge_runtime.errors import ArtifactError

__all__ = ["make_stateful"]

FLOAT = ir.TensorType(ir.DataType.FLOAT)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Port:
    """One hidden state: the nodes that it enters (one for each branch) and the value that it leaves by.

    ``what`` is what two branches must agree about to share the state: cell, kind, H, and its place among the ports.
    """

    layer: str
    kind: str
    size: int
    batch: str | int
    what: tuple[str, str, int]
    nodes: tuple[ir.Node, ...]
    leaving: ir.Value


def make_stateful(model: ir.Model, inside: Collection[str] = ()) -> tuple[StateSpec, ...]:
    """Give each layer whose initial state is absent or zeros an input ``<layer>.h`` and an output ``<layer>.h_out``.

    LSTM layers (DynamicQuantizeLSTM too) get ``.c`` and ``.c_out`` besides; all are float32 [1, batch, H]. States of
    layers inside ``If`` branches leave through the branches' outputs, where all branches have the same states. Layers
    named in ``inside`` do not run over time: they start from zeros in every call, and stay as they are.

    Returns:
        The new states, in graph order.

    Raises:
        ArtifactError: a layer is bidirectional or runs backwards, is in a Loop, a Scan or a function, or in one
            branch of an If only; the message names it.
    """
    _refuse_functions(model)
    inside = frozenset(inside)
    forget_shapes(model)
    common.ShapeInferencePass()(model)  # a batch that is fixed in the file is fixed in its states too
    ports = _ports(model.graph, "", inside)
    _refuse_dead(ports, live_nodes(model))
    with unique_names(model):
        return tuple(_connect(model.graph, port) for port in ports)


def _connect(graph: ir.Graph, port: _Port) -> StateSpec:
    """Give a port its input and its output."""
    name, axes = f"{port.layer}.{port.kind}", (1, port.batch, port.size)
    entering = ir.Value(name=unique_name(graph, name), shape=ir.Shape(list(axes)), type=FLOAT)
    graph.inputs.append(entering)
    name_in(graph, added=[entering])
    for node in port.nodes:
        position = STATES[CELLS[node.op_type]][port.kind]
        if position >= len(node.inputs):
            node.resize_inputs(position + 1)
        node.replace_input_with(position, entering)
    free = unique_name(graph, f"{name}_out")
    leaving = add_output(graph, port.leaving, free, kind=FLOAT, shape=ir.Shape(list(axes)))
    return StateSpec(
        input=str(entering.name),
        output=str(leaving.name),
        kind="h" if port.kind == "h" else "c",
        module=port.layer,
        layer=0,
        axes=axes,
    )


def _refuse_dead(ports: Sequence[_Port], live: AbstractSet[ir.Node]) -> None:
    for port in ports:
        if live.isdisjoint(port.nodes):
            raise ArtifactError(
                f"{port.layer} ({port.what[0]}): no output of the file depends on its numbers, so a state of it would "
                "change nothing; adopt without --stateful"
            )


def _refuse_functions(model: ir.Model) -> None:
    for where, node in layer_nodes(model):
        if where.startswith("function ") and _hidden_kinds(node):
            raise ArtifactError(
                f"{where}/{node.name} ({node.op_type}) has a hidden state inside a local function: inline it first "
                "(onnx.inliner.inline_local_functions), or adopt without --stateful"
            )


def _hidden_kinds(node: ir.Node, starts: Mapping[ir.Value | None, ir.Value] = MappingProxyType({})) -> list[str]:
    positions = STATES[CELLS[node.op_type]]
    inputs = [start_of(value, starts) for value in inputs_of(node, 12)]
    return [kind for kind, at in positions.items() if inputs[at] is None or is_zero(inputs[at])]


def _ports(graph: ir.Graph, where: str, inside: frozenset[str]) -> list[_Port]:
    """The hidden states of a graph, in order; values that leave nested graphs are made outputs of the nodes around."""
    ports = []
    for node in list(graph):
        layer = node.op_type in CELLS and node.domain in ("", "ai.onnx", "com.microsoft")
        if layer and (node.name or node.op_type) not in inside:
            ports += [_layer_port(node, kind) for kind in _hidden_kinds(node)]
        nested = {name: a.as_graph() for name, a in node.attributes.items() if a.type == ir.AttributeType.GRAPH}
        if not nested:
            continue
        path = f"{where}{node.name or node.op_type}"
        if node.op_type == "If":
            ports += _branches(node, nested, path, inside)
        else:
            _refuse_inside(nested.values(), node, path)
    return ports


def _refuse_inside(graphs: Iterable[ir.Graph], node: ir.Node, path: str) -> None:
    nodes = [inner for graph in graphs for inner in graph.all_nodes()]
    starts = carried_inputs([node, *nodes])
    for inner in nodes:
        if inner.op_type in CELLS and _hidden_kinds(inner, starts):
            raise ArtifactError(
                f"{inner.name or inner.op_type} ({inner.op_type}) has a hidden state inside the {node.op_type} "
                f"{path}, which runs it many times: its state cannot be made explicit; adopt without --stateful"
            )


def _layer_port(node: ir.Node, kind: str) -> _Port:
    layer = node.name or node.op_type
    direction = attribute_of(node, "direction", "forward")
    if direction != "forward":
        which = (
            "is bidirectional: its reverse direction needs"
            if direction == "bidirectional"
            else "runs backwards: it needs"
        )
        raise ArtifactError(
            f"{layer} ({node.op_type}) {which} the whole sequence, so a state carried from chunk to chunk has "
            "no meaning; adopt without --stateful"
        )
    recurrent = constant_of(node.inputs[2])
    if recurrent is None or recurrent.ndim != 3 or (recurrent.dtype != np.float32 and node.op_type in ("LSTM", "GRU")):
        raise ArtifactError(
            f"{layer} ({node.op_type}): its recurrent weights are not constant float32, so its state is unknown"
        )
    size = int(recurrent.shape[1 if node.op_type == "DynamicQuantizeLSTM" else 2])
    position = {"h": 1, "c": 2}[kind]
    last = _last_step(node, kind, position)
    if len(last.outputs) <= position:
        last.resize_outputs(position + 1)
    if not last.outputs[position].name:
        last.outputs[position].name = f"{last.name or layer}:{kind}_out"
    return _Port(
        layer=layer,
        kind=kind,
        size=size,
        batch=_batch(node),
        what=(node.op_type, kind, size),
        nodes=(node,),
        leaving=last.outputs[position],
    )


def _last_step(node: ir.Node, kind: str, position: int) -> ir.Node:
    """The node that a layer's state leaves by: where a loop over time was unrolled, the last one with its weights."""
    seen = {node}
    while len(node.outputs) > position:
        steps, values = [], [node.outputs[position]]
        while values:
            for user, index in values.pop().uses():
                if user.op_type in ("Squeeze", "Unsqueeze", "Identity"):
                    values.append(user.outputs[0])
                elif user.op_type == node.op_type and index == STATES[CELLS[node.op_type]][kind]:
                    steps.append(user)
        steps = [step for step in steps if step not in seen and step.graph is node.graph]
        steps = [step for step in steps if all(_same(step.inputs[at], node.inputs[at]) for at in (1, 2))]
        if len(steps) > 1:
            names = ", ".join(str(step.name) for step in steps)
            raise ArtifactError(
                f"{node.name} ({node.op_type}) passes its state to several steps with its weights ({names}), "
                "so the last step is unknown; adopt without --stateful"
            )
        if not steps:
            break
        node = steps[0]
        seen.add(node)
    return node


def _same(one: ir.Value | None, other: ir.Value | None) -> bool:
    if one is other:
        return True
    left, right = constant_of(one), constant_of(other)
    return left is not None and right is not None and np.array_equal(left, right)


def _batch(node: ir.Node) -> str | int:
    """The batch axis of the layer's input [time, batch, features]: its size where that is fixed."""
    x = node.inputs[0]
    size = None if x is None or x.shape is None or len(x.shape) != 3 else x.shape[1]
    return size if isinstance(size, int) else BATCH


def _branches(node: ir.Node, nested: "dict[str, ir.Graph]", path: str, inside: frozenset[str]) -> list[_Port]:
    """The ports of an If: one for each state that both branches have, in the same order."""
    found = {name: _ports(graph, f"{path}.{name} / ", inside) for name, graph in nested.items()}
    first, second = found.get("then_branch", []), found.get("else_branch", [])
    if [port.what for port in first] != [port.what for port in second]:
        lonely = (first or second)[0]
        raise ArtifactError(
            f"{lonely.layer} ({lonely.what[0]}) is in a branch of the If {path}, whose other branch lacks the "
            "same states: fix the input that chooses with --fix NAME=VALUE, or adopt without --stateful"
        )
    ports = []
    for one, other in zip(first, second, strict=True):
        for name, port in (("then_branch", one), ("else_branch", other)):
            leaving = port.leaving
            if leaving.is_graph_output():
                title = f"{port.layer}/{port.kind}_out/Identity"
                leaving = append_node(nested[name], "Identity", leaving, name=title, output=f"{leaving.name}:copy")
            leaving.shape, leaving.type = ir.Shape([1, None, port.size]), FLOAT
            nested[name].outputs.append(leaving)
        node.resize_outputs(len(node.outputs) + 1)
        node.outputs[-1].name = f"{one.layer}:{one.kind}_out:chosen"
        ports.append(
            _Port(
                layer=one.layer,
                kind=one.kind,
                size=one.size,
                batch=one.batch,
                what=one.what,
                nodes=(*one.nodes, *other.nodes),
                leaving=node.outputs[-1],
            )
        )
    return ports
