"""Read the facts about a model file that the checks need: calls, functions, metadata, and external weights.

The bytes are read once, and strictly (see ``_protobuf``). A name that onnxruntime uses as a key must be unique:
otherwise one tool takes the first entry of that name and another tool the last.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lstm_edge_runtime._protobuf import Message, TornError, read_protobuf
from lstm_edge_runtime.errors import ArtifactError

__all__ = ["Function", "ModelReading", "Operator", "TornError", "identifier", "operator_of", "read_model"]

Operator = tuple[str, str, str]  # domain, name and overload

# Exporters nest graphs up to four deep (a published VAD); a protobuf reader stops at about 33.
_DEEPEST_NESTING = 32
# Two names for the same domain.
_STANDARD = {"ai.onnx": ""}
_ORT_FORMAT = b"ORTM"
_AGAIN = "make the file again with the tool that wrote it"


@dataclass(frozen=True, kw_only=True)
class Function:
    """A model-local function.

    Attributes:
        operator: its domain, name and overload.
        data: its serialized bytes.
        calls: the number of calls of each operator or function in its body, subgraphs included.
    """

    operator: Operator
    data: bytes
    calls: Counter[Operator]


@dataclass(frozen=True, kw_only=True)
class ModelReading:
    """The facts about a model that the checks need.

    Attributes:
        calls: the operator or function of each node of the graph, subgraphs included.
        functions: the model-local functions, in the file's order.
        external: the path of each tensor whose values are in another file, for example ``graph.initializer[3]``.
        metadata: the model's metadata.
        graphs: the number of graphs, with the subgraphs in nodes and functions; the body of a function is not counted.
        model: the fields that the checks use.
    """

    calls: tuple[Operator, ...]
    functions: tuple[Function, ...]
    external: tuple[str, ...]
    metadata: dict[str, str]
    graphs: int
    model: Message


def read_model(data: bytes) -> ModelReading:
    """Read a serialized ModelProto, and refuse one that protobuf readers could read in different ways.

    Args:
        data: the whole file.

    Raises:
        IntegrityError: the bytes end within a field of the model: the file is truncated.
        TornError: the bytes are not a protobuf message: they are damaged, or of another format.
        ArtifactError: the bytes are ambiguous: two protobuf readers, or two tools that look up names, could see
            different models; a name is not UTF-8 text; or graphs are nested too deeply.
    """
    if data[4:8] == _ORT_FORMAT:
        raise ArtifactError(
            "the model is in onnxruntime's own format (.ort): use the .onnx file that it was converted from"
        )
    model = read_protobuf(data)
    _check_opsets(model, "the model")
    walk = _Walk()
    calls = [walk.graph(graph, "graph") for graph in model.messages("graph")]
    functions = []
    for index, body in enumerate(model.messages("functions")):
        where = f"functions[{index}]"
        _check_opsets(body, where)
        called = walk.nodes(body, where, 0) + walk.attributes(body, "attribute_proto", where, 0)
        functions.append(
            Function(operator=operator_of(body, "name", where), data=data[body.start : body.end], calls=Counter(called))
        )
    for index, training in enumerate(model.messages("training_info")):  # onnxruntime does not run these graphs
        for name in ("initialization", "algorithm"):
            for graph in training.messages(name):
                walk.graph(graph, f"training_info[{index}].{name}")
    _check_once((identifier(function.operator) for function in functions), "function", "the model")
    metadata = model.messages("metadata_props")
    _check_once((entry.text("key") for entry in metadata), "metadata entry", "the model")
    return ModelReading(
        calls=tuple(operator for called in calls for operator in called),
        functions=tuple(functions),
        external=tuple(walk.external),
        metadata={entry.text("key"): entry.text("value") for entry in metadata},
        graphs=walk.graphs,
        model=model,
    )


class _Walk:
    """Walks through graphs and their subgraphs, and collects tensors whose values are in another file."""

    def __init__(self) -> None:
        self.external: list[str] = []
        self.graphs = 0

    def graph(self, graph: Message, where: str, depth: int = 0) -> list[Operator]:
        """Return the operators that a graph calls, in order."""
        if depth > _DEEPEST_NESTING:
            raise ArtifactError(f"the model nests graphs more than {_DEEPEST_NESTING} deep")
        self.graphs += 1
        self._tensors(graph, "initializer", where)
        self._sparse(graph, "sparse_initializer", where)
        return self.nodes(graph, where, depth)

    def nodes(self, body: Message, where: str, depth: int) -> list[Operator]:
        """Return the operators that the nodes of a graph or of a function call, in order."""
        calls = []
        for index, node in enumerate(body.messages("node")):
            calls.append(operator_of(node, "op_type", where, index))
            if "attribute" in node.fields:
                calls += self.attributes(node, "attribute", f"{where}.node[{index}]", depth)
        return calls

    def attributes(self, owner: Message, field: str, where: str, depth: int) -> list[Operator]:
        """Return the operators that the graphs in a node's attributes, or in a function's attribute defaults, call."""
        calls = []
        attributes = owner.messages(field)
        if len(attributes) > 1:
            _check_once((attribute.text("name") for attribute in attributes), "attribute", where)
        for index, attribute in enumerate(attributes):
            path = f"{where}.{field}[{index}]"
            self._tensors(attribute, "t", path)
            self._tensors(attribute, "tensors", path)
            self._sparse(attribute, "sparse_tensor", path)
            self._sparse(attribute, "sparse_tensors", path)
            for name in ("g", "graphs"):
                for place, graph in enumerate(attribute.messages(name)):
                    calls += self.graph(graph, f"{path}.{name}" + f"[{place}]" * (name == "graphs"), depth + 1)
        return calls

    def _tensors(self, owner: Message, field: str, where: str) -> None:
        for index, tensor in enumerate(owner.fields.get(field, ())):
            if "external_data" in tensor.fields or tensor.number("data_location"):
                self.external.append(f"{where}.{field}[{index}]")

    def _sparse(self, owner: Message, field: str, where: str) -> None:
        for index, sparse in enumerate(owner.fields.get(field, ())):
            for part in ("values", "indices"):
                self._tensors(sparse, part, f"{where}.{field}[{index}]")


def operator_of(message: Message, name: str, where: str = "", index: int | None = None) -> Operator:
    """Return the operator that a node calls, or the name of a function; ``name`` is the field that holds the name.

    Raises:
        ArtifactError: the name holds a control character; ``where`` and ``index`` give the place for the message.
    """
    domain, title, overload = message.text("domain"), message.text(name), message.text("overload")
    for field, text in (("domain", domain), (name, title), ("overload", overload)):
        if not text.isprintable():
            place = where if index is None else f"{where}.node[{index}]"
            raise ArtifactError(
                f"the model cannot be read: {field} holds a control character ({text[:40]!r}) in {place}; {_AGAIN}"
            )
    return _STANDARD.get(domain, domain), title, overload


def identifier(operator: Operator) -> str:
    """Return onnxruntime's key of a function, in which (``a:b``, ``c``) and (``a``, ``b:c``) are equal."""
    return ":".join(operator).removesuffix(":")


def _check_once(names: Iterable[str], what: str, where: str) -> None:
    repeated = next(iter(_repeated(names)), None)
    if repeated is not None:
        raise ArtifactError(f"the model cannot be read: {what} {repeated[:80]!r} is given twice in {where}; {_AGAIN}")


def _repeated(names: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield name
        seen.add(name)


def _check_opsets(owner: Message, where: str) -> None:
    """Refuse two versions of one domain; the same version may be given twice."""
    versions: dict[str, int] = {}
    for entry in owner.messages("opset_import"):
        domain = _STANDARD.get(entry.text("domain"), entry.text("domain"))
        version = versions.setdefault(domain, entry.number("version"))
        if version != entry.number("version"):
            raise ArtifactError(
                f"the model cannot be read: the domain {domain[:80]!r} is imported in the versions {version} and "
                f"{entry.number('version')} in {where}; {_AGAIN}"
            )
