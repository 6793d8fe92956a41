"""Layers that merge several tensors, with Keras's rules for their masks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn

from lstm_edge_exporters.keras.hdf5 import shown
from lstm_edge_exporters.keras.options import Options
from lstm_edge_exporters.keras.shapes import Built, Source
from lstm_edge_exporters.keras.values import Arguments, Value

__all__ = ["ELEMENTWISE", "build_concatenate", "build_dot", "build_elementwise"]

# More than a merge of any model that is run on a device has.
MOST_TENSORS = 256
ELEMENTWISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "Subtract": torch.sub,
    "Multiply": torch.mul,
    "Average": torch.add,
    "Maximum": torch.maximum,
    "Minimum": torch.minimum,
}


@dataclass(frozen=True, kw_only=True)
class _Merge:
    """Element by element; the result is masked where all tensors are, if all have a mask."""

    kind: str

    def __call__(self, _module: nn.Module, given: Arguments) -> Value:
        """Call the layer."""
        values: list[Value] = list(given.first)
        handed = _either([value.mask for value in values])
        rank = max(value.tensor.ndim for value in values)
        # Where the ranks differ, Keras adds axes behind the batch, which drops the masks.
        tensors = [_with_rank(value.tensor, rank) for value in values]
        masks = [value.mask if value.tensor.ndim == rank else None for value in values]
        if self.kind in ("Maximum", "Minimum"):
            tensor, own = _masked_merge(ELEMENTWISE[self.kind], tensors, masks)
            return Value(tensor=tensor, mask=handed if own is None else own)
        if self.kind == "Multiply" and any(mask is not None for mask in masks):
            tensor, own = _masked_product(tensors, masks)
            return Value(tensor=tensor, mask=handed if own is None else own)
        tensor = reduce(ELEMENTWISE[self.kind], tensors)
        return Value(tensor=tensor / len(tensors) if self.kind == "Average" else tensor, mask=handed)


def _with_rank(x: Tensor, rank: int) -> Tensor:
    for _ in range(rank - x.ndim):
        x = x.unsqueeze(1)
    return x


def _either(masks: Sequence[Tensor | None]) -> Tensor | None:
    found = [mask for mask in masks if mask is not None]
    return reduce(torch.logical_or, found) if len(found) == len(masks) else None


def _masked_merge(
    function: Callable[[Tensor, Tensor], Tensor], tensors: Sequence[Tensor], masks: Sequence[Tensor | None]
) -> tuple[Tensor, Tensor | None]:
    """Merge as Keras does for the largest and the smallest: a masked element takes the other tensor's place."""
    output, own = tensors[0], _broad(masks[0], tensors[0])
    for x, raw in zip(tensors[1:], masks[1:], strict=True):
        mask = _broad(raw, x)
        y = x if mask is None else torch.where(mask, x, output)
        output = function(output if own is None else torch.where(own, output, y), y)
        own = None if mask is None or own is None else torch.logical_or(own, mask)
    return output, None if own is None else own.any(dim=-1)


def _masked_product(tensors: Sequence[Tensor], masks: Sequence[Tensor | None]) -> tuple[Tensor, Tensor | None]:
    """Multiply as Keras does: a masked element counts as 1, and as 0 in the end if it is masked in every tensor."""
    broad = [_broad(mask, x) for x, mask in zip(tensors, masks, strict=True)]
    product = reduce(
        torch.mul, [x if mask is None else torch.where(mask, x, 1.0) for x, mask in zip(tensors, broad, strict=True)]
    )
    own = _either(broad)
    return (product, None) if own is None else (torch.where(own, product, 0.0), own.any(dim=-1))


def _broad(mask: Tensor | None, x: Tensor) -> Tensor | None:
    return None if mask is None else mask.unsqueeze(-1).expand(x.shape)


def build_elementwise(options: Options, source: Source) -> Built:
    """Build Add, Subtract, Multiply, Average, Maximum or Minimum."""
    least, most = (2, 2) if options.kind == "Subtract" else (1, MOST_TENSORS)
    values = source.lanes[0].several(options, least, most)
    _check_floats(values, options)
    _check_version(values, source, options)
    options.finish()
    return Built(module=None, call=_Merge(kind=options.kind))


