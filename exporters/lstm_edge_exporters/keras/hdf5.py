"""Reading an HDF5 file that is not trusted: what it declares is held against the bytes it has before anything is read.

Keras writes plain contiguous float32 arrays. So every link must be a plain one inside the file, and a data set must be
uncompressed, stored in the file, and no larger than it: there is nothing left that could inflate or lead elsewhere.
"""

import contextlib
import io
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.fresh_python import python_command

__all__ = ["SafeFile", "shown", "try_in_child"]

# A list of names has one entry a weight; a config is counted in LARGEST_TEXT instead.
MOST_NAMES = 10_000
LARGEST_TEXT = 4 * 2**20
# What the trial of a file may take: seconds of processor time, and bytes of address space besides the file's own.
TRIAL_SECONDS, TRIAL_BYTES = 4, 1536 * 2**20
# The start of a heap of texts in version 1, the only one; its header, and that of each object in it, has 16 bytes.
_HEAP = b"GCOL\x01"
_HEAP_HEADER = 16
# h5py says what is wrong with a damaged file by any of these.
H5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError, EOFError)


def shown(name: object) -> str:
    """Return a name from a file so that it can be printed: quoted, control characters escaped, cut at 80 characters."""
    text = ascii(name)
    return text if len(text) <= 80 else f"{text[:76]}...{text[0]}"


def try_in_child(data: bytes, where: str) -> None:
    """Refuse a file that the HDF5 library does not finish reading (see hdf5_trial)."""
    code = (Path(__file__).parent / "hdf5_trial.py").read_text(encoding="utf-8")
    limits = (str(TRIAL_SECONDS), str(TRIAL_BYTES + 3 * len(data)))
    command = python_command(code, *limits, packages=("h5py", "numpy"))
    try:
        done = subprocess.run(  # noqa: S603  # our own code
            command, input=data, capture_output=True, timeout=30 * TRIAL_SECONDS, check=False
        )
        if done.returncode == 0:
            return
        ended = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit code {done.returncode}"
    except subprocess.TimeoutExpired:
        ended = "no answer"
    raise ArtifactError(f"{where}: damaged: the HDF5 library does not finish reading it ({ended})")


