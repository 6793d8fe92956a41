"""Do the checks read what onnx and onnxruntime read? Files are changed field by field; the readings are compared.

A change either keeps the meaning (order of fields, packing, unknown fields, metadata), and then the file must be read,
or it may do anything, and then the file is refused or read alike. A case is made again from its label:
``make(seed, number)``.
"""

import itertools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper
from sandbox import Tally, run_cases
from wire import BYTES, NUMBERS, Item, Node, encode, insert, places, replace, take_apart, varint

from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.model_reading import read_model

__all__ = ["BASES", "CHANGES", "KEEPING", "changed", "check", "fuzz", "make"]

MODELS = Path(__file__).resolve().parents[1] / "device" / "models"
_FILES = ("accumulator", "tagger", "lengths", "exported_int8", "exported_float32", "no_card")
_PLACES = ("ModelProto", "GraphProto", "NodeProto", "AttributeProto", "TensorProto", "FunctionProto")


def _everything() -> bytes:
    """A model with something in every place that can hold nodes or tensors."""
    value = helper.make_tensor_value_info
    x, y = value("x", TensorProto.FLOAT, ["n", 3]), value("y", TensorProto.FLOAT, ["n", 3])
    ones = numpy_helper.from_array(np.ones(3, np.float32), "w")
    branches = [
        helper.make_graph([helper.make_node(name, ["x"], [f"y{name}"])], name, [], [value(f"y{name}", 1, None)], [ones])
        for name in ("Relu", "Neg")
    ]
    nodes = [
        helper.make_node("Constant", [], ["choose"], value=numpy_helper.from_array(np.array(True), "t")),
        helper.make_node("If", ["choose"], ["a"], then_branch=branches[0], else_branch=branches[1]),
        helper.make_node("Twice", ["a"], ["b"], domain="other", sides=[1, 2]),
        helper.make_node("LinearInt8V1", ["b", "w"], ["y"], domain="lstm_edge"),
    ]
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("other", 1), helper.make_opsetid("lstm_edge", 1)]
    body = [helper.make_node("Add", ["x", "x"], ["y"]), helper.make_node("LinearInt8V1", ["y"], [], domain="lstm_edge")]
    twice = helper.make_function("other", "Twice", ["x"], ["y"], body, imports)
    twice.attribute_proto.add(name="body", type=onnx.AttributeProto.GRAPH).g.CopyFrom(branches[0])
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], [ones]), opset_imports=imports, functions=[twice], ir_version=8
    )
    model.training_info.add().algorithm.CopyFrom(branches[1])
    sparse = model.graph.sparse_initializer.add(dims=[4])
    sparse.values.CopyFrom(TensorProto(name="s", data_type=1, dims=[1], float_data=[1.5, 2.5]))
    sparse.indices.CopyFrom(TensorProto(data_type=7, dims=[1], int64_data=[2, 300]))
    model.metadata_props.add(key="author", value="nobody")
    return model.SerializeToString()


BASES: dict[str, bytes] = {name: (MODELS / f"{name}.onnx").read_bytes() for name in _FILES}
BASES["everything"] = _everything()
TREES = {name: take_apart(data) for name, data in BASES.items()}


# Changes that keep the meaning: each returns the new bytes of a message.
def reorder(random: Random, node: Node) -> bytes:
    """Put the fields into another order; those of one number keep theirs."""
    numbers = [item.number for item in node.items]
    random.shuffle(numbers)
    queues = {number: iter([item for item in node.items if item.number == number]) for number in set(numbers)}
    return b"".join(next(queues[number]).raw for number in numbers)


def repack(random: Random, node: Node) -> bytes:
    """Write repeated numbers packed where they are not, and the other way round."""
    return b"".join(_repacked(item, random) for item in node.items)