@dataclass(frozen=True, kw_only=True)
class _Concatenate:
    """Along one axis; a tensor without a mask counts as valid everywhere, if another one has a mask."""

    axis: int

    def __call__(self, _module: nn.Module, given: Arguments) -> Value:
        """Call the layer."""
        values: list[Value] = list(given.first)
        tensor = torch.cat([value.tensor for value in values], dim=self.axis)
        if all(value.mask is None for value in values):
            return Value(tensor=tensor)
        masks = [_whole_mask(value) for value in values]
        return Value(tensor=tensor, mask=torch.cat(masks, dim=self.axis).any(dim=-1))


def _whole_mask(value: Value) -> Tensor:
    """Return a mask of the tensor's own shape."""
    if value.mask is None:
        return torch.ones_like(value.tensor, dtype=torch.bool)
    if value.mask.ndim < value.tensor.ndim:
        return torch.logical_or(value.mask.unsqueeze(-1), torch.zeros_like(value.tensor, dtype=torch.bool))
    return value.mask


def build_concatenate(options: Options, source: Source) -> Built:
    """Build a Concatenate."""
    values = source.lanes[0].several(options, 1, MOST_TENSORS)
    _check_floats(values, options)
    _check_version(values, source, options)
    rank, axis = values[0].tensor.ndim, options.get("axis", -1)
    options.finish()
    if not _is_axis(axis, rank) or any(value.tensor.ndim != rank for value in values):
        ranks = ", ".join(str(value.tensor.ndim) for value in values)
        raise options.refuse(f"it joins tensors of {ranks} axes along axis {shown(axis)}, expected an axis of all")
    return Built(module=None, call=_Concatenate(axis=axis % rank))


def _check_floats(values: Sequence[Value], options: Options) -> None:
    if not all(value.tensor.is_floating_point() for value in values):
        raise options.refuse("it takes ids [batch, time], but only Embedding accepts ids")


def _check_version(values: Sequence[Value], source: Source, options: Options) -> None:
    if source.file.before_3 and any(value.mask is not None for value in values):
        raise options.refuse(
            "it merges tensors with a mask, of which Keras 2 makes another one than Keras 3: load the file with "
            "Keras 3, check its answers, and save it again"
        )


def _is_axis(axis: object, rank: int) -> bool:
    """Say whether a number is an axis of a tensor, and not that of the batch."""
    whole = isinstance(axis, int) and not isinstance(axis, bool)
    return whole and -rank < int(str(axis)) < rank and axis != 0


@dataclass(frozen=True, kw_only=True)
class _Dot:
    """Products summed over one axis of each tensor; the other axes stay, those of the first tensor first."""

    axes: tuple[int, int]
    normalize: bool

    def __call__(self, _module: nn.Module, given: Arguments) -> Value:
        """Call the layer."""
        x, y = (value.tensor for value in given.first)
        if self.normalize:
            x, y = _unit(x, self.axes[0]), _unit(y, self.axes[1])
        first, second = x.movedim(self.axes[0], -1), y.movedim(self.axes[1], 1)
        left, right = first.shape[1:-1], second.shape[2:]
        product = torch.matmul(
            first.reshape(first.shape[0], -1, first.shape[-1]) if first.ndim != 3 else first,
            second.reshape(second.shape[0], second.shape[1], -1) if second.ndim != 3 else second,
        )
        # Keras keeps one axis where both tensors are vectors.
        shape = (*left, *right) or (1,)
        return Value(tensor=product.reshape(x.shape[0], *shape))


def _unit(x: Tensor, axis: int) -> Tensor:
    """Scale to length one; Keras's smallest divisor is 1e-7."""
    return nn.functional.normalize(x, dim=axis, eps=1e-7)


def build_dot(options: Options, source: Source) -> Built:
    """Build a Dot; its mask ends."""
    values = source.lanes[0].several(options, 2, 2)
    _check_floats(values, options)
    value = options.get("axes")
    normalize = options.flag("normalize", False)
    options.finish()
    axes = [value, value] if isinstance(value, int) else value
    ranks = [entry.tensor.ndim for entry in values]
    good = isinstance(axes, list | tuple) and len(axes) == 2
    if not good or not all(_is_axis(axis, rank) for axis, rank in zip(axes, ranks, strict=True)):
        raise options.refuse(f"its axes are {shown(value)}, expected one axis of each tensor after the batch")
    return Built(module=None, call=_Dot(axes=(axes[0] % ranks[0], axes[1] % ranks[1]), normalize=normalize))
