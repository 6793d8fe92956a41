"""Texts: the King James Bible that lstm-edge bundles, text files, and parts by position.

A text is ``king-james`` or the path of a UTF-8 file (``.xz`` and
``.gz`` are unpacked). The suffix ``:train``, ``:validation`` or ``:test`` selects a part: the first 90 %, the next 5 %
or the last 5 % of its characters.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lstm_edge_runtime.errors import DataError
from lstm_edge_runtime.extras import toolkit_module
from lstm_edge_runtime.reading import Budget, TooLargeError, most_unpacked, open_file, translated, unpacked

__all__ = ["PARTS", "TEXTS", "TextData", "check_text", "decode_text", "is_text", "load_text", "split_text"]

TEXTS = ("king-james",)
PARTS: tuple[str, ...] = ("train", "validation", "test")

# Percent of a text's characters at which the second and the third part start.
_CUTS = (90, 95)
# With fewer characters 5 % would be less than one character.
LEAST_CHARACTERS = 20
# A text is held in memory, with 8 bytes for each id, so more than a gigabyte is refused.
LARGEST_BYTES = 2**30
# Allowed size after decompression: text compresses to about a quarter, a decompression bomb to 1/7000.
_LEAST_UNPACKED_BYTES = 2**27
_PIECE = 2**20
_FILES = {"king-james": "kjv.txt.xz"}
_PACKED = (".xz", ".gz")
_SUFFIXES = (".txt", *_PACKED)
# The suffixes of lstm_edge.data.load, which reads sequences of numbers.
_TABLES = (".csv.gz", ".tsv.gz", ".jsonl.gz")


@dataclass(frozen=True, kw_only=True)
class TextData:
    """A text and the name it was loaded by; at least one character, no NUL."""

    name: str
    text: str

    def __len__(self) -> int:
        return len(self.text)


def is_text(spec: str) -> bool:
    """Return whether a name denotes a text: a bundled one, or a path that ends in ``.txt``, ``.xz`` or ``.gz``."""
    path, _ = _parse(spec)
    return path in TEXTS or (path.endswith(_SUFFIXES) and not path.endswith(_TABLES))


def load_text(spec: str, *, default_part: str | None = None) -> TextData:
    """Load a text, or a part of one.

    Args:
        spec: ``king-james`` or the path of a UTF-8 file, ``.xz`` and ``.gz`` are unpacked; the suffix ``:train``,
            ``:validation`` or ``:test`` selects a part. A byte order mark is skipped, nothing else is changed.
        default_part: part of a bundled name without a suffix; None: the whole text.

    Raises:
        DataError: the text or file does not exist, is damaged, empty or not UTF-8, exceeds a limit (see
            ``lstm_edge_runtime.reading``), contains a NUL, or is too short to be split.
        MissingExtraError: ``king-james``, and lstm-edge is not installed.
    """
    path, part = _parse(spec)
    if path in TEXTS:
        folder = toolkit_module("lstm_edge.data", f"the text {path}").__path__[0]
        whole = _read(Path(folder, _FILES[path]))
        part = part or default_part
    else:
        whole = _read(Path(path))
    if part is None:
        return TextData(name=spec, text=whole)
    return TextData(name=f"{path}:{part}", text=split_text(whole, name=path)[PARTS.index(part)])


def split_text(text: str, *, name: str = "text") -> tuple[str, str, str]:
    """Split a text by position into training (90 % of its characters), validation (5 %) and test part (5 %).

    Raises:
        DataError: the text has fewer than 20 characters, so 5 % of it are less than one.
    """
    if len(text) < LEAST_CHARACTERS:
        raise DataError(
            f"data {name}: the text has {len(text)} characters, expected {LEAST_CHARACTERS} or more to split it into "
            "90/5/5 %"
        )
    first, second = (len(text) * percent // 100 for percent in _CUTS)
    return text[:first], text[first:second], text[second:]


def _parse(spec: str) -> tuple[str, str | None]:
    path, colon, part = spec.rpartition(":")
    return (path, part) if colon and part in PARTS else (spec, None)


def check_text(spec: str) -> None:
    """Refuse a text whose file is missing, without reading it.

    Raises:
        DataError: there is no such file.
    """
    path, _ = _parse(spec)
    if path not in TEXTS:
        with _opened(Path(path)):
            pass


def _opened(path: Path) -> AbstractContextManager[BinaryIO]:
    missing = f"no such file; expected {', '.join(TEXTS)}, or the path of a UTF-8 text file"
    return open_file(path, DataError, where=f"data {path}", missing=missing)


def _read(path: Path) -> str:
    with translated(DataError, f"data {path}: cannot be read"), _opened(path) as raw:
        if path.suffix not in _PACKED:
            return decode_text(raw.read, str(path))
        size = os.fstat(raw.fileno()).st_size
        budget = Budget(most_unpacked(size, least=_LEAST_UNPACKED_BYTES, most=LARGEST_BYTES), "text")
        damaged = f"cannot be unpacked as {path.suffix}, the file is damaged"
        return decode_text(unpacked(raw, path.suffix, budget).read, str(path), damaged)


def decode_text(read: Callable[[int], bytes], name: str, damaged: str = "cannot be read") -> str:
    """Read a text of UTF-8.

    Args:
        read: returns at most that many bytes, and none at the end, as the method of an open file does.
        name: the name of the text in messages.
        damaged: the message if ``read`` raises.

    Raises:
        DataError: the text is empty, not UTF-8, over 1 GiB, contains a NUL, or does not fit into memory.
    """
    with translated(DataError, f"data {name}: {damaged}"):
        try:
            data = _read_all(read, name)
        except TooLargeError as error:
            raise DataError(f"data {name}: {error}") from error
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"data {name}: not UTF-8 text ({error.reason} at byte {error.start})") from error
        if not text:
            raise DataError(f"data {name}: the text is empty, expected at least one character")
        return text


def _read_all(read: Callable[[int], bytes], name: str) -> bytearray:
    """Read to the end, or to the first NUL: an endless device such as /dev/zero fails at its first byte."""
    data, budget = bytearray(), Budget(LARGEST_BYTES, "text")
    while piece := read(_PIECE):
        if 0 in piece:
            place = len((data + piece[: piece.index(0)]).decode("utf-8-sig", errors="replace"))
            raise DataError(f"data {name}: holds a NUL at character {place}, expected text")
        budget.take(len(piece))
        data += piece
    return data
