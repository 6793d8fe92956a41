"""A Keras model as one torch module, ready for export."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lstm_edge_exporters.keras.archive import KerasFile, read_file
from lstm_edge_exporters.keras.calls import Call, Value
from lstm_edge_exporters.keras.config import MaskClaim, Network, Ref, parse_network
from lstm_edge_exporters.keras.hdf5 import shown
from lstm_edge_exporters.keras.layers import build_layer
from lstm_edge_exporters.keras.options import Options
from lstm_edge_exporters.keras.shapes import Built, Shape, Source
from lstm_edge_runtime.errors import ArtifactError, CaptureError

__all__ = ["KerasModel", "load_keras"]

RECURRENT = ("LSTM", "GRU", "Bidirectional")


@dataclass(frozen=True, kw_only=True)
class _Step:
    """One layer in use: its name in the module (None without weights), how it is called, what it takes."""

    module: str | None
    call: Call
    source: Ref


class KerasModel(nn.Module):
    """The layers of a Keras model, called in order; ``forward`` returns a dict of the model's outputs by name.

    A state that the model returns (return_state) is returned whole where there are other outputs: export then knows
    it as the explicit state that it is.
    """

    def __init__(self, network: Network, built: list[Built], input_shape: Shape, where: str) -> None:
        super().__init__()
        self._steps: list[_Step] = []
        self._outputs = list(zip(_output_names(network, built), network.outputs, strict=True))
        self._where = where
        self._input_shape = input_shape
        self._built_notes = tuple(note for layer in built for note in layer.notes)
        self._fixed_time = any(layer.fixed_time for layer in built)
        self.input_name = _identifier(network.layers[0].options.name, ())
        self.masks = any(shape.mask is not None for layer in built for shape in layer.shapes)
        taken: list[str] = []
        for config, layer in zip(network.layers[1:], built, strict=True):
            assert config.source is not None
            name = None
            if layer.module is not None:
                # Not a name that nn.Module has itself, which add_module refuses.
                name = _identifier(config.options.name, (*taken, *dir(self)))
                taken.append(name)
                self.add_module(name, layer.module)
            self._steps.append(_Step(module=name, call=layer.call, source=config.source))
        self._whole_states = not all(_is_state(ref, built) for ref in network.outputs)
        self.eval()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Run the model on x: ids int64 [B, T], or float32 [B, T, F]."""
        values: list[tuple[Value, ...]] = [(Value(tensor=x),)]
        for step in self._steps:
            module = _NOTHING if step.module is None else self.get_submodule(step.module)
            values.append(step.call(module, values[step.source.layer][step.source.tensor]))
        answers = {}
        for name, ref in self._outputs:
            value = values[ref.layer][ref.tensor]
            answers[name] = value.state if value.state is not None and self._whole_states else value.tensor
        return answers

    def describe_model(self) -> dict[str, Any]:
        """Return the model's description for the card: task, preprocessing, inputs."""
        shape = self._input_shape
        time = str(shape.steps) if self._fixed_time else "time"
        axes = ", ".join(["batch", time, *([] if shape.features is None else [str(shape.features)])])
        dtype = "int64" if shape.features is None else "float32"
        masked = (
            "inside the graph: steps are masked as the Keras file says (mask_zero or Masking); a masked step keeps the "
            "state",
        )
        return {
            "task": "generic",
            "inputs": [f"{self.input_name}: {dtype}[{axes}]"],
            "preprocessing": (*(masked if self.masks else ()), *self._built_notes),
        }


_NOTHING = nn.Identity()


def load_keras(path: str | Path) -> KerasModel:
    """Read a ``.keras`` or ``.h5`` file as a torch module in evaluation mode; nothing in the file is executed.

    Raises:
        ArtifactError: the file is missing, damaged, hostile, or holds a model without weights or weights without one.
        CaptureError: a layer, or the way it is used, is not exported; the message has the layer's name.
    """
    file = read_file(Path(path))
    try:
        return _assemble(file)
    except RecursionError as error:
        raise ArtifactError(f"{file.where}: the model's config is nested too deep") from error


