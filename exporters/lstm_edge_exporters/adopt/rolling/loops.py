"""A Loop or a Scan that runs one recurrent layer over a sequence, step by step, becomes that layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.adopt.cells.affine import Stop, is_op, label
from lstm_edge_exporters.adopt.find import CELLS, STATES, is_zero
from lstm_edge_exporters.adopt.rolling.trips import Counted, check_trips, counters
from lstm_edge_exporters.onnx_graph.carried import Slots, past_identities, slots_of
from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.edit import add_constant, add_node, owner, replace_node
from lstm_edge_exporters.onnx_graph.names import rename, root_of, unique_names
from lstm_edge_exporters.onnx_graph.nodes import attribute_of, inputs_of
from lstm_edge_exporters.onnx_graph.shapes import Shape, known_shapes, shape_of

__all__ = ["roll_loops"]

_LAYERS = ("LSTM", "GRU", "RNN")


@dataclass(frozen=True, kw_only=True)
class _Rolled:
    """A body that is one layer: the layer's node in it, the sequence that it reads, and where its results go.

    ``states``: for each of h and c the place among the carried values; ``steps``: the places among the node's outputs
    of h at each step; ``reverse``: the sequence is read from its end.
    """

    layer: ir.Node
    counted: Counted
    states: Mapping[str, int]
    steps: Sequence[int] = field(default=())
    reverse: bool = False


def roll_loops(model: ir.Model) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Replace each Loop and Scan that is a recurrent layer over a sequence by one node; in place.

    The body has one recurrent node that takes one step of the sequence, and whose states are carried from step to
    step; the number of steps is the sequence's; nothing else that the Loop puts out depends on more.

    Returns:
        One sentence for each Loop that became a layer, and one for each that stays, with the reason.
    """
    nodes = [node for node in model.graph.all_nodes() if _layers_in(node)]
    rolled, left = [], []
    shapes = known_shapes(model) if nodes else {}
    with unique_names(model):
        for node in nodes:
            names = ", ".join(str(layer.name) for layer in _layers_in(node))
            try:
                rolled.append(f"{names}: {_roll(node, shapes)}")
            except Stop as stop:
                left.append(f"{names}: stays inside the {label(node)}, which runs it step by step: {stop}")
    return tuple(rolled), tuple(left)


def _layers_in(node: ir.Node) -> list[ir.Node]:
    slots = slots_of(node)
    return [] if slots is None else [inner for inner in slots.body if is_op(inner, *_LAYERS)]


def _roll(node: ir.Node, shapes: Mapping[ir.Value, Shape]) -> str:
    """Roll one Loop; returns what was done.

    Raises:
        Stop: something is not certain.
    """
    layers, slots, kind = _layers_in(node), slots_of(node), label(node)
    if len(layers) > 1:
        raise Stop(f"its body has {len(layers)} layers")
    assert slots is not None
    rolled = _read(node, slots, layers[0], shapes)
    _replace(node, rolled)
    return f"the {kind}, which ran it over {rolled.counted.sequence.name!r} step by step, became one layer"


def _read(node: ir.Node, slots: Slots, layer: ir.Node, shapes: Mapping[ir.Value, Shape]) -> _Rolled:
    if attribute_of(layer, "direction", "forward") != "forward" or attribute_of(layer, "layout", 0):
        raise Stop("the layer in it runs backwards")
    inputs = inputs_of(layer, 8)
    if inputs[4] is not None:
        raise Stop("the layer in it has lengths")
    if any(value is not None and _is_inside(value, slots) for value in (*inputs[1:4], inputs[7])):
        raise Stop("the layer's weights change from step to step")
    counted, reverse = _sequence(node, slots, layer, shapes)
    states = {kind: _slot(layer, kind, slots, shapes) for kind in STATES[CELLS[layer.op_type]]}
    h = _one_step(layer, "h")
    shape = shape_of(slots.body.inputs[slots.entering + states["h"]], shapes)
    steps = []
    for place in range(slots.carried, len(node.outputs)):
        if not _is_used(node.outputs[place]):
            continue
        leaving = past_identities(slots.body.outputs[slots.leaving + place])
        if leaving not in h or shape_of(leaving, shapes) != shape:
            raise Stop(f"it puts out {node.outputs[place].name!r}, which is not the layer's h at each step")
        steps.append(place)
    for index in range(slots.carried):
        if index not in states.values() and _is_used(node.outputs[index]):
            raise Stop(f"it hands on {node.outputs[index].name!r} too, which is not a state of the layer")
    if node.op_type == "Scan":
        _check_scan(node, steps, slots, reverse=reverse)
    else:
        check_trips(node, slots, counted, shapes)
    return _Rolled(layer=layer, counted=counted, states=states, steps=steps, reverse=reverse)


