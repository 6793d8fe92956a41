"""Functions of keras.ops that move, repeat or leave out elements; each raises ValueError for what it does not do."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lstm_edge_exporters.keras.hdf5 import shown
from lstm_edge_exporters.keras.options import LARGEST_SIZE

__all__ = ["expand", "pad", "repeat", "reshape", "split", "squeeze", "take", "transpose"]


def take(x: Tensor, key: Any) -> Tensor:
    """Return ``x[key]``: numbers, slices of positive steps, None and one ellipsis, as NumPy has them."""
    parts = list(key) if isinstance(key, list | tuple) else [key]
    if parts.count(Ellipsis) > 1:
        raise ValueError("it has two ellipses")
    missing = x.ndim - sum(part is not None and part is not Ellipsis for part in parts)
    place = parts.index(Ellipsis) if Ellipsis in parts else len(parts)
    parts = [*parts[:place], *[slice(None)] * missing, *parts[place + 1 :]]
    axis = 0
    for part in parts:
        if part is None:
            x, axis = x.unsqueeze(axis), axis + 1
        elif isinstance(part, slice):
            if part.step is not None and part.step < 1:
                raise ValueError("the step of its slice is not positive")
            x = x if part == slice(None) else x[(slice(None),) * axis + (part,)]
            axis += 1
        elif isinstance(part, int) and not isinstance(part, bool):
            x = x.select(axis, part)
        else:
            raise ValueError(f"it is indexed by {shown(part)}")
    return x


def reshape(x: Tensor, *, newshape: Any) -> Tensor:
    """Return x in another shape."""
    sizes = list(newshape) if isinstance(newshape, list | tuple) else [newshape]
    # None is an unknown size.
    sizes = [-1 if size is None else size for size in sizes]
    if sizes.count(-1) > 1:
        raise ValueError(f"its shape {sizes} leaves several sizes open")
    if sizes and sizes[0] == -1 and x.ndim > 1 and len(sizes) > 1 and _keeps_batch(x, sizes):
        return x.reshape(x.shape[0], *sizes[1:])
    return x.reshape(sizes)


def _keeps_batch(x: Tensor, sizes: list[int]) -> bool:
    """Say whether the open first size is that of the batch: then it is named, so that it stays one in the graph."""
    volume = 1
    for size in x.shape[1:]:
        if not isinstance(size, int):
            return False
        volume *= size
    wanted = 1
    for size in sizes[1:]:
        wanted *= size
    return volume == wanted


def squeeze(x: Tensor, *, axis: Any = None) -> Tensor:
    """Leave out axes of one element."""
    if axis is None:
        raise ValueError("it names no axis")
    axes = axis if isinstance(axis, list | tuple) else [axis]
    for entry in axes:
        if x.shape[entry] != 1:
            raise ValueError(f"axis {entry} has more than one element")
    return x.squeeze(tuple(axes))


def expand(x: Tensor, *, axis: Any) -> Tensor:
    """Add axes of one element."""
    for entry in sorted(axis) if isinstance(axis, list | tuple) else [axis]:
        x = x.unsqueeze(entry)
    return x


def split(x: Tensor, *, indices_or_sections: Any, axis: int = 0) -> tuple[Tensor, ...]:
    """Split x along an axis, into equal parts or at indices."""
    if isinstance(indices_or_sections, int):
        size = x.shape[axis]
        if not isinstance(size, int) or size % indices_or_sections:
            raise ValueError(f"axis {axis} does not split into {indices_or_sections} equal parts")
        return torch.split(x, size // indices_or_sections, dim=axis)
    return torch.tensor_split(x, tuple(int(index) for index in indices_or_sections), dim=axis)


def repeat(x: Tensor, *, repeats: Any, axis: int | None = None) -> Tensor:
    """Repeat each element along an axis."""
    if axis is None or not isinstance(repeats, int) or not 1 <= repeats <= LARGEST_SIZE:
        raise ValueError("it repeats other than each element of one axis, equally often")
    place = axis % x.ndim
    sizes = [-1] * (x.ndim + 1)
    sizes[place + 1] = repeats
    return x.unsqueeze(place + 1).expand(sizes).flatten(place, place + 1)


def pad(x: Tensor, constant_values: Any = None, *, pad_width: Any, mode: str = "constant") -> Tensor:
    """Pad x with a constant."""
    if mode != "constant":
        raise ValueError(f"it pads in the mode {mode}, expected constant")
    pairs = [entry if isinstance(entry, list | tuple) else [entry] * 2 for entry in pad_width]
    if len(pairs) != x.ndim:
        raise ValueError(f"it has {len(pairs)} pairs for {x.ndim} axes")
    sizes = [int(size) for pair in reversed(pairs) for size in pair]
    return functional.pad(x, sizes, value=0.0 if constant_values is None else float(constant_values))


def transpose(x: Tensor, *, axes: Any = None) -> Tensor:
    """Return the axes in another order, reversed by default."""
    return x.permute(tuple(reversed(range(x.ndim))) if axes is None else tuple(axes))
