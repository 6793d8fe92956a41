"""Conv1DTranspose and Conv2DTranspose; the mask ends at each of them.

The whole product of L steps has (L - 1) * stride + span steps; Keras cuts some at both ends, or adds some at the end.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lstm_edge_exporters.keras.activations import Activation, read_activation
from lstm_edge_exporters.keras.archive import Part
from lstm_edge_exporters.keras.convolution import (
    Windows,
    apply,
    axes_of,
    build_windows,
    features_of,
)
from lstm_edge_exporters.keras.dense import fill
from lstm_edge_exporters.keras.hdf5 import shown
from lstm_edge_exporters.keras.options import Options
from lstm_edge_exporters.keras.shapes import Built, Source
from lstm_edge_exporters.keras.values import Arguments, Value

__all__ = ["build_transposed"]


class _Transpose(nn.Module):
    """The transposed convolution without a border, cut at its ends; steps that are added at an end have the bias."""

    def __init__(self, convolution: nn.Module, ends: tuple[tuple[int, int], ...], bias: Tensor | None) -> None:
        super().__init__()
        self.convolution, self.ends = convolution, ends
        self.bias = None if bias is None else nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, M, ...] of x [B, F, ...]."""
        y: Tensor = self.convolution(x)
        for axis, (first, last) in enumerate(self.ends, start=2):
            y = y[(slice(None),) * axis + (slice(first, -last if last > 0 else None),)]
        more = [max(-last, 0) for _, last in self.ends]
        if any(more):
            y = functional.pad(y, [part for size in reversed(more) for part in (0, size)])
        return y if self.bias is None else y + self.bias.reshape(-1, *(1,) * len(self.ends))


@dataclass(frozen=True, kw_only=True)
class _Transposed:
    """The module on features first, and the activation."""

    windows: Windows
    activation: Activation

    def __call__(self, module: nn.Module, given: Arguments) -> Value:
        """Call the layer."""
        y = apply(module, self.windows.enter(given.first.tensor))
        return Value(tensor=self.activation(self.windows.leave(y)))


def build_transposed(options: Options, source: Source) -> Built:
    """Build a Conv1DTranspose or Conv2DTranspose."""
    axes = axes_of(options, source)
    filters, windows = options.size("filters"), build_windows(options, axes, "kernel_size")
    features = features_of(options, source, axes, windows)
    ends = _ends(options, windows)
    bias = options.flag("use_bias", True)
    activation = read_activation(options, source.version)
    options.only("groups", 1)
    options.finish()
    arrays = [("kernel", (*windows.sizes, filters, features)), *([("bias", (filters,))] if bias else [])]
    [weights] = source.read([Part(path="", arrays=tuple(arrays))])
    # The bias is the convolution's own unless steps are added behind it.
    inside = bias and all(last >= 0 for _, last in ends)
    make: Any = nn.ConvTranspose1d if axes == 1 else nn.ConvTranspose2d
    convolution: Any = make(
        features, filters, windows.sizes, stride=windows.strides, dilation=windows.dilations, bias=inside
    )
    fill(convolution.weight, weights[0].transpose(axes + 1, axes, *range(axes)))
    if inside:
        fill(convolution.bias, weights[1])
    module = _Transpose(convolution, ends, torch.from_numpy(weights[1]) if bias and not inside else None)
    return Built(module=module, call=_Transposed(windows=windows, activation=activation))


def _ends(options: Options, windows: Windows) -> tuple[tuple[int, int], ...]:
    """How many steps are cut at the beginning and at the end of each axis; below 0, how many are added."""
    axes = len(windows.sizes)
    given = options.get("output_padding", None)
    asked = [None] * axes if given is None else list(given) if isinstance(given, list | tuple) else [given] * axes
    good = all(more is None or (isinstance(more, int) and not isinstance(more, bool) and more >= 0) for more in asked)
    if len(asked) != axes or not good:
        raise options.refuse(f"the option 'output_padding' is {shown(given)}, expected a number, or one for each axis")
    ends = []
    for span, stride, more in zip(windows.spans, windows.strides, asked, strict=True):
        if windows.padding == "valid":
            ends.append((0, -(max(span, stride) - span if more is None else more)))
            continue
        # Keras cuts the result to L * stride steps, or to a length that output_padding sets.
        kept = stride + span - 2 if more is None else span + span % 2 - 2 + more
        first = min(kept // 2 + kept % 2, span - 1)
        ends.append((span - 1 - first, span - 1 - (kept - first)))
    return tuple(ends)
