"""The plan of an export: the passes of the recurrent layers, the inputs that are states or lengths, the loops."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from lstm_edge_exporters.pytorch.calls import (
    Layers,
    Pass,
    Tracker,
    call_module,
    check_passes,
    numbered,
)
from lstm_edge_exporters.pytorch.carried import Watcher, find_carried
from lstm_edge_exporters.pytorch.copying import tensors_in
from lstm_edge_exporters.pytorch.failures import module_failure
from lstm_edge_exporters.pytorch.folding import with_foldings
from lstm_edge_exporters.pytorch.lengths import LENGTHS, Packs, find_order, takes_lengths
from lstm_edge_exporters.pytorch.outputs import LONGER, TRACED, WIDER, check_names, flatten_outputs, output_specs
from lstm_edge_exporters.pytorch.recurrent import Recurrence
from lstm_edge_exporters.pytorch.repeats import check_forgets
from lstm_edge_exporters.pytorch.states import OTHER, state_specs, with_outputs, with_sizes
from lstm_edge_exporters.verify.inputs import InputMaker
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME, StateSpec, TensorSpec
from lstm_edge_runtime.errors import CaptureError, LstmEdgeError

__all__ = ["Plan", "watch"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The result of the trial runs of forward.

    Attributes:
        layers: the recurrent layers by name, in the order of ``named_modules``.
        inputs: forward's positional arguments, states and lengths among them where forward takes such.
        outputs: what forward returns besides states.
        output_names: the requested names of forward's results, in order, or None.
        results: the names of what forward returns, in order, states of its own among them.
        passes: of all recurrent layers, in the order of ``layers``.
        calls: for each module, the place of each call's pass among the module's passes.
        loops: for each module that a loop over time calls once a step, the line that does.
        states: the explicit states: the exporter's own, and forward's inputs that come back as outputs.
        lengths: the input that forward packs its sequences by, or None.
        takes_lengths: forward itself deals with lengths: in that input, or in a parameter ``lengths``.
        packs: forward packs sequences.
        sorted_rows: it wants rows in order of falling lengths.
        sorts: for each pack, the place of the sort by which forward orders its rows; None where it does not.
        written: the tensors of the module that forward changes, by path: ``"encoder.h"``.
        keeps_one: a state may be the module's answer too, as a cell's is.
    """

    layers: Layers
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    output_names: Sequence[str] | None
    results: tuple[str, ...]
    passes: tuple[Pass, ...]
    calls: Mapping[str, tuple[int, ...]]
    loops: Mapping[str, str]
    states: tuple[StateSpec, ...]
    lengths: str | None
    takes_lengths: bool
    packs: bool
    sorted_rows: bool
    sorts: tuple[int | None, ...]
    written: frozenset[str]
    keeps_one: bool


