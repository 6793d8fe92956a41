"""What the checks read and what onnxruntime reads is the same model, or the file is refused before it is opened."""

import hashlib
import re

import pytest

from lstm_edge_runtime.artifact import TRAILER_BYTES, append_trailer
from lstm_edge_runtime.errors import ArtifactError, IntegrityError
from lstm_edge_runtime.function_check import called_operators
from lstm_edge_runtime.model_reading import TornError, read_model
from lstm_edge_runtime.session import Session


def varint(value):
    digits = []
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


def padded(value, digits):
    """The number with needless digits, as no writer of protobuf leaves it."""
    return bytes([value >> 7 * place & 127 | 128 * (place < digits - 1) for place in range(digits)])


def field(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def attribute(name, graph):
    return field(5, field(1, name) + field(6, graph) + varint(20 << 3) + b"\x05")


def call(name=b"LinearInt8V1", domain=b"lstm_edge", rest=b""):
    """A node (1) of a graph: op_type (4), anything else, domain (7)."""
    return field(1, field(4, name) + rest + field(7, domain))


def function(name, domain, body=b"", rest=b""):
    return field(25, field(1, name) + body + field(10, domain) + rest)


def metadata(key, value=b""):
    return field(14, field(1, key) + field(2, value))


GRAPH = field(7, call())
OUTSIDE = field(13, field(1, b"location") + field(2, b"w.bin"))
# Numbers in one field or in one each: floats (7) and ints (8) of an attribute, dims (1) and float_data (4) of a tensor.
PACKED = field(7, bytes(8)) + varint(7 << 3 | 5) + bytes(4) + field(8, b"\x01\x02") + b"\x40\x01\x40\x02"
DIMS = b"\x08\x01\x08\x02" + field(1, b"\x03") + field(4, bytes(8)) + varint(4 << 3 | 5) + bytes(4)

REFUSED = {
    "tag of 35 bits": (padded((25 << 3 | 2) | 7 << 32, 5) + b"\x00", "a tag is a number of more than 32 bits in the"),
    "tag of 64 bits": (padded((25 << 3 | 2) | 7 << 60, 10) + b"\x00", "a tag is a number of more than 5 digits in the"),
    "padded tag": (padded(7 << 3 | 2, 2) + b"\x00", "a tag is a number with a needless digit (padded with zeros) in"),
    "padded length": (b"\x3a" + padded(2, 2) + b"\x0a\x00", "graph is a number with a needless digit"),
    "padded value": (b"\x08" + padded(8, 3), "ir_version is a number with a needless digit"),
    "group": (GRAPH + varint(30 << 3 | 3) + varint(30 << 3 | 4), "field 30 is a group (wire type 3)"),
    "group of a known number": (varint(25 << 3 | 3) + varint(25 << 3 | 4), "field 25 is a group (wire type 3)"),
    "two graphs, which protobuf merges": (GRAPH + field(7, call()), "graph is given twice in the model"),
    "two versions of the format": (b"\x08\x08\x08\x09", "ir_version is given twice in the model"),
    "two operators of a node": (
        field(7, field(1, field(4, b"Relu") + field(4, b"LinearInt8V1"))),
        "op_type is given twice in graph.node[0]",
    ),
    "two graphs of an attribute": (
        field(7, call(rest=field(5, field(1, b"body") + field(6, b"") + field(6, call())))),
        "g is given twice in graph.node[0].attribute[0]",
    ),
    "graph as a number": (varint(7 << 3) + b"\x01", "graph has the wire type 0, expected 2, in the model"),
    "version as bytes": (field(1, b"\x08"), "ir_version has the wire type 2, expected 0, in the model"),
    "two kinds of a type": (
        field(7, field(11, field(1, b"x") + field(2, field(1, b"\x08\x01") + field(4, b"")))),
        "sequence_type is given beside another field of which protobuf keeps only one, in graph.input[0].type",
    ),
    "metadata of one key": (metadata(b"lstm_edge") + metadata(b"lstm_edge", b"{}"), "metadata entry 'lstm_edge' is gi"),
    "functions of one name": (
        function(b"f", b"d") + function(b"f", b"d", field(7, b"")),
        "function 'd:f' is given twice in the model",
    ),
    "functions that onnxruntime keeps under one name": (
        function(b"b:c", b"a") + function(b"c", b"a:b"),
        "function 'a:b:c' is given twice in the model",
    ),
    "functions of a domain and its alias": (
        function(b"Relu", b"ai.onnx") + function(b"Relu", b""),
        "function ':Relu' is given twice in the model",
    ),
    "attributes of one name": (
        field(7, call(rest=attribute(b"body", b"") + attribute(b"body", call()))),
        "attribute 'body' is given twice in graph.node[0]",
    ),
    "opsets of one domain": (
        field(8, b"\x10\x12") + field(8, field(1, b"ai.onnx") + b"\x10\x0d"),
        "the domain '' is imported in the versions 18 and 13 in the model",
    ),
    "domain that is not UTF-8": (
        field(7, call(domain=b"lstm_edge\xff")),
        "domain is not UTF-8 text (b'lstm_edge\\xff')",
    ),
    "name of a NUL": (
        field(7, call(name=b"LinearInt8V1\0")),
        "op_type holds a control character ('LinearInt8V1\\x00')",
    ),
    "function of a NUL": (function(b"f", b"lstm_edge\0"), "domain holds a control character ('lstm_edge\\x00')"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_readers_take_in_different_ways_is_refused(name):
    data, sentence = REFUSED[name]
    with pytest.raises(ArtifactError, match=re.escape(f"the model cannot be read: {sentence}")) as caught:
        Session(append_trailer(data))
    assert "again" in str(caught.value)  # what to do
    assert not isinstance(caught.value, TornError)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (GRAPH[:-1], "graph declares 27 bytes where 26 are left in the model"),
        (GRAPH + b"\x08", "ir_version is cut off in the model"),
        (GRAPH + b"\x08" + b"\xff" * 10, "ir_version is a number of more than 10 digits"),
        (GRAPH + b"\0", "a field has the number 0, or bytes follow the last field, in the model"),
        (GRAPH + b"\x0c", "field 1 has the wire type 4 in the model"),
        (GRAPH + b"\x0e", "field 1 has the wire type 6 in the model"),
        (GRAPH + varint(99 << 3 | 1) + b"1234567", "field 99 declares 8 bytes where 7 are left in the model"),
        (field(7, b"\x0a\x05ab"), "node declares 5 bytes where 2 are left in graph"),
    ],
)
def test_what_is_no_message_is_no_onnx_file(data, what):
    with pytest.raises(
        TornError, match=re.escape("onnxruntime cannot read the model: it is not an ONNX file or a dama")
    ):
        Session(data)
    with pytest.raises(TornError, match=re.escape(what)):
        read_model(data)


@pytest.mark.parametrize(
    ("data", "graphs"),
    [
        (b"", 0),
        (GRAPH, 1),
        (metadata(b"a") + metadata(b"b") + GRAPH + b"\x08\x08", 1),  # any order
        (GRAPH + varint(99 << 3) + b"\x01" + field(98, b"\xff"), 1),  # fields of a later version
        (GRAPH + field(8, b"\x10\x12") + field(8, b"\x10\x12"), 1),  # one opset twice
        (field(7, call(rest=field(5, PACKED)) + field(5, DIMS)), 1),
        (GRAPH + field(6, b"\xe9 in Latin-1"), 1),  # a documentation string
        (GRAPH + field(20, field(1, call()) + field(2, b"")), 3),
    ],
)
def test_what_has_one_meaning_is_read(data, graphs):
    reading = read_model(data)
    assert reading.graphs == graphs
    assert called_operators(data) == ("LinearInt8V1",) * (graphs > 0)


NESTED = field(7, call(b"If", b"", attribute(b"then_branch", call())))


@pytest.mark.parametrize(
    "data",
    [
        NESTED,
        field(7, call(b"If", b"", field(5, field(1, b"body") + field(11, b"") + field(11, call())))),
        field(7, call(b"f", b"d")) + function(b"f", b"d", field(7, field(4, b"LinearInt8V1") + field(7, b"lstm_edge"))),
        # A default of a function's attribute holds a graph, too.
        field(7, call(b"f", b"d")) + function(b"f", b"d", field(11, field(1, b"body") + field(6, call()))),
    ],
)
def test_calls_are_found_wherever_nodes_are(data):
    assert called_operators(data) == ("LinearInt8V1",)


TENSOR = field(8, b"w") + OUTSIDE


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (field(7, field(5, TENSOR)), "graph.initializer[0]"),
        (field(7, field(5, varint(14 << 3) + b"\x01")), "graph.initializer[0]"),
        (field(7, field(15, field(1, TENSOR))), "graph.sparse_initializer[0].values[0]"),
        (field(7, field(1, field(5, field(5, TENSOR)))), "graph.node[0].attribute[0].t[0]"),
        (field(7, field(1, field(5, field(22, field(2, TENSOR))))), "graph.node[0].attribute[0].sparse_tensor[0]"),
        (field(7, field(1, field(5, field(23, field(1, TENSOR))))), "graph.node[0].attribute[0].sparse_tensors[0]"),
        (field(25, field(11, field(10, TENSOR))), "functions[0].attribute_proto[0].tensors[0]"),
        (
            field(25, field(1, b"f") + field(7, field(5, field(6, field(5, TENSOR))))),
            "functions[0].node[0].attribute[0].g.initializer",
        ),
        (field(20, field(1, field(5, TENSOR))), "training_info[0].initialization.initializer[0]"),
    ],
)
def test_a_tensor_in_another_file_is_found_wherever_it_is(data, where):
    assert [place[: len(where)] for place in read_model(data).external] == [where]
    with pytest.raises(ArtifactError, match=r"^its weights lie in another file: make it one file first"):
        Session(data)


