"""The nodes of a front end: Conv, Mul, Conv, Max, Log, and for ``mfcc`` one more Conv.

The weights of the transform, 0.8 MB at 16 kHz, are not stored: nodes without an input compute them from tables of a few
KB, and onnxruntime does so once, when it opens the file.
"""

import re
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.front_end.request import FrontEnd
from lstm_edge_exporters.front_end.tables import (
    cosine_transform,
    hann,
    mel_weights,
    turn_table,
    used_frequencies,
)
from lstm_edge_exporters.functions.rounding import OPSET
from lstm_edge_exporters.onnx_graph.tidy import IR_VERSION
from lstm_edge_exporters.onnx_graph.writing import serialize
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME

__all__ = ["PREFIX", "Nodes", "alone", "is_front_end"]

# The first part of the names of all nodes and weights of a front end.
PREFIX = "front_end"


_WEIGHTED = re.compile(rf"{PREFIX}(_[0-9]+)?\.(dft|mel|dct)")


def is_front_end(node: ir.Node) -> bool:
    """Return whether a node is one of the convolutions of a front end, whose weights are fixed."""
    return node.op_type == "Conv" and _WEIGHTED.fullmatch(node.name or "") is not None


class Nodes:
    """Collects nodes and constants, all named after ``prefix``; ``result`` is the value that the last node gave."""

    def __init__(self, start: ir.Value, prefix: str = PREFIX) -> None:
        self.result, self.prefix = start, prefix
        self.nodes: list[ir.Node] = []
        self.constants: list[ir.Value] = []

    def add(self, op_type: str, name: str, more: Sequence[ir.Value] = (), **attributes: int | list[int]) -> None:
        """Add a node whose first input is ``result``."""
        node = ir.node(op_type, [self.result, *more], attributes, num_outputs=1, name=f"{self.prefix}.{name}")
        node.outputs[0].name = f"{self.prefix}.{name}:out"
        self.nodes.append(node)
        self.result = node.outputs[0]

    def constant(self, name: str, array: Array) -> ir.Value:
        """Return a new constant."""
        name = f"{self.prefix}.{name}"
        tensor = ir.tensor(array, name=name)
        value = ir.Value(name=name, const_value=tensor, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
        self.constants.append(value)
        return value

    def add_features(self, front_end: FrontEnd) -> None:
        """Go on from samples [batch, 1, time] to features [batch, features, frames]."""
        self.add("Conv", "dft", [self._transform(front_end)], strides=[front_end.hop], kernel_shape=[front_end.window])
        self.add("Mul", "square", [self.result])
        bands = self.constant("mel.bands", mel_weights(front_end))
        # The same bands for the squares of cosine and sine sums.
        self.add("Conv", "mel", [self._compute("Concat", "mel.weight", [bands, bands], axis=1)], kernel_shape=[1])
        self.add("Max", "floor", [self.constant("floor.value", np.array(front_end.floor, np.float32))])
        self.add("Log", "log")
        if front_end.kind == "mfcc":
            weight = cosine_transform(front_end).astype(np.float32)[:, :, None]
            self.add("Conv", "dct", [self.constant("dct.weight", weight)], kernel_shape=[1])

    def _transform(self, front_end: FrontEnd) -> ir.Value:
        """Return the weights of the transform, float32 [2 * used, 1, window], as ``tables.dft_weights`` has them."""
        used = self.constant("dft.frequencies", used_frequencies(front_end)[:, None])
        places = self.constant("dft.places", np.arange(front_end.window, dtype=np.int32)[None])
        turn = self.constant("dft.turn", np.array(front_end.fft, np.int32))
        turns = self._compute("Mod", "dft.turns", [self._compute("Mul", "dft.products", [used, places]), turn])
        parts = [
            self._compute("Gather", f"dft.{name}s", [self.constant(f"dft.{name}", table), turns])
            for name, table in zip(("cosine", "sine"), turn_table(front_end), strict=True)
        ]
        window = self.constant("dft.window", hann(front_end.window).astype(np.float32))
        rows = self._compute("Mul", "dft.rows", [self._compute("Concat", "dft.parts", parts, axis=0), window])
        return self._compute("Unsqueeze", "dft.weight", [rows, self.constant("dft.axis", np.array([1], np.int64))])

    def _compute(self, op_type: str, name: str, inputs: Sequence[ir.Value], **attributes: int) -> ir.Value:
        """Return the result of a node that depends on constants alone."""
        node = ir.node(op_type, inputs, attributes, num_outputs=1, name=f"{self.prefix}.{name}")
        node.outputs[0].name = f"{self.prefix}.{name}:out"
        self.nodes.append(node)
        return node.outputs[0]


def alone(front_end: FrontEnd) -> bytes:
    """Return a model that takes ``samples`` float32 [batch, time] and gives ``features`` [batch, features, frames]."""
    samples = ir.Value(name="samples", shape=ir.Shape([BATCH, TIME]), type=ir.TensorType(ir.DataType.FLOAT))
    nodes = Nodes(samples)
    nodes.add("Unsqueeze", "channel", [nodes.constant("channel.axis", np.array([1], np.int64))])
    nodes.add_features(front_end)
    nodes.result.name = "features"
    nodes.result.type = ir.TensorType(ir.DataType.FLOAT)
    nodes.result.shape = ir.Shape([BATCH, front_end.features, "frames"])
    graph = ir.Graph(
        [samples],
        [nodes.result],
        nodes=nodes.nodes,
        initializers=nodes.constants,
        opset_imports={"": OPSET},
        name=PREFIX,
    )
    return serialize(ir.Model(graph, ir_version=IR_VERSION))
