"""How often a Loop runs, and which of its values count the steps: read backwards, and only where it is certain."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.adopt.cells.affine import Stop, is_op
from lstm_edge_exporters.onnx_graph.carried import Slots, past_identities
from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.nodes import attribute_of
from lstm_edge_exporters.onnx_graph.shapes import Shape, shape_of

__all__ = ["Counted", "check_trips", "counters"]

# Converters write "no limit" as the largest int32 or int64.
NO_LIMIT = 2**31 - 1
# A size goes through Shape, Gather, Cast, Squeeze; exporters leave up to five nodes.
LONGEST_CHAIN = 16
_COPIES = ("Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape")


@dataclass(frozen=True, kw_only=True)
class Counted:
    """A sequence that a Loop reads one step of at a time, and the axis of its steps."""

    sequence: ir.Value
    axis: int


def counters(node: ir.Node, slots: Slots) -> tuple[set[ir.Value], set[ir.Value]]:
    """Return the values of a Loop's body that are 0, 1, 2, ... in its steps, and those that are one more."""
    now, after = {slots.body.inputs[0]}, set[ir.Value]()
    for index in range(slots.carried):
        entering, leaving = slots.body.inputs[slots.entering + index], slots.body.outputs[slots.leaving + index]
        start, add = constant_of(node.inputs[slots.inputs + index]), past_identities(leaving).producer()
        if start is None or start.size != 1 or start.reshape(-1)[0] != 0 or not is_op(add, "Add"):
            continue
        assert add is not None
        step = [constant_of(value) for value in add.inputs if _copied(value) is not entering]
        if len(step) == 1 and step[0] is not None and step[0].size == 1 and step[0].reshape(-1)[0] == 1:
            now.add(entering)
            after.add(add.outputs[0])
    return now, after


def _copied(value: ir.Value | None) -> ir.Value | None:
    """What a number is a copy of, past changes of type and shape."""
    for _ in range(LONGEST_CHAIN):
        node = None if value is None else value.producer()
        if node is None or not is_op(node, *_COPIES):
            break
        value = node.inputs[0]
    return value


def check_trips(node: ir.Node, slots: Slots, counted: Counted, shapes: Mapping[ir.Value, Shape]) -> None:
    """Check that a Loop takes one step for each step of a sequence, and no other.

    Raises:
        Stop: that is not certain.
    """
    limits = [] if node.inputs[0] is None or _no_limit(node.inputs[0]) else [node.inputs[0]]
    before = _conjuncts(node.inputs[1])
    inside = _conjuncts(slots.body.outputs[0])
    _, after = counters(node, slots)
    given = slots.body.inputs[1]
    for value in inside:
        if value is None or past_identities(value) is given or _is_true(value):
            continue
        limits.append(_bound(value, after))
    for value in before:
        if not _is_true(value):
            _check_begins(value, counted, shapes)
    if any(value is not None and past_identities(value) is given for value in inside) and not all(
        map(_is_true, before)
    ):
        raise Stop("the condition that it begins with, which is not constant, holds for all of its steps")
    if not limits:
        raise Stop("nothing says how many steps it takes")
    for limit in limits:
        if not _no_limit(limit) and not _is_size(limit, counted, shapes):
            raise Stop(f"its number of steps {limit.name!r} is not known to be that of {counted.sequence.name!r}")


def _no_limit(value: ir.Value) -> bool:
    array = constant_of(value)
    return array is not None and array.size == 1 and array.reshape(-1)[0] >= NO_LIMIT


def _is_true(value: ir.Value | None) -> bool:
    array = constant_of(value)
    return value is None or (array is not None and array.size == 1 and bool(array.reshape(-1)[0]))


def _conjuncts(value: ir.Value | None) -> list[ir.Value | None]:
    """What must all hold for a condition to hold."""
    found: list[ir.Value | None] = []
    stack = [value]
    while stack:
        current = stack.pop()
        node = None if current is None else past_identities(current).producer()
        if node is not None and is_op(node, "And"):
            stack += node.inputs
        elif node is not None and is_op(node, "Cast", "Squeeze", "Unsqueeze", "Reshape"):
            stack.append(node.inputs[0])
        else:
            found.append(current)
    return found


def _less(value: ir.Value | None) -> tuple[ir.Value | None, ir.Value | None] | None:
    """The smaller and the greater side of a comparison."""
    node = None if value is None else past_identities(value).producer()
    if node is None or not is_op(node, "Less", "Greater"):
        return None
    left, right = node.inputs
    return (left, right) if node.op_type == "Less" else (right, left)


def _bound(value: ir.Value | None, after: set[ir.Value]) -> ir.Value:
    """The bound of a condition ``steps taken < bound``."""
    sides = _less(value)
    if sides is None or sides[1] is None or _copied(sides[0]) not in after:
        name = None if value is None else value.name
        raise Stop(f"its condition {name!r} is not 'steps taken < number of steps'")
    return sides[1]


def _check_begins(value: ir.Value | None, counted: Counted, shapes: Mapping[ir.Value, Shape]) -> None:
    """A condition ``0 < number of steps`` before the first step changes nothing: a Loop without steps has none."""
    sides = _less(value)
    start = None if sides is None else constant_of(sides[0])
    zero = start is not None and start.size == 1 and start.reshape(-1)[0] == 0
    if sides is None or not zero or sides[1] is None:
        raise Stop("the condition that it begins with is not constant")
    if not _no_limit(sides[1]) and not _is_size(sides[1], counted, shapes):
        raise Stop("the condition that it begins with is not about the number of steps")


def _is_size(value: ir.Value, counted: Counted, shapes: Mapping[ir.Value, Shape]) -> bool:
    """Say whether a number is the size of the sequence's axis."""
    shape = shape_of(counted.sequence, shapes)
    size = None if shape is None or counted.axis >= len(shape) else shape[counted.axis]
    if size is None:
        return False
    array = constant_of(value)
    if array is not None:
        return array.size == 1 and isinstance(size, int) and int(array.reshape(-1)[0]) == size
    return _size_of(value, shapes) == size


def _size_of(value: ir.Value, shapes: Mapping[ir.Value, Shape]) -> int | str | None:
    """The axis whose size a value is, as ``known_shapes`` calls it."""
    found = _axes_of(value, shapes, LONGEST_CHAIN)
    return found[0] if found is not None and len(found) == 1 else None


def _axes_of(value: ir.Value | None, shapes: Mapping[ir.Value, Shape], depth: int) -> Shape | None:
    """The axes whose sizes a vector or a number holds."""
    node = None if value is None else value.producer()
    if node is None or depth == 0 or node.inputs[0] is None:
        return None
    if is_op(node, "Shape"):
        shape = shape_of(node.inputs[0], shapes)
        return None if shape is None else shape[attribute_of(node, "start", 0) : attribute_of(node, "end", len(shape))]
    if is_op(node, *_COPIES):
        return _axes_of(node.inputs[0], shapes, depth - 1)
    inner = _axes_of(node.inputs[0], shapes, depth - 1) if is_op(node, "Gather", "Slice") else None
    numbers = [constant_of(parent) for parent in node.inputs[1:]]
    if inner is None or any(number is None or number.size != 1 for number in numbers):
        return None
    found = [int(np.asarray(number).reshape(-1)[0]) for number in numbers]
    if node.op_type == "Gather":
        inside = attribute_of(node, "axis", 0) == 0 and -len(inner) <= found[0] < len(inner)
        return (inner[found[0]],) if inside else None
    plain = node.op_type == "Slice" and found[2:] in ([], [0], [0, 1])
    return inner[found[0] : found[1]] if plain else None
