"""The JSON config of a Keras model as a list of layers, each with the one tensor it takes.

Sequential models and functional ones in which every layer is called once on one tensor. Everything else is refused by
the layer's name. Nothing here recurses into the file: nested models are refused.
"""

from dataclasses import dataclass
from typing import Any

from lstm_edge_exporters.keras.hdf5 import shown
from lstm_edge_exporters.keras.options import Options
from lstm_edge_runtime.errors import ArtifactError, CaptureError

__all__ = ["LayerConfig", "MaskClaim", "Network", "Ref", "parse_network", "wrapped"]

MOST_LAYERS = 1000
LONGEST_NAME = 256
MODELS = ("Sequential", "Functional", "Model")
# What Keras 3 writes between the layers of a functional model: how a mask came to be.
MASK_OPERATIONS = ("NotEqual", "Any")

Operations = dict[str, tuple[Options, dict[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class Ref:
    """A tensor: the index of the layer that gives it, and which of the layer's outputs it is."""

    layer: int
    tensor: int = 0


@dataclass(frozen=True, kw_only=True)
class MaskClaim:
    """A mask that a layer is called with: ``tensor != value``, with ``any_feature`` where any feature differs."""

    tensor: Ref
    value: float
    any_feature: bool


@dataclass(frozen=True, kw_only=True)
class LayerConfig:
    """A layer: its options, the tensor it takes (None for the input layer), and the mask the file names for it."""

    options: Options
    source: Ref | None
    mask: MaskClaim | None = None


@dataclass(frozen=True, kw_only=True)
class Network:
    """A model: its layers, each after the one it takes its tensor from, the input layer first; and its outputs."""

    name: str
    layers: tuple[LayerConfig, ...]
    outputs: tuple[Ref, ...]


def parse_network(document: Any, where: str) -> Network:
    """Read a model's config.

    Raises:
        ArtifactError: the config does not have the form that Keras writes.
        CaptureError: the model is of a kind that is not exported; the message names the layer.
    """
    kind, config = _class_and_config(document, f"{where}: the model's config")
    if kind not in MODELS:
        raise CaptureError(
            f"{where}: the model is a {shown(kind)}, expected a Sequential or functional model: a custom class "
            "contains code, which is never run"
        )
    # Keras before 2.2.3 wrote a Sequential model as a bare list.
    entries = config if isinstance(config, list) else config.get("layers")
    name = config.get("name") if isinstance(config, dict) else None
    if not isinstance(entries, list) or not entries:
        raise ArtifactError(f"{where}: the model's config has no list of layers")
    if len(entries) > MOST_LAYERS:
        raise ArtifactError(f"{where}: the model has {len(entries)} layers, more than {MOST_LAYERS}")
    parse = _sequential if kind == "Sequential" else _functional
    layers, outputs = parse(entries, document, where)
    return Network(name=name if isinstance(name, str) else "model", layers=layers, outputs=outputs)


def wrapped(options: Options, key: str) -> Options:
    """Return the options of the layer inside a wrapper such as Bidirectional; ``key`` is where the config has it."""
    kind, config = _class_and_config(options.get(key), f"{options}: the option {key!r}")
    if not isinstance(config, dict):
        raise ArtifactError(f"{options}: the option {key!r} is not a layer")
    return Options(options.name, f"{options.class_name} of {kind}", config)


def _class_and_config(value: Any, what: str) -> tuple[str, Any]:
    if not isinstance(value, dict) or not isinstance(value.get("class_name"), str):
        raise ArtifactError(f"{what} is not of the form that Keras writes: it has no class_name")
    config = value.get("config")
    if not isinstance(config, dict | list):
        raise ArtifactError(f"{what} is not of the form that Keras writes: it has no config")
    return value["class_name"], config


def _options(entry: Any, index: int, where: str) -> Options:
    kind, config = _class_and_config(entry, f"{where}: layer {index}")
    name = config.get("name") if isinstance(config, dict) else None
    if not isinstance(name, str) or not isinstance(config, dict):
        raise ArtifactError(f"{where}: layer {index} ({shown(kind)}) has no name")
    if not name or not name.isprintable() or len(name) > LONGEST_NAME:
        raise ArtifactError(
            f"{where}: the name {shown(name)} of layer {index} is empty, too long or has control characters"
        )
    return Options(name, kind if kind.isidentifier() else shown(kind), config)


def _sequential(entries: list[Any], document: Any, where: str) -> tuple[tuple[LayerConfig, ...], tuple[Ref, ...]]:
    found = [_options(entry, index, where) for index, entry in enumerate(entries)]
    if found[0].class_name != "InputLayer":
        found.insert(0, _implied_input(found[0], document))
    _check_unique([options.name for options in found], where)
    layers = [
        LayerConfig(options=options, source=Ref(layer=index - 1) if index else None)
        for index, options in enumerate(found)
    ]
    for layer in layers[1:]:
        if layer.options.class_name == "InputLayer":
            raise layer.options.refuse("a second input, but only models with one input are exported")
    return tuple(layers), (Ref(layer=len(layers) - 1),)


def _implied_input(first: Options, document: Any) -> Options:
    """Return the input layer that Keras 2 leaves out of a Sequential model: the first layer holds its shape."""
    shape = first.values.get("batch_input_shape")
    built = document.get("build_config")
    if shape is None and isinstance(built, dict):
        shape = built.get("input_shape")
    if shape is None:
        raise first.refuse("the file does not say what shape the model's input has: build the model before saving it")
    return Options(f"{first.name}_input", "InputLayer", {"batch_shape": shape})


def _check_unique(names: list[str], where: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ArtifactError(f"{where}: two layers are called {shown(name)}")


def _functional(entries: list[Any], document: Any, where: str) -> tuple[tuple[LayerConfig, ...], tuple[Ref, ...]]:
    everything = [(_options(entry, index, where), entry) for index, entry in enumerate(entries)]
    _check_unique([options.name for options, _ in everything], where)
    found = [pair for pair in everything if pair[0].class_name not in MASK_OPERATIONS]
    operations = {pair[0].name: pair for pair in everything if pair[0].class_name in MASK_OPERATIONS}
    names = [options.name for options, _ in found]
    inputs = [options for options, _ in found if options.class_name == "InputLayer"]
    if not found or len(inputs) != 1 or found[0][0] is not inputs[0]:
        last = inputs[-1] if inputs else everything[0][0]
        raise last.refuse(f"the model has {len(inputs)} inputs, but only models with one input, first, are exported")
    layers = [LayerConfig(options=found[0][0], source=None)]
    for index, (options, entry) in enumerate(found[1:], start=1):
        source, mask = _source(options, entry, names, operations)
        if source.layer >= index:
            raise ArtifactError(f"{where}: {options} takes a tensor of a layer that comes after it")
        layers.append(LayerConfig(options=options, source=source, mask=mask))
    outputs = tuple(_ref(value, names, f"{where}: an output") for value in _history_list(document, where))
    return tuple(layers), outputs


def _source(
    options: Options, entry: dict[str, Any], names: list[str], operations: Operations
) -> tuple[Ref, MaskClaim | None]:
    """Return the one tensor that a layer of a functional model is called on, and the mask it is called with."""
    found, keywords = _called_on(_only_call(options, entry))
    mask = None
    for key, value in keywords.items():
        if key == "mask" and value is not None:
            mask = _mask_claim(options, value, names, operations)
        elif value is not None and not (key == "training" and value is False):
            raise options.refuse(f"it is called with {shown(key)}, which is not exported")
    if len(found) != 1:
        raise options.refuse(f"it takes {len(found)} tensors, but only layers that take one are exported")
    return _ref(found[0], names, str(options)), mask


def _only_call(options: Options, entry: dict[str, Any]) -> Any:
    nodes = entry.get("inbound_nodes")
    if not isinstance(nodes, list) or not nodes:
        raise options.refuse("the file does not say which tensor it is called on")
    if len(nodes) > 1:
        raise options.refuse(
            f"it is called {len(nodes)} times, but a layer is exported only once: use one layer per call"
        )
    return nodes[0]


def _mask_claim(options: Options, value: Any, names: list[str], operations: Operations) -> MaskClaim:
    """Follow a mask back to ``tensor != number``, which is how Embedding and Masking make theirs."""
    own = options.refuse("it is called with its own mask, which is not exported")
    history, any_feature = _history(value), False
    for expected in reversed(MASK_OPERATIONS):
        operation, entry = operations.get(_first(history), (None, None))
        if operation is None or entry is None:
            raise own
        if operation.class_name != expected:
            continue
        node = _only_call(operation, entry)
        arguments = node.get("args") if isinstance(node, dict) else None
        if not isinstance(arguments, list) or not arguments:
            raise own
        if expected == "Any":
            any_feature = operation.values.get("axis") in (-1, [-1]) and not operation.values.get("keepdims")
            history = _history(arguments[0])
            if not any_feature or len(arguments) > 1:
                raise own
            continue
        number = arguments[1] if len(arguments) == 2 else None
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise own
        return MaskClaim(
            tensor=_ref(_history(arguments[0]), names, str(options)), value=number, any_feature=any_feature
        )
    raise own


def _history(value: Any) -> Any:
    """Return where a tensor comes from, [layer, node, tensor], or None where it is not a tensor."""
    config = value.get("config") if isinstance(value, dict) else None
    return config.get("keras_history") if isinstance(config, dict) else None


def _first(history: Any) -> str:
    return history[0] if isinstance(history, list) and history and isinstance(history[0], str) else ""


def _called_on(node: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return the histories [layer, node, tensor] of a call's tensors, and its keywords; either form of Keras."""
    if isinstance(node, dict):  # Keras 3
        arguments = node.get("args")
        flat: list[Any] = []
        for value in arguments if isinstance(arguments, list) else []:
            flat += value if isinstance(value, list) else [value]
        keywords = node.get("kwargs")
        return [_history(value) for value in flat], keywords if isinstance(keywords, dict) else {}
    if isinstance(node, list):  # Keras 2: [[layer, node, tensor, keywords], ...]
        entries = [entry for entry in node if isinstance(entry, list)]
        keywords = entries[0][3] if entries and len(entries[0]) > 3 else {}
        return [entry[:3] for entry in entries], keywords if isinstance(keywords, dict) else {}
    return [], {}


def _history_list(document: Any, where: str) -> list[Any]:
    outputs = document["config"].get("output_layers")
    # One output may be given without a list.
    if isinstance(outputs, list) and outputs and isinstance(outputs[0], str):
        outputs = [outputs]
    if not isinstance(outputs, list) or not outputs or len(outputs) > MOST_LAYERS:
        raise CaptureError(f"{where}: the model's outputs are not a list of tensors, which is what is exported")
    return outputs


def _ref(value: Any, names: list[str], what: str) -> Ref:
    if not (
        isinstance(value, list)
        and len(value) >= 3
        and value[0] in names
        and value[1] == 0
        and isinstance(value[2], int)
        and 0 <= value[2] < MOST_LAYERS
    ):
        raise ArtifactError(f"{what} is {shown(value)}, expected [layer, 0, tensor] of a layer of the model")
    return Ref(layer=names.index(value[0]), tensor=value[2])
