"""Rows of different lengths within ordinary inputs: padding ids, masks, padded frames, relative lengths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME, TensorSpec

__all__ = ["Kind", "Ragged"]

# lengths: numbers of steps [batch]; relative: shares of the steps [batch]; valid: other values than the padding up to
# the length; mask: 1 up to the length; padding: 1 from there on.
Kind = Literal["lengths", "relative", "valid", "mask", "padding"]


@dataclass(frozen=True, kw_only=True)
class Ragged:
    """Which input says how long each row is, and how.

    Attributes:
        name: the input.
        kind: how it says so.
        pad: the value past the end, of the kind ``valid``.
        falling: rows are in the order of falling lengths, as forward wants them.
    """

    name: str
    kind: Kind
    pad: int = 0
    falling: bool = False

    def draw(
        self,
        arrays: Mapping[str, Array],
        specs: Sequence[TensorSpec],
        rng: np.random.Generator,
        sizes: Mapping[str, int],
    ) -> dict[str, Array]:
        """Return the arrays, with the input made for random lengths of which the first is the number of steps."""
        spec = next(spec for spec in specs if spec.name == self.name)
        rows, steps = sizes.get(BATCH, 1), sizes[TIME]
        lengths = rng.integers(1, steps + 1, rows)
        lengths[:1] = steps
        if self.falling:
            lengths = -np.sort(-lengths)
        array = arrays[self.name]
        return {**arrays, self.name: np.asarray(self._made(array, spec, lengths, steps), array.dtype)}

    def _made(self, array: Array, spec: TensorSpec, lengths: Array, steps: int) -> Array:
        if self.kind == "lengths":
            return lengths
        if self.kind == "relative":
            return lengths / steps
        inside = self._inside(spec, lengths, array)
        if self.kind == "mask":
            return inside
        if self.kind == "padding":
            return ~inside
        # An id that is the padding's would end nothing, but be counted as if it did.
        others = np.where(array == self.pad, self.pad + 1 if self.pad == 0 else 0, array)
        return np.where(inside, others, np.asarray(self.pad, array.dtype))

    @staticmethod
    def _inside(spec: TensorSpec, lengths: Array, array: Array) -> Array:
        batch, time = spec.axes.index(BATCH), spec.axes.index(TIME)
        steps = np.arange(array.shape[time]).reshape([-1 if axis == time else 1 for axis in range(array.ndim)])
        rows = lengths.reshape([-1 if axis == batch else 1 for axis in range(array.ndim)])
        return np.array(np.broadcast_to(steps < rows, array.shape))
