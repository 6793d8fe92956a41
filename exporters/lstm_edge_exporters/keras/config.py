"""The JSON config of a Keras model as layers and their calls; models may hold models.

Nothing is checked here about what a layer does. The depth of nesting, the number of layers and that of calls have
bounds.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstm_edge_exporters.keras.hdf5 import shown
from lstm_edge_exporters.keras.options import Options
from lstm_edge_runtime.errors import ArtifactError, CaptureError

__all__ = ["MODELS", "CallConfig", "LayerConfig", "ModelConfig", "Ref", "parse_model", "refs", "wrapped"]

MOST_LAYERS = 1000
DEEPEST = 20
LONGEST_NAME = 256
MODELS = ("Sequential", "Functional", "Model")
# What keras.ops writes into a functional model; in a legacy file only a layer's config tells them apart.
OPERATIONS = "keras.src.ops"
# The packages that Keras's own classes come from.
KERAS = ("keras", "keras_core", "tf_keras")


@dataclass(frozen=True, kw_only=True)
class Ref:
    """A tensor: the layer that gives it, which of the layer's calls, and which of the call's results."""

    layer: str
    call: int = 0
    tensor: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class CallConfig:
    """One call of a layer: numbers, texts, slices, arrays and ``Ref`` in lists, tuples and dicts."""

    args: tuple[Any, ...]
    keywords: dict[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerConfig:
    """A layer: its options, its calls, and the model that it is, if it is one.

    ``operation`` says that it is a function of keras.ops, which has no weights. ``model`` is the raw config.
    """

    options: Options
    calls: tuple[CallConfig, ...]
    operation: bool = False
    model: Any = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelConfig:
    """A model: its layers in the file's order, its inputs and outputs as ``Ref`` in lists and dicts.

    ``legacy_calls``: the calls are written as Keras 1 and 2 do.
    """

    name: str
    layers: tuple[LayerConfig, ...]
    inputs: Any
    outputs: Any
    legacy_calls: bool = False


def parse_model(document: Any, where: str, depth: int = 0) -> ModelConfig:
    """Read a model's config; the models in it are read when they are called.

    Raises:
        ArtifactError: the config does not have the form that Keras writes.
        CaptureError: the model is of a class of the user's own.
    """
    kind, config = class_and_config(document, f"{where}: the model's config")
    if kind not in MODELS:
        raise CaptureError(
            f"{where}: the model is a {shown(kind)}, expected a Sequential or functional model: a custom class "
            "contains code, which is never run"
        )
    if depth > DEEPEST:
        raise ArtifactError(f"{where}: models are nested more than {DEEPEST} deep")
    # Keras before 2.2.3 wrote a Sequential model as a bare list.
    entries = config if isinstance(config, list) else config.get("layers")
    name = config.get("name") if isinstance(config, dict) else None
    if not isinstance(entries, list) or not entries:
        raise ArtifactError(f"{where}: the model's config has no list of layers")
    if len(entries) > MOST_LAYERS:
        raise ArtifactError(f"{where}: the model has {len(entries)} layers, more than {MOST_LAYERS}")
    found = [(_options(entry, index, where), entry) for index, entry in enumerate(entries)]
    parse = _sequential if kind == "Sequential" else _functional
    return parse(found, document, where, name if isinstance(name, str) else "model")


def wrapped(options: Options, key: str) -> Options:
    """Return the options of the layer inside a wrapper such as Bidirectional; ``key`` is where the config has it."""
    kind, config = class_and_config(options.get(key), f"{options}: the option {key!r}")
    if not isinstance(config, dict):
        raise ArtifactError(f"{options}: the option {key!r} is not a layer")
    name = config.get("name")
    return Options(name if isinstance(name, str) else options.name, f"{options.class_name} of {kind}", config)


def refs(structure: Any) -> Iterator[Ref]:
    """Yield the tensors in a structure, in the order in which Keras goes through it: dicts by their sorted keys."""
    if isinstance(structure, Ref):
        yield structure
    elif isinstance(structure, list | tuple):
        for child in structure:
            yield from refs(child)
    elif isinstance(structure, dict):
        for key in sorted(structure):
            yield from refs(structure[key])


def class_and_config(value: Any, what: str) -> tuple[str, Any]:
    """Return the class and the config of a serialized object.

    Raises:
        ArtifactError: it lacks one of them.
        CaptureError: the class is not Keras's: a class of the user's own may have the name of one of Keras's.
    """
    if not isinstance(value, dict) or not isinstance(value.get("class_name"), str):
        raise ArtifactError(f"{what} is not of the form that Keras writes: it has no class_name")
    config = value.get("config")
    if not isinstance(config, dict | list):
        raise ArtifactError(f"{what} is not of the form that Keras writes: it has no config")
    module, registered = value.get("module"), value.get("registered_name")
    foreign = isinstance(module, str) and module.split(".")[0] not in KERAS
    if foreign or (isinstance(registered, str) and ">" in registered):
        raise CaptureError(
            f"{what} is a {shown(value['class_name'])} of {shown(module if foreign else registered)}, expected one of "
            "Keras's own: a custom class contains code, which is never run"
        )
    return value["class_name"], config


def _options(entry: Any, index: int, where: str) -> Options:
    kind, config = class_and_config(entry, f"{where}: layer {index}")
    name = config.get("name") if isinstance(config, dict) else entry.get("name")
    if not isinstance(name, str):
        raise ArtifactError(f"{where}: layer {index} ({shown(kind)}) has no name")
    if not name or not name.isprintable() or len(name) > LONGEST_NAME:
        raise ArtifactError(
            f"{where}: the name {shown(name)} of layer {index} is empty, too long or has control characters"
        )
    return Options(name, kind if kind.isidentifier() else shown(kind), config if isinstance(config, dict) else {})


Found = list[tuple[Options, Any]]


def _layer(options: Options, entry: Any, calls: tuple[CallConfig, ...]) -> LayerConfig:
    module = entry.get("module")
    if isinstance(module, str):
        operation = module.startswith(OPERATIONS)
    else:
        # Every layer's config says whether it is trainable; Keras 1 and 2 wrote no operations.
        operation = "inbound_nodes" in entry and "trainable" not in options.values and _is_new_style(entry)
    if options.class_name in MODELS:
        operation = False
    model = entry if options.class_name in MODELS else None
    return LayerConfig(options=options, calls=calls, operation=operation and module != "keras.layers", model=model)


def _is_new_style(entry: Any) -> bool:
    nodes = entry.get("inbound_nodes")
    return isinstance(nodes, list) and bool(nodes) and isinstance(nodes[0], dict)


def _sequential(found: Found, document: Any, where: str, name: str) -> ModelConfig:
    if found[0][0].class_name != "InputLayer":
        first = _implied_input(found[0][0], document)
        found = [(first, {}), *found]
    _check_unique([options.name for options, _ in found], where)
    layers = [LayerConfig(options=found[0][0], calls=())]
    for (options, entry), (before, _) in zip(found[1:], found, strict=False):
        if options.class_name == "InputLayer":
            raise options.refuse("a second input in a Sequential model: use a functional model")
        call = CallConfig(args=(Ref(layer=before.name),), keywords={})
        layers.append(_layer(options, entry, (call,)))
    inputs, outputs = Ref(layer=found[0][0].name), Ref(layer=found[-1][0].name)
    return ModelConfig(name=name, layers=tuple(layers), inputs=inputs, outputs=outputs)


def _implied_input(first: Options, document: Any) -> Options:
    """Return the input layer that a Sequential model may leave out: another entry of the config has its shape."""
    shape = first.values.get("batch_input_shape")
    config, built = document.get("config"), document.get("build_config")
    if shape is None and isinstance(built, dict):
        shape = built.get("input_shape")
    if shape is None and isinstance(config, dict):
        shape = config.get("build_input_shape")
    if shape is None and first.class_name in MODELS:
        inner = first.values.get("layers")
        head = inner[0].get("config") if isinstance(inner, list) and inner and isinstance(inner[0], dict) else None
        shape = (head.get("batch_shape") or head.get("batch_input_shape")) if isinstance(head, dict) else None
    return Options(f"{first.name}_input", "InputLayer", {} if shape is None else {"batch_shape": shape})


def _check_unique(names: list[str], where: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ArtifactError(f"{where}: two layers are called {shown(name)}")
        seen.add(name)


def _functional(found: Found, document: Any, where: str, name: str) -> ModelConfig:
    _check_unique([options.name for options, _ in found], where)
    config = document["config"]
    if not isinstance(config, dict):
        raise ArtifactError(f"{where}: the model's config has no list of layers")
    kinds = {options.name: options.class_name for options, _ in found}
    legacy = any(_is_old_style(entry) for _, entry in found)
    reader = _Reader(kinds, legacy, where)
    layers = tuple(_layer(options, entry, reader.calls(options, entry)) for options, entry in found)
    inputs = config.get("input_layers")
    if inputs is None:
        inputs = [[options.name, 0, 0] for options, _ in found if options.class_name == "InputLayer"]
    return ModelConfig(
        name=name,
        layers=layers,
        inputs=reader.ends(inputs, "inputs"),
        outputs=reader.ends(config.get("output_layers"), "outputs"),
        legacy_calls=legacy,
    )


def _is_old_style(entry: Any) -> bool:
    nodes = entry.get("inbound_nodes")
    return isinstance(nodes, list) and any(isinstance(node, list) for node in nodes)


class _Reader:
    """Reads the calls of a functional model; ``kinds`` are the classes of its layers by name."""

    def __init__(self, kinds: dict[str, str], legacy: bool, where: str) -> None:
        self.kinds, self.legacy, self.where = kinds, legacy, where

    def calls(self, options: Options, entry: Any) -> tuple[CallConfig, ...]:
        """Read the calls of a layer; none for an input."""
        nodes = entry.get("inbound_nodes")
        if options.class_name == "InputLayer":
            return ()
        if not isinstance(nodes, list) or not nodes:
            raise options.refuse("the file does not say which tensor it is called on")
        if len(nodes) > MOST_LAYERS:
            raise ArtifactError(f"{self.where}: {options} is called {len(nodes)} times, more than {MOST_LAYERS}")
        return tuple(self._call(options, node) for node in nodes)

    def ends(self, value: Any, what: str) -> Any:
        """Read the model's inputs or outputs: one tensor, or lists and dicts of them."""
        if isinstance(value, list) and len(value) == 3 and isinstance(value[0], str):
            return self._ref(value, f"{self.where}: one of the {what}", shifted=self._has_own_node(value[0]))
        if isinstance(value, list) and 0 < len(value) <= MOST_LAYERS:
            return [self.ends(child, what) for child in value]
        if isinstance(value, dict) and 0 < len(value) <= MOST_LAYERS:
            return {str(key): self.ends(child, what) for key, child in value.items()}
        raise CaptureError(f"{self.where}: the model's {what} are not a list or dict of tensors, which is exported")

    def _has_own_node(self, name: str) -> bool:
        """Say whether Keras counts a node of the layer itself before its calls: it does so for models."""
        kind = self.kinds.get(name)
        return kind in MODELS and (self.legacy or kind != "Sequential")

    def _call(self, options: Options, node: Any) -> CallConfig:
        if isinstance(node, dict):  # Keras 3
            args, keywords = node.get("args"), node.get("kwargs")
            return CallConfig(
                args=tuple(self._argument(value, options) for value in (args if isinstance(args, list) else [])),
                keywords={
                    str(key): self._argument(value, options)
                    for key, value in (keywords if isinstance(keywords, dict) else {}).items()
                },
            )
        entries = node if isinstance(node, list) else []  # Keras 2: [[layer, node, tensor, keywords], ...]
        if not entries or not all(isinstance(entry, list) for entry in entries):
            raise options.refuse("the file does not say which tensor it is called on")
        found = [
            self._ref(entry[:3], str(options), shifted=bool(entry) and self._has_own_node(entry[0]))
            for entry in entries
        ]
        keywords = entries[0][3] if len(entries[0]) > 3 else {}
        return CallConfig(
            args=(found[0] if len(found) == 1 else found,),
            keywords=dict(keywords) if isinstance(keywords, dict) else {},
        )

    def _argument(self, value: Any, options: Options) -> Any:
        if isinstance(value, list):
            return [self._argument(child, options) for child in value]
        if not isinstance(value, dict):
            return value
        kind, config = value.get("class_name"), value.get("config")
        if kind == "__ellipsis__":
            return Ellipsis
        if not isinstance(config, dict):
            raise options.refuse(f"it is called with {shown(value)}, which is not exported")
        if kind == "__keras_tensor__":
            return self._ref(config.get("keras_history"), str(options), shifted=False)
        return self._constant(kind, config, options)

    def _constant(self, kind: Any, config: dict[str, Any], options: Options) -> Any:
        if kind == "__slice__":
            return slice(*(self._whole(config.get(key), options) for key in ("start", "stop", "step")))
        if kind == "__tuple__" and isinstance(config.get("value"), list):
            return tuple(self._argument(child, options) for child in config["value"])
        if kind in ("__numpy__", "__tensor__"):
            return self._array(config, options)
        raise options.refuse(f"it is called with a {shown(kind)}, which is not exported")

    def _whole(self, value: Any, options: Options) -> int | None:
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31):
            return value
        raise options.refuse(f"it is called with a slice of {shown(value)}, expected whole numbers")

    def _array(self, config: dict[str, Any], options: Options) -> Any:
        dtype = config.get("dtype", "float32")
        try:
            array = np.asarray(config.get("value"), np.float64)
        except (TypeError, ValueError) as error:
            raise options.refuse("it is called with an array that holds other things than numbers") from error
        if dtype not in ("float32", "float64", "int32", "int64", "bool") or not np.isfinite(array).all():
            raise options.refuse(f"it is called with an array of {shown(dtype)}, expected finite float32 numbers")
        return array.astype(np.float32)

    def _ref(self, value: Any, what: str, *, shifted: bool) -> Ref:
        good = isinstance(value, list) and len(value) >= 3 and isinstance(value[0], str) and value[0] in self.kinds
        numbers = value[1:3] if good else [None]
        good = good and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers)
        if not good or value[1] - shifted < 0:
            raise ArtifactError(f"{what} is {shown(value)}, expected [layer, call, tensor] of a layer of the model")
        return Ref(layer=value[0], call=value[1] - shifted, tensor=value[2])
