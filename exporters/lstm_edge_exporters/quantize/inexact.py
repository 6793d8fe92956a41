"""Which outputs of a quantized model are not the same to the bit in every batch and chunk, and why.

Our int8 and int4 operators give one row the same bits in any batch, in any chunks and on any number of threads. A
float32 sum of onnxruntime does not: the order in which it adds may depend on the shape and on the processor.
"""

from collections.abc import Iterable

import onnx
import onnx_ir as ir

from lstm_edge_exporters.functions import DOMAIN
from lstm_edge_exporters.onnx_graph.shapes import known_types
from lstm_edge_exporters.quantize.layers import find_layers

__all__ = ["inexact_outputs"]

# They move, choose, compare or count, or compute each element alone, with the same bits wherever the element stands
# (measured with onnxruntime 1.32 on x86-64: Log, Softplus, Sin, Cos, Atan and Mish do not, and are left out).
_SAME = frozenset(
    """
    Abs Add And ArgMax ArgMin BatchNormalization BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil
    Celu Clip Compress Concat ConcatFromSequence Constant ConstantOfShape DepthToSpace DequantizeLinear Div Dropout
    Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather GatherElements GatherND Gelu Greater GreaterOrEqual
    HardSigmoid HardSwish Hardmax Identity IsInf IsNaN LeakyRelu Less LessOrEqual Max MaxPool Min Mod Mul Neg NonZero
    Not OneHot Or PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear Range Reciprocal ReduceMax ReduceMin Relu
    Reshape ReverseSequence Round ScatterElements ScatterND Selu SequenceAt SequenceConstruct SequenceEmpty
    SequenceInsert SequenceLength Shape Sigmoid Sign Size Slice Softsign SpaceToDepth Split SplitToSequence Sqrt Squeeze
    Sub Tanh ThresholdedRelu Tile TopK Transpose Trilu Unique Unsqueeze Where Xor MatMulInteger ConvInteger
    """.split()  # noqa: SIM905 - a list of a hundred names is read in a column
)
_BODIES = ("If", "Loop", "Scan", "SequenceMap")
_NO_NUMBERS = ("Shape", "Size")
_STANDARD = ("", "ai.onnx")
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)

Names = dict[str, None]


def inexact_outputs(model: ir.Model) -> dict[str, tuple[str, ...]]:
    """Return the outputs that float32 sums reach, each with the layers or nodes that sum, in graph order.

    ``DynamicQuantizeLinear`` counts too: it has one scale for a whole batch. Outputs that are not listed are the same
    to the bit for one row in any batch, any chunks and any number of threads.
    """
    return _Walk(model).outputs(model)


class _Walk:
    def __init__(self, model: ir.Model) -> None:
        self._types = known_types(model)
        self._functions = model.functions
        self._named = {reader.node: reader.name for reader in find_layers(model)}
        # By value: the nodes that make it inexact; a value that no input of the graph changes is not in it.
        self._reached: dict[ir.Value, Names] = {value: {} for value in model.graph.inputs}

    def outputs(self, model: ir.Model) -> dict[str, tuple[str, ...]]:
        self._graph(model.graph)
        found = {str(value.name): tuple(self._reached.get(value, ())) for value in model.graph.outputs}
        return {name: nodes for name, nodes in found.items() if nodes}

    def _graph(self, nodes: Iterable[ir.Node]) -> None:
        for node in nodes:
            bodies = list(_bodies(node))
            given = [value for value in node.inputs if value in self._reached]
            for body in bodies:
                self._reached.update({value: {} for value in body.inputs})
                self._graph(body)
                given += [v for v in body.outputs if v in self._reached]
                given += [v for inner in body.all_nodes() for v in inner.inputs if v in self._reached]
            if not given or (node.op_type in _NO_NUMBERS and node.domain in _STANDARD):
                continue
            names: Names = {}
            for value in given:
                names |= self._reached[value]
            if self._sums(node):
                names[f"{self._named.get(node) or node.name or node.op_type} ({node.op_type})"] = None
            self._reached.update(dict.fromkeys(node.outputs, names))

    def _sums(self, node: ir.Node) -> bool:
        """Say whether a node may add float32 numbers in an order that is not fixed."""
        if node.domain == DOMAIN:
            return "Int8" not in node.op_type and "Int4" not in node.op_type
        if node.domain not in _STANDARD:
            function = self._functions.get((node.domain, node.op_type, node.overload))
            return function is None or any(self._sums(inner) for inner in function.all_nodes())
        if node.op_type in _SAME or node.op_type in _BODIES:
            return False
        kinds = [self._types.get(str(value.name)) for value in node.inputs if value is not None]
        return not kinds or any(kind is None or kind in _FLOATS for kind in kinds)


def _bodies(node: ir.Node) -> Iterable[ir.Graph]:
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()
