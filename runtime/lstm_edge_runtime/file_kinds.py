"""Which kind of file is given where another is expected: the sentence says what it is and which command takes it.

``runtime/c/src/file_kinds.cpp`` says the same of a file that lstm-edge-device is given.
"""

import os
import shlex
from dataclasses import dataclass
from typing import BinaryIO

from lstm_edge_runtime.errors import ArtifactError, InputError

__all__ = ["FileKind", "check_array_kind", "check_kind", "check_open_kind", "instead_of_checkpoint", "is_safetensors"]

_ZIP, _HDF5 = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"
# Pickles of protocol 2 and later, which torch.save wrote before version 1.6.
_PICKLES = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
# Tags of ModelProto's fields that writers put behind ir_version: producer_name and _version, graph, opset_import.
_AFTER_IR_VERSION = frozenset((b"\x12", b"\x1a", b"\x3a", b"\x42"))
# Bytes of the beginning and of the end that tell the kind: an archive's directory of entries is at its end.
_BEGINNING, _END = 512, 2**16
_MODULE = "package.module:factory"


@dataclass(frozen=True, kw_only=True)
class FileKind:
    """A kind of file.

    Attributes:
        what: its name with an article.
        source: what ``lstm-edge export`` makes a model from: FILE stands for the path. Empty: nothing is known.
        direct: whether that is the file itself, and not what it was made from.
        advice: what to do where a model is expected and nothing makes one.
    """

    what: str
    source: str = ""
    direct: bool = True
    advice: str = ""


SAFETENSORS = FileKind(what="a .safetensors checkpoint", source="FILE")
KERAS = FileKind(what="a Keras file", source="FILE")
PYTORCH = FileKind(what="a PyTorch checkpoint", source=f"{_MODULE} --weights FILE")
TORCHSCRIPT = FileKind(what="a TorchScript file", source=_MODULE, direct=False)
PROGRAM = FileKind(what="a program of torch.export", source=_MODULE, direct=False)
TFLITE = FileKind(what="a TensorFlow Lite file", source="model.keras", direct=False)
ONNX = FileKind(what="an .onnx file")
ARRAYS = FileKind(what="an array of NumPy", advice="the model comes first, as in lstm-edge run MODEL.onnx INPUT.npy")
ARCHIVE = FileKind(what="a zip archive")
TEXT = FileKind(what="a text file")


def is_safetensors(start: bytes, size: int) -> bool:
    """Return whether a file of ``size`` bytes that begins with ``start``, nine bytes at least, has such a header."""
    return len(start) > 8 and int.from_bytes(start[:8], "little") <= size - 8 and start[8:9] == b"{"


def _kind_of(start: bytes, end: bytes, size: int) -> FileKind | None:
    """Return the kind of a file by its content, or None.

    Args:
        start: its first 512 bytes.
        end: its last 65,536 bytes.
        size: its size in bytes.
    """
    if is_safetensors(start, size):
        return SAFETENSORS
    if start.startswith(_ZIP):
        return _archive(start[:300] + end)
    for beginning, kind in (((_HDF5,), KERAS), (_PICKLES, PYTORCH), ((b"\x93NUMPY",), ARRAYS)):
        if start.startswith(beginning):
            return kind
    if start[4:8] == b"TFL3":
        return TFLITE
    if start[:1] == b"\x08" and start[2:3] in _AFTER_IR_VERSION:
        return ONNX
    return TEXT if start and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start) else None


def _archive(names: bytes) -> FileKind:
    """Return the kind of an archive by the names of its entries."""
    for found, kind in (
        (b"/constants.pkl", TORCHSCRIPT),
        (b"/models/model.json", PROGRAM),
        (b"/data.pkl", PYTORCH),
        (b"metadata.json", KERAS),
        (b".npy", ARRAYS),
    ):
        if found in names:
            return kind
    return ARCHIVE


def _kind_of_file(file: BinaryIO) -> FileKind | None:
    """Return the kind of an open file, whose position is its beginning."""
    size = os.fstat(file.fileno()).st_size
    start = file.read(_BEGINNING)
    file.seek(max(0, size - _END))
    return _kind_of(start, file.read(_END), size)


def check_kind(data: bytes, path: str) -> None:
    """Refuse a file of another kind that is given as a model.

    Args:
        data: the whole file.
        path: of the file; messages start with it.

    Raises:
        ArtifactError: it is a checkpoint, a program, an archive, a file of arrays, or a text.
    """
    _check(_kind_of(data[:_BEGINNING], data[-_END:], len(data)), path)


def check_open_kind(file: BinaryIO, path: str, *, checkpoints: bool = False) -> None:
    """Refuse an open file of another kind that is given as a model, as ``check_kind``; little of it is read.

    Args:
        file: the file.
        path: its path; messages start with it.
        checkpoints: whether a ``.safetensors`` file is accepted too.

    Raises:
        ArtifactError: as ``check_kind``, or the file is empty.
    """
    if not os.fstat(file.fileno()).st_size:
        raise ArtifactError(f"{path}: the file is empty; an .onnx file was expected")
    kind = _kind_of_file(file)
    if not (checkpoints and kind is SAFETENSORS):
        _check(kind, path)


def check_array_kind(file: BinaryIO, path: str | os.PathLike[str]) -> None:
    """Refuse an open file of another kind that is given as arrays; its position is the beginning afterwards.

    Args:
        file: the file.
        path: its path; messages start with it.

    Raises:
        InputError: it is a checkpoint, a model, a program or a text.
    """
    kind = _kind_of_file(file)
    file.seek(0)
    # An archive may have other entries than arrays: what reads it names them.
    if kind is not None and kind not in (ARRAYS, ARCHIVE):
        raise InputError(f"{os.fspath(path)}: not a readable .npy or .npz file of numbers (it is {kind.what})")


def instead_of_checkpoint(data: bytes) -> str:
    """Return what a file is that is given as a checkpoint, and which command takes it; empty where it is unknown.

    Args:
        data: the whole file.
    """
    kind = _kind_of(data[:_BEGINNING], data[-_END:], len(data))
    if kind is None or kind is SAFETENSORS:
        return ""
    if kind is TORCHSCRIPT:
        return (
            "it is TorchScript, which export does not take: give the module, package.module:factory, and its weights "
            "with --weights, saved by torch.save(torch.jit.load(path).state_dict(), weights_path)"
        )
    if kind is PYTORCH:
        return (
            f"it is a PyTorch checkpoint, which holds weights without their module: lstm-edge export {PYTORCH.source}"
        )
    advice = ""
    if kind is ONNX:
        advice = ", which lstm-edge adopt and lstm-edge quantize take"
    elif kind is KERAS:
        advice = ": lstm-edge export takes it under a name that ends in .keras, .h5 or .hdf5"
    elif not kind.direct:
        advice = f": lstm-edge export {kind.source} takes what it was made from"
    return f"it is {kind.what}{advice}"


def _check(kind: FileKind | None, path: str) -> None:
    if kind is None or kind is ONNX:
        return
    advice = f": {kind.advice}" if kind.advice else ""
    if kind.source:
        source = kind.source.replace("FILE", shlex.quote(path))
        advice = f": lstm-edge export {source} -o model.onnx makes one"
        advice += "" if kind.direct else " of what it was made from"
    raise ArtifactError(f"{path}: this is {kind.what}, and an .onnx file was expected{advice}")
