"""Convolutions over one or two axes, [B, ..., F] in and out, or [B, F, ...]; the mask ends at each of them.

Letters: B batch, F features, K kernel size, M the results of each feature.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from lstm_edge_exporters.keras.activations import Activation, read_activation
from lstm_edge_exporters.keras.archive import Part
from lstm_edge_exporters.keras.dense import fill
from lstm_edge_exporters.keras.options import Options
from lstm_edge_exporters.keras.shapes import Built, Source
from lstm_edge_exporters.keras.values import Arguments, Value
from lstm_edge_exporters.keras.windows import Padding, features_first, features_last, not_empty, padded

__all__ = [
    "Windows",
    "apply",
    "axes_of",
    "build_convolution",
    "build_depthwise",
    "build_separable",
    "build_windows",
    "features_of",
    "read_features_first",
]

Array = NDArray[np.float32]
Sizes = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Windows:
    """How a window moves over each axis: its size, step and dilation, and the padding.

    ``first``: the tensors are [B, F, ...] (``channels_first``).
    """

    sizes: Sizes
    strides: Sizes
    dilations: Sizes
    padding: Padding
    first: bool = False

    @property
    def spans(self) -> Sizes:
        """How many steps a window covers on each axis."""
        return tuple((size - 1) * wide + 1 for size, wide in zip(self.sizes, self.dilations, strict=True))

    def enter(self, x: Tensor) -> Tensor:
        """Return the tensor that a layer takes as [B, ..., F]."""
        return features_last(x) if self.first else x

    def leave(self, y: Tensor) -> Tensor:
        """Return [B, ..., F] as the layer gives it."""
        return features_first(y) if self.first else y

    def pad(self, x: Tensor, *, fill: float = 0.0) -> Tensor:
        """Pad x [B, ..., F] for the windows."""
        for axis, (span, stride) in enumerate(zip(self.spans, self.strides, strict=True), start=1):
            x = padded(x, axis, span, stride, self.padding, fill=fill)
        return x


@dataclass(frozen=True, kw_only=True)
class _Convolve:
    """The modules one after the other, on features first, and the activation."""

    windows: Windows
    activation: Activation

    def __call__(self, module: nn.Module, given: Arguments) -> Value:
        """Call the layer."""
        x = self.windows.pad(self.windows.enter(given.first.tensor))
        y = apply(module, x)
        return Value(tensor=self.activation(self.windows.leave(not_empty(y, y.ndim - 2, self.windows.padding))))


def apply(module: nn.Module, x: Tensor) -> Tensor:
    """Apply a module of PyTorch, which has the features first, to [B, ..., F]."""
    if x.ndim == 3:
        one: Tensor = module(x.transpose(1, 2)).transpose(1, 2)
        return one
    y: Tensor = module(x.permute(0, 3, 1, 2))
    return y.permute(0, 2, 3, 1)


def build_windows(options: Options, axes: int, key: str, default: Any = None, *, causal: bool = False) -> Windows:
    """Read how the windows of a convolution or a pooling move."""
    sizes = options.steps(key, axes) if default is None else options.steps(key, axes, default)
    convolves = key == "kernel_size"
    strides = sizes if options.get("strides", None) is None else options.steps("strides", axes)
    if convolves and options.get("strides", None) is None:
        strides = (1,) * axes
    dilations = options.steps("dilation_rate", axes, 1) if convolves else (1,) * axes
    allowed = ("valid", "same", "causal") if causal else ("valid", "same")
    padding = cast(Padding, options.choice("padding", allowed, "valid"))
    return Windows(
        sizes=sizes, strides=strides, dilations=dilations, padding=padding, first=read_features_first(options)
    )


def read_features_first(options: Options) -> bool:
    """Say whether a layer's tensors are [B, F, ...]; Keras's default is [B, ..., F]."""
    return options.choice("data_format", ("channels_last", "channels_first", None), None) == "channels_first"


def axes_of(options: Options, source: Source) -> int:
    """Return how many axes a layer's windows have; refuse a tensor of other axes."""
    axes = 1 if "1D" in options.kind else 2
    source.shape(options, axes + 2)
    return axes


def features_of(options: Options, source: Source, axes: int, windows: Windows) -> int:
    """Return F."""
    shape = source.shape(options, axes + 2)
    return source.last_of((None, shape[1]) if windows.first else shape, options)


