"""Protobuf at the level of its fields: takes a file apart, puts it together otherwise. Shares no code with the checks.

Which fields are messages comes from the installed onnx package.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import onnx

__all__ = ["Item", "Node", "encode", "insert", "places", "replace", "take_apart", "varint"]

BYTES = 2
_FIXED = {1: 8, 5: 4}
NUMBERS = {3: 0, 4: 0, 5: 0, 14: 0, 2: 5, 1: 1}  # descriptor type of a number -> wire type


@dataclass(frozen=True)
class Item:
    """One field of a message: its number, wire type and payload (without tag and length), and where it is described.

    ``node`` is the message that it holds, if it holds one.
    """

    number: int
    wire: int
    payload: bytes
    field: Any
    node: "Node | None" = None

    @property
    def raw(self) -> bytes:
        return encode(self.number, self.wire, self.payload)


@dataclass(frozen=True)
class Node:
    """A message and its fields, in the order of the file."""

    descriptor: Any
    items: tuple[Item, ...]

    @property
    def content(self) -> bytes:
        return b"".join(item.raw for item in self.items)


Path = tuple[int, ...]  # the indices of the items that lead to a message


def varint(value: int, pad: int = 0) -> bytes:
    """Encode a number, with needless digits if asked for."""
    digits = []
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    digits.append(value)
    if pad:
        digits[-1] |= 128
        digits += [128] * (pad - 1) + [0]
    return bytes(digits)


def encode(number: int, wire: int, payload: bytes, *, tag: bytes | None = None, pad: int = 0) -> bytes:
    """Encode a field; ``tag`` takes the place of its tag, ``pad`` is a number of needless digits in its length."""
    start = varint(number << 3 | wire) if tag is None else tag
    return start + (varint(len(payload), pad) if wire == BYTES else b"") + payload


def take_apart(data: bytes, descriptor: Any = None) -> Node:
    """Take a message apart that a writer of protobuf made.

    Raises:
        ValueError: the bytes are no such message.
    """
    descriptor = descriptor if descriptor is not None else onnx.ModelProto.DESCRIPTOR
    items, at = [], 0
    while at < len(data):
        tag, at = _number(data, at)
        field = descriptor.fields_by_number.get(tag >> 3)
        wire, start = tag & 7, at
        if wire == 0:
            _, at = _number(data, at)
        elif wire == BYTES:
            size, start = _number(data, at)
            at = start + size
        elif wire in _FIXED:
            at += _FIXED[wire]
        else:
            raise ValueError("a group")
        if at > len(data) or tag >> 3 == 0:
            raise ValueError("torn")
        payload = data[start:at]
        nested = field is not None and field.message_type is not None and wire == BYTES
        node = take_apart(payload, field.message_type) if nested else None
        items.append(Item(tag >> 3, wire, payload, field, node))
    return Node(descriptor, tuple(items))


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        if at + place >= len(data):
            raise ValueError("torn")
        value |= (data[at + place] & 127) << 7 * place
        if data[at + place] < 128:
            return value, at + place + 1
    raise ValueError("torn")


def places(node: Node, path: Path = ()) -> Iterator[tuple[Path, Node]]:
    """Yield each message below a message, itself first, and the way there."""
    yield path, node
    for index, item in enumerate(node.items):
        if item.node is not None:
            yield from places(item.node, (*path, index))


def replace(root: Node, path: Path, content: bytes) -> bytes:
    """Return the file with the bytes of one message exchanged, and all lengths around it corrected."""
    if not path:
        return content
    parts = [item.raw for item in root.items]
    item = root.items[path[0]]
    assert item.node is not None
    parts[path[0]] = encode(item.number, item.wire, replace(item.node, path[1:], content))
    return b"".join(parts)


def insert(random: Random, node: Node, parts: Sequence[bytes]) -> bytes:
    """Return the message's bytes with more fields somewhere between its own."""
    raws = [item.raw for item in node.items]
    for part in parts:
        raws.insert(random.randint(0, len(raws)), part)
    return b"".join(raws)
