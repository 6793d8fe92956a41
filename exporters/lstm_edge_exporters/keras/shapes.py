"""The known shape of a tensor while a model is built, and the result of building a layer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from lstm_edge_exporters.keras.archive import Part
from lstm_edge_exporters.keras.calls import Call
from lstm_edge_exporters.keras.options import Options

__all__ = ["Built", "Read", "Shape", "Source"]

# Reads the arrays of the layer that is being built, part by part.
Read = Callable[[Sequence[Part]], list[list[NDArray[np.float32]]]]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A tensor's axes after batch: [time, features], [features], or [time] where ``features`` is None (ids).

    ``steps`` is the length that the file fixes for the time axis, if it does. ``mask`` is the index of the layer whose
    mask travels with it, if one does.
    """

    features: int | None
    time: bool
    steps: int | None = None
    mask: int | None = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """The input for building a layer: its index, its tensor, its weights, and the version of Keras of the file."""

    index: int
    shape: Shape
    read: Read
    version: str

    def features(self, options: Options) -> int:
        """Return the features of the tensor, or refuse ids."""
        if self.shape.features is None:
            raise options.refuse("it takes ids [batch, time], but only Embedding accepts ids")
        return self.shape.features

    def over_time(self, options: Options) -> int:
        """Return the features of a tensor that has a time axis, or refuse one that has none."""
        if not self.shape.time:
            raise options.refuse("it takes [batch, features], expected [batch, time, features]")
        return self.features(options)


@dataclass(frozen=True, kw_only=True, eq=False)
class Built:
    """A layer: its module (None without weights), its call, the shape and the name's ending of each tensor it gives.

    ``fixed_time``: the layer only works for the number of steps that the file fixes. ``notes``: sentences for the card.
    """

    module: nn.Module | None
    call: Call
    shapes: tuple[Shape, ...]
    endings: tuple[str, ...] = ("",)
    fixed_time: bool = False
    notes: tuple[str, ...] = ()
