"""Loading of data sets: the bundled ones, ``.npz`` files without pickles, and text files."""

import os
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_edge.data._json_lines import load_json_lines
from lstm_edge.data._sequences import Dataset, Task
from lstm_edge.data._table_options import TableOptions
from lstm_edge.data._tables import is_table, load_table, refuse_options
from lstm_edge.data_names import SUFFIXES, Split, check_split, unknown_data
from lstm_edge_runtime._npy import MAGIC, NUMBERS_AND_TEXT, read_npy
from lstm_edge_runtime.archive import Member, open_archive
from lstm_edge_runtime.errors import DataError, InputError
from lstm_edge_runtime.reading import MOST_ARRAY_BYTES, Budget, array_budget, open_file, translated

__all__ = ["flat_dataset", "load", "load_npz", "read_members"]

SPEAKERS = tuple(f"speaker {number}" for number in range(1, 10))

# A model has at most this number of classes.
MOST_LABELS = 1_000_000


def load(
    spec: str,
    *,
    default_split: Split,
    task: Task | None = None,
    table: TableOptions | None = None,
    labels: Sequence[str] | None = None,
    say: Callable[[str], None] | None = None,
) -> Dataset:
    """Load a bundled set or a file: ``.npz``, ``.parquet``; or ``.csv``, ``.tsv``, ``.jsonl``, also with ``.gz``.

    Args:
        spec: ``japanese-vowels``, ``japanese-vowels:train``, ``japanese-vowels:test``, or the path of a file (its
            contents: see docs/data.md).
        default_split: split of a bundled name without one: ``train`` for training, ``test`` for evaluation.
        task: task that the targets must fit; None accepts any.
        table: how a table is read: roles of the columns, spacing of the steps, what becomes of what is missing.
        labels: for text files, the only labels allowed, in their order (those of a trained model).
        say: called with one line for each of the set's notes: what was done to the rows of a table.

    Raises:
        DataError: the set, split or file does not exist, or the file's contents are not as documented or do not fit
            ``task``.
        InputError: ``table`` was given for another kind of file, or its spacing is not of the kind of the steps.
    """
    suffix = next((ending for ending in SUFFIXES if spec.endswith(ending)), None)
    if table is not None and table.targets is not None:
        raise InputError(f"data {spec}: --targets is for an .npy file, such as --data x.npy --targets y.npy")
    tabular = suffix is not None and is_table(spec, table)
    if not tabular:
        refuse_options(spec, table)
    if check_split(spec):
        return _for_task(_japanese_vowels(spec.partition(":")[2] or default_split), task)
    if suffix is None:
        raise unknown_data(spec)
    if suffix == ".npz":
        return load_npz(spec, task=task)
    if not tabular:
        return load_json_lines(spec, task=task, labels=labels)
    dataset = load_table(spec, table=table, task=task, labels=labels)
    if say is not None:
        for note in dataset.notes:
            say(f"data {spec}: {note}")
    return dataset


def load_npz(path: str | Path, *, task: Task | None = None) -> Dataset:
    """Load an ``.npz`` file with the keys documented in ``lstm_edge.data``; pickled objects are refused.

    ``y`` has targets per step if it has ``sum(lengths)`` entries, and targets per sequence if it has ``samples``
    entries. If every sequence has one step, both numbers are equal: then ``y`` has targets per sequence, unless
    ``task`` is ``tagging``.

    Raises:
        DataError: the file is missing or damaged, a key, dtype or shape is not as documented, or ``y`` does not fit
            ``task``.
    """
    arrays = _read(
        Path(path),
        required=("lengths", "y"),
        optional=("x", "ids", "labels", "groups", "times"),
        expected="x, lengths, y",
    )
    return flat_dataset(str(path), arrays, task)


def flat_dataset(name: str, arrays: dict[str, NDArray[Any]], task: Task | None) -> Dataset:
    """Make a data set of the arrays of a file with the flat layout; see ``load_npz``."""
    if ("x" in arrays) == ("ids" in arrays):
        found = "both" if "x" in arrays else "none of them"
        raise DataError(f"data {name}: expected the key 'x' (float32) or 'ids' (token ids), found {found}")
    if "ids" in arrays:
        arrays["x"] = _widen(arrays.pop("ids"))
    # Two errors remain: a label that is not text (a code point beyond Unicode), and too little memory.
    with translated(DataError, f"data {name}: cannot be read"):
        return _for_task(_make(name, arrays, task), task)


