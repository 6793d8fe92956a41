"""Steps of one tensor, and what is computed from each step alike, put together along time again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.adopt.cells.affine import Stop, is_op, label
from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.edit import add_constant, add_node
from lstm_edge_exporters.onnx_graph.names import root_of
from lstm_edge_exporters.onnx_graph.nodes import attribute_of, inputs_of
from lstm_edge_exporters.onnx_graph.shapes import Shape, shape_of
from lstm_edge_runtime.arrays import Array

__all__ = ["LONGEST_CHAIN", "Step", "Steps", "plain", "same_constant"]

LONGEST_CHAIN = 16
_ELEMENTWISE = ("Abs", "Elu", "Erf", "Exp", "HardSigmoid", "Identity", "LeakyRelu", "Neg", "Relu", "Selu", "Sigmoid",
                "Softplus", "Softsign", "Sqrt", "Tanh")  # fmt: skip
_BINARY = ("Add", "Sub", "Mul", "Div")
_OVER_FEATURES = ("Softmax", "LogSoftmax")


class Step(NamedTuple):
    """One step of a tensor: the tensor, the axis along which it is cut, and the place on it."""

    tensor: ir.Value
    axis: int
    place: int


def plain(value: ir.Value) -> ir.Value:
    """Return what a value was before axes of size 1 were added or removed."""
    for _ in range(LONGEST_CHAIN):
        node = value.producer()
        if node is None or not is_op(node, "Unsqueeze", "Squeeze", "Identity") or node.inputs[0] is None:
            break
        value = node.inputs[0]
    return value


def same_constant(values: Sequence[ir.Value | None]) -> bool:
    """Say whether values are one constant, or none: the same value, or equal arrays."""
    first = values[0]
    if all(value is first for value in values):
        return first is None or constant_of(first) is not None
    arrays = [constant_of(value) for value in values]
    start = arrays[0]
    return start is not None and all(
        array is not None and array.dtype == start.dtype and np.array_equal(array, start) for array in arrays
    )


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Finds the tensor that values are the steps of.

    ``shapes``: grows by the shapes of what is added; ``known``: steps that no node cuts out, such as a layer's last h.
    """

    shapes: dict[ir.Value, Shape]
    known: dict[ir.Value, Step] = field(default_factory=dict)

    def step_of(self, value: ir.Value) -> Step | None:
        """Return the step that a value is, where a ``Gather``, ``Slice`` or ``Split`` cuts it out."""
        value = plain(value)
        if value in self.known:
            return self.known[value]
        node = value.producer()
        if node is None or not is_op(node, "Gather", "Slice", "Split") or node.inputs[0] is None:
            return None
        tensor = node.inputs[0]
        shape = shape_of(tensor, self.shapes)
        if shape is None:
            return None
        place = list(node.outputs).index(value)
        found = {"Gather": _gathered, "Slice": _sliced, "Split": _split}[node.op_type](node, shape, place)
        if found is None:
            return None
        axis, index = found[0] % len(shape), found[1]
        size = shape[axis]
        if index < 0:
            if not isinstance(size, int):
                return None
            index += size
        return Step(tensor, axis, index)

    def joined(self, values: Sequence[ir.Value], before: ir.Node, *, turn: bool = True) -> tuple[ir.Value, bool]:
        """Return values ``[batch, features]``, one for each step, as one ``[time, batch, features]``.

        Args:
            values: the steps, in the order in which they are used; axes of size 1 may be added to them.
            before: nodes are added before this one.
            turn: where the values run from the last step of a tensor to its first, turn the tensor; else return it as
                it is, and True.

        Raises:
            Stop: they are not the steps of one tensor in order, nor computed from such steps alike.
        """
        steps = [self.step_of(value) for value in values]
        if all(step is not None for step in steps):
            return self._whole([step for step in steps if step is not None], before, turn=turn)
        return self._mapped([plain(value) for value in values], before, turn=turn)

    def _whole(self, steps: Sequence[Step], before: ir.Node, *, turn: bool) -> tuple[ir.Value, bool]:
        tensor, axis, _ = steps[0]
        places, name = [step.place for step in steps], tensor.name
        if any((step.tensor, step.axis) != (tensor, axis) for step in steps):
            raise Stop(f"its inputs are not the steps of one tensor ({name!r} and others)")
        backwards = places[0] > places[-1]
        ordered = places[::-1] if backwards else places
        if ordered != list(range(ordered[0], ordered[0] + len(ordered))):
            raise Stop(f"it does not read {name!r} step after step, but {places}")
        shape = shape_of(tensor, self.shapes)
        if shape is None or len(shape) != 3:
            raise Stop(f"{name!r}, whose steps it reads, is not known to have three axes")
        order = [axis, *(other for other in range(3) if other != axis)]
        result = tensor if axis == 0 else self._add("Transpose", [tensor], before, {"perm": order})
        first, last = ordered[0], ordered[-1] + 1
        if (first, last) != (0, shape[axis]):
            result = self._cut(result, before, first, last, 1)
        if backwards and turn:
            result = self._cut(result, before, -1, -(2**31), -1)
        self.shapes[result] = (len(places), *(shape[place] for place in order[1:]))
        return result, backwards and not turn

    def _mapped(self, values: Sequence[ir.Value], before: ir.Node, *, turn: bool) -> tuple[ir.Value, bool]:
        """What the same operator makes of each step, made of all steps at once."""
        nodes = [value.producer() for value in values]
        first = nodes[0]
        if first is None or any(node is None or not _alike(node, first) for node in nodes) or len(first.outputs) != 1:
            raise Stop(f"{values[0].name!r} and those of the other steps are not computed alike from one tensor")
        shape = shape_of(values[0], self.shapes)
        if shape is None or len(shape) != 2 or any(shape_of(value, self.shapes) != shape for value in values):
            raise Stop(f"{values[0].name!r} is not known to be [batch, features] at every step")
        slots = [[node.inputs[place] for node in nodes if node is not None] for place in range(len(first.inputs))]
        moving = [place for place, slot in enumerate(slots) if not same_constant(slot)]
        _check_mapped(first, moving)
        inputs: list[ir.Value | None] = list(first.inputs)
        backwards = set()
        for place in moving:
            slot = [value for value in slots[place] if value is not None]
            inner = shape_of(slot[0], self.shapes) if len(slot) == len(nodes) else None
            if inner is None or len(inner) != 2 or (is_op(first, *_BINARY) and len(moving) > 1 and inner != shape):
                raise Stop(f"an input of {label(first)} is not known to be [batch, features]")
            inputs[place], turned = self.joined(slot, before, turn=turn)
            backwards.add(turned)
        if len(backwards) != 1:
            raise Stop(f"{label(first)} reads one tensor forwards and another backwards")
        result = self._apply(first, inputs, before)
        self.shapes[result] = (len(values), *shape)
        return result, backwards.pop()

    def _apply(self, node: ir.Node, inputs: Sequence[ir.Value | None], before: ir.Node) -> ir.Value:
        if node.op_type != "Gemm":
            return self._add(node.op_type, inputs, before, _attributes(node), name=node.name)
        weight = inputs[1]
        if attribute_of(node, "transB", 0):
            weight = self._add("Transpose", [weight], before, {"perm": [1, 0]})
        # MatMul and Add under the layer's name, which quantization reads as one linear layer.
        product = self._add("MatMul", [inputs[0], weight], before, None, name=node.name)
        bias = inputs_of(node, 3)[2]
        return product if bias is None else self._add("Add", [product, bias], before, None)

    def _cut(self, value: ir.Value, before: ir.Node, start: int, end: int, step: int) -> ir.Value:
        graph = root_of_node(before)
        bounds = [add_constant(graph, f"{before.name}.{n}", np.array([v])) for n, v in
                  (("start", start), ("end", end), ("axis", 0), ("step", step))]  # fmt: skip
        return self._add("Slice", [value, *bounds], before, None)

    def _add(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        before: ir.Node,
        attributes: Mapping[str, Any] | None,
        name: str | None = None,
    ) -> ir.Value:
        return add_node(before, op_type, inputs, attributes=attributes, name=name)[0]