def watch(
    module: nn.Module,
    layers: Layers,
    inputs: tuple[TensorSpec, ...],
    maker: InputMaker,
    *,
    explicit_state: bool,
    output_names: Sequence[str] | None = None,
    pairs: Mapping[str, str] | None = None,
) -> Plan:
    """Run forward at three shapes and record how it uses its recurrent layers.

    Args:
        module: the module; it is not changed.
        layers: its recurrent layers (``recurrent_modules``).
        inputs: forward's positional arguments.
        maker: makes all of them, states among them.
        explicit_state: layers that start from zeros get their own states.
        output_names: for what forward returns, in order.
        pairs: results by input that the user says are states.

    Raises:
        CaptureError: the module fails or returns something unexpected, a recurrent layer is never called, or its
            number of calls is unexplained, its state cannot be made explicit, or two values of the graph have one name.
    """
    keyword = takes_lengths(module) and not any(spec.name == LENGTHS for spec in inputs)
    run = partial(_run, module, layers, maker, keyword=keyword)
    packs = Packs()
    with packs.watched():
        base, longer = run(TRACED[BATCH], TRACED[TIME]), run(TRACED[BATCH], LONGER)
    wider = run(WIDER, TRACED[TIME])
    layers = _with_weights(layers, base.tracker, longer.tracker)
    passes, loops = _sorted_calls(layers, base.tracker, longer.tracker)
    keep_one = any(recurrence.single_step for _, recurrence in layers.values())
    carried: tuple[StateSpec, ...] = ()
    given = any(found.given for several in base.tracker.passes.values() for found in several)
    if explicit_state and given:
        naming = partial(_named, explicit=True, names=output_names, keep_one=keep_one)
        passes, carried = find_carried(
            Watcher(module, layers, naming, base.lengths),
            passes,
            inputs=inputs,
            outputs=lambda items: output_specs(
                *(naming(one.result, one.tracker, items) for one in (base, wider, longer))
            ),
            draws=_draws(maker, base.arrays),
            named=pairs or {},
        )
    if explicit_state:
        _check_starts(passes, layers, module, base.tracker.changes)
    larger = {BATCH: wider.tracker, TIME: longer.tracker, **_others(module, layers, maker, keyword=keyword)}
    timed = any(TIME in spec.axes for spec in inputs)
    passes = with_sizes(passes, base.tracker, larger, timed=timed, explicit=explicit_state)
    passes = with_foldings(
        module, layers, passes, inputs, draw=partial(_draw, maker, TRACED[BATCH], TRACED[TIME]), lengths=base.lengths
    )
    changed = base.tracker.changes
    earlier = _draw(maker, TRACED[BATCH], TRACED[TIME], seed=1)
    check_forgets(module, layers, passes, earlier=earlier, now=base.arrays, lengths=base.lengths, changed=list(changed))
    named = partial(_outputs, passes=passes, explicit=explicit_state, names=output_names, keep_one=keep_one)
    results = named(base)
    passes = [with_outputs(item, base.tracker.final(key), results) for key, item in numbered(passes)]
    states = (*carried, *(state_specs(passes, inputs) if explicit_state else ()))
    found = output_specs(results, named(wider), named(longer))
    outputs = tuple(spec for spec in found if spec.name not in {state.output for state in states})
    taken = {LENGTHS, *(spec.name for spec in inputs), *(name for s in states for name in (s.input, s.output))}
    own = {name for item in passes for name in item.outputs} | {state.output for state in carried}
    check_names(outputs, output_names, own=own, taken=taken)
    lengths = packs.input_of(base.tracker.tensors, maker.lengths)
    order = find_order(module, layers, maker, packs, keyword=keyword)
    return Plan(
        layers=layers,
        inputs=inputs,
        outputs=outputs,
        output_names=output_names,
        results=tuple(results),
        passes=tuple(passes),
        calls={name: tuple(order) for name, order in base.tracker.order.items()},
        loops=loops,
        states=states,
        lengths=lengths,
        takes_lengths=keyword or lengths is not None,
        packs=bool(packs.lengths),
        sorted_rows=order.falling,
        sorts=order.sorts,
        written=frozenset(changed),
        keeps_one=keep_one,
    )


@dataclass(frozen=True, kw_only=True)
class _Run:
    """One run of forward: what it returned, and the passes of its recurrent layers."""

    result: Any
    tracker: Tracker
    arrays: Mapping[str, Array]
    lengths: Array | None


def _run(module: nn.Module, layers: Layers, maker: InputMaker, batch: int, time: int, *, keyword: bool) -> _Run:
    """Run forward on random inputs; ``keyword``: it has a parameter ``lengths``, which is given full ones."""
    arrays = _draw(maker, batch, time)
    lengths = np.full(batch, time, np.int64) if keyword else None
    try:
        result, tracker = call_module(module, layers, arrays, lengths, note=True)
    except LstmEdgeError:
        raise
    except Exception as error:  # the user's module may raise any error, which is then reported
        raise module_failure(error, arrays) from error
    return _Run(result=result, tracker=tracker, arrays=arrays, lengths=lengths)


def _draw(maker: InputMaker, batch: int, time: int, seed: int = 0) -> dict[str, Array]:
    return _possible(maker, maker.make(np.random.default_rng(seed), batch, time))


def _possible(maker: InputMaker, arrays: dict[str, Array]) -> dict[str, Array]:
    """Let lengths fall from row to row, as sorted packing needs them."""
    for name in maker.lengths:
        arrays[name] = -np.sort(-arrays[name])
    return arrays


def _draws(maker: InputMaker, first: Mapping[str, Array]) -> list[Mapping[str, Array]]:
    """Inputs at the traced sizes: several draws, and the first one with all flags off and all on."""
    flags = [{name: np.full_like(a, on) for name, a in first.items() if a.dtype == np.bool_} for on in (False, True)]
    more = [_draw(maker, TRACED[BATCH], TRACED[TIME], seed=seed) for seed in (1, 2)]
    return [first, *more, *({**first, **changed} for changed in flags if changed)]


def _others(module: nn.Module, layers: Layers, maker: InputMaker, *, keyword: bool) -> dict[str, Tracker]:
    """Return what is seen with one of the other named axes larger, by axis; axes of one possible size are left out."""
    axes = {axis for spec in maker.specs for axis in spec.axes if isinstance(axis, str)} - {BATCH, TIME}
    found = {}
    for axis in sorted(axes):
        arrays = _possible(maker, maker.make_sized(np.random.default_rng(0), {**TRACED, axis: OTHER}))
        lengths = np.full(TRACED[BATCH], TRACED[TIME], np.int64) if keyword else None
        with suppress(Exception):  # the user's own module, on a size that is ours
            found[axis] = call_module(module, layers, arrays, lengths)[1]
    return found


