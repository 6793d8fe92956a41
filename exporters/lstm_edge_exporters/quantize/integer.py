"""What onnxruntime's dynamic quantization leaves beside recurrent layers: ``MatMulInteger``, ``ConvInteger``.

``DynamicQuantizeLinear`` has one scale for the whole batch, so that a row's answer depends on the rows beside it. A
linear layer of these nodes becomes our row-wise operator: its integers and scales carry over where they fit our form,
as those of symmetric int8 do. What cannot be taken over is listed, with that reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.nodes import inputs_of
from lstm_edge_exporters.quantize.layer import LayerKind, Reader, Refusal, WeightLayer
from lstm_edge_exporters.quantize.rounding import LARGEST_COLUMN_SUM, LEVELS
from lstm_edge_exporters.quantize.schemes import EVERY_SCHEME, Scheme
from lstm_edge_runtime.arrays import Array

__all__ = ["DEPENDS", "IntegerLayer", "integer_notes", "is_integer_layer"]

DEPENDS = "it rounds its input with one scale for the whole batch, so a row's answer depends on the rows beside it"
_INTEGER = ("MatMulInteger", "ConvInteger")
_FUSED = ("DynamicQuantizeMatMul", "MatMulIntegerToFloat")  # onnxruntime's own, of an optimized file that was saved


def is_integer_layer(node: ir.Node) -> bool:
    """Say whether a node multiplies integers whose scale is that of a whole batch."""
    if node.domain == "com.microsoft":
        return node.op_type in _FUSED
    return node.op_type in _INTEGER and node.domain in ("", "ai.onnx")


def integer_notes(model: ir.Model) -> tuple[str, ...]:
    """Return a sentence for each product of integers of a model: what it does, and what can be done."""
    notes = []
    for node in model.graph.all_nodes():
        if is_integer_layer(node):
            reader = IntegerLayer(node=node)
            try:
                reader.read()
                advice = "; lstm-edge quantize makes a row-wise layer of it"
            except Refusal:
                advice = ""
            notes.append(f"{reader.name} ({node.op_type}): {DEPENDS}{advice}")
    return tuple(notes)


class _Chain(NamedTuple):
    """The nodes around a product of integers: what it rounds, the weight's scale, and the last one with its bias."""

    x: ir.Value
    scale: Array
    last: ir.Node
    bias: Array | None


@dataclass(frozen=True, kw_only=True, eq=False)
class IntegerLayer(Reader):
    """A product of integers that onnxruntime's tool made of a ``MatMul`` or a ``Conv``."""

    kind: ClassVar[LayerKind] = "linear"

    @property
    def name(self) -> str:
        """The module: ``fc`` of ``/fc/MatMul_quant``, else the node's own name."""
        name = (self.node.name or self.node.op_type).lstrip("/")
        return name.rpartition("/")[0] or name

    @property
    def left(self) -> str:
        """Not float32: the layer was int8 before."""
        return f"as it is: {DEPENDS}"

    @property
    def parameters(self) -> int:
        """How many weights."""
        return sum(array.size for array in self.constants)

    def schemes(self) -> tuple[Scheme, ...]:
        """Every one but float16; float32 leaves the layer, which is int8 already, as it is."""
        return tuple(scheme for scheme in EVERY_SCHEME if scheme.kind != "float16")

    def stored(self) -> Mapping[int, tuple[str, str]]:
        """Refuse: float16 is larger than what the layer has."""
        raise Refusal("its weights are int8 or uint8, which float16 would only enlarge")

    def read(self) -> WeightLayer:
        """Read the layer in float32, and its integers where they carry over.

        Raises:
            Refusal: it is not a linear layer that onnxruntime's tool made.
        """
        if self.node.op_type != "MatMulInteger":
            raise Refusal(f"{self.node.op_type} has no row-wise form in this version")
        _, weight, _, zero = inputs_of(self.node, 4)
        array, centre = constant_of(weight), constant_of(zero)
        if array is None or array.ndim != 2 or not array.size or array.dtype not in (np.int8, np.uint8):
            raise Refusal("its weight is not a constant int8 or uint8 matrix")
        if zero is not None and (centre is None or centre.size not in (1, array.shape[1])):
            raise Refusal("the zero point of its weight is not constant, one or one for each column")
        chain = _chain(self.node, array.shape[1])
        centred = array.astype(np.int32) - (0 if centre is None else centre.astype(np.int32).reshape(-1))
        scale = np.broadcast_to(chain.scale.reshape(-1), (array.shape[1],))
        magnitudes = np.abs(centred)
        fits = magnitudes.max() <= LEVELS and magnitudes.sum(axis=0).max() <= LARGEST_COLUMN_SUM
        carried = {"w": centred.astype(np.int8), "w_scale": np.ascontiguousarray(scale)} if fits else {}
        floats = np.asarray(centred.astype(np.float32) * scale, np.float32)
        return WeightLayer(weight=floats, bias=chain.bias, last=chain.last, x=chain.x, carried=carried)


def _only_user(value: ir.Value, op_type: str) -> ir.Node:
    users = list(value.consumers())
    if len(users) != 1 or value.is_graph_output() or users[0].op_type != op_type:
        raise Refusal(f"what follows it is not one {op_type}, as onnxruntime's tool writes it")
    return users[0]


def _chain(node: ir.Node, width: int) -> _Chain:
    """Read ``MatMulInteger``, ``Cast`` and the ``Mul`` of both scales, perhaps an ``Add`` of the bias.

    Raises:
        Refusal: the nodes are others.
    """
    rounded, _, zero, _ = inputs_of(node, 4)
    source = None if rounded is None else rounded.producer()
    if source is None or source.op_type != "DynamicQuantizeLinear" or source.inputs[0] is None:
        raise Refusal("its input does not come from a DynamicQuantizeLinear")
    if rounded is not source.outputs[0] or zero is not source.outputs[2]:
        raise Refusal("its input and its zero point do not come from one DynamicQuantizeLinear")
    cast = _only_user(node.outputs[0], "Cast")
    if cast.attributes["to"].as_int() != ir.DataType.FLOAT:
        raise Refusal("its sums are not made float32")
    scaled = _only_user(cast.outputs[0], "Mul")
    both = next((value for value in scaled.inputs if value is not cast.outputs[0]), None)
    product = None if both is None else both.producer()
    if product is None or product.op_type != "Mul" or source.outputs[1] not in product.inputs:
        raise Refusal("its sums are not multiplied with the scales of its input and of its weight")
    scale = next((constant_of(value) for value in product.inputs if value is not source.outputs[1]), None)
    if scale is None or scale.dtype != np.float32 or scale.size not in (1, width):
        raise Refusal("the scale of its weight is not constant float32, one or one for each column")
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise Refusal("the scale of its weight is not positive and finite")
    last, bias = _bias(scaled, width)
    return _Chain(x=source.inputs[0], scale=scale, last=last, bias=bias)


def _bias(scaled: ir.Node, width: int) -> tuple[ir.Node, Array | None]:
    users = list(scaled.outputs[0].consumers())
    if len(users) == 1 and users[0].op_type == "Add" and not scaled.outputs[0].is_graph_output():
        others = [constant_of(value) for value in users[0].inputs if value is not scaled.outputs[0]]
        if len(others) == 1 and others[0] is not None and others[0].shape == (width,) and others[0].dtype == np.float32:
            return users[0], others[0]
    return scaled, None
