"""The module as its own witness: PyTorch's answers for given inputs, states and lengths, from the unchanged module.

States enter and leave through hooks on the recurrent layers, so a module that never heard of explicit state can be
asked for the answer it would give in the middle of a stream.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lstm_edge_exporters.recurrent import Recurrence, describe
from lstm_edge_runtime.card import BATCH, TIME, StateSpec, TensorSpec
from lstm_edge_runtime.errors import CaptureError

__all__ = ["Witness", "flatten_outputs", "recurrent_modules", "takes_lengths"]

Array = NDArray[Any]


def recurrent_modules(module: nn.Module) -> dict[str, tuple[nn.Module, Recurrence]]:
    """Return the recurrent layers by name, in the order of ``named_modules``; a bare layer is called ``lstm``."""
    found: dict[str, tuple[nn.Module, Recurrence]] = {}
    for path, child in module.named_modules():
        recurrence = describe(child)
        if recurrence is not None:
            found[path or "lstm"] = (child, recurrence)
    return found


def takes_lengths(module: nn.Module) -> bool:
    """Say whether the module's own forward has a parameter called ``lengths``."""
    return "lengths" in inspect.signature(module.forward).parameters


def flatten_outputs(value: Any, returned: list[Tensor], names: Sequence[str] | None = None) -> dict[str, Tensor]:
    """Name what forward returned; tensors in ``returned`` (a layer's own h_n, c_n) are states, not outputs.

    ``names`` are given to the outputs in order; without them they are called after their place in the result.

    Raises:
        CaptureError: something in the result is neither a tensor nor a container of tensors, or there are more or
            fewer outputs than names.
    """
    leaves = [(path, tensor) for path, tensor in _leaves("", value) if not any(tensor is state for state in returned)]
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

    ``states`` are the explicit states (none where they stay hidden).
    """

    def __init__(self, module: nn.Module, inputs: tuple[TensorSpec, ...], states: tuple[StateSpec, ...]) -> None:
        self.module = module
        self.inputs = inputs
        self.states = states
        self.layers = recurrent_modules(module)
        self.outputs: tuple[TensorSpec, ...] = ()
        self.output_names: Sequence[str] | None = None

    def run(
        self, inputs: Mapping[str, Array], state: Mapping[str, Array], lengths: Array | None = None
    ) -> dict[str, Array]:
        """Return outputs and leaving states by name.

        ``lengths`` int64 [B]: a module whose forward has a ``lengths`` parameter gets it; any other is asked for each
        row alone, cut to its length. Outputs past a row's length are zero.
        """
        if lengths is None:
            return self._call(inputs, state, None)
        if takes_lengths(self.module):
            answers = self._call(inputs, state, lengths)
            return {name: self._masked(name, answer, lengths) for name, answer in answers.items()}
        return self._row_by_row(inputs, state, lengths)

    def _call(self, inputs: Mapping[str, Array], state: Mapping[str, Array], lengths: Array | None) -> dict[str, Array]:
        tensors = [torch.from_numpy(np.array(inputs[spec.name])) for spec in self.inputs]
        keywords = {} if lengths is None else {"lengths": torch.from_numpy(np.array(lengths))}
        leaving: dict[str, tuple[Tensor, Tensor]] = {}
        with ExitStack() as stack, torch.no_grad():
            for name, (layer, _) in self.layers.items():
                entering = self._stacked(name, state)
                if entering is not None:
                    handle = layer.register_forward_pre_hook(_enter(name, entering), with_kwargs=True)
                    stack.callback(handle.remove)
                handle = layer.register_forward_hook(_leave(name, leaving))
                stack.callback(handle.remove)
            result = self.module(*tensors, **keywords)
        returned = [tensor for pair in leaving.values() for tensor in pair] if self.states else []
        tensors_out = flatten_outputs(result, returned, self.output_names)
        outputs = {name: tensor.numpy() for name, tensor in tensors_out.items()}
        return outputs | self._unstacked(leaving)

    def _stacked(self, module: str, state: Mapping[str, Array]) -> tuple[Tensor, Tensor] | None:
        specs = [spec for spec in self.states if spec.module == module]
        if not specs:
            return None
        parts = {kind: [state[spec.input] for spec in specs if spec.kind == kind] for kind in ("h", "c")}
        return torch.from_numpy(np.concatenate(parts["h"])), torch.from_numpy(np.concatenate(parts["c"]))

    def _unstacked(self, leaving: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Array]:
        answers: dict[str, Array] = {}
        for spec in self.states:
            if spec.module not in leaving:
                raise CaptureError(
                    f"{spec.module}: forward never calls this recurrent layer; remove it from the module"
                )
            directions = int(spec.axes[0])
            tensor = leaving[spec.module][0 if spec.kind == "h" else 1]
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

    def _row_by_row(self, inputs: Mapping[str, Array], state: Mapping[str, Array], lengths: Array) -> dict[str, Array]:
        axes = {spec.name: spec.axes for spec in (*self.inputs, *self.outputs)}
        axes |= {name: spec.axes for spec in self.states for name in (spec.input, spec.output)}
        longest = max(inputs[spec.name].shape[spec.axes.index(TIME)] for spec in self.inputs if TIME in spec.axes)
        rows = []
        for row, length in enumerate(lengths):
            sliced = {name: _cut(array, axes[name], row, int(length)) for name, array in inputs.items()}
            entering = {name: _cut(array, axes[name], row, None) for name, array in state.items()}
            rows.append(self._call(sliced, entering, None))
        return {name: _joined([row[name] for row in rows], axes[name], longest) for name in rows[0]}


def _enter(name: str, state: tuple[Tensor, Tensor]) -> Any:
    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if len(args) > 1 or kwargs.get("hx") is not None:
            raise CaptureError(
                f"{name}: forward passes its own initial state to the layer, so the state cannot be made explicit; "
                "remove it from forward, or export with state='hidden'"
            )
        return args, {**kwargs, "hx": state}

    return hook


def _leave(name: str, leaving: dict[str, tuple[Tensor, Tensor]]) -> Any:
    def hook(_module: nn.Module, _args: Any, result: tuple[Tensor, tuple[Tensor, Tensor]]) -> None:
        leaving[name] = result[1]

    return hook


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
