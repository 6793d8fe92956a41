"""Where the states of a model lie in one block of memory, so that one copy moves them all and one check reads them."""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import StateSpec, batch_factor

__all__ = ["StateLayout", "batch_of_shape", "layout_of", "padded", "state_shape"]

# Every array begins at a multiple of 64 bytes (a cache line). In float32 elements.
_ALIGNMENT = 16


def padded(elements: int) -> int:
    """Return a number of float32 elements, rounded up to whole cache lines."""
    return -(-elements // _ALIGNMENT) * _ALIGNMENT


def state_shape(spec: StateSpec, batch_size: int) -> tuple[int, ...]:
    """Return the shape (directions, batch, size) of one state for a batch size."""
    factors = [(axis, batch_factor(axis)) for axis in spec.axes]
    return tuple(int(axis) if factor is None else batch_size * factor for axis, factor in factors)


def batch_of_shape(spec: StateSpec, shape: Sequence[int]) -> int | None:
    """Return the batch size of a state of this shape, or None where its axes are all fixed."""
    factors = [batch_factor(axis) for axis in spec.axes]
    return next((size // factor for size, factor in zip(shape, factors, strict=True) if factor is not None), None)


class StateLayout:
    """The place of each state in a block, which is a flat float32 array.

    Two states lie alike exactly if their layouts are the same object (``layout_of``).

    Attributes:
        specs: the model's states.
        shapes: the shape of each state, by the name of its input.
        floats: elements at the start of the block that hold the float32 states and the zeros between them. The other
            states, counts, follow.
        size: elements of the block.
    """

    __slots__ = ("_places", "floats", "shapes", "size", "specs")

    def __init__(self, specs: tuple[StateSpec, ...], batch_size: int) -> None:
        self.specs = specs
        self.shapes = {spec.input: state_shape(spec, batch_size) for spec in specs}
        self._places: dict[str, tuple[int, int]] = {}
        self.floats = self.size = 0
        for spec in sorted(specs, key=lambda spec: spec.dtype != "float32"):
            elements = math.prod(self.shapes[spec.input]) * np.dtype(spec.dtype).itemsize // 4
            self._places[spec.input] = (self.size, self.size + elements)
            self.size += padded(elements)
            if spec.dtype == "float32":
                self.floats = self.size

    def block(self) -> Array:
        """Return a block of zeros."""
        return np.zeros(self.size, np.float32)

    def place(self, name: str) -> slice:
        """Return where a state lies in the block, by the name of its input; in float32 elements."""
        return slice(*self._places[name])

    def views(self, block: Array) -> dict[str, Array]:
        """Return each state of a block as a view of it, by the name of the state's input, in the order of ``specs``."""
        found = {}
        for spec in self.specs:
            first, last = self._places[spec.input]
            found[spec.input] = block[first:last].view(spec.dtype).reshape(self.shapes[spec.input])
        return found


def layout_of(specs: tuple[StateSpec, ...], batch_size: int | None) -> StateLayout:
    """Return the layout of a model's states for a batch size, the same object for equal arguments."""
    dynamic = any(batch_factor(axis) is not None for spec in specs for axis in spec.axes)
    return _layout(specs, int(batch_size) if dynamic and batch_size is not None else 1)


_layout = lru_cache(maxsize=256)(StateLayout)
