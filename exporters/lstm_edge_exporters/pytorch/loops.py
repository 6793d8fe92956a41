"""Loops over time: converts the steps of a cell, which torch unrolled, back to one recurrent layer.

torch.export writes a Python loop out, once for each of the traced steps. Here the steps are found again by their data
flow: a chain of recurrent nodes with the same weights, each starting from the previous state, whose inputs differ only
in the step that they select. Every other node in the loop must be an operator that acts on each step separately; it
then runs on all steps at once, with time as a new first axis. Parity over other lengths proves the result.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.edit import add_constant, replace_node
from lstm_edge_exporters.pytorch.stepwise import Stuck, apply_stepwise
from lstm_edge_runtime.errors import CaptureError

__all__ = ["roll_loops"]

CELLS = ("LSTM", "GRU", "RNN")
Series = Sequence[ir.Value]


def roll_loops(model: ir.Model, loops: Mapping[str, str], *, steps: int, lengths: str | None) -> None:
    """Turn each loop over time into one recurrent layer, in place.

    Args:
        model: what torch exported, its loops unrolled; initializers are called ``module.<path>.<layer>.<weight>``.
        loops: for each module that a loop calls, the line of the user's code.
        steps: how many steps were unrolled.
        lengths: the graph input of valid steps a row, int64 [batch], or None.

    Raises:
        CaptureError: a loop cannot be expressed; the message has the line and the reason.
    """
    roller = _Roller(model.graph, steps, lengths)
    for work in (roller.roll, roller.finish, roller.check):
        for name, line in loops.items():
            try:
                work(name)
            except Stuck as stuck:
                raise CaptureError(
                    f"{name}: the loop over time at {line} cannot be expressed as one recurrent layer: {stuck}; move "
                    "operations that are not part of the cell out of the loop, wrap the step as "
                    "lstm_edge.Recurrent(step, ...), or export a module of a single step, with its state as an input "
                    "and an output"
                ) from stuck
    common.RemoveUnusedNodesPass()(model)
    model.graph.sort()


class _Roller:
    """Rolls the chains of one graph; values of single steps are looked up in ``whole``, [T, B, ...] for all of them."""

    def __init__(self, graph: ir.Graph, steps: int, lengths: str | None) -> None:
        self.graph, self.steps = graph, steps
        self.lengths = next((value for value in graph.inputs if value.name == lengths), None) if lengths else None
        self.chains = _chains(graph)
        # Kept apart: a node that was removed has no inputs left.
        self.weights = [_weight(chain[0]) for chain in self.chains]
        self.done: dict[tuple[int, ...], ir.Value] = {}
        self.rolled: dict[int, Sequence[ir.Value]] = {}

    def roll(self, module: str) -> None:
        """Roll the loops that call a module, with those of others that they need."""
        for chain in self._of(module):
            self._roll_chain(chain)

    def finish(self, module: str) -> None:
        """Let what used the steps of a module's loops use the whole."""
        for node in list(self.graph):
            if node.op_type == "Concat" and self._stacked(node):
                self._unstack(node)
        for chain in self._of(module):
            _, *states = self.rolled[id(chain[-1])]
            replace_node(chain[-1], [None, *states])

    def check(self, module: str) -> None:
        """Check that no single step of a module's loops is left.

        Raises:
            Stuck: something uses a single step.
        """
        self._drop_unused()
        alive = [node for chain in self._of(module) for node in chain[:-1] if node.graph is not None]
        if alive:
            raise Stuck(
                f"the state after one single step is used on its own ({_users(alive[-1])}): collect the outputs in a "
                "list and join them with torch.stack"
            )

    def _drop_unused(self) -> None:
        for node in reversed(list(self.graph)):
            if not any(value.uses() or value.is_graph_output() for value in node.outputs):
                self.graph.remove(node, safe=True)

    def _of(self, module: str) -> list[list[ir.Node]]:
        """A module's chains: all steps of each."""
        named = zip(self.chains, self.weights, strict=True)
        chains = [chain for chain, weight in named if weight.startswith(f"module.{module}.0.")]
        if any(len(chain) != self.steps for chain in chains) or not chains:
            found = ", ".join(str(len(chain)) for chain in chains) or "none"
            raise Stuck(
                f"its {self.steps} steps fall into chains of {found}: between two steps the state must go on unchanged"
            )
        return chains

    def _roll_chain(self, chain: Sequence[ir.Node]) -> Sequence[ir.Value]:
        """Write one node for a chain; returns y [T, B, H] and the final states [1, B, H]."""
        first, last = chain[0], chain[-1]
        if id(last) in self.rolled:
            return self.rolled[id(last)]
        x = self.whole([_source(node.inputs[0]) for node in chain])
        rows = None if self.lengths is None else self._add("Cast", [self.lengths], {"to": ir.DataType.INT32})
        initial = list(first.inputs[5:])
        inputs = [x, *first.inputs[1:4], rows, *initial]
        attributes = {name: attribute.value for name, attribute in first.attributes.items()}
        y, *states = self._outputs(first.op_type, inputs, attributes, count=len(first.outputs))
        if self.lengths is not None:
            states = self._kept(states, initial)
        one = add_constant(self.graph, "loop.axis", np.array([1]))
        self.rolled[id(last)] = [self._add("Squeeze", [y, one]), *states]
        return self.rolled[id(last)]

    def _kept(self, states: Sequence[ir.Value], initial: Sequence[ir.Value | None]) -> list[ir.Value]:
        """A row of length 0 keeps its initial state, which onnxruntime's own operators set to zero."""
        zero = add_constant(self.graph, "loop.zero", np.array(0))
        axes = add_constant(self.graph, "loop.axes", np.array([0, 2]))  # [B] -> [1, B, 1]
        empty = self._add("Unsqueeze", [self._add("Equal", [self.lengths, zero]), axes])
        return [self._add("Where", [empty, old, new]) for new, old in zip(states, initial, strict=True)]

    def whole(self, series: Series) -> ir.Value:
        """Return a value with all steps of a series on a new first axis."""
        key = tuple(id(value) for value in series)
        if key not in self.done:
            self.done[key] = self._whole(series)
        return self.done[key]

    def _whole(self, series: Series) -> ir.Value:
        picked = self._picked(series)
        if picked is not None:
            return picked
        nodes = [_squeezed(value) for value in series]
        producers = [node.producer() for node in nodes]
        chain = [node for node in producers if node is not None and node.op_type in CELLS]
        if len(chain) == len(series):
            if all(value is node.outputs[1] for value, node in zip(nodes, chain, strict=True)):
                if chain in self.chains:
                    return self._roll_chain(chain)[0]
                if chain[::-1] in self.chains:
                    return self._backwards(self._roll_chain(chain[::-1])[0])
                raise Stuck("it uses the steps of another loop in another order")
            raise Stuck("it uses the cell state c of every step, which a recurrent layer does not give out")
        return apply_stepwise(series, self.whole, self._add, self._constant)

    def _picked(self, series: Series) -> ir.Value | None:
        """The tensor that each value of the series picks its own step from, time first; None where it does not."""
        found = [_pick(value) for value in series]
        picks = [pick for pick in found if pick is not None]
        if len(picks) != len(series) or len({(id(source), axis) for source, axis, _ in picks}) != 1:
            return None
        source, axis, _ = picks[0]
        order = [index if index >= 0 else index + self.steps for _, _, index in picks]
        forward, backward = list(range(self.steps)), list(reversed(range(self.steps)))
        if order not in (forward, backward) or source.shape is None:
            raise Stuck(f"it reads the steps in the order {', '.join(map(str, order))}")
        rank = len(source.shape)
        axis %= rank
        x = source
        if axis:
            x = self._add("Transpose", [source], {"perm": [axis, *(i for i in range(rank) if i != axis)]})
        if order == backward:
            if self.lengths is not None:
                raise Stuck("it runs backwards, and rows of different lengths end at different steps")
            x = self._backwards(x)
        return x

    def _backwards(self, x: ir.Value) -> ir.Value:
        bounds = [self._constant("loop.bound", np.array([number])) for number in (-1, -(2**63), 0, -1)]
        return self._add("Slice", [x, *bounds])

    def _stacked(self, node: ir.Node) -> bool:
        return len(node.inputs) == self.steps and all(_unsqueezed_at(v) is not None for v in node.inputs)

    def _unstack(self, node: ir.Node) -> None:
        """Replace ``torch.stack`` of all steps by the whole."""
        pairs = [_unsqueezed_at(value) for value in node.inputs]
        parts = [pair for pair in pairs if pair is not None]
        axis = node.attributes["axis"].as_int()
        rank = 0 if parts[0][0].shape is None else len(parts[0][0].shape) + 1
        if not rank or len({place % rank for _, place in parts} | {axis % rank}) != 1:
            return
        try:
            whole = self.whole([value for value, _ in parts])
        except Stuck:
            if any(value.producer() is not None and _depends(value) for value, _ in parts):
                raise
            return
        axis %= rank
        order = list(range(1, rank))
        order.insert(axis, 0)
        replace_node(node, [whole if axis == 0 else self._add("Transpose", [whole], {"perm": order})])

    def _constant(self, name: str, array: np.ndarray[Any, Any]) -> ir.Value:
        return add_constant(self.graph, name, array)

    def _add(
        self, op_type: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any] | None = None
    ) -> ir.Value:
        return self._outputs(op_type, inputs, attributes, count=1)[0]

    def _outputs(
        self, op_type: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any] | None, *, count: int
    ) -> Sequence[ir.Value]:
        # Appended; the graph is sorted when everything is in place.
        node = ir.node(op_type, inputs, attributes, num_outputs=count)
        self.graph.append(node)
        return node.outputs