def _make(name: str, arrays: dict[str, NDArray[Any]], task: Task | None) -> Dataset:
    steps = arrays["x"].shape[0] if arrays["x"].ndim else 0
    # Counted before the conversion from int8 to int64, which takes eight times the memory.
    for key, most, of in (("lengths", steps, "x has"), ("y", max(steps, arrays["lengths"].size), "x or lengths has")):
        if arrays[key].ndim and len(arrays[key]) > max(most, 2**20):
            raise DataError(f"data {name}: {key} has {len(arrays[key])} entries, more than {of}: {most}")
    y, lengths = _widen(arrays["y"]), _widen(arrays["lengths"])
    labels, groups, times = (arrays.get(key) for key in ("labels", "groups", "times"))
    if labels is not None and (labels.dtype.kind != "U" or labels.ndim != 1):
        raise DataError(f"data {name}: labels is {labels.dtype} {list(labels.shape)}; expected text [classes]")
    if labels is not None and len(labels) > MOST_LABELS:
        raise DataError(f"data {name}: labels has {len(labels):,} entries; expected at most {MOST_LABELS:,}")
    if task == "forecast" and y.dtype == np.int64:
        y = _exact_float32(name, y)
    per_step = y.ndim > 0 and len(y) == steps and (len(y) != len(lengths) if lengths.ndim else True)
    return Dataset(
        name=name,
        x=arrays["x"],
        lengths=lengths,
        y=y,
        labels=() if labels is None else tuple(labels.tolist()),
        per_step=per_step or (task == "tagging" and steps == y.size),
        groups=_widen(groups) if groups is not None and groups.size == lengths.size else groups,
        times=times.astype(np.float64)
        if times is not None and times.dtype.kind in "iuf" and times.size == lengths.size
        else times,
    )


def _for_task(dataset: Dataset, task: Task | None) -> Dataset:
    if task is not None and dataset.task != task:
        kinds = {
            "classification": "a class (integer) for each sequence",
            "tagging": "a class (integer) for each step",
            "forecast": "values (float32)",
        }
        raise DataError(f"data {dataset.name}: y holds {kinds[dataset.task]}; expected {kinds[task]} for {task}")
    return dataset


def _exact_float32(name: str, y: NDArray[Any]) -> NDArray[np.float32]:
    # float32 represents every integer up to 2^24 exactly.
    if y.size and np.abs(y).max() > 2**24:
        raise DataError(f"data {name}: y holds {np.abs(y).max()}, not exact in float32; expected at most 16,777,216")
    return y.astype(np.float32)


def _japanese_vowels(split: str) -> Dataset:
    keys = (f"x_{split}", f"len_{split}", f"y_{split}")
    arrays = _read(Path(__file__).with_name("japanese_vowels.npz"), required=keys)
    x, lengths, y = (arrays[key] for key in keys)
    return Dataset(name=f"japanese-vowels:{split}", x=x, lengths=_widen(lengths), y=_widen(y), labels=SPEAKERS)


def _widen(array: NDArray[Any]) -> NDArray[Any]:
    # The bundled lengths are uint8, whose sum would overflow at 256. A uint64 too large for int64 keeps its dtype,
    # which is refused later.
    if array.dtype.kind not in "iu" or (array.dtype == np.uint64 and array.size and array.max() > 2**63 - 1):
        return array
    return array.astype(np.int64)


def read_members(path: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of an ``.npz`` file: numbers and texts.

    Raises:
        DataError: the file is missing, damaged or over a limit, or holds a pickled object.
    """
    return _read(path, required=(), expected="of the inputs and targets")


def _read(
    path: Path, *, required: tuple[str, ...], optional: tuple[str, ...] = (), expected: str = ""
) -> dict[str, NDArray[Any]]:
    keys = expected or ", ".join(required)
    with (
        translated(DataError, f"data {path}: cannot be read", "; expected an .npz file of plain arrays"),
        open_file(path, DataError, where=f"data {path}") as file,
    ):
        if not zipfile.is_zipfile(file):
            raise DataError(f"data {path}: not an .npz archive, or a damaged one; expected the keys {keys}")
        with open_archive(file, array_budget(os.fstat(file.fileno()).st_size)) as members:
            found = {name.removesuffix(".npy"): member for name, member in members.items()}
            missing = [key for key in required if key not in found]
            if missing:
                raise DataError(
                    f"data {path}: the key {missing[0]!r} is missing; found {_shown(found)}, expected {keys}"
                )
            wanted = required + optional or tuple(found)
            return {key: _read_array(path, key, found[key]) for key in wanted if key in found}


def _read_array(path: Path, key: str, member: Member) -> NDArray[Any]:
    with member.open() as stream:
        if member.declared_bytes < len(MAGIC) or not stream.peek(len(MAGIC)).startswith(MAGIC):
            raise DataError(f"data {path}: {key} is not a NumPy array; expected one in .npy format")
        # The archive's own limit counts the bytes already.
        return read_npy(stream, Budget(MOST_ARRAY_BYTES), kinds=NUMBERS_AND_TEXT, available=member.declared_bytes)


def _shown(names: Iterable[str]) -> str:
    return ", ".join(names)[:200] or "nothing"
