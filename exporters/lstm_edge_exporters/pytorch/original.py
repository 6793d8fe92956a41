"""The module as its own witness: PyTorch's answers for given inputs, states and lengths, from the unchanged module.

States enter and leave through hooks on the recurrent layers, so a module that never heard of explicit state can be
asked for the answer it would give in the middle of a stream.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lstm_edge_exporters.pytorch.calls import Call, Pass, Tracker, watched
from lstm_edge_exporters.pytorch.recurrent import Recurrence, describe
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME, StateSpec, TensorSpec
from lstm_edge_runtime.errors import CaptureError

__all__ = ["Witness", "flatten_outputs", "recurrent_modules", "takes_lengths"]


def recurrent_modules(module: nn.Module) -> dict[str, tuple[nn.Module, Recurrence]]:
    """Return the recurrent layers by name, as ``named_modules`` has them; a bare one is called ``lstm`` or ``gru``."""
    found: dict[str, tuple[nn.Module, Recurrence]] = {}
    for path, child in module.named_modules():
        recurrence = describe(child)
        if recurrence is not None:
            found[path or recurrence.layers[0].cell] = (child, recurrence)
    return found


def takes_lengths(module: nn.Module) -> bool:
    """Say whether the module's own forward has a parameter called ``lengths``."""
    return "lengths" in inspect.signature(module.forward).parameters


def flatten_outputs(
    value: Any, returned: Sequence[Tensor], names: Sequence[str] | None = None, *, keep_one: bool = False
) -> dict[str, Tensor]:
    """Name what forward returned; tensors in ``returned`` (a layer's own h_n, c_n) are states, not outputs.

    ``names`` are given to the outputs in order; without them they are called after their place in the result.
    ``keep_one``: where all of them are states, the first is an output too: what a cell computes is its state.

    Raises:
        CaptureError: something in the result is neither a tensor nor a container of tensors, or there are more or
            fewer outputs than names.
    """
    everything = list(_leaves("", value))
    leaves = [(path, tensor) for path, tensor in everything if not any(tensor is state for state in returned)]
    if not leaves and keep_one:
        leaves = everything[:1]
    if not leaves:
        raise CaptureError("forward returned no tensor besides recurrent states: return what the model computes")
    if names is not None:
        if len(names) != len(leaves):
            found = ", ".join(path or "output" for path, _ in leaves)
            raise CaptureError(f"got {len(names)} output names for {len(leaves)} outputs: {found}")
        return {name: tensor for name, (_, tensor) in zip(names, leaves, strict=True)}
    return {"output": leaves[0][1]} if len(leaves) == 1 and _unnamed(leaves[0][0]) else dict(leaves)


