"""Read arrays from ``.npy`` and ``.npz`` files without pickle, and write them in one step."""

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from lstm_edge_runtime._npy import MAGIC, NUMBERS, read_npy
from lstm_edge_runtime.archive import Member, open_archive
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.file_kinds import check_array_kind
from lstm_edge_runtime.reading import MOST_ARRAY_BYTES, Budget, array_budget, open_file, translated
from lstm_edge_runtime.writing import check_array_target, write_atomically

__all__ = ["check_array_target", "decode_arrays", "encode_arrays", "read_arrays", "write_arrays"]


def read_arrays(path: str | os.PathLike[str]) -> Array | dict[str, Array]:
    """Read the array of an ``.npy`` file, or the arrays of an ``.npz`` file by name.

    Raises:
        InputError: the file does not exist, is damaged, has another format, holds something other than numbers, or is
            over a limit (see ``lstm_edge_runtime.reading``).
    """
    with (
        translated(InputError, f"{path}: not a readable .npy or .npz file of numbers"),
        open_file(path, InputError, expected="an .npy or .npz file") as file,
    ):
        check_array_kind(file, path)
        size = os.fstat(file.fileno()).st_size
        start = file.read(len(MAGIC))
        file.seek(0)
        if not start.startswith(b"PK"):
            return read_npy(file, Budget(MOST_ARRAY_BYTES), kinds=NUMBERS, available=size)
        return _read_archive(file, size)


def _read_archive(file: BinaryIO, size: int) -> dict[str, Array]:
    with open_archive(file, array_budget(size)) as members:
        arrays = {name.removesuffix(".npy"): _read_member(member) for name, member in members.items()}
        if len(arrays) != len(members):
            raise ValueError("two of its arrays have the same name")
        return arrays


def _read_member(member: Member) -> Array:
    # A separate budget, because the archive's budget already counts these bytes.
    with member.open() as stream:
        return read_npy(stream, Budget(MOST_ARRAY_BYTES), kinds=NUMBERS, available=member.declared_bytes)


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, Array]) -> None:
    """Write one array as ``.npy``, or any number of arrays by name as ``.npz``; the write is atomic.

    Raises:
        OutputError: as ``check_array_target``, or the file cannot be written.
    """
    check_array_target(path, len(arrays))
    buffer = io.BytesIO()
    if Path(path).suffix == ".npy":
        np.save(buffer, next(iter(arrays.values())), allow_pickle=False)
    else:
        np.savez(buffer, **cast(Any, arrays))  # the stub gives the arrays the type of a flag
    write_atomically(path, buffer.getvalue())


def encode_arrays(arrays: Mapping[str, Array]) -> bytes:
    """Return arrays by name as the bytes of an ``.npz`` file; every name is possible."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            archive.writestr(f"{name}.npy", member.getvalue())
    return buffer.getvalue()


def decode_arrays(data: bytes, where: str) -> dict[str, Array]:
    """Return the arrays of an ``.npz`` file's bytes by name.

    Raises:
        InputError: the bytes are damaged, hold something other than numbers, or are over a limit.
    """
    with translated(InputError, f"{where}: not a readable .npz file of numbers"):
        return _read_archive(io.BytesIO(data), len(data))