def _repacked(item: Item, random: Random) -> bytes:
    wire = NUMBERS.get(item.field.type) if item.field is not None and item.field.is_repeated else None
    if wire is None or random.random() < 0.5:
        return item.raw
    if item.wire != BYTES:
        return encode(item.number, BYTES, item.payload)
    size = {1: 8, 5: 4}.get(wire)
    if size is not None:
        values = [item.payload[at : at + size] for at in range(0, len(item.payload), size)]
    else:
        ends = [at + 1 for at, digit in enumerate(item.payload) if digit < 128]
        values = [item.payload[start:end] for start, end in itertools.pairwise([0, *ends])]
    return b"".join(encode(item.number, wire, value) for value in values)


def add_unknown(random: Random, node: Node) -> bytes:
    """Add fields that no version of ONNX has."""
    wire = random.choice([0, 1, 2, 5])
    payload = {0: varint(random.getrandbits(random.choice([3, 33, 64]))), 1: bytes(8), 5: bytes(4)}.get(wire)
    return insert(random, node, [encode(random.choice([99, 2000, 2**29 - 1]), wire, payload or random.randbytes(9))])


def add_metadata(random: Random, node: Node) -> bytes:
    """Add an entry of metadata, with its two fields in any order, to whatever can have one."""
    field = node.descriptor.fields_by_name.get("metadata_props")
    if field is None:
        return node.content
    parts = [encode(1, BYTES, f"key {random.getrandbits(60)}".encode()), encode(2, BYTES, "né".encode() * 3)]
    random.shuffle(parts)
    return insert(random, node, [encode(field.number, BYTES, b"".join(parts))])


def edit_text(random: Random, node: Node) -> bytes:
    """Write other documentation, which may be in any encoding."""
    field = node.descriptor.fields_by_name.get("doc_string")
    kept = [item.raw for item in node.items if field is None or item.number != field.number]
    return b"".join(kept) if field is None else b"".join([*kept, encode(field.number, BYTES, b"caf\xe9 \0")])


KEEPING: tuple[Callable[[Random, Node], bytes], ...] = (reorder, repack, add_unknown, add_metadata, edit_text)


# Changes that may do anything.
def _one(random: Random, node: Node, change: Callable[[Item], bytes]) -> bytes:
    """Change one field of a message."""
    if not node.items:
        return encode(1, BYTES, b"")
    at = random.randrange(len(node.items))
    return b"".join(change(item) if index == at else item.raw for index, item in enumerate(node.items))


def wide_tag(random: Random, node: Node) -> bytes:
    """Set bits of a tag that some readers drop, or write it with needless digits."""
    high = random.choice([0, 1 << 32, 7 << 32, 1 << 35, 1 << 63])
    pad = 0 if high else random.randint(1, 8)
    return _one(
        random,
        node,
        lambda item: encode(item.number, item.wire, item.payload, tag=varint(item.number << 3 | item.wire | high, pad)),
    )


def long_length(random: Random, node: Node) -> bytes:
    """Write a length, or a number, with needless digits."""
    pad = random.randint(1, 9)
    return _one(
        random,
        node,
        lambda item: (
            encode(item.number, item.wire, item.payload, pad=pad)
            if item.wire
            else encode(
                item.number, 0, item.payload[:-1] + bytes([item.payload[-1] | 128]) + b"\x80" * (pad - 1) + b"\0"
            )
        ),
    )


def duplicate(random: Random, node: Node) -> bytes:
    """Give a field twice, changed or not, somewhere in the message."""
    return insert(random, node, [random.choice(node.items).raw] if node.items else [])


def split(random: Random, node: Node) -> bytes:
    """Write a message in two parts, which a reader merges where the field is not repeated."""

    def change(item: Item) -> bytes:
        parts = [part.raw for part in item.node.items] if item.node is not None else [item.payload]
        cut = random.randint(0, len(parts))
        return b"".join(encode(item.number, item.wire, b"".join(half)) for half in (parts[:cut], parts[cut:]))

    return _one(random, node, change)


def wrong_wire(random: Random, node: Node) -> bytes:
    """Write a field with another wire type than its own, groups among them."""
    wire = random.choice([0, 1, 2, 3, 4, 5, 6, 7])
    number = random.choice([1, 2, 3, 5, 7, 11, 14, 20, 25])
    payload = {0: varint(random.getrandbits(20)), 1: bytes(8), 5: bytes(4)}.get(wire, random.randbytes(4))
    closed = encode(number, wire, payload) if wire != 3 else varint(number << 3 | 3) + varint(number << 3 | 4)
    return insert(random, node, [closed])


