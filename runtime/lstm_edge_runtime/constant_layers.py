"""Refuses recurrent layers that onnxruntime would run while it opens a file.

It computes what depends on constants alone when a session is made. Over no time steps or no rows its GRU and its LSTM
(1.32) end the process then, which nothing in Python can catch.
"""

from collections.abc import Iterable

from lstm_edge_runtime._protobuf import Message
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.model_reading import ModelReading, Operator, identifier, operator_of

__all__ = ["check_constant_layers"]

_LAYERS = ("LSTM", "GRU", "DynamicQuantizeLSTM")
# Their outputs are constants where the shape of what goes in is fixed.
_SHAPES = ("Shape", "Size")


def check_constant_layers(reading: ModelReading) -> None:
    """Refuse a model in which everything that goes into a recurrent layer is a constant.

    Args:
        reading: of a model whose functions' calls end (``check_inlining``).

    Raises:
        ArtifactError: there is such a layer.
    """
    called: Iterable[Operator] = (*reading.calls, *(name for function in reading.functions for name in function.calls))
    if not any(name in _LAYERS for _domain, name, _overload in called):
        return
    bodies = zip(reading.functions, reading.model.messages("functions"), strict=True)
    walk = _Constants({identifier(function.operator): body for function, body in bodies})
    for graph in reading.model.messages("graph"):
        walk.graph(graph, set())


class _Constants:
    """Follows constants through the nodes of graphs, of graphs in nodes, and of functions."""

    def __init__(self, functions: dict[str, Message]) -> None:
        self.functions = functions
        # For a function and the constants among its inputs: the constants among its outputs.
        self.known: dict[tuple[str, frozenset[str]], frozenset[str]] = {}

    def graph(self, graph: Message, outer: set[str]) -> None:
        """Follow the constants of a graph; ``outer`` are those around it."""
        own = outer - {value.text("name") for value in graph.messages("input")}
        own |= {tensor.text("name") for tensor in graph.messages("initializer")}
        own |= {
            part.text("name") for sparse in graph.messages("sparse_initializer") for part in sparse.messages("values")
        }
        self.nodes(graph, own)

    def nodes(self, body: Message, constants: set[str]) -> None:
        """Add to ``constants`` what nodes make of constants alone; nodes may be in any order."""
        waiting: dict[str, list[Message]] = {}  # for the name of a value: nodes that want it
        nodes = body.messages("node")
        calls = [node for node in nodes if identifier(operator_of(node, "op_type")) in self.functions]
        ready = list(nodes)
        while ready:
            node = ready.pop()
            missing = next((name for name in node.texts("input") if name and name not in constants), "")
            made = self._outputs(node, missing == "", constants)
            if missing:
                waiting.setdefault(missing, []).append(node)
            for name in made - constants:
                constants.add(name)
                ready += waiting.pop(name, [])
            if not ready:  # a function may do more with the constants that were found after its turn
                ready = [call for call in calls if self._outputs(call, False, constants) - constants]
        for node in body.messages("node"):
            for attribute in node.messages("attribute"):
                for graph in (*attribute.messages("g"), *attribute.messages("graphs")):
                    self.graph(graph, constants)

    def _outputs(self, node: Message, constant: bool, constants: set[str]) -> set[str]:
        """Return the outputs of a node that are constants."""
        operator, outputs = operator_of(node, "op_type"), node.texts("output")
        body = self.functions.get(identifier(operator))
        if body is not None:
            given = zip(body.texts("input"), node.texts("input"), strict=False)
            made = self._call(identifier(operator), body, frozenset(name for name, of in given if of in constants))
            return {name for name, inner in zip(outputs, body.texts("output"), strict=False) if inner in made}
        if constant and operator[1] in _LAYERS:
            raise ArtifactError(
                f"everything that goes into the {operator[1]} layer {node.text('name')[:80]!r} is a constant, which "
                "onnxruntime would compute while it opens the file: store the layer's output in its place"
            )
        return set(outputs) if constant or operator[1] in _SHAPES else set()

    def _call(self, name: str, body: Message, given: frozenset[str]) -> frozenset[str]:
        if (name, given) not in self.known:
            constants = set(given)
            self.nodes(body, constants)
            self.known[name, given] = frozenset(constants)
        return self.known[name, given]
