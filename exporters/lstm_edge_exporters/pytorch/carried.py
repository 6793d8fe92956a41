"""States in the user's own form: an input of forward that a recurrent call starts from, and the output that returns it.

The form is found by values: whatever forward does to a state (stack, slice, transpose, unbind, a list), the elements of
the layer's initial state are elements of the input, and those of its final state are elements of the output, at equal
places. A state may be scaled element by element on the way (a reset, a decay, a mask): half of an element is then half
of the one element that it becomes. Any other initial value, such as a projected condition, is not a state.
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lstm_edge_exporters.pytorch.calls import Call, Layers, Pass, Tracker, call_module, numbered, state_parts
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, StateSpec, TensorSpec
from lstm_edge_runtime.errors import CaptureError, LstmEdgeError, first_line

__all__ = ["Watcher", "find_carried"]

Key = tuple[str, int]
# Reads the outputs of a result by name, the final states of the exporter's own recurrent calls left out.
Named = Callable[[Any, Tracker, Sequence[Pass]], Mapping[str, Tensor]]
# Elements are changed by this factor: a power of two, so that what is scaled element by element changes to the bit.
FACTOR = 0.5


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """One run of forward: the initial and final states of each recurrent call, and the outputs by name."""

    starts: Mapping[Key, tuple[Tensor, ...]]
    finals: Mapping[Key, tuple[Tensor, ...]]
    outputs: Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One state of a recurrent call: ``index`` is 0 for h, 1 for c."""

    key: Key
    index: int
    item: Pass


class Watcher:
    """Runs forward on given arrays, some of them or some final states changed."""

    def __init__(self, module: nn.Module, layers: Layers, named: Named, lengths: Array | None) -> None:
        """Prepare; ``lengths`` is for forward's keyword of this name."""
        self._module, self._layers, self._named, self._lengths = module, layers, named, lengths

    def tried(self, arrays: Mapping[str, Array], passes: Sequence[Pass]) -> _Seen | None:
        """Run forward, or return None where it does not take these values or runs its layers otherwise then."""
        try:
            seen = self.run(arrays, passes)
        except Exception:
            return None
        return seen if seen.starts.keys() == {key for key, _ in numbered(passes)} else None

    def run(
        self,
        arrays: Mapping[str, Array],
        passes: Sequence[Pass],
        changed: _Part | None = None,
        factors: Tensor | None = None,
    ) -> _Seen:
        """Run forward; the final state ``changed`` is multiplied by ``factors``, which have its shape."""
        starts: dict[Key, tuple[Tensor, ...]] = {}

        def note(name: str, call: Call, hx: Any) -> Any:
            if call.first:
                starts[name, call.index] = tuple(part.clone() for part in state_parts(hx))
            return hx

        with ExitStack() as stack:
            if changed is not None:
                layer, recurrence = self._layers[changed.key[0]]
                assert factors is not None
                hook = _changer(changed.index, factors, single_step=recurrence.single_step)
                stack.callback(layer.register_forward_hook(hook).remove)
            result, tracker = call_module(self._module, self._layers, arrays, self._lengths, note)
        finals = {key: tracker.final(key) for key in starts}
        return _Seen(starts=starts, finals=finals, outputs=dict(self._named(result, tracker, passes)))


def _changer(index: int, factors: Tensor, *, single_step: bool) -> Callable[..., Any]:
    """Return a forward hook that multiplies the final state h (0) or c (1) and leaves a layer's output as it is."""

    def change(state: Any) -> Any:
        if isinstance(state, Tensor):
            return state * factors
        return tuple(part * factors if place == index else part for place, part in enumerate(state))

    def hook(_module: nn.Module, _args: Any, result: Any) -> Any:
        return change(result) if single_step else (result[0], change(result[1]))

    return hook


