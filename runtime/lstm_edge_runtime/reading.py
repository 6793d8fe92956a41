"""Read untrusted files: which files are opened, how many bytes are read, and how errors are translated.

Only regular files are opened; a directory, a device or a pipe is refused at once. A limit counts the bytes that are
read or unpacked, whatever the file declares, and the size in a header alone never causes an allocation.

=========================== ====================================================================================
kind of file                maximum that is read
=========================== ====================================================================================
model (``.onnx``)           2 GiB, protobuf's limit on a message
arrays (``.npy``, ``.npz``) 16 GiB; from an archive 1 GiB, or 16 times the file's bytes if that is more
golden vectors              64 KiB of text, 16 MiB of arrays
text                        1 GiB; from ``.gz`` or ``.xz`` 128 MiB, or 16 times the file's bytes
table (CSV, JSON Lines)     4 GiB; from ``.gz`` 64 MiB, or 16 times the file's bytes; 32 MiB on one line
JSON                        64 Mi characters, 1 Mi lists and objects (4 Mi on a line of a table)
=========================== ====================================================================================

This module uses the standard library only.
"""

import contextlib
import gzip
import io
import json
import lzma
import os
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from lstm_edge_runtime.errors import LstmEdgeError

__all__ = [
    "LONGEST_LINE",
    "MOST_ARRAY_BYTES",
    "MOST_JSON_CHARACTERS",
    "MOST_MODEL_BYTES",
    "Budget",
    "TooLargeError",
    "array_budget",
    "most_unpacked",
    "open_file",
    "parse_json",
    "read_bytes",
    "read_line",
    "reason",
    "translated",
    "unpacked",
]

MOST_MODEL_BYTES = 2**31 - 1
MOST_ARRAY_BYTES = 16 * 2**30
MOST_JSON_CHARACTERS = 2**26
# An empty list takes about 70 bytes, an object with one entry 240; other values take at most about ten bytes per
# character.
MOST_CONTAINERS = 2**20
# About two million numbers, the longest sequence that is written on one line.
LONGEST_LINE = 2**25
# Compression shrinks float32 weights and recordings to a half at best, one-hot rows to a hundredth, a zip bomb to a
# thousandth.
_MOST_EXPANSION = 16
_PIECE = 2**16
# xz -9 needs 65 MiB; a header can request 4 GiB.
_LZMA_BYTES = 256 * 2**20

# The exceptions of NumPy, zipfile, zlib, lzma, json, csv, h5py, safetensors and torch for unreadable bytes.
_FOREIGN = (
    ArithmeticError,
    AttributeError,
    BufferError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    SystemError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


class TooLargeError(ValueError):
    """A file holds more bytes than the limit; ``translated`` turns this into an LstmEdgeError."""


class Budget:
    """Counts the bytes that are read from a file and all its members, up to a limit."""

    def __init__(self, most: int, what: str = "data") -> None:
        """Allow ``most`` bytes; ``what`` names the bytes in messages."""
        self._most = self._left = most
        self._what = what

    def check(self, size: int) -> None:
        """Refuse ``size`` more bytes before they are read, if they exceed the limit.

        Raises:
            TooLargeError: the bytes exceed the limit.
        """
        if size > self._left:
            raise TooLargeError(f"more than {self._most:,} bytes of {self._what}, at most that many are read")

    def take(self, size: int) -> None:
        """Count ``size`` bytes that were read.

        Raises:
            TooLargeError: the bytes exceed the limit.
        """
        self.check(size)
        self._left -= size


def most_unpacked(packed_bytes: int, *, least: int, most: int) -> int:
    """Return the maximum number of bytes to unpack from a compressed file.

    Args:
        packed_bytes: size of the file.
        least: the limit in bytes for small files.
        most: the largest limit in bytes for any file.
    """
    return min(most, max(least, _MOST_EXPANSION * packed_bytes))


def array_budget(packed_bytes: int) -> Budget:
    """Return the budget for the arrays in a file of that many bytes."""
    return Budget(most_unpacked(packed_bytes, least=2**30, most=MOST_ARRAY_BYTES), "arrays")


@contextlib.contextmanager
def translated(error: type[LstmEdgeError], sentence: str, advice: str = "") -> Iterator[None]:
    """Turn the exceptions of other libraries for an unreadable file into an LstmEdgeError.

    Args:
        error: the class to raise.
        sentence: names the file; the reason follows in brackets.
        advice: text after the reason, for example "; expected a file of numbers".

    Raises:
        LstmEdgeError: of the class ``error``. An LstmEdgeError from the body is not changed.
    """
    try:
        yield
    except _FOREIGN as cause:
        raise error(f"{sentence} ({reason(cause)}){advice}") from cause


def reason(error: BaseException) -> str:
    """Return the message of another library's error on one line of at most 200 characters."""
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split())[:200] or type(error).__name__