def _chains(graph: ir.Graph) -> list[list[ir.Node]]:
    """The recurrent nodes of a graph: with the same weights and each from the state of the one before, in order."""
    nodes = [node for node in graph if node.op_type in CELLS]
    after: dict[int, ir.Node] = {}
    for node in nodes:
        before = _source(node.inputs[5]).producer() if len(node.inputs) > 5 and node.inputs[5] is not None else None
        if before is not None and before in nodes and before.inputs[1] is node.inputs[1]:
            after[id(before)] = node
    followers = {id(node) for node in after.values()}
    chains = []
    for node in nodes:
        if id(node) in followers:
            continue
        chain = [node]
        while id(chain[-1]) in after:
            chain.append(after[id(chain[-1])])
        chains.append(chain)
    return chains


def _depends(value: ir.Value) -> bool:
    """Say whether a value comes from a recurrent node."""
    seen: set[int] = set()
    pending = [value]
    while pending:
        current = pending.pop()
        node = current.producer()
        if node is None or id(node) in seen:
            continue
        if node.op_type in CELLS:
            return True
        seen.add(id(node))
        pending += [parent for parent in node.inputs if parent is not None]
    return False


def _weight(node: ir.Node) -> str:
    return "" if node.inputs[1] is None else node.inputs[1].name or ""


