"""The bytes around the graph: reading a model file, and its integrity trailer.

No onnx package is needed here. The trailer is one more ``metadata_props`` entry (field 14 of ``ModelProto``),
encoded by hand and appended to the serialized model; protobuf readers accept it as part of the model:

    72 54                       field 14, length-delimited, 84 bytes follow
      0a 10 lstm_edge.sha256    field 1 (key), 16 bytes
      12 40 <64 hex digits>     field 2 (value), 64 bytes: the SHA-256 of every byte before the trailer
"""

import hashlib
import os

from lstm_edge_runtime.errors import ArtifactError, IntegrityError
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

# One flipped bit changes one of the 22 fixed bytes. Half of them is far from both sides: a damaged trailer keeps
# nearly all, and a file that never had one matches about 22/256 of them by chance.
_LEAST_MATCHES = len(_PREFIX) // 2
# The shortest cut-off trailer that is named as such; anything shorter fails in onnxruntime's parser anyway.
_LEAST_PREFIX = 4


def append_trailer(model_bytes: bytes) -> bytes:
    """Return the serialized model with its integrity trailer (86 bytes) at the end.

    Args:
        model_bytes: a serialized ``ModelProto`` that carries no trailer yet.

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
        True when the trailer is there and agrees, False when there is none (the file is unverified).

    Raises:
        IntegrityError: the bytes differ from those that the trailer was made for, or the trailer itself is
            damaged or cut off. Any single flipped bit of a file with a trailer ends here.
    """
    body, trailer = memoryview(data)[:-TRAILER_BYTES], data[-TRAILER_BYTES:]
    matches = sum(got == expected for got, expected in zip(trailer, _PREFIX, strict=False))
    if len(trailer) == TRAILER_BYTES and matches >= _LEAST_MATCHES:
        if trailer != _PREFIX + _digest(body):
            raise IntegrityError(
                "the file is damaged: its SHA-256 is not the one in its integrity trailer; copy the file again"
            )
        return True
    start = trailer.find(_PREFIX[:_LEAST_PREFIX])
    while start >= 0:
        if _is_cut_trailer(trailer[start:]):
            raise IntegrityError(
                f"the file is truncated: only {len(trailer) - start} of the {TRAILER_BYTES} bytes of its integrity "
                "trailer are there; copy the file again"
            )
        start = trailer.find(_PREFIX[:_LEAST_PREFIX], start + 1)
    return False


def _is_cut_trailer(tail: bytes) -> bool:
    fixed, digits = tail[: len(_PREFIX)], tail[len(_PREFIX) :]
    return _PREFIX.startswith(fixed) and all(digit in b"0123456789abcdef" for digit in digits)


def _digest(body: memoryview) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def read_model_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a model file.

    Raises:
        ArtifactError: there is no such file, it is a directory, a device or a pipe, empty, over 2 GB or cannot be read.
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
    return data