def find_carried(
    watcher: Watcher,
    passes: Sequence[Pass],
    *,
    inputs: Sequence[TensorSpec],
    outputs: Callable[[Sequence[Pass]], Sequence[TensorSpec]],
    draws: Sequence[Mapping[str, Array]],
    named: Mapping[str, str],
) -> tuple[list[Pass], tuple[StateSpec, ...]]:
    """Find the states that forward keeps in a form of its own, for recurrent calls whose initial state it computes.

    Args:
        watcher: runs the module.
        passes: its recurrent calls.
        inputs: forward's inputs.
        outputs: returns forward's outputs besides the states of the given recurrent calls.
        draws: arrays for forward's inputs by name, at the traced sizes. A call that starts from zeros must do so for
            all of them: a mask can clear the state of every row in one.
        named: outputs by input that the user says are states.

    Returns:
        The recurrent calls, with ``"carried"`` as the start of those that were found, and the states in the order of
        the inputs.

    Raises:
        CaptureError: an initial state comes from an input and its final state comes back in a different order, or it
            can come from several inputs or come back by several outputs.
    """
    drawn = [_continuous(arrays) for arrays in draws]
    runs = [(arrays, seen) for arrays in drawn if (seen := watcher.tried(arrays, passes)) is not None]
    moving = {key for _, seen in runs for key, parts in seen.starts.items() if any(bool(p.any()) for p in parts)}
    passes = [
        replace(item, start="computed") if item.start == "zeros" and key in moving else item
        for key, item in numbered(passes)
    ]
    parts = [
        _Part(key=key, index=index, item=item)
        for key, item in numbered(passes)
        if item.start == "computed"
        for index in range(len(item.recurrence.layers[0].state_sizes))
    ]
    if not parts or not runs:
        return passes, ()
    arrays, _ = max(runs, key=lambda run: _nonzero(run[1], {part.key for part in parts}))
    search = _Search(watcher, passes, arrays, inputs, outputs(passes), named=named)
    pairs = {(part.key, part.index): search.pair(part) for part in parts}
    done = {part.key for part in parts} - {key for (key, _), pair in pairs.items() if pair is None}
    found = [(part, pair) for part in parts if part.key in done and (pair := pairs[part.key, part.index]) is not None]
    states = _states(found, inputs)
    return [replace(item, start="carried") if key in done else item for key, item in numbered(passes)], states


def _nonzero(seen: _Seen, keys: AbstractSet[Key]) -> int:
    return sum(int(part.count_nonzero()) for key in keys for part in seen.starts.get(key, ()))


class _Search:
    """Which input and which output hold one state of a recurrent call."""

    def __init__(
        self,
        watcher: Watcher,
        passes: Sequence[Pass],
        arrays: Mapping[str, Array],
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        *,
        named: Mapping[str, str],
    ) -> None:
        self._named = named
        self._watcher, self._passes, self._arrays = watcher, passes, arrays
        self._inputs = {spec.name: spec for spec in inputs if _may_be_state(spec)}
        self._outputs = {spec.name: spec for spec in outputs if _may_be_state(spec)}
        self._seen = watcher.run(arrays, passes)

    def pair(self, part: _Part) -> tuple[str, str] | None:
        """Return the input and the output, or None where there is no such pair.

        Raises:
            CaptureError: there are several, or the order of the elements differs.
        """
        start = self._seen.starts[part.key][part.index]
        final = self._seen.finals[part.key][part.index]
        sources = {name: at for name in self._inputs if (at := _places(start, self._arrays[name])) is not None}
        held = {
            name: at
            for name in self._outputs
            if (at := _places(final, self._seen.outputs[name].detach().numpy())) is not None
        }
        pairs = [
            (a, b)
            for a in (sources or self._inputs)
            for b in (held or self._outputs)
            if self._inputs[a].axes == self._outputs[b].axes
            and (self._named.get(a) == b or (a not in self._named and b not in self._named.values()))
            and ((a in sources and b in held) or self._is_scaled(part, a, b, sources.get(a), held.get(b)))
        ]
        if len(pairs) > 1 and len({a for a, _ in pairs}) == 1:
            # The last of several: `return h, (h, c)` means the first as an answer and the second as the state.
            pairs = pairs[-1:]
        if len(pairs) > 1:
            raise CaptureError(
                f"{part.item.name}: its state can be each of these inputs and outputs: "
                f"{', '.join(f'{a} -> {b}' for a, b in pairs)} ({part.item.line}); give the inputs and outputs of "
                f"forward different axes, say which it is (--state {pairs[0][0]}={pairs[0][1]}), or export with "
                "states='hidden'"
            )
        if not pairs:
            return None
        source, end = pairs[0]
        if source in sources and end in held and not np.array_equal(sources[source], held[end]):
            raise CaptureError(
                f"{part.item.name}: its initial state comes from input {source!r} and its final state comes back in "
                f"output {end!r}, but at other places in the tensor ({part.item.line}): return the new state in the "
                "order in which forward takes it"
            )
        return source, end

    def _is_scaled(self, part: _Part, source: str, end: str, taken: Array | None, given: Array | None) -> bool:
        """Say whether the elements of a state are only scaled on the way from its input, or to its output.

        Args:
            part: the state.
            source: its input.
            end: its output.
            taken: the places of the initial state's elements in the input, where they are unchanged there, else None.
            given: the places of the final state's elements in the output, as ``taken``. Where both are scaled, they are
                expected in the order of the tensor.
        """
        start = self._seen.starts[part.key][part.index]
        at = taken if taken is not None else given
        if at is None:
            if start.numel() != self._arrays[source].size:
                return False
            at = np.arange(start.numel())
        halved = np.random.default_rng(3).random(start.numel()) < FACTOR
        factors = np.where(halved, FACTOR, 1).astype(np.float32)
        scaled_in = taken is not None or self._scales_input(part, source, at, factors)
        return scaled_in and (given is not None or self._scales_output(part, end, at, factors))

    def _scales_input(self, part: _Part, source: str, at: Array, factors: Array) -> bool:
        array = self._arrays[source].reshape(-1).copy()
        array[at] *= factors
        given = {**self._arrays, source: array.reshape(self._arrays[source].shape)}
        seen = self._watcher.tried(given, self._passes)
        start = self._seen.starts[part.key][part.index]
        expected = start * torch.from_numpy(factors).reshape(start.shape)
        return seen is not None and bool(start.any()) and torch.equal(seen.starts[part.key][part.index], expected)

    def _scales_output(self, part: _Part, end: str, at: Array, factors: Array) -> bool:
        final = self._seen.finals[part.key][part.index]
        try:
            shaped = torch.from_numpy(factors).reshape(final.shape)
            seen = self._watcher.run(self._arrays, self._passes, part, shaped)
        except LstmEdgeError:
            raise
        except Exception as error:  # the user's own module: whatever it raises is the answer
            raise CaptureError(
                f"forward fails when {part.item.name} returns another state: {type(error).__name__}: "
                f"{first_line(error)}"
            ) from error
        before, after = (run.outputs[end].detach().numpy().reshape(-1)[at] for run in (self._seen, seen))
        return bool(before.any()) and np.array_equal(after, before * factors)


