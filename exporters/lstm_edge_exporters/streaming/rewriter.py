"""The graph while its operations along time are given caches: queues, a position, and the end of the sequence."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.edit import add_constant, add_node, add_output, replace_node
from lstm_edge_exporters.onnx_graph.names import name_in, rename, unique_name
from lstm_edge_exporters.streaming.errors import NotStreamable
from lstm_edge_exporters.streaming.flow import Flow, Table
from lstm_edge_exporters.streaming.measure import Dims, Measured
from lstm_edge_exporters.verify.golden import POSITION
from lstm_edge_runtime.card import BATCH, TIME, StateSpec

__all__ = ["Rewriter"]

FLOAT = ir.TensorType(ir.DataType.FLOAT)
INT64 = ir.TensorType(ir.DataType.INT64)
END = "stream.end"
_TO_THE_END = 2**62


@dataclass(frozen=True)
class _Position:
    """The values of the position: as it enters, before and after the call, and the constants of its period."""

    entering: ir.Value
    before: ir.Value
    after: ir.Value
    every: ir.Value
    settled: ir.Value
    whole: ir.Value


class Rewriter:
    """A graph, the flows of the values that have steps, and the states that were added so far."""

    def __init__(self, model: ir.Model, measured: Measured, timed: Mapping[str, Flow]) -> None:
        self.graph = model.graph
        self.measured = measured
        self.flows: dict[ir.Value, Flow] = {}
        self.dims: dict[ir.Value, Dims] = {}
        self.states: list[StateSpec] = []
        self.tables: list[tuple[ir.Value, Table]] = []
        self.end: ir.Value | None = None
        # Nodes that only take apart what one behind them puts together again.
        self.kept: set[ir.Node] = set()
        # Values without steps that need the whole sequence, each with the reason.
        self.refused: dict[ir.Value, str] = {}
        # The flows that recurrent layers run over, and those whose last step was picked.
        self.layers: list[Flow] = []
        self.picked: list[Flow] = []
        self.source: tuple[ir.Value, int] | None = None
        for value in self.graph.inputs:
            name = str(value.name)
            self.dims[value] = measured.dims[name]
            if name in timed:
                self.flows[value] = timed[name]
                self.source = self.source or (value, timed[name].axis)
        self._position: _Position | None = None

    # What is known of values

    def flow(self, value: ir.Value | None) -> Flow | None:
        """Return the flow of a value; None where it has no steps."""
        return None if value is None else self.flows.get(value)

    def dims_of(self, value: ir.Value) -> Dims:
        """Return the axes of a value.

        Raises:
            NotStreamable: they are unknown.
        """
        if value in self.dims:
            return self.dims[value]
        if value.const_value is not None:
            return tuple(int(size) for size in value.const_value.shape.numpy())
        if value.name in self.measured.dims:
            return self.measured.dims[str(value.name)]
        raise NotStreamable(f"the shape of {value.name} is unknown")

    def time_axis(self, value: ir.Value) -> int | None:
        """Return the axis of a value of the original graph whose size depends on the number of steps."""
        dims = self.measured.dims.get(str(value.name), ())
        return dims.index(TIME) if TIME in dims else None

    def is_zero(self, value: ir.Value) -> bool:
        """Say whether a value without steps is 0 everywhere."""
        constant = constant_of(value)
        return not constant.any() if constant is not None else str(value.name) in self.measured.zeros

    # What is written

    def node(
        self,
        before: ir.Node,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        like: ir.Value | None = None,
        **attributes: Any,
    ) -> ir.Value:
        """Insert a node of one output before another one; its axes are those of ``like``."""
        value = add_node(before, op_type, inputs, attributes=attributes)[0]
        if like is not None:
            self.dims[value] = self.dims_of(like)
        return value

    def ints(self, node: ir.Node, what: str, numbers: Sequence[int] | Table) -> ir.Value:
        """Add int64 constants."""
        return add_constant(self.graph, f"{node.name}/{what}", np.asarray(numbers, np.int64))

    def floats(self, node: ir.Node, what: str, numbers: Sequence[float]) -> ir.Value:
        """Add float32 constants."""
        return add_constant(self.graph, f"{node.name}/{what}", np.asarray(numbers, np.float32))

    def replace(self, node: ir.Node, values: Sequence[ir.Value]) -> None:
        """Let new values take the place of a node's outputs."""
        for old, new in zip(node.outputs, values, strict=True):
            if new not in self.dims:
                self.dims[new] = self.dims_of(old)
        replace_node(node, values)

    def slice(
        self, before: ir.Node, value: ir.Value, axis: int, start: ir.Value | int, end: ir.Value | int | None = None
    ) -> ir.Value:
        """Cut a value along an axis; bounds are numbers or int64 [1]."""
        bounds = [start, _TO_THE_END if end is None else end]
        made = [self.ints(before, "bound", [bound]) if isinstance(bound, int) else bound for bound in bounds]
        return self.node(before, "Slice", [value, *made, self.ints(before, "axis", [axis])], like=value)

    def steps_in(self, before: ir.Node, value: ir.Value, axis: int) -> ir.Value:
        """Return the size of a value's axis in this call, int64 [1]."""
        return self.node(before, "Shape", [value], start=axis, end=axis + 1)

    def ending(self) -> ir.Value:
        """Return the int64 [1] input that says whether the sequence ends with this call."""
        if self.end is None:
            self.end = ir.Value(name=unique_name(self.graph, END), shape=ir.Shape([1]), type=INT64)
            self.graph.inputs.append(self.end)
            name_in(self.graph, added=[self.end])
        return self.end

    def at_end(self, before: ir.Node, number: int) -> ir.Value:
        """Return a number in the call that ends the sequence, and 0 in others: int64 [1]."""
        return self.node(before, "Mul", [self.ending(), self.ints(before, "at_end", [number])])

    def pad_end(self, node: ir.Node, value: ir.Value, axis: int, count: int) -> ir.Value:
        """Append zeros along an axis in the call that ends the sequence."""
        if count == 0:
            return value
        pads = np.zeros(2 * len(self.dims_of(value)), np.int64)
        pads[pads.size // 2 + axis] = count
        now = self.node(node, "Mul", [self.ints(node, "pads", pads), self.ending()])
        return self.node(node, "Pad", [value, now], like=value)

    def queue(self, node: ir.Node, value: ir.Value, axis: int, held: Table, title: str) -> ir.Value:
        """Put what is left of earlier calls in front of a value, and keep the end for the next.

        Args:
            node: the node that reads the value.
            value: float32, with time along ``axis``.
            axis: the axis.
            held: int64 [HORIZON + 1]: how many elements are left over after n input steps; before the first call they
                are zeros. Where it is negative, so many elements that come next are skipped.
            title: the state's name is ``<title>.cache``.
        """
        size = max(int(held.max()), 0)
        joined = value
        if size:
            entering, spec_axes = self._state(value, axis, size, f"{title}.cache")
            joined = self.node(node, "Concat", [entering, value], like=value, axis=axis)
            rest = self.slice(node, joined, axis, -size)
            self._leave(rest, str(entering.name), title, spec_axes)
        start = np.asarray(size - held)
        if not start.any():
            return joined
        return self.slice(node, joined, axis, self._by_position(node, start))

    def carry(
        self, node: ir.Node, value: ir.Value, axis: int, title: str
    ) -> tuple[ir.Value, Callable[[ir.Value], None]]:
        """Put the one element that the returned function keeps, at first zero, in front of a value."""
        entering, axes = self._state(value, axis, 1, f"{title}.cache")

        def keep(last: ir.Value) -> None:
            self._leave(self.slice(node, last, axis, -1), str(entering.name), title, axes)

        return self.node(node, "Concat", [entering, value], like=value, axis=axis), keep

    def _state(self, value: ir.Value, axis: int, size: int, name: str) -> tuple[ir.Value, tuple[str | int, ...]]:
        dims = self.dims_of(value)
        if self.measured.dtypes.get(str(value.name), "float32") != "float32":
            raise NotStreamable(f"{name} would keep {self.measured.dtypes[str(value.name)]} values; a state is float32")
        axes = tuple(size if position == axis else dim for position, dim in enumerate(dims))
        if TIME in axes:
            raise NotStreamable(f"{name} would have an axis of unknown size")
        entering = ir.Value(name=unique_name(self.graph, name), shape=ir.Shape(list(axes)), type=FLOAT)
        self.graph.inputs.append(entering)
        name_in(self.graph, added=[entering])
        self.dims[entering] = axes
        return entering, axes

    def _leave(self, value: ir.Value, name: str, title: str, axes: tuple[str | int, ...]) -> None:
        free = unique_name(self.graph, f"{name}_out")
        leaving = add_output(self.graph, value, free, kind=FLOAT, shape=ir.Shape(list(axes)))
        self.states.append(
            StateSpec(input=name, output=str(leaving.name), kind="cache", module=title, layer=0, axes=axes)
        )

    def _by_position(self, node: ir.Node, numbers: Table) -> ir.Value:
        """Return the number for the input steps that came before this call: int64 [1]."""
        return self._looked_up(node, numbers, after=False)

    def by_end(self, node: ir.Node, numbers: Table) -> ir.Value:
        """Return the number for the input steps that came up to the end of this call: int64 [1]."""
        return self._looked_up(node, numbers, after=True)

    def _looked_up(self, node: ir.Node, numbers: Table, *, after: bool) -> ir.Value:
        if (numbers == numbers[-1]).all():
            return self.ints(node, "number", numbers[-1:])
        before_call, after_call = self._positions()
        table = self.ints(node, "numbers", numbers[:1])  # the table itself follows when its length is known
        self.tables.append((table, numbers))
        return self.node(node, "Gather", [table, after_call if after else before_call], axis=0)

    def _positions(self) -> tuple[ir.Value, ir.Value]:
        """The input steps before and after this call, int64 [1].

        They are counted up to ``settled``, and modulo ``every`` from there, so that they never grow beyond what float32
        holds exactly. Both numbers are known when all nodes have been seen (``finish``).
        """
        if self._position is None:
            assert self.source is not None
            entering = ir.Value(name=unique_name(self.graph, POSITION), shape=ir.Shape([1]), type=FLOAT)
            self.graph.inputs.append(entering)
            name_in(self.graph, added=[entering])
            self.dims[entering] = (1,)
            first = next(iter(self.graph))
            every, settled, whole = (
                add_constant(self.graph, f"{POSITION}/{what}", np.ones(1, np.int64))
                for what in ("every", "settled", "whole")
            )
            before = self.node(first, "Cast", [entering], to=ir.DataType.INT64)
            after = self.node(first, "Add", [before, self.steps_in(first, *self.source)])
            turned = self.node(first, "Mod", [self.node(first, "Sub", [after, settled]), every])
            early = self.node(first, "Less", [after, whole])
            counted = self.node(first, "Where", [early, after, self.node(first, "Add", [turned, settled])])
            self._position = _Position(entering, before, counted, every, settled, whole)
        return self._position.before, self._position.after

    def finish(self, every: int, settled: int) -> None:
        """Write the tables, and let the position leave the graph."""
        if self._position is None:
            return
        for value, numbers in self.tables:
            self._set(value, numbers[: settled + every])
        position = self._position
        for value, number in ((position.every, every), (position.settled, settled), (position.whole, settled + every)):
            self._set(value, np.array([number], np.int64))
        last = list(self.graph)[-1]
        node = ir.node("Cast", [position.after], {"to": ir.DataType.FLOAT}, num_outputs=1)
        node.name = unique_name(self.graph, f"{POSITION}/Cast")
        node.outputs[0].name = f"{node.name}:out"
        self.graph.insert_after(last, node)
        name_in(self.graph, added=[node])
        self._leave(node.outputs[0], str(position.entering.name), "stream", (1,))

    @staticmethod
    def _set(value: ir.Value, numbers: Table) -> None:
        value.const_value = ir.tensor(np.ascontiguousarray(numbers), name=value.name)
        value.shape = ir.Shape(numbers.shape)

    def append_identity(self, value: ir.Value, name: str) -> ir.Node:
        """Let an output of the graph leave by a node of its own at the end; the value itself gets another name."""
        rename(self.graph, value, unique_name(self.graph, f"{name}:early"))
        node = ir.node("Identity", [value], num_outputs=1, name=unique_name(self.graph, f"{name}/Identity"))
        leaving = node.outputs[0]
        leaving.name, leaving.shape, leaving.type = name, value.shape, value.type
        self.dims[leaving] = self.dims_of(value) if value in self.dims else self.measured.dims[name]
        self.dims[value] = self.dims[leaving]
        self.graph.append(node)
        name_in(self.graph, added=[node])
        self.graph.outputs[list(self.graph.outputs).index(value)] = leaving
        return node

    # Values that are joined

    def shape_like(self, before: ir.Node, dims: Dims, time: ir.Value | int) -> ir.Value:
        """Build a shape, int64 [rank], of fixed sizes, the batch of this call, and ``time``."""
        parts: list[ir.Value] = []
        for dim in dims:
            if isinstance(dim, int):
                parts.append(self.ints(before, "size", [dim]))
            elif dim == TIME:
                parts.append(self.ints(before, "size", [time]) if isinstance(time, int) else time)
            else:
                parts.append(self._rows(before, str(dim)))
        return self.node(before, "Concat", parts, axis=0)

    def _rows(self, before: ir.Node, dim: str) -> ir.Value:
        source = next((v for v in self.graph.inputs if BATCH in self.dims.get(v, ())), None)
        if source is None:
            raise NotStreamable("a shape depends on the batch, and no input has it")
        axis = self.dims[source].index(BATCH)
        rows = self.steps_in(before, source, axis)
        factor = int(dim.partition("*")[2] or 1)
        return rows if factor == 1 else self.node(before, "Mul", [rows, self.ints(before, "factor", [factor])])
