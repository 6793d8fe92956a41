"""Protobuf by hand: numbers, fields and messages of onnx.proto, well formed or not."""

from collections.abc import Iterable

__all__ = [
    "attribute",
    "call",
    "field",
    "function",
    "graph",
    "metadata",
    "node",
    "number",
    "padded",
    "tensor",
    "varint",
]


def varint(value: int) -> bytes:
    """A number in base 128."""
    digits = []
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


def padded(value: int, digits: int) -> bytes:
    """The number with needless digits, as no writer of protobuf leaves it."""
    return bytes([value >> 7 * place & 127 | 128 * (place < digits - 1) for place in range(digits)])


def field(tag: int, payload: bytes) -> bytes:
    """A field of bytes, text or a message."""
    return varint(tag << 3 | 2) + varint(len(payload)) + payload


def number(tag: int, value: int) -> bytes:
    """A field of a number."""
    return varint(tag << 3) + varint(value)


def node(op_type: str, inputs: Iterable[str] = (), outputs: Iterable[str] = (), rest: bytes = b"") -> bytes:
    """A NodeProto's bytes; ``rest`` may hold its domain (7) and attributes (5)."""
    names = b"".join(field(1, name.encode()) for name in inputs)
    return names + b"".join(field(2, name.encode()) for name in outputs) + field(4, op_type.encode()) + rest


def call(name: bytes = b"LinearInt8V1", domain: bytes = b"lstm_edge", rest: bytes = b"") -> bytes:
    """A node (1) of a graph: op_type (4), anything else, domain (7)."""
    return field(1, field(4, name) + rest + field(7, domain))


def attribute(name: bytes, inner: bytes) -> bytes:
    """An attribute (5) of a node with a graph (6)."""
    return field(5, field(1, name) + field(6, inner) + number(20, 5))


def function(name: bytes, domain: bytes, body: bytes = b"", rest: bytes = b"") -> bytes:
    """A function (25) of a model."""
    return field(25, field(1, name) + body + field(10, domain) + rest)


def metadata(key: bytes, value: bytes = b"") -> bytes:
    """An entry (14) of a model's metadata."""
    return field(14, field(1, key) + field(2, value))


def tensor(name: str, dtype: int, dims: Iterable[int], raw: bytes) -> bytes:
    """A TensorProto's bytes: dims (1), data_type (2), name (8), raw_data (9)."""
    return b"".join(number(1, size) for size in dims) + number(2, dtype) + field(8, name.encode()) + field(9, raw)


def graph(nodes: Iterable[bytes], tensors: Iterable[bytes] = ()) -> bytes:
    """A graph (7) of a model: nodes (1), initializers (5)."""
    return field(7, b"".join(field(1, one) for one in nodes) + b"".join(field(5, one) for one in tensors))
