"""What a quantizer reads of a file and of its card before, and what the card says of the layers after."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from lstm_edge_exporters.artifact import MINIMUM_ONNXRUNTIME
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import Layer, ModelCard, Streaming
from lstm_edge_runtime.session import Session

__all__ = ["answers_of", "inferred_card", "requantized", "settings_of"]

# What the name of a layer's node ends in, once the layer is quantized; of a float32 operator it is the layer's.
_ENDINGS = ("/int8", "/int4", "/mixed", "")


def requantized(layers: Sequence[Layer], model: ir.Model) -> tuple[Layer, ...]:
    """The card's layers with the operators that carry them now."""
    names = {node.name: node for node in model.graph.all_nodes()}
    carriers = [
        next((names[path] for ending in _ENDINGS if (path := f"{layer.name}{ending}") in names), None)
        for layer in layers
    ]
    return tuple(
        layer
        if node is None
        else dataclasses.replace(layer, operator=f"{node.domain}::{node.op_type}" if node.domain else node.op_type)
        for layer, node in zip(layers, carriers, strict=True)
    )


def inferred_card(session: Session) -> ModelCard:
    """A card for a file that had none: what the graph says, and that the rest is unknown."""
    return ModelCard(
        producer="unknown",
        inputs=session.inputs,
        outputs=session.outputs,
        states=session.states,
        streaming=Streaming(verdict="none", reason="the original file had no model card: its states are unknown"),
        minimum_onnxruntime=MINIMUM_ONNXRUNTIME,
    )


def answers_of(session: Session) -> Callable[[Mapping[str, Array]], Mapping[str, Array]]:
    """Return the answers of a file to a complete feed, by the outputs' names."""
    runner = session.onnxruntime_session
    names = [output.name for output in runner.get_outputs()]
    return lambda feed: dict(zip(names, map(np.asarray, runner.run(names, dict(feed))), strict=True))


def settings_of(session: Session) -> dict[str, Array]:
    """Return the integers without axes, such as a sample rate, that the file's golden vectors were made with."""
    golden = session.golden()
    vector = golden.vectors[0].inputs if golden is not None and golden.vectors else {}
    names = [spec.name for spec in session.inputs if not spec.axes and spec.dtype in ("int32", "int64")]
    return {name: vector[name] for name in names if name in vector}