def root_of_node(node: ir.Node) -> ir.Graph:
    """Return the outermost graph around a node."""
    assert isinstance(node.graph, ir.Graph)
    return root_of(node.graph)


def _gathered(node: ir.Node, _shape: Shape, _place: int) -> tuple[int, int] | None:
    index = constant_of(node.inputs[1])
    if index is None or index.size != 1:
        return None
    return attribute_of(node, "axis", 0), int(index.reshape(-1)[0])


def _sliced(node: ir.Node, _shape: Shape, _place: int) -> tuple[int, int] | None:
    starts, ends, axes, steps = (_integers(value) for value in inputs_of(node, 5)[1:])
    if starts is None or ends is None or axes is None or len(starts) != 1 or len(ends) != 1 or len(axes) != 1:
        return None
    if (steps or [1]) != [1]:
        return None
    start, end = starts[0], ends[0]
    last = start == -1 and end >= 2**31 - 1
    return (axes[0], start) if last or (end == start + 1 and end != 0) else None


def _split(node: ir.Node, shape: Shape, place: int) -> tuple[int, int] | None:
    axis, sizes = attribute_of(node, "axis", 0), _integers(inputs_of(node, 2)[1])
    if sizes is None and "split" in node.attributes:
        sizes = list(node.attributes["split"].value)
    ones = shape[axis] == len(node.outputs) if sizes is None else set(sizes) == {1}
    return (axis, place) if ones else None


