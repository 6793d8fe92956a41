"""What a ``.safetensors`` file says about itself before its weights: tensors, metadata, and of ours the configuration.

The header is JSON: no torch is needed to read it. ``checkpoint.py`` loads the model.
"""

import math
from dataclasses import dataclass
from typing import Any

from lstm_edge_runtime._json import shortened
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.reading import parse_json

__all__ = [
    "CHECKPOINT_KEY",
    "KINDS",
    "VERSION",
    "Entry",
    "is_arrays",
    "is_keras",
    "is_pytorch",
    "is_safetensors",
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
_ZIP, _HDF5, _NUMPY = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\x93NUMPY"
# The head of an archive's first entry and its name.
_FIRST_ENTRY = 300
# Pickles of protocol 2 and later, which torch.save wrote before version 1.6.
_PICKLES = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
# Tags of ModelProto's fields that writers put behind ir_version: producer_name and _version, graph, opset_import.
_AFTER_IR_VERSION = frozenset((b"\x12", b"\x1a", b"\x3a", b"\x42"))
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


def is_safetensors(start: bytes, size: int) -> bool:
    """Return whether a file of ``size`` bytes that begins with ``start``, nine bytes at least, has such a header."""
    return len(start) > 8 and int.from_bytes(start[:8], "little") <= size - 8 and start[8:9] == b"{"


def is_pytorch(data: bytes) -> bool:
    """Return whether a file is one of torch.save: an archive with ``data.pkl``, or before version 1.6 a pickle."""
    return data.startswith(_PICKLES) or (data.startswith(_ZIP) and b"/data.pkl" in data[:_FIRST_ENTRY])


def is_keras(data: bytes) -> bool:
    """Return whether a file is one of Keras: HDF5, or an archive that begins with ``metadata.json``."""
    return data.startswith(_HDF5) or (data.startswith(_ZIP) and b"metadata.json" in data[:_FIRST_ENTRY])


def is_arrays(data: bytes) -> bool:
    """Return whether a file is an ``.npy`` array, or an archive that begins with one."""
    return data.startswith(_NUMPY) or (data.startswith(_ZIP) and b".npy" in data[:_FIRST_ENTRY])


def _other_kind(data: bytes) -> str:
    """Return what a file without a readable header is and which command takes it; nothing where that is not known."""
    if data.startswith(_ZIP) and b"/code/__torch__" in data:
        return (
            "it is TorchScript, which export does not take: give the module, package.module:factory, and its weights "
            "with --weights, saved by torch.save(torch.jit.load(path).state_dict(), weights_path)"
        )
    if is_pytorch(data):
        return (
            "it is a PyTorch checkpoint, which holds weights without their module: "
            "lstm-edge export package.module:factory --weights FILE"
        )
    if data[:1] == b"\x08" and data[2:3] in _AFTER_IR_VERSION:
        return "it is an .onnx file, which lstm-edge adopt and lstm-edge quantize take"
    return ""


def read_header(data: bytes) -> dict[str, Any]:
    """Return the JSON object at the begin of a file, with texts under ``__metadata__`` if that is there.

    Raises:
        ValueError: the header is longer than the file, no JSON, or another object.
    """
    length = int.from_bytes(data[:8], "little")
    if not is_safetensors(data[:9], len(data)) and (other := _other_kind(data)):
        raise ValueError(other)
    if len(data) < 8 or length > min(len(data) - 8, _LONGEST_HEADER):
        raise ValueError(f"its header declares {length:,} bytes, the file has {len(data):,}")
    header = parse_json(data[8 : 8 + length])
    metadata = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its header is not an object with texts under __metadata__")
    return dict(header)


def read_entries(data: bytes, header: dict[str, Any]) -> dict[str, Entry]:
    """Return the tensors of a header by name, in the order of their bytes.

    Raises:
        ValueError: an entry is malformed, or its bytes are not those of its shape or not in the file.
    """
    start = 8 + int.from_bytes(data[:8], "little")
    entries = {name: _entry(name, value, start) for name, value in header.items() if name != "__metadata__"}
    for name, entry in entries.items():
        if not start <= entry.begin <= entry.end <= len(data):
            raise ValueError(f"the tensor {shortened(name)} is not within the file's {len(data):,} bytes")
        if entry.end - entry.begin != entry.size * _ITEM_BYTES[entry.dtype]:
            raise ValueError(f"the tensor {shortened(name)} has other bytes than its shape {list(entry.shape)} needs")
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
