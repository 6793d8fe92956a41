"""In which order Keras runs the calls of a functional model.

Each call waits for the calls that it takes tensors from. Among the others Keras goes by depth, the longest way to an
output. That order shows in the answers: MultiHeadAttention takes the mask off the tensors that it is called on.
"""

from collections.abc import Iterator

from lstm_edge_exporters.keras.config import ModelConfig, Ref, refs
from lstm_edge_exporters.keras.hdf5 import shown
from lstm_edge_runtime.errors import ArtifactError

__all__ = ["Node", "run_order"]

Node = tuple[str, int]  # a layer's name and which of its calls


def run_order(model: ModelConfig, where: str) -> list[Node]:
    """Return the calls that the model's outputs need, in Keras's order; inputs are among them.

    Raises:
        ArtifactError: a call takes a tensor that is not there, or one that depends on its own result.
    """
    parents = _Parents(model, where)
    upwards = _sorted_upwards(model, parents, where)
    in_graph = set(upwards)
    depths: dict[Node, int] = {}
    layers: dict[str, int] = {}
    for node in reversed(upwards):
        # A layer that is called twice has one depth, the larger one.
        depth = max(depths.setdefault(node, 0), layers.get(node[0], 0))
        layers[node[0]] = depth
        depths[node] = depth
        for parent in parents(node):
            if parent in in_graph:
                depths[parent] = max(depth + 1, depths.get(parent, 0))
    # Stable: among equals the order in which they were found.
    return sorted(depths, key=lambda node: -depths[node])


class _Parents:
    """The calls that a call takes tensors from."""

    def __init__(self, model: ModelConfig, where: str) -> None:
        self.layers = {layer.options.name: layer for layer in model.layers}
        self.where = where

    def __call__(self, node: Node) -> list[Node]:
        """Return the calls of a call's arguments, in order."""
        layer = self.layers[node[0]]
        if layer.options.class_name == "InputLayer":
            return []
        if node[1] >= len(layer.calls):
            raise ArtifactError(
                f"{self.where}: a tensor is of call {node[1]} of {layer.options}, which is called {len(layer.calls)} "
                "times"
            )
        call = layer.calls[node[1]]
        return [(ref.layer, ref.call) for ref in _both(call.args, call.keywords)]


def _both(args: object, keywords: object) -> Iterator[Ref]:
    yield from refs(args)
    yield from refs(keywords)


def _sorted_upwards(model: ModelConfig, parents: _Parents, where: str) -> list[Node]:
    """Return the calls from the inputs to the outputs, as a search from the outputs finishes them."""
    finished: dict[Node, None] = {}
    open_nodes: set[Node] = set()
    for output in refs(model.outputs):
        stack: list[tuple[Node, Iterator[Node]]] = []
        start = (output.layer, output.call)
        if start in finished:
            continue
        stack.append((start, iter(parents(start))))
        open_nodes.add(start)
        while stack:
            node, left = stack[-1]
            parent = next((entry for entry in left if entry not in finished), None)
            if parent is None:
                finished[node] = None
                open_nodes.discard(node)
                stack.pop()
                continue
            if parent in open_nodes:
                layer = parents.layers[node[0]]
                raise ArtifactError(
                    f"{where}: {layer.options} takes a tensor that depends on its own result ({shown(parent[0])})"
                )
            open_nodes.add(parent)
            stack.append((parent, iter(parents(parent))))
    return list(finished)
