"""Read a model file, and add or check its integrity trailer.

This needs no onnx package. The trailer is one more ``metadata_props`` entry (field 14 of ``ModelProto``),
encoded by hand and appended to the serialized model; protobuf readers accept it as part of the model:

    72 54                       field 14, length-delimited, 84 bytes follow
      0a 10 lstm_edge.sha256    field 1 (key), 16 bytes
      12 40 <64 hex digits>     field 2 (value), 64 bytes: the SHA-256 of every byte before the trailer
"""

import hashlib
import os

from lstm_edge_runtime.errors import ArtifactError, IntegrityError
from lstm_edge_runtime.file_kinds import check_kind
from lstm_edge_runtime.reading import MOST_MODEL_BYTES, open_file, read_bytes, translated
from lstm_edge_runtime.writing import check_target, write_atomically

__all__ = [
    "GOLDEN_KEY",
    "TRAILER_BYTES",
    "TRAILER_KEY",
    "append_trailer",
    "check_integrity",
    "check_target",
    "read_model_bytes",
    "write_atomically",
]

GOLDEN_KEY = "lstm_edge.golden"
TRAILER_KEY = "lstm_edge.sha256"
_PREFIX = b"\x72\x54\x0a\x10" + TRAILER_KEY.encode() + b"\x12\x40"
_DIGITS = 64
TRAILER_BYTES = len(_PREFIX) + _DIGITS

# One flipped bit changes one of the 22 fixed bytes, so a damaged trailer keeps nearly all of them. A file without a
# trailer matches about 22/256 of them by chance. Half of them separates the two cases clearly.
_LEAST_MATCHES = len(_PREFIX) // 2
# The shortest start of a trailer that is reported as truncated; a shorter one fails in onnxruntime's parser.
_LEAST_PREFIX = 4


def append_trailer(model_bytes: bytes) -> bytes:
    """Return the serialized model with its integrity trailer (86 bytes) at the end.

    Args:
        model_bytes: a serialized ``ModelProto`` without a trailer.

    Raises:
        ArtifactError: the bytes already end with a trailer.
    """
    if model_bytes[-TRAILER_BYTES:].startswith(_PREFIX):
        raise ArtifactError(
            "the model already carries an integrity trailer: strip its metadata before writing it again"
        )
    return model_bytes + _PREFIX + _digest(memoryview(model_bytes))


def check_integrity(data: bytes) -> bool:
    """Compare a model file with its integrity trailer.

    Returns:
        True if the trailer is present and agrees, False if the file has none (it is then unverified).

    Raises:
        IntegrityError: the bytes do not agree with the trailer, or the trailer itself is damaged or cut off. Any single
            flipped bit in a file with a trailer raises this error.
    """
    body, trailer = memoryview(data)[:-TRAILER_BYTES], data[-TRAILER_BYTES:]
    matches = sum(got == expected for got, expected in zip(trailer, _PREFIX, strict=False))
    if len(trailer) == TRAILER_BYTES and matches >= _LEAST_MATCHES:
        if trailer != _PREFIX + _digest(body):
            raise IntegrityError(
                "the file is damaged: its SHA-256 differs from the one in its integrity trailer; copy the file again"
            )
        return True
    start = trailer.find(_PREFIX[:_LEAST_PREFIX])
    while start >= 0:
        if _is_cut_trailer(trailer[start:]):
            raise IntegrityError(
                f"the file is truncated: only {len(trailer) - start} of the {TRAILER_BYTES} bytes of its integrity "
                "trailer are present; copy the file again"
            )
        start = trailer.find(_PREFIX[:_LEAST_PREFIX], start + 1)
    return False


def _is_cut_trailer(tail: bytes) -> bool:
    fixed, digits = tail[: len(_PREFIX)], tail[len(_PREFIX) :]
    return _PREFIX.startswith(fixed) and all(digit in b"0123456789abcdef" for digit in digits)


def _digest(body: memoryview) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def read_model_bytes(path: str | os.PathLike[str], *, any_kind: bool = False) -> bytes:
    """Read a model file.

    Args:
        path: the file.
        any_kind: leave the kind of the file to the caller, who checks a signature first.

    Raises:
        ArtifactError: the file does not exist, is a directory, a device or a pipe, is empty, is over 2 GB, cannot be
            read, or is a checkpoint.
    """
    with (
        translated(ArtifactError, f"{path}: the file cannot be read"),
        open_file(path, ArtifactError, expected="an .onnx file") as file,
    ):
        size = os.fstat(file.fileno()).st_size
        if size > MOST_MODEL_BYTES:
            raise ArtifactError(f"{path}: the file has {size} bytes; an ONNX file has at most {MOST_MODEL_BYTES}")
        data = read_bytes(file, MOST_MODEL_BYTES)
    if not data:
        raise ArtifactError(f"{path}: the file is empty; an .onnx file was expected")
    if not any_kind:
        check_kind(data, os.fsdecode(path))
    return data
