"""Are a file's ``lstm_edge`` functions the ones that docs/operators.md fixes? Read from the bytes, without onnx.

A kernel takes over a node by its operator's name, so a file with another body under that name would mean something
else on a device with kernels than on one without. Such a file is refused.
"""

import hashlib
from collections.abc import Iterator

from lstm_edge_runtime._function_digests import DIGESTS
from lstm_edge_runtime.errors import ArtifactError

__all__ = ["check_functions"]

DOMAIN = b"lstm_edge"

# Field numbers of onnx.proto: ModelProto.functions, FunctionProto.name and FunctionProto.domain.
_FUNCTIONS, _NAME, _FUNCTION_DOMAIN = 25, 1, 10
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


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
        if hashlib.sha256(function).hexdigest() != DIGESTS[name]:
            raise ArtifactError(
                f"the file's body of lstm_edge::{name} is not the one that this name stands for: export the model again"
            )


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
        else:
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
