"""Files of named arrays for a model of any form: ``.npz`` with a key for each input and target, and ``.npy`` pairs."""

import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_edge.data._audio import is_audio, load_audio
from lstm_edge.data._files import flat_dataset, load, read_members
from lstm_edge.data._named import LAYOUTS, NamedDataset
from lstm_edge.data._named_tables import load_named_table
from lstm_edge.data._sequences import Dataset, Task
from lstm_edge.data._table_options import TableOptions
from lstm_edge.data._tables import is_table, refuse_options
from lstm_edge.data_names import Split
from lstm_edge_runtime._npy import NUMBERS, read_npy
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import DataError, InputError
from lstm_edge_runtime.reading import MOST_ARRAY_BYTES, Budget, open_file, translated

__all__ = ["load_arrays", "load_samples", "named_from_arrays"]

TIME_MAJOR = "time-major"
# Keys with a meaning of their own; every other key is an input, a state or a target.
RESERVED = ("lengths", "labels", "groups", "times", "layout")
FLAT = ("x", "ids", "lengths", "y", "labels", "groups", "times")
LENGTHS, INPUT, TARGET = "lengths.", "input.", "target."
Arrays = dict[str, NDArray[Any]]


def load_samples(
    spec: str,
    *,
    default_split: Split,
    task: Task | None = None,
    table: TableOptions | None = None,
    say: Callable[[str], None] | None = None,
) -> Dataset | NamedDataset:
    """Load data for a model of any form: a bundled set or a file, as ``load``, arrays, or a folder of WAV files.

    Raises:
        DataError: the data cannot be loaded.
        InputError: ``table`` is for another kind of file.
    """
    if is_audio(spec):
        if table is not None:
            raise InputError(f"data {spec}: is a folder of WAV files; the options of tables and arrays do not apply")
        return load_audio(spec, say=say)
    if table is not None and table.columns is not None and table.columns.named and is_table(spec, table):
        if table.targets is not None:
            raise InputError(f"data {spec}: --targets is for an .npy file; the targets of a table are columns")
        named = load_named_table(spec, table, task=task)
        if say is not None:
            for note in named.notes:
                say(f"data {spec}: {note}")
        return named
    if not spec.endswith((".npz", ".npy")):
        return load(spec, default_split=default_split, task=task, table=table, say=say)
    targets = None if table is None else table.targets
    if table is not None and table != TableOptions(targets=targets):
        refuse_options(spec, table)
    return load_arrays(spec, targets, task=task)


def load_arrays(
    path: str | Path, targets: str | Path | None = None, *, task: Task | None = None
) -> Dataset | NamedDataset:
    """Load an ``.npz`` file of any layout, or an ``.npy`` file with the inputs and another one with the targets.

    Args:
        path: the ``.npz`` or ``.npy`` file; its contents: see docs/data.md.
        targets: for an ``.npy`` file: the ``.npy`` file of the targets, or None without targets.
        task: for the flat layout (``x`` joined along time, ``lengths``, ``y``), as for ``load``.

    Returns:
        A ``Dataset`` for the flat layout, else a ``NamedDataset``.

    Raises:
        DataError: a file is missing or damaged, or its arrays do not belong together.
        InputError: ``targets`` for an ``.npz`` file.
    """
    name = str(path)
    if name.endswith(".npz"):
        if targets is not None:
            raise InputError(f"data {name}: --targets is for an .npy file; an .npz file has its targets under its keys")
        arrays = read_members(Path(path))
        if _is_flat(arrays):
            return flat_dataset(name, arrays, task)
        with translated(DataError, f"data {name}: cannot be read"):
            return named_from_arrays(name, arrays)
    found = {"": _read_array(path)}
    if targets is not None:
        found[TARGET] = _read_array(targets)
    return named_from_arrays(name, found)


