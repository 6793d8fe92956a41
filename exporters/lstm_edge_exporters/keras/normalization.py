"""Normalizations over the features or groups of them, and the preprocessing layers with constants.

Letter: F features.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lstm_edge_exporters.keras.activations import read_axes
from lstm_edge_exporters.keras.archive import Part
from lstm_edge_exporters.keras.config import class_and_config
from lstm_edge_exporters.keras.dense import Plain, fill
from lstm_edge_exporters.keras.hdf5 import shown
from lstm_edge_exporters.keras.options import Options
from lstm_edge_exporters.keras.shapes import Built, Source
from lstm_edge_exporters.keras.values import Arguments, Shape, Value

__all__ = [
    "build_batch_normalization",
    "build_group_normalization",
    "build_layer_normalization",
    "build_normalization",
    "build_rescaling",
]

# Keras's smallest divisor, keras.config.epsilon(), which no file says; 1e-7 unless a program changes it.
SMALLEST = 1e-7


class Normalize(nn.Module):
    """(x - mean) * scale + shift over the last axis, each [F]: batch normalization with its moving statistics."""

    mean: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Tensor, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x [..., F]."""
        return (x - self.mean) * self.scale + self.shift


def build_batch_normalization(options: Options, source: Source) -> Built:
    """Build a BatchNormalization with its moving statistics; its mask acts in training only."""
    features = _normalized_axis(options, source)
    epsilon = options.number("epsilon", least=0.0)
    names = [
        *(["gamma"] if options.flag("scale", True) else []),
        *(["beta"] if options.flag("center", True) else []),
        "moving_mean",
        "moving_variance",
    ]
    options.only("renorm", False)
    options.get("virtual_batch_size", None)
    options.finish()
    [arrays] = source.read([Part(path="", arrays=tuple((name, (features,)) for name in names))])
    found = dict(zip(names, arrays, strict=True))
    if (found["moving_variance"] < 0).any():
        raise options.refuse("its moving variance has a negative element")
    deviation = np.sqrt(found["moving_variance"].astype(np.float64) + epsilon)
    scale = (found.get("gamma", np.ones(features)) / deviation).astype(np.float32)
    shift = found.get("beta", np.zeros(features, np.float32))
    module = Normalize(*(torch.from_numpy(array) for array in (found["moving_mean"], scale, shift)))
    return Built(module=module, call=Plain())


def build_layer_normalization(options: Options, source: Source) -> Built:
    """Build a LayerNormalization."""
    features = _normalized_axis(options, source)
    epsilon = options.number("epsilon", least=0.0)
    options.only("rms_scaling", False)
    names = [
        *(["gamma"] if options.flag("scale", True) else []),
        *(["beta"] if options.flag("center", True) else []),
    ]
    options.finish()
    [arrays] = source.read([Part(path="", arrays=tuple((name, (features,)) for name in names))])
    found = dict(zip(names, arrays, strict=True))
    module = nn.LayerNorm(features, eps=epsilon)
    for name, parameter in (("gamma", module.weight), ("beta", module.bias)):
        if name in found:
            fill(parameter, found[name])
    return Built(module=module, call=Plain())


