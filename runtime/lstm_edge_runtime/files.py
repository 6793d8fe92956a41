"""Arrays in ``.npy`` and ``.npz`` files: read without pickle, written in one step."""

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from lstm_edge_runtime.errors import InputError, OutputError
from lstm_edge_runtime.writing import check_target, write_atomically

__all__ = ["check_array_target", "read_arrays", "write_arrays"]

Array = np.ndarray[Any, np.dtype[Any]]


def read_arrays(path: str | os.PathLike[str]) -> Array | dict[str, Array]:
    """Read the array of an ``.npy`` file, or the arrays of an ``.npz`` file by name.

    Raises:
        InputError: there is no such file, or it is not one of the two formats, or holds Python objects.
    """
    try:
        # Opened here: given a path, NumPy leaves a damaged archive open.
        with open(path, "rb") as file:
            loaded = np.load(file, allow_pickle=False)
            return loaded if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: this is a directory; give the path of an .npy or .npz file") from error
    # What a damaged archive or header, an object array, or a declared size beyond the memory end in.
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, NotImplementedError, MemoryError) as error:
        raise InputError(f"{path}: not a readable .npy or .npz file of numbers ({error})") from error


def check_array_target(path: str | os.PathLike[str], count: int) -> None:
    """Refuse, before any work is done, a path that ``write_arrays`` could not write ``count`` arrays to.

    Raises:
        OutputError: the name does not end in ``.npz`` (or ``.npy``, for one array), or the path is not writable.
    """
    suffix = Path(path).suffix
    if suffix not in (".npy", ".npz"):
        raise OutputError(f"{path}: the name must end in .npy or .npz")
    if suffix == ".npy" and count != 1:
        raise OutputError(f"{path}: an .npy file holds one array, there are {count}: use a name that ends in .npz")
    check_target(path)


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, Array]) -> None:
    """Write one array as ``.npy``, or any number of arrays by name as ``.npz``; whole or not at all.

    Raises:
        OutputError: as ``check_array_target``, or the file cannot be written.
    """
    check_array_target(path, len(arrays))
    buffer = io.BytesIO()
    if Path(path).suffix == ".npy":
        np.save(buffer, next(iter(arrays.values())), allow_pickle=False)
    else:
        np.savez(buffer, **cast(Any, arrays))  # its stub gives the arrays a flag's type
    write_atomically(path, buffer.getvalue())
