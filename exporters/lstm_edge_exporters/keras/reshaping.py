"""Layers that move, repeat, add or leave out elements: the mask ends at each of them, as in Keras."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from lstm_edge_exporters.keras.hdf5 import shown
from lstm_edge_exporters.keras.options import LARGEST_SIZE, Options
from lstm_edge_exporters.keras.shapes import Built, Source
from lstm_edge_exporters.keras.values import Arguments, Shape, UnknownSizeError, Value

__all__ = [
    "build_cropping",
    "build_flatten",
    "build_permute",
    "build_repeat_vector",
    "build_reshape",
    "build_up_sampling",
    "build_zero_padding",
]

Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class _Flatten:
    """[B, T, F] to [B, T * F]."""

    def __call__(self, _module: nn.Module, given: Arguments) -> Value:
        """Call the layer."""
        x: Tensor = given.first.tensor
        return Value(tensor=x.flatten(1) if x.ndim > 1 else x[:, None])


@dataclass(frozen=True, kw_only=True)
class _Reshape:
    """[B, ...] to [B, *shape], with one -1 at most."""

    shape: tuple[int, ...]

    def __call__(self, _module: nn.Module, given: Arguments) -> Value:
        """Call the layer."""
        x: Tensor = given.first.tensor
        return Value(tensor=x.reshape(x.shape[0], *self.shape))


@dataclass(frozen=True, kw_only=True)
class _Permute:
    """Other order of the axes, the batch included."""

    axes: tuple[int, ...]

    def __call__(self, _module: nn.Module, given: Arguments) -> Value:
        """Call the layer."""
        return Value(tensor=given.first.tensor.permute(self.axes))


@dataclass(frozen=True, kw_only=True)
class _Repeat:
    """[B, F] to [B, count, F]."""

    count: int

    def __call__(self, _module: nn.Module, given: Arguments) -> Value:
        """Call the layer."""
        return Value(tensor=given.first.tensor[:, None].expand(-1, self.count, -1))


@dataclass(frozen=True, kw_only=True)
class _Pad:
    """Zeros before and after, for each axis behind the batch from the first one on."""

    pairs: Pairs

    def __call__(self, _module: nn.Module, given: Arguments) -> Value:
        """Call the layer."""
        x: Tensor = given.first.tensor
        sizes = [size for pair in reversed(self.pairs) for size in pair]
        return Value(tensor=functional.pad(x, [0, 0] * (x.ndim - 1 - len(self.pairs)) + sizes))


@dataclass(frozen=True, kw_only=True)
class _Crop:
    """Leaves out the first and the last elements, for each axis behind the batch from the first one on."""

    pairs: Pairs

    def __call__(self, _module: nn.Module, given: Arguments) -> Value:
        """Call the layer."""
        x: Tensor = given.first.tensor
        for axis, (before, after) in enumerate(self.pairs, start=1):
            x = x[(slice(None),) * axis + (slice(before, -after if after else None),)]
        return Value(tensor=_not_empty(x, len(self.pairs)))


@dataclass(frozen=True, kw_only=True)
class _Enlarge:
    """Repeats each element, for each axis behind the batch from the first one on."""

    counts: tuple[int, ...]

    def __call__(self, _module: nn.Module, given: Arguments) -> Value:
        """Call the layer."""
        x: Tensor = given.first.tensor
        for axis, count in enumerate(self.counts, start=1):
            if count > 1:
                sizes = [-1] * (x.ndim + 1)
                sizes[axis + 1] = count
                x = x.unsqueeze(axis + 1).expand(sizes).flatten(axis, axis + 1)
        return Value(tensor=x)


def _not_empty(x: Tensor, axes: int) -> Tensor:
    """Return x; let the exported graph refuse an input of which nothing is left, as Keras does."""
    for axis in range(1, axes + 1):
        if not isinstance(x.shape[axis], int):
            x = torch.cat([x.select(axis, 0).unsqueeze(axis), x.narrow(axis, 1, x.shape[axis] - 1)], dim=axis)
        elif not x.shape[axis]:
            raise ValueError(f"nothing is left of axis {axis}")
    return x


def build_flatten(options: Options, source: Source) -> Built:
    """Build a Flatten; every size but the batch must be known."""
    shape = source.shape(options)
    options.only("data_format", "channels_last")
    options.finish()
    if any(size is None for size in shape[1:]):
        raise UnknownSizeError(
            f"{options}: it flattens the time axis, so the model's input must fix the number of steps"
        )
    return Built(module=None, call=_Flatten())


def build_reshape(options: Options, source: Source) -> Built:
    """Build a Reshape."""
    shape = source.shape(options)
    target = _sizes(options, "target_shape", 0, 8, least=-1)
    options.finish()
    if target.count(-1) > 1 or 0 in target:
        raise options.refuse(f"its target_shape is {shown(list(target))}, expected sizes, and -1 at most once")
    _check_volume(shape, target, options)
    return Built(module=None, call=_Reshape(shape=target))


def _check_volume(shape: Shape, target: tuple[int, ...], options: Options) -> None:
    """Refuse a shape that the number of elements does not fit, where it is known."""
    volume, wanted = 1, 1
    for size in shape[1:]:
        if size is None:
            if -1 not in target:
                raise UnknownSizeError(
                    f"{options}: its target_shape is {list(target)}, so the model's input must fix the number of steps"
                )
            return
        volume *= size
    for size in target:
        wanted *= size if size > 0 else 1
    if volume % wanted or (-1 not in target and volume != wanted):
        raise options.refuse(f"it reshapes {list(shape[1:])} to {list(target)}, which has another number of elements")


def build_permute(options: Options, source: Source) -> Built:
    """Build a Permute; its numbers count from the axis behind the batch, from 1 on."""
    rank = len(source.shape(options))
    dims = _sizes(options, "dims", rank - 1, rank - 1)
    options.finish()
    if sorted(dims) != list(range(1, rank)):
        raise options.refuse(f"its dims are {shown(list(dims))}, expected {list(range(1, rank))} in any order")
    return Built(module=None, call=_Permute(axes=(0, *dims)))


def build_repeat_vector(options: Options, source: Source) -> Built:
    """Build a RepeatVector."""
    source.shape(options, 2)
    count = options.size("n")
    options.finish()
    return Built(module=None, call=_Repeat(count=count))


def build_zero_padding(options: Options, source: Source) -> Built:
    """Build a ZeroPadding1D or ZeroPadding2D."""
    pairs = _pairs(options, "padding", _axes(options, source))
    options.finish()
    return Built(module=None, call=_Pad(pairs=pairs))


def build_cropping(options: Options, source: Source) -> Built:
    """Build a Cropping1D or Cropping2D."""
    axes = _axes(options, source)
    pairs = _pairs(options, "cropping", axes)
    options.finish()
    for size, pair in zip(source.shape(options)[1:], pairs, strict=False):
        if size is not None and size <= sum(pair):
            raise options.refuse(f"it crops {sum(pair)} of {size} elements: nothing is left")
    return Built(module=None, call=_Crop(pairs=pairs))


def build_up_sampling(options: Options, source: Source) -> Built:
    """Build an UpSampling1D or UpSampling2D, which repeats elements."""
    axes = _axes(options, source)
    value = options.get("size", 2)
    options.only("interpolation", "nearest")
    options.finish()
    counts = [value] * axes if not isinstance(value, list | tuple) else list(value)
    if len(counts) != axes or not all(_is_count(count) and count > 0 for count in counts):
        raise options.refuse(f"its size is {shown(value)}, expected a whole number for each of {axes} axes")
    return Built(module=None, call=_Enlarge(counts=tuple(counts)))


def _axes(options: Options, source: Source) -> int:
    """Return over how many axes a layer works, 1 or 2, as its class says."""
    axes = 1 if "1D" in options.kind else 2
    source.shape(options, axes + 2)
    options.only("data_format", "channels_last")
    return axes


def _pairs(options: Options, key: str, axes: int) -> Pairs:
    """Read one number, a number for each axis, or a pair for each axis; of one axis the pair alone."""
    value = options.get(key, 1)
    entries = value if isinstance(value, list | tuple) else [value] * axes
    if axes == 1 and len(entries) == 2:
        entries = [entries]
    pairs = [entry if isinstance(entry, list | tuple) else [entry, entry] for entry in entries]
    good = len(pairs) == axes and all(len(pair) == 2 and all(_is_count(size) for size in pair) for pair in pairs)
    if not good:
        raise options.refuse(f"its {key} is {shown(value)}, expected numbers, or a pair for each of {axes} axes")
    return tuple((int(pair[0]), int(pair[1])) for pair in pairs)


def _sizes(options: Options, key: str, fewest: int, most: int, least: int = 0) -> tuple[int, ...]:
    value = options.get(key)
    good = isinstance(value, list | tuple) and fewest <= len(value) <= most
    if not good or not all(_is_count(size) or size == least for size in value):
        raise options.refuse(f"its {key} is {shown(value)}, expected {fewest} to {most} whole numbers")
    return tuple(value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_SIZE