def move(random: Random, node: Node) -> bytes:
    """Put a field of any message under any number into this one."""
    donor = random.choice(list(places(random.choice(list(TREES.values())))))[1]
    if not donor.items:
        return node.content
    item = random.choice(donor.items)
    return insert(random, node, [encode(random.choice([item.number, *range(1, 27)]), item.wire, item.payload)])


def nest(random: Random, node: Node) -> bytes:
    """Wrap a graph or a type into many of its kind."""
    inner = node.content
    for _ in range(random.choice([1, 5, 31, 32, 33, 34, 200])):
        if node.descriptor.name == "GraphProto":
            inner = encode(1, BYTES, encode(5, BYTES, encode(1, BYTES, b"g") + encode(6, BYTES, inner)))
        else:
            inner = encode(4, BYTES, encode(1, BYTES, inner))
    return inner


def rename(random: Random, node: Node) -> bytes:
    """Write another text: one of our names, a name that looks like one, no text at all."""
    names = [b"lstm_edge", b"lstm_edge\0", b"lstm_edge\xff", b"", b"ai.onnx", b"lstm_edge:LinearInt8V1", b"other:Twice"]
    texts = [index for index, item in enumerate(node.items) if item.field is not None and item.field.type == 9]
    if not texts:
        return node.content
    at, name = random.choice(texts), random.choice(names)
    return b"".join(
        encode(item.number, BYTES, name) if index == at else item.raw for index, item in enumerate(node.items)
    )


def external(random: Random, node: Node) -> bytes:
    """Let values lie in another file, as far as the message has a place for that."""
    entry = encode(1, BYTES, b"location") + encode(2, BYTES, b"w.bin")
    return insert(
        random, node, [random.choice([encode(13, BYTES, entry), encode(14, 0, varint(random.choice([1, 2])))])]
    )


def damage(random: Random, node: Node) -> bytes:
    """Flip a bit, cut the end off, or append bytes."""
    content = bytearray(node.content)
    kind = random.randrange(3)
    if kind == 0 and content:
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
        return bytes(content)
    return bytes(content[: random.randint(0, len(content))]) if kind == 1 else bytes(content) + random.randbytes(3)


CHANGES: tuple[Callable[[Random, Node], bytes], ...] = (
    wide_tag, long_length, duplicate, split, wrong_wire, move, nest, rename, external, damage,
)  # fmt: skip


def make(seed: int, number: int) -> tuple[str, bytes, bool]:
    """Return what was done to which file, the bytes, and whether their meaning was kept."""
    random = Random(f"{seed}:{number}")
    name = random.choice(list(BASES))
    data, done = BASES[name], [name]
    keeping = number % 4 == 0
    for _ in range(random.randint(1, 3) if keeping else random.randint(0, 1)):
        data = changed(random, data, random.choice(KEEPING), done)
    for _ in range(0 if keeping else random.choice([1, 1, 1, 2])):
        try:
            data = changed(random, data, random.choice(CHANGES), done)
        except (ValueError, RecursionError):
            break  # the first change left no message that could be changed again
    return ", ".join(done), data, keeping


def changed(random: Random, data: bytes, change: Callable[[Random, Node], bytes], done: list[str]) -> bytes:
    """Return the file with one of its messages changed, and note in ``done`` what was done.

    Raises:
        ValueError, RecursionError: an earlier change left no file that can be taken apart.
    """
    tree = next((tree for name, tree in TREES.items() if BASES[name] is data), None) or take_apart(data)
    messages = list(places(tree))
    # There are many more shapes than graphs: choose the kind of message first, then one of it.
    kinds = sorted({node.descriptor.name for _, node in messages})
    kind = random.choice([*kinds, *(kind for kind in _PLACES if kind in kinds)])
    path, node = random.choice([place for place in messages if place[1].descriptor.name == kind])
    done.append(f"{change.__name__} {kind}")
    return replace(tree, path, change(random, node))


