"""The plan of an export: the passes of the recurrent layers, which inputs are states or lengths, what is a loop."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lstm_edge_exporters.pytorch.calls import Pass, Tracker, same_memory
from lstm_edge_exporters.pytorch.original import Witness, flatten_outputs
from lstm_edge_exporters.pytorch.packing import Pack, replaced_packing
from lstm_edge_exporters.verify.inputs import InputMaker
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME, StateSpec, TensorSpec
from lstm_edge_runtime.errors import CaptureError, LstmEdgeError, first_line

__all__ = ["LONGER", "TRACED", "Plan", "could_be_lengths", "make_plan", "state_specs", "try_module"]


# The sizes that a dynamic axis has while the graph is traced: distinct, and neither 0 nor 1, which torch.export
# takes for constants. What depends on the number of steps shows at a second one.
TRACED = {BATCH: 3, TIME: 7}
LONGER = TRACED[TIME] + 4


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What watching forward found out.

    Attributes:
        passes: of all recurrent layers, in the order of ``named_modules``.
        calls: for each module, the place of each call's pass among the module's passes.
        loops: for each module that a loop over time calls once a step, the line that does.
        states: the explicit states: the exporter's own, and forward's inputs that come back as outputs.
        lengths: the input that forward packs its sequences by, or None.
        packs: forward packs sequences.
        sorted_rows: it wants rows in order of falling lengths.
    """

    passes: tuple[Pass, ...]
    calls: Mapping[str, tuple[int, ...]]
    loops: Mapping[str, str]
    states: tuple[StateSpec, ...]
    lengths: str | None
    packs: bool
    sorted_rows: bool


@dataclass
class _Packs:
    """How forward called pack_padded_sequence: the lengths it gave, and whether it wants them sorted."""

    lengths: list[Tensor]
    enforced: bool = False

    def watching(self, original: Pack) -> Pack:
        def pack(input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True) -> Any:  # noqa: A002
            self.lengths.append(lengths if isinstance(lengths, Tensor) else torch.tensor(lengths))
            self.enforced |= enforce_sorted
            return original(input, lengths, batch_first, enforce_sorted)

        return pack


def could_be_lengths(specs: tuple[TensorSpec, ...]) -> list[str]:
    """Return the inputs that may be lengths: int64 [batch], where another input has a time axis."""
    timed = any(TIME in spec.axes for spec in specs)
    return [spec.name for spec in specs if timed and spec.dtype == "int64" and spec.axes == (BATCH,)]


def make_plan(witness: Witness, maker: InputMaker, *, explicit_state: bool) -> Plan:
    """Watch forward at two lengths, and write what was found into the witness too.

    Args:
        witness: the module; its passes, states, lengths and order of rows are set.
        maker: makes all of forward's inputs, states among them.
        explicit_state: layers that start from zeros get states of their own.

    Raises:
        CaptureError: the module fails, a recurrent layer is never called, or called as often as nothing explains, or
            its state cannot be made explicit.
    """
    packs = _Packs([])
    with replaced_packing(packs.watching):
        result, tracker = _watch(witness, maker, TRACED[TIME])
        _, longer = _watch(witness, maker, LONGER)
    passes: list[Pass] = []
    loops: dict[str, str] = {}
    for name in witness.layers:
        found = tracker.passes.get(name, [])
        if not found:
            raise CaptureError(f"{name}: forward never calls this recurrent layer; remove it from the module")
        loops |= _loop(name, tracker, longer, single_step=witness.layers[name][1].single_step)
        passes += _passes(witness, name, tracker)
    for item in passes if explicit_state else ():
        if item.start == "computed":
            raise CaptureError(
                f"{item.name}: forward passes its own initial state to the layer, so the state cannot be made explicit "
                f"({item.line}); remove it from forward, or export with state='hidden'"
            )
    finals = [tracker.passes[item.module][_index(passes, item)].last for item in passes]
    returned = [tensor for item, last in zip(passes, finals, strict=True) if item.explicit for tensor in last]
    named = flatten_outputs(
        result, returned if explicit_state else [], witness.output_names, keep_one=witness.keeps_one
    )
    passes = [_with_outputs(item, last, named) for item, last in zip(passes, finals, strict=True)]
    lengths = _lengths_input(packs, tracker.tensors)
    plan = Plan(
        passes=tuple(passes),
        calls={name: tuple(order) for name, order in tracker.order.items()},
        loops=loops,
        states=state_specs(passes, witness.inputs) if explicit_state else (),
        lengths=lengths,
        packs=bool(packs.lengths),
        sorted_rows=packs.enforced,
    )
    witness.passes, witness.states = plan.passes, plan.states
    witness.lengths, witness.sorted_rows = plan.lengths, plan.sorted_rows
    return plan


def _watch(witness: Witness, maker: InputMaker, time: int) -> tuple[Any, Tracker]:
    arrays = maker.make(np.random.default_rng(0), TRACED[BATCH], time)
    for name in maker.lengths:
        arrays[name] = -np.sort(-arrays[name])
    lengths = np.full(TRACED[BATCH], time, np.int64) if witness.takes_lengths else None
    answer: tuple[Any, Tracker] = try_module(arrays, lambda: witness.forward(arrays, lengths))
    return answer


