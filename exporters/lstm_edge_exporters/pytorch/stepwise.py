"""Operators that act on each step separately, applied to all steps at once, with time as a new first axis."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.constants import constant_of

__all__ = ["Stuck", "apply_stepwise"]

# fmt: off
UNARY = frozenset((
    "Abs", "Cast", "Ceil", "Clip", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid",
    "HardSwish", "Identity", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu",
    "Round", "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Tanh",
))
# fmt: on
# These broadcast from the right, so a value that all steps share still meets each step's own axes.
BROADCAST = frozenset(
    ("Add", "And", "Div", "Equal", "Greater", "Less", "Max", "Min", "Mul", "Or", "Pow", "Sub", "Where")
)
ALONG_LAST_AXIS = frozenset(("LayerNormalization", "LogSoftmax", "Softmax"))

Series = Sequence[ir.Value]
Whole = Callable[[Series], ir.Value]
Add = Callable[[str, Sequence[ir.Value | None], Mapping[str, Any] | None], ir.Value]
Constant = Callable[[str, np.ndarray[Any, Any]], ir.Value]


class Stuck(Exception):  # noqa: N818 - never leaves this package: it becomes a part of a CaptureError
    """Why a loop over time cannot be expressed."""


def apply_stepwise(series: Series, whole: Whole, add: Add, constant: Constant) -> ir.Value:
    """Return the whole [T, ...] of a series whose values the same operator computes, step by step.

    Args:
        series: one value a step.
        whole: returns the whole of a series.
        add: adds a node and returns its output.
        constant: adds an initializer under a name.

    Raises:
        Stuck: the steps differ, or the operator does not act on each step separately.
    """
    nodes = [value.producer() for value in series]
    first = nodes[0]
    kinds = list(dict.fromkeys("a value from outside" if node is None else node.op_type for node in nodes))
    if first is None or len(kinds) > 1:
        raise Stuck(
            f"its steps are not alike: {' in one, '.join(kinds)} in another; a step that uses "
            "a result of an earlier step other than the state cannot be expressed"
        )
    alike = [node for node in nodes if node is not None]
    if any(_attributes(node) != _attributes(first) or len(node.inputs) != len(first.inputs) for node in alike):
        raise Stuck(f"its steps differ: {first.op_type} has different attributes in different steps")
    inputs = [_input(alike, place, whole) for place in range(len(first.inputs))]
    moving = [not _shared(alike, place) for place in range(len(first.inputs))]
    return _rewritten(first, inputs, moving, add, constant)


def _attributes(node: ir.Node) -> dict[str, str]:
    return {name: str(attribute.value) for name, attribute in node.attributes.items()}


def _shared(nodes: Sequence[ir.Node], place: int) -> bool:
    """Say whether an input is the same for all steps: the same value, or equal constants."""
    values = [node.inputs[place] for node in nodes]
    if all(value is values[0] for value in values):
        return True
    constants = [None if value is None else constant_of(value) for value in values]
    return all(c is not None and constants[0] is not None and np.array_equal(c, constants[0]) for c in constants)


def _input(nodes: Sequence[ir.Node], place: int, whole: Whole) -> ir.Value | None:
    values = [node.inputs[place] for node in nodes]
    if _shared(nodes, place):
        return values[0]
    present = [value for value in values if value is not None]
    if len(present) != len(values):
        raise Stuck(f"its steps differ: {nodes[0].op_type} has an input in one step that it lacks in another")
    return whole(present)


def _rewritten(
    node: ir.Node, inputs: Sequence[ir.Value | None], moving: Sequence[bool], add: Add, constant: Constant
) -> ir.Value:
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    kind = node.op_type
    if kind in UNARY or kind in BROADCAST:
        return add(kind, inputs, attributes)
    if kind == "MatMul" and moving == [True, False] and _rank(node.inputs[1]) == 2:
        return add(kind, inputs, attributes)
    if kind == "Gemm" and moving[0] and not any(moving[1:]) and _plain_gemm(attributes):
        return _linear(node, inputs, attributes, add, constant)
    if kind in ALONG_LAST_AXIS and not any(moving[1:]) and _last(node, attributes.get("axis", -1)):
        return add(kind, inputs, attributes | {"axis": -1})
    if kind == "Concat" and all(moving) and _last(node, attributes["axis"]):
        return add(kind, inputs, {"axis": -1})
    if kind == "Gather" and moving == [False, True] and not attributes.get("axis", 0):
        return add(kind, inputs, attributes)
    raise Stuck(f"{kind} inside the loop is not known to act on each step separately")


def _plain_gemm(attributes: Mapping[str, Any]) -> bool:
    return attributes.get("alpha", 1.0) == attributes.get("beta", 1.0) == 1.0 and not attributes.get("transA", 0)


def _linear(
    node: ir.Node, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any], add: Add, constant: Constant
) -> ir.Value:
    """Gemm takes two axes only: MatMul and Add do for three."""
    given, weight = node.inputs[1], constant_of(node.inputs[1])
    if given is None or weight is None:
        raise Stuck("Gemm inside the loop has computed weights, expected constant ones")
    matrix = given
    if attributes.get("transB", 0):
        name = given.name or "weight"
        given.name = f"{name}:rows"  # unused from here on; the matrix that is used keeps the layer's name
        matrix = constant(name, np.ascontiguousarray(weight.T))
    product = add("MatMul", [inputs[0], matrix], None)
    return product if len(inputs) < 3 or inputs[2] is None else add("Add", [product, inputs[2]], None)


def _rank(value: ir.Value | None) -> int:
    return -1 if value is None or value.shape is None else len(value.shape)


def _last(node: ir.Node, axis: int) -> bool:
    """Say whether an axis of a step's value is its last one."""
    rank = _rank(node.outputs[0])
    return axis == -1 or (rank > 0 and axis == rank - 1)
