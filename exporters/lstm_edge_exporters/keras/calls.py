"""The calls of each kind of Keras layer: a tensor and its mask in, tensors and their masks out.

The weights are in a torch module; what it is called with, and what becomes of the mask, is here. Letters: B batch,
T time, F features, H hidden size, D directions. A mask is bool [B, T] or None.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from lstm_edge_exporters.keras.activations import Activation, linear
from lstm_edge_exporters.keras.recurrent import run_masked

__all__ = [
    "AverageOverTime",
    "Call",
    "Convolve",
    "Embed",
    "Flatten",
    "MaskSteps",
    "MaxOverTime",
    "Merge",
    "Normalize",
    "Padding",
    "Plain",
    "Pool",
    "RunBidirectional",
    "RunRecurrent",
    "Value",
]

Padding = Literal["valid", "same", "causal"]
Merge = Literal["concat", "sum", "mul", "ave"] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Value:
    """A tensor with its mask; ``state`` is the whole state [1, B, H] where the tensor is one as Keras has it [B, H]."""

    tensor: Tensor
    mask: Tensor | None = None
    state: Tensor | None = None


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


@dataclass(frozen=True, kw_only=True)
class Plain:
    """A layer that treats every step alike: the module, then the activation; the mask goes on where Keras lets it."""

    activation: Activation = linear
    keeps_mask: bool = True

    def __call__(self, module: nn.Module, x: Value) -> tuple[Value, ...]:
        """Call the layer."""
        return (Value(tensor=self.activation(module(x.tensor)), mask=x.mask if self.keeps_mask else None),)


@dataclass(frozen=True, kw_only=True)
class Embed:
    """Rows of a table; with ``mask_zero`` the id 0 is a masked step."""

    mask_zero: bool

    def __call__(self, module: nn.Module, x: Value) -> tuple[Value, ...]:
        """Call the layer."""
        return (Value(tensor=module(x.tensor), mask=x.tensor != 0 if self.mask_zero else None),)


@dataclass(frozen=True, kw_only=True)
class MaskSteps:
    """Mask the steps in which every feature is ``value``, and make them zero."""

    value: float

    def __call__(self, _module: nn.Module, x: Value) -> tuple[Value, ...]:
        """Call the layer."""
        mask = (x.tensor != self.value).any(dim=2)
        return (Value(tensor=torch.where(mask[:, :, None], x.tensor, 0.0), mask=mask),)


@dataclass(frozen=True, kw_only=True)
class RunRecurrent:
    """LSTM or GRU in one direction; ``backwards`` is go_backwards: outputs stay in the order of computation."""

    sequences: bool
    states: bool
    backwards: bool
    zero_masked: bool

    def __call__(self, module: nn.Module, x: Value) -> tuple[Value, ...]:
        """Call the layer."""
        tensor, mask = x.tensor, x.mask
        if self.backwards:
            tensor, mask = tensor.flip(1), None if mask is None else mask.flip(1)
        result = run_masked(module, tensor, mask, zero_masked=self.zero_masked)
        if self.sequences:
            # Keras hands the mask on as it came, also where it reversed the steps.
            first = Value(tensor=result.outputs, mask=x.mask)
        else:
            # The state and not the last output: a chunk's answer then continues the one before it.
            last = result.states[0][0]
            if self.zero_masked and mask is not None:
                last = torch.where(mask[:, -1:], last, 0.0)
            first = Value(tensor=last)
        states = [Value(tensor=state[0], state=state) for state in result.states] if self.states else []
        return (first, *states)


@dataclass(frozen=True, kw_only=True)
class RunBidirectional:
    """Both directions as one recurrent layer; ``merge`` as Keras's merge_mode. Masked steps give zeros."""

    sequences: bool
    states: bool
    merge: Merge

    def __call__(self, module: nn.Module, x: Value) -> tuple[Value, ...]:
        """Call the layer."""
        result = run_masked(module, x.tensor, x.mask, zero_masked=True)
        if self.sequences:
            forward, backward = result.outputs.chunk(2, dim=2)
            mask = x.mask
        else:
            forward, backward, mask = result.states[0][0], result.states[0][1], None
        merged = self._merged(forward, backward)
        states = [state[side] for side in (0, 1) for state in result.states] if self.states else []
        return (*(Value(tensor=y, mask=mask) for y in merged), *(Value(tensor=state) for state in states))

    def _merged(self, forward: Tensor, backward: Tensor) -> tuple[Tensor, ...]:
        if self.merge == "concat":
            return (torch.cat([forward, backward], dim=-1),)
        if self.merge == "sum":
            return (forward + backward,)
        if self.merge == "mul":
            return (forward * backward,)
        if self.merge == "ave":
            return ((forward + backward) / 2,)
        return forward, backward


