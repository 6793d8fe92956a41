"""The quantized matrix product with a gradient: exact forward without a graph, two dense products backward.

R rows, K inputs, N columns. The forward pass computes docs/operators.md, "The arithmetic", bit for bit;
``lstm_edge_exporters.functions.simulation`` is the same in NumPy. The quantizer rounds the weights.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from lstm_edge_runtime.errors import InputError

if TYPE_CHECKING:
    from lstm_edge_exporters.quantize.rounding import Scheme

__all__ = ["RoundedMatrix", "add_later", "exact_product", "product", "round_activations", "round_table", "round_weight"]

# PyTorch does not annotate `Function.apply`.
Apply = Callable[..., Tensor]

LEVELS = 127.0
SMALLEST_AMAX = 2.0**-100

# Number of floats of the block sums that are kept at a time: 2 MiB, about a core's second-level cache.
TILE = 2**19


@dataclass(frozen=True, kw_only=True, eq=False)
class RoundedMatrix:
    """A rounded weight, float32 throughout.

    Attributes:
        integers: int8: [K, N]. int4: [blocks, block, N], the zero points subtracted, zeros past K.
        scale: int8: [N]. int4: [blocks, N].
        dense: [K, N], integers · scale, for the gradient.
    """

    integers: Tensor
    scale: Tensor
    dense: Tensor


def round_weight(name: str, weight: Tensor, scheme: "Scheme") -> RoundedMatrix:
    """Round a weight [N, K] (PyTorch's layout) as ``lstm-edge quantize`` rounds the matrix [K, N].

    Raises:
        InputError: it holds NaN or infinity.
    """
    from lstm_edge_exporters.functions.simulation import unpack
    from lstm_edge_exporters.quantize.rounding import round_matrix

    parts = round_matrix(name, _finite(name, weight).T, scheme)
    scale = torch.from_numpy(parts["_scale"])
    if scheme.kind == "int8":
        integers = torch.from_numpy(parts[""].astype(np.float32))
        return RoundedMatrix(integers=integers, scale=scale, dense=integers * scale)
    K, N, blocks = weight.shape[1], weight.shape[0], len(scale)
    zero = np.broadcast_to(parts["_zero"], (blocks, N)).astype(np.int32)
    values = unpack(parts[""], N) - np.repeat(zero, scheme.block, axis=0)[:K]
    padded = np.zeros((blocks * scheme.block, N), np.float32)
    padded[:K] = values
    integers = torch.from_numpy(padded.reshape(blocks, scheme.block, N))
    dense = (integers * scale.unsqueeze(1)).flatten(0, 1)[:K]
    return RoundedMatrix(integers=integers, scale=scale, dense=dense)


def round_table(name: str, table: Tensor) -> Tensor:
    """Return an embedding's table [V, E] rounded to int8 rows, with a straight-through gradient.

    Raises:
        InputError: it holds NaN or infinity.
    """
    from lstm_edge_exporters.quantize.rounding import round_rows

    rounded, scale = round_rows(name, _finite(name, table))
    apply: Apply = _StraightThrough.apply
    return apply(table, torch.from_numpy(rounded.astype(np.float32) * scale))


def round_activations(x: Tensor) -> tuple[Tensor, Tensor]:
    """Round rows x [R, K] to integers q in -127..127 (as float32) and scales s [R, 1], so that x ≈ q · s."""
    m = x.abs().amax(dim=-1, keepdim=True).clamp_min(SMALLEST_AMAX)
    # Both operands are tensors: PyTorch computes a Python number / tensor with a reciprocal, which rounds twice.
    levels = torch.full_like(m, LEVELS)
    return torch.round(x * (levels / m)), m / levels


def exact_product(q: Tensor, s: Tensor, matrix: RoundedMatrix) -> Tensor:
    """Multiply rounded rows q [R, K], s [R, 1] with a matrix to [R, N]: exact sums, scaled in operator order."""
    if matrix.integers.dim() == 2:
        return torch.mm(q, matrix.integers).mul_(s).mul_(matrix.scale)
    blocks, block, N = matrix.integers.shape
    rows = functional.pad(q, (0, blocks * block - q.shape[1])).view(-1, blocks, block).transpose(0, 1)
    scale = matrix.scale.unsqueeze(1)
    totals = []
    tile = max(16, TILE // (blocks * N))
    for start in range(0, rows.shape[1], tile):
        sums = torch.bmm(rows[:, start : start + tile], matrix.integers).mul_(scale)
        total = sums[0]
        for part in sums[1:]:
            total += part
        totals.append(total)
    return torch.cat(totals).mul_(s)


def product(x: Tensor, weight: Tensor | None, matrix: RoundedMatrix, *, seen: Tensor | None = None) -> Tensor:
    """Return the rounded rows of x [..., K] times a rounded weight, [..., N], with straight-through gradients.

    Args:
        x: any leading axes; every row has its own scale.
        weight: the parameter [N, K] of ``matrix``, which gets the gradient; None: no gradient here.
        matrix: the rounded weight.
        seen: [..., K], filled with the rounded rows, for ``add_later``.
    """
    apply: Apply = _Product.apply
    return apply(x, weight, matrix, seen)


def add_later(z: Tensor, weight: Tensor, seen: Tensor, columns: slice) -> Tensor:
    """Return z [T, B, ...] unchanged, and give a weight the gradient of products that are added to z step by step.

    The gradient takes one product over all steps instead of one per step: a product added to z[t] has the gradient of
    z[t].

    Args:
        z: [T, B, M].
        weight: the parameter [N, K].
        seen: [T, B, K], the rounded rows of each step; filled before the backward pass.
        columns: the N columns of z's last axis to which the product is added.
    """
    apply: Apply = _Later.apply
    return apply(z, weight, seen, columns)


def _finite(name: str, weight: Tensor) -> np.ndarray[Any, Any]:
    array = weight.detach().numpy()
    if not np.isfinite(array).all():
        raise InputError(f"training: {name} became NaN or infinite; choose a lower learning rate")
    return array


class _Product(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, matrix: RoundedMatrix, seen: Tensor | None) -> Tensor:
        q, s = round_activations(x.reshape(-1, x.shape[-1]))
        y = exact_product(q, s, matrix)
        ctx.matrix, ctx.shape = matrix, x.shape
        ctx.save_for_backward(q * s if weight is not None else None)
        if seen is not None:
            torch.mul(q, s, out=seen.view(-1, seen.shape[-1]))
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (rows,) = ctx.saved_tensors
        grad = grads[0].reshape(-1, grads[0].shape[-1])
        of_x = (grad @ ctx.matrix.dense.T).view(ctx.shape) if ctx.needs_input_grad[0] else None
        of_weight = grad.T @ rows if ctx.needs_input_grad[1] else None
        return of_x, of_weight, None, None


class _Later(Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, weight: Tensor, seen: Tensor, columns: slice) -> Tensor:  # noqa: ARG004
        ctx.seen, ctx.columns = seen, columns
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        grad = grads[0]
        of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = grad[..., ctx.columns].flatten(0, 1).T @ ctx.seen.flatten(0, 1)
        return grad, of_weight, None, None


class _StraightThrough(Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, rounded: Tensor) -> Tensor:  # noqa: ARG004
        return rounded

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        return grads[0], None
