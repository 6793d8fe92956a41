"""Recurrent nodes of one step each, one after the other along a sequence, become one layer."""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.adopt.cells.affine import Stop, is_op
from lstm_edge_exporters.adopt.find import CELLS, STATES, is_zero
from lstm_edge_exporters.adopt.rolling.slices import LONGEST_CHAIN, Step, Steps, plain, same_constant
from lstm_edge_exporters.onnx_graph.edit import add_constant, add_node, owner, remove_node, replace_node
from lstm_edge_exporters.onnx_graph.names import rename, root_of, unique_names
from lstm_edge_exporters.onnx_graph.nodes import attribute_of, inputs_of
from lstm_edge_exporters.onnx_graph.shapes import known_shapes, shape_of

__all__ = ["roll_steps"]

_LAYERS = ("LSTM", "GRU", "RNN")
_WEIGHTS = (1, 2, 3, 7)
_PLACES = {"h": 1, "c": 2}

Chain = list[ir.Node]


def roll_steps(model: ir.Model) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Replace each chain of recurrent nodes of one step by one node over the sequence; in place.

    The nodes have the same weights, by value; each starts from the h and c of the one before; what they read are the
    steps of one tensor in order, or is computed alike from such steps. What reads a single step's h reads it from the
    layer's answer; where the answers are stacked along time again, with the same computation on each, that is done on
    all steps at once.

    Returns:
        One sentence for each chain that became a layer, and one for each that stays, with the reason.
    """
    nodes = [node for node in model.graph.all_nodes() if is_op(node, *_LAYERS)]
    if not any(_following(nodes).values()):
        return (), ()
    steps = Steps(shapes=dict(known_shapes(model)))
    nodes = [node for node in nodes if _is_one_step(node, steps)]
    following = _following(nodes)
    rolled: list[str] = []
    left: list[str] = []
    answers: set[ir.Value] = set()
    chains = _chains(nodes, following)
    with unique_names(model):
        for chain in chains:
            try:
                runs = _runs(chain, following, steps)
            except Stop as stop:
                left.append(_stays(chain, stop))
                continue
            for run in runs:
                name, kind = run[0].name, run[0].op_type
                try:
                    source, answer = _roll(run, steps)
                except Stop as stop:
                    left.append(_stays(run, stop))
                    continue
                answers.add(answer)
                over = "" if source is None else f" over {source!r}"
                rolled.append(f"{name}: {len(run)} {kind} nodes of one step each{over} became one layer")
        if rolled:
            _stack(model, steps, answers)
    return tuple(rolled), tuple(left)


def _is_one_step(node: ir.Node, steps: Steps) -> bool:
    x = shape_of(_x(node), steps.shapes)
    return x is not None and len(x) == 3 and x[0] == 1


def _stays(chain: Chain, stop: Stop) -> str:
    first, last = chain[0], chain[-1]
    return f"{first.name} to {last.name}: stay {len(chain)} {first.op_type} nodes of one step each: {stop}"


def _following(nodes: Sequence[ir.Node]) -> dict[ir.Node, list[ir.Node]]:
    """The nodes that start from a node's last h, for each node."""
    leaving = {value: node for node in nodes for value in node.outputs[:2]}
    found: dict[ir.Node, list[ir.Node]] = {node: [] for node in nodes}
    for node in nodes:
        h = inputs_of(node, 6)[5]
        before = None if h is None else leaving.get(plain(h))
        if before is not None and before.graph is node.graph:
            found[before].append(node)
    return found


def _chains(nodes: Sequence[ir.Node], following: Mapping[ir.Node, Sequence[ir.Node]]) -> list[Chain]:
    """The chains of two nodes or more; where h goes on to several nodes, all of these are in one chain."""
    begun = {node for after in following.values() for node in after}
    chains = []
    for node in nodes:
        if node in begun:
            continue
        chain, stack = [], [node]
        while stack:
            chain.append(stack.pop())
            stack += following[chain[-1]][::-1]
        if len(chain) > 1:
            chains.append(chain)
    return chains


