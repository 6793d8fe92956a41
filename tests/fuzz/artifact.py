"""What may a whole artifact do that was changed field by field and signed anew? Answer, or end in an error of ours.

Each mutant is opened, described, run, streamed, tested by its golden vectors, and judged against the honest file on a
small data set. A case is made again from its label: ``make(seed, number)``.
"""

import base64
import contextlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from foreign import foreign_model
from sandbox import Tally, run_cases
from walker import CHANGES, KEEPING, changed
from wire import BYTES, NUMBERS, Item, Node, encode, places, replace, take_apart, varint

from lstm_edge.data import Dataset
from lstm_edge.data.text import TextData
from lstm_edge.validation.judge import Judge
from lstm_edge_runtime.artifact import GOLDEN_KEY, TRAILER_BYTES, TRAILER_KEY, append_trailer
from lstm_edge_runtime.card import BATCH, CARD_KEY, TIME, TensorSpec
from lstm_edge_runtime.commands.device import describe
from lstm_edge_runtime.errors import LstmEdgeError
from lstm_edge_runtime.selftest import self_test
from lstm_edge_runtime.session import Session

__all__ = ["check", "fuzz", "make"]

MODELS = Path(__file__).resolve().parents[1] / "device" / "models"
FILES = (
    "tagger", "lengths", "last_step", "two_inputs", "each_call", "language_model",
    "exported_float32", "exported_int8", "exported_full_lengths_int8", "exported_last_step_int8",
    "kept_condition", "kept_padded", "kept_ragged",
    "foreign",
)  # fmt: skip
HONEST = {name: (MODELS / f"{name}.onnx").read_bytes() for name in FILES[:-1]}
HONEST["foreign"] = append_trailer(foreign_model())
BODIES = {name: data[:-TRAILER_BYTES] for name, data in HONEST.items()}
TREES = {name: take_apart(data) for name, data in BODIES.items()}
_MOST_ELEMENTS = 100_000
_INTEGERS = (0, 1, 2, -1, 7, 127, 255, 2**31 - 1, 2**31, -(2**31), 2**63 - 1, -(2**63), 2**40, 3, 5, 18, 19)
_JSON: tuple[Any, ...] = (
    None, True, 0, 1, -1, 2**31, 2**63, 10**30, 0.5, -1.5, 1e308, float("inf"), float("nan"), "", "x", "lstm.0.h",
    "batch", "time", "float32", "int64", "\x1b[2J", "é" * 50, "A" * 5000, "\ud800", [], {}, [[]], [1, 2, 3], ["a", "a"],
    {"": None},
)  # fmt: skip
_OPERATORS = (
    "Add", "Mul", "Relu", "LSTM", "GRU", "RNN", "Gather", "Reshape", "Concat", "Slice", "Expand", "Tile", "Cast",
    "ConstantOfShape", "Range", "Transpose", "Squeeze", "Unsqueeze", "Where", "Scan", "Loop", "If", "Pad", "Conv",
    "ReduceSum", "Softmax", "Split", "TopK", "OneHot", "NonZero", "Resize", "Einsum", "ReverseSequence", "Shape",
    "Identity", "MatMul", "Gemm", "CumSum", "ScatterND", "GatherND", "LinearInt8V1", "DynamicQuantizeLSTM",
)  # fmt: skip


# Changes of a graph: each takes a message and returns its new bytes.
def change_number(random: Random, node: Node) -> bytes:
    """Write another number: an attribute's, a dimension, a version, an element of a packed array."""

    def other(item: Item) -> bytes:
        wire = NUMBERS[item.field.type]
        if wire == 5:
            value = np.float32(random.choice([0, 1, -1, 1e30, np.inf, np.nan, 1e-40])).tobytes()
        elif wire == 1:
            value = np.float64(random.choice([0, 1, 1e300, np.nan])).tobytes()
        else:
            value = varint(random.choice(_INTEGERS) % 2**64)
        return encode(item.number, item.wire, value)

    return _exchange(random, node, [i for i, item in enumerate(node.items) if _type(item) in NUMBERS], other)


def change_text(random: Random, node: Node) -> bytes:
    """Write another name, or one that something else in the file has."""
    taken = [item.payload for name in TREES for item in TREES[name].items if item.node is None][:3]
    names = [item.payload for _, part in _SOME_PLACES for item in part.items if _type(item) == 9]
    pool = [*random.sample(names, 8), *taken, b"", b"batch", *(name.encode() for name in random.sample(_OPERATORS, 8))]

    return _exchange(
        random,
        node,
        [i for i, item in enumerate(node.items) if _type(item) == 9],
        lambda item: encode(item.number, BYTES, random.choice(pool)),
    )


def change_bytes(random: Random, node: Node) -> bytes:
    """Flip bits of weights or strings, cut them, or make them longer."""

    def other(item: Item) -> bytes:
        payload = bytearray(item.payload)
        for _ in range(random.choice([1, 1, 8, 64])):
            if payload:
                payload[random.randrange(len(payload))] ^= 1 << random.randrange(8)
        kind = random.randrange(4)
        if kind == 0:
            payload = payload[: random.randint(0, len(payload))]
        elif kind == 1:
            payload += bytes(random.choice([1, 4, 64]))
        return encode(item.number, BYTES, bytes(payload))

    return _exchange(random, node, [i for i, item in enumerate(node.items) if _type(item) == 12], other)