def _assemble(file: KerasFile) -> KerasModel:
    network = parse_network(file.document, file.where)
    input_shape = _input_shape(network)
    shapes: list[tuple[Shape, ...]] = [(input_shape,)]
    built: list[Built] = []
    stores = _store_names(network)
    for index, store in enumerate(stores[1:], start=1):
        built.append(_build(network, index, store, shapes, file))
        shapes.append(built[-1].shapes)
    if not any(config.options.class_name in RECURRENT for config in network.layers):
        raise CaptureError(f"{file.where}: the model has no recurrent layer (LSTM, GRU): there is nothing to stream")
    for ref in network.outputs:
        _shape_of(ref, shapes, f"{file.where}: an output")
    return KerasModel(network, built, input_shape, file.where)


def _build(network: Network, index: int, store: str, shapes: list[tuple[Shape, ...]], file: KerasFile) -> Built:
    config = network.layers[index]
    assert config.source is not None
    options = config.options
    shape = _shape_of(config.source, shapes, str(options))
    if config.mask is not None and not _is_mask_of(config.mask, network, shape.mask):
        raise options.refuse("it is called with its own mask, not with the one of the tensor it takes")
    source = Source(
        index=index, shape=shape, read=lambda parts: file.read(options.name, store, parts), version=file.version
    )
    return build_layer(options, source)


def _is_mask_of(claim: MaskClaim, network: Network, index: int | None) -> bool:
    """Say whether a mask is the one that a layer, an Embedding or a Masking, made of the tensor it took."""
    if index is None:
        return False
    layer = network.layers[index]
    masking = layer.options.class_name == "Masking"
    value = layer.options.values.get("mask_value", 0.0) if masking else 0
    return claim == MaskClaim(tensor=layer.source or claim.tensor, value=value, any_feature=masking)


def _shape_of(ref: Ref, shapes: list[tuple[Shape, ...]], what: str) -> Shape:
    found = shapes[ref.layer]
    if ref.tensor >= len(found):
        raise ArtifactError(f"{what} takes tensor {ref.tensor} of a layer that gives {len(found)}")
    return found[ref.tensor]


def _input_shape(network: Network) -> Shape:
    """Return the shape of the model's input: ids for an Embedding, features for anything else."""
    options = network.layers[0].options
    shape = options.get("batch_shape", None)
    if shape is None:
        shape = options.get("batch_input_shape", None)  # Keras 2
    options.only("sparse", False)
    options.only("ragged", False)
    takers = [layer.options for layer in network.layers if layer.source is not None and layer.source.layer == 0]
    ids = any(taker.class_name == "Embedding" for taker in takers)
    rank = 2 if ids else 3
    good = isinstance(shape, list) and len(shape) == rank and all(_is_size(size) for size in shape)
    if not good or (not ids and shape[2] is None):
        expected = "[batch, time] of ids" if ids else "[batch, time, features] with a number of features"
        raise options.refuse(f"the model's input is {shown(shape)}, expected {expected}")
    return Shape(features=None if ids else shape[2], time=True, steps=shape[1])


def _is_size(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 2**20)


def _store_names(network: Network) -> list[str]:
    """Return what a ``.keras`` file calls each layer's weights: the class in snake case, counted from the second on."""
    counts: dict[str, int] = {}
    names = []
    for layer in network.layers:
        base = _snake_case(layer.options)
        counts[base] = counts.get(base, 0) + 1
        names.append(base if counts[base] == 1 else f"{base}_{counts[base] - 1}")
    return names


def _snake_case(options: Options) -> str:
    # The two substitutions of Keras's own naming.to_snake_case.
    name = re.sub(r"\W+", "", options.class_name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _output_names(network: Network, built: list[Built]) -> list[str]:
    names: list[str] = []
    for ref in network.outputs:
        ending = "" if ref.layer == 0 else built[ref.layer - 1].endings[ref.tensor]
        names.append(_identifier(network.layers[ref.layer].options.name + ending, names))
    return names


def _is_state(ref: Ref, built: list[Built]) -> bool:
    return ref.layer > 0 and built[ref.layer - 1].endings[ref.tensor].endswith(("_h", "_c"))


def _identifier(name: str, taken: Any) -> str:
    """Return a name of letters, digits and underscores that is not taken."""
    base = re.sub(r"\W", "_", name, flags=re.ASCII)
    base = base if base[0].isalpha() or base[0] == "_" else f"_{base}"
    candidate, count = base, 1
    while candidate in taken:
        candidate, count = f"{base}_{count}", count + 1
    return candidate
