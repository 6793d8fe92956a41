"""Files with one message, at any depth, that lost a field, has one twice, or has other bytes in it."""

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from support.wire import field, varint

__all__ = ["mangled"]

_DEEPEST = 8
_TRAILER = 86

Field = tuple[int, int, bytes]  # tag, wire type and content


def _digits(data: bytes, at: int) -> int:
    """Where a base-128 number ends; -1 where it does not."""
    for place in range(at, min(len(data), at + 10)):
        if data[place] < 128:
            return place + 1
    return -1


def _value(digits: bytes) -> int:
    return sum((digit & 127) << 7 * place for place, digit in enumerate(digits))


def _split(data: bytes) -> list[Field] | None:
    """The fields of a message; None where the bytes are none."""
    fields, at = [], 0
    while at < len(data):
        end = _digits(data, at)
        tag = _value(data[at:end]) if end > 0 else 0
        at, wire = end, tag & 7
        if tag >> 3 == 0 or wire not in (0, 1, 2, 5):
            return None
        end = _digits(data, at) if wire in (0, 2) else at + {1: 8, 5: 4}[wire]
        if wire == 2 and end > 0:
            at, end = end, end + _value(data[at:end])
        if not 0 <= end <= len(data):
            return None
        fields.append((tag, wire, data[at:end]))
        at = end
    return fields


def _joined(fields: Sequence[Field]) -> bytes:
    return b"".join(field(tag >> 3, content) if wire == 2 else varint(tag) + content for tag, wire, content in fields)


def _raw(draw: Callable[..., Any], content: bytes) -> bytes:
    at = draw(st.integers(0, len(content)))
    return content[:at] + draw(st.binary(max_size=6)) + content[at + draw(st.integers(0, 4)) :]


def _changed(draw: Callable[..., Any], message: bytes, depth: int) -> bytes:
    fields = _split(message)
    if not fields or depth > _DEEPEST:
        return _raw(draw, message)
    at, other = draw(st.integers(0, len(fields) - 1)), draw(st.integers(0, len(fields) - 1))
    tag, wire, content = fields[at]
    what = draw(st.sampled_from(["in", "in", "in", "drop", "twice", "swap", "tag", "content"]))
    if what == "drop":
        del fields[at]
    elif what == "twice":
        fields.insert(other, fields[at])
    elif what == "swap":
        fields[at], fields[other] = fields[other], fields[at]
    elif what == "tag":
        fields[at] = (draw(st.integers(1, 30)) << 3 | wire, wire, content)
    elif wire == 2:
        inner = _changed(draw, content, depth + 1) if what == "in" else _raw(draw, content)
        fields[at] = (tag, wire, inner)
    return _joined(fields)


@st.composite
def mangled(draw: Callable[..., Any], files: Sequence[bytes]) -> bytes:
    """One of the files with one to three changes, often without its trailer."""
    data = draw(st.sampled_from(files))
    if draw(st.booleans()) and len(data) > _TRAILER:
        data = data[:-_TRAILER]
    for _ in range(draw(st.integers(1, 3))):
        data = _changed(draw, data, 0)
    return data