def _runs(chain: Chain, following: Mapping[ir.Node, Sequence[ir.Node]], steps: Steps) -> list[Chain]:
    """The parts of a chain that are one layer each: an encoder, whose last state a decoder starts from.

    Raises:
        Stop: it is not certain that the nodes are the steps of a layer.
    """
    runs: list[Chain] = []
    for node in chain:
        _check_step(node)
        if len(following[node]) > 1:
            names = " and ".join(str(after.name) for after in following[node])
            raise Stop(f"{names} both start from the state of {node.name}")
        if runs and _same_layer(runs[-1][-1], node):
            _check_c(runs[-1][-1], node)
            runs[-1].append(node)
        else:
            runs.append([node])
    for before, after in pairwise(runs):
        one, two = steps.step_of(_x(before[-1])), steps.step_of(_x(after[0]))
        if one is not None and two is not None and one[:2] == two[:2]:
            raise Stop(f"{after[0].name} has other weights than {before[-1].name}, and reads the next step")
    return [run for run in runs if len(run) > 1]


def _x(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None
    return value


def _check_step(node: ir.Node) -> None:
    if attribute_of(node, "direction", "forward") != "forward" or attribute_of(node, "layout", 0):
        raise Stop(f"{node.name} runs backwards")
    if inputs_of(node, 5)[4] is not None:
        raise Stop(f"{node.name} has lengths")


def _same_layer(one: ir.Node, two: ir.Node) -> bool:
    """Say whether two nodes have the same operator, attributes and weights."""
    if one.op_type != two.op_type or _settings(one) != _settings(two):
        return False
    first, second = inputs_of(one, 8), inputs_of(two, 8)
    return all(same_constant([first[place], second[place]]) for place in _WEIGHTS)


def _settings(node: ir.Node) -> dict[str, Any]:
    return {name: attribute.value for name, attribute in node.attributes.items()}


def _check_c(before: ir.Node, after: ir.Node) -> None:
    if before.op_type != "LSTM":
        return
    c = inputs_of(after, 7)[6]
    if c is None or len(before.outputs) < 3 or plain(c) is not before.outputs[2]:
        raise Stop(f"the c of {after.name} is not what {before.name} leaves")


def _roll(run: Chain, steps: Steps) -> tuple[str | None, ir.Value]:
    """Make one node of a run, and return the name of what it reads, and the layer's answer.

    Raises:
        Stop: what it reads is not a sequence, or an inner c is used elsewhere.
    """
    first, inner = run[0], set(run[1:])
    for node in run[:-1] if first.op_type == "LSTM" else []:
        _check_inner(node, inner)
    x, backwards = steps.joined([_x(node) for node in run], first, turn=False)
    _check_axes(x, _x(first), steps)
    source = steps.step_of(_x(first))
    name, kind = str(first.name), first.op_type
    given = inputs_of(first, 8)
    states = list(STATES[CELLS[kind]].values())
    inputs = [x, *given[1:5], *(None if is_zero(given[place]) else given[place] for place in states)]
    inputs += [*[None] * (7 - len(inputs)), given[7]]
    while inputs[-1] is None:
        inputs.pop()
    attributes = _settings(first) | ({"direction": "reverse"} if backwards else {})
    rename(owner(first), first, f"{name}/step")
    results = ("Y", "Y_h", "Y_c")[: 1 + len(states)]
    outputs = add_node(first, kind, inputs, attributes=attributes, outputs=results, name=name)
    answer = _connect(run, outputs, steps, name, backwards=backwards)
    return (None if source is None else source.tensor.name), answer


def _check_axes(x: ir.Value, step: ir.Value, steps: Steps) -> None:
    """Check that a sequence has the axes of its steps: axes of size 1 may have been moved between them."""
    whole, one = shape_of(x, steps.shapes) or (), shape_of(step, steps.shapes) or ()
    for size, other in zip(whole[1:], one[1:], strict=False):
        if isinstance(size, int) and isinstance(other, int) and size != other:
            raise Stop(f"the axes of {x.name!r} are not the batch and the features of the steps")


def _check_inner(node: ir.Node, inner: set[ir.Node]) -> None:
    stack = [node.outputs[2]] if len(node.outputs) > 2 else []
    while stack:
        value = stack.pop()
        if value.is_graph_output():
            raise Stop(f"the c of {node.name}, {value.name!r}, is an output of the graph")
        for user in value.consumers():
            if is_op(user, "Squeeze", "Unsqueeze", "Identity"):
                stack += user.outputs
            elif user not in inner:
                raise Stop(f"the c of {node.name} is also used by {user.name}")


def _connect(run: Chain, outputs: Sequence[ir.Value], steps: Steps, name: str, *, backwards: bool) -> ir.Value:
    """Give what used a step's h its place in the layer's answer, and what used the last states the layer's.

    Returns:
        The answer, ``[time, batch, hidden]``.
    """
    first, x = run[0], shape_of(_x(run[0]), steps.shapes)
    graph, batch, width = root_of(owner(first)), None if x is None else x[1], attribute_of(first, "hidden_size")
    constants = {
        n: add_constant(graph, f"{name}.{n}", np.array(v))
        for n, v in (("direction", [1]), ("outer", [0]), ("outermost", [0, 1]))
    }
    y = add_node(first, "Squeeze", [outputs[0], constants["direction"]])[0]
    steps.shapes[y] = (len(run), batch, width)
    new: list[list[ir.Value | None]] = []
    for count in range(len(run)):
        place = len(run) - 1 - count if backwards else count
        index = add_constant(graph, f"{name}.step", np.array(place))
        h = add_node(first, "Gather", [y, index], attributes={"axis": 0})[0]
        wide = outputs[1] if count == len(run) - 1 else add_node(first, "Unsqueeze", [h, constants["outer"]])[0]
        whole = add_node(first, "Unsqueeze", [h, constants["outermost"]])[0]
        steps.known[wide] = steps.known[whole] = Step(y, 0, place)
        steps.shapes.update({h: (batch, width), wide: (1, batch, width), whole: (1, 1, batch, width)})
        new.append([whole, wide])
    new[-1] += outputs[2:]
    for node, values in [*zip(run, new, strict=True)][::-1]:
        before = list(node.inputs)
        used = [
            v if old.uses() or old.is_graph_output() else None for old, v in zip(node.outputs, values, strict=False)
        ]
        replace_node(node, used)
        for value in before:
            _drop_moves(value)
    return y


def _drop_moves(value: ir.Value | None) -> None:
    """Remove the nodes that only add or remove axes for a step that is gone."""
    while value is not None and not value.uses() and not value.is_graph_output():
        node = value.producer()
        if node is None or not is_op(node, "Squeeze", "Unsqueeze", "Identity"):
            return
        value = node.inputs[0]
        remove_node(node)


def _stack(model: ir.Model, steps: Steps, answers: Collection[ir.Value]) -> None:
    """Replace each ``Concat`` of what is computed from every step of a layer's answer by that of the whole answer."""
    for node in [node for node in model.graph.all_nodes() if is_op(node, "Concat")]:
        pieces = [value for value in node.inputs if value is not None]
        if len(pieces) > 1 and len(pieces) == len(node.inputs) and _reaches(pieces[0], steps, answers):
            with contextlib.suppress(Stop):  # what reads single steps of the answer is right as it is
                replace_node(node, [_stacked(node, pieces, steps)])


def _reaches(value: ir.Value, steps: Steps, answers: Collection[ir.Value], depth: int = LONGEST_CHAIN) -> bool:
    step = steps.step_of(value)
    if step is not None:
        return step.tensor in answers
    node = plain(value).producer()
    return (
        node is not None
        and depth > 0
        and any(parent is not None and _reaches(parent, steps, answers, depth - 1) for parent in node.inputs)
    )


def _stacked(node: ir.Node, pieces: Sequence[ir.Value], steps: Steps) -> ir.Value:
    """What a ``Concat`` of steps gives, of all steps at once.

    Raises:
        Stop: the pieces are not alike, or are put together in another form.
    """
    shapes = [shape_of(piece, steps.shapes) for piece in pieces]
    shape, axis = shapes[0], attribute_of(node, "axis")
    if shape is None or any(other != shape for other in shapes):
        raise Stop("the pieces have other shapes")
    axis %= len(shape)
    whole, _ = steps.joined(pieces, node)
    inner = steps.shapes[whole][1:]

    def constant(name: str, numbers: Sequence[int]) -> ir.Value:
        return add_constant(root_of(owner(node)), f"{node.name}.{name}", np.array(numbers))

    if len(shape) == 3 and shape == (*inner[:axis], 1, *inner[axis:]):
        orders = ([0, 1, 2], [1, 0, 2], [1, 2, 0])
        return whole if axis == 0 else add_node(node, "Transpose", [whole], attributes={"perm": orders[axis]})[0]
    if len(shape) == 4 and shape == (1, 1, *inner) and axis == 0:
        return add_node(node, "Unsqueeze", [whole, constant("direction", [1])])[0]
    width = inner[1]
    if shape != inner or not isinstance(width, int):
        raise Stop("the pieces are put together in another form")
    if axis == 0:
        return add_node(node, "Reshape", [whole, constant("rows", [-1, width])])[0]
    turned = add_node(node, "Transpose", [whole], attributes={"perm": [1, 0, 2]})[0]
    return add_node(node, "Reshape", [turned, constant("columns", [-1, width * len(pieces)])])[0]