def _leaves(path: str, item: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in what forward returned, each with its place: keys and indices joined by underscores."""
    if isinstance(item, Tensor):
        yield path, item
    elif isinstance(item, Mapping):
        for key, child in item.items():
            yield from _leaves(f"{path}_{key}" if path else str(key), child)
    elif isinstance(item, tuple | list):
        for index, child in enumerate(item):
            yield from _leaves(f"{path}_{index}" if path else f"output_{index}", child)
    elif item is not None:
        raise CaptureError(
            f"forward returned a {type(item).__name__}: expected tensors, or tuples, lists or dicts of them"
        )


def _unnamed(path: str) -> bool:
    return not path or path.startswith("output_")


class Witness:
    """Runs the unchanged module in float32 on the CPU.

    Attributes:
        inputs: forward's positional arguments, states and lengths among them where forward takes such.
        passes: the passes of its recurrent layers (``plan_passes``); none until they are known.
        states: the explicit states (none where they stay hidden).
        lengths: the input that holds the rows' lengths, or None.
        sorted_rows: rows must come in order of falling lengths, as ``pack_padded_sequence`` wants by default.
    """

    def __init__(self, module: nn.Module, inputs: tuple[TensorSpec, ...]) -> None:
        self.module = module
        self.inputs = inputs
        self.layers = recurrent_modules(module)
        self.passes: tuple[Pass, ...] = ()
        self.states: tuple[StateSpec, ...] = ()
        self.lengths: str | None = None
        self.sorted_rows = False
        self.outputs: tuple[TensorSpec, ...] = ()
        self.output_names: Sequence[str] | None = None

    @property
    def takes_lengths(self) -> bool:
        """Say whether forward itself deals with lengths: in an input, or a parameter called so."""
        named = any(spec.name == "lengths" for spec in self.inputs)
        return self.lengths is not None or (takes_lengths(self.module) and not named)

    def run(
        self, inputs: Mapping[str, Array], state: Mapping[str, Array], lengths: Array | None = None
    ) -> dict[str, Array]:
        """Return outputs and leaving states by name.

        ``lengths`` int64 [B]: a module whose forward takes lengths gets them; any other is asked for each row alone,
        cut to its length. Outputs past a row's length are zero.
        """
        if lengths is None:
            return self._call(inputs, state, None)
        if self.takes_lengths:
            answers = self._call(inputs, state, lengths)
            if self.states:
                # A forward that does not hand its lengths on to the layer leaves the state after step T there.
                answers |= self._row_by_row(inputs, state, lengths, only={spec.output for spec in self.states})
            return {name: self._masked(name, answer, lengths) for name, answer in answers.items()}
        return self._row_by_row(inputs, state, lengths)

    def forward(
        self,
        inputs: Mapping[str, Array],
        lengths: Array | None,
        enter: Any = None,
    ) -> tuple[Any, Tracker]:
        """Call the module; returns what forward returned, and the passes of its recurrent layers."""
        tensors = {spec.name: torch.from_numpy(np.array(inputs[spec.name])) for spec in self.inputs}
        keywords = {}
        if lengths is not None and self.lengths is None:
            keywords = {"lengths": torch.from_numpy(np.array(lengths))}
        tracker = Tracker(tensors)
        with torch.no_grad(), watched(self.layers, tracker, enter):
            return self.module(*tensors.values(), **keywords), tracker

    def _call(self, inputs: Mapping[str, Array], state: Mapping[str, Array], lengths: Array | None) -> dict[str, Array]:
        given = {**inputs, **state} | ({} if self.lengths is None or lengths is None else {self.lengths: lengths})
        entering = self._entering(state)

        def enter(name: str, call: Call, hx: Any) -> Any:
            return entering.get((name, call.index), hx) if call.first else hx

        result, tracker = self.forward(given, lengths, enter)
        self._check_passes(tracker)
        leaving = {
            (name, index): found.last for name, passes in tracker.passes.items() for index, found in enumerate(passes)
        }
        returned = [tensor for key, parts in leaving.items() if key in entering for tensor in parts]
        tensors_out = flatten_outputs(result, returned, self.output_names, keep_one=self.keeps_one)
        outputs = {name: tensor.numpy() for name, tensor in tensors_out.items()}
        return outputs | self._unstacked(leaving)

    @property
    def keeps_one(self) -> bool:
        """Say whether a state may be the module's answer too, as a cell's is."""
        return any(recurrence.single_step for _, recurrence in self.layers.values())

    def _check_passes(self, tracker: Tracker) -> None:
        for name in {item.module for item in self.passes if self.states}:
            planned = sum(item.module == name for item in self.passes)
            found = len(tracker.passes.get(name, []))
            if found != planned:
                raise CaptureError(
                    f"{name}: forward runs this layer {planned} times on one input and {found} times on another: "
                    "how often must not depend on the data or the shape"
                )

    def _keyed(self) -> Iterator[tuple[tuple[str, int], Pass]]:
        seen: dict[str, int] = {}
        for item in self.passes:
            index = seen.get(item.module, 0)
            seen[item.module] = index + 1
            yield (item.module, index), item

    def _entering(self, state: Mapping[str, Array]) -> dict[tuple[str, int], Any]:
        """Stack the states of each explicit pass as its module takes them."""
        entering = {}
        for key, item in self._keyed():
            specs = [spec for spec in self.states if spec.module == item.name and spec.kind != "packed"]
            if not item.explicit or not specs:
                continue
            parts = [
                torch.from_numpy(np.concatenate([state[spec.input] for spec in specs if spec.kind == kind]))
                for kind in item.recurrence.layers[0].state_sizes
            ]
            entering[key] = item.to_module(parts)
        return entering

    def _unstacked(self, leaving: Mapping[tuple[str, int], tuple[Tensor, ...]]) -> dict[str, Array]:
        answers: dict[str, Array] = {}
        for key, item in self._keyed():
            if not item.explicit:
                continue
            kinds = list(item.recurrence.layers[0].state_sizes)
            stacked = item.from_module(leaving[key])
            for spec in self.states:
                if spec.module == item.name and spec.kind != "packed":
                    directions = int(spec.axes[0])
                    tensor = stacked[kinds.index(spec.kind)]
                    answers[spec.output] = tensor[spec.layer * directions : (spec.layer + 1) * directions].numpy()
        return answers

    def _masked(self, name: str, answer: Array, lengths: Array) -> Array:
        spec = next((spec for spec in self.outputs if spec.name == name), None)
        if spec is None or TIME not in spec.axes or BATCH not in spec.axes:
            return answer
        batch, time = spec.axes.index(BATCH), spec.axes.index(TIME)
        steps = np.arange(answer.shape[time])
        valid = np.expand_dims(steps, tuple(i for i in range(answer.ndim) if i != time)) < np.expand_dims(
            lengths, tuple(i for i in range(answer.ndim) if i != batch)
        )
        return np.where(valid, answer, np.zeros((), answer.dtype))

    def _row_by_row(
        self,
        inputs: Mapping[str, Array],
        state: Mapping[str, Array],
        lengths: Array,
        only: set[str] | None = None,
    ) -> dict[str, Array]:
        axes = {spec.name: spec.axes for spec in (*self.inputs, *self.outputs)}
        axes |= {name: spec.axes for spec in self.states for name in (spec.input, spec.output)}
        longest = max(inputs[spec.name].shape[spec.axes.index(TIME)] for spec in self.inputs if TIME in spec.axes)
        rows = []
        for row, length in enumerate(lengths):
            sliced = {name: _cut(array, axes[name], row, int(length)) for name, array in inputs.items()}
            entering = {name: _cut(array, axes[name], row, None) for name, array in state.items()}
            rows.append(self._call(sliced, entering, lengths[row : row + 1] if self.takes_lengths else None))
        names = [name for name in rows[0] if only is None or name in only]
        return {name: _joined([row[name] for row in rows], axes[name], longest) for name in names}


def _cut(array: Array, axes: tuple[str | int, ...], row: int, length: int | None) -> Array:
    if BATCH in axes:
        array = np.take(array, [row], axis=axes.index(BATCH))
    if TIME in axes and length is not None:
        array = np.take(array, range(length), axis=axes.index(TIME))
    return array


def _joined(rows: list[Array], axes: tuple[str | int, ...], longest: int) -> Array:
    if BATCH not in axes:
        raise CaptureError("an output without a batch axis cannot be compared row by row")
    if TIME in axes:
        time = axes.index(TIME)
        pads = [[(0, longest - row.shape[time] if i == time else 0) for i in range(row.ndim)] for row in rows]
        rows = [np.pad(row, pad) for row, pad in zip(rows, pads, strict=True)]
    return np.concatenate(rows, axis=axes.index(BATCH))
