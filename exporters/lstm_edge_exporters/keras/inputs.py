"""The inputs of a Keras model, and which of their axes are dynamic.

Batch and time are dynamic, even if the file fixes the number of steps, unless a layer needs that number. The inputs of
a model have each its own number of steps until a layer joins them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode  # torch has no public name for it

from lstm_edge_exporters.keras.config import MODELS, ModelConfig, Ref, parse_model, refs, wrapped
from lstm_edge_exporters.keras.hdf5 import shown
from lstm_edge_exporters.keras.options import LARGEST_SIZE, Options
from lstm_edge_exporters.keras.values import Value
from lstm_edge_runtime.errors import CaptureError

__all__ = ["Axes", "Input", "read_inputs"]

MOST_INPUTS = 100
# Sizes of the stand-ins: two of each dynamic axis. Those of batches are prime, so that rows are never mixed; numbers
# of steps have many divisors, as layers may split them.
BATCHES = (1009, 1013)
STEPS = 5040
OTHER = 4001
DTYPES = {"float32": torch.float32, "int64": torch.int64, "bool": torch.bool}


@dataclass(frozen=True, kw_only=True)
class Input:
    """An input: the name of its layer, its type, and its sizes without the batch, None where the file leaves them open.

    ``sequence`` says that its second axis is time, so that a number of steps in the file is not needed.
    """

    name: str
    dtype: str
    sizes: tuple[int | None, ...]
    sequence: bool


@dataclass
class Axes:
    """Which axes of the inputs are dynamic, and which inputs have as many steps as one another.

    ``groups`` are numbers of inputs, one for each input; inputs of one group have as many steps. ``fixed`` are inputs
    that keep the number of steps of the file.
    """

    inputs: Sequence[Input]
    groups: list[int] = field(default_factory=list)
    fixed: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if not self.groups:
            self.groups = list(range(len(self.inputs)))

    def joined(self, some: Iterable[int]) -> "Axes | None":
        """Return these axes with as many steps for all of ``some``, or None if they have that already."""
        groups = {self.groups[index] for index in some if self.is_dynamic(index)}
        if len(groups) < 2:
            return None
        first = min(groups)
        return Axes(self.inputs, [first if group in groups else group for group in self.groups], self.fixed)

    def kept(self, some: Iterable[int]) -> "Axes | None":
        """Return these axes with the file's number of steps for all of ``some``; None where none is left."""
        more = {index for index in some if self.is_dynamic(index) and self.inputs[index].sizes[0] is not None}
        return Axes(self.inputs, list(self.groups), self.fixed | more) if more else None

    def is_dynamic(self, index: int) -> bool:
        """Say whether an input's number of steps is dynamic."""
        entry = self.inputs[index]
        if not entry.sizes:
            return False
        return entry.sizes[0] is None or (entry.sequence and index not in self.fixed)

    def lane(self, which: int, mode: FakeTensorMode) -> list[Value]:
        """Return stand-ins of the inputs at the first or the second size."""
        times = [STEPS * (2 + 2 * group + which) for group in self.groups]
        return self.values(BATCHES[which], times, OTHER + 1000 * which, mode)

    def values(self, batch: int, times: Sequence[int], other: int, mode: FakeTensorMode) -> list[Value]:
        """Return stand-ins: of ``times`` steps, and of ``other`` and more elements along other open axes."""
        found = []
        with mode:
            for index, entry in enumerate(self.inputs):
                sizes = [batch]
                for axis, size in enumerate(entry.sizes):
                    dynamic = axis == 0 and self.is_dynamic(index)
                    sizes.append(times[index] if dynamic else size if size is not None else other + 16 * index + axis)
                found.append(Value(tensor=torch.empty(sizes, dtype=DTYPES[entry.dtype])))
        return found

    def specs(self, names: Sequence[str]) -> list[str]:
        """Return the inputs as export takes them; ``names`` are theirs."""
        dynamic = [self.groups[index] for index in range(len(self.inputs)) if self.is_dynamic(index)]
        first = dynamic[0] if dynamic else None
        specs = []
        for index, (name, entry) in enumerate(zip(names, self.inputs, strict=True)):
            axes = ["batch"]
            for axis, size in enumerate(entry.sizes):
                if axis == 0 and self.is_dynamic(index):
                    group = self.groups[index]
                    axes.append("time" if group == first else f"{names[group]}_time")
                else:
                    axes.append(f"{name}_{axis + 1}" if size is None else str(size))
            specs.append(f"{name}: {entry.dtype}[{', '.join(axes)}]")
        return specs