def try_module(inputs: Mapping[str, Array], call: Any) -> Any:
    """Call the user's module, and say in one sentence on what it failed.

    Raises:
        CaptureError: it failed.
    """
    try:
        return call()
    except LstmEdgeError:
        raise
    except Exception as error:
        shown = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
        raise CaptureError(
            f"the module itself fails on {shown}: {type(error).__name__}: {first_line(error)}. An axis that can have "
            "one size only is given by its number instead of its name"
        ) from error


def _loop(name: str, tracker: Tracker, longer: Tracker, *, single_step: bool) -> dict[str, str]:
    """Return the line of the loop over time that calls a module once a step, if there is one."""
    counts = [[found.calls for found in side.passes.get(name, [])] for side in (tracker, longer)]
    line = tracker.passes[name][0].line
    if len(counts[0]) != len(counts[1]) and tracker.passes[name][-1].start == "computed":
        raise CaptureError(
            f"{name}: the loop at {line} gives the layer another state than the one that it returned the step before, "
            "which one recurrent layer cannot express: pass the state on unchanged, or export the module of a single "
            "step, with its state as an input and an output"
        )
    if len(counts[0]) != len(counts[1]):
        raise CaptureError(
            f"{name}: forward starts this layer anew {len(counts[0])} times in {TRACED[TIME]} steps and "
            f"{len(counts[1])} times in {LONGER} ({line}): how often must not depend on the number of steps"
        )
    if counts[0] == counts[1]:
        return {}
    if not single_step:
        raise CaptureError(
            f"{name}: the loop at {line} calls a layer that takes whole sequences once a step: call it once with the "
            "whole sequence, or use nn.LSTMCell or nn.GRUCell in the loop"
        )
    for few, many in zip(*counts, strict=True):
        if few != many and (few, many) != (TRACED[TIME], LONGER):
            raise CaptureError(
                f"{name}: the loop at {line} calls this layer {few} times in {TRACED[TIME]} steps and {many} times in "
                f"{LONGER}: only a loop over every step can be expressed as one recurrent layer"
            )
    return {name: line}


def _passes(witness: Witness, name: str, tracker: Tracker) -> list[Pass]:
    return [
        Pass(
            module=name,
            name=name if index == 0 else f"{name}_{index + 1}",
            recurrence=witness.layers[name][1],
            start=found.start,
            batched=found.batched,
            inputs=found.inputs,
            line=found.line,
        )
        for index, found in enumerate(tracker.passes[name])
    ]


def _index(passes: list[Pass], item: Pass) -> int:
    return [other for other in passes if other.module == item.module].index(item)


def _with_outputs(item: Pass, last: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> Pass:
    """Find forward's outputs that hold a pass's final state, where it began from forward's inputs."""
    if item.start != "input":
        return item
    # The last of several: `return h, (h, c)` means the first as an answer and the second as the state.
    found = [next((n for n, t in reversed(list(named.items())) if same_memory(t, part)), None) for part in last]
    names = tuple(name for name in found if name is not None)
    if len(names) != len(found):
        return item
    return replace(item, outputs=names)


def _lengths_input(packs: _Packs, tensors: Mapping[str, Tensor]) -> str | None:
    names = {name for lengths in packs.lengths for name, tensor in tensors.items() if same_memory(tensor, lengths)}
    if len(names) > 1:
        raise CaptureError(f"forward packs sequences by several inputs, {', '.join(sorted(names))}: one can be lengths")
    return names.pop() if names else None


def state_specs(passes: list[Pass] | tuple[Pass, ...], inputs: tuple[TensorSpec, ...]) -> tuple[StateSpec, ...]:
    """Return the explicit states of all passes, h before c, layer by layer; forward's own as forward has them."""
    specs: list[StateSpec] = []
    axes = {spec.name: spec.axes for spec in inputs}
    for item in passes:
        if item.outputs:
            specs += _own_states(item, axes)
        if not item.explicit:
            continue
        for index, layer in enumerate(item.recurrence.layers):
            for kind, size in layer.state_sizes.items():
                path = f"{item.name}.{index}.{kind}"
                specs.append(
                    StateSpec(
                        input=path,
                        output=f"{path}_out",
                        kind=kind,
                        module=item.name,
                        layer=index,
                        axes=(len(layer.directions), BATCH if item.batched else 1, size),
                    )
                )
    return tuple(specs)


def _own_states(item: Pass, axes: Mapping[str, tuple[str | int, ...]]) -> list[StateSpec]:
    kinds = list(item.recurrence.layers[0].state_sizes)
    single = len(item.recurrence.layers) == 1
    return [
        StateSpec(
            input=name,
            output=output,
            kind=kind if single else "packed",
            module=item.name if single else name,
            layer=0,
            axes=axes[name],
        )
        for name, output, kind in zip(item.inputs, item.outputs, kinds, strict=True)
    ]
