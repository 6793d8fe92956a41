"""The layers of a model and their parts by name: what can be quantized, in which schemes, and what a request says.

A part is addressed by text: ``LAYER``, for an LSTM also ``LAYER.W``, ``LAYER.R`` and their gates, ``LAYER.R.f``. Layers
of one name (a module that is called twice) are one layer here. The most specific part of a request wins.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.functions import DOMAIN
from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.reading import parse_model
from lstm_edge_exporters.quantize.convolution import convolution_bytes, is_convolution
from lstm_edge_exporters.quantize.dense import is_embedding, is_linear, layer_name, linear_bytes
from lstm_edge_exporters.quantize.dynamic import DYNAMIC_DOMAIN
from lstm_edge_exporters.quantize.gru import read_gru
from lstm_edge_exporters.quantize.nodes import Refusal
from lstm_edge_exporters.quantize.recurrent import constant_bytes, is_recurrent, matrix_inputs, read_cell, read_lstm
from lstm_edge_exporters.quantize.request import GATES, MATRICES, LayerRequest
from lstm_edge_exporters.quantize.schemes import EVERY_SCHEME, Scheme
from lstm_edge_runtime.errors import QuantizationError

__all__ = ["FoundLayer", "LayerKind", "LayerPart", "describe_parts", "find_layers", "layer_bytes", "resolve"]

LayerKind = Literal["recurrent", "linear", "embedding", "convolution"]

_FLOAT = tuple(scheme for scheme in EVERY_SCHEME if scheme.kind in ("float32", "float16"))
# DynamicQuantizeLSTM is int8 already: float32 leaves it as it is.
_DYNAMIC = tuple(scheme for scheme in EVERY_SCHEME if scheme.kind != "float16")


@dataclass(frozen=True, kw_only=True)
class LayerPart:
    """One layer that can be quantized.

    Attributes:
        layer: its name, as coverage tables have it.
        kind: ``recurrent``, ``linear``, ``embedding`` or ``convolution``.
        operator: its operator in the file.
        parameters: how many weights and biases.
        bytes: that many in float32.
        parts: what of it a request may name, the layer itself first.
        schemes: those that it supports.
    """

    layer: str
    kind: LayerKind
    operator: str
    parameters: int
    bytes: int
    parts: tuple[str, ...]
    schemes: tuple[Scheme, ...]


@dataclass(frozen=True, kw_only=True)
class FoundLayer:
    """A node of the graph that is a layer, with the name that its part has."""

    node: ir.Node
    name: str
    kind: LayerKind

    @property
    def operator(self) -> str:
        """The operator as coverage tables write it: ``domain::name``, or ``name`` for ONNX's own."""
        return f"{self.node.domain}::{self.node.op_type}" if self.node.domain else self.node.op_type


def find_layers(model: ir.Model) -> tuple[FoundLayer, ...]:
    """Return every layer that has a quantized form, in the order of the graph, nested graphs included."""
    found = []
    for node in model.graph.all_nodes():
        kind = _kind_of(node)
        if kind is not None:
            name = (node.name or node.op_type) if kind == "recurrent" else layer_name(node)
            found.append(FoundLayer(node=node, name=name, kind=kind))
    return tuple(found)


def _kind_of(node: ir.Node) -> LayerKind | None:
    if is_recurrent(node):
        return "recurrent"
    if is_linear(node):
        return "linear"
    if is_embedding(node):
        return "embedding"
    return "convolution" if is_convolution(node) else None


def describe_parts(data: bytes) -> tuple[LayerPart, ...]:
    """Return the layers of a float32 model file that ``quantize`` can change, and how.

    Raises:
        ArtifactError, IntegrityError: the bytes are no model, or a damaged one.
    """
    return tuple(_describe(layers) for layers in _by_name(find_layers(parse_model(data))).values())


def _by_name(layers: Sequence[FoundLayer]) -> dict[str, list[FoundLayer]]:
    found: dict[str, list[FoundLayer]] = {}
    for layer in layers:
        found.setdefault(layer.name, []).append(layer)
    return found


def _describe(layers: Sequence[FoundLayer]) -> LayerPart:
    first = layers[0]
    supported = [_schemes(layer) for layer in layers]
    # A module that is called twice has one set of weights.
    distinct = {
        tuple(id(value) for value in layer.node.inputs if constant_of(value) is not None): layer for layer in layers
    }
    parameters = sum(_elements(layer) for layer in distinct.values())
    return LayerPart(
        layer=first.name,
        kind=first.kind,
        operator=first.operator,
        parameters=parameters,
        bytes=4 * parameters,
        parts=_addresses(layers),
        schemes=tuple(scheme for scheme in EVERY_SCHEME if all(scheme in schemes for schemes in supported)),
    )


