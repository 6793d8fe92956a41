"""Are a file's ``lstm_edge`` functions the ones that docs/operators.md fixes, and is it whole? Read without onnx.

A kernel takes over a node by its operator's name, so a file with another body under that name would mean something
else on a device with kernels than on one without. Such a file is refused.
"""

import hashlib
from collections.abc import Iterator

from lstm_edge_runtime._function_digests import DIGESTS
from lstm_edge_runtime.errors import ArtifactError

__all__ = ["called_operators", "check_functions", "check_whole"]

DOMAIN = b"lstm_edge"

# Field numbers of onnx.proto: ModelProto.functions, FunctionProto.name and FunctionProto.domain.
_FUNCTIONS, _NAME, _FUNCTION_DOMAIN = 25, 1, 10
_IMPORT, _END = b"\x4a\x04\x0a\x00\x10", b"\x52\x09" + DOMAIN
# ModelProto.graph, GraphProto.node; NodeProto.op_type, .attribute and .domain; AttributeProto.g and .graphs.
_GRAPH, _NODE, _OP_TYPE, _ATTRIBUTE, _NODE_DOMAIN, _SUBGRAPHS = 7, 1, 4, 5, 7, (6, 11)
# GraphProto.initializer, AttributeProto.t and .tensors; TensorProto.external_data.
_INITIALIZER, _TENSORS, _EXTERNAL_DATA = 5, (5, 10), 13
_VARINT, _FIXED64, _BYTES, _GROUP, _END_OF_GROUP, _FIXED32 = range(6)


def check_functions(model: bytes) -> None:
    """Compare each function of the domain ``lstm_edge`` with the SHA-256 of the one that its name stands for.

    Args:
        model: a serialized ModelProto; bytes that are none are left to onnxruntime, which says so.

    Raises:
        ArtifactError: a name that this version does not know, or another body than the name's.
    """
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
    graphs = (value for field, value in _fields(memoryview(model)) if field == _GRAPH)
    if any(field == _EXTERNAL_DATA for graph in graphs for tensor in _tensors(graph) for field, _ in _fields(tensor)):
        raise ArtifactError(
            "its weights lie in another file: make it one file first, on a machine that has onnx, with "
            'onnx.save(onnx.load("model.onnx"), "whole.onnx")'
        )


def _tensors(graph: memoryview) -> Iterator[memoryview]:
    """Yield the initializers of a graph and the tensors in its nodes' attributes, nested graphs included."""
    for field, part in _fields(graph):
        if field == _INITIALIZER:
            yield part
        for kind, attribute in _fields(part) if field == _NODE else ():
            for place, value in _fields(attribute) if kind == _ATTRIBUTE else ():
                if place in _TENSORS:
                    yield value
                elif place in _SUBGRAPHS:
                    yield from _tensors(value)


def called_operators(model: bytes) -> tuple[str, ...]:
    """Return the name of each ``lstm_edge`` operator that a model's graph calls, once for each call, in order.

    Args:
        model: a serialized ModelProto; bytes that are none have no calls.
    """
    graphs = (value for field, value in _fields(memoryview(model)) if field == _GRAPH)
    return tuple(name for graph in graphs for name in _calls(graph))


def _calls(graph: memoryview) -> Iterator[str]:
    for field, node in _fields(graph):
        if field != _NODE:
            continue
        parts = list(_fields(node))
        named = dict(parts)
        if bytes(named.get(_NODE_DOMAIN, b"")) == DOMAIN:
            yield bytes(named.get(_OP_TYPE, b"")).decode("utf-8", "replace")
        for _, attribute in (part for part in parts if part[0] == _ATTRIBUTE):
            for kind, value in _fields(attribute):
                if kind in _SUBGRAPHS:
                    yield from _calls(value)


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
