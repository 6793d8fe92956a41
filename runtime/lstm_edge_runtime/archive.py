"""Members of a zip archive, read piece by piece within one bound: stored and deflated ones, and no others.

Python's zipfile unpacks bzip2 and LZMA members whole, whatever is asked for, and believes an archive's list of members.
"""

import contextlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from lstm_edge_runtime.reading import Budget, TooLargeError

__all__ = ["Member", "open_archive"]

# The list of members has 46 bytes and a name for each.
_LARGEST_DIRECTORY = 2**21
_MOST_MEMBERS = 10_000
_PIECE = 2**20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1


class Member:
    """One member of an open archive."""

    def __init__(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, budget: Budget) -> None:
        self.name = entry.filename
        self.packed_bytes = entry.compress_size
        self.declared_bytes = entry.file_size
        self._archive, self._entry, self._budget = archive, entry, budget

    @contextlib.contextmanager
    def open(self) -> Iterator["io.BufferedReader[Any]"]:
        """Open the member; its checksum is compared when its end is read."""
        with (
            self._archive.open(self._entry) as stream,
            io.BufferedReader(_Counted(stream, self._budget), _PIECE) as counted,
        ):
            yield counted

    def read(self) -> bytes:
        """Return the whole member.

        Raises:
            TooLargeError: more comes out than the archive's budget has left.
        """
        data = bytearray()
        with self.open() as stream:
            while piece := stream.read(_PIECE):
                data += piece
        return bytes(data)


class _Counted(io.RawIOBase):
    def __init__(self, stream: Any, budget: Budget) -> None:
        self._stream, self._budget = stream, budget

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._stream.read(len(buffer))
        self._budget.take(len(piece))
        buffer[: len(piece)] = piece
        return len(piece)


class _Capped:
    """A file of which no read gives more than the largest list of members: zipfile reads that whole."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if size > _LARGEST_DIRECTORY:
            raise TooLargeError(
                f"the archive's list of members has {size:,} bytes, at most {_LARGEST_DIRECTORY:,} are read"
            )
        parts = []
        left = _LARGEST_DIRECTORY if size < 0 else size
        while left and (part := self._file.read(left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def seekable(self) -> bool:
        return True


@contextlib.contextmanager
def open_archive(
    file: BinaryIO, budget: Budget, *, most_members: int = _MOST_MEMBERS
) -> Iterator[Mapping[str, Member]]:
    """Open a zip archive.

    Args:
        file: the open file, seekable.
        budget: counts what comes out of all its members together.
        most_members: more are refused.

    Yields:
        The members by name.

    Raises:
        TooLargeError: the archive lists too many members.
        ValueError: two members have one name, or one is encrypted or compressed by another method than deflate; also
            what zipfile raises for a damaged archive.
    """
    size = file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(_Capped(file)) as archive:
        entries = archive.infolist()
        if len(entries) > most_members:
            raise TooLargeError(f"the archive lists more members than the {most_members} allowed")
        members: dict[str, Member] = {}
        for entry in entries:
            _check(entry, size)
            if entry.filename in members:
                raise ValueError(f"the archive has two members called {entry.filename[:80]!a}")
            members[entry.filename] = Member(archive, entry, budget)
        yield members


def _check(entry: zipfile.ZipInfo, size: int) -> None:
    name = f"the member {entry.filename[:80]!a}"
    if entry.compress_type not in _METHODS:
        raise ValueError(
            f"{name} is compressed by method {entry.compress_type}; expected a stored or a deflated one (0 or 8)"
        )
    if entry.flag_bits & _ENCRYPTED:
        raise ValueError(f"{name} is encrypted")
    if entry.compress_size > size:
        raise ValueError(f"{name} is larger than the file")