def named_from_arrays(name: str, arrays: Mapping[str, Array]) -> NamedDataset:
    """Make a data set of arrays by key, as an ``.npz`` file has them.

    Raises:
        DataError: the arrays do not have the same number of sequences, or a reserved key has another form.
    """
    columns = _columns(name, arrays)
    lengths = _integers(name, "lengths", arrays.get("lengths"))
    if time_major := str(arrays.get("layout")) == TIME_MAJOR:
        columns = {key: np.swapaxes(array, 0, 1) if array.ndim > 1 else array for key, array in columns.items()}
    count = len(lengths) if lengths is not None else _samples(name, columns)
    cut = _Cut(name, count, lengths)
    inputs: dict[str, tuple[Array, ...]] = {}
    targets: dict[str, tuple[Array, ...]] = {}
    for key, array in columns.items():
        is_target = _is_target(key)
        rows = cut.rows(key, array, _integers(name, LENGTHS + key, arrays.get(LENGTHS + key)))
        into, tensor = (targets, key.removeprefix(TARGET)) if is_target else (inputs, key.removeprefix(INPUT))
        if tensor in into:
            raise DataError(f"data {name}: {tensor!r} and {key!r} mean the same array; expected one of them")
        into[tensor] = rows
    return NamedDataset(
        name=name,
        inputs=inputs,
        targets=targets,
        lengths=None if cut.joined else lengths,
        layout=_layout(name, arrays.get("layout"), joined=cut.joined),
        labels=_labels(name, arrays.get("labels")),
        groups=_integers(name, "groups", arrays.get("groups"), count),
        times=None if "times" not in arrays else np.asarray(arrays["times"], np.float64),
        square=frozenset() if time_major else _uncertain(columns, cut),
    )