def build_convolution(options: Options, source: Source) -> Built:
    """Build a Conv1D or Conv2D."""
    axes = axes_of(options, source)
    filters = options.size("filters")
    windows = build_windows(options, axes, "kernel_size", causal=axes == 1)
    features = features_of(options, source, axes, windows)
    groups, bias = options.size("groups", 1), options.flag("use_bias", True)
    activation = read_activation(options, source.version)
    options.finish()
    if features % groups or filters % groups:
        raise options.refuse(f"{groups} groups do not divide {features} features and {filters} filters")
    weights = _read(source, [("kernel", (*windows.sizes, features // groups, filters))], filters, bias=bias)
    module = _module(weights[0], features, windows, groups=groups, bias=weights[1] if bias else None)
    return Built(module=module, call=_Convolve(windows=windows, activation=activation))


def build_depthwise(options: Options, source: Source) -> Built:
    """Build a DepthwiseConv1D or DepthwiseConv2D: each feature by itself."""
    axes = axes_of(options, source)
    times = options.size("depth_multiplier", 1)
    windows = build_windows(options, axes, "kernel_size")
    features = features_of(options, source, axes, windows)
    bias = options.flag("use_bias", True)
    activation = read_activation(options, source.version)
    for key in ("filters", "groups", "activity_regularizer"):
        _ignore(options, key)
    options.finish()
    name = "depthwise_kernel" if source.file.before_3 else "kernel"
    weights = _read(source, [(name, (*windows.sizes, features, times))], features * times, bias=bias)
    module = _module(_depthwise(weights[0]), features, windows, groups=features, bias=weights[1] if bias else None)
    return Built(module=module, call=_Convolve(windows=windows, activation=activation))


def build_separable(options: Options, source: Source) -> Built:
    """Build a SeparableConv1D or SeparableConv2D: each feature by itself, then all of each position."""
    axes = axes_of(options, source)
    filters, times = options.size("filters"), options.size("depth_multiplier", 1)
    windows = build_windows(options, axes, "kernel_size", causal=axes == 1)
    features = features_of(options, source, axes, windows)
    bias = options.flag("use_bias", True)
    activation = read_activation(options, source.version)
    _ignore(options, "groups")
    options.finish()
    arrays = [
        ("depthwise_kernel", (*windows.sizes, features, times)),
        ("pointwise_kernel", ((1,) * axes + (features * times, filters))),
    ]
    weights = _read(source, arrays, filters, bias=bias)
    alone = Windows(sizes=(1,) * axes, strides=(1,) * axes, dilations=(1,) * axes, padding="valid")
    module = nn.Sequential(
        _module(_depthwise(weights[0]), features, windows, groups=features, bias=None),
        _module(weights[1], features * times, alone, groups=1, bias=weights[2] if bias else None),
    )
    return Built(module=module, call=_Convolve(windows=windows, activation=activation))


def _ignore(options: Options, key: str) -> None:
    """Let an option that Keras 2 wrote stand at the only value that it can have."""
    value = options.get(key, None)
    if value is not None:
        options.only(key, 1)


def _read(source: Source, arrays: list[tuple[str, Sizes]], filters: int, *, bias: bool) -> list[Array]:
    named = [*arrays, *([("bias", (filters,))] if bias else [])]
    [weights] = source.read([Part(path="", arrays=tuple(named))])
    return weights


def _depthwise(kernel: Array) -> Array:
    """[K..., F, M] to [K..., 1, F * M]: the kernels of a convolution in groups of one feature."""
    return kernel.reshape(*kernel.shape[:-2], 1, kernel.shape[-2] * kernel.shape[-1])


def _module(kernel: Array, features: int, windows: Windows, *, groups: int, bias: Array | None) -> nn.Module:
    """Return the convolution; Keras stores its kernel as [K..., F / groups, filters]."""
    make: Any = nn.Conv1d if len(windows.sizes) == 1 else nn.Conv2d
    filters = kernel.shape[-1]
    module: Any = make(
        features,
        filters,
        windows.sizes,
        stride=windows.strides,
        dilation=windows.dilations,
        groups=groups,
        bias=bias is not None,
    )
    # The last two axes to the front, the last one first.
    order = (kernel.ndim - 1, kernel.ndim - 2, *range(kernel.ndim - 2))
    fill(module.weight, kernel.transpose(order))
    if bias is not None:
        fill(module.bias, bias)
    made: nn.Module = module
    return made
