"""Layers without a state, each with one weight: linear layers, embeddings, convolutions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.nodes import attribute_of
from lstm_edge_exporters.quantize.layer import LayerKind, Reader, Refusal, WeightLayer, constants_of
from lstm_edge_exporters.quantize.schemes import Scheme
from lstm_edge_runtime.arrays import Array

__all__ = ["Conv", "Embedding", "Linear", "Lookup"]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Weighted(Reader):
    """A layer that is called after the module that its node came from."""

    # Which input the weight is.
    place: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """The module: ``enc/fc1`` of ``/enc/fc1/MatMul``, else the node's own name."""
        # torch's legacy exporter writes the path of modules with a slash in front; what follows the last one is the
        # node.
        name = (self.node.name or self.node.op_type).lstrip("/")
        return name.rpartition("/")[0] or name or self.node.op_type

    @property
    def weight(self) -> Array:
        """The weight as the file has it."""
        weight = constant_of(self.node.inputs[self.place])
        assert weight is not None
        return weight

    def stored(self) -> Mapping[int, tuple[str, str]]:
        """Return the weight."""
        return {self.place: ("w", "weight")}

    def read(self) -> WeightLayer:
        """Read the weight."""
        return WeightLayer(weight=self.weight, last=self.node)


class Linear(_Weighted):
    """``MatMul`` (with the ``Add`` of its bias) or ``Gemm`` with a constant matrix [K, N], K and N at least 1."""

    kind: ClassVar[LayerKind] = "linear"

    @classmethod
    def takes(cls, node: ir.Node) -> bool:
        """Say whether a node multiplies activations with a constant float32 matrix."""
        if node.op_type not in ("MatMul", "Gemm"):
            return False
        return _is_matrix(constant_of(node.inputs[1])) and constant_of(node.inputs[0]) is None

    @property
    def constants(self) -> list[Array]:
        """The weight and the bias, which may be in an ``Add`` behind the node."""
        weight = self.weight
        if self.node.op_type == "Gemm":
            return constants_of(self.node.inputs[1:3])
        bias = self._following_bias(weight.shape[1])[1]
        return [weight] if bias is None else [weight, bias]

    def read(self) -> WeightLayer:
        """Read the node.

        Raises:
            Refusal: a Gemm has a scaling or a transposed input.
        """
        if self.node.op_type == "Gemm":
            weight, bias = self._gemm(self.weight)
            return WeightLayer(weight=weight, bias=bias, last=self.node)
        weight = self.weight
        last, bias = self._following_bias(weight.shape[1])
        return WeightLayer(weight=weight, bias=bias, last=last)

    def _gemm(self, weight: Array) -> tuple[Array, Array | None]:
        attributes = {name: attribute.value for name, attribute in self.node.attributes.items()}
        for name, neutral in (("alpha", 1.0), ("beta", 1.0), ("transA", 0)):
            if attributes.get(name, neutral) != neutral:
                raise Refusal(f"attribute {name} of Gemm is {attributes[name]}")
        if attributes.get("transB", 0):
            weight = np.ascontiguousarray(weight.T)
        given = self.node.inputs[2] if len(self.node.inputs) > 2 else None
        bias = constant_of(given)
        if given is not None and (bias is None or bias.shape not in ((weight.shape[1],), (1, weight.shape[1]))):
            raise Refusal("input C of Gemm is not a constant bias")
        return weight, None if bias is None else bias.reshape(-1)

    def _following_bias(self, width: int) -> tuple[ir.Node, Array | None]:
        """The Add of a bias right behind the MatMul and the bias, or the MatMul itself and None."""
        node, product = self.node, self.node.outputs[0]
        uses = list(product.uses())
        if len(uses) != 1 or product.is_graph_output():
            return node, None
        add = uses[0][0]
        if add.op_type != "Add" or add.domain not in ("", "ai.onnx") or add.graph is not node.graph:
            return node, None
        other = add.inputs[1] if add.inputs[0] is product else add.inputs[0]
        bias = constant_of(other)
        if bias is None or bias.shape != (width,) or bias.dtype != np.float32:
            return node, None
        return add, bias


class Embedding(_Weighted):
    """``Gather`` of rows of a constant table [V, E], V and E at least 1."""

    kind: ClassVar[LayerKind] = "embedding"
    place: ClassVar[int] = 0

    @classmethod
    def takes(cls, node: ir.Node) -> bool:
        """Say whether a node looks rows up in a constant float32 table."""
        if node.op_type != "Gather":
            return False
        return attribute_of(node, "axis", 0) == 0 and _is_matrix(constant_of(node.inputs[0]))

    def stored(self) -> Mapping[int, tuple[str, str]]:
        """Return nothing: rows are converted behind the ``Gather``, not the whole table."""
        return {}


class Lookup(_Weighted):
    """``Gather`` from any other constant float32 table: along another axis, or of more than two axes.

    Only float16 stores it: int8 and four bits have scales for rows of a matrix.
    """

    kind: ClassVar[LayerKind] = "embedding"
    place: ClassVar[int] = 0

    @classmethod
    def takes(cls, node: ir.Node) -> bool:
        """Say whether a node picks parts of a constant float32 table with an index that is computed."""
        if node.op_type != "Gather" or constant_of(node.inputs[1]) is not None:
            return False
        table = constant_of(node.inputs[0])
        return table is not None and table.ndim > 1 and table.dtype == np.float32 and table.size > 0

    def schemes(self) -> tuple[Scheme, ...]:
        """Return float16 and float32."""
        return (Scheme(kind="float16"), Scheme(kind="float32"))

    def stored(self) -> Mapping[int, tuple[str, str]]:
        """Return nothing: what is looked up is converted behind the ``Gather``, not the whole table."""
        return {}


class Conv(_Weighted):
    """``Conv`` with a constant weight [M, C / groups, ...]."""

    kind: ClassVar[LayerKind] = "convolution"

    @classmethod
    def takes(cls, node: ir.Node) -> bool:
        """Say whether a node is a convolution with a constant float32 weight."""
        if node.op_type != "Conv":
            return False
        weight = constant_of(node.inputs[1])
        return weight is not None and weight.dtype == np.float32 and weight.ndim > 2 and weight.size > 0

    @property
    def constants(self) -> list[Array]:
        """The weight and the bias."""
        return constants_of(self.node.inputs[1:3])


def _is_matrix(array: Array | None) -> bool:
    return array is not None and array.ndim == 2 and array.dtype == np.float32 and array.size > 0
