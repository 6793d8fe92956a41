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

__all__ = ["KerasFile", "Part", "Place", "read_file"]

LARGEST_WEIGHTS = 2**31  # what an ONNX file can hold
LARGEST_METADATA = 2**16
# Keras writes three members, and a few files under assets/ for layers that this project refuses.
MOST_MEMBERS = 100
SAVE_WHOLE = "save the whole model with model.save(...), not only its weights"


@dataclass(frozen=True, kw_only=True)
class Part:
    """The arrays of one object inside a layer: its path below the layer, and each array's name and shape.

    ``legacy`` is what a component of the arrays' names begins with in an ``.h5`` file, where several parts of a layer
    have arrays of the same names. ``unread`` are further arrays that the layer may have and that change no answer.
    """

    path: str
    arrays: tuple[tuple[str, tuple[int, ...]], ...]
    legacy: str = ""
    unread: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a file has a layer's weights: ``store`` in a ``.keras`` file, ``names`` in an ``.h5`` file.

    ``store`` is a path of classes in snake case and counts, ``layers/lstm_1``; ``names`` are the names of the layer and
    of the models and wrappers around it, the outermost first, without that of a layer that a wrapper holds. ``layer``
    is the layer's name.
    """

    store: str
    names: tuple[str, ...]
    layer: str

    def wrapped(self, key: str, name: str, *, model: bool) -> "Place":
        """Return the place of the layer in a wrapper; all arrays of the wrapper belong to it if it is not a model."""
        names = (*self.names, name) if model else self.names
        return Place(store=f"{self.store}/{key}", names=names, layer=name)

    def inner(self, store: str, name: str) -> "Place":
        """Return the place of a layer in a model."""
        return Place(store=f"{self.store}/layers/{store}".lstrip("/"), names=(*self.names, name), layer=name)


class KerasFile:
    """A file's config as JSON values, the version of Keras that wrote it, and its weights.

    ``legacy`` says that the weights are in the form of ``.h5`` files; they are in the group ``root``.
    """

    def __init__(
        self, *, document: Any, version: str, weights: SafeFile, legacy: bool, root: str = "model_weights"
    ) -> None:
        self.document = document
        self.version = version
        self.where = weights.where
        self._weights = weights
        self._legacy = legacy
        self._root = root

    @property
    def before_3(self) -> bool:
        """Whether Keras 1 or 2 wrote it."""
        return self.version.partition(".")[0] in ("1", "2")

    def read(self, place: Place, parts: Sequence[Part]) -> list[list[NDArray[np.float32]]]:
        """Read a layer's arrays, part by part.

        Args:
            place: where they are.
            parts: the arrays that the layer must have; missing and extra ones are refused.

        Raises:
            ArtifactError: an array is missing, superfluous, or has another name, dtype or shape.
        """
        layer = place.layer
        if self._legacy:
            return self._read_legacy(layer, place, parts)
        name = self._weights.text(f"{place.store}/vars", "name")
        if name is not None and name != layer:
            raise ArtifactError(
                f"{self.where}: the weights under {place.store} are those of layer {shown(name)}, expected "
                f"{shown(layer)}: config and weights are of different models"
            )
        return [self._read_part(layer, f"{place.store}/{part.path}".rstrip("/"), part) for part in parts]

    def _read_part(self, layer: str, root: str, part: Part) -> list[NDArray[np.float32]]:
        found = len(self._weights.members(f"{root}/vars"))
        if found > len(part.arrays) + len(part.unread):
            raise ArtifactError(
                f"{self.where}: layer {shown(layer)} has {found} arrays under {root}/vars, expected {len(part.arrays)}"
            )
        return [
            self._weights.array(f"{root}/vars/{index}", shape, f"{name} of layer {shown(layer)}")
            for index, (name, shape) in enumerate(part.arrays)
        ]

    def _read_legacy(self, layer: str, place: Place, parts: Sequence[Part]) -> list[list[NDArray[np.float32]]]:
        group = f"{self._root}/{place.names[0]}".lstrip("/")
        unread = {name for part in parts for name in part.unread}
        stored = [path for path in self._legacy_names(group, place) if _last(path) not in unread]
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
                inside = any(component.startswith(part.legacy) for component in path.split("/")[:-1])
                if _last(path) != name or (part.legacy and not inside):
                    wanted = f"{name} of {part.legacy}" if part.legacy else name
                    raise ArtifactError(
                        f"{self.where}: layer {shown(layer)} has the weight {shown(path)} where {wanted} is expected"
                    )
                arrays.append(self._weights.array(f"{group}/{path}", shape, f"{name} of layer {shown(layer)}"))
            result.append(arrays)
        return result

    def _legacy_names(self, group: str, place: Place) -> list[str]:
        """Return the names of a layer's arrays: those of a model's layers are all in the model's one list."""
        stored = self._weights.names(group, "weight_names") or []
        if len(place.names) == 1:
            return stored
        # Keras 3 writes the way from where the model was built, inner/dense/kernel; Keras 2 dense/kernel:0 alone.
        for prefix in (place.names[start:] for start in range(len(place.names))):
            found = [path for path in stored if tuple(path.split("/")[: len(prefix)]) == prefix]
            if found:
                return found
        return []


