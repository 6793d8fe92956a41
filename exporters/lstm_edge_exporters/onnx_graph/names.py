"""Names in a model: the taken names are counted once for a whole edit, not again for each added node."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import onnx_ir as ir

__all__ = ["Names", "name_in", "names_of", "nest", "rename", "root_of", "unique_name", "unique_names"]

# onnx_ir's graphs do not know their outer graph; parse_model stores it under this key.
_ROOT = "lstm_edge.root"
_NAMES = "lstm_edge.names"
# A longer number at the end of a name was never counted up to.
_MOST_DIGITS = 9


class Names:
    """The names that are taken, and how often; a name without users is free again."""

    def __init__(self, names: Iterable[str | None] = ()) -> None:
        self._taken = Counter(names)
        # Where the search for a free number starts: below it all are taken.
        self._next: dict[str, int] = {}

    def free(self, name: str) -> str:
        """Return ``name``, else the first of ``name_1``, ``name_2``, ... that is free."""
        if name not in self._taken:
            return name
        count = self._next.get(name, 1)
        while f"{name}_{count}" in self._taken:
            count += 1
        self._next[name] = count
        return f"{name}_{count}"

    def take(self, name: str) -> str:
        """Return what ``free`` returns, which is taken from now on."""
        unique = self.free(name)
        self.add([unique])
        return unique

    def add(self, names: Iterable[str | None]) -> None:
        """Count one more user of each name."""
        self._taken.update(names)

    def drop(self, names: Iterable[str | None]) -> None:
        """Count one user less of each name."""
        for name in names:
            self._taken[name] -= 1
            if self._taken[name] > 0:
                continue
            del self._taken[name]
            base, _, number = (name or "").rpartition("_")
            if base in self._next and number.isdecimal() and len(number) <= _MOST_DIGITS:
                self._next[base] = min(self._next[base], max(int(number), 1))


def names_of(nodes: Iterable[ir.Node]) -> Iterator[str | None]:
    """Yield the names of nodes, of their outputs, and of all that is in the graphs nested in them."""
    for node in nodes:
        yield node.name
        yield from (value.name for value in node.outputs)
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                yield from _names_in(attribute.as_graph())
            elif attribute.type == ir.AttributeType.GRAPHS:
                for graph in attribute.as_graphs():
                    yield from _names_in(graph)


def _names_in(graph: ir.Graph) -> Iterator[str | None]:
    yield from (value.name for value in (*graph.inputs, *graph.initializers.values()))
    yield from names_of(graph)


def root_of(graph: ir.Graph) -> ir.Graph:
    """Return the outermost graph around a graph, which may be the body of an ``If``, ``Loop`` or ``Scan``."""
    root = graph.meta.get(_ROOT, graph)
    assert isinstance(root, ir.Graph)
    return root


def nest(inner: ir.Graph, outer: ir.Graph) -> None:
    """Note that a graph is nested in another one, as ``parse_model`` does, so that names in it stay unique."""
    inner.meta[_ROOT] = root_of(outer)


@contextmanager
def unique_names(model: ir.Model) -> Iterator[None]:
    """Count the model's names once; inside, ``unique_name`` takes no scan of the model.

    Everything that is added, renamed or removed inside must be so by the functions of ``onnx_graph.edit``, or be
    noted with ``name_in``. May be nested.
    """
    if _NAMES in model.graph.meta:
        yield
        return
    model.graph.meta[_NAMES] = Names(_names_in(model.graph))
    try:
        yield
    finally:
        del model.graph.meta[_NAMES]


def unique_name(graph: ir.Graph, name: str) -> str:
    """Return ``name``, else ``name_1``, ...: one that no node and no value has, in any graph of the model.

    Names must not repeat between a graph and those nested in it, and tools take names for identities. Outside of
    ``unique_names`` this looks at the whole model.
    """
    root = root_of(graph)
    names = root.meta.get(_NAMES)
    return (Names(_names_in(root)) if names is None else names).free(name)


def name_in(graph: ir.Graph, *, added: Iterable[ir.Node | ir.Value] = (), removed: Iterable[ir.Node] = ()) -> None:
    """Note what was put into a graph, and what is about to leave it."""
    names = root_of(graph).meta.get(_NAMES)
    if names is None:
        return
    for thing in added:
        names.add([thing.name] if isinstance(thing, ir.Value) else names_of([thing]))
    names.drop(names_of(removed))


def rename(graph: ir.Graph, thing: ir.Node | ir.Value, name: str) -> None:
    """Give a node or a value of a graph another name."""
    names = root_of(graph).meta.get(_NAMES)
    if names is not None:
        names.drop([thing.name])
        names.add([name])
    thing.name = name
