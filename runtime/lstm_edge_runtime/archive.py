"""Read stored and deflated members of a zip archive piece by piece, within one limit; other methods are refused.

Python's zipfile unpacks bzip2 and LZMA members completely, whatever size is requested, and trusts the central
directory.
"""

import contextlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from lstm_edge_runtime.reading import Budget, TooLargeError

__all__ = ["Member", "open_archive"]

# The central directory has 46 bytes and a name for each member.
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
        """Open the member; zipfile compares its checksum when its end is read."""
        with (
            self._archive.open(self._entry) as stream,
            io.BufferedReader(_Counted(stream, self._budget), _PIECE) as counted,
        ):
            yield counted

    def read(self) -> bytes:
        """Return the whole member.

        Raises:
            TooLargeError: the member has more bytes than the archive's budget has left.
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
    """A file that limits the size of each read, because zipfile reads the whole central directory at once."""

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
        budget: counts the unpacked bytes of all members together.
        most_members: the maximum number of members.

    Yields:
        The members by name.

    Raises:
        TooLargeError: the archive lists too many members.
        ValueError: two members have the same name, or one is encrypted or neither stored nor deflated. The
            exceptions of zipfile for a damaged archive are not translated.
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
