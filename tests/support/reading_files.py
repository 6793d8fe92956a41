"""Model files for the two readers, good and damaged, by name: each refusal of Python's reader has its files here."""

import hashlib
from pathlib import Path

from lstm_edge_runtime.artifact import TRAILER_BYTES, append_trailer
from support.wire import attribute, call, field, function, graph, metadata, node, number, padded, tensor, varint

__all__ = ["MODELS", "reading_files"]

_FOLDER = Path(__file__).parents[1] / "device" / "models"
MODELS = {path.name: path.read_bytes() for path in sorted(_FOLDER.glob("*.onnx"))}
_GRAPH = field(7, call())
_OUTSIDE = field(13, field(1, b"location") + field(2, b"w.bin"))
_TENSOR = field(8, b"w") + _OUTSIDE
_PACKED = field(7, bytes(8)) + varint(7 << 3 | 5) + bytes(4) + field(8, b"\x01\x02") + b"\x40\x01\x40\x02"
_DIMS = b"\x08\x01\x08\x02" + field(1, b"\x03") + field(4, bytes(8)) + varint(4 << 3 | 5) + bytes(4)
_PREFIX = b"\x72\x54\x0a\x10lstm_edge.sha256\x12\x40"


def _protobuf() -> dict[str, bytes]:
    """What protobuf's readers take in different ways, or cannot read, or read alike."""
    names = [b"\xff", b"lstm_edge\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"'\"\xfe\n\\"]
    numbers = {
        "of 64 bits": b"\xff" * 9 + b"\x01",
        "of 65 bits": b"\xff" * 9 + b"\x02",
        "of 11 digits": b"\xff" * 10 + b"\x01",
        "padded to 10": padded(8, 10),
        "cut off": b"\xff\xff",
        "none": b"",
    }
    lengths = {
        "of 32 bits": b"\xff\xff\xff\xff\x0f",
        "of 33 bits": b"\xff\xff\xff\xff\x1f",
        "of 6 digits": b"\xff\xff\xff\xff\xff\x01",
        "padded": padded(2, 2) + b"\x0a\x00",
    }
    return {
        "empty": b"",
        "tag of 35 bits": padded((25 << 3 | 2) | 7 << 32, 5) + b"\x00",
        "tag of 64 bits": padded((25 << 3 | 2) | 7 << 60, 10) + b"\x00",
        "padded tag": padded(7 << 3 | 2, 2) + b"\x00",
        "tag cut off": _GRAPH + b"\x80",
        "largest tag": varint(2**32 - 8) + b"\x01" + _GRAPH,
        **{f"value {title}": _GRAPH + b"\x08" + digits for title, digits in numbers.items()},
        **{f"unknown value {title}": _GRAPH + number(99, 0)[:-1] + digits for title, digits in numbers.items()},
        **{f"length {title}": b"\x3a" + digits for title, digits in lengths.items()},
        **{f"unknown length {title}": varint(99 << 3 | 2) + digits for title, digits in lengths.items()},
        "group": _GRAPH + varint(30 << 3 | 3) + varint(30 << 3 | 4),
        "group of a known number": varint(25 << 3 | 3) + varint(25 << 3 | 4),
        "two graphs": _GRAPH + field(7, call()),
        "two versions": b"\x08\x08\x08\x09",
        "two operators": field(7, field(1, field(4, b"Relu") + field(4, b"LinearInt8V1"))),
        "two operators, later": field(7, call() + call() + field(1, field(4, b"Relu") + field(4, b"LinearInt8V1"))),
        "two graphs of an attribute": field(
            7, call(rest=field(5, field(1, b"body") + field(6, b"") + field(6, call())))
        ),
        "graph as a number": varint(7 << 3) + b"\x01",
        "version as bytes": field(1, b"\x08"),
        "version of eight bytes": b"\x09" + bytes(8),
        "two kinds of a type": field(7, field(11, field(1, b"x") + field(2, field(1, b"\x08\x01") + field(4, b"")))),
        "two kinds of a dimension": field(
            7, field(12, field(2, field(1, field(2, field(1, number(1, 3) + field(2, b"time"))))))
        ),
        **{f"domain {name!r}": field(7, call(domain=name)) for name in names},
        "metadata that is no text": metadata(b"a", b"\xff") + _GRAPH,
        "documentation in Latin-1": _GRAPH + field(6, b"\xe9 in Latin-1"),
        "cut": _GRAPH[:-1],
        "tag without a value": _GRAPH + b"\x08",
        "zero": _GRAPH + b"\0",
        "wire type 4": _GRAPH + b"\x0c",
        "wire type 6": _GRAPH + b"\x0e",
        "wire type 7": _GRAPH + b"\x0f",
        "unknown of eight bytes cut": _GRAPH + varint(99 << 3 | 1) + b"1234567",
        "unknown of four bytes cut": _GRAPH + varint(99 << 3 | 5) + b"123",
        "node cut": field(7, b"\x0a\x05ab"),
        "float cut": field(7, call(rest=field(5, varint(2 << 3 | 5) + b"12"))),
        "double cut": field(7, field(5, varint(10 << 3 | 1) + b"12")),
        "any order": metadata(b"a") + metadata(b"b") + _GRAPH + b"\x08\x08",
        "fields of a later version": _GRAPH + varint(99 << 3) + b"\x01" + field(98, b"\xff"),
        "packed": field(7, call(rest=field(5, _PACKED)) + field(5, _DIMS)),
        "training": _GRAPH + field(20, field(1, call()) + field(2, b"")),
        "long bytes that are no text": field(7, call(domain=b"a'" * 19 + b"\xff\xfe\xfd")),
        "messages 101 deep": field(7, field(11, field(2, _sequences(48, field(4, b""))))),
        "messages 102 deep": field(7, field(11, field(2, _sequences(49, b"")))),
        "messages 200 deep": field(7, field(11, field(2, _sequences(120, b"")))),
        "long path": field(7, _nested(14, field(1, field(4, b"a") + field(4, b"b")))),
    }


def _sequences(depth: int, inner: bytes) -> bytes:
    """A TypeProto of sequences of sequences: two messages each."""
    for _ in range(depth):
        inner = field(4, field(1, inner))
    return inner


def _nested(depth: int, inner: bytes) -> bytes:
    for _ in range(depth):
        inner = call(b"If", b"", attribute(b"then_branch", inner))
    return inner


def _names() -> dict[str, bytes]:
    """Names that two tools would look up in different ways, or that no tool should print."""
    odd = ["\0", "x\x1b]0;owned\x07", "x\ny", "x\x7f", "x\x9b2J", "x\u202egnp.exe", "x\u2028y", "\ue000", "\U000e0001"]
    long = "é" * 50 + "\0" + "'\"" * 30
    return {
        **{f"operator {name!r}": field(7, call(name=name.encode())) for name in [*odd, long, "'\t", "it's \"\r"]},
        "printable operators": field(7, call("große µ 数 😀 '\"\\".encode())),
        "function of a NUL": function(b"f", b"lstm_edge\0"),
        "function of a newline": function(b"f\n", b"d"),
        "overload of a NUL": field(7, call(b"f", b"d", field(8, b"\0"))),
        "node 2 of function 1": function(b"f", b"d")
        + function(b"g", b"d", field(7, field(4, b"a")) + field(7, b"\x22\1\0")),
        "metadata of one key": metadata(b"lstm_edge") + metadata(b"lstm_edge", b"{}"),
        "metadata of one long key": metadata("é'".encode() * 60) * 2,
        "metadata without a key": field(14, b"") * 2,
        "functions of one name": function(b"f", b"d") + function(b"f", b"d", field(7, b"")),
        "functions of one key": function(b"b:c", b"a") + function(b"c", b"a:b"),
        "functions of a domain and its alias": function(b"Relu", b"ai.onnx") + function(b"Relu", b""),
        "functions with colons": function(b"f:", b"") + function(b"f", b"", rest=field(13, b":")),
        "attributes of one name": field(7, call(rest=attribute(b"body", b"") + attribute(b"body", call()))),
        "defaults of one name": function(b"f", b"d", field(11, field(1, b"a")) * 2),
        "nested attributes of one name": field(7, _nested(2, call(rest=field(5, field(1, b"a")) * 2))),
        "opsets of one domain": field(8, b"\x10\x12") + field(8, field(1, b"ai.onnx") + b"\x10\x0d"),
        "opsets of a negative version": field(8, b"\x10" + varint(2**64 - 1)) + field(8, b"\x10\x0d"),
        "opsets of a function": function(b"f", b"d", field(9, b"\x10\x12") + field(9, b"\x10\x0d")),
        "one opset twice": _GRAPH + field(8, b"\x10\x12") * 2,
        "onnxruntime's format": b"\x32\x06\0\0ORTM" + MODELS["exported_int8.onnx"],
        "onnxruntime's format, short": b"\x32\x06\0\0ORT",
        "graphs 32 deep": field(7, _nested(32, call())),
        "graphs 33 deep": field(7, _nested(33, b"")),
        "graphs 34 deep": field(7, _nested(34, b"")),
        "graphs 2,000 deep": field(7, _nested(2000, b"")),
    }


def _external() -> dict[str, bytes]:
    inner = field(5, _TENSOR)
    return {
        "weights outside": field(7, inner),
        "weights outside, by place": field(7, field(5, b"") + field(5, number(14, 1))),
        "weights inside, said twice over": field(7, field(5, number(14, 0))),
        "sparse weights outside": field(7, field(15, field(1, _TENSOR) + field(2, _TENSOR))),
        "constant outside": field(7, field(1, field(5, field(5, _TENSOR)))),
        "constants outside": field(7, field(1, field(5, field(10, _TENSOR) * 2))),
        "sparse constant outside": field(7, field(1, field(5, field(22, field(2, _TENSOR))))),
        "sparse constants outside": field(7, field(1, field(5, field(23, field(1, _TENSOR))))),
        "default outside": field(25, field(11, field(10, _TENSOR))),
        "function outside": field(25, field(1, b"f") + field(7, field(5, field(6, inner)))),
        "branch outside": field(7, _nested(3, inner)),
        "graphs outside": field(7, call(rest=field(5, field(11, b"") + field(11, inner)))),
        "training outside": field(20, field(2, inner)),
    }


def _chain(count: int, fan: int, *, last: str = "") -> bytes:
    """A graph that calls function 0, and functions that call the next one ``fan`` times each."""
    made = field(7, call(b"F0", b"d"))
    for at in range(count):
        name = f"F{at + 1}" if at < count - 1 else last
        body = field(7, field(4, (name or "Relu").encode()) + (field(7, b"d") if name else b"")) * fan
        made += function(f"F{at}".encode(), b"d", body)
    return made


def _functions() -> dict[str, bytes]:
    """Functions under our names, and functions whose inlining does not end."""
    whole = MODELS["exported_int8.onnx"][:-TRAILER_BYTES]
    version = b"\x4a\x04\x0a\x00\x10\x12\x52\x09lstm_edge"
    assert version in whole
    overload = field(8, b"mine")
    ours, relu = field(4, b"LinearInt8V1") + field(7, b"lstm_edge"), field(7, field(4, b"Relu"))
    itself = field(7, field(4, b"f") + field(7, b"d") + field(8, b"o"))
    many = field(7, call(b"F", b"d") * 100)
    lone = field(1, field(4, b"Relu"))
    return {
        **{
            f"our bodies at opset {opset}": whole.replace(version, version.replace(b"\x12\x52", bytes([opset, 0x52])))
            for opset in (0, 17, 19, 21, 127)
        },
        "our bodies changed": append_trailer(whole.replace(b"Round", b"Floor")),
        "our bodies unchanged": append_trailer(whole),
        "an unknown name": function(b"LstmTestV9", b"lstm_edge"),
        "an unknown long name": function("µ".encode() * 100, b"lstm_edge"),
        "another body": function(b"LinearInt8V1", b"lstm_edge", field(7, field(4, b"Change"))),
        "a body that ends like ours": function(b"LinearInt8V1", b"lstm_edge", b"\x4a\x04\x0a\x00\x10\x13"),
        "of another domain": function(b"LinearInt8V1", b"com.example") + function(b"x", b"lstm_edge.mine"),
        "no name": function(b"", b"lstm_edge"),
        "overload of a call": field(7, call(rest=overload)),
        "overloads of calls": field(7, call(rest=field(8, b"b")) + call(rest=field(8, "a\u00e9'".encode() * 30))),
        "overload of a function": field(25, field(1, b"LinearInt8V1") + field(10, b"lstm_edge") + field(13, b"mine")),
        "overload in a function": function(b"f", b"d", field(7, ours + overload)),
        "overload by colons": function(b"mine", b"lstm_edge:LinearInt8V1"),
        "calls in a function": field(7, call(b"f", b"d"))
        + function(b"f", b"d", field(7, ours) * 2 + relu),
        "calls in a default": field(7, call(b"f", b"d"))
        + function(b"f", b"d", field(11, field(1, b"b") + field(6, call()))),
        "calls in a branch": field(7, _nested(1, call()) + call(b"GruInt8V1")),
        "calls in graphs": field(7, call(b"If", b"", field(5, field(1, b"body") + field(11, b"") + field(11, call())))),
        "itself": _chain(1, 1, last="F0"),
        "a circle": _chain(5, 2, last="F2"),
        "itself, with an overload": field(25, field(1, b"f") + field(10, b"d") + field(13, b"o") + itself),
        "100 deep": _chain(100, 1),
        "101 deep": _chain(101, 1),
        "500 deep": _chain(500, 1),
        "doubled 14 times": _chain(14, 2),
        "doubled 15 times": _chain(15, 2),
        "doubled 20 times": _chain(20, 2),
        "doubled 90 times": _chain(90, 2),
        "empty at the end": _chain(3, 2, last="F3") + function(b"F3", b"d"),
        "grown as a large file may": field(7, call(b"F", b"d") * 500 + lone * 2500)
        + function(b"F", b"d", relu * 55),
        "grown as a large file may not": field(7, call(b"F", b"d") * 500 + lone * 2500)
        + function(b"F", b"d", relu * 57),
        "grown as much as it may": many + function(b"F", b"d", relu * 250),
        "grown by one more": field(7, call(b"F", b"d") * 100 + lone) + function(b"F", b"d", relu * 250),
    }  # fmt: skip


def _trailers() -> dict[str, bytes]:
    small = MODELS["accumulator.onnx"]
    body = small[:-TRAILER_BYTES]
    inside = varint(6 << 3 | 2) + varint(TRAILER_BYTES)  # doc_string
    return {
        **{f"trailer without {cut} bytes": small[:-cut] for cut in (1, 2, 40, 64, 65, 66, 80, 82, 83, 84, 85, 86)},
        **{f"trailer with byte {at} flipped": _flipped(small, len(small) - at) for at in (1, 64, 65, 70, 86, 87, 500)},
        "no trailer": body,
        "trailer with ten bytes left": body + _PREFIX[:10] + bytes(12) + small[-64:],
        "trailer with eleven bytes left": body + _PREFIX[:11] + bytes(11) + small[-64:],
        "trailer twice": append_trailer(body) + small[-TRAILER_BYTES:],
        "trailer inside": small + metadata(b"note", b"x" * 100),
        "trailer in a documentation": inside + _PREFIX + hashlib.sha256(inside).hexdigest().encode(),
        "trailer alone": append_trailer(b""),
        "start of a trailer": _PREFIX[:4],
        "start of a start": _PREFIX[:3],
        "a cut trailer behind something like one": body + _PREFIX[:4] + b"x" + _PREFIX[:5],
        "digits in capitals": body + _PREFIX + b"ABC",
    }


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def _dense(
    rows: int, columns: int, weights: bytes, *, dims: bytes | None = None, dtype: int = 3, op: str = "LinearInt8V1"
) -> bytes:
    sizes = number(1, rows) + number(1, columns) if dims is None else dims
    stored = sizes + number(2, dtype) + field(8, b"w") + field(9, weights)
    return graph([node(op, ["x", "w", "s"], ["y"], field(7, b"lstm_edge"))], [stored])


def _columns() -> dict[str, bytes]:
    """Sums of columns: at the limit, above it, and what is left to onnxruntime."""
    full, rest = b"\x7f" * 1040, 132_104 - 127 * 1040
    limit, above = full + bytes([rest]), full + bytes([rest + 1])
    minus = b"\x80" * 1041
    stored = tensor("w", 3, [1041, 1], above)
    ours = field(7, b"lstm_edge")
    user = node("LinearInt8V1", ["x", "w"], ["y"], ours)
    constant = node("Constant", [], ["w"], field(5, field(1, b"value") + field(5, stored)))
    last = b"".join(bytes([0, a, 0]) for a in above)
    return {
        "column at the limit": _dense(1041, 1, limit),
        "column above the limit": _dense(1041, 1, above),
        "column of -128": _dense(1041, 1, minus),
        "column of -128, few rows": _dense(1040, 1, minus[:1040]),
        "second column above": _dense(1041, 3, last),
        "packed sizes": _dense(1041, 1, above, dims=field(1, b"\x91\x08\x01")),
        "torn sizes": _dense(1041, 1, above, dims=field(1, b"\x91\x08\x81")),
        "sizes torn at their end": _dense(1041, 1, above, dims=field(1, b"\x91\x08\x01\x81")),
        "padded sizes": _dense(1041, 1, above, dims=field(1, b"\x91\x08\x81\x00")),
        "three sizes": _dense(1041, 1, above, dims=number(1, 1041) + number(1, 1) * 2),
        "no sizes": _dense(1041, 1, above, dims=b""),
        "sizes of no columns": _dense(2**40, 0, b""),
        "sizes of endless rows": _dense(2**63, 0, b""),
        "sizes that overflow": _dense(2**63, 2, b""),
        "negative sizes": _dense(2**64 - 1, 2**64 - 1, b"\x01"),
        "too few weights": _dense(1041, 2, above),
        "another dtype": _dense(1041, 1, above, dtype=2),
        "another operator": _dense(1041, 1, above, op="LinearInt4V1"),
        "a long name": graph(
            [node("LinearInt8V1", ["é'" * 60], ["y"], ours)], [tensor("é'" * 60, 3, [1041, 1], above)]
        ),
        "constant above": graph([constant, user]),
        "constant and initializer": graph([constant, user], [tensor("w", 3, [1041, 1], limit)]),
        "two initializers": graph([user], [stored, tensor("w", 3, [1041, 1], limit)]),
        "outer above": field(7, field(5, stored) + call(b"If", b"", attribute(b"b", field(1, user)))),
        "outer above, inner below": field(
            7,
            field(5, stored)
            + call(b"If", b"", attribute(b"b", field(1, user) + field(5, tensor("w", 3, [1, 1], b"a")))),
        ),
        "graphs above": field(
            7, call(b"If", b"", field(5, field(11, b"") + field(11, field(1, user) + field(5, stored))))
        ),
        "no name": graph([node("LinearInt8V1", [""], ["y"], ours)], [tensor("", 3, [1041, 1], above)]),
        "constant without an output": graph([node("Constant", [], [], field(5, field(5, stored))), user]),
    }


def _int32(*numbers: int) -> bytes:
    return b"".join(one.to_bytes(4, "little", signed=True) for one in numbers)


def _sparse_model(op: str = "LstmSparseInt8V1", **changed: bytes) -> bytes:
    """A node with one sparse matrix of 9 rows and 20 cells (80 scales): 3 by 8 blocks, places 0..23."""
    tensors = {
        "w": tensor("w", 3, [2, 4, 16], b"\x01" * 128),
        "w_scale": tensor("w_scale", 1, [80], bytes(320)),
        "w_index": tensor("w_index", 6, [2], _int32(3, 5)),
        "w_rows": tensor("w_rows", 7, [1], (9).to_bytes(8, "little")),
    } | changed
    return graph([node(op, ["x", *tensors, "b"], ["y"], field(7, b"lstm_edge"))], tensors.values())


def _rows(*numbers: int, dims: tuple[int, ...] | None = None) -> bytes:
    raw = b"".join(one.to_bytes(8, "little", signed=True) for one in numbers)
    return tensor("w_rows", 7, (len(numbers),) if dims is None else dims, raw)


def _sparse() -> dict[str, bytes]:
    """Numbers and shapes of sparse blocks, right and wrong."""

    def index(*numbers: int) -> dict[str, bytes]:
        return {
            "w": tensor("w", 3, [len(numbers), 4, 16], bytes(64 * len(numbers))),
            "w_index": tensor("w_index", 6, [len(numbers)], _int32(*numbers)),
        }

    wrong = [(-1,), (24,), (3, 3), (5, 4), (2**31 - 1,), (-(2**31),), (0, 24), (-1, 2), ()]
    many = list(range(262))  # one column of blocks of 1,048 rows
    weights = b"".join((b"\0" * 2 + b"\x7f" + b"\0" * 13) * 4 for _ in many)
    above = {
        "w": tensor("w", 3, [262, 4, 16], weights),
        "w_index": tensor("w_index", 6, [262], _int32(*many)),
        "w_rows": _rows(1048),
    }
    apart = above | {"w_index": tensor("w_index", 6, [262], _int32(*range(131), *range(262, 393)))}
    return {
        "sparse": _sparse_model(),
        **{f"sparse places {numbers}": _sparse_model(**index(*numbers)) for numbers in [*wrong, (0,), (23,), (0, 23)]},
        "sparse of -128": _sparse_model(w=tensor("w", 3, [2, 4, 16], b"\x80" * 128)),
        "sparse column above": _sparse_model(**above),
        "sparse columns apart": _sparse_model(**apart),
        "sparse of one gate": _sparse_model("RnnSparseInt8V1", w_scale=tensor("w_scale", 1, [1], bytes(4))),
        "sparse of three gates": _sparse_model("GruSparseInt8V1"),
        "sparse of no gates": _sparse_model("SparseInt8V1"),
        "sparse of another letter": _sparse_model("XSparseInt8V1"),
        "sparse with few scales": _sparse_model(w_scale=tensor("w_scale", 1, [3], bytes(12))),
        "sparse with no scales": _sparse_model(w_scale=tensor("w_scale", 1, [0], b"")),
        **{
            f"sparse rows {rows}": _sparse_model(w_rows=_rows(*rows))
            for rows in [(0,), (-4,), (2**18,), (2**18 + 1,), (2**62,), (9, 9), (), (1, 2, 3, 4)]
        },
        "sparse rows without an axis": _sparse_model(w_rows=_rows(9, dims=())),
        "sparse blocks of another shape": _sparse_model(w=tensor("w", 3, [2, 16, 4], bytes(128))),
        "sparse blocks of four axes": _sparse_model(w=tensor("w", 3, [2, 4, 16, 1], bytes(128))),
        "sparse blocks of two axes": _sparse_model(w=tensor("w", 3, [2, 64], bytes(128))),
        "sparse blocks of many axes": _sparse_model(w=tensor("w", 3, [2, *[1] * 100, 64], bytes(128))),
        "sparse blocks of endless axes": _sparse_model(w=tensor("w", 3, [2**63] * 100, bytes(128))),
        "sparse blocks of float32": _sparse_model(w=tensor("w", 1, [2, 4, 16], bytes(512))),
        "sparse blocks of uint8": _sparse_model(w=tensor("w", 2, [2, 4, 16], bytes(128))),
        "sparse scales of int64": _sparse_model(w_scale=tensor("w_scale", 7, [80], bytes(640))),
        "sparse scales without an axis": _sparse_model("RnnSparseInt8V1", w_scale=tensor("w_scale", 1, [], bytes(4))),
        "sparse rows of float32": _sparse_model(w_rows=tensor("w_rows", 1, [1], bytes(4))),
        "sparse rows of int32": _sparse_model(w_rows=tensor("w_rows", 6, [1], _int32(9))),
        "sparse index of int64": _sparse_model(w_index=tensor("w_index", 7, [2], bytes(16))),
        "sparse index without an axis": _sparse_model(w_index=tensor("w_index", 6, [], _int32(3))),
        "sparse index of two axes": _sparse_model(w_index=tensor("w_index", 6, [1, 2], _int32(3, 5))),
        "sparse index of no size and endless": _sparse_model(w_index=tensor("w_index", 6, [0, 2**63, 2**63], b"")),
        "sparse without blocks": _sparse_model(w=tensor("other", 3, [2, 4, 16], bytes(128))),
        "sparse without content": _sparse_model(w=number(1, 2) + number(2, 3) + field(8, b"w")),
        "sparse with too many bytes": _sparse_model(w_index=tensor("w_index", 6, [2], bytes(12))),
        "sparse with too few bytes": _sparse_model(w_index=tensor("w_index", 6, [2], bytes(7))),
    }


def reading_files() -> dict[str, bytes]:
    """Return all files by a name that is unique."""
    parts = (_protobuf(), _names(), _external(), _functions(), _trailers(), _columns(), _sparse())
    return MODELS | {f"{build}: {name}": data for build, part in enumerate(parts) for name, data in part.items()}
