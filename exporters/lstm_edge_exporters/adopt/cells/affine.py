"""Reading products with constant weights backwards: which sources a slice of the gates is a linear function of."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.shapes import Shape, shape_of
from lstm_edge_runtime.arrays import Array

__all__ = ["LONGEST_CHAIN", "Affine", "Stop", "is_op", "label", "read_affine", "through"]


# Nodes between a gate and its sources: exporters leave up to six (Gemm, Add, Add, Slice, Split, Identity).
LONGEST_CHAIN = 32


class Stop(Exception):  # noqa: N818 - never leaves this package: it becomes a sentence of the report
    """The reason why a recognized cell is not certain, with the name of the node that prevents it."""


@dataclass(frozen=True, kw_only=True)
class Affine:
    """``sum(source @ weights[source]) + sum(biases)``: float32 ``[B, width]``, rank 2 if its sources are.

    ``weights``: for each source, a value ``[B, n]``, its matrix ``[n, width]``; ``biases``: ``[width]``, under the
    source whose product they were added to, or under None; ``nodes``: all nodes between the sources and the value.
    """

    weights: Mapping[ir.Value, Array]
    biases: Mapping[ir.Value | None, Array]
    nodes: frozenset[ir.Node]
    width: int

    def cut(self, start: int, stop: int, nodes: Iterable[ir.Node]) -> "Affine":
        """Return the columns ``start`` to ``stop``, as nodes such as ``Split`` and ``Slice`` take them."""
        return Affine(
            weights={source: array[:, start:stop] for source, array in self.weights.items()},
            biases={source: array[start:stop] for source, array in self.biases.items()},
            nodes=self.nodes.union(nodes),
            width=stop - start,
        )

    def bias(self, *sources: ir.Value | None) -> Array:
        """Return the sum ``[width]`` of the biases that were added to these sources' products."""
        found = [self.biases[source] for source in sources if source in self.biases]
        return np.asarray(np.sum([np.zeros(self.width, np.float32), *found], axis=0, dtype=np.float32))


