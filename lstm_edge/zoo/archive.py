"""Files out of a wheel or a tarball, read as plain archives: nothing is installed, run, or written by its own path."""

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from lstm_edge_runtime.errors import ArtifactError, printable

__all__ = ["read_members"]


@dataclass(frozen=True, kw_only=True)
class _Member:
    """One entry of an archive: its path, size in bytes, whether it is a plain file, and how to read it."""

    path: str
    size_bytes: int
    plain: bool
    read: Callable[[], bytes]


def read_members(data: bytes, file: str, wanted: Sequence[str], *, most_bytes: int) -> dict[str, bytes]:
    """Return the contents of some files of an archive, by path.

    Args:
        data: the archive, whose digest was checked.
        file: its name, which tells its kind: ``.whl`` and ``.zip``, or ``.tgz`` and ``.tar.gz``.
        wanted: the paths of the files.
        most_bytes: the largest size that one of them may have.

    Raises:
        ArtifactError: it is not such an archive; an entry's path is absolute or leads out of the archive; an entry is
            there twice; a wanted one is missing, too large, or not a plain file.
    """
    reader = _zipped if file.endswith((".whl", ".zip")) else _tarred
    try:
        found: dict[str, bytes] = {}
        names: set[str] = set()
        for member in reader(data):
            _check_path(file, member.path)
            if member.path in names:
                raise ArtifactError(f"{file}: the entry {printable(member.path)!r} is there twice")
            names.add(member.path)
            if member.path in wanted:
                found[member.path] = _read(file, member, most_bytes)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise ArtifactError(f"{file}: not a readable archive ({error})") from error
    return _complete(file, wanted, found)


def _complete(file: str, wanted: Sequence[str], found: Mapping[str, bytes]) -> dict[str, bytes]:
    missing = [path for path in wanted if path not in found]
    if missing:
        raise ArtifactError(f"{file}: the archive has no entry {missing[0]!r}; the recipe is for another version")
    return {path: found[path] for path in wanted}


def _check_path(file: str, path: str) -> None:
    """Refuse the whole archive for one path that an unpacking tool would write elsewhere."""
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts or "\\" in path or "\0" in path or (parts and ":" in parts[0]):
        raise ArtifactError(f"{file}: the entry {printable(path)!r} leads out of the archive, so nothing of it is used")


def _read(file: str, member: _Member, most_bytes: int) -> bytes:
    if not member.plain:
        raise ArtifactError(f"{file}: the entry {member.path!r} is a link or a folder, expected a file")
    if member.size_bytes > most_bytes:
        raise ArtifactError(
            f"{file}: the entry {member.path!r} has {member.size_bytes:,} bytes, expected at most {most_bytes:,}"
        )
    return member.read()


def _zipped(data: bytes) -> Iterator[_Member]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            kind = stat.S_IFMT(entry.external_attr >> 16)
            plain = not entry.is_dir() and kind in (0, stat.S_IFREG)
            # zipfile cuts a name at a null character and gives the header's form beside it.
            path = entry.orig_filename

            def read(entry: zipfile.ZipInfo = entry) -> bytes:
                return archive.read(entry)

            yield _Member(path=path, size_bytes=entry.file_size, plain=plain, read=read)


def _tarred(data: bytes) -> Iterator[_Member]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        for entry in archive:

            def read(entry: tarfile.TarInfo = entry) -> bytes:
                stream = archive.extractfile(entry)
                assert stream is not None  # a plain file
                return stream.read()

            yield _Member(path=entry.name, size_bytes=entry.size, plain=entry.isreg(), read=read)
