"""The peephole cells as a PyTorch time loop; ``nn.LSTM`` has no kernel for them.

T time, B batch, I input, H hidden (cell), P projection size (H without one). Gates are stacked i f g o.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["DirectionWeights", "run_direction"]


@dataclass(frozen=True, kw_only=True, eq=False)
class DirectionWeights:
    """Parameters of one direction of one layer, all of one floating dtype.

    Attributes:
        w_x: [4H, I].
        w_h: [4H, P].
        bias: [4H], the sum of both biases, or None.
        peephole: [3H] (i f o, diagonal) or [4H, H] (i f g o, full).
        projection: [P, H], or None.
    """

    w_x: Tensor
    w_h: Tensor
    bias: Tensor | None
    peephole: Tensor
    projection: Tensor | None


def run_direction(
    x: Tensor, h: Tensor, c: Tensor, weights: DirectionWeights, *, past: Tensor | None, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Run one direction of one layer over all steps.

    Args:
        x: [T, B, I].
        h: [B, P], initial output.
        c: [B, H], initial cell state.
        weights: the direction's parameters.
        past: bool [T, B], True for steps after a row's length: the state stays and the output is zero; None if all
            steps are valid.
        reverse: start at the last step.

    Returns:
        Outputs [T, B, P] in the order of the input's steps, final h [B, P] and final c [B, H].
    """
    # One product over all steps; only the recurrent part stays in the loop. unbind, because the gradient of x[t] would
    # allocate zeros of the size of x at every step.
    from_input = functional.linear(x, weights.w_x, weights.bias).unbind(0)
    done = None if past is None else past.unsqueeze(-1).unbind(0)
    step = _diagonal_step if weights.peephole.dim() == 1 else _full_step
    outputs: list[Tensor] = [h] * len(from_input)
    for t in reversed(range(len(from_input))) if reverse else range(len(from_input)):
        h_new, c_new = step(from_input[t] + functional.linear(h, weights.w_h), c, weights.peephole)
        if weights.projection is not None:
            h_new = functional.linear(h_new, weights.projection)
        if done is None:
            h, c, outputs[t] = h_new, c_new, h_new
        else:
            h, c = torch.where(done[t], h, h_new), torch.where(done[t], c, c_new)
            outputs[t] = h_new.masked_fill(done[t], 0.0)
    return torch.stack(outputs), h, c


def _diagonal_step(gates: Tensor, c: Tensor, peephole: Tensor) -> tuple[Tensor, Tensor]:
    """One step; gates [B, 4H] hold the input's and h's parts, c [B, H], peephole [3H] (i f o)."""
    i, f, g, o = gates.chunk(4, dim=1)
    w_i, w_f, w_o = peephole.chunk(3)
    c_new = torch.sigmoid(f + w_f * c) * c + torch.sigmoid(i + w_i * c) * torch.tanh(g)
    return torch.sigmoid(o + w_o * c_new) * torch.tanh(c_new), c_new


def _full_step(gates: Tensor, c: Tensor, peephole: Tensor) -> tuple[Tensor, Tensor]:
    """One step; gates [B, 4H] hold the input's and h's parts, c [B, H], peephole [4H, H] (i f g o)."""
    H = c.shape[1]
    w_ifg, w_o = peephole[: 3 * H], peephole[3 * H :]
    i, f, g = (gates[:, : 3 * H] + functional.linear(c, w_ifg)).chunk(3, dim=1)
    c_new = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    o = gates[:, 3 * H :] + functional.linear(c_new, w_o)
    return torch.sigmoid(o) * torch.tanh(c_new), c_new