def _integers(value: ir.Value | None) -> list[int] | None:
    array: Array | None = constant_of(value)
    return None if array is None else [int(number) for number in array.reshape(-1)]


def _attributes(node: ir.Node) -> dict[str, Any]:
    values = {name: attribute.value for name, attribute in node.attributes.items()}
    return values | ({"axis": -1} if node.op_type in (*_OVER_FEATURES, "Concat") else {})


def _alike(node: ir.Node, first: ir.Node) -> bool:
    same = (node.op_type, node.domain, len(node.inputs)) == (first.op_type, first.domain, len(first.inputs))
    return same and {n: a.value for n, a in node.attributes.items()} == {
        n: a.value for n, a in first.attributes.items()
    }


def _check_mapped(node: ir.Node, moving: Sequence[int]) -> None:
    """Check that an operator on ``[batch, features]`` does the same on ``[time, batch, features]``.

    Raises:
        Stop: it does not, or it is not known to.
    """
    fixed = [array for place, value in enumerate(node.inputs) if place not in moving
             and (array := constant_of(value)) is not None]  # fmt: skip
    if is_op(node, *_ELEMENTWISE) and list(moving) == [0] and not fixed:
        return
    if is_op(node, *_OVER_FEATURES) and attribute_of(node, "axis", -1) in (-1, 1):
        return
    if is_op(node, *_BINARY) and moving and all(array.ndim < 2 for array in fixed):
        return
    if is_op(node, "MatMul") and list(moving) == [0] and fixed[0].ndim == 2:
        return
    if is_op(node, "Concat") and not fixed and attribute_of(node, "axis") in (-1, 1):
        return
    plain_gemm = all(attribute_of(node, name, neutral) == neutral
                     for name, neutral in (("alpha", 1.0), ("beta", 1.0), ("transA", 0)))  # fmt: skip
    if is_op(node, "Gemm") and list(moving) == [0] and plain_gemm and all(array.ndim < 2 for array in fixed[1:]):
        return
    raise Stop(f"{label(node)}, which computes each step, is not known to do the same on all steps at once")