def read_inputs(model: ModelConfig, where: str) -> list[Input]:
    """Read the inputs of a model, in the order in which Keras takes them.

    Raises:
        CaptureError: one is of a type or shape that is not exported.
    """
    layers = {layer.options.name: layer for layer in model.layers}
    found = [layers[ref.layer].options for ref in refs(model.inputs)]
    for options in found:
        if options.class_name != "InputLayer":
            raise options.refuse("the model begins in the middle of another one: save the whole model")
    if not 1 <= len(found) <= MOST_INPUTS or len({options.name for options in found}) < len(found):
        raise CaptureError(f"{where}: the model has {len(found)} inputs, expected 1 to {MOST_INPUTS} different ones")
    return [_input(options, model) for options in found]


def _input(options: Options, model: ModelConfig) -> Input:
    shape = options.get("batch_shape", None)
    if shape is None:
        shape = options.get("batch_input_shape", None)  # Keras 2
    if shape is None:
        raise options.refuse("the file does not say what shape the model's input has: build the model before saving it")
    for key in ("sparse", "ragged", "optional"):
        options.only(key, False)
    if not isinstance(shape, list) or not 2 <= len(shape) <= 6 or not all(_is_size(size) for size in shape):
        raise options.refuse(
            f"the model's input is {shown(shape)}, expected [batch, time, features] or [batch, features]"
        )
    takers = list(_takers(model, options.name))
    declared = options.get("dtype", "float32")
    ids = "Embedding" in takers
    if isinstance(declared, dict):
        inner = declared.get("config")
        declared = inner.get("name") if isinstance(inner, dict) else declared
    kinds = {"float32": "float32", "int32": "int64", "int64": "int64", "bool": "bool", None: "float32"}
    if not ids and (not isinstance(declared, str | None) or declared not in kinds):
        raise options.refuse(f"the model's input is of type {shown(declared)}, expected float32, int32, int64 or bool")
    dtype = "int64" if ids else kinds[declared]
    timed = len(shape) == 3 or (len(shape) == 2 and ids) or "TimeDistributed" in takers
    return Input(name=options.name, dtype=dtype, sizes=tuple(shape[1:]), sequence=timed)


def _is_size(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST_SIZE)


def _takers(model: ModelConfig, name: str, depth: int = 0, seen: set[tuple[int, int]] | None = None) -> Iterable[str]:
    """Yield the classes of the layers that take a tensor, those in models among them; each model once an input."""
    seen = set() if seen is None else seen
    for layer in model.layers:
        for call in layer.calls:
            taken = list(refs(call.args))
            if Ref(layer=name) not in taken:
                continue
            kind, entry = layer.options.class_name, layer.model
            yield kind
            if kind == "TimeDistributed":
                inner = wrapped(layer.options, "layer").kind
                entry = layer.options.values.get("layer") if inner in MODELS else None
            place = taken.index(Ref(layer=name))
            if entry is None or (id(entry), place) in seen:
                continue
            seen.add((id(entry), place))
            nested = parse_model(entry, str(layer.options), depth + 1)
            heads = list(refs(nested.inputs))
            if place < len(heads):
                yield from _takers(nested, heads[place].layer, depth + 1, seen)
