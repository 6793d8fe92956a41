"""What a layer is built from, and what building it gives.

While a model is put together, every call is made on stand-ins of tensors, without numbers, at two sizes: an axis whose
size differs is dynamic. Nothing is allocated for them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lstm_edge_exporters.keras.archive import KerasFile, Part, Place
from lstm_edge_exporters.keras.options import Options
from lstm_edge_exporters.keras.values import Arguments, Shape, UnknownSizeError, Value, leaves

__all__ = ["Array", "Built", "Call", "Source", "shapes_of"]

Array = NDArray[np.float32]


# How a layer is called: the module with its weights and the arguments, to a value, or values in a tuple. A model
# returns them in its own lists and dicts.
Call = Callable[[nn.Module, Arguments], Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Built:
    """A layer: its module (None without weights), its call, and what it is called in outputs.

    Attributes:
        module: holds the weights.
        call: how it is called.
        endings: what the name of each result ends with.
        notes: sentences for the card.
    """

    module: nn.Module | None
    call: Call
    endings: tuple[str, ...] = ("",)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """What a layer is built from.

    Attributes:
        lanes: the arguments of its first call, at each size.
        place: where the file has its weights.
        file: the file.
        build: builds a layer or a model that a wrapper holds.
    """

    lanes: tuple[Arguments, ...]
    place: Place
    file: KerasFile
    build: Callable[[Options, Any, "Source"], Built]

    @property
    def version(self) -> str:
        """The version of Keras that wrote the file."""
        return self.file.version

    def read(self, parts: Sequence[Part]) -> list[list[Array]]:
        """Read the layer's arrays, part by part."""
        return self.file.read(self.place, parts)

    def value(self, options: Options) -> Value:
        """Return the stand-in of the one tensor that the layer takes; refuse ids."""
        value = self.lanes[0].one(options)
        if not value.tensor.is_floating_point():
            raise options.refuse("it takes ids [batch, time], but only Embedding accepts ids")
        return value

    def shape(self, options: Options, rank: int | None = None) -> Shape:
        """Return the shape of the one tensor that the layer takes, batch first; refuse ids and another rank."""
        self.value(options)
        shape = shapes_of([lane.first for lane in self.lanes])[0]
        if rank is not None and len(shape) != rank:
            names = {2: "[batch, features]", 3: "[batch, time, features]", 4: "[batch, height, width, channels]"}
            got = names.get(len(shape), f"{len(shape)} axes")
            raise options.refuse(f"it takes {got}, expected {names[rank]}")
        return shape

    def features(self, options: Options) -> int:
        """Return the size of the last axis of the one tensor that the layer takes."""
        return self.last_of(self.shape(options), options)

    def over_time(self, options: Options) -> int:
        """Return the features of a tensor [batch, time, features]."""
        return self.last_of(self.shape(options, 3), options)

    @staticmethod
    def last_of(shape: Shape, options: Options) -> int:
        """Return the size of a shape's last axis.

        Raises:
            UnknownSizeError: it is dynamic.
        """
        if len(shape) < 2:
            raise options.refuse("it takes a tensor without features")
        size = shape[-1]
        if size is None:
            raise UnknownSizeError(
                f"{options}: the size of the last axis of its input is dynamic, so the model's input must fix the "
                "number of steps"
            )
        return size

    def inside(self, place: Place, lanes: tuple[Arguments, ...]) -> "Source":
        """Return the source of a layer inside this one."""
        return replace(self, place=place, lanes=lanes)


def shapes_of(structures: Sequence[Any]) -> list[Shape]:
    """Return the shape of each tensor in a structure that was run at several sizes: None where the sizes differ."""
    found = [[value.tensor for value in leaves(item) if isinstance(value, Value)] for item in structures]
    return [_shape(tensors) for tensors in zip(*found, strict=True)]


def _shape(tensors: Sequence[torch.Tensor]) -> Shape:
    sizes = zip(*(tensor.shape for tensor in tensors), strict=True)
    return tuple(int(size[0]) if len(set(size)) == 1 else None for size in sizes)