def label(node: ir.Node) -> str:
    """Return ``Gemm node 'linear'``, for sentences."""
    return f"{node.op_type} node {node.name!r}" if node.name else f"{node.op_type} node without a name"


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Say whether a node is one of these operators of ONNX itself."""
    return node is not None and node.domain in ("", "ai.onnx") and node.op_type in op_types


def through(value: ir.Value | None) -> ir.Value:
    """Return what a value is a copy of, past ``Identity`` nodes."""
    assert value is not None
    for _ in range(LONGEST_CHAIN):
        node = value.producer()
        if node is None or not is_op(node, "Identity") or node.inputs[0] is None:
            break
        value = node.inputs[0]
    return value


def read_affine(value: ir.Value, shapes: Mapping[ir.Value, Shape]) -> Affine:
    """Read a value backwards to the sources that it is a linear function of.

    ``Gemm`` and ``MatMul`` with constant weights, ``Add``, ``Split``, ``Slice`` and ``Concat`` are followed; the
    caller checks that the sources have rank 2, which is then the rank of everything in between.

    Raises:
        Stop: there is another node in between; the message names it.
    """
    return _Reader(shapes=shapes, read={}, numbers={}).affine(value, LONGEST_CHAIN)


@dataclass(frozen=True, kw_only=True)
class _Reader:
    shapes: Mapping[ir.Value, Shape]
    read: dict[ir.Value, Affine]
    numbers: dict[ir.Value, tuple[NDArray[np.int64], set[ir.Node]]]

    def affine(self, value: ir.Value, depth: int) -> Affine:
        found = self.read.get(value)
        if found is not None:
            return found
        node = value.producer()
        if node is None:
            raise Stop(f"a gate's input is {value.name!r}, which is not a product with constant weights")
        if depth == 0:
            raise Stop(f"more than {LONGEST_CHAIN} nodes are between a gate and its weights, at {label(node)}")
        readers = {"Gemm": self._product, "MatMul": self._product, "Add": self._sum, "Identity": self._copy}
        readers |= {"Split": partial(self._split, value), "Slice": self._slice}
        if not is_op(node, *readers):
            raise Stop(f"a gate's input comes from {label(node)}, which is not a product with constant weights")
        affine = readers[node.op_type](node, depth - 1)
        self.read[value] = affine
        return affine

    def _copy(self, node: ir.Node, depth: int) -> Affine:
        source = self.affine(_input(node, 0), depth)
        return source.cut(0, source.width, [node])

    def _product(self, node: ir.Node, depth: int) -> Affine:
        weight = _weight(node, 1)
        if weight.ndim != 2:
            raise Stop(f"{label(node)} has weights of shape {list(weight.shape)}, expected two axes")
        biases: dict[ir.Value | None, Array] = {}
        parts = None
        if node.op_type == "Gemm":
            alpha, beta, turn, turned = (_attribute(node, name) for name in ("alpha", "beta", "transA", "transB"))
            if turn:
                raise Stop(f"{label(node)} has transA = 1, expected 0")
            weight = (weight.T if turned else weight) * np.float32(alpha)
            parts = self._parts(_input(node, 0), weight, depth)
            if len(node.inputs) > 2 and node.inputs[2] is not None:
                row = _row(_weight(node, 2), weight.shape[1], node) * np.float32(beta)
                # One source: the bias is its own (a GRU's reset gate covers it); several: it belongs to none.
                biases[next(iter(parts)) if len(parts) == 1 else None] = row
        parts = parts if parts is not None else self._parts(_input(node, 0), weight, depth)
        return Affine(weights=parts, biases=biases, nodes=frozenset([node]), width=weight.shape[1])

    def _parts(self, value: ir.Value, weight: Array, depth: int) -> dict[ir.Value, Array]:
        """The rows of a matrix by the source they meet: several where the input is a ``Concat``."""
        value = through(value)
        node = value.producer()
        if node is None or depth == 0 or not is_op(node, "Concat") or _attribute(node, "axis") not in (1, -1):
            return {value: weight}
        widths = [self._width(parent) for parent in node.inputs]
        if widths.count(None) == 1:
            widths[widths.index(None)] = weight.shape[0] - sum(width for width in widths if width is not None)
        known = [width for width in widths if width is not None and width > 0]
        if len(known) != len(widths) or sum(known) != weight.shape[0]:
            raise Stop(f"the widths of the inputs of {label(node)} are unknown")
        parts: dict[ir.Value, Array] = {}
        blocks = np.split(weight, np.cumsum(known)[:-1])
        for parent, block in zip(node.inputs, blocks, strict=True):
            assert parent is not None
            for source, rows in self._parts(parent, block, depth - 1).items():
                parts[source] = parts[source] + rows if source in parts else rows
        return parts

    def _width(self, value: ir.Value | None) -> int | None:
        if value is None:
            return None
        axes = shape_of(value, self.shapes)
        width = axes[1] if axes is not None and len(axes) == 2 else None
        return width if isinstance(width, int) else None

    def _sum(self, node: ir.Node, depth: int) -> Affine:
        rows: list[Array] = []
        terms: list[Affine] = []
        for position in (0, 1):
            operand = _input(node, position)
            product = is_op(through(operand).producer(), "Gemm", "MatMul")
            constant = None if product else constant_of(operand)
            if constant is None:
                terms.append(self.affine(operand, depth))
            else:
                rows.append(constant)
        if not terms:
            raise Stop(f"{label(node)} adds constants only")
        width = terms[0].width
        if any(term.width != width for term in terms):
            raise Stop(f"{label(node)} adds {width} and {terms[1].width} columns")
        weights: dict[ir.Value, Array] = dict(terms[0].weights)
        biases: dict[ir.Value | None, Array] = dict(terms[0].biases)
        for term in terms[1:]:
            _merge(weights, term.weights)
            _merge(biases, term.biases)
        # A row that is added to one product alone belongs to it, as MatMul + Add is a linear layer.
        alone = next(iter(weights)) if len(weights) == 1 else None
        _merge(biases, {alone: sum((_row(row, width, node) for row in rows), np.zeros(width, np.float32))})
        nodes = frozenset([node]).union(*(term.nodes for term in terms))
        return Affine(weights=weights, biases=biases, nodes=nodes, width=width)

    def _split(self, part: ir.Value, node: ir.Node, depth: int) -> Affine:
        whole = self.affine(_input(node, 0), depth)
        if _attribute(node, "axis") not in (1, -1):
            raise Stop(f"{label(node)} splits along axis {_attribute(node, 'axis')}, expected 1")
        count = len(node.outputs)
        nodes = {node}
        if len(node.inputs) > 1 and node.inputs[1] is not None:
            given, used = self._integers(node.inputs[1], depth)
            sizes = given.tolist()
            nodes |= used
        elif "split" in node.attributes:
            sizes = list(node.attributes["split"].value)
        else:
            size = -(-whole.width // count)
            sizes = [size] * (count - 1) + [whole.width - size * (count - 1)]
        if len(sizes) != count or sum(sizes) != whole.width or min(sizes) < 0:
            raise Stop(f"{label(node)} splits {whole.width} columns into {sizes}")
        position = list(node.outputs).index(part)
        start = sum(sizes[:position])
        return whole.cut(start, start + sizes[position], nodes)

    def _slice(self, node: ir.Node, depth: int) -> Affine:
        whole = self.affine(_input(node, 0), depth)
        if len(node.inputs) < 4 or node.inputs[3] is None:
            raise Stop(f"{label(node)} does not give its axes")
        found = [self._integers(_input(node, position), depth) for position in range(1, len(node.inputs))]
        bounds = [array.tolist() for array, _ in found]
        if any(len(bound) != 1 for bound in bounds) or bounds[2][0] not in (1, -1) or bounds[3:] not in ([], [[1]]):
            raise Stop(f"{label(node)} does not select one range of columns")
        start, stop, _ = slice(bounds[0][0], bounds[1][0]).indices(whole.width)
        return whole.cut(start, max(start, stop), {node}.union(*(used for _, used in found)))

    def _integers(self, value: ir.Value, depth: int) -> tuple[NDArray[np.int64], set[ir.Node]]:
        """A vector of bounds, also where it is computed from the number of columns, as torch's ``chunk`` leaves it."""
        if value not in self.numbers:
            self.numbers[value] = self._compute(value, depth)
        return self.numbers[value]

    def _compute(self, value: ir.Value, depth: int) -> tuple[NDArray[np.int64], set[ir.Node]]:
        constant = constant_of(value)
        if constant is not None:
            return constant.astype(np.int64).ravel(), set()
        node = value.producer()
        if node is None or depth == 0:
            raise Stop(f"the bounds {value.name!r} of a gate's slice are not constant")
        if is_op(node, "Gather") and is_op(shape := _input(node, 0).producer(), "Shape"):
            assert shape is not None
            index = constant_of(node.inputs[1])
            if not shape.attributes and index is not None and index.ravel().tolist() in ([1], [-1]):
                return np.array([self.affine(_input(shape, 0), depth - 1).width]), {node, shape}
        if is_op(node, "Unsqueeze", "Squeeze", "Identity", "Cast"):
            numbers, nodes = self._integers(_input(node, 0), depth - 1)
            return numbers, nodes | {node}
        if is_op(node, *_ARITHMETIC):
            left, nodes = self._integers(_input(node, 0), depth - 1)
            right, others = self._integers(_input(node, 1), depth - 1)
            if not (node.op_type == "Div" and (np.any(right <= 0) or np.any(left < 0))):
                return _ARITHMETIC[node.op_type](left, right), nodes | others | {node}
        raise Stop(f"the bounds of a gate's slice come from {label(node)}, and are not constant")


