"""A model of Keras as calls of layers, one after the other, and how it is put together from a file.

Each call is made twice while the model is put together, on stand-ins of tensors of two sizes (see ``shapes``).
"""

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode  # torch has no public name for it

from lstm_edge_exporters.keras.archive import KerasFile, Place
from lstm_edge_exporters.keras.config import MODELS, LayerConfig, ModelConfig, Ref, parse_model, refs
from lstm_edge_exporters.keras.layers import build_layer
from lstm_edge_exporters.keras.operations import ARGUMENTS, build_operation
from lstm_edge_exporters.keras.options import Options
from lstm_edge_exporters.keras.order import Node, run_order
from lstm_edge_exporters.keras.shapes import Built, Source, shapes_of
from lstm_edge_exporters.keras.signatures import signature_of
from lstm_edge_exporters.keras.values import Arguments, UnknownSizeError, Value, bind, leaves, mapped
from lstm_edge_runtime.errors import ArtifactError, LstmEdgeError, first_line

__all__ = ["Assembler", "Graph", "identifier", "store_names"]

# Nested models that call one another multiply; no model of a device comes near.
MOST_CALLS = 10_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """One call of a layer: its name in the module (None without weights), how it is called, and on what."""

    node: Node
    options: Options
    module: str | None
    built: Built
    signature: tuple[str, ...]
    args: tuple[Any, ...]
    keywords: Mapping[str, Any]

    def given(self, values: Mapping[Node, Sequence[Value]]) -> Arguments:
        """Return the call's arguments, from the results of the calls before it.

        Raises:
            ArtifactError: one of them is a result that a call does not have.
        """

        def value(leaf: Any) -> Any:
            if not isinstance(leaf, Ref):
                return leaf
            found = values[(leaf.layer, leaf.call)]
            if leaf.tensor >= len(found):
                raise ArtifactError(
                    f"{self.options} takes tensor {leaf.tensor} of a layer that gives {len(found)}: the file is damaged"
                )
            return found[leaf.tensor]

        return bind(self.options, self.signature, mapped(value, self.args), mapped(value, dict(self.keywords)))


class Graph(nn.Module):
    """The layers of a model, called in Keras's order; ``cost`` is how many calls that is, those in models included."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.inputs: list[Node] = []
        self.outputs: Any = None
        self.cost = 0

    def run(self, given: Sequence[Value]) -> Any:
        """Call the layers on the model's inputs; returns its outputs in its own lists and dicts."""
        values: dict[Node, tuple[Value, ...]] = {node: (value,) for node, value in zip(self.inputs, given, strict=True)}
        for step in self.steps:
            values[step.node] = self.call(step, step.given(values))
        found = mapped(lambda ref: values[(ref.layer, ref.call)][ref.tensor], self.outputs)
        return found[0] if isinstance(found, list) and len(found) == 1 else found

    def call(self, step: Step, given: Arguments) -> tuple[Value, ...]:
        """Make one call."""
        module = _NOTHING if step.module is None else self.get_submodule(step.module)
        return tuple(leaves(step.built.call(module, given)))


_NOTHING = nn.Identity()


@dataclass(frozen=True, kw_only=True)
class _Nested:
    """The call of a model in a model: masks that are given lie on its inputs."""

    def __call__(self, module: nn.Module, given: Arguments) -> Any:
        """Call the model."""
        assert isinstance(module, Graph)
        values = list(leaves(given.first))
        for value, mask in zip(values, leaves(given.mask), strict=False):
            if mask is not None:
                value.mask = mask
        return module.run(values)