@dataclass(frozen=True, kw_only=True)
class Convolve:
    """Convolution over time, [B, T, F] in and out; the mask ends here."""

    kernel: int
    stride: int
    dilation: int
    padding: Padding
    activation: Activation

    def __call__(self, module: nn.Module, x: Value) -> tuple[Value, ...]:
        """Call the layer."""
        span = (self.kernel - 1) * self.dilation + 1
        y = module(_padded(x.tensor, span, self.stride, self.padding).transpose(1, 2)).transpose(1, 2)
        return (Value(tensor=self.activation(_not_empty(y, self.padding))),)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Largest or average value of each window of ``size`` steps; padding counts in neither. The mask ends here."""

    kind: Literal["max", "average"]
    size: int
    stride: int
    padding: Padding

    def __call__(self, _module: nn.Module, x: Value) -> tuple[Value, ...]:
        """Call the layer."""
        if self.kind == "max":
            padded = _padded(x.tensor, self.size, self.stride, self.padding, fill=LOWEST)
            # Over [B, 1, T, F] in two dimensions: torch.export fixes the time axis of max_pool1d.
            y = functional.max_pool2d(padded[:, None], (self.size, 1), (self.stride, 1))[:, 0]
            return (Value(tensor=_not_empty(y, self.padding)),)
        y = self._average(_padded(x.tensor, self.size, self.stride, self.padding))
        if self.padding == "same":
            ones = torch.ones_like(x.tensor[:1, :, :1])
            y = y / self._average(_padded(ones, self.size, self.stride, self.padding))
        return (Value(tensor=_not_empty(y, self.padding)),)

    def _average(self, x: Tensor) -> Tensor:
        return functional.avg_pool1d(x.transpose(1, 2), self.size, self.stride).transpose(1, 2)


# Not infinity, which some runtimes turn into NaN; no float32 value is below it.
LOWEST = torch.finfo(torch.float32).min


def _padded(x: Tensor, span: int, stride: int, padding: Padding, *, fill: float = 0.0) -> Tensor:
    """Pad x [B, T, F] along time for a window of ``span`` steps as Keras and TensorFlow do."""
    if padding == "valid":
        return x
    if padding == "causal":
        return functional.pad(x, (0, 0, span - 1, 0), value=fill)
    if stride == 1:
        before = (span - 1) // 2
        return functional.pad(x, (0, 0, before, span - 1 - before), value=fill)
    # How much is padded depends on T, so the padded sequence is gathered: step k of it is step k - left of x.
    steps = x.shape[1]
    length = (steps + stride - 1) // stride * stride - stride + span
    # As tensors: torch.export follows arithmetic on sizes, but would fix a size to decide which of two is larger. A
    # window narrower than the stride may end before the sequence does: nothing is padded then.
    left = torch.clamp(torch.arange(1) + length - steps, min=0) // 2
    places = torch.arange(length) - left
    inside = (places >= 0) & (places < steps)
    gathered = x.index_select(1, places.clamp(min=0).minimum(torch.arange(1) + steps - 1))
    return torch.where(inside[None, :, None], gathered, fill)


def _not_empty(y: Tensor, padding: Padding) -> Tensor:
    """Return y [B, T, F]; make the exported graph refuse an input that is shorter than the window, as Keras does.

    onnxruntime pools such an input to no steps at all, and its LSTM then returns memory that nobody wrote (seen on
    1.32). A Gather of the first step fails instead.
    """
    return y if padding != "valid" else torch.cat([y.select(1, 0)[:, None], y[:, 1:]], dim=1)


@dataclass(frozen=True, kw_only=True)
class AverageOverTime:
    """Mean over the valid steps; a row without one gives zeros, where Keras divides by zero."""

    keep: bool

    def __call__(self, _module: nn.Module, x: Value) -> tuple[Value, ...]:
        """Call the layer."""
        if x.mask is None:
            return (Value(tensor=x.tensor.mean(dim=1, keepdim=self.keep)),)
        valid = x.mask[:, :, None]
        total = torch.where(valid, x.tensor, 0.0).sum(dim=1, keepdim=self.keep)
        count = valid.to(x.tensor.dtype).sum(dim=1, keepdim=self.keep)
        return (Value(tensor=total / count.clamp(min=1.0)),)


@dataclass(frozen=True, kw_only=True)
class MaxOverTime:
    """Largest value over all steps, masked ones too: Keras looks at no mask here."""

    keep: bool

    def __call__(self, _module: nn.Module, x: Value) -> tuple[Value, ...]:
        """Call the layer."""
        return (Value(tensor=x.tensor.amax(dim=1, keepdim=self.keep)),)


@dataclass(frozen=True, kw_only=True)
class Flatten:
    """[B, T, F] to [B, T * F]; the mask ends here."""

    def __call__(self, _module: nn.Module, x: Value) -> tuple[Value, ...]:
        """Call the layer."""
        return (Value(tensor=x.tensor.flatten(1)),)


Call = (
    Plain
    | Embed
    | MaskSteps
    | RunRecurrent
    | RunBidirectional
    | Convolve
    | Pool
    | AverageOverTime
    | MaxOverTime
    | Flatten
)
