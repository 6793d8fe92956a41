"""A convolution as ``QLinearConv`` computes it: batch normalization and rectifier folded in; and the rule on shapes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.onnx_graph.constants import constant_of
from lstm_edge_exporters.onnx_graph.nodes import attribute_of, inputs_of
from lstm_edge_exporters.quantize.feedforward import Conv
from lstm_edge_exporters.quantize.layer import Refusal
from lstm_edge_runtime.arrays import Array

__all__ = ["LEAST_CHANNELS", "LEAST_PRODUCTS", "Convolution", "read_convolution", "why_slower"]

# Below these sizes, rounding the input and converting the result cost more than the integer product saves. Times with
# onnxruntime 1.32, AVX-512 VNNI, one thread, against float32: 0.2 to 0.6 from 120 products on, 0.9 to 1.1 at 64
# products, 1.2 at 25; 2 for one input channel in two dimensions; 1.2 to 2 for groups.
LEAST_PRODUCTS = 96
LEAST_CHANNELS = 16

_STANDARD = ("", "ai.onnx")


@dataclass(frozen=True, kw_only=True, eq=False)
class Convolution:
    """A ``Conv`` and the nodes behind it that its int8 form includes.

    Attributes:
        node: the ``Conv``.
        last: the node that gives the result: the ``Conv``, a ``BatchNormalization``, a ``Relu`` or a ``Clip``.
        weight: float32 [M, C / groups, ...], scaled by the batch normalization.
        bias: float32 [M].
        size_bytes: of the constants of all these nodes.
    """

    node: ir.Node
    last: ir.Node
    weight: Array
    bias: Array
    size_bytes: int

    @property
    def key(self) -> str:
        """The name of the ``Conv``'s result, which no rewriting of other layers changes."""
        return str(self.node.outputs[0].name)

    @property
    def groups(self) -> int:
        """The number of groups."""
        return int(attribute_of(self.node, "group", 1))

    @property
    def products(self) -> int:
        """How many products one result adds."""
        return int(np.prod(self.weight.shape[1:]))


def read_convolution(reader: Conv, graph: ir.Graph) -> Convolution:
    """Read a convolution of a model's main graph and what is folded into it.

    Raises:
        Refusal: it is nested, its bias is computed, or a weight is NaN or infinite.
    """
    node = reader.node
    if node.graph is not graph:
        raise Refusal("it is inside the body of an If, Loop or Scan, whose values cannot be read from outside")
    weight, given = reader.weight, inputs_of(node, 3)[2]
    bias = np.zeros(len(weight), np.float32) if given is None else constant_of(given)
    if bias is None or bias.dtype != np.float32 or bias.shape != (len(weight),):
        raise Refusal("input B of Conv is not a constant bias")
    size, last = reader.size_bytes, node
    for follower in _followers(node):
        if follower.op_type == "BatchNormalization":
            folded = _normalization(follower, len(weight))
            if folded is None or last is not node:
                break
            scale, shift = folded
            weight = (weight * scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.float32)
            bias = (bias * scale + shift).astype(np.float32)
            size += 4 * 4 * len(weight)
            last = follower
        elif follower.op_type == "Relu" or _is_constant_clip(follower):
            last = follower
            break
        else:
            break
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise Refusal("a weight or bias is NaN or infinite")
    return Convolution(node=node, last=last, weight=weight, bias=bias, size_bytes=size)


def why_slower(convolution: Convolution) -> str:
    """Return why int8 would not be faster, by the shapes alone; empty where it is."""
    if convolution.groups > 1:
        return f"it has {convolution.groups} groups, and float32 is faster then"
    if convolution.products < LEAST_PRODUCTS:
        return f"a result adds {convolution.products} products, and int8 is faster from {LEAST_PRODUCTS} on"
    if len(convolution.weight) < LEAST_CHANNELS:
        return f"it has {len(convolution.weight)} output channels, and int8 is faster from {LEAST_CHANNELS} on"
    return ""


def _followers(node: ir.Node) -> Iterator[ir.Node]:
    """The nodes behind a node, as long as nothing else uses what lies between them."""
    for _ in range(2):
        value = node.outputs[0]
        uses = list(value.uses())
        if len(uses) != 1 or value.is_graph_output():
            return
        node = uses[0][0]
        if node.domain not in _STANDARD or node.graph is not value.graph or node.inputs[0] is not value:
            return
        yield node


def _normalization(node: ir.Node, channels: int) -> tuple[Array, Array] | None:
    """Scale and shift, float64 [M], of a batch normalization of constants; None for another."""
    constants = [constant_of(value) for value in node.inputs[1:5]]
    if len(node.outputs) > 1 or attribute_of(node, "training_mode", 0):
        return None
    if any(array is None or array.shape != (channels,) for array in constants):
        return None
    gamma, beta, mean, variance = (np.asarray(array, np.float64) for array in constants)
    scale = gamma / np.sqrt(variance + attribute_of(node, "epsilon", 1e-5))
    return scale, beta - mean * scale


def _is_constant_clip(node: ir.Node) -> bool:
    if node.op_type != "Clip":
        return False
    ends = inputs_of(node, 3)[1:]
    return all(end is None or constant_of(end) is not None for end in ends)
