"""The layers of a model and their parts by name: what can be quantized, the supported schemes, and requests.

A part is addressed by text: ``LAYER``, for a recurrent layer also ``LAYER.W`` and ``LAYER.R``, for an LSTM also their
gates, ``LAYER.R.f``. Layers
of one name (a module that is called twice) are one layer here. The most specific part of a request wins.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.reading import parse_model
from lstm_edge_exporters.quantize.fused import sparse_savings
from lstm_edge_exporters.quantize.layer import LayerKind, Reader, RecurrentLayer
from lstm_edge_exporters.quantize.layers import find_layers
from lstm_edge_exporters.quantize.request import GATES, MATRICES, LayerRequest
from lstm_edge_exporters.quantize.schemes import EVERY_SCHEME, Scheme
from lstm_edge_runtime.errors import QuantizationError

__all__ = ["LayerPart", "describe_parts", "resolve"]

INT8 = Scheme(kind="int8")
# What of a layer can have its own scheme, behind the layer's name.
_WITHIN = (*MATRICES, *(f"{matrix}.{gate}" for matrix in MATRICES for gate in GATES))
_APART = {"nothing": (), "matrices": MATRICES, "gates": _WITHIN}


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
        sparse_savings: of a recurrent layer with zero blocks, the bytes that sparse int8 weights take less than dense
            ones, for each part of it (``LAYER.W``, ``LAYER.R``) where that is a saving.
    """

    layer: str
    kind: LayerKind
    operator: str
    parameters: int
    bytes: int
    parts: tuple[str, ...]
    schemes: tuple[Scheme, ...]
    sparse_savings: Mapping[str, int] = field(default_factory=dict)


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
        sparse_savings=_savings(list(distinct.values())),
    )


def _savings(readers: Sequence[Reader]) -> dict[str, int]:
    """``LayerPart.sparse_savings``; nothing for weights that cannot be rounded, which quantization refuses."""
    found: dict[str, int] = {}
    for reader in readers:
        if reader.kind == "recurrent" and INT8 in reader.schemes():
            layer = reader.read()
            assert isinstance(layer, RecurrentLayer)
            with suppress(QuantizationError):
                for matrix, saved in sparse_savings(layer).items():
                    part = f"{reader.name}.{matrix}"
                    found[part] = found.get(part, 0) + saved
    return found


def _addresses(readers: Sequence[Reader]) -> tuple[str, ...]:
    name = readers[0].name
    return (name, *(f"{name}.{part}" for part in _within(readers)))


def _within(readers: Sequence[Reader]) -> tuple[str, ...]:
    """What of a layer can have its own scheme: parts of each of its nodes, which can all be read."""
    if not all(INT8 in reader.schemes() for reader in readers):
        return ()
    return min((_APART[reader.apart] for reader in readers), key=len)


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
    within = functools.cache(lambda name: _within(layers[name]) if name in layers else ())
    own: dict[str, dict[str, Scheme]] = {}
    for part, scheme in parts.items():
        owners = [part] if part in layers else []
        outer = [(part.removesuffix(f".{inner}"), inner) for inner in _WITHIN if part.endswith(f".{inner}")]
        owners += [name for name, inner in outer if inner in within(name)]
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
        if len(addresses[owner]) > 1:
            return f"{part}: only the gates of an LSTM can have their own schemes; name {owner}.W or {owner}.R"
        return f"{part}: {owner} has no matrices that can have their own schemes; name the whole layer, {owner}"
    inner = {1: "", 1 + len(MATRICES): " (and .W, .R)", 1 + len(_WITHIN): " (and .W, .R, .W.i ... .R.o)"}
    shown = [f"{name}{inner[len(found)]}" for name, found in addresses.items()]
    return f"the model has no part {part!r}; its parts are {', '.join(shown) or 'none'}"


def _request(reader: Reader, parts: Mapping[str, Scheme], default: Scheme) -> LayerRequest:
    whole, name = parts.get(reader.name, default), reader.name
    if reader.apart == "nothing":
        return LayerRequest(scheme=whole, named=True)
    gates: dict[str, Scheme] = {}
    for matrix in MATRICES:
        scheme = parts.get(f"{name}.{matrix}", whole)
        gates |= {f"{matrix}.{gate}": parts.get(f"{name}.{matrix}.{gate}", scheme) for gate in GATES}
    # A full peephole's matrices and a projection's have the layer's own scheme.
    others = reader.apart == "gates" and len(reader.stored()) > len(MATRICES)
    found = set(gates.values()) | ({whole} if others else set())
    if len(found) == 1:
        return LayerRequest(scheme=found.pop(), named=True)
    return LayerRequest(scheme=whole, gates=gates, others=others, named=True)