@contextlib.contextmanager
def open_file(
    path: str | os.PathLike[str],
    error: type[LstmEdgeError],
    *,
    where: str | None = None,
    expected: str = "",
    missing: str = "no such file",
) -> Iterator[BinaryIO]:
    """Open a regular file for reading, without buffering.

    Args:
        path: the file.
        error: the class to raise.
        where: the start of messages; None: the path.
        expected: the expected kind of file for messages, for example "an .onnx file".
        missing: the message if there is no such file.

    Raises:
        LstmEdgeError: of the class ``error``: there is no such file, it cannot be opened, or it is a directory, a
            device or a pipe.
    """
    where = (os.fsdecode(path) or "''") if where is None else where
    try:
        # Without O_NONBLOCK, opening a pipe waits for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as cause:
        raise error(f"{where}: {missing}") from cause
    except (OSError, ValueError) as cause:  # ValueError: a null byte in the path
        raise error(f"{where}: the file cannot be read ({reason(cause)})") from cause
    with os.fdopen(descriptor, "rb", buffering=0) if _is_regular(descriptor) else _closing(descriptor) as file:
        if file is None:
            what = "a directory" if os.path.isdir(path) else "a device or a pipe"
            raise error(f"{where}: this is {what}; give the path of {expected}" if expected else f"{where}: not a file")
        yield file


def _is_regular(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[None]:
    try:
        yield None
    finally:
        os.close(descriptor)


def read_bytes(file: BinaryIO, most: int) -> bytes:
    """Read an open file to its end.

    Raises:
        TooLargeError: it has more than ``most`` bytes, by the file system's report or by the bytes that are read.
    """
    size = os.fstat(file.fileno()).st_size
    if size > most:
        raise TooLargeError(f"the file has {size:,} bytes, at most {most:,} are read")
    parts, left = [], most + 1
    # Reading one byte more than the size shows whether the file ends there.
    while part := file.read(min(left, max(size + 1, _PIECE))):
        parts.append(part)
        left -= len(part)
        if not left:
            raise TooLargeError(f"the file has more than {most:,} bytes, at most that many are read")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_line(read: Callable[[int], Any]) -> Any:
    """Return the next line of an open file (bytes or text); empty at the end of the file.

    Args:
        read: the file's ``readline``.

    Raises:
        TooLargeError: the line has more than 32 Mi bytes or characters.
    """
    line = read(LONGEST_LINE + 1)
    if len(line) > LONGEST_LINE:
        raise TooLargeError(f"the line has more than {LONGEST_LINE:,} characters, at most that many are read")
    return line


def unpacked(file: BinaryIO, kind: str, budget: Budget) -> io.BufferedReader:
    """Return a reader that unpacks a ``.gz`` or ``.xz`` file, with all its streams one after the other.

    Its ``read`` raises ``TooLargeError`` over the budget, and the exceptions of zlib and lzma for damaged bytes.

    Args:
        file: the open file.
        kind: ``.gz`` or ``.xz``.
        budget: counts the unpacked bytes.
    """
    return io.BufferedReader(_Unpacked(file, kind, budget), _PIECE)


class _Unpacked(io.RawIOBase):
    """Unpacks one piece at a time; each call returns at most the requested number of bytes."""

    def __init__(self, file: BinaryIO, kind: str, budget: Budget) -> None:
        self._file, self._kind, self._budget = file, kind, budget
        self._decoder: Any = None
        self._started = False
        self._pending = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while (decoder := self._decoder or self._start()) is not None:
            if not self._pending and getattr(decoder, "needs_input", True):
                self._pending = self._file.read(_PIECE)
                if not self._pending:
                    raise EOFError("Compressed file ended before the end-of-stream marker was reached")
            out = decoder.decompress(self._pending, len(buffer))
            self._pending = getattr(decoder, "unconsumed_tail", b"")
            self._decoder = decoder
            if decoder.eof:
                self._pending, self._decoder = decoder.unused_data, None
            if out:
                self._budget.take(len(out))
                buffer[: len(out)] = out
                return len(out)
        return 0

    def _start(self) -> Any:
        """Return a decompressor for the next stream, None at the end of the file; zeros between streams are skipped."""
        while not (rest := self._pending.lstrip(b"\0") if self._started else self._pending):
            self._pending = self._file.read(_PIECE)
            if not self._pending:
                return None
        if len(rest) == 1:
            rest += self._file.read(_PIECE)
        self._pending, self._started = rest, True
        if self._kind == ".xz":
            return lzma.LZMADecompressor(memlimit=_LZMA_BYTES)
        if not rest.startswith(b"\x1f\x8b"):
            raise gzip.BadGzipFile(f"Not a gzipped file ({rest[:2]!r})")
        return zlib.decompressobj(16 + zlib.MAX_WBITS)


def parse_json(text: str | bytes, *, containers: int = MOST_CONTAINERS, **options: Any) -> Any:
    """Read JSON, with limits on its length and on the number of lists and objects.

    Args:
        text: the document.
        containers: the maximum number of opening brackets, those in strings included.
        options: arguments for ``json.loads``.

    Raises:
        ValueError: the text is not JSON, nested too deeply, or over a limit.
    """
    if len(text) > MOST_JSON_CHARACTERS:
        raise TooLargeError(f"{len(text):,} characters, at most {MOST_JSON_CHARACTERS:,} are read")
    opening: tuple[Any, Any] = ("[", "{") if isinstance(text, str) else (b"[", b"{")
    found = sum(text.count(bracket) for bracket in opening)
    if found > containers:
        raise TooLargeError(f"it has {found:,} lists and objects, at most {containers:,} are read")
    try:
        return json.loads(text, **options)
    except (RecursionError, MemoryError) as error:
        raise ValueError(reason(error)) from error