class _GroupNormalize(nn.Module):
    """Each group of features over all other axes but the batch, then scale and shift, each [F]."""

    scale: Tensor
    shift: Tensor

    def __init__(self, groups: int, axis: int, epsilon: float, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.groups, self.axis, self.epsilon = groups, axis, epsilon
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x [B, ...]."""
        moved = x.movedim(self.axis, 1)
        grouped = moved.reshape(moved.shape[0], self.groups, -1)
        centred = grouped - grouped.mean(dim=-1, keepdim=True)
        variance = (centred * centred).mean(dim=-1, keepdim=True)
        y = (centred * torch.rsqrt(variance + self.epsilon)).reshape(moved.shape).movedim(1, self.axis)
        broad = [1] * x.ndim
        broad[self.axis] = -1
        return y * self.scale.reshape(broad) + self.shift.reshape(broad)


def build_group_normalization(options: Options, source: Source) -> Built:
    """Build a GroupNormalization; as in Keras, masked steps count in its statistics."""
    shape = source.shape(options)
    axis, groups = options.get("axis", -1), options.get("groups", 32)
    if isinstance(axis, bool) or not isinstance(axis, int) or not (-len(shape) < axis < len(shape)) or axis == 0:
        raise options.refuse(f"it normalizes groups along axis {shown(axis)}, expected one of its input but the batch")
    features = source.last_of((None, shape[axis]), options)
    groups = features if groups == -1 else groups
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1 or features % groups:
        raise options.refuse(f"{shown(groups)} groups do not divide {features} features")
    epsilon = options.number("epsilon", least=0.0)
    names = [key for key, flag in (("gamma", "scale"), ("beta", "center")) if options.flag(flag, True)]
    options.finish()
    [arrays] = source.read([Part(path="", arrays=tuple((name, (features,)) for name in names))])
    found = {name: torch.from_numpy(array) for name, array in zip(names, arrays, strict=True)}
    scale, shift = found.get("gamma", torch.ones(features)), found.get("beta", torch.zeros(features))
    return Built(module=_GroupNormalize(groups, axis % len(shape), epsilon, scale, shift), call=Plain())


def _normalized_axis(options: Options, source: Source) -> int:
    """Return the features; refuse any axis but the last."""
    shape = source.shape(options)
    axis = options.get("axis", -1)
    value = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    if isinstance(value, bool) or value not in (-1, len(shape) - 1):
        raise options.refuse(f"it normalizes over axis {shown(axis)}, expected the last, the features")
    return source.last_of(shape, options)


@dataclass(frozen=True, kw_only=True)
class _Affine:
    """x * scale + offset, or (x - offset) / scale: constants of the module; the mask goes on."""

    divides: bool

    def __call__(self, module: nn.Module, given: Arguments) -> Value:
        """Call the layer."""
        assert isinstance(module, _Constants)
        x: Tensor = given.first.tensor
        y = (x - module.offset) / module.scale if self.divides else x * module.scale + module.offset
        return Value(tensor=y, mask=given.first_mask)


class _Constants(nn.Module):
    """Two constants that broadcast with what they are applied to."""

    scale: Tensor
    offset: Tensor

    def __init__(self, scale: NDArray[Any], offset: NDArray[Any]) -> None:
        super().__init__()
        self.register_buffer("scale", torch.from_numpy(np.array(scale, np.float32)))
        self.register_buffer("offset", torch.from_numpy(np.array(offset, np.float32)))


def build_rescaling(options: Options, source: Source) -> Built:
    """Build a Rescaling: x * scale + offset."""
    shape = source.shape(options)
    scale, offset = (_constant(options, key, default) for key, default in (("scale", None), ("offset", 0.0)))
    options.finish()
    for name, array in (("scale", scale), ("offset", offset)):
        _check_broadcast(array, shape, name, options)
    return Built(module=_Constants(scale, offset), call=_Affine(divides=False))


def build_normalization(options: Options, source: Source) -> Built:
    """Build a Normalization: (x - mean) / deviation, or back; adapted, or with the mean and variance that it was given.

    Its arrays have the sizes of the axes in ``axis``, in order, and count the others as one.
    """
    shape = source.shape(options)
    value = options.get("axis", -1)
    axes = () if value is None or value == [] else tuple(sorted(read_axes(options, "axis", len(shape))))
    inverted = options.flag("invert", False)
    mean, variance = (_given(options, key) for key in ("mean", "variance"))
    options.finish()
    kept = tuple(source.last_of((None, shape[axis]), options) for axis in axes)
    if (mean is None) != (variance is None):
        raise options.refuse("it has a mean or a variance, expected both or none")
    if mean is None or variance is None:
        part = Part(path="", arrays=(("mean", kept), ("variance", kept)), unread=("count",))
        [[mean, variance]] = source.read([part])
    if (variance < 0).any():
        raise options.refuse("its variance has a negative element")
    # Of deviations as small as that Keras uses the smallest divisor.
    deviation = np.maximum(np.sqrt(variance), np.float32(SMALLEST))
    broad = tuple(size if axis in axes else 1 for axis, size in enumerate(shape))
    arrays = [_aligned(array, axes, len(shape), options) for array in (deviation, mean)]
    for name, array in zip(("variance", "mean"), arrays, strict=True):
        _check_broadcast(array, broad, name, options)
    return Built(module=_Constants(*arrays), call=_Affine(divides=not inverted))


def _aligned(array: NDArray[Any], axes: tuple[int, ...], rank: int, options: Options) -> NDArray[Any]:
    """Give an array an axis for each of the input's: its own are those that are kept, from the last one on."""
    if array.ndim == 0:
        return array
    if array.ndim > len(axes):
        raise options.refuse(f"its mean or variance has {array.ndim} axes, but it normalizes over {len(axes)}")
    sizes = [1] * rank
    for index in range(1, array.ndim + 1):
        sizes[axes[-index]] = array.shape[-index]
    return array.reshape(sizes)


def _check_broadcast(array: NDArray[Any], shape: Shape, name: str, options: Options) -> None:
    """Refuse constants that would give the tensor another shape."""
    sizes = shape[len(shape) - array.ndim :] if array.ndim else ()
    if array.ndim > len(shape) or any(a not in (1, b) for a, b in zip(array.shape, sizes, strict=True)):
        shown_shape = ["?" if size is None else size for size in shape]
        raise options.refuse(f"its {name} is of shape {list(array.shape)}, which does not fit its input {shown_shape}")


def _given(options: Options, key: str) -> NDArray[Any] | None:
    """Return a constant that a Normalization was made with; None where it was adapted."""
    value = options.get(key, None)
    if value is None:
        return None
    return _constant(options, key, None)


def _constant(options: Options, key: str, default: Any) -> NDArray[Any]:
    value = options.get(key, default)
    if isinstance(value, dict):
        _, config = class_and_config(value, f"{options}: the option {key!r}")
        value = config.get("value") if isinstance(config, dict) else None
    try:
        array = np.asarray(value, np.float32)
    except (TypeError, ValueError) as error:
        raise options.refuse(f"the option {key!r} is {shown(value)}, expected numbers") from error
    if value is None or not np.isfinite(array).all() or isinstance(value, str | bool):
        raise options.refuse(f"the option {key!r} is {shown(value)}, expected finite numbers")
    return array
