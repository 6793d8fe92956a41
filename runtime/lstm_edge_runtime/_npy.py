"""Read one array in NumPy's ``.npy`` format piece by piece, with its header as text and never as code.

NumPy's reader allocates the size in the header before it reads the data, and evaluates the header as Python.
"""

import math
import re
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.reading import Budget

__all__ = ["MAGIC", "NUMBERS", "NUMBERS_AND_TEXT", "Header", "read_header", "read_npy"]


MAGIC = b"\x93NUMPY"
# NumPy's dtype kinds: booleans, integers, floats and complex numbers; then also text.
NUMBERS = "biufc"
NUMBERS_AND_TEXT = "biufcSU"
PICKLED = "it holds a pickled object array, which is never loaded"

# NumPy's limit; NumPy writes headers of 118 bytes.
_LONGEST_HEADER = 10_000
_PIECE = 2**20
# One entry of the header, in any order: a dtype, a flag, or the sizes of the axes.
_ENTRY = re.compile(
    r"""\s*['"](?P<key>descr|fortran_order|shape)['"]\s*:\s*
    (?:['"](?P<descr>[<>|=]?[biufcSUO?][0-9]{0,9})['"]|(?P<fortran_order>True|False)|\((?P<shape>[0-9L,\s]*)\))
    \s*(?P<end>,?\s*\}|,)""",
    re.VERBOSE,
)


@dataclass(frozen=True, kw_only=True)
class Header:
    """The header of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool

    @property
    def size_bytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


def read_npy(stream: BinaryIO, budget: Budget, *, kinds: str, available: int) -> Array:
    """Read an array; the stream must end after it.

    Args:
        stream: ``read(n)`` returns at most n bytes, and none at the end.
        budget: counts the bytes of the array.
        kinds: the allowed dtype kinds.
        available: the declared bytes of the stream; the bytes that are read are also counted.

    Returns:
        The array, writable.

    Raises:
        TooLargeError: the array is over the budget.
        ValueError: the array is not in version 1.0 or 2.0 of the format, holds Python objects or another kind, or has
            fewer or more bytes than its header declares.
    """
    header, header_bytes = read_header(stream)
    if header.dtype.kind not in kinds:
        raise ValueError(PICKLED if header.dtype.hasobject else f"it holds {header.dtype}, which is not a number")
    size, available = header.size_bytes, available - header_bytes
    budget.check(size)
    data = bytearray()
    if size == available:
        while len(data) < size and (piece := stream.read(min(_PIECE, size - len(data)))):
            budget.take(len(piece))
            data += piece
    if len(data) != size or stream.read(1):
        raise ValueError(f"its header declares {header}, but {available} bytes follow")
    if not size:
        return np.empty(header.shape, header.dtype)
    return np.frombuffer(data, header.dtype).reshape(header.shape, order="F" if header.fortran_order else "C")


def read_header(stream: BinaryIO) -> tuple[Header, int]:
    """Return the header of an array and its size in bytes.

    Raises:
        ValueError: the header is not in version 1.0 or 2.0 of the format, or declares something other than an array of
            numbers, text or objects.
    """
    start = _exactly(stream, 8)
    if not start.startswith(MAGIC):
        raise ValueError("it does not start with the magic bytes of the .npy format")
    version = (start[6], start[7])
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"it is in version {version[0]}.{version[1]} of the .npy format, expected 1.0 or 2.0")
    digits = 2 if version == (1, 0) else 4
    length = int.from_bytes(_exactly(stream, digits), "little")
    if length > _LONGEST_HEADER:
        raise ValueError(f"its header has {length:,} bytes, at most {_LONGEST_HEADER:,} are read")
    return _parse(_exactly(stream, length).decode("latin1")), len(start) + digits + length


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = stream.read(size - len(data))
        if not piece:
            raise ValueError("it ends within its header")
        data += piece
    return data


def _parse(text: str) -> Header:
    """Read ``{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }``, the keys in any order."""
    body = text.strip()
    found: dict[str, str] = {}
    at, ended = 1, not body.startswith("{")
    while not ended and (entry := _ENTRY.match(body, at)):
        value = entry[entry["key"]]
        if value is None or entry["key"] in found:
            break
        found[entry["key"]] = value
        at, ended = entry.end(), entry["end"].endswith("}")
    if len(found) != 3 or not ended or at != len(body):
        raise ValueError(f"its header does not describe an array of numbers: {body[:80]!a}")
    dtype = np.dtype(found["descr"])
    shape = _parse_shape(found["shape"])
    # With elements of 0 bytes a small file could declare an array of any length.
    elements = math.prod(shape)
    if not dtype.itemsize and elements:
        raise ValueError(f"it declares {elements:,} elements of 0 bytes")
    return Header(shape=shape, dtype=dtype, fortran_order=found["fortran_order"] == "True")


def _parse_shape(text: str) -> tuple[int, ...]:
    # Python 2 wrote 3L for a long integer.
    parts = [part.strip().removesuffix("L") for part in text.split(",")]
    sizes = parts[:-1] if not parts[-1] else parts
    # One size without a comma is a number, not a tuple.
    if parts == sizes[:1] or not all(size.isdecimal() and len(size) < 19 for size in sizes):
        raise ValueError(f"its header declares the shape ({text[:80]})")
    return tuple(int(size) for size in sizes)
