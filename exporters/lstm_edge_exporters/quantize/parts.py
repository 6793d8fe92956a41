"""The layers of a model and their parts by name: what can be quantized, the supported schemes, and requests.

A part is addressed by text: ``LAYER``, for an LSTM also ``LAYER.W``, ``LAYER.R`` and their gates, ``LAYER.R.f``. Layers
of one name (a module that is called twice) are one layer here. The most specific part of a request wins.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.reading import parse_model
from lstm_edge_exporters.quantize.layer import LayerKind, Reader
from lstm_edge_exporters.quantize.layers import find_layers
from lstm_edge_exporters.quantize.request import GATES, MATRICES, LayerRequest
from lstm_edge_exporters.quantize.schemes import EVERY_SCHEME, Scheme
from lstm_edge_runtime.errors import QuantizationError

__all__ = ["LayerPart", "describe_parts", "resolve"]

# What of an LSTM can have its own scheme, behind the layer's name.
_WITHIN = (*MATRICES, *(f"{matrix}.{gate}" for matrix in MATRICES for gate in GATES))


@dataclass(frozen=True, kw_only=True)
class LayerPart:
    """One layer that can be quantized.

    Attributes:
        layer: its name, as coverage tables have it.
        kind: ``recurrent``, ``linear``, ``embedding`` or ``convolution``.
        operator: its operator in the file.
        parameters: how many weights and biases.
        bytes: that many in float32.
        parts: the parts that a request may name, the layer itself first.
        schemes: those that it supports.
    """

    layer: str
    kind: LayerKind
    operator: str
    parameters: int
    bytes: int
    parts: tuple[str, ...]
    schemes: tuple[Scheme, ...]


def describe_parts(data: bytes) -> tuple[LayerPart, ...]:
    """Return the layers of a float32 model file that ``quantize`` can change, and how.

    Raises:
        ArtifactError, IntegrityError: the bytes are not a model, or a damaged one.
    """
    return tuple(_describe(layers) for layers in _by_name(find_layers(parse_model(data))).values())


def _by_name(readers: Sequence[Reader]) -> dict[str, list[Reader]]:
    found: dict[str, list[Reader]] = {}
    for reader in readers:
        found.setdefault(reader.name, []).append(reader)
    return found


def _describe(readers: Sequence[Reader]) -> LayerPart:
    first = readers[0]
    supported = [reader.schemes() for reader in readers]
    # A module that is called twice has one set of weights.
    distinct = {
        tuple(id(value) for value in reader.node.inputs if constant_of(value) is not None): reader for reader in readers
    }
    parameters = sum(reader.parameters for reader in distinct.values())
    return LayerPart(
        layer=first.name,
        kind=first.kind,
        operator=first.operator,
        parameters=parameters,
        bytes=4 * parameters,
        parts=_addresses(readers),
        schemes=tuple(scheme for scheme in EVERY_SCHEME if all(scheme in schemes for schemes in supported)),
    )


def _addresses(readers: Sequence[Reader]) -> tuple[str, ...]:
    name = readers[0].name
    return (name, *(f"{name}.{part}" for part in (_WITHIN if _has_gates(readers) else ())))


def _has_gates(readers: Sequence[Reader]) -> bool:
    """Whether matrices and gates of a layer can have their own schemes: an LSTM's that can be read."""
    return all(reader.gated and reader.schemes() == EVERY_SCHEME for reader in readers)


def resolve(
    readers: Sequence[Reader], parts: Mapping[str, Scheme], default: Callable[[LayerKind], LayerRequest]
) -> tuple[LayerRequest, ...]:
    """Return the request for each layer.

    Args:
        readers: of the model's layers. Only those that a part may belong to are read.
        parts: the request, by part.
        default: what a layer of a kind becomes that no part names.

    Raises:
        QuantizationError: a part does not exist (the message lists the existing ones), or names
            parts of two layers.
    """
    layers = _by_name(readers)
    gated = functools.cache(lambda name: name in layers and _has_gates(layers[name]))
    own: dict[str, dict[str, Scheme]] = {}
    for part, scheme in parts.items():
        owners = [part] if part in layers else []
        outer = [part.removesuffix(f".{within}") for within in _WITHIN if part.endswith(f".{within}")]
        owners += [name for name in outer if gated(name)]
        if not owners:
            raise QuantizationError(_unknown(part, {name: _addresses(found) for name, found in layers.items()}))
        if len(owners) > 1:
            raise QuantizationError(
                f"{part}: layers {' and '.join(sorted(owners, key=list(layers).index))} both have a part of this name; "
                "rename one of their nodes, or name none of the two"
            )
        own.setdefault(owners[0], {})[part] = scheme
    requests = []
    for reader in readers:
        given = default(reader.kind)
        requests.append(_request(reader, own[reader.name], given.scheme) if reader.name in own else given)
    return tuple(requests)


def _unknown(part: str, addresses: Mapping[str, tuple[str, ...]]) -> str:
    owner, _, rest = part.rpartition(".")
    owner = owner if owner in addresses else owner.rpartition(".")[0]
    if owner in addresses and rest in (*MATRICES, *GATES):
        return (
            f"{part}: {owner} is not an LSTM whose matrices can have their own schemes; name the whole layer, {owner}"
        )
    shown = [f"{name} (and .W, .R, .W.i ... .R.o)" if len(found) > 1 else name for name, found in addresses.items()]
    return f"the model has no part {part!r}; its parts are {', '.join(shown) or 'none'}"


def _request(reader: Reader, parts: Mapping[str, Scheme], default: Scheme) -> LayerRequest:
    whole, name = parts.get(reader.name, default), reader.name
    if not reader.gated:
        return LayerRequest(scheme=whole, named=True)
    gates: dict[str, Scheme] = {}
    for matrix in MATRICES:
        scheme = parts.get(f"{name}.{matrix}", whole)
        gates |= {f"{matrix}.{gate}": parts.get(f"{name}.{matrix}.{gate}", scheme) for gate in GATES}
    # A full peephole's matrices and a projection's have the layer's own scheme.
    others = len(reader.stored()) > len(MATRICES)
    found = set(gates.values()) | ({whole} if others else set())
    if len(found) == 1:
        return LayerRequest(scheme=found.pop(), named=True)
    return LayerRequest(scheme=whole, gates=gates, others=others, named=True)