def test_our_names_have_no_overloads():
    overload = field(8, b"mine")
    for data in (
        field(7, call(rest=overload)),
        field(25, field(1, b"LinearInt8V1") + field(10, b"lstm_edge") + field(13, b"mine")),
        function(b"f", b"d", field(7, field(4, b"LinearInt8V1") + field(7, b"lstm_edge") + overload)),
    ):
        with pytest.raises(ArtifactError, match=r"^the file uses the overload 'mine' of lstm_edge::LinearInt8V1"):
            Session(append_trailer(data))
    # onnxruntime keeps both under the name lstm_edge:LinearInt8V1:mine.
    with pytest.raises(
        ArtifactError, match=r"^the file uses lstm_edge::LinearInt8V1:mine, which this version does not"
    ):
        Session(append_trailer(function(b"mine", b"lstm_edge:LinearInt8V1")))


def test_a_model_in_a_model_of_onnxruntime_s_own_format_is_refused(models):
    """A protobuf field may hold a model in that format, which onnxruntime would have run in place of the ONNX one."""
    ort = b"\x32\x06\0\0ORTM" + (models / "exported_int8.onnx").read_bytes()[:-TRAILER_BYTES]
    with pytest.raises(ArtifactError, match=r"^the model is in onnxruntime's own format \(\.ort\): use the \.onnx"):
        Session(append_trailer(ort))


