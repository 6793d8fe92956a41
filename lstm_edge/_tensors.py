"""Readers of untrusted ``.safetensors`` and ``.pt`` files: declared sizes are compared with the bytes.

No arbitrary pickle is run: a ``.pt`` file may name only the classes of a state dict. It is checked here and written to
a new archive for torch, so that torch reads exactly the checked data.
"""

import io
import os
import pickle
import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from lstm_edge_runtime.archive import Member, open_archive
from lstm_edge_runtime.checkpoint_header import read_entries, read_header
from lstm_edge_runtime.errors import ArtifactError, IntegrityError
from lstm_edge_runtime.reading import (
    MOST_ARRAY_BYTES,
    array_budget,
    open_file,
    read_bytes,
    translated,
)

__all__ = ["read_pt", "read_safetensors"]

# The globals of a state dict, and of the schedules beside it, in torch.save; the storages are below.
_GLOBALS = {
    ("collections", "Counter"),
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
}
_ITEM_BYTES = {
    **dict.fromkeys(("BoolStorage", "ByteStorage", "CharStorage", "UntypedStorage"), 1),
    **dict.fromkeys(("BFloat16Storage", "HalfStorage", "ShortStorage"), 2),
    **dict.fromkeys(("FloatStorage", "IntStorage"), 4),
    **dict.fromkeys(("ComplexFloatStorage", "DoubleStorage", "LongStorage"), 8),
    "ComplexDoubleStorage": 16,
}
# Bound of the pickle's memo indices: Python's reader allocates memory up to the largest index.
_MOST_PLACES = 2**20


def read_safetensors(
    path: str | os.PathLike[str], *, where: str | None = None, damaged: str = "not a readable .safetensors file"
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read a ``.safetensors`` file: its metadata, and its tensors by name.

    Args:
        path: the file.
        where: start of the messages; None: the path.
        damaged: message for a file that cannot be read.

    Raises:
        ArtifactError: the file does not exist, is damaged or over 16 GiB, or does not fit into memory.
        IntegrityError: the file is truncated.
    """
    where = os.fsdecode(path) if where is None else where
    with (
        translated(ArtifactError, f"{where}: {damaged}"),
        open_file(path, ArtifactError, where=where) as file,
    ):
        data = read_bytes(file, MOST_ARRAY_BYTES)
        header = read_header(data, where)
        try:
            return header.get("__metadata__", {}), load(data)
        except SafetensorError as error:
            read_entries(data, header, where)  # says whether the file is truncated
            raise ValueError(str(error)) from error


def read_pt(path: Path) -> Any:
    """Read a file of ``torch.save`` that has only dicts, lists, numbers, texts and tensors.

    Raises:
        ArtifactError: the file does not exist, is damaged, has other contents, or exceeds a limit (see
            ``lstm_edge_runtime.reading``).
        IntegrityError: the file is truncated.
    """
    with (
        translated(ArtifactError, f"{path}: not a PyTorch weights file"),
        open_file(path, ArtifactError) as file,
    ):
        if file.read(2) != b"PK":
            raise ValueError("no zip archive; a file of PyTorch before 1.6 has to be loaded and saved again")
        if not zipfile.is_zipfile(file):
            raise IntegrityError(
                f"{path}: the file is truncated: the archive's list of members is missing; copy the file again"
            )
        again = io.BytesIO()
        with (
            open_archive(file, array_budget(os.fstat(file.fileno()).st_size)) as members,
            zipfile.ZipFile(again, "w") as archive,
        ):
            root = next((name.partition("/")[0] for name in members if name.endswith("/data.pkl")), None)
            if root is None:
                raise ValueError("the archive has no data.pkl")
            if any(name.startswith(f"{root}/code/") for name in members):
                raise ValueError(
                    "it is TorchScript, a program with its weights. Save the weights alone, with "
                    "torch.save(torch.jit.load(path).state_dict(), weights_path)"
                )
            for member in members.values():
                if member.declared_bytes != member.packed_bytes:
                    raise ValueError(f"{member.name[:80]!a} is compressed; torch.save stores what it writes")
            _check_pickle(members[f"{root}/data.pkl"].read(), members, root, path)
            for name, member in members.items():
                archive.writestr(zipfile.ZipInfo(name), member.read())
        again.seek(0)
        try:
            return torch.load(again, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise _refusal(path, error) from error


def _check_pickle(data: bytes, members: Mapping[str, Member], root: str, path: Path) -> None:
    """Refuse a pickle that names other classes than tensors, or tensors that are not in the archive.

    Raises:
        ArtifactError: it names another class.
        ValueError: the pickle is damaged, or the sizes of a storage and its member differ.
    """
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in ("PUT", "LONG_BINPUT") and int(argument or 0) > _MOST_PLACES:
            raise ValueError(f"its pickle puts something at place {argument}")
    try:
        _Storages(data, members, root).load()
    except pickle.UnpicklingError as error:
        raise _refusal(path, error) from error


def _refusal(path: Path, error: pickle.UnpicklingError) -> ArtifactError:
    named = f" ({error})" if isinstance(error, _ForeignError) else ""
    return ArtifactError(
        f"{path}: holds pickled objects besides tensors{named}, which are never loaded: save the weights alone, with "
        "torch.save(module.state_dict(), path)"
    )


class _ForeignError(pickle.UnpicklingError):
    """The pickle names this class or function."""


class _Stub:
    """Replaces every class that the pickle names."""

    def __init__(self, *given: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        pass


class _Storages(pickle.Unpickler):
    """Reads a pickle without creating objects, and compares its storages with the archive's members."""

    def __init__(self, data: bytes, members: Mapping[str, Member], root: str) -> None:
        super().__init__(io.BytesIO(data))
        self._members, self._root = members, root

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _ITEM_BYTES:
            return name
        if (module, name) not in _GLOBALS and not (module == "torch" and _is_dtype(name)):
            raise _ForeignError(f"{module}.{name}"[:80])
        return _Stub

    def persistent_load(self, pid: Any) -> Any:
        _kind, storage, key, _device, elements = pid
        found, declared = self._members[f"{self._root}/data/{key}"].declared_bytes, elements * _ITEM_BYTES[storage]
        if found != declared:
            raise ValueError(f"a storage declares {declared:,} bytes, and has {found:,}")
        return _Stub()


def _is_dtype(name: str) -> bool:
    return isinstance(getattr(torch, name, None), torch.dtype)
