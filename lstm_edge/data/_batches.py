"""Batches of sequences of different lengths: grouping, padding and truncation.

``Batch.starts`` and ``Batch.lengths`` (or ``Batch.mask``) mark the padding. No value marks it: a zero in the data stays
data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lstm_edge.data._sequences import Dataset
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import DataError, InputError

__all__ = ["Batch", "Pad", "Truncate", "bucketed_batches", "collate", "pad"]

Rows = Sequence[int] | NDArray[np.int64]
Pad = Literal["post", "pre", "random"]
Truncate = Literal["post", "pre", "random"]

# Batches per pool that is sorted by length. A smaller pool shuffles the rows better, a larger one pads less: with
# lengths from 7 to 29 and batches of 16, a pool of 8 has 7 % padding steps, a pool of 1 (no bucketing) 35 %.
_POOL = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """B padded sequences; T is the largest length after truncation.

    Attributes:
        x: float32 ``[B, T, F]``, zeros in the padding.
        starts: int64 ``[B]``, the first valid step of each row; 0 everywhere for ``pad="post"``.
        lengths: int64 ``[B]``, number of consecutive valid steps of each row, from its start.
        y: the targets, dtype as in the data set: ``[B]`` or ``[B, K]``; for targets per step ``[B, T]`` or ``[B, T,
            K]``, zeros in the padding.
        rows: int64 ``[B]``, the indices of the sequences in the data set.
    """

    x: NDArray[np.float32]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    y: Array
    rows: NDArray[np.int64]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Whether a step is data: bool ``[B, T]``."""
        step = np.arange(self.x.shape[1]) - self.starts[:, None]
        return (step >= 0) & (step < self.lengths[:, None])


def pad(rows: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Stack sequences into one batch, padded with zeros after each sequence.

    Args:
        rows: B sequences, float32 ``[T_b, F]`` each.

    Returns:
        ``x``: float32 ``[B, max(T_b), F]``; ``lengths``: int64 ``[B]``.

    Raises:
        DataError: no rows, or a row that is not ``[time, features]`` with the first row's features.
    """
    if not len(rows):
        raise DataError("pad: got no sequences, expected at least one")
    for index, row in enumerate(rows):
        if row.ndim != 2 or row.shape[1] != rows[0].shape[-1]:
            expected = f"[time, {rows[0].shape[-1]}]" if rows[0].ndim == 2 else "[time, features]"
            raise DataError(f"pad: sequence {index} has shape {list(row.shape)}, expected {expected}")
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    return _place(rows, np.zeros_like(lengths), int(lengths.max())).astype(np.float32, copy=False), lengths


def collate(
    dataset: Dataset,
    rows: Rows,
    *,
    pad: Pad = "post",
    truncate: Truncate = "post",
    max_length: int | None = None,
    rng: np.random.Generator | None = None,
) -> Batch:
    """Put sequences of a data set into one batch.

    Args:
        dataset: the data set.
        rows: B indices of sequences.
        pad: side of the padding: after the row (``post``), before it (``pre``), or split at random for each row
            (``random``).
        truncate: which steps of a row longer than ``max_length`` are dropped: those at its end (``post``), at its
            beginning (``pre``), or those around a random window of each row (``random``). Targets per step are
            truncated with their steps.
        max_length: largest number of steps of a row; None keeps all steps and ignores ``truncate``.
        rng: generator for ``random``. Make one for each epoch (``np.random.default_rng([seed, epoch])``), so that
            epochs differ and a repeated run draws the same numbers.

    Raises:
        DataError: no rows.
        InputError: an unknown ``pad`` or ``truncate``, ``max_length`` below 1, or ``random`` without ``rng``.
    """
    _check_padding(pad, truncate, max_length, rng)
    index = np.asarray(rows, dtype=np.int64)
    if not len(index):
        raise DataError(f"data {dataset.name}: got no rows for a batch, expected at least one")
    full = dataset.lengths[index]
    lengths = full if max_length is None else np.minimum(full, max_length)
    offsets = _draw(full - lengths, {"post": "first", "pre": "last", "random": "random"}[truncate], rng)
    T = int(lengths.max())
    starts = _draw(T - lengths, {"post": "first", "pre": "last", "random": "random"}[pad], rng)
    windows = [slice(offset, offset + length) for offset, length in zip(offsets, lengths, strict=True)]
    x = _place([dataset[row][window] for row, window in zip(index, windows, strict=True)], starts, T)
    if dataset.per_step:
        y = _place([dataset.target(row)[window] for row, window in zip(index, windows, strict=True)], starts, T)
    else:
        y = dataset.y[index]
    return Batch(x=x, starts=starts, lengths=lengths, y=y, rows=index)


def bucketed_batches(
    lengths: NDArray[np.int64], batch_size: int, *, seed: int, epoch: int = 0
) -> list[NDArray[np.int64]]:
    """Split the rows of one epoch into batches of similar lengths, in shuffled order.

    The rows are shuffled, split into pools of 8 batches, sorted by length within each pool and split into batches; then
    the batches are shuffled. The same arguments give the same batches on every machine. Every row occurs once. One
    batch may be smaller than ``batch_size``.

    Args:
        lengths: int64 ``[N]``, steps of each row.
        batch_size: rows in a batch, at least 1.
        seed: random seed of the order, together with ``epoch``.
        epoch: number of the epoch, from 0; the order depends on it.

    Returns:
        Row indices, int64 ``[batch_size]`` each.

    Raises:
        InputError: ``batch_size`` is below 1, or ``seed`` or ``epoch`` below 0.
    """
    for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0), ("epoch", epoch, 0)):
        if value < least:
            raise InputError(f"batches: {name} is {value}, expected {least} or more")
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(order), _POOL * batch_size):
        pool = order[start : start + _POOL * batch_size]
        ranked = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [ranked[first : first + batch_size] for first in range(0, len(ranked), batch_size)]
    return [batches[number] for number in generator.permutation(len(batches))]


def _check_padding(pad: str, truncate: str, max_length: int | None, rng: np.random.Generator | None) -> None:
    for name, value, allowed in (("pad", pad, get_args(Pad)), ("truncate", truncate, get_args(Truncate))):
        if value not in allowed:
            raise InputError(f"{name} is {value!r}, expected {', '.join(allowed)}")
    if max_length is not None and max_length < 1:
        raise InputError(f"max_length is {max_length}, expected 1 or more")
    if rng is None and (pad == "random" or (truncate == "random" and max_length is not None)):
        name = "pad" if pad == "random" else "truncate"
        raise InputError(f"{name}='random' needs random numbers: give rng, a numpy.random.Generator")


def _draw(room: NDArray[np.int64], where: str, rng: np.random.Generator | None) -> NDArray[np.int64]:
    """Return the offset of each row: 0 (first), ``room`` (last), or a random integer from 0 to ``room``."""
    if where == "random" and rng is not None:
        return rng.integers(0, room, endpoint=True)
    return room if where == "last" else np.zeros_like(room)


def _place(rows: Sequence[Array], starts: NDArray[np.int64], T: int) -> Array:
    """Return zeros ``[B, T, ...]`` with each row copied to its start."""
    batch = np.zeros((len(rows), T, *rows[0].shape[1:]), dtype=rows[0].dtype)
    for number, (row, start) in enumerate(zip(rows, starts, strict=True)):
        batch[number, start : start + len(row)] = row
    return batch