def check(case: tuple[str, bytes, bool]) -> str:
    """Read the bytes by the checks, by onnx, and, one time in four, by onnxruntime."""
    done, data, keeping = case
    try:
        reading = read_model(data)
    except ArtifactError as error:
        if keeping:
            return f"fault: refused though its meaning was kept ({done}): {error}"
        return "refused"
    try:
        proto = onnx.ModelProto.FromString(data)
    except DecodeError:
        # Numbers in one field are not looked at by the checks. onnxruntime must refuse them as onnx does.
        return "read, refused by onnx" if _metadata(data) is None else f"fault: onnxruntime reads it, onnx not ({done})"
    ours = {
        "calls": [list(operator) for operator in reading.calls],
        "functions": [list(function.operator) for function in reading.functions],
        "metadata": reading.metadata,
        "graphs": reading.graphs,
        "external": bool(reading.external),
    }
    theirs = _summary(proto)
    for what, expected in theirs.items():
        if ours[what] != expected:
            return f"fault: {what} differ ({done}): {json.dumps(ours[what])[:150]} / {json.dumps(expected)[:150]}"
    for function, expected in zip(reading.functions, proto.functions, strict=True):
        if onnx.FunctionProto.FromString(function.data) != expected:
            return f"fault: function {function.operator} differs ({done})"
    if len(data) % 4 == 0:
        metadata = _metadata(data)
        if metadata is not None and metadata != reading.metadata:
            return f"fault: onnxruntime has other metadata ({done}): {json.dumps(metadata)[:200]}"
    return "meaning kept, accepted" if keeping else "changed, accepted"


def _metadata(data: bytes) -> dict[str, str] | None:
    """Return the metadata that onnxruntime reads; None where it refuses the file."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        found: dict[str, str] = session.get_modelmeta().custom_metadata_map
    except Exception:
        return None
    return found


def _summary(proto: onnx.ModelProto) -> dict[str, Any]:
    return {
        "calls": list(_calls(proto.graph)),
        "functions": [[_domain(f.domain), f.name, f.overload] for f in proto.functions],
        "metadata": {entry.key: entry.value for entry in proto.metadata_props},
        "graphs": sum(isinstance(message, onnx.GraphProto) for message in _messages(proto)),
        "external": any(
            bool(message.external_data) or message.data_location != TensorProto.DEFAULT or _odd_location(message)
            for message in _messages(proto)
            if isinstance(message, TensorProto)
        ),
    }


def _odd_location(tensor: TensorProto) -> bool:
    """A place of values that this onnx does not know is kept with the unknown fields; the checks take it for a file."""
    fields = take_apart(tensor.SerializeToString(), TensorProto.DESCRIPTOR).items
    return any(item.number == 14 and item.wire == 0 for item in fields)


def _domain(text: str) -> str:
    return "" if text == "ai.onnx" else text


def _calls(graph: Any) -> Iterator[list[str]]:
    for node in graph.node:
        yield [_domain(node.domain), node.op_type, node.overload]
        for attribute in node.attribute:
            for nested in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _calls(nested)


def _messages(message: Any) -> Iterator[Any]:
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for nested in value if field.is_repeated else (value,):
                yield from _messages(nested)


def fuzz(seed: int, until: float, least: int) -> Tally:
    """Compare the readings of file after file."""
    sys.setrecursionlimit(5000)
    tally = Tally()
    for name, data in BASES.items():
        tally.add(f"walker {name} as it is", check((name, data, True)))
    cases = ((f"walker seed {seed} case {number}", make(seed, number)) for number in itertools.count())
    run_cases(check, cases, until=until, tally=tally, least=least)
    for verdict in ("meaning kept, accepted", "changed, accepted", "refused"):
        if not tally.verdicts[verdict] and tally.cases > 100:
            tally.add("walker", f"fault: no file was {verdict}: the fuzzer tests nothing")
    return tally
