"""The tensors of a model as its graph and its card describe them, and the check that both agree."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime

from lstm_edge_runtime._json import shortened
from lstm_edge_runtime.card import BATCH, TIME, ModelCard, StateSpec, TensorSpec, batch_factor
from lstm_edge_runtime.errors import ArtifactError, CardError

__all__ = ["Contract", "read_contract"]

# The NumPy dtype for each element type, by onnxruntime's name.
_DTYPES = {
    "tensor(bool)": "bool",
    "tensor(double)": "float64",
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    **{f"tensor({kind}int{bits})": f"{kind}int{bits}" for kind in ("", "u") for bits in (8, 16, 32, 64)},
}


# Limits for one row of an input or output, and for all states of one row together, because arrays of the sizes that a
# card or a graph declares are allocated. The states of a hundred layers of 16,384 cells, the largest that are written,
# take 13 MB.
MOST_TENSOR_BYTES = 2**30
# Of a range in a card: random integers and float32 numbers are drawn within it.
_LARGEST_VALUE = 2.0**31 - 1
MOST_STATE_BYTES = 2**28
# Limit for each count of steps in card.streaming: a stream keeps so many input steps, and that many frames of 10 ms are
# eleven minutes.
MOST_STEPS = 65_536
_LEAST_STEPS = {"latency_steps": 0, "first": 1, "first_gives": 1, "every": 1, "gives": 1}


@dataclass(frozen=True, kw_only=True)
class Contract:
    """The tensors that a caller uses; states, lengths and the end of a sequence are separate from inputs and outputs.

    ``lengths`` and ``end`` are names of graph inputs, or None; see the card.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[StateSpec, ...]
    lengths: str | None
    end: str | None = None


def read_contract(session: onnxruntime.InferenceSession, card: ModelCard | None) -> Contract:
    """Read the contract of an open model.

    Args:
        session: the open model.
        card: its card, or None; without a card every input and output is an ordinary tensor.

    Raises:
        CardError: the card contradicts the graph, or declares more than 1 GiB for a row of a tensor or 256 MiB for all
            states of a row; the message holds the dotted path of the value.
        ArtifactError: an input or output is not a tensor of numbers, takes more than 1 GiB a row, or its name holds a
            control character.
    """
    inputs = _read_tensors("input", session.get_inputs())
    outputs = _read_tensors("output", session.get_outputs())
    if card is None:
        return Contract(inputs=tuple(inputs.values()), outputs=tuple(outputs.values()), states=(), lengths=None)
    _check_unique(card)
    _check_tensors("inputs", card.inputs, inputs, may_lack_rank=False)
    _check_tensors("outputs", card.outputs, outputs, may_lack_rank=True)
    for index, state in enumerate(card.states):
        _check_state(f"card.states[{index}]", state, inputs, outputs)
    _check_state_bytes(card)
    if card.lengths is not None:
        _check_lengths(card, inputs)
    _check_streaming(card, inputs)
    state_inputs, state_outputs = {s.input for s in card.states}, {s.output for s in card.states}
    end = card.streaming.end
    _check_all_mentioned("input", inputs, {s.name for s in card.inputs} | state_inputs | {card.lengths, end})
    _check_all_mentioned("output", outputs, {s.name for s in card.outputs} | state_outputs)
    return Contract(
        inputs=tuple(s for s in card.inputs if s.name not in state_inputs and s.name != card.lengths),
        outputs=tuple(s for s in card.outputs if s.name not in state_outputs),
        states=card.states,
        lengths=card.lengths,
        end=end,
    )