def _addresses(layers: Sequence[FoundLayer]) -> tuple[str, ...]:
    name = layers[0].name
    if not all(_has_matrices(layer) for layer in layers):
        return (name,)
    matrices = [f"{name}.{matrix}" for matrix in MATRICES]
    return (name, *matrices, *(f"{matrix}.{gate}" for matrix in matrices for gate in GATES))


def _has_matrices(layer: FoundLayer) -> bool:
    """Whether the matrices and gates of a layer can have schemes of their own: those of an LSTM that can be read."""
    return layer.kind == "recurrent" and layer.node.op_type != "GRU" and _schemes(layer) == EVERY_SCHEME


def _schemes(layer: FoundLayer) -> tuple[Scheme, ...]:
    node = layer.node
    if layer.kind != "recurrent":
        return EVERY_SCHEME
    if node.domain == DYNAMIC_DOMAIN:
        return _DYNAMIC
    readers: dict[str, Callable[[ir.Node], object]] = {"LSTM": read_lstm, "GRU": read_gru}
    reader = read_cell if node.domain == DOMAIN else readers.get(node.op_type)
    if reader is None:
        return _FLOAT
    try:
        with np.errstate(all="ignore"):  # biases that are infinite are refused in a sentence, without a warning
            reader(node)
    except Refusal:
        return _FLOAT
    return EVERY_SCHEME


def _elements(layer: FoundLayer) -> int:
    if layer.kind == "recurrent":
        arrays = [constant_of(value) for value in layer.node.inputs]
        return sum(array.size for array in arrays if array is not None)
    return layer_bytes(layer) // 4


def layer_bytes(layer: FoundLayer) -> int:
    """Return the bytes of a layer's constants as the file has them."""
    sizes: Mapping[LayerKind, Callable[[ir.Node], int]] = {
        "recurrent": constant_bytes,
        "linear": linear_bytes,
        "embedding": constant_bytes,
        "convolution": convolution_bytes,
    }
    return sizes[layer.kind](layer.node)


def resolve(
    layers: Sequence[FoundLayer], parts: Mapping[str, Scheme], default: Callable[[LayerKind], LayerRequest]
) -> tuple[LayerRequest, ...]:
    """Return what each layer is asked to become.

    Args:
        layers: of the model.
        parts: the request, by part.
        default: what a layer of a kind becomes that no part names.

    Raises:
        QuantizationError: a part that the model does not have (the message lists those that it has), or that stands
            for parts of two layers.
    """
    addresses = {name: _addresses(found) for name, found in _by_name(layers).items()}
    owners: dict[str, list[str]] = {}
    for name, found in addresses.items():
        for part in found:
            owners.setdefault(part, []).append(name)
    for part in parts:
        if part not in owners:
            raise QuantizationError(_unknown(part, addresses))
        if len(owners[part]) > 1:
            raise QuantizationError(
                f"{part}: layers {' and '.join(owners[part])} both have a part of this name; rename one of their "
                "nodes, or name none of the two"
            )
    requests = []
    for layer in layers:
        given = default(layer.kind)
        own = {part: parts[part] for part in addresses[layer.name] if part in parts}
        requests.append(_request(layer, own, given.scheme) if own else given)
    return tuple(requests)


def _unknown(part: str, addresses: Mapping[str, tuple[str, ...]]) -> str:
    owner, _, rest = part.rpartition(".")
    owner = owner if owner in addresses else owner.rpartition(".")[0]
    if owner in addresses and rest in (*MATRICES, *GATES):
        return f"{part}: {owner} is no LSTM whose matrices can have schemes of their own; name the whole layer, {owner}"
    shown = [f"{name} (and .W, .R, .W.i ... .R.o)" if len(found) > 1 else name for name, found in addresses.items()]
    return f"the model has no part {part!r}; known ones are {', '.join(shown) or 'none'}"


def _request(layer: FoundLayer, parts: Mapping[str, Scheme], default: Scheme) -> LayerRequest:
    whole, name = parts.get(layer.name, default), layer.name
    if layer.kind != "recurrent":
        return LayerRequest(scheme=whole, named=True)
    gates: dict[str, Scheme] = {}
    for matrix in MATRICES:
        scheme = parts.get(f"{name}.{matrix}", whole)
        gates |= {f"{matrix}.{gate}": parts.get(f"{name}.{matrix}.{gate}", scheme) for gate in GATES}
    # A full peephole's matrices and a projection's have the layer's own scheme.
    others = len(matrix_inputs(layer.node)) > len(MATRICES)
    found = set(gates.values()) | ({whole} if others else set())
    if len(found) == 1:
        return LayerRequest(scheme=found.pop(), named=True)
    return LayerRequest(scheme=whole, gates=gates, others=others, named=True)