def shuffle_fields(random: Random, node: Node) -> bytes:
    """Drop a field, double it, or let two fields of one number change places."""
    raws = [item.raw for item in node.items]
    if not raws:
        return b""
    kind, at = random.randrange(3), random.randrange(len(raws))
    if kind == 0:
        del raws[at]
    elif kind == 1:
        raws.insert(random.randint(0, len(raws)), raws[at])
    else:
        other = random.choice([i for i, item in enumerate(node.items) if item.number == node.items[at].number])
        raws[at], raws[other] = raws[other], raws[at]
    return b"".join(raws)


def _type(item: Item) -> int:
    return -1 if item.field is None else int(item.field.type)


def _exchange(random: Random, node: Node, indices: list[int], other: Any) -> bytes:
    if not indices:
        return shuffle_fields(random, node)
    at = random.choice(indices)
    return b"".join(other(item) if index == at else item.raw for index, item in enumerate(node.items))


_SOME_PLACES = [place for tree in TREES.values() for place in itertools.islice(places(tree), 200)]
# Which messages a change is tried on: the graph's shapes are many, and rarely interesting.
_TARGETS = ("AttributeProto", "NodeProto", "TensorProto", "GraphProto", "Dimension", "OperatorSetIdProto", "ModelProto")
_GRAPH_CHANGES = (change_number, change_number, change_text, change_bytes, shuffle_fields)


def change_graph(random: Random, data: bytes, done: list[str]) -> bytes:
    """Change one message of the graph."""
    tree = next((tree for name, tree in TREES.items() if BODIES[name] is data), None) or take_apart(data)
    target = random.choice(_TARGETS)
    found = [
        (path, node)
        for path, node in places(tree)
        if node.descriptor.name == target and not (path and tree.items[path[0]].number in (14, 25))
    ]
    if not found:
        return data
    path, node = random.choice(found)
    change = random.choice(_GRAPH_CHANGES)
    done.append(f"{change.__name__} {target}")
    return replace(tree, path, change(random, node))


def change_json(random: Random, document: Any) -> Any:
    """Change one value of a JSON document in place: another value, one left out, one more, one twice."""
    owner, key = random.choice(list(_places_of(document)) or [([document], 0)])
    kind = random.randrange(10)
    if kind == 0:
        del owner[key]
    elif kind == 1 and isinstance(owner, dict):
        owner[random.choice(["extra", "", "schema", "axes"])] = owner[key]
    elif kind == 1:
        owner.append(owner[key])
    elif kind < 4 and isinstance(owner[key], int | float):
        owner[key] *= random.choice([-1, 0, 2, 10**6, 10**12, 10**30, 0.5])
    elif kind < 4 and isinstance(owner[key], str):
        owner[key] += random.choice(["\0", " ", "x" * 100, "\u202e"])
    else:
        owner[key] = random.choice(_JSON)
    return document