def test_a_trailer_inside_another_field_verifies_nothing():
    """The digest agrees, and no reader of protobuf sees the entry."""
    body = varint(6 << 3 | 2) + varint(TRAILER_BYTES)  # doc_string
    entry = b"\x72\x54\x0a\x10lstm_edge.sha256\x12\x40" + hashlib.sha256(body).hexdigest().encode()
    with pytest.raises(IntegrityError, match="lies inside another of its fields"):
        Session(body + entry)


def test_deep_messages_are_refused_without_a_crash():
    deep = b""
    for _ in range(5000):
        deep = field(4, field(1, deep))  # TypeProto.sequence_type.elem_type
    with pytest.raises(ArtifactError, match="graphs are nested more than 32 deep, or other messages more than 100"):
        read_model(field(7, field(11, field(2, deep))))


def test_the_table_of_messages_is_onnx_s():
    """A new version of onnx may add a place for nodes: then the table has to know it."""
    onnx = pytest.importorskip("onnx")
    from lstm_edge_runtime._onnx_schema import SCHEMAS, WIRE_TYPES

    kinds = {"int64": 0, "int32": 0, "enum": 0, "uint64": 0, "float": 5, "double": 1, "string": 2, "bytes": 2}
    types = {3: "int64", 4: "uint64", 5: "int32", 14: "enum", 2: "float", 1: "double", 9: "string", 12: "bytes"}
    seen, waiting = {}, [onnx.ModelProto.DESCRIPTOR]
    while waiting:
        descriptor = waiting.pop()
        name = descriptor.full_name.removeprefix("onnx.")
        if name in seen:
            continue
        seen[name] = descriptor
        waiting += [item.message_type for item in descriptor.fields if item.message_type]
    assert set(seen) == set(SCHEMAS)
    for name, descriptor in seen.items():
        ours = SCHEMAS[name].numbers
        assert {item.number: item.name for item in descriptor.fields} == {n: f.name for n, f in ours.items()}
        for item in descriptor.fields:
            field_ = ours[item.number]
            assert field_.repeated == item.is_repeated, (name, item.name)
            assert (field_.schema is None) == (item.message_type is None), (name, item.name)
            assert WIRE_TYPES[field_.kind] == (2 if item.message_type else kinds[types[item.type]]), (name, item.name)
            group = item.containing_oneof
            rivals = {item.number} if group is None else {other.number for other in group.fields}
            assert field_.bars == (0 if item.is_repeated else sum(1 << number for number in rivals)), (name, item.name)
