"""A Keras model as one torch module, ready for export."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from lstm_edge_exporters.keras.archive import KerasFile, Place, read_file
from lstm_edge_exporters.keras.config import ModelConfig, Ref, parse_model, refs
from lstm_edge_exporters.keras.inputs import Axes, read_inputs
from lstm_edge_exporters.keras.network import Assembler, Graph, identifier
from lstm_edge_exporters.keras.order import Node, run_order
from lstm_edge_exporters.keras.shapes import Built
from lstm_edge_exporters.keras.values import UnknownSizeError, Value, leaves
from lstm_edge_runtime.errors import ArtifactError, CaptureError

__all__ = ["KerasModel", "load_keras"]

RECURRENT = ("LSTM", "GRU", "SimpleRNN", "Bidirectional")
# The numbers of steps that an export begins with, and fewer ones.
BEGINNING, FEW = (7, 11), (1, 2, 3, 4, 6)


class KerasModel(Graph):
    """The layers of a Keras model, called in order; ``forward`` returns a dict of the model's outputs by name.

    A state that the model returns (return_state) is returned whole where there are other outputs: export then knows
    it as the explicit state that it is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.input_names: list[str] = []
        self.masks = False
        self._specs: list[str] = []
        self._notes: tuple[str, ...] = ()
        self._names: list[str] = []
        self._whole_states = True

    def forward(self, *tensors: Tensor) -> dict[str, Tensor]:
        """Run the model on its inputs in order: ids int64 [B, T], or float32 [B, T, F], or as it has them."""
        found = list(leaves(self.run([Value(tensor=x) for x in tensors])))
        answers = {}
        for name, value in zip(self._names, found, strict=True):
            if any(isinstance(size, int) and not size for size in value.tensor.shape):
                raise ValueError(f"output {name} has no elements for so few steps")
            answers[name] = value.state if value.state is not None and self._whole_states else value.tensor
        return answers

    def describe_model(self) -> dict[str, Any]:
        """Return the model's description for the card: task, preprocessing, inputs."""
        masked = (
            "inside the graph: steps are masked as the Keras file says (mask_zero or Masking); a masked step keeps the "
            "state",
        )
        return {
            "task": "generic",
            "inputs": list(self._specs),
            "preprocessing": (*(masked if self.masks else ()), *self._notes),
        }

    def describe(self, model: ModelConfig, built: dict[Node, Built], axes: Axes, assembler: Assembler) -> None:
        """Note what the whole model is, after its layers were built into it."""
        for entry in axes.inputs:
            self.input_names.append(identifier(entry.name, self.input_names))
        self._specs = axes.specs(self.input_names)
        self._notes = tuple(assembler.notes)
        self.masks = assembler.masks
        self._names = _output_names(model.outputs, built, [])
        self._whole_states = not all(_is_state(ref, built) for ref in refs(model.outputs))
        self.eval()


def load_keras(path: str | Path) -> KerasModel:
    """Read a ``.keras`` or ``.h5`` file as a torch module in evaluation mode; nothing in the file is executed.

    A ``.json`` file with the ``.weights.h5`` file of the same name beside it is read too.

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
    """Put the model together with as few fixed numbers of steps as it allows."""
    model = parse_model(file.document, file.where)
    axes = Axes(read_inputs(model, file.where))
    ancestors = _ancestors(model, file.where)
    tried: dict[tuple[Node, frozenset[int]], Axes] = {}
    # Each round joins inputs or fixes one, of which there are few.
    for _ in range(4 * len(axes.inputs) + 1):
        try:
            return _attempt(file, model, axes)
        except UnknownSizeError as error:
            node: Node = error.__dict__.get("node", next(iter(ancestors), ("", 0)))
            some = ancestors.get(node, set(range(len(axes.inputs))))
            key = (node, axes.fixed)
            joined = axes.joined(some) if key not in tried else None
            if joined is not None:
                tried[key] = axes
                axes = joined
                continue
            kept = tried.get(key, axes).kept(some)
            if kept is None:
                raise
            axes = kept
    raise ArtifactError(f"{file.where}: the inputs' numbers of steps do not fit one another")


def _attempt(file: KerasFile, model: ModelConfig, axes: Axes) -> KerasModel:
    assembler, module = Assembler(file), KerasModel()
    lanes = [axes.lane(which, assembler.mode) for which in (0, 1)]
    built = assembler.fill(module, model, lanes, Place(store="", names=(), layer=""))
    if not assembler.classes.intersection(RECURRENT):
        raise CaptureError(
            f"{file.where}: the model has no recurrent layer (LSTM, GRU, SimpleRNN): there is nothing to stream"
        )
    module.describe(model, built, axes, assembler)
    _check_few_steps(module, axes, assembler)
    for steps in FEW:
        # Which recurrent layers get no step then; the model need not accept so few.
        with contextlib.suppress(UnknownSizeError):
            assembler.few_steps(module, axes.values(3, [steps] * len(axes.inputs), 3, assembler.mode))
    return module


def _check_few_steps(module: KerasModel, axes: Axes, assembler: Assembler) -> None:
    """Refuse dynamic numbers of steps for a model that needs more than an export begins with, if the file has one."""
    if axes.kept(range(len(axes.inputs))) is None:
        return
    for steps in BEGINNING:
        assembler.few_steps(module, axes.values(3, [steps] * len(axes.inputs), 3, assembler.mode))


def _ancestors(model: ModelConfig, where: str) -> dict[Node, set[int]]:
    """Return for each call the inputs that it depends on, by their numbers."""
    found: dict[Node, set[int]] = {(ref.layer, ref.call): {index} for index, ref in enumerate(refs(model.inputs))}
    layers = {layer.options.name: layer for layer in model.layers}
    for node in run_order(model, where):
        if node not in found:
            call = layers[node[0]].calls[node[1]] if layers[node[0]].calls else None
            sources = [] if call is None else list(refs([*call.args, call.keywords]))
            found[node] = set().union(*(found.get((ref.layer, ref.call), set()) for ref in sources))
    return found


def _output_names(outputs: Any, built: dict[Node, Built], taken: list[str], path: str = "") -> list[str]:
    """Return the outputs' names: those of a dict's keys, else of the layers."""
    if isinstance(outputs, dict):
        for key in sorted(outputs):
            _output_names(outputs[key], built, taken, f"{path}_{key}" if path else str(key) or "output")
    elif isinstance(outputs, list):
        for index, child in enumerate(outputs):
            _output_names(child, built, taken, f"{path}_{index}" if path else "")
    else:
        taken.append(identifier(path or _layer_name(outputs, built), taken))
    return taken


def _layer_name(ref: Ref, built: dict[Node, Built]) -> str:
    endings = _endings(ref, built)
    ending = endings[ref.tensor] if ref.tensor < len(endings) else f"_{ref.tensor}"
    return ref.layer + ending


def _endings(ref: Ref, built: dict[Node, Built]) -> Sequence[str]:
    found = built.get((ref.layer, ref.call))
    return ("",) if found is None else found.endings


def _is_state(ref: Ref, built: dict[Node, Built]) -> bool:
    endings = _endings(ref, built)
    return ref.tensor < len(endings) and endings[ref.tensor].endswith(("_h", "_c"))