def _places_of(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each place of a value in a document: the container and its key."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    for key in keys:
        yield value, key
        yield from _places_of(value[key])


def change_metadata(random: Random, data: bytes, done: list[str]) -> bytes:
    """Change the card or the golden vectors, as JSON or as text."""
    tree = take_apart(data)
    key = random.choice([CARD_KEY, CARD_KEY, GOLDEN_KEY])
    for index, item in enumerate(tree.items):
        if item.number != 14 or item.node is None or item.node.items[0].payload != key.encode():
            continue
        text = _changed_text(random, item.node.items[1].payload, done, key)
        content = encode(1, BYTES, random.choice([key] * 9 + [TRAILER_KEY]).encode()) + encode(2, BYTES, text)
        return replace(tree, (index,), content)
    return data


def _changed_text(random: Random, text: bytes, done: list[str], key: str) -> bytes:
    kind = random.randrange(12)
    try:
        document = json.loads(text)
    except ValueError:
        kind = 0
    if kind == 0:
        changed_text = bytearray(text)
        for _ in range(random.choice([1, 3])):
            changed_text[random.randrange(len(changed_text))] = random.randrange(256)
        done.append(f"bytes of {key}")
        return bytes(changed_text)
    if kind < 6 and key == GOLDEN_KEY and isinstance(document, dict) and isinstance(document.get("npz"), str):
        archive = bytearray(base64.b64decode(document["npz"]))
        for _ in range(random.choice([1, 1, 4])):
            archive[random.randrange(len(archive))] ^= 1 << random.randrange(8)
        document["npz"] = base64.b64encode(archive).decode()
        done.append("bytes of the golden archive")
        return json.dumps(document).encode()
    done.append(f"json of {key}")
    for _ in range(random.choice([1, 1, 2])):
        document = change_json(random, document)
    return json.dumps(document, ensure_ascii=kind % 2 == 0).encode("utf-8", "surrogatepass")


def make(seed: int, number: int) -> tuple[str, str, bytes]:
    """Return the name of the honest file, what was done to it, and the mutant's bytes, signed."""
    random = Random(f"{seed}:{number}")
    name = random.choice(FILES)
    data, done = BODIES[name], [name]
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        try:
            kind = random.randrange(10)
            if kind < 5:
                data = change_graph(random, data, done)
            elif kind < 8:
                data = change_metadata(random, data, done)
            elif kind == 8:
                data = changed(random, data, random.choice([*KEEPING, *CHANGES]), done)
            else:
                flipped = bytearray(data)
                flipped[random.randrange(len(flipped))] ^= 1 << random.randrange(8)
                data = bytes(flipped)
                done.append("a flipped bit")
        except (ValueError, RecursionError):
            break  # the change before left nothing that could be taken apart
    with contextlib.suppress(LstmEdgeError):  # a trailer was moved to the end
        data = append_trailer(data)
    return name, ", ".join(done), data


def _data(name: str) -> Dataset | TextData:
    """A small data set that the honest file can be judged on: three sequences, of a class each or a class a step."""
    session, random = Session(HONEST[name]), np.random.default_rng(0)
    if session.card is not None and session.card.vocabulary is not None:
        letters = [token for token in session.card.vocabulary if len(token) == 1]
        return TextData(name="text", text="".join(random.choice(letters, 300)))
    (feed,), (output,) = session.inputs, session.outputs
    lengths = np.array([3, 1, 4], np.int64)
    x = random.standard_normal((8, int(feed.axes[-1]))).astype(np.float32)
    per_step = TIME in output.axes
    y = random.integers(0, int(output.axes[-1]), 8 if per_step else 3)
    return Dataset(name="data", x=x, lengths=lengths, y=y, per_step=per_step)


_JUDGES: dict[str, Judge] = {}


def _judge(name: str) -> Judge:
    """Return the honest file's judge, which has run it once."""
    if name not in _JUDGES:
        data = _data(name)
        metric = "perplexity" if isinstance(data, TextData) else "accuracy"
        _JUDGES[name] = Judge(HONEST[name], data, metric=metric)
        _JUDGES[name].judge(HONEST[name], max_drop="100%")
    return _JUDGES[name]


# What each honest file must come to; the rest have several inputs, or no card.
_ENDS = {
    "two_inputs": "self-test", "each_call": "self-test", "foreign": "run",
    "kept_condition": "self-test", "kept_padded": "self-test", "kept_ragged": "self-test",
}  # fmt: skip
JUDGED = tuple(name for name in FILES if name not in _ENDS)


def _example(spec: TensorSpec) -> np.ndarray[Any, Any] | None:
    """An input of one row and two steps; None where the model wants one that is too large to try."""
    shape = [{BATCH: 1, TIME: 2}.get(axis, 1) if isinstance(axis, str) else axis for axis in spec.axes]
    if any(axis < 0 for axis in shape) or np.prod(shape, dtype=np.float64) > _MOST_ELEMENTS:
        return None
    return np.ones(shape, spec.dtype)


def check(case: tuple[str, str, bytes]) -> str:
    """Do everything that a file is for, and say how far it came; every error but ours is a fault."""
    name, done, data = case
    try:
        session = Session(data, kernels="auto" if len(data) % 2 else "off")
    except LstmEdgeError as error:
        return "refused" if str(error) else f"fault: an empty message ({done})"
    json.dumps(describe(session).to_json())
    came = [
        word
        for word, step in (("run", _run), ("stream", _stream), ("self-test", self_test), ("validate", None))
        if _succeeds(step, session, name, data)
    ]
    return f"opened, {came[-1]} succeeded" if came else "opened, then refused"


def _succeeds(step: Any, session: Session, name: str, data: bytes) -> bool:
    try:
        if step is not None:
            step(session)
        elif name in JUDGED:
            _judge(name).judge(data, max_drop="100%")
        else:
            return False
    except LstmEdgeError:
        return False
    return True


def _run(session: Session) -> None:
    inputs = {spec.name: _example(spec) for spec in session.inputs}
    if all(array is not None for array in inputs.values()):
        session.run({key: array for key, array in inputs.items() if array is not None})


def _stream(session: Session) -> None:
    stream = session.stream()
    inputs = {spec.name: _example(spec) for spec in session.inputs}
    given = {key: array for key, array in inputs.items() if array is not None}
    if len(given) == len(inputs):
        for _ in range(2):
            stream.push(given if len(given) != 1 else next(iter(given.values())))
        stream.restore(stream.snapshot())
        stream.flush()


def fuzz(seed: int, until: float, least: int) -> Tally:
    """Try mutant after mutant; the honest files come first, and must pass everything."""
    tally = Tally()
    for name, data in HONEST.items():
        verdict = check((name, name, data))
        wanted = f"opened, {_ENDS.get(name, 'validate')} succeeded"
        tally.add(f"artifact {name}", verdict if verdict == wanted else f"fault: expected {wanted!r}, got {verdict!r}")
    cases: Iterator[tuple[str, Any]] = ((f"artifact seed {seed} case {n}", make(seed, n)) for n in itertools.count())
    run_cases(check, cases, until=until, tally=tally, least=least)
    return tally