def _users(node: ir.Node) -> str:
    return ", ".join(sorted({user.op_type for value in node.outputs for user, _ in value.uses()}))


def _source(value: ir.Value | None) -> ir.Value:
    """The value before any Squeeze and Unsqueeze."""
    assert value is not None
    node = value.producer()
    while node is not None and node.op_type in ("Squeeze", "Unsqueeze") and node.inputs[0] is not None:
        if node.op_type == "Squeeze" and _pick(value) is not None:
            break
        value = node.inputs[0]
        node = value.producer()
    return value


_squeezed = _source


def _unsqueezed_at(value: ir.Value | None) -> tuple[ir.Value, int] | None:
    node = None if value is None else value.producer()
    if node is None or node.op_type != "Unsqueeze" or node.inputs[0] is None:
        return None
    axes = constant_of(node.inputs[1])
    return (node.inputs[0], int(axes.reshape(-1)[0])) if axes is not None and axes.size == 1 else None


def _pick(value: ir.Value) -> tuple[ir.Value, int, int] | None:
    """Read ``x[:, t]``: the tensor, the axis and the step; as Gather of one index, or Squeeze of a Slice of one."""
    node = value.producer()
    if node is None or node.inputs[0] is None:
        return None
    if node.op_type == "Gather":
        index = constant_of(node.inputs[1])
        axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
        return (node.inputs[0], axis, int(index)) if index is not None and index.ndim == 0 else None
    if node.op_type != "Squeeze":
        return None
    cut, axes = node.inputs[0].producer(), constant_of(node.inputs[1])
    if cut is None or cut.op_type != "Slice" or axes is None or axes.size != 1 or cut.inputs[0] is None:
        return None
    bounds = [constant_of(bound) for bound in cut.inputs[1:]]
    if any(bound is None or bound.size != 1 for bound in bounds) or len(bounds) < 3:
        return None
    start, end, axis = (int(bound.reshape(-1)[0]) for bound in bounds[:3] if bound is not None)
    return (cut.inputs[0], axis, start) if end == start + 1 and axis == int(axes.reshape(-1)[0]) else None
