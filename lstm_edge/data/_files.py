"""Where data sets come from: the ones bundled with the package, and ``.npz`` files without pickles."""

import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lstm_edge.data._sequences import Dataset
from lstm_edge_runtime.errors import DataError

__all__ = ["BUNDLED", "load", "load_npz"]

Split = Literal["train", "test"]

SPLITS: tuple[Split, ...] = ("train", "test")
BUNDLED = ("japanese-vowels",)
SPEAKERS = tuple(f"speaker {number}" for number in range(1, 10))

# What NumPy and zipfile raise for a damaged, encrypted or made-up archive; a member's header can also claim
# more elements than there is memory.
UNREADABLE = (
    EOFError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def load(spec: str, *, default_split: Split) -> Dataset:
    """Load a bundled set or an ``.npz`` file.

    Args:
        spec: ``japanese-vowels``, ``japanese-vowels:train``, ``japanese-vowels:test``, or the path of an ``.npz``
            file (its keys: see ``lstm_edge.data``).
        default_split: the split that a bundled name without one means: ``train`` where a model is trained,
            ``test`` where it is judged.

    Raises:
        DataError: no such set, split or file, or the file's contents are not as documented.
    """
    name, colon, split = spec.partition(":")
    if name in BUNDLED:
        if colon and split not in SPLITS:
            raise DataError(f"data {spec!r}: {name} has no split {split!r}; expected one of {', '.join(SPLITS)}")
        return _japanese_vowels(split or default_split)
    if not spec.endswith(".npz"):
        raise DataError(
            f"data {spec!r}: no such data set; expected one of {', '.join(BUNDLED)} (with :train or :test), "
            "or the path of an .npz file"
        )
    return load_npz(spec)


def load_npz(path: str | Path) -> Dataset:
    """Load an ``.npz`` file with the keys documented in ``lstm_edge.data``; pickled objects are refused.

    Raises:
        DataError: the file is missing or damaged, or a key, dtype or shape is not as documented.
    """
    name = str(path)
    arrays = _read(Path(path), required=("x", "lengths", "y"), optional=("labels",))
    y = arrays["y"]
    labels = arrays.get("labels")
    if labels is not None and (labels.dtype.kind != "U" or labels.ndim != 1):
        raise DataError(f"data {name}: labels is {labels.dtype} {list(labels.shape)}; expected text [classes]")
    return Dataset(
        name=name,
        x=arrays["x"],
        lengths=_widen(arrays["lengths"]),
        y=_widen(y),
        labels=() if labels is None else tuple(labels.tolist()),
    )


def _japanese_vowels(split: str) -> Dataset:
    keys = (f"x_{split}", f"len_{split}", f"y_{split}")
    arrays = _read(Path(__file__).with_name("japanese_vowels.npz"), required=keys)
    x, lengths, y = (arrays[key] for key in keys)
    return Dataset(name=f"japanese-vowels:{split}", x=x, lengths=_widen(lengths), y=_widen(y), labels=SPEAKERS)


def _widen(array: NDArray[Any]) -> NDArray[Any]:
    # The bundled lengths are uint8: their sum would wrap at 256. A uint64 too large for int64 stays as it is
    # and is refused by its dtype.
    if array.dtype.kind not in "iu" or (array.dtype == np.uint64 and array.size and array.max() > 2**63 - 1):
        return array
    return array.astype(np.int64)


def _read(path: Path, *, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise DataError(f"data {path}: no such file" if not path.exists() else f"data {path}: not a file")
    if not zipfile.is_zipfile(path):
        raise DataError(f"data {path}: not an .npz archive, or a damaged one; expected the keys {', '.join(required)}")
    try:
        # Opened here: for a damaged archive np.load leaves the file that it opened itself to the garbage collector.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            found = archive.files
            missing = [key for key in required if key not in found]
            if missing:
                raise DataError(
                    f"data {path}: the key {missing[0]!r} is missing; found {', '.join(found) or 'nothing'}, "
                    f"expected {', '.join(required)}"
                )
            arrays = {key: archive[key] for key in required + optional if key in found}
    except UNREADABLE as error:
        raise DataError(
            f"data {path}: cannot be read ({_reason(error)}); expected an .npz file of plain arrays"
        ) from error
    for key, value in arrays.items():
        if not isinstance(value, np.ndarray):
            raise DataError(f"data {path}: {key} is not a NumPy array; expected one in .npy format")
    return arrays


def _reason(error: BaseException) -> str:
    text = str(error)
    if "allow_pickle" in text:
        return "it holds a pickled object array, which is never loaded"
    return text.splitlines()[0] if text else type(error).__name__