_ARITHMETIC = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.floor_divide}
_DEFAULTS = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0, "axis": 0}


def _attribute(node: ir.Node, name: str) -> Any:
    return node.attributes[name].value if name in node.attributes else _DEFAULTS[name]


def _input(node: ir.Node, position: int) -> ir.Value:
    value = node.inputs[position] if position < len(node.inputs) else None
    if value is None:
        raise Stop(f"{label(node)} lacks input {position}")
    return value


def _weight(node: ir.Node, position: int) -> Array:
    value = _input(node, position)
    array = constant_of(value)
    if array is None:
        raise Stop(f"{label(node)} multiplies with {value.name!r}, which is not constant")
    if array.dtype != np.float32:
        raise Stop(f"{label(node)} has {array.dtype} weights, expected float32")
    return array


def _row(array: Array, width: int, node: ir.Node) -> Array:
    """A bias as ``[width]``, where it is the same for each row of the batch."""
    if array.dtype != np.float32 or array.size not in (1, width) or array.shape[-1:] not in ((), (1,), (width,)):
        raise Stop(f"{label(node)} adds {array.dtype} {list(array.shape)}, expected float32 [{width}]")
    if array.ndim > 2:
        raise Stop(f"{label(node)} adds an array of {array.ndim} axes, expected at most two")
    return np.broadcast_to(array.ravel(), (width,))


def _merge(into: dict[Any, Array], arrays: Mapping[Any, Array] | Mapping[Any, Sequence[Array]]) -> None:
    for key, array in arrays.items():
        into[key] = into[key] + array if key in into else np.asarray(array)
