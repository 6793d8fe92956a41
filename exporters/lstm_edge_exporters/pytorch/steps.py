"""A cell of the user's own equations in the graph: a ``Scan`` over time whose body is the module's step."""

from typing import Any

import torch
from torch import Tensor
from torch._higher_order_ops.scan import scan

__all__ = ["scan_steps"]


def scan_steps(steps: Any, x: Tensor, state: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor]:
    """Run a module of own steps over time, as one operator that torch's exporter writes as ``Scan``.

    Args:
        steps: the module: ``shaped``, ``split``, ``join`` and ``one`` as of ``lstm_edge.Recurrent``.
        x: [T, B, F].
        state: [1, B, S], all parts of the state side by side.
        rows: int64 [B], the lengths of rows, or None. Past a row's length its state stays, and y is zero.

    Returns:
        y [T, B, ...] and the new state [1, B, S].
    """

    def body(carry: tuple[Tensor, ...], now: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        y, new = steps.one(now[0], carry)
        if rows is not None:
            inside = now[1] < rows
            new = tuple(torch.where(_wide(inside, a), a, b) for a, b in zip(new, carry, strict=True))
            y = torch.where(_wide(inside, y), y, 0.0)
        return tuple(_own(part) for part in new), _own(y)

    # Shapes are changed outside of the body: what depends on a dynamic axis in there becomes an output of it.
    x = steps.shaped(x)
    scanned = (x,) if rows is None else (x, torch.arange(x.shape[0]))
    last, ys = scan(body, tuple(_own(part) for part in steps.split(state)), scanned)
    return ys, steps.join(last)


def _own(tensor: Tensor) -> Tensor:
    # scan wants tensors that share no memory, and the same strides of a state before and after a step.
    return tensor.clone(memory_format=torch.contiguous_format)


def _wide(inside: Tensor, like: Tensor) -> Tensor:
    """[B] with as many axes as another tensor."""
    return inside[(slice(None), *[None] * (like.ndim - 1))]
