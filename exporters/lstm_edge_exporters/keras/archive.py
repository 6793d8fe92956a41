"""The two forms of a Keras file: a ``.keras`` archive (Keras 3) and a legacy ``.h5`` file, read with h5py alone.

Nothing in the file is executed: the config is JSON, the weights are arrays, and what a Lambda or a custom layer
carries is never loaded. Sizes are checked before anything is allocated.
"""

import contextlib
import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lstm_edge_exporters.keras.hdf5 import LARGEST_TEXT, SafeFile, shown
from lstm_edge_runtime.archive import Member, open_archive
from lstm_edge_runtime.errors import ArtifactError
from lstm_edge_runtime.reading import Budget, TooLargeError, open_file, parse_json, read_bytes, reason, translated

__all__ = ["KerasFile", "Part", "read_file"]

LARGEST_WEIGHTS = 2**31  # what an ONNX file can hold
LARGEST_METADATA = 2**16
# Keras writes three members, and a few files under assets/ for layers that this project refuses.
MOST_MEMBERS = 100
SAVE_WHOLE = "save the whole model with model.save(...), not only its weights"


@dataclass(frozen=True, kw_only=True)
class Part:
    """The arrays of one object inside a layer: its path below the layer, and each array's name and shape."""

    path: str
    arrays: tuple[tuple[str, tuple[int, ...]], ...]


class KerasFile:
    """A file's config as JSON values, the version of Keras that wrote it, and its weights.

    ``legacy`` says that the weights are in the form of ``.h5`` files.
    """

    def __init__(self, *, document: Any, version: str, weights: SafeFile, legacy: bool) -> None:
        self.document = document
        self.version = version
        self.where = weights.where
        self._weights = weights
        self._legacy = legacy

    def read(self, layer: str, store: str, parts: Sequence[Part]) -> list[list[NDArray[np.float32]]]:
        """Read a layer's arrays, part by part.

        Args:
            layer: the layer's name.
            store: what a ``.keras`` file calls the layer: its class in snake case and a count, ``lstm_1``.
            parts: the arrays that the layer must have; missing and extra ones are refused.

        Raises:
            ArtifactError: an array is missing, superfluous, or has another name, dtype or shape.
        """
        if self._legacy:
            return self._read_legacy(layer, parts)
        name = self._weights.text(f"layers/{store}/vars", "name")
        if name is not None and name != layer:
            raise ArtifactError(
                f"{self.where}: the weights under layers/{store} are those of layer {shown(name)}, expected "
                f"{shown(layer)}: config and weights are of different models"
            )
        return [self._read_part(layer, f"layers/{store}/{part.path}".rstrip("/"), part) for part in parts]

    def _read_part(self, layer: str, root: str, part: Part) -> list[NDArray[np.float32]]:
        found = len(self._weights.members(f"{root}/vars"))
        if found > len(part.arrays):
            raise ArtifactError(
                f"{self.where}: layer {shown(layer)} has {found} arrays under {root}/vars, expected {len(part.arrays)}"
            )
        return [
            self._weights.array(f"{root}/vars/{index}", shape, f"{name} of layer {shown(layer)}")
            for index, (name, shape) in enumerate(part.arrays)
        ]

    def _read_legacy(self, layer: str, parts: Sequence[Part]) -> list[list[NDArray[np.float32]]]:
        group = f"model_weights/{layer}"
        stored = self._weights.names(group, "weight_names") or []
        expected = sum(len(part.arrays) for part in parts)
        if len(stored) != expected:
            raise ArtifactError(
                f"{self.where}: layer {shown(layer)} has {len(stored)} weights in the file, expected {expected}"
            )
        result, pending = [], iter(stored)
        for part in parts:
            arrays = []
            for name, shape in part.arrays:
                path = next(pending)
                # Keras 2 writes lstm/lstm_cell/kernel:0, Keras 3 lstm/lstm_cell/kernel.
                if path.rpartition("/")[2].partition(":")[0] != name:
                    raise ArtifactError(
                        f"{self.where}: layer {shown(layer)} has the weight {shown(path)} where {name} is expected"
                    )
                arrays.append(self._weights.array(f"{group}/{path}", shape, f"{name} of layer {shown(layer)}"))
            result.append(arrays)
        return result


