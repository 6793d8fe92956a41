"""The form in which the outputs of a piece reach the caller, and the caller's arrays for them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME, TensorSpec
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.pieces import shape_of

__all__ = ["answer_shape", "check_out", "write_out"]


def answer_shape(spec: TensorSpec, steps: int, batch_size: int, *, lacks_batch: bool, called: bool) -> tuple[int, ...]:
    """Return the shape of an output in an answer whose number of steps varies.

    Args:
        spec: the output.
        steps: the answer's output steps.
        batch_size: number of rows.
        lacks_batch: whether the piece lacked the batch axis; an output with a time axis then lacks it too.
        called: whether the graph was called; an output without a time axis has no rows otherwise.
    """
    sizes = {BATCH: batch_size, TIME: steps}
    if TIME in spec.axes:
        return shape_of(spec, sizes, frozenset({BATCH}) if lacks_batch else frozenset())
    shape = shape_of(spec, sizes) or (1,)
    rows = spec.axes.index(BATCH) if BATCH in spec.axes else 0
    return shape if called else (*shape[:rows], 0, *shape[rows + 1 :])


def check_out(answer: Mapping[str, Array], out: Any) -> None:
    """Refuse a wrong ``out`` before the model runs, so that the step can be repeated.

    Args:
        answer: an array of the right shape and dtype for each output.
        out: the caller's array, or for several outputs a mapping of them.

    Raises:
        InputError: a name, shape or dtype differs, or an array is read-only.
    """
    if len(answer) == 1:
        targets = {next(iter(answer)): out}
    elif isinstance(out, Mapping) and set(out) == set(answer):
        targets = dict(out)
    else:
        raise InputError(f"out must be a mapping with an array for each of {', '.join(answer)}", reason="out")
    for name, view in answer.items():
        target = targets[name]
        if not isinstance(target, np.ndarray) or target.shape != view.shape or target.dtype != view.dtype:
            got = f"{target.dtype} {list(target.shape)}" if isinstance(target, np.ndarray) else type(target).__name__
            raise InputError(f"out for {name!r} must be {view.dtype} {list(view.shape)}, got {got}", reason="out")
        if not target.flags.writeable:
            raise InputError(f"out for {name!r} is read-only", reason="out")


def write_out(answer: Mapping[str, Array], out: Any) -> Any:
    """Copy the answer into ``out``, which ``check_out`` accepted, and return it."""
    for name, array in answer.items():
        np.copyto(out if len(answer) == 1 else out[name], array)
    return out