def _read_tensors(role: str, nodes: Sequence[Any]) -> dict[str, TensorSpec]:
    specs = {}
    for node in nodes:
        for name in (node.name, *(axis for axis in node.shape if isinstance(axis, str))):
            if not name.isprintable():
                raise ArtifactError(f"{role} {node.name!r}: the name {name!r} holds a control character")
        if node.type not in _DTYPES:
            raise ArtifactError(f"{role} {node.name!r} is a {node.type}; only tensors of numbers are supported")
        # A dimension without a name gets a unique one, so that it is independent of all others.
        axes = tuple(
            axis if isinstance(axis, int | str) and axis != "" else f"{node.name}.{index}"
            for index, axis in enumerate(node.shape)
        )
        dtype = _DTYPES[node.type]
        if (size := _row_bytes(axes, dtype)) > MOST_TENSOR_BYTES:
            raise ArtifactError(
                f"{role} {node.name!r}: the graph declares {list(axes)}, {size:,} bytes a row; at most "
                f"{MOST_TENSOR_BYTES:,} are allowed"
            )
        specs[node.name] = TensorSpec(name=node.name, dtype=dtype, axes=axes)
    return specs


def _row_bytes(axes: Sequence[str | int], dtype: str = "float32") -> int:
    """Return the bytes of an array whose dynamic axes all have one element; ``"batch*3"`` has three."""
    sizes = [axis if isinstance(axis, int) else batch_factor(axis) or 1 for axis in axes]
    return math.prod(size for size in sizes if size > 0) * np.dtype(dtype).itemsize


def _check_state_bytes(card: ModelCard) -> None:
    size = 0
    for index, state in enumerate(card.states):
        size += _row_bytes(state.axes, state.dtype)
        if size > MOST_STATE_BYTES:
            raise CardError(
                f"model card: card.states[{index}].axes is {shortened(list(state.axes))}: the states of one row take "
                f"{shortened(size)} bytes up to here, at most {MOST_STATE_BYTES:,} are allowed"
            )


def _check_unique(card: ModelCard) -> None:
    for path, names in {
        "card.inputs": [spec.name for spec in card.inputs],
        "card.outputs": [spec.name for spec in card.outputs],
        "card.states": [spec.input for spec in card.states],
    }.items():
        seen: set[str] = set()
        for name in names:
            if name in seen:
                raise CardError(f"model card: {path} names a tensor twice: {shortened(name)}")
            seen.add(name)


def _check_tensors(
    field: str, specs: Sequence[TensorSpec], graph: dict[str, TensorSpec], *, may_lack_rank: bool
) -> None:
    for index, spec in enumerate(specs):
        path = f"card.{field}[{index}]"
        if spec.range is not None and not (
            len(spec.range) == 2 and -_LARGEST_VALUE <= spec.range[0] <= spec.range[1] <= _LARGEST_VALUE
        ):
            raise CardError(
                f"model card: {path}.range is {shortened(list(spec.range))}, expected the least and the largest value, "
                f"at most {_LARGEST_VALUE:g} in magnitude"
            )
        found = _find(f"{path}.name", field.removesuffix("s"), spec.name, graph)
        if spec.dtype != found.dtype:
            raise CardError(
                f"model card: {path}.dtype is {shortened(spec.dtype)}, the graph's {spec.name!r} has {found.dtype!r}"
            )
        if any(isinstance(axis, str) and not axis.isprintable() for axis in spec.axes):
            raise CardError(
                f"model card: {path}.axes is {shortened(list(spec.axes))}: a name in it holds a control character"
            )
        # onnxruntime reports an output of unknown rank without axes.
        if found.axes or not may_lack_rank:
            _check_axes(f"{path}.axes", spec.name, spec.axes, found.axes)


def _check_axes(path: str, name: str, card: tuple[str | int, ...], graph: tuple[str | int, ...]) -> None:
    # A size in the card for a named axis of the graph is an additional promise and is allowed. A name in the card for a
    # size of the graph contradicts the graph, and so do two different sizes.
    agree = len(card) == len(graph) and all(isinstance(b, str) or a == b for a, b in zip(card, graph, strict=True))
    if not agree:
        raise CardError(f"model card: {path} is {shortened(list(card))}, the graph's {name!r} has {list(graph)}")
    if any(isinstance(axis, int) and axis < 1 for axis in card):
        raise CardError(f"model card: {path} is {shortened(list(card))}, a fixed axis has at least 1 element")
    if (size := _row_bytes(card)) > MOST_TENSOR_BYTES:
        raise CardError(
            f"model card: {path} is {shortened(list(card))}, {shortened(size)} bytes a row; at most "
            f"{MOST_TENSOR_BYTES:,} are allowed"
        )