def read_file(path: Path) -> KerasFile:
    """Read a ``.keras`` or ``.h5`` file.

    Raises:
        ArtifactError: the file is missing, damaged, has no config or no weights, or is built to exhaust memory.
    """
    with (
        translated(ArtifactError, f"{path}: the file cannot be read"),
        open_file(path, ArtifactError) as stream,
    ):
        size = os.fstat(stream.fileno()).st_size
        if size > LARGEST_WEIGHTS:
            raise ArtifactError(f"{path}: is {size} bytes, more than the {LARGEST_WEIGHTS} that an ONNX file can hold")
        start = stream.read(8)
        stream.seek(0)
        if start.startswith(b"PK"):
            return _read_archive(stream, path)
        if not start.startswith(b"\x89HDF"):
            raise ArtifactError(f"{path}: is neither a .keras archive nor an HDF5 file")
        return _read_legacy_file(SafeFile(read_bytes(stream, LARGEST_WEIGHTS), str(path)))


def _read_legacy_file(file: SafeFile) -> KerasFile:
    config = file.text("", "model_config")
    if config is None:
        raise ArtifactError(f"{file.where}: holds weights but no model (no model_config): {SAVE_WHOLE}")
    if not file.has("model_weights"):
        raise ArtifactError(f"{file.where}: holds a model but no weights (no model_weights): {SAVE_WHOLE}")
    version = file.text("model_weights", "keras_version") or file.text("", "keras_version") or ""
    return KerasFile(document=_parse(config, file.where, "model_config"), version=version, weights=file, legacy=True)


def _read_archive(stream: BinaryIO, path: Path) -> KerasFile:
    if not zipfile.is_zipfile(stream):
        raise ArtifactError(f"{path}: the archive is damaged (it has no end record)")
    with (
        translated(ArtifactError, f"{path}: the archive is damaged"),
        _within_bounds(path),
        open_archive(stream, Budget(LARGEST_WEIGHTS), most_members=MOST_MEMBERS) as members,
    ):
        for name in members:
            if not name.isprintable() or name.startswith("/") or "\\" in name or ".." in name.split("/"):
                raise ArtifactError(
                    f"{path}: the archive has a member called {shown(name)}, a path outside the archive"
                )
        for name, told in (("config.json", "no model"), ("model.weights.h5", "no weights")):
            if name not in members:
                raise ArtifactError(f"{path}: holds {told} (no {name}): {SAVE_WHOLE}")
        config = _read_member(members["config.json"], path, LARGEST_TEXT)
        metadata = b"{}"
        if "metadata.json" in members:
            metadata = _read_member(members["metadata.json"], path, LARGEST_METADATA)
        weights = _read_member(members["model.weights.h5"], path, LARGEST_WEIGHTS)
    about = _parse(metadata, str(path), "metadata.json")
    version = about.get("keras_version", "") if isinstance(about, dict) else ""
    return KerasFile(
        document=_parse(config, str(path), "config.json"),
        version=version if isinstance(version, str) else "",
        weights=SafeFile(weights, f"{path}: model.weights.h5"),
        legacy=False,
    )


@contextlib.contextmanager
def _within_bounds(path: Path) -> Iterator[None]:
    """Say of an archive that is too large that, not that it is damaged."""
    try:
        yield
    except TooLargeError as error:
        raise ArtifactError(f"{path}: {error}") from error


def _read_member(member: Member, path: Path, largest: int) -> bytes:
    """Read one member; float32 weights shrink by far less than 16 to 1, a bomb by up to 1000 to 1."""
    if member.declared_bytes > min(largest, 16 * member.packed_bytes + LARGEST_TEXT):
        raise ArtifactError(
            f"{path}: the member {member.name} declares {member.declared_bytes} bytes from {member.packed_bytes}: "
            f"more than Keras writes"
        )
    # zipfile stops at the declared size, and its checksum then fails where the data goes on.
    data = member.read()
    if len(data) != member.declared_bytes:
        raise ArtifactError(f"{path}: the member {member.name} has {len(data)} bytes, not the declared size")
    return data


def _parse(text: str | bytes, where: str, name: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise ArtifactError(f"{where}: {name} is not readable JSON ({reason(error)})") from error
