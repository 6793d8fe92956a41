"""Padding before a row, for PyTorch: move rows to the front, and outputs back.

A recurrent layer with ``lengths`` reads each row from step 0. Rows with padding in front are moved to step 0 and the
outputs are moved back, so one code path serves every padding. Both moves only copy numbers, so they cannot change an
answer.
"""

import torch
from torch import Tensor

__all__ = ["to_front", "to_place"]


def to_front(x: Tensor, starts: Tensor) -> Tensor:
    """Move each row's first valid step to step 0.

    Args:
        x: ``[B, T, ...]``.
        starts: int64 ``[B]``, from 0 to T - 1.

    Returns:
        ``[B, T, ...]``; the steps before the start move after the end, as padding that must not be read.
    """
    return _take(x, _steps(x, starts, direction=1))


def to_place(y: Tensor, starts: Tensor, lengths: Tensor) -> Tensor:
    """Undo ``to_front`` for outputs: ``[B, T, ...]`` with zeros in the padding.

    Args:
        y: ``[B, T, ...]``, valid from step 0 on.
        starts: int64 ``[B]``, new position of each row's first step.
        lengths: int64 ``[B]``, valid steps of each row; ``starts + lengths`` is at most T.
    """
    step = torch.arange(y.shape[1], device=y.device) - starts.unsqueeze(1)
    outside = (step < 0) | (step >= lengths.unsqueeze(1))
    return _take(y, _steps(y, starts, direction=-1)).masked_fill(
        outside.reshape(*outside.shape, *(1,) * (y.dim() - 2)), 0
    )


def _steps(x: Tensor, starts: Tensor, *, direction: int) -> Tensor:
    """Return int64 ``[B, T]``: the source step of each position, modulo T."""
    T = x.shape[1]
    return (torch.arange(T, device=x.device) + direction * starts.unsqueeze(1)) % T


def _take(x: Tensor, steps: Tensor) -> Tensor:
    return x[torch.arange(len(x), device=x.device).unsqueeze(1), steps]