def _columns(name: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return the arrays of inputs, states and targets."""
    columns: dict[str, Array] = {}
    for key, array in arrays.items():
        if key in RESERVED or key.startswith(LENGTHS):
            continue
        if array.dtype.kind in NUMBERS:
            columns[key] = array
        elif _is_target(key):
            raise DataError(
                f"data {name}: {key} is text; expected numbers, for classes integers, with their names under labels"
            )
    if not any(not _is_target(key) for key in columns):
        raise DataError(f"data {name}: has no array of numbers for an input; found {_shown(arrays)}")
    return columns


def _is_target(key: str) -> bool:
    return key in ("y", "target") or key.startswith(TARGET)


def _uncertain(columns: Mapping[str, Array], cut: "_Cut") -> frozenset[str]:
    """Return the arrays of which the second axis may be that of the sequences too: nothing says how many there are."""
    second = {array.shape[1] if array.ndim > 1 else None for array in columns.values() if array.ndim}
    every = cut.lengths is None and len(second) == 1 and None not in second
    return frozenset(columns) if every else frozenset(cut.square)


class _Cut:
    """Cuts arrays into one array for each sequence; ``joined``: whether one of them was joined along time."""

    def __init__(self, name: str, count: int, lengths: NDArray[np.int64] | None) -> None:
        self._name, self._count, self.lengths = name, count, lengths
        self.joined, self.square = False, set[str]()

    def rows(self, key: str, array: Array, own: NDArray[np.int64] | None) -> tuple[Array, ...]:
        """Return the array of each sequence."""
        if own is not None:
            if len(own) != self._count or not array.ndim or int(own.sum()) != len(array):
                raise DataError(
                    f"data {self._name}: {LENGTHS}{key} has {len(own)} entries that add up to {int(own.sum())}, but "
                    f"{key} is {list(array.shape)} for {self._count} sequences; expected the steps of each sequence"
                )
            return self._split(array, own)
        if not array.ndim:
            return (array,) * self._count
        total = None if self.lengths is None else int(self.lengths.sum())
        if len(array) == self._count:
            if array.shape[1:2] == (self._count,):
                self.square.add(key)
            return tuple(array)
        if self.lengths is not None and len(array) == total:
            return self._split(array, self.lengths)
        if array.shape[1:2] == (self._count,):
            return tuple(np.moveaxis(array, 1, 0))
        steps = "" if total is None else f", or the {total} steps that lengths add up to,"
        raise DataError(
            f"data {self._name}: {key or 'the array'} is {list(array.shape)}; expected the {self._count} sequences"
            f"{steps} along its first axis"
        )

    def _split(self, array: Array, lengths: NDArray[np.int64]) -> tuple[Array, ...]:
        self.joined = True
        return tuple(np.split(array, np.cumsum(lengths)[:-1]))


def _is_flat(arrays: Arrays) -> bool:
    """Return whether the arrays are in the flat layout, or are closest to it, so that its errors apply."""
    x = arrays.get("x", arrays.get("ids"))
    if x is None or not {"lengths", "y"} <= set(arrays) or ("x" in arrays) == ("ids" in arrays):
        return False
    if any(key not in FLAT and array.dtype.kind in NUMBERS for key, array in arrays.items()) or "layout" in arrays:
        return False
    lengths, y = arrays["lengths"], arrays["y"]
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu":
        return True
    joined = x.ndim > 0 and (len(x) == int(lengths.sum()) or len(x) != len(lengths))
    return joined and x.ndim == (2 if "x" in arrays else 1) and y.ndim <= 2


def _samples(name: str, columns: Mapping[str, Array]) -> int:
    """Return the number of sequences without ``lengths``: the size that all arrays have on axis 0, or axis 0 or 1."""
    shapes = {key: array.shape for key, array in columns.items() if array.ndim}
    if not shapes:
        raise DataError(f"data {name}: its arrays have no axes; expected the sequences along the first axis")
    first: set[int] = {shape[0] for shape in shapes.values()}
    if len(first) == 1:
        return first.pop()
    common: set[int] = set.intersection(*(set(shape[:2]) for shape in shapes.values()))
    if len(common) == 1:
        return common.pop()
    listed = ", ".join(f"{key or 'the inputs'} {list(shape)}" for key, shape in shapes.items())
    raise DataError(
        f"data {name}: its arrays do not have the same number of sequences along the first axis: {listed}; for "
        "sequences that are joined along time add the key lengths"
    )


def _integers(name: str, key: str, array: Array | None, count: int | None = None) -> NDArray[np.int64] | None:
    if array is None:
        return None
    if array.ndim != 1 or array.dtype.kind not in "iu" or not array.size or (count is not None and len(array) != count):
        expected = "samples" if count is None else count
        raise DataError(f"data {name}: {key} is {array.dtype} {list(array.shape)}; expected integers [{expected}]")
    values = array.astype(np.int64)
    if key.startswith("lengths") and values.min() < 1:
        raise DataError(f"data {name}: {key} has a sequence of {values.min()} steps; expected 1 or more")
    return values


def _layout(name: str, array: Array | None, *, joined: bool) -> Any:
    if array is None:
        return "time-first" if joined else None
    known = (*LAYOUTS, TIME_MAJOR)
    if array.ndim or array.dtype.kind not in "US" or str(array) not in known:
        raise DataError(
            f"data {name}: layout is {str(array)[:80]!r}; expected one of the texts {', '.join(map(repr, known))}"
        )
    if joined and str(array) != "time-first":
        raise DataError(
            f"data {name}: layout is {str(array)!r}, but an array is joined along time, which is time-first"
        )
    return "time-first" if str(array) == TIME_MAJOR else str(array)


def _labels(name: str, array: Array | None) -> tuple[str, ...]:
    if array is None:
        return ()
    if array.dtype.kind != "U" or array.ndim != 1:
        raise DataError(f"data {name}: labels is {array.dtype} {list(array.shape)}; expected text [classes]")
    return tuple(array.tolist())


def _read_array(path: str | Path) -> Array:
    with (
        translated(DataError, f"data {path}: cannot be read", "; expected an .npy file of numbers"),
        open_file(Path(path), DataError, where=f"data {path}") as file,
    ):
        if zipfile.is_zipfile(file):
            raise DataError(f"data {path}: is an .npz archive; expected an .npy file of one array")
        file.seek(0)
        return read_npy(file, Budget(MOST_ARRAY_BYTES), kinds=NUMBERS, available=os.fstat(file.fileno()).st_size)


def _shown(arrays: Mapping[str, Array]) -> str:
    return ", ".join(arrays)[:200] or "nothing"
