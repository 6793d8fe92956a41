"""The interface of layer readers, the values that a reader returns, and the refusal of a layer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, Literal, NamedTuple

import onnx_ir as ir

from lstm_edge_exporters.functions import Variant
from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.quantize.request import LayerRequest
from lstm_edge_exporters.quantize.schemes import EVERY_SCHEME, Scheme
from lstm_edge_runtime.arrays import Array

__all__ = [
    "Arrays",
    "Layer",
    "LayerKind",
    "Outcome",
    "Reader",
    "RecurrentLayer",
    "Refusal",
    "WeightLayer",
    "constants_of",
]

Arrays = Mapping[str, Array]
LayerKind = Literal["recurrent", "linear", "embedding", "convolution"]


class Refusal(Exception):  # noqa: N818 - never leaves this package: it becomes a row of the coverage table
    """The reason why a layer stays float32; names the unsupported attribute or input."""


class Outcome(NamedTuple):
    """Bytes of a layer's constants before and after, and what the coverage table says beside the scheme.

    ``became``: the request with the storage of each matrix as it was decided, where that was left open; ``density``: of
    the int8 matrices of a recurrent layer, by ``W`` and ``R``: the share of their blocks that is not zero.
    """

    before: int
    after: int
    note: str = ""
    became: LayerRequest | None = None
    density: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class RecurrentLayer:
    """A recurrent layer in the operators' terms.

    Attributes:
        variant: the operator, before its matrices are rounded.
        sides: for each direction its arrays in float32, by the operator's names.
        direction: ``forward``, ``reverse`` or ``bidirectional``.
        lengths: the lengths of rows, or None.
        states: the initial states, h and where the cell has one c; None means zeros.
        moving: the inputs of a node that is one of our operators already, up to its constants; it takes and gives
            what the new operator does. None for ONNX's operators, whose axes and directions are others.
        size_bytes: of its constants.
        carried: for each direction its int8 matrices and scales, where they are ours as they are.
        inexact: why a layer that holds integers must be rounded again; None where the layer is float32.
    """

    variant: Variant
    sides: tuple[Arrays, ...]
    direction: str
    lengths: ir.Value | None
    states: tuple[ir.Value | None, ...]
    size_bytes: int
    moving: tuple[ir.Value | None, ...] | None = None
    carried: tuple[Arrays, ...] = ()
    inexact: str | None = None

    @property
    def hidden_size(self) -> int:
        """H, of a layer without a projection."""
        return int(self.sides[0]["r"].shape[0])


@dataclass(frozen=True, kw_only=True)
class WeightLayer:
    """A layer with one weight: linear [K, N], embedding [V, E] or convolution [M, C / groups, ...], float32.

    ``bias``: of a linear layer, [N], or None; ``last``: the node that gives the layer's answer; ``x``: what goes in,
    where that is not the node's first input; ``carried``: int8 ``w`` and ``w_scale``, where they are ours as they are.
    """

    weight: Array
    bias: Array | None = None
    last: ir.Node
    x: ir.Value | None = None
    carried: Arrays = field(default_factory=dict)


Layer = RecurrentLayer | WeightLayer


def constants_of(values: Iterable[ir.Value | None]) -> list[Array]:
    """Return the constants among values."""
    return [array for array in map(constant_of, values) if array is not None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Reader:
    """A node that is a layer; its kind is known before its weights are read."""

    node: ir.Node
    kind: ClassVar[LayerKind]
    # Which of its parts can have their own schemes: W and R (of an LSTM also their gates), or none.
    apart: ClassVar[Literal["nothing", "matrices", "gates"]] = "nothing"

    @property
    def name(self) -> str:
        """The layer's name, as coverage tables have it."""
        return self.node.name or self.node.op_type

    @property
    def operator(self) -> str:
        """The operator as coverage tables write it: ``domain::name``, or ``name`` for ONNX's own."""
        return f"{self.node.domain}::{self.node.op_type}" if self.node.domain else self.node.op_type

    @property
    def constants(self) -> list[Array]:
        """The layer's constants as the file has them: those among the node's inputs, where its kind says no other."""
        return constants_of(self.node.inputs)

    @property
    def size_bytes(self) -> int:
        """The bytes of the layer's constants."""
        return sum(array.nbytes for array in self.constants)

    @property
    def input_bytes(self) -> int:
        """The bytes of the constants among the node's inputs: a MatMul's bias is a separate Add and is not counted."""
        return sum(array.nbytes for array in constants_of(self.node.inputs))

    @property
    def parameters(self) -> int:
        """How many weights and biases."""
        return self.size_bytes // 4

    @property
    def left(self) -> str:
        """What the coverage table says of the layer where it stays as it is."""
        return "float32"

    def schemes(self) -> tuple[Scheme, ...]:
        """Return the schemes that the layer supports."""
        return EVERY_SCHEME

    def stored(self) -> Mapping[int, tuple[str, str]]:
        """Return the inputs that float16 stores: by position the constant's name and the weight's, behind the layer's.

        Nothing where float16 takes another node. Raises ``Refusal`` where the layer has no such form.
        """
        raise NotImplementedError

    def read(self) -> Layer:
        """Read the layer.

        Raises:
            Refusal: an attribute or input cannot be honoured.
        """
        raise NotImplementedError
