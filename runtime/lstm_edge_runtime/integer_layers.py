"""The products of integers that another tool left in a file: operators of ONNX and onnxruntime, not ours."""

from collections.abc import Iterator
from dataclasses import dataclass

from lstm_edge_runtime._protobuf import Message
from lstm_edge_runtime.model_reading import ModelReading

__all__ = ["IntegerLayer", "integer_layers"]

WHOLE_BATCH = "one scale for the whole batch"
FIXED = "fixed scales"
COMPUTED = "as the file computes them"
_DYNAMIC = ("DynamicQuantizeLSTM", "DynamicQuantizeMatMul")
_INTEGER = ("ConvInteger", "MatMulInteger", "MatMulIntegerToFloat")
_STATIC = ("QGemm", "QLinearConv", "QLinearMatMul")


@dataclass(frozen=True, kw_only=True)
class IntegerLayer:
    """A node that multiplies integers: its name, its operator, and how its activations are rounded."""

    name: str
    operator: str
    activations: str


def integer_layers(reading: ModelReading) -> tuple[IntegerLayer, ...]:
    """Return the nodes of a model, in nested graphs too, that multiply integers without being ``lstm_edge`` operators.

    With one scale for the whole batch (``DynamicQuantizeLinear``), a row's answer depends on the rows beside it.
    """
    return tuple(layer for graph in reading.model.messages("graph") for layer in _layers(graph))


def _layers(graph: Message) -> Iterator[IntegerLayer]:
    nodes = graph.messages("node")
    dynamic = {node.texts("output")[0] for node in nodes if node.text("op_type") == "DynamicQuantizeLinear"}
    for node in nodes:
        operator, domain = node.text("op_type"), node.text("domain")
        if domain in ("", "ai.onnx", "com.microsoft"):
            given = node.texts("input")[:1]
            whole = operator in _DYNAMIC or (operator in _INTEGER and bool(given) and given[0] in dynamic)
            if whole or operator in (*_INTEGER, *_STATIC):
                activations = WHOLE_BATCH if whole else FIXED if operator in _STATIC else COMPUTED
                yield IntegerLayer(name=node.text("name") or operator, operator=operator, activations=activations)
        for attribute in node.messages("attribute"):
            for inner in (*attribute.messages("g"), *attribute.messages("graphs")):
                yield from _layers(inner)
