"""Are a file's ``lstm_edge`` functions the ones that docs/operators.md fixes, and is it whole? Read without onnx.

A kernel takes over a node by its operator's name, so a file with another body under that name would mean something
else on a device with kernels than on one without. Such a file is refused.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping

from lstm_edge_runtime._function_digests import DIGESTS
from lstm_edge_runtime.errors import ArtifactError

__all__ = ["called_operators", "check_calls", "check_functions", "check_whole"]

Operator = tuple[str, str]  # domain and name

DOMAIN = b"lstm_edge"

# Field numbers of onnx.proto: ModelProto.functions, FunctionProto.name and FunctionProto.domain.
_FUNCTIONS, _NAME, _FUNCTION_DOMAIN = 25, 1, 10
_IMPORT, _END = b"\x4a\x04\x0a\x00\x10", b"\x52\x09" + DOMAIN
# ModelProto.graph, GraphProto.node; NodeProto.op_type, .attribute and .domain; AttributeProto.g and .graphs.
_GRAPH, _NODE, _OP_TYPE, _ATTRIBUTE, _NODE_DOMAIN, _SUBGRAPHS = 7, 1, 4, 5, 7, (6, 11)
# FunctionProto.node; GraphProto.initializer and .sparse_initializer; AttributeProto.t and .tensors;
# TensorProto.external_data.
_FUNCTION_NODE, _INITIALIZER, _SPARSE, _TENSORS, _EXTERNAL_DATA = 7, 5, 15, (5, 10), 13
# Exporters nest graphs four deep (a published VAD); a protobuf reader stops at about 33.
_DEEPEST_NESTING = 32
# onnxruntime stops at calls of 100 functions in one another, but 40 functions that each call the next one twice keep
# it inlining for hours.
_DEEPEST_CALLS, _MOST_INLINED_NODES = 100, 1_000_000
_VARINT, _FIXED64, _BYTES, _GROUP, _END_OF_GROUP, _FIXED32 = range(6)


def check_functions(model: bytes) -> None:
    """Compare each function of the domain ``lstm_edge`` with the SHA-256 of the one that its name stands for.

    Args:
        model: a serialized ModelProto; bytes that are none are left to onnxruntime, which says so.

    Raises:
        ArtifactError: a name that this version does not know, or another body than the name's; or functions of any
            domain whose inlining would not end.
    """
    _check_calls_of(model)
    for field, function in _fields(memoryview(model)):
        if field != _FUNCTIONS:
            continue
        parts = dict(_fields(function))
        if bytes(parts.get(_FUNCTION_DOMAIN, b"")) != DOMAIN:
            continue
        name = bytes(parts.get(_NAME, b"")).decode("utf-8", "replace")
        if name not in DIGESTS:
            raise ArtifactError(f"the file uses lstm_edge::{name}, which this version does not know: update lstm-edge")
        if hashlib.sha256(_at_opset_18(bytes(function))).hexdigest() != DIGESTS[name]:
            raise ArtifactError(
                f"the file's body of lstm_edge::{name} is not the one that this name stands for: export the model again"
            )


def _at_opset_18(function: bytes) -> bytes:
    """Return the function as a file of opset 18 has it.

    A function imports the opset of its file, and the bodies mean the same from 18 on; digests are of 18. It stands
    in field 9 (domain "", version), right before field 10, the function's domain, which ends a serialized function.
    """
    version = len(function) - len(_END) - 1
    known = function.endswith(_END) and function[:version].endswith(_IMPORT) and 18 <= function[version] < 128
    return function[:version] + b"\x12" + _END if known else function


def check_whole(model: bytes) -> None:
    """Refuse a model with weights in another file: onnxruntime would look for that in the current folder.

    Args:
        model: a serialized ModelProto; bytes that are none are left to onnxruntime, which says so.

    Raises:
        ArtifactError: a weight lies in another file.
    """
    tensors = (part for kind, part in _walk_model(model) if kind == "tensor")
    if any(field == _EXTERNAL_DATA for tensor in tensors for field, _ in _fields(tensor)):
        raise ArtifactError(
            "its weights lie in another file: make it one file first, on a machine that has onnx, with "
            'onnx.save(onnx.load("model.onnx"), "whole.onnx")'
        )


def _walk_model(model: bytes) -> Iterator[tuple[str, memoryview]]:
    """Yield each ``("node", bytes)`` and ``("tensor", bytes)`` of a model, of its functions too."""
    for field, part in _fields(memoryview(model)):
        if field in (_GRAPH, _FUNCTIONS):
            yield from _walk(part, _NODE if field == _GRAPH else _FUNCTION_NODE)


def _walk(graph: memoryview, nodes: int, depth: int = 0) -> Iterator[tuple[str, memoryview]]:
    """Yield the nodes and tensors of a graph, or of a function's body, with those of nested graphs."""
    if depth > _DEEPEST_NESTING:
        raise ArtifactError(f"the model nests graphs more than {_DEEPEST_NESTING} deep")
    for field, part in _fields(graph):
        if field == nodes:
            yield "node", part
            for place, value in (inner for kind, a in _fields(part) if kind == _ATTRIBUTE for inner in _fields(a)):
                if place in _TENSORS:
                    yield "tensor", value
                elif place in _SUBGRAPHS:
                    yield from _walk(value, _NODE, depth + 1)
        elif nodes == _NODE and field == _INITIALIZER:
            yield "tensor", part
        elif nodes == _NODE and field == _SPARSE:
            yield from (("tensor", tensor) for _, tensor in _fields(part))


