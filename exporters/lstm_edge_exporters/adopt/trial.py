"""Running a foreign file to learn about it: inputs that it takes, at any size of its dynamic axes."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.reading import parse_model
from lstm_edge_exporters.verify.inputs import InputMaker
from lstm_edge_exporters.verify.open_model import OpenModel
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import TensorSpec
from lstm_edge_runtime.errors import ArtifactError, first_line
from lstm_edge_runtime.providers import RUNTIME_ERRORS

__all__ = ["Runs", "Trial", "length_inputs", "scalar_values"]


# An integer input without dynamic axes is tried with the constants that the graph compares it with, then with these.
USUAL_VALUES = (1, 0)
MOST_VALUES = 8
LARGEST_INPUT_BYTES = 2**28

_COMPARES = ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")
_PASSES = ("Cast", "Clip", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "TopK", "Unsqueeze")


def scalar_values(model: ir.Model) -> dict[str, list[Array]]:
    """Return, for each integer input of at most eight elements, the values to try: those it is compared with first."""
    values = {}
    for value in model.graph.inputs:
        shape = None if value.shape is None else [size for size in value.shape if isinstance(size, int)]
        if shape is None or value.shape is None or len(shape) != len(value.shape) or int(np.prod(shape)) > MOST_VALUES:
            continue
        if value.dtype not in (ir.DataType.INT64, ir.DataType.INT32):
            continue
        compared = sorted(_compared_with(value), reverse=True)[: MOST_VALUES - len(USUAL_VALUES)]
        numbers = dict.fromkeys((*compared, *USUAL_VALUES))
        dtype = np.int64 if value.dtype == ir.DataType.INT64 else np.int32
        values[str(value.name)] = [np.full(shape, number, dtype) for number in numbers]
    return values


def _compared_with(value: ir.Value) -> set[int]:
    """The integer constants that an input is compared with, perhaps after a change of shape or type."""
    found: set[int] = set()
    stack, seen = [value], {value}
    while stack:
        for node in stack.pop().consumers():
            if node.op_type in _COMPARES:
                for operand in node.inputs:
                    array = constant_of(operand)
                    if array is not None and array.size == 1 and float(array.reshape(())).is_integer():
                        found.add(int(array.reshape(())))
            elif node.op_type in _PASSES and node.outputs[0] not in seen:
                seen.add(node.outputs[0])
                stack.append(node.outputs[0])
    return found


def length_inputs(model: ir.Model) -> tuple[str, ...]:
    """Return the inputs that reach a recurrent layer's ``sequence_lens``, perhaps sorted or converted."""
    names = []
    for value in model.graph.inputs:
        stack, seen = [value], {value}
        while stack:
            current = stack.pop()
            for node, index in current.uses():
                if node.op_type in ("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM") and index == 4:
                    names.append(str(value.name))
                elif node.op_type in _PASSES and index == 0 and node.outputs[0] not in seen:
                    seen.add(node.outputs[0])
                    stack.append(node.outputs[0])
    return tuple(dict.fromkeys(names))


def _check_sizes(specs: Sequence[TensorSpec], sizes: Mapping[str, int]) -> None:
    for spec in specs:
        shape = [axis if isinstance(axis, int) else sizes[axis] for axis in spec.axes]
        size = int(np.prod([float(axis) for axis in shape])) * np.dtype(spec.dtype).itemsize
        if size > LARGEST_INPUT_BYTES:
            raise ArtifactError(f"input {spec.name!r} has the shape {shape}, {size} bytes: too large to try the file")


class Runs(Protocol):
    """What is run to learn about a model."""

    def run(
        self,
        specs: Sequence[TensorSpec],
        sizes: Mapping[str, int],
        *,
        seed: int = 0,
        given: Mapping[str, Array] | None = None,
    ) -> dict[str, Array] | None:
        """Return the outputs by name, for inputs drawn from ``seed`` of which some are given; None: it does not run."""
        ...


class Trial:
    """A model that is run to learn about it; ``failure`` is what onnxruntime said last."""

    def __init__(self, data: bytes, *, scalars: Mapping[str, Sequence[Array]], ids_below: int) -> None:
        self._model = OpenModel.of(data, foreign=True)
        self._lengths = length_inputs(parse_model(data))
        self._scalars, self._ids_below = scalars, ids_below
        self.failure = ""

    def choices(self) -> Iterator[dict[str, Array]]:
        """Yield values for the integer inputs, at most 64 combinations."""
        for combination in itertools.islice(itertools.product(*self._scalars.values()), 64):
            yield dict(zip(self._scalars, combination, strict=True))

    def run(
        self,
        specs: Sequence[TensorSpec],
        sizes: Mapping[str, int],
        *,
        seed: int = 0,
        given: Mapping[str, Array] | None = None,
    ) -> dict[str, Array] | None:
        """Return the outputs by name, from the first choice of integers that runs; None where none does.

        Raises:
            ArtifactError: an input would have over 256 MB.
        """
        for values in self.choices():
            _check_sizes([spec for spec in specs if spec.name not in values], sizes)
            maker = InputMaker(specs, ids_below=self._ids_below, values=values, lengths=self._lengths)
            feeds = maker.make_sized(np.random.default_rng(seed), sizes) | dict(given or {})
            try:
                return self._model.answers(feeds)
            except RUNTIME_ERRORS as error:
                self.failure = first_line(error)
        return None