def _check_state(path: str, state: StateSpec, inputs: dict[str, TensorSpec], outputs: dict[str, TensorSpec]) -> None:
    for field, name, graph in (("input", state.input, inputs), ("output", state.output, outputs)):
        found = _find(f"{path}.{field}", field, name, graph)
        if found.dtype != state.dtype:
            raise CardError(f"model card: {path}.{field} {name!r} has dtype {found.dtype}, the card says {state.dtype}")
        if found.axes or field == "input":
            _check_axes(f"{path}.axes", name, state.axes, found.axes)
    if any(isinstance(axis, str) and batch_factor(axis) is None for axis in state.axes):
        raise CardError(
            f"model card: {path}.axes is {list(state.axes)}, only {BATCH!r} or a multiple of it, such as "
            f"'{BATCH}*3', may be dynamic in a state"
        )


def _check_lengths(card: ModelCard, inputs: dict[str, TensorSpec]) -> None:
    name = str(card.lengths)
    found = _find("card.lengths", "input", name, inputs)
    if found.dtype != "int64" or len(found.axes) != 1:
        raise CardError(
            f"model card: card.lengths {name!r} is {found.dtype} {list(found.axes)} in the graph, "
            "expected int64 [batch]"
        )
    if not any(TIME in spec.axes for spec in card.inputs):
        raise CardError(f"model card: card.lengths is {name!r}, but no input has an axis called {TIME!r}")


def _check_streaming(card: ModelCard, inputs: dict[str, TensorSpec]) -> None:
    streaming = card.streaming
    for field, least in _LEAST_STEPS.items():
        value = getattr(streaming, field)
        if not least <= value <= MOST_STEPS:
            raise CardError(
                f"model card: card.streaming.{field} is {shortened(value)}, expected {least} to {MOST_STEPS:,}"
            )
    counted = [field for field, least in _LEAST_STEPS.items() if getattr(streaming, field) != least]
    if (counted or streaming.end is not None) and not any(TIME in spec.axes for spec in card.inputs):
        field = "end" if not counted else counted[0]
        raise CardError(
            f"model card: card.streaming.{field} is {shortened(getattr(streaming, field))}, "
            f"but no input has an axis called {TIME!r}"
        )
    if streaming.end is None:
        return
    found = _find("card.streaming.end", "input", streaming.end, inputs)
    if found.dtype != "int64" or found.axes != (1,):
        raise CardError(
            f"model card: card.streaming.end {found.name!r} is {found.dtype} {list(found.axes)} in the graph, "
            "expected int64 [1]"
        )
    roles: dict[str, list[str | None]] = {
        "card.inputs": [spec.name for spec in card.inputs],
        "card.states": [spec.input for spec in card.states],
    }
    roles["card.lengths"] = [card.lengths]
    for path, names in roles.items():
        if streaming.end in names:
            raise CardError(f"model card: card.streaming.end is {streaming.end!r}, which {path} names too")


def _find(path: str, role: str, name: str, graph: dict[str, TensorSpec]) -> TensorSpec:
    if name not in graph:
        raise CardError(f"model card: {path} is {name!r}, the graph has the {role}s {', '.join(graph) or 'none'}")
    return graph[name]


def _check_all_mentioned(role: str, graph: dict[str, TensorSpec], mentioned: set[str | None] | set[str]) -> None:
    for name in graph:
        if name not in mentioned:
            raise CardError(f"model card: card.{role}s does not mention the graph's {role} {name!r}")