def _is_used(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _is_inside(value: ir.Value, slots: Slots) -> bool:
    """Say whether a value is the body's own: an input of it, or one of its nodes' that is not constant."""
    if constant_of(value) is not None:
        return False
    node = value.producer()
    return value in slots.body.inputs if node is None else node.graph is slots.body


def _sequence(node: ir.Node, slots: Slots, layer: ir.Node, shapes: Mapping[ir.Value, Shape]) -> tuple[Counted, bool]:
    """The sequence whose steps the layer reads one after the other, and whether it does from the end."""
    x = _plain(layer.inputs[0], shapes, "x")
    if node.op_type == "Scan":
        places = list(slots.body.inputs)
        place = places.index(x) if x in places else -1
        if place < slots.carried:
            raise Stop("the layer's input is not one step of a sequence")
        count = len(places) - slots.carried
        axis = _listed(node, "scan_input_axes", count)[place - slots.carried]
        reverse = bool(_listed(node, "scan_input_directions", count)[place - slots.carried])
        sequence = node.inputs[place]
    else:
        gather = x.producer()
        if gather is None or not is_op(gather, "Gather"):
            raise Stop("the layer's input is not one step of a sequence")
        index, sequence, axis, reverse = gather.inputs[1], gather.inputs[0], attribute_of(gather, "axis", 0), False
        now, _ = counters(node, slots)
        assert sequence is not None
        if index is None or _scalar(index) not in now:
            raise Stop(f"the step of {sequence.name!r} that it reads is not the number of the step")
    assert sequence is not None
    shape = shape_of(sequence, shapes)
    if shape is None or len(shape) != 3 or _is_inside(sequence, slots):
        raise Stop(f"the sequence {sequence.name!r} is not known to be [time, batch, features]")
    axis = axis % 3
    if axis == 2:
        raise Stop("it runs over the features of the sequence")
    return Counted(sequence=sequence, axis=axis), reverse


def _scalar(value: ir.Value) -> ir.Value:
    """The number behind a change of type or shape."""
    for _ in range(8):
        node = value.producer()
        if node is None or not is_op(node, "Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape") or not node.inputs[0]:
            break
        value = node.inputs[0]
    return value


def _plain(value: ir.Value | None, shapes: Mapping[ir.Value, Shape], what: str) -> ir.Value:
    """The ``[batch, size]`` value that a layer of one step has as ``[1, batch, size]``."""
    for _ in range(8):
        if value is None:
            break
        node, shape = value.producer(), shape_of(value, shapes)
        moves = node is not None and is_op(node, "Unsqueeze", "Squeeze", "Reshape", "Identity")
        if node is None or not moves:
            return value
        inner = None if node.inputs[0] is None else shape_of(node.inputs[0], shapes)
        if shape is None or inner is None or _sizes(shape) != _sizes(inner):
            break
        value = node.inputs[0]
    raise Stop(f"{what} of the layer in it has a shape that is not known")


def _sizes(shape: Shape) -> list[int | str | None] | None:
    """A shape without its axes of size 1, where all others are known."""
    return None if None in shape else [axis for axis in shape if axis != 1]


def _one_step(layer: ir.Node, kind: str) -> set[ir.Value]:
    """Every value that is the layer's state after this step, in any rank: Y is Y_h of one step."""
    places = {"h": (0, 1), "c": (2,)}[kind]
    found = {layer.outputs[place] for place in places if place < len(layer.outputs)}
    stack = list(found)
    while stack:
        moved = [n.outputs[0] for n in stack.pop().consumers() if is_op(n, "Squeeze", "Identity", "Reshape")]
        moved = [value for value in moved if value not in found and value.graph is layer.graph]
        found.update(moved)
        stack += moved
    return found


def _slot(layer: ir.Node, kind: str, slots: Slots, shapes: Mapping[ir.Value, Shape]) -> int:
    """The carried value that is the layer's h or c."""
    value = layer.inputs[STATES[CELLS[layer.op_type]][kind]] if len(layer.inputs) > 5 else None
    if value is None:
        raise Stop(f"the layer in it starts each step from the same {kind}")
    entering = _plain(value, shapes, kind)
    places = list(slots.body.inputs)
    index = places.index(entering) - slots.entering if entering in places else -1
    if not 0 <= index < slots.carried:
        raise Stop(f"the layer's {kind} is not carried from step to step as it is")
    leaving = past_identities(slots.body.outputs[slots.leaving + index])
    if leaving not in _one_step(layer, kind):
        raise Stop(f"what the next step gets as {kind} is not the layer's {kind} alone (a mask, or other nodes)")
    shape = shape_of(entering, shapes)
    if shape is None or len(shape) != 2 or shape_of(leaving, shapes) != shape:
        raise Stop(f"the layer's {kind} is not known to be [batch, size] at every step")
    return index


def _listed(node: ir.Node, name: str, count: int) -> list[int]:
    return list(attribute_of(node, name, None) or [0] * count)


def _check_scan(node: ir.Node, steps: Sequence[int], slots: Slots, *, reverse: bool) -> None:
    """Every answer of a Scan is stacked in the order in which the sequence is read, along the first axes."""
    count = len(node.outputs) - slots.carried
    axes, directions = _listed(node, "scan_output_axes", count), _listed(node, "scan_output_directions", count)
    for place in steps:
        if axes[place - slots.carried] not in (0, 1):
            raise Stop(f"it stacks {node.outputs[place].name!r} along axis {axes[place - slots.carried]}")
        if bool(directions[place - slots.carried]) != reverse:
            raise Stop(f"it stacks {node.outputs[place].name!r} in the other direction")


def _replace(node: ir.Node, rolled: _Rolled) -> None:
    layer, name = rolled.layer, str(rolled.layer.name)
    slots = slots_of(node)
    assert slots is not None
    rename(owner(layer), layer, f"{name}/rolled")
    x = rolled.counted.sequence
    if rolled.counted.axis == 1:
        x = add_node(node, "Transpose", [x], attributes={"perm": [1, 0, 2]}, name=f"{name}/Transpose")[0]
    inputs: list[ir.Value | None] = [x, *(_outside(node, value) for value in inputs_of(layer, 8)[1:4]), None]
    zero_axis = add_constant(root_of(owner(node)), f"{name}.axis", np.array([0]))
    for index in rolled.states.values():
        given = node.inputs[slots.inputs + index]
        inputs.append(None if is_zero(given) else add_node(node, "Unsqueeze", [given, zero_axis])[0])
    peephole = inputs_of(layer, 8)[7]
    if peephole is not None:
        inputs.append(_outside(node, peephole))
    while inputs[-1] is None:
        inputs.pop()
    attributes = dict(layer.attributes) | ({"direction": "reverse"} if rolled.reverse else {})
    results = ("Y", "Y_h", "Y_c")[: 1 + len(rolled.states)]
    outputs = add_node(node, layer.op_type, inputs, attributes=attributes, outputs=results, name=name)
    _connect(node, rolled, slots, outputs)


def _connect(node: ir.Node, rolled: _Rolled, slots: Slots, outputs: Sequence[ir.Value]) -> None:
    """Give what used the Loop the layer's results."""
    graph, name = root_of(owner(node)), str(rolled.layer.name).removesuffix("/rolled")
    new: list[ir.Value | None] = [None] * len(node.outputs)
    axis = add_constant(graph, f"{name}.direction", np.array([1]))
    first = add_constant(graph, f"{name}.first", np.array([0]))
    for place, index in enumerate(rolled.states.values()):
        if _is_used(node.outputs[index]):
            new[index] = add_node(node, "Squeeze", [outputs[1 + place], first])[0]
    count = len(node.outputs) - slots.carried
    axes = _listed(node, "scan_output_axes", count) if node.op_type == "Scan" else [0] * count
    for place in rolled.steps:
        flat = add_node(node, "Squeeze", [outputs[0], axis])[0]
        turned = axes[place - slots.carried] == 1
        new[place] = add_node(node, "Transpose", [flat], attributes={"perm": [1, 0, 2]})[0] if turned else flat
    for value in outputs:
        if not value.uses():
            rename(owner(node), value, "")
    replace_node(node, new)


def _outside(node: ir.Node, value: ir.Value | None) -> ir.Value | None:
    """A weight where the Loop is: one of the body's own constants is added there."""
    if value is None or not value.is_initializer() or value.graph is owner(node):
        return value
    array = constant_of(value)
    graph = root_of(owner(node))
    return value if array is None or value.graph is graph else add_constant(graph, str(value.name), array)
