"""The original module: PyTorch's answers for given inputs, states and lengths, from the unchanged module.

States enter and leave through hooks on the recurrent layers, so a module without explicit state can give the answers
that it would give in the middle of a stream.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lstm_edge_exporters.pytorch.calls import Call, Tracker, call_module, check_passes, numbered
from lstm_edge_exporters.pytorch.lengths import Packs
from lstm_edge_exporters.pytorch.outputs import flatten_outputs
from lstm_edge_exporters.pytorch.plan import Plan
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME, batch_factor
from lstm_edge_runtime.errors import CaptureError

__all__ = ["Original"]


@dataclass(frozen=True)
class Original:
    """Runs the unchanged module in float32 on the CPU; ``plan`` is the result of ``watch``."""

    module: nn.Module
    plan: Plan

    def run(
        self, inputs: Mapping[str, Array], state: Mapping[str, Array], lengths: Array | None = None
    ) -> dict[str, Array]:
        """Return outputs and leaving states by name.

        ``lengths`` int64 [B]: a module whose forward takes lengths gets them; any other is asked for each row alone,
        cut to its length. Outputs past a row's length are zero.
        """
        if lengths is None:
            return self._call(inputs, state, None)
        if self.plan.takes_lengths:
            answers = self._call(inputs, state, lengths)
            if self.plan.states:
                # If forward does not pass its lengths to the layer, the layer's state is that after step T.
                whole, cut = self._by_steps()
                answers |= self._row_by_row(inputs, state, lengths, only=cut) if cut else {}
                answers |= self._row_by_row(inputs, state, lengths, only=whole, cut=False) if whole else {}
            return {name: self._masked(name, answer, lengths) for name, answer in answers.items()}
        return self._row_by_row(inputs, state, lengths)

    def _call(self, inputs: Mapping[str, Array], state: Mapping[str, Array], lengths: Array | None) -> dict[str, Array]:
        plan = self.plan
        given = {**inputs, **state} | ({} if plan.lengths is None or lengths is None else {plan.lengths: lengths})
        entering = self._entering(state)
        packs = Packs(known=plan.sorts)
        orders: dict[tuple[str, int], Tensor] = {}

        def enter(name: str, call: Call, hx: Any) -> Any:
            key = (name, call.index)
            if not call.first or key not in entering:
                return hx
            order = packs.order_of(call.packed)
            if order is None:
                return entering[key]
            orders[key] = order
            return _rows(entering[key], order)

        arrays = {spec.name: given[spec.name] for spec in plan.inputs}
        with packs.watched() if any(place is not None for place in plan.sorts) else nullcontext():
            result, tracker = call_module(
                self.module, plan.layers, arrays, lengths if plan.lengths is None else None, enter
            )
        if plan.states:
            check_passes(plan.passes, tracker)
        returned = [tensor for key in entering for tensor in tracker.final(key)]
        named = flatten_outputs(result, returned, plan.output_names, keep_one=plan.keeps_one, taken=arrays)
        return {name: tensor.detach().numpy() for name, tensor in named.items()} | self._unstacked(tracker, orders)

    def _entering(self, state: Mapping[str, Array]) -> dict[tuple[str, int], Any]:
        """Stack the states of each explicit pass as its module takes them."""
        entering = {}
        for key, item in numbered(self.plan.passes):
            specs = [spec for spec in self.plan.states if spec.module == item.name and spec.kind in ("h", "c")]
            if not item.explicit or not specs:
                continue
            parts = [
                torch.from_numpy(np.concatenate([state[spec.input] for spec in specs if spec.kind == kind]))
                for kind in item.recurrence.layers[0].state_sizes
            ]
            entering[key] = item.to_module(parts)
        return entering

    def _unstacked(self, tracker: Tracker, orders: Mapping[tuple[str, int], Tensor]) -> dict[str, Array]:
        answers: dict[str, Array] = {}
        for key, item in numbered(self.plan.passes):
            if not item.explicit:
                continue
            kinds = list(item.recurrence.layers[0].state_sizes)
            final = tracker.final(key)
            stacked = item.from_module(_rows(final, orders[key].argsort()) if key in orders else final)
            for spec in self.plan.states:
                if spec.module == item.name and spec.kind in ("h", "c"):
                    directions = int(spec.axes[0])
                    tensor = stacked[kinds.index(spec.kind)]
                    own = tensor[spec.layer * directions : (spec.layer + 1) * directions]
                    answers[spec.output] = own.detach().numpy()
        return answers

    def _masked(self, name: str, answer: Array, lengths: Array) -> Array:
        spec = next((spec for spec in self.plan.outputs if spec.name == name), None)
        if spec is None or TIME not in spec.axes or BATCH not in spec.axes:
            return answer
        batch, time = spec.axes.index(BATCH), spec.axes.index(TIME)
        steps = np.arange(answer.shape[time])
        valid = np.expand_dims(steps, tuple(i for i in range(answer.ndim) if i != time)) < np.expand_dims(
            lengths, tuple(i for i in range(answer.ndim) if i != batch)
        )
        return np.where(valid, answer, np.zeros((), answer.dtype))

    def _by_steps(self) -> tuple[set[str], set[str]]:
        """Return the leaving states of layers that see all steps, with lengths or without, and those of the others."""
        seeing = [item for item in self.plan.passes if item.packed or item.needs_all_steps]
        names = {item.name for item in seeing} | {name for item in seeing for name in item.outputs}
        outputs = {spec.output for spec in self.plan.states}
        whole = {spec.output for spec in self.plan.states if spec.module in names or spec.output in names}
        return whole, outputs - whole

    def _row_by_row(
        self,
        inputs: Mapping[str, Array],
        state: Mapping[str, Array],
        lengths: Array,
        only: set[str] | None = None,
        *,
        cut: bool = True,
    ) -> dict[str, Array]:
        axes = {spec.name: spec.axes for spec in (*self.plan.inputs, *self.plan.outputs)}
        axes |= {name: spec.axes for spec in self.plan.states for name in (spec.input, spec.output)}
        longest = max(inputs[spec.name].shape[spec.axes.index(TIME)] for spec in self.plan.inputs if TIME in spec.axes)
        outer = self._folded_outside()
        rows = []
        for row, length in enumerate(lengths):
            sliced = {
                name: _cut(array, axes[name], row, int(length) if cut else None) for name, array in inputs.items()
            }
            entering = {
                name: _cut(array, axes[name], row, None, apart=len(lengths) if name in outer else None)
                for name, array in state.items()
            }
            rows.append(self._call(sliced, entering, lengths[row : row + 1] if self.plan.takes_lengths else None))
        names = [name for name in rows[0] if only is None or name in only]
        return {name: _joined([row[name] for row in rows], axes[name], longest, outer=name in outer) for name in names}

    def _folded_outside(self) -> set[str]:
        """Return the names of the states whose rows of one row of the batch are apart."""
        outer = {item.name for item in self.plan.passes if item.folding == "outer"}
        return {name for spec in self.plan.states if spec.module in outer for name in (spec.input, spec.output)}


def _rows(state: Any, order: Tensor) -> Any:
    """Take the rows of a layer's state [layers * directions, B, size], or of (h, c), in another order."""
    if isinstance(state, Tensor):
        return state.index_select(1, order)
    return tuple(part.index_select(1, order) for part in state)