def _check_heaps(data: bytes) -> None:
    """Refuse a heap of texts whose objects do not follow one another: the HDF5 library would loop forever.

    Raises:
        ValueError: an object has no bytes, or goes beyond its heap; or the file counts in other than eight bytes.
    """
    # Where the superblock says how many bytes an address and a length have; by its version.
    place = 13 if data[8:9] in (b"\0", b"\1") else 9
    if data[place : place + 2] != b"\x08\x08":
        raise ValueError("its addresses or lengths have other than eight bytes, which Keras does not write")
    start = data.find(_HEAP)
    while start >= 0:
        at, end = start + _HEAP_HEADER, start + int.from_bytes(data[start + 8 : start + 16], "little")
        if not at < end <= len(data):
            raise ValueError(f"the heap at byte {start} is larger than the file")
        while at + _HEAP_HEADER <= end:
            index, size = int.from_bytes(data[at : at + 2], "little"), int.from_bytes(data[at + 8 : at + 16], "little")
            # The size of free space, object 0, counts its own header; that of a text is padded to eight bytes.
            size = _HEAP_HEADER + -(-size // 8) * 8 if index else size
            if not 0 < size <= end - at:
                raise ValueError(f"an object at byte {at} of the heap at byte {start} has {size} bytes")
            at += size
        start = data.find(_HEAP, start + 1)


class SafeFile:
    """An HDF5 file in memory, read with bounds; ``where`` is what errors call it.

    Raises:
        ArtifactError: from every method: the bytes are no HDF5 file, or hold something that Keras does not write.
    """

    def __init__(self, data: bytes, where: str) -> None:
        self.where = where
        self.size = len(data)
        with self._reading("the file"):
            _check_heaps(data)
        try_in_child(data, where)
        with self._reading("the file"):
            self._file = h5py.File(io.BytesIO(data), "r")

    def has(self, path: str) -> bool:
        """Say whether there is something at an absolute path; links on the way are checked."""
        return self._find(path) is not None

    def members(self, path: str) -> list[str]:
        """Return the names in the group at a path; none where there is no such group."""
        found = self._find(path)
        if not isinstance(found, h5py.Group):
            return []
        with self._reading(path):
            if len(found) > MOST_NAMES:
                raise ArtifactError(f"{self.where}: {shown(path)} has {len(found)} entries, more than {MOST_NAMES}")
            return list(found)

    def text(self, path: str, name: str) -> str | None:
        """Return a text attribute of the group at a path, or None where there is none."""
        value = self._attribute(path, name)
        if value is None:
            return None
        if isinstance(value, bytes):
            with self._reading(f"attribute {name}"):
                value = value.decode("utf-8")
        if not isinstance(value, str):
            raise ArtifactError(f"{self.where}: the attribute {shown(name)} is not text")
        if len(value) > LARGEST_TEXT:
            raise ArtifactError(
                f"{self.where}: the attribute {shown(name)} is {len(value)} characters, more than {LARGEST_TEXT}"
            )
        return value

    def names(self, path: str, name: str) -> list[str] | None:
        """Return an attribute that is a list of texts, or None; Keras cuts a long one into name0, name1, ..."""
        whole = self._name_list(path, name)
        if whole is not None:
            return whole
        joined: list[str] = []
        for index in range(MOST_NAMES):
            part = self._name_list(path, f"{name}{index}")
            if part is None:
                return joined if index else None
            joined += part
        raise ArtifactError(f"{self.where}: the attribute {shown(name)} is cut into more than {MOST_NAMES} parts")

    def array(self, path: str, shape: Sequence[int], what: str) -> NDArray[np.float32]:
        """Read the float32 array at a path; ``what`` says in errors what it is.

        Raises:
            ArtifactError: it is missing, has another dtype or shape, is compressed, external or virtual, or declares
                more bytes than the file has.
        """
        found = self._find(path)
        if found is None:
            raise ArtifactError(f"{self.where}: {what} is missing: expected float32 {list(shape)} at {shown(path)}")
        if not isinstance(found, h5py.Dataset):
            raise ArtifactError(
                f"{self.where}: {what} is not an array: expected float32 {list(shape)} at {shown(path)}"
            )
        with self._reading(what):
            self._check_storage(found, what)
            if found.dtype != np.float32 or found.shape != tuple(shape):
                raise ArtifactError(
                    f"{self.where}: {what} is {found.dtype} {list(found.shape)}, expected float32 {list(shape)}"
                )
            array = np.asarray(found[()], np.float32)
        if not np.isfinite(array).all():
            raise ArtifactError(f"{self.where}: {what} holds NaN or infinity")
        return array

    def _check_storage(self, found: Any, what: str) -> None:
        if found.is_virtual or found.external:
            raise ArtifactError(f"{self.where}: {what} lies in another file, which is not followed")
        plist = found.id.get_create_plist()
        if plist.get_nfilters():
            raise ArtifactError(
                f"{self.where}: {what} is compressed or filtered, which Keras never writes and which is not read: "
                "repack it with `h5repack -f NONE`"
            )
        declared = int(np.prod([int(size) for size in found.shape or ()], dtype=object)) * found.dtype.itemsize
        stored = found.id.get_storage_size()
        # Chunks are read whole, so a chunk may not be larger than the file either.
        chunk = int(np.prod([int(size) for size in found.chunks or ()], dtype=object)) * found.dtype.itemsize
        if max(declared, chunk) > min(stored, self.size):
            raise ArtifactError(
                f"{self.where}: {what} declares {declared} bytes, but the file stores {min(stored, self.size)} for it"
            )

    def _find(self, path: str) -> Any:
        """Walk a path link by link; None where it ends early."""
        found: Any = self._file
        for part in path.split("/"):
            with self._reading(path):
                if not isinstance(found, h5py.Group) or part not in found:
                    return None
                if not isinstance(found.get(part, getlink=True), h5py.HardLink):
                    raise ArtifactError(
                        f"{self.where}: {shown(path)} is a soft or external link, which is not followed"
                    )
                found = found[part]
        return found

    def _attribute(self, path: str, name: str) -> Any:
        group = self._find(path) if path else self._file
        if group is None:
            return None
        with self._reading(f"attribute {name}"):
            if name not in group.attrs:
                return None
            found = group.attrs.get_id(name)
            # The HDF5 library ends the process when a text has been made a list of something else by one bit.
            if not isinstance(found.get_type(), h5py.h5t.TypeStringID):
                raise ArtifactError(f"{self.where}: the attribute {shown(name)} is not text")
            count = int(np.prod([int(size) for size in found.shape], dtype=object))
            if count > MOST_NAMES or count * found.dtype.itemsize > self.size:
                raise ArtifactError(
                    f"{self.where}: the attribute {shown(name)} declares {count} values of {found.dtype.itemsize} "
                    "bytes, more than Keras writes"
                )
            return group.attrs[name]

    def _name_list(self, path: str, name: str) -> list[str] | None:
        value = self._attribute(path, name)
        if value is None:
            return None
        with self._reading(f"attribute {name}"):
            entries = [entry.decode("utf-8") if isinstance(entry, bytes) else entry for entry in value]
        if not all(isinstance(entry, str) for entry in entries):
            raise ArtifactError(f"{self.where}: the attribute {shown(name)} is not a list of names")
        return entries

    @contextlib.contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        try:
            yield
        except ArtifactError:
            raise
        except (*H5_ERRORS, MemoryError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
            raise ArtifactError(
                f"{self.where}: {shown(what)} cannot be read: damaged, or not an HDF5 file ({reason})"
            ) from error
