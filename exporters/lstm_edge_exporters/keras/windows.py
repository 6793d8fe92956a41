"""Padding of windows along one axis, as Keras and TensorFlow count it. Letters: B batch, T time, F features."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["LOWEST", "Padding", "features_first", "features_last", "not_empty", "padded"]

Padding = Literal["valid", "same", "causal"]
# Not infinity, which some runtimes turn into NaN; no float32 value is below it.
LOWEST = torch.finfo(torch.float32).min


def padded(x: Tensor, axis: int, span: int, stride: int, padding: Padding, *, fill: float = 0.0) -> Tensor:
    """Pad x along an axis for a window of ``span`` steps; the first axis is the batch, the last the features."""
    if padding == "valid":
        return x
    behind = (0, 0) * (x.ndim - 1 - axis)
    if padding == "causal":
        return functional.pad(x, (*behind, span - 1, 0), value=fill)
    if stride == 1:
        before = (span - 1) // 2
        return functional.pad(x, (*behind, before, span - 1 - before), value=fill)
    # How much is padded depends on T, so the padded sequence is gathered: step k of it is step k - left of x.
    steps = x.shape[axis]
    length = (steps + stride - 1) // stride * stride - stride + span
    # As tensors: torch.export follows arithmetic on sizes, but would fix a size to decide which of two is larger. A
    # window narrower than the stride may end before the sequence does: nothing is padded then.
    left = torch.clamp(torch.arange(1) + length - steps, min=0) // 2
    places = torch.arange(length) - left
    inside = (places >= 0) & (places < steps)
    gathered = x.index_select(axis, places.clamp(min=0).minimum(torch.arange(1) + steps - 1))
    return torch.where(inside.reshape(-1, *(1,) * (x.ndim - 1 - axis)), gathered, fill)


def not_empty(y: Tensor, axes: int, padding: Padding) -> Tensor:
    """Return y [B, ...]; make the exported graph refuse an input that is shorter than the window, as Keras does.

    onnxruntime pools such an input to no steps at all, and its LSTM then returns memory that nobody wrote (seen on
    1.32). A Gather of the first step fails instead.
    """
    if padding != "valid":
        return y
    for axis in range(1, axes + 1):
        if axis == 1 or not isinstance(y.shape[axis], int):
            first = y.select(axis, 0).unsqueeze(axis)
            y = torch.cat([first, y[(slice(None),) * axis + (slice(1, None),)]], dim=axis)
    return y


def features_last(x: Tensor) -> Tensor:
    """Return [B, ..., F] of [B, F, ...]."""
    return x.permute(0, *range(2, x.ndim), 1)


def features_first(x: Tensor) -> Tensor:
    """Return [B, F, ...] of [B, ..., F]."""
    return x.permute(0, x.ndim - 1, *range(1, x.ndim - 1))
