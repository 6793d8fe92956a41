"""How other axes are folded into the rows of a recurrent layer: which of its rows belong to which row of the batch.

Lengths are one number per row of the batch, and the layer needs one for each row that it sees.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from lstm_edge_exporters.pytorch.calls import Folding, Layers, Pass, call_in_place, numbered
from lstm_edge_exporters.pytorch.outputs import TRACED
from lstm_edge_exporters.pytorch.unchanged import on_copies
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TensorSpec, batch_factor

__all__ = ["with_foldings"]

Key = tuple[str, int]


def with_foldings(
    module: nn.Module,
    layers: Layers,
    passes: Sequence[Pass],
    inputs: Sequence[TensorSpec],
    *,
    draw: Callable[[int], Mapping[str, Array]],
    lengths: Array | None,
) -> list[Pass]:
    """Find the order in which other axes are folded into the batch, where it is one of the two usual ones.

    One row of the batch is drawn again, and the rows of the layer that change belong to it.

    Args:
        module: the module.
        layers: its recurrent layers.
        passes: their recurrent calls.
        inputs: forward's inputs.
        draw: draws all of them at the traced sizes, from a seed.
        lengths: for forward's keyword ``lengths``.
    """
    folded = {key: item for key, item in numbered(passes) if item.folded and not item.fresh and not item.packed}
    if not folded:
        return list(passes)
    first, other = draw(0), draw(1)
    base = _seen(module, layers, first, lengths)
    foldings: dict[Key, set[Folding | None]] = {key: set() for key in folded}
    for row in range(TRACED[BATCH]):
        changed = {spec.name: _with_row(first[spec.name], other[spec.name], spec, row) for spec in inputs}
        seen = _seen(module, layers, changed, lengths)
        for key, item in folded.items():
            foldings[key].add(_folding(item, base.get(key), seen.get(key), row))
    return [
        replace(item, folding=next(iter(foldings[key]))) if len(foldings.get(key, ())) == 1 else item
        for key, item in numbered(passes)
    ]


def _with_row(array: Array, other: Array, spec: TensorSpec, row: int) -> Array:
    if BATCH not in spec.axes:
        return array
    changed = array.copy()
    at = (slice(None),) * spec.axes.index(BATCH) + (row,)
    changed[at] = other[at]
    return changed


def _folding(item: Pass, before: Array | None, after: Array | None, row: int) -> Folding | None:
    """Return how the rows are folded by which rows of the layer's input changed with one row of the batch."""
    factor, batch = batch_factor(item.rows), TRACED[BATCH]
    if before is None or after is None or before.shape != after.shape or factor is None:
        return None
    moved = set(np.flatnonzero((before != after).any(axis=1)).tolist())
    if moved == set(range(row * factor, (row + 1) * factor)):
        return "inner"
    return "outer" if moved == set(range(row, batch * factor, batch)) else None


def _seen(module: nn.Module, layers: Layers, arrays: Mapping[str, Array], lengths: Array | None) -> dict[Key, Array]:
    """Return the input of each recurrent call, its rows first and everything else flattened."""
    found: dict[Key, Array] = {}
    with on_copies(module), _noted(layers, found):
        _, tracker = call_in_place(module, layers, arrays, lengths)
    calls = {name: list(order) for name, order in tracker.order.items()}
    return {(name, calls[name][place]): x for (name, place), x in reversed(found.items()) if name in calls}


@contextmanager
def _noted(layers: Layers, found: dict[Key, Array]) -> Iterator[None]:
    """Note the input of each Python call, by the layer and the number of the call."""
    counts = dict.fromkeys(layers, 0)

    def hook(name: str, rows: int) -> Callable[..., None]:
        def note(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = args[0] if args else kwargs["input"]
            if isinstance(x, Tensor) and x.ndim > rows + 1:
                flat = x.detach().movedim(rows, 0).flatten(1).numpy().copy()
                found[name, counts[name]] = flat
            counts[name] += 1

        return note

    with ExitStack() as stack:
        for name, (layer, recurrence) in layers.items():
            rows = 0 if recurrence.single_step or recurrence.batch_first else 1
            stack.callback(layer.register_forward_pre_hook(hook(name, rows), with_kwargs=True).remove)
        yield