def _may_be_state(spec: TensorSpec) -> bool:
    return spec.dtype == "float32" and all(isinstance(axis, int) or axis == BATCH for axis in spec.axes)


def _continuous(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Move each element of a float input a little towards the mean of the input, so that no two elements are equal."""
    rng = np.random.default_rng(2)
    return {
        name: np.asarray(a + (a.mean() - a) * rng.uniform(0, 0.01, a.shape), a.dtype) if a.dtype.kind == "f" else a
        for name, a in arrays.items()
    }


def _places(part: Tensor, whole: Array) -> Array | None:
    """Return where each element of a state lies in a flattened array, or None where one does not."""
    elements, flat = part.detach().numpy().reshape(-1), whole.reshape(-1)
    order = np.argsort(flat, kind="stable")
    at = np.minimum(np.searchsorted(flat[order], elements), flat.size - 1)
    found = order[at]
    same: bool = np.array_equal(flat[found], elements)
    return found if elements.size and same else None


def _states(found: Sequence[tuple[_Part, tuple[str, str]]], inputs: Sequence[TensorSpec]) -> tuple[StateSpec, ...]:
    """One state for each input, in the order of forward's inputs; of one layer's h or c where it holds nothing else."""
    axes = {spec.name: spec.axes for spec in inputs}
    outputs: dict[str, str] = {}
    holds: dict[str, list[_Part]] = {}
    for part, (source, end) in found:
        if outputs.setdefault(source, end) != end:
            raise CaptureError(
                f"input {source!r} is the state of several recurrent calls whose new states come back by different "
                f"outputs, {outputs[source]!r} and {end!r}: return them in one tensor, as forward takes them"
            )
        holds.setdefault(source, []).append(part)
    if len(set(outputs.values())) != len(outputs):
        shown = ", ".join(f"{source} -> {end}" for source, end in outputs.items())
        raise CaptureError(f"several inputs are states that come back by one output ({shown}): return one for each")
    states = []
    for name in (spec.name for spec in inputs if spec.name in outputs):
        first, *more = holds[name]
        single = not more and len(first.item.recurrence.layers) == 1
        kinds = list(first.item.recurrence.layers[0].state_sizes)
        states.append(
            StateSpec(
                input=name,
                output=outputs[name],
                kind=kinds[first.index] if single else "packed",
                module=first.item.name if single else name,
                layer=0,
                axes=axes[name],
            )
        )
    return tuple(states)