def _with_weights(layers: Layers, tracker: Tracker, longer: Tracker) -> Layers:
    assert tracker.weights is not None
    assert longer.weights is not None
    tracker.weights.check_same(longer.weights)
    return tracker.weights.in_layers(layers)


def _outputs(
    run: _Run, *, passes: Sequence[Pass], explicit: bool, names: Sequence[str] | None, keep_one: bool
) -> dict[str, Tensor]:
    return _named(run.result, run.tracker, passes, explicit=explicit, names=names, keep_one=keep_one)


def _named(
    result: Any,
    tracker: Tracker,
    passes: Sequence[Pass],
    *,
    explicit: bool,
    names: Sequence[str] | None,
    keep_one: bool,
) -> dict[str, Tensor]:
    """What forward returned, by name, without the states that become outputs of the graph anyway."""
    returned: list[Tensor] = []
    if explicit:
        check_passes(passes, tracker)
        returned += [part for key, item in numbered(passes) if item.explicit for part in tracker.final(key)]
    return flatten_outputs(result, returned, names, keep_one=keep_one, taken=tracker.tensors)


def _sorted_calls(layers: Layers, tracker: Tracker, longer: Tracker) -> tuple[list[Pass], dict[str, str]]:
    """The passes of all layers, and the line of the loop over time for each module that one calls once a step."""
    passes: list[Pass] = []
    loops: dict[str, str] = {}
    for name, (module, recurrence) in layers.items():
        if not tracker.passes.get(name):
            raise CaptureError(f"{name}: forward never calls this recurrent layer; remove it from the module")
        loops |= _loop(name, tracker, longer, single_step=recurrence.single_step)
        passes += _passes(name, recurrence, tracker, anew=getattr(module, "starts_anew", False))
    return passes, loops


def _check_starts(passes: Sequence[Pass], layers: Layers, module: nn.Module, written: Collection[str]) -> None:
    kept = [path for path, tensor in tensors_in(module).items() if path in written and bool(tensor.any())]
    for item in passes:
        # A layer of ours may say that others compute its initial state, as an encoder does for a decoder.
        if item.start == "computed" and not getattr(layers[item.module][0], "starts_inside", False):
            if kept:
                raise CaptureError(
                    f"{item.name}: the module holds a state that is not zero, {', '.join(kept[:3])} ({item.line}), and "
                    "a file starts from zeros: set it to zeros before the export, or export a new instance of the "
                    "module with the same weights"
                )
            raise CaptureError(
                f"{item.name}: forward passes its own initial state to the layer, so the state cannot be made explicit "
                f"({item.line}); remove it from forward, or export with states='hidden'"
            )


def _loop(name: str, tracker: Tracker, longer: Tracker, *, single_step: bool) -> dict[str, str]:
    """Return the line of the loop over time that calls a module once a step, if there is one."""
    counts = [[found.calls for found in side.passes.get(name, [])] for side in (tracker, longer)]
    line = tracker.passes[name][0].line
    if len(counts[0]) != len(counts[1]) and tracker.passes[name][-1].start == "computed":
        raise CaptureError(
            f"{name}: the loop at {line} gives the layer a state that differs from the one it returned a step before, "
            "which one recurrent layer cannot express: pass the state on unchanged, wrap the step as "
            "lstm_edge.Recurrent(step, ...), or export a module of a single step, with its state as an input and an "
            "output"
        )
    if len(counts[0]) != len(counts[1]):
        raise CaptureError(
            f"{name}: forward starts this layer again {len(counts[0])} times in {TRACED[TIME]} steps and "
            f"{len(counts[1])} times in {LONGER} ({line}): how often must not depend on the number of steps"
        )
    if counts[0] == counts[1]:
        return {}
    if not single_step:
        raise CaptureError(
            f"{name}: the loop at {line} calls a layer that takes whole sequences once a step: call it once with the "
            "whole sequence, or use nn.LSTMCell, nn.GRUCell or nn.RNNCell in the loop"
        )
    for few, many in zip(*counts, strict=True):
        if few != many and (few, many) != (TRACED[TIME], LONGER):
            raise CaptureError(
                f"{name}: the loop at {line} calls this layer {few} times in {TRACED[TIME]} steps and {many} times in "
                f"{LONGER}: only a loop over every step can be expressed as one recurrent layer"
            )
    return {name: line}


def _passes(name: str, recurrence: Recurrence, tracker: Tracker, *, anew: bool) -> list[Pass]:
    """Return the passes of a layer; one that starts ``anew`` has no state between calls, as a layer at every step."""
    return [
        Pass(
            module=name,
            name=name if index == 0 else f"{name}_{index + 1}",
            recurrence=recurrence,
            start="computed" if anew and found.start == "zeros" else found.start,
            batched=found.batched,
            inputs=found.inputs,
            line=found.line,
            packed=found.packed,
        )
        for index, found in enumerate(tracker.passes[name])
    ]
