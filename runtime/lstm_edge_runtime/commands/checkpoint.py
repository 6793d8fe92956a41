"""``lstm-edge inspect`` of a ``.safetensors`` file: what a trained model is, without torch."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstm_edge_runtime._json import encode
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.checkpoint_header import (
    CHECKPOINT_KEY,
    KINDS,
    Entry,
    parse_description,
    read_entries,
    read_header,
)
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.file_kinds import is_safetensors
from lstm_edge_runtime.reading import MOST_ARRAY_BYTES, open_file, read_bytes, translated

__all__ = ["CheckpointReport", "StoredTensor", "inspect_checkpoint", "is_checkpoint"]

# A block of a sparse matrix: 16 outputs of one gate by 4 inputs. It is stored as 64 bytes and a number of four.
BLOCK_OUTPUTS, BLOCK_INPUTS = 16, 4
BYTES_PER_BLOCK, BYTES_OF_ROWS = BLOCK_OUTPUTS * BLOCK_INPUTS + 4, 8
# Where quantize leaves zero blocks out by itself (lstm_edge_exporters/quantize/zero_blocks.py).
MOST_DENSITY, LEAST_CELLS = 0.5, 128
# The ready-made models are LSTMs.
GATES = 4


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """One tensor of a checkpoint.

    ``density``: of a recurrent layer's matrix of W or R, the share of blocks of 16 outputs by 4 inputs that have a
    weight other than zero; None for others. ``finite``: whether no element is NaN or infinite.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    density: float | None
    finite: bool


@dataclass(frozen=True, kw_only=True)
class CheckpointReport:
    """What a checkpoint contains.

    ``kind``, ``task`` and ``config`` are None, None and empty where the file is not one of ``lstm-edge train``.
    ``parameters``: elements of all tensors. ``int8_bytes``: weights, scales and biases of the file that ``lstm-edge
    export --scheme int8`` makes, zero blocks left out where that pays; graph, card and golden vectors take more. None
    where the model is unknown. ``notes``: sentences about what is unusual.
    """

    path: str
    size_bytes: int
    kind: str | None
    task: str | None
    config: Mapping[str, Any]
    parameters: int
    int8_bytes: int | None
    tensors: tuple[StoredTensor, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {name: encode(value) for name, value in vars(self).items() if name != "path"}


def is_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is a ``.safetensors`` file, by its content; by its name if it is damaged or cannot be read.

    What is wrong with a file is said by whoever reads it.
    """
    named = os.fsdecode(path).lower().endswith(".safetensors")
    try:
        with open_file(path, ArtifactError) as file, translated(ArtifactError, os.fsdecode(path)):
            start = file.read(9)
            size = os.fstat(file.fileno()).st_size
    except ArtifactError:
        return named
    # An ONNX file begins with its ir_version, field 1.
    return (named and start[:1] != b"\x08") or is_safetensors(start, size)


def inspect_checkpoint(path: str | os.PathLike[str]) -> CheckpointReport:
    """Read a ``.safetensors`` file and return what it contains; no torch is loaded.

    Raises:
        ArtifactError: the file is missing, damaged or over 16 GiB, or of an unknown version or kind.
        IntegrityError: the file is truncated.
    """
    where = f"checkpoint {os.fsdecode(path)}"
    with (
        translated(ArtifactError, f"{where}: not a readable .safetensors file"),
        open_file(path, ArtifactError, where=where) as file,
    ):
        data = read_bytes(file, MOST_ARRAY_BYTES)
        header = read_header(data, where)
        entries = read_entries(data, header, where)
    text = header.get("__metadata__", {}).get(CHECKPOINT_KEY)
    kind, config = (None, {}) if text is None else parse_description(where, text)
    arrays = {name: _array(data, entry) for name, entry in entries.items()}
    tensors = tuple(_stored(name, entries[name], array) for name, array in arrays.items())
    notes = [f"the tensor {tensor.name!r} holds NaN or infinity" for tensor in tensors if not tensor.finite]
    if kind is None:
        notes.append("the file was not written by lstm-edge train, so its model and its configuration are unknown")
    return CheckpointReport(
        path=os.fspath(path),
        size_bytes=len(data),
        kind=kind,
        task=None if kind is None else KINDS[kind],
        config=config,
        parameters=sum(entry.size for entry in entries.values()),
        int8_bytes=None if kind is None else sum(_int8_bytes(name, array) for name, array in arrays.items()),
        tensors=tensors,
        notes=tuple(notes),
    )


def _array(data: bytes, entry: Entry) -> Array:
    """Return the numbers of a float32 tensor; of others zeros of its shape that take no memory."""
    if entry.dtype != "F32":
        return np.broadcast_to(np.zeros((), np.float32), entry.shape)
    return np.frombuffer(data, "<f4", entry.size, entry.begin).reshape(entry.shape)


def _stored(name: str, entry: Entry, array: Array) -> StoredTensor:
    known = entry.dtype == "F32"
    blocks = _blocks(array) if known and _is_recurrent(name) and array.ndim == 2 else None
    return StoredTensor(
        name=name,
        dtype=entry.dtype,
        shape=entry.shape,
        density=None if blocks is None else round(float(blocks.mean()), 4),
        finite=not known or bool(np.isfinite(array).all()),
    )


def _is_recurrent(name: str) -> bool:
    """Whether a tensor is W or R of a layer."""
    return name.rpartition(".")[2].startswith(("weight_ih_", "weight_hh_"))


def _blocks(matrix: Array) -> Array | None:
    """Return which blocks of W or R [4 H, K] have a weight other than zero; None where the rows are no gates."""
    rows, inputs = matrix.shape
    if rows == 0 or inputs == 0 or rows % GATES:
        return None
    cells = rows // GATES
    padding = ((0, 0), (0, -cells % BLOCK_OUTPUTS), (0, -inputs % BLOCK_INPUTS))
    padded = np.pad(matrix.reshape(GATES, cells, inputs) != 0, padding)
    tall, wide = padded.shape[1] // BLOCK_OUTPUTS, padded.shape[2] // BLOCK_INPUTS
    return np.asarray(padded.reshape(GATES, tall, BLOCK_OUTPUTS, wide, BLOCK_INPUTS).any(axis=(2, 4)))


def _int8_bytes(name: str, array: Array) -> int:
    """Return what a tensor takes in an int8 file: a matrix has a byte for each weight and a scale for each row."""
    if name.rpartition(".")[2].startswith("bias_hh_"):
        return 0  # added to bias_ih
    if array.ndim != 2:
        return 4 * array.size
    blocks = _blocks(array) if _is_recurrent(name) else None
    weights = array.size
    if blocks is not None and blocks.mean() <= MOST_DENSITY and len(array) // GATES >= LEAST_CELLS:
        weights = min(weights, max(1, int(blocks.sum())) * BYTES_PER_BLOCK + BYTES_OF_ROWS)
    return weights + 4 * len(array)