def _cut(array: Array, axes: tuple[str | int, ...], row: int, length: int | None, *, apart: int | None = None) -> Array:
    """Return one row of the batch, up to a length; ``apart``: how far its rows are apart in a folded axis."""
    for place, axis in enumerate(axes):
        factor = batch_factor(axis)
        if factor is not None:
            first, step = (row * factor, 1) if apart is None else (row, apart)
            array = np.take(array, [first + step * index for index in range(factor)], axis=place)
    if TIME in axes and length is not None:
        array = np.take(array, range(length), axis=axes.index(TIME))
    return array


def _joined(rows: list[Array], axes: tuple[str | int, ...], longest: int, *, outer: bool) -> Array:
    batch = next((place for place, axis in enumerate(axes) if batch_factor(axis) is not None), None)
    if batch is None:
        raise CaptureError("an output without a batch axis cannot be compared row by row")
    if TIME in axes:
        time = axes.index(TIME)
        pads = [[(0, longest - row.shape[time] if i == time else 0) for i in range(row.ndim)] for row in rows]
        rows = [np.pad(row, pad) for row, pad in zip(rows, pads, strict=True)]
    if not outer:
        return np.concatenate(rows, axis=batch)
    stacked = np.stack(rows, axis=batch + 1)
    return stacked.reshape(*stacked.shape[:batch], -1, *stacked.shape[batch + 2 :])
