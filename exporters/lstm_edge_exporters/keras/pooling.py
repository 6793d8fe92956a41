"""Pooling over one or two axes, in windows and over everything. Letters: B batch, T time, F features."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from lstm_edge_exporters.keras.convolution import Windows, build_windows, read_features_first
from lstm_edge_exporters.keras.options import Options
from lstm_edge_exporters.keras.shapes import Built, Source
from lstm_edge_exporters.keras.values import Arguments, Value
from lstm_edge_exporters.keras.windows import LOWEST, not_empty

__all__ = ["build_global_pooling", "build_pooling"]

Kind = Literal["max", "average"]


@dataclass(frozen=True, kw_only=True)
class _Pool:
    """Largest or average value of each window; padding counts in neither. The mask ends here."""

    kind: Kind
    windows: Windows

    def __call__(self, _module: nn.Module, given: Arguments) -> Value:
        """Call the layer."""
        x = self.windows.enter(given.first.tensor)
        if self.kind == "max":
            y = self._max(self.windows.pad(x, fill=LOWEST))
        else:
            y = self._average(self.windows.pad(x))
            if self.windows.padding == "same":
                ones = torch.ones_like(x[:1, ..., :1])
                y = y / self._average(self.windows.pad(ones))
        return Value(tensor=self.windows.leave(not_empty(y, y.ndim - 2, self.windows.padding)))

    def _max(self, x: Tensor) -> Tensor:
        sizes, strides = self.windows.sizes, self.windows.strides
        if x.ndim == 3:
            # Over [B, 1, T, F] in two dimensions: torch.export fixes the time axis of max_pool1d.
            return functional.max_pool2d(x[:, None], (sizes[0], 1), (strides[0], 1))[:, 0]
        return functional.max_pool2d(x.permute(0, 3, 1, 2), sizes, strides).permute(0, 2, 3, 1)

    def _average(self, x: Tensor) -> Tensor:
        sizes, strides = self.windows.sizes, self.windows.strides
        if x.ndim == 3:
            return functional.avg_pool1d(x.transpose(1, 2), sizes[0], strides[0]).transpose(1, 2)
        return functional.avg_pool2d(x.permute(0, 3, 1, 2), sizes, strides).permute(0, 2, 3, 1)


@dataclass(frozen=True, kw_only=True)
class _Average:
    """Mean over the positions; over the valid steps where there is a mask: a row without one gives zeros.

    Keras divides by zero there.
    """

    keep: bool
    first: bool = False

    def __call__(self, _module: nn.Module, given: Arguments) -> Value:
        """Call the layer."""
        x: Tensor = given.first.tensor
        mask = given.own_mask
        if self.first:
            return Value(tensor=x.mean(dim=tuple(range(2, x.ndim)), keepdim=self.keep))
        if x.ndim == 4:
            return Value(tensor=x.mean(dim=(1, 2), keepdim=self.keep))
        if mask is None:
            return Value(tensor=x.mean(dim=1, keepdim=self.keep))
        valid = mask[:, :, None]
        total = torch.where(valid, x, 0.0).sum(dim=1, keepdim=self.keep)
        count = valid.to(x.dtype).sum(dim=1, keepdim=self.keep)
        return Value(tensor=total / count.clamp(min=1.0))


@dataclass(frozen=True, kw_only=True)
class _Largest:
    """Largest value over all positions, masked ones too: Keras looks at no mask here."""

    keep: bool
    first: bool = False

    def __call__(self, _module: nn.Module, given: Arguments) -> Value:
        """Call the layer."""
        x: Tensor = given.first.tensor
        if self.first:
            return Value(tensor=x.amax(dim=tuple(range(2, x.ndim)), keepdim=self.keep))
        return Value(tensor=x.amax(dim=1 if x.ndim == 3 else (1, 2), keepdim=self.keep))


def build_pooling(options: Options, source: Source) -> Built:
    """Build a MaxPooling or an AveragePooling over one or two axes."""
    axes = 1 if "1D" in options.kind else 2
    source.shape(options, axes + 2)
    windows = build_windows(options, axes, "pool_size", 2)
    options.finish()
    kind: Kind = "max" if "Max" in options.kind else "average"
    return Built(module=None, call=_Pool(kind=kind, windows=windows))


def build_global_pooling(options: Options, source: Source) -> Built:
    """Build a GlobalAveragePooling or a GlobalMaxPooling over one or two axes."""
    one = "1D" in options.kind
    source.shape(options, 3 if one else 4)
    keep = options.flag("keepdims", False)
    first = read_features_first(options)
    options.finish()
    if "Max" in options.kind:
        return Built(module=None, call=_Largest(keep=keep, first=first))
    masked = one and source.lanes[0].first_mask is not None
    if masked and first:
        raise options.refuse("it gets a mask of time steps with channels_first, whose steps are another axis")
    empty = "of a row in which every step is masked, the average is 0, where Keras gives NaN"
    return Built(
        module=None,
        call=_Average(keep=keep, first=first),
        notes=(f"{options.name}: {empty}",) if masked else (),
    )
