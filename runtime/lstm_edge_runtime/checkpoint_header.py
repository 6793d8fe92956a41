"""What a ``.safetensors`` file says about itself before its weights: tensors, metadata, and of ours the configuration.

The header is JSON: no torch is needed to read it. ``checkpoint.py`` loads the model.
"""

import math
import shlex
from dataclasses import dataclass
from typing import Any

from lstm_edge_runtime._json import shortened
from lstm_edge_runtime.errors import ArtifactError, IntegrityError
from lstm_edge_runtime.file_kinds import instead_of_checkpoint, is_safetensors
from lstm_edge_runtime.reading import parse_json

__all__ = [
    "CHECKPOINT_KEY",
    "KINDS",
    "VERSION",
    "Entry",
    "no_description",
    "parse_description",
    "read_entries",
    "read_header",
]

CHECKPOINT_KEY = "lstm_edge.checkpoint"
VERSION = "1"
# Kind of model -> task.
KINDS = {
    "sequence-classifier": "classification",
    "sequence-tagger": "tagging",
    "sequence-forecaster": "forecast",
    "language-model": "language-model",
}
# The header of a language model holds its vocabulary and tokenizer; see card.py.
_LONGEST_HEADER = 2**26
# Bytes of an element of each dtype that the format has.
_ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One tensor: ``dtype`` as the format names it (``F32``), shape, and where its bytes begin and end in the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


def read_header(data: bytes, where: str) -> dict[str, Any]:
    """Return the JSON object at the begin of a file, with texts under ``__metadata__`` if that is there.

    Args:
        data: the whole file.
        where: the start of messages.

    Raises:
        IntegrityError: the file ends within the header.
        ValueError: the file is of another kind, or its header is too long, no JSON, or another object.
    """
    if not data:
        raise ValueError("the file is empty")
    length = int.from_bytes(data[:8], "little")
    if not is_safetensors(data[:9], len(data)):
        if other := instead_of_checkpoint(data):
            raise ValueError(other)
        if len(data) < 9 or (data[8:9] == b"{" and length <= _LONGEST_HEADER):
            raise _truncated(where, f"it ends within its header, after {len(data):,} bytes")
    if len(data) < 8 or length > min(len(data) - 8, _LONGEST_HEADER):
        raise ValueError(f"its header declares {length:,} bytes, the file has {len(data):,}")
    header = parse_json(data[8 : 8 + length])
    metadata = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its header is not an object with texts under __metadata__")
    return dict(header)


def _truncated(where: str, problem: str) -> IntegrityError:
    return IntegrityError(f"{where}: the file is truncated: {problem}; copy the file again")


def read_entries(data: bytes, header: dict[str, Any], where: str) -> dict[str, Entry]:
    """Return the tensors of a header by name, in the order of their bytes.

    Args:
        data: the whole file.
        header: what ``read_header`` returns.
        where: the start of messages.

    Raises:
        IntegrityError: the file ends before a tensor does.
        ValueError: an entry is malformed, or its bytes are not those of its shape.
    """
    start = 8 + int.from_bytes(data[:8], "little")
    entries = {name: _entry(name, value, start) for name, value in header.items() if name != "__metadata__"}
    for name, entry in entries.items():
        if entry.end - entry.begin != entry.size * _ITEM_BYTES[entry.dtype]:
            raise ValueError(f"the tensor {shortened(name)} has other bytes than its shape {list(entry.shape)} needs")
        if entry.end > len(data):
            problem = f"the tensor {shortened(name)} ends at byte {entry.end:,}, the file at byte {len(data):,}"
            raise _truncated(where, problem)
    return dict(sorted(entries.items(), key=lambda item: item[1].begin))


def _entry(name: str, value: Any, start: int) -> Entry:
    fields = value if isinstance(value, dict) else {}
    dtype, shape, offsets = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _ITEM_BYTES:
        raise ValueError(f"the tensor {shortened(name)} has dtype {shortened(dtype)}")
    for key, numbers in (("shape", shape), ("data_offsets", offsets)):
        if not isinstance(numbers, list) or not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError(f"the tensor {shortened(name)} has {key} {shortened(numbers)}")
    assert isinstance(shape, list)
    assert isinstance(offsets, list)
    if len(offsets) != 2:
        raise ValueError(f"the tensor {shortened(name)} has data_offsets {shortened(offsets)}")
    return Entry(dtype=dtype, shape=tuple(shape), begin=start + offsets[0], end=start + offsets[1])


def no_description(where: str, path: str) -> ArtifactError:
    """Return the error about a ``.safetensors`` file that lstm-edge did not write.

    Args:
        where: the start of messages.
        path: of the file.
    """
    return ArtifactError(
        f"{where}: its metadata has no key {CHECKPOINT_KEY!r}; expected a file written by `lstm-edge train`. For the "
        f"weights of another module: lstm-edge export package.module:factory --weights {shlex.quote(path)}"
    )


def parse_description(where: str, text: str) -> tuple[str, dict[str, Any]]:
    """Return the kind and the configuration of a checkpoint of ours, the value of ``CHECKPOINT_KEY``.

    Args:
        where: the start of messages.
        text: the value.

    Raises:
        ArtifactError: it is no such object, or of another version or kind.
    """
    try:
        description: Any = parse_json(text)
    except ValueError as error:
        raise ArtifactError(f"{where}: {CHECKPOINT_KEY} is not JSON ({error})") from error
    if not isinstance(description, dict):
        raise ArtifactError(f"{where}: {CHECKPOINT_KEY} must be an object, got {type(description).__name__}")
    for key, known in (("version", (VERSION,)), ("kind", tuple(KINDS))):
        if description.get(key) not in known:
            raise ArtifactError(
                f"{where}: {key} is {shortened(description.get(key))}, "
                f"this version of lstm-edge reads {', '.join(map(repr, known))}"
            )
    values = description.get("config")
    if not isinstance(values, dict):
        raise ArtifactError(f"{where}: config must be an object, got {type(values).__name__}")
    return description["kind"], values