def _last(path: str) -> str:
    """Return the name of an array: Keras 2 writes lstm/lstm_cell/kernel:0, Keras 3 lstm/lstm_cell/kernel."""
    return path.rpartition("/")[2].partition(":")[0]


def read_file(path: Path) -> KerasFile:
    """Read a ``.keras`` or ``.h5`` file, or a ``.json`` file with its weights beside it.

    Raises:
        ArtifactError: the file is missing, damaged, has no config or no weights, or is built to exhaust memory.
    """
    _check_folder(path)
    with (
        translated(ArtifactError, f"{path}: the file cannot be read"),
        open_file(path, ArtifactError) as stream,
    ):
        size = os.fstat(stream.fileno()).st_size
        if size > LARGEST_WEIGHTS:
            raise ArtifactError(f"{path}: is {size} bytes, more than the {LARGEST_WEIGHTS} that an ONNX file can hold")
        if path.suffix == ".json":
            return _read_pair(stream, path)
        start = stream.read(8)
        stream.seek(0)
        if start.startswith(b"PK"):
            return _read_archive(stream, path)
        if not start.startswith(b"\x89HDF"):
            raise ArtifactError(f"{path}: is neither a .keras archive nor an HDF5 file")
        return _read_legacy_file(SafeFile(read_bytes(stream, LARGEST_WEIGHTS), str(path)), path)


def _check_folder(path: Path) -> None:
    """Refuse a folder: TensorFlow's holds a program, and other tools' no Keras model."""
    if path.is_dir():
        saved = any((path / name).exists() for name in ("saved_model.pb", "keras_metadata.pb"))
        found = "a TensorFlow SavedModel, which holds a program and not a model of layers" if saved else "a directory"
        raise ArtifactError(
            f"{path}: this is {found}: load it with the version of Keras that wrote it, and save it as one file, with "
            "model.save('model.keras') or model.save('model.h5')"
        )


def _read_pair(stream: BinaryIO, path: Path) -> KerasFile:
    """Read a config from ``model.to_json()``, and its weights from ``model.save_weights(...)`` beside it."""
    document = _parse(read_bytes(stream, LARGEST_TEXT), str(path), path.name)
    stem = path.with_suffix("")
    names = [Path(f"{stem}.weights.h5"), Path(f"{stem}.h5")]
    beside = next((name for name in names if name.is_file()), None)
    if beside is None:
        raise ArtifactError(
            f"{path}: holds a model but no weights, and there is no {names[0].name} beside it: save them there, with "
            "model.save_weights(...), or save the model in one file, with model.save('model.keras')"
        )
    with open_file(beside, ArtifactError) as weights:
        file = SafeFile(read_bytes(weights, LARGEST_WEIGHTS), str(beside))
    version = document.get("keras_version", "") if isinstance(document, dict) else ""
    return KerasFile(
        document=document,
        version=version if isinstance(version, str) else "",
        weights=file,
        # Keras 1 and 2 list the layers; Keras 3 has the groups of a .keras archive.
        legacy=file.names("", "layer_names") is not None,
        root="",
    )


def _read_legacy_file(file: SafeFile, path: Path) -> KerasFile:
    config = file.text("", "model_config")
    if config is None and path.name.endswith(".weights.h5"):
        name = path.name.removesuffix(".weights.h5")
        raise ArtifactError(
            f"{path}: holds weights but no model: give the {name}.json of model.to_json() with this file beside it, or "
            f"{SAVE_WHOLE}"
        )
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