def called_operators(model: bytes) -> tuple[str, ...]:
    """Return the name of each ``lstm_edge`` operator that a model's graph calls, once for each call, in order.

    Args:
        model: a serialized ModelProto; bytes that are none have no calls.

    Raises:
        ArtifactError: graphs are nested too deeply.
    """
    graphs = (value for field, value in _fields(memoryview(model)) if field == _GRAPH)
    called = (operator for graph in graphs for operator in _calls(graph, _NODE))
    return tuple(name for domain, name in called if domain == DOMAIN.decode())


def _calls(graph: memoryview, nodes: int) -> Iterator[Operator]:
    for kind, node in _walk(graph, nodes):
        if kind == "node":
            parts = dict(_fields(node))
            yield _text(parts, _NODE_DOMAIN), _text(parts, _OP_TYPE)


def _text(parts: Mapping[int, memoryview], field: int) -> str:
    return bytes(parts.get(field, b"")).decode("utf-8", "replace")


def _check_calls_of(model: bytes) -> None:
    bodies: dict[Operator, Counter[Operator]] = {}
    top: Counter[Operator] = Counter()
    for field, part in _fields(memoryview(model)):
        if field == _FUNCTIONS:
            parts = dict(_fields(part))
            bodies[_text(parts, _FUNCTION_DOMAIN), _text(parts, _NAME)] = Counter(_calls(part, _FUNCTION_NODE))
        elif field == _GRAPH:
            top.update(_calls(part, _NODE))
    check_calls(bodies, top)


def check_calls(bodies: Mapping[Operator, Mapping[Operator, int]], top: Mapping[Operator, int]) -> None:
    """Refuse functions that call each other in a circle, too deeply or too often: inlining them would not end.

    Args:
        bodies: for each function, as (domain, name), how often its body calls each operator or function.
        top: the same for the graph.

    Raises:
        ArtifactError: a function calls itself, directly or through others; calls are more than 100 deep; or over a
            million nodes are left once each call is replaced by the function's body.
    """
    inlined: dict[Operator, int] = {}  # nodes of a function once every call in it is replaced by its body
    for start in bodies:
        path = [start]
        while path:
            callee = next((name for name in bodies[path[-1]] if name in bodies and name not in inlined), None)
            if callee is None:
                function = path.pop()
                inlined[function] = sum(count * inlined.get(name, 1) for name, count in bodies[function].items())
                continue
            if callee in path:
                raise ArtifactError(f"function {'::'.join(callee)[:80]!r} calls itself, directly or through others")
            path.append(callee)
            if len(path) > _DEEPEST_CALLS:
                raise ArtifactError(f"functions call each other more than {_DEEPEST_CALLS} deep")
    if sum(count * inlined.get(name, 1) for name, count in top.items()) > _MOST_INLINED_NODES:
        raise ArtifactError(f"with its functions inlined the model has over {_MOST_INLINED_NODES} nodes")


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the number and the bytes of each length-delimited field; stop where the bytes are no message."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        field, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _, at = _varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        elif kind == _BYTES:
            size, at = _varint(message, at)
            if size > len(message) - at:
                return
            yield field, message[at : at + size]
            at += size
        elif kind not in (_GROUP, _END_OF_GROUP):  # these two are tags without a payload of their own
            return


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Read a base-128 number of at most ten bytes; past the end it reads as zeros, which ends the message."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at] if at < len(message) else 0
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            break
    return value, at