class Assembler:
    """Puts a file's model together; ``sizes`` are at how many sizes every call is tried."""

    def __init__(self, file: KerasFile) -> None:
        self.file = file
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.notes: list[str] = []
        self.masks = False
        self.classes: set[str] = set()

    def fill(
        self, graph: Graph, model: ModelConfig, lanes: Sequence[Sequence[Value]], place: Place, depth: int = 0
    ) -> dict[Node, Built]:
        """Build a model's layers into ``graph``.

        Args:
            graph: the module, empty.
            model: the model.
            lanes: the model's inputs, at each size.
            place: where the file has its weights.
            depth: in how many models it is.

        Returns:
            What was built for each call.

        Raises:
            UnknownSizeError: a call does not fit; its ``node`` says which.
        """
        layers = {layer.options.name: layer for layer in model.layers}
        stores = store_names(model.layers)
        graph.inputs = [(ref.layer, ref.call) for ref in refs(model.inputs)]
        graph.outputs = model.outputs
        values: list[dict[Node, tuple[Value, ...]]] = [
            {node: (value,) for node, value in zip(graph.inputs, lane, strict=True)} for lane in lanes
        ]
        built: dict[str, tuple[Built, str | None]] = {}
        found: dict[Node, Built] = {}
        for node in run_order(model, self.file.where):
            layer = layers[node[0]]
            if node in values[0]:
                continue
            if layer.options.class_name == "InputLayer":
                raise layer.options.refuse("it is an input that the model does not name as one")
            self.classes.add(layer.options.class_name)
            step = _step(node, layer)
            given = tuple(step.given(lane) for lane in values)
            try:
                if node[0] not in built:
                    inside = place.inner(stores[node[0]], node[0])
                    source = Source(lanes=given, place=inside, file=self.file, build=self._builder(depth))
                    built[node[0]] = self._add(graph, layer, source)
                step = replace(step, built=built[node[0]][0], module=built[node[0]][1])
                graph.steps.append(step)
                self._count(graph, step)
                for lane, answer in zip(values, self._try(graph, step, given), strict=True):
                    lane[node] = answer
            except UnknownSizeError as error:
                error.__dict__.setdefault("node", node)
                if depth == 0:
                    error.__dict__["node"] = node
                raise
            self.masks |= any(value.mask is not None for value in values[0][node])
            found[node] = step.built
        _check_outputs(model, values[0], self.file.where)
        return found

    def few_steps(self, graph: Graph, given: Sequence[Value]) -> None:
        """Run a whole model on stand-ins.

        Raises:
            UnknownSizeError: it does not fit them.
        """
        try:
            with self.mode, torch.no_grad(), _quiet():
                graph.run(given)
        except Exception as error:  # torch says in many ways that a sequence is too short
            raise UnknownSizeError(f"the model does not fit few steps: {first_line(error)}") from error

    def _count(self, graph: Graph, step: Step) -> None:
        inner = None if step.module is None else graph.get_submodule(step.module)
        graph.cost += 1 + (inner.cost if isinstance(inner, Graph) else 0)
        if graph.cost > MOST_CALLS:
            raise ArtifactError(f"{self.file.where}: the model calls its layers more than {MOST_CALLS} times")

    def _add(self, graph: Graph, layer: LayerConfig, source: Source) -> tuple[Built, str | None]:
        made = build_operation(layer.options, source) if layer.operation else None
        made = made or source.build(layer.options, layer.model, source)
        self.notes += made.notes
        if made.module is None:
            return made, None
        # Not a name that nn.Module has itself, which add_module refuses.
        name = identifier(layer.options.name, (*dict(graph.named_children()), *dir(graph)))
        graph.add_module(name, made.module)
        return made, name

    def _builder(self, depth: int) -> Any:
        def build(options: Options, entry: Any, source: Source) -> Built:
            kind = options.kind
            self.classes.add(kind)
            return self._model(options, entry, source, depth + 1) if kind in MODELS else build_layer(options, source)

        return build

    def _model(self, options: Options, entry: Any, source: Source, depth: int) -> Built:
        """Build a model that is a layer of another one."""
        model = parse_model(entry, f"{self.file.where}: {options}", depth)
        graph = Graph()
        expected = len(list(refs(model.inputs)))
        lanes = [list(leaves(lane.first)) for lane in source.lanes]
        if any(len(lane) != expected or not all(isinstance(v, Value) for v in lane) for lane in lanes):
            raise options.refuse(f"it is called on {len(lanes[0])} tensors, but has {expected} inputs")
        for lane, arguments in zip(lanes, source.lanes, strict=True):
            for value, mask in zip(lane, leaves(arguments.mask), strict=False):
                value.mask = value.mask if mask is None else mask
        # The masks may be taken off while the model is put together; it is called once more afterwards.
        copies = [
            [Value(tensor=v.tensor, mask=v.mask, state=v.state, derived=v.derived) for v in lane] for lane in lanes
        ]
        self.fill(graph, model, copies, source.place, depth)
        count = len(list(refs(model.outputs)))
        endings = ("",) if count == 1 else tuple(f"_{index}" for index in range(count))
        return Built(module=graph, call=_Nested(), endings=endings)

    def _try(self, graph: Graph, step: Step, given: Sequence[Arguments]) -> list[tuple[Value, ...]]:
        """Make one call at each size."""
        try:
            with self.mode, torch.no_grad(), _quiet():
                return [graph.call(step, arguments) for arguments in given]
        except LstmEdgeError:
            raise
        except Exception as error:  # torch says in many ways that shapes do not fit
            shapes = " and ".join(
                str(["?" if size is None else size for size in shape])
                for shape in shapes_of([arguments.named for arguments in given])
            )
            raise UnknownSizeError(
                f"{step.options}: it does not fit what it is called on, of shape {shapes} ({first_line(error)[:160]}). "
                "If the number of steps matters, let the model's input fix it"
            ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch logs of shapes that do not fit off the user's terminal: they are tried on purpose."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _step(node: Node, layer: LayerConfig) -> Step:
    call = layer.calls[node[1]]
    signature = ARGUMENTS if layer.operation else signature_of(layer.options.class_name)
    return Step(
        node=node,
        options=layer.options,
        module=None,
        built=_UNBUILT,
        signature=signature,
        args=mapped(_constant, call.args),
        keywords=mapped(_constant, call.keywords),
    )


def _constant(leaf: Any) -> Any:
    return Value(tensor=torch.from_numpy(leaf)) if hasattr(leaf, "__array__") else leaf


_UNBUILT = Built(module=None, call=lambda _module, _given: ())


def _check_outputs(model: ModelConfig, values: Mapping[Node, Sequence[Value]], where: str) -> None:
    for ref in refs(model.outputs):
        found = values[(ref.layer, ref.call)]
        if ref.tensor >= len(found):
            raise ArtifactError(f"{where}: an output takes tensor {ref.tensor} of a layer that gives {len(found)}")


def store_names(layers: Sequence[LayerConfig]) -> dict[str, str]:
    """Return what a ``.keras`` file calls each layer's weights: the class in snake case, counted from the second on."""
    counts: dict[str, int] = {}
    names = {}
    for layer in layers:
        if layer.operation:
            continue
        base = _snake_case(layer.options)
        counts[base] = counts.get(base, 0) + 1
        names[layer.options.name] = base if counts[base] == 1 else f"{base}_{counts[base] - 1}"
    return {layer.options.name: names.get(layer.options.name, "") for layer in layers}


def _snake_case(options: Options) -> str:
    # The two substitutions of Keras's own naming.to_snake_case.
    name = re.sub(r"\W+", "", options.class_name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def identifier(name: str, taken: Any) -> str:
    """Return a name of letters, digits and underscores that is not taken."""
    base = re.sub(r"\W", "_", name, flags=re.ASCII)
    base = base if base[0].isalpha() or base[0] == "_" else f"_{base}"
    candidate, count = base, 1
    while candidate in taken:
        candidate, count = f"{base}_{count}", count + 1
    return candidate
