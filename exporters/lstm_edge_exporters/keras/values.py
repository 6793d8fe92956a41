"""Tensors with their masks, and what a layer is called with: Keras's rules for how masks travel.

In Keras 3 a mask is an attribute of a tensor. A layer gets the masks of its arguments where its signature asks for
them, and hands a mask on where it supports masking. Letters: B batch, T time, F features.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lstm_edge_exporters.keras.options import Options
from lstm_edge_runtime.errors import CaptureError

__all__ = ["Arguments", "Shape", "UnknownSizeError", "Value", "any_feature", "bind", "differs", "leaves", "mapped"]

# The size of each axis, batch included; None where the size is dynamic.
Shape = tuple[int | None, ...]


class UnknownSizeError(CaptureError):
    """A layer does not fit tensors whose number of steps is dynamic; it may fit the number that the file fixes."""


@dataclass(kw_only=True, eq=False)
class Value:
    """A tensor with its mask.

    Attributes:
        tensor: float32, or int64 ids, or a bool mask as a tensor of the graph.
        mask: bool, the leading axes of ``tensor``; None where every step counts. Layers may take it off the tensor.
        state: the whole state [1, B, H] where the tensor is one as Keras has it, [B, H].
        derived: what was computed from the tensor for a mask: Keras writes the same computation down twice.
    """

    tensor: Tensor
    mask: Tensor | None = None
    state: Tensor | None = None
    derived: dict[Any, "Value"] = field(default_factory=dict)


def differs(value: Value, number: float) -> Value:
    """Return where a tensor is not the number."""
    key = ("differs", number)
    if key not in value.derived:
        value.derived[key] = Value(tensor=value.tensor != number)
    return value.derived[key]


def any_feature(value: Value) -> Value:
    """Return where any element along the last axis is true."""
    if "any" not in value.derived:
        value.derived["any"] = Value(tensor=value.tensor.any(dim=-1))
    return value.derived["any"]


def leaves(structure: Any) -> Iterator[Any]:
    """Yield what lies in lists, tuples and dicts, one after the other; of dicts by their sorted keys, as Keras does."""
    if isinstance(structure, Mapping):
        for key in sorted(structure):
            yield from leaves(structure[key])
    elif isinstance(structure, list | tuple):
        for child in structure:
            yield from leaves(child)
    else:
        yield structure


def mapped(function: Callable[[Any], Any], structure: Any) -> Any:
    """Return lists, tuples and dicts of the same form with ``function`` of each leaf."""
    if isinstance(structure, Mapping):
        return {key: mapped(function, child) for key, child in structure.items()}
    if isinstance(structure, list):
        return [mapped(function, child) for child in structure]
    if isinstance(structure, tuple):
        return tuple(mapped(function, child) for child in structure)
    return function(structure)


@dataclass(frozen=True, kw_only=True, eq=False)
class Arguments:
    """What a layer is called with.

    Attributes:
        named: the arguments by Keras's names, without None.
        mask: the argument ``mask`` as Keras fills it in: tensors in the form of the argument that has them.
        first: the first argument, whose masks are handed on.
    """

    named: Mapping[str, Any]
    mask: Any
    first: Any

    def one(self, options: Options) -> Value:
        """Return the one tensor that a layer takes.

        Raises:
            CaptureError: it is called on a list or on a number.
        """
        found = list(leaves(self.first))
        if len(found) != 1 or not isinstance(found[0], Value):
            raise options.refuse(f"it takes {len(found)} tensors, expected one")
        return found[0]

    def several(self, options: Options, least: int, most: int) -> list[Value]:
        """Return the list of tensors that a layer takes.

        Raises:
            CaptureError: there are fewer or more of them.
        """
        found = self.first if isinstance(self.first, list | tuple) else [self.first]
        if not least <= len(found) <= most or not all(isinstance(value, Value) for value in found):
            expected = str(least) if least == most else f"{least} to {most}"
            raise options.refuse(f"it takes a list of {len(found)} tensors, expected {expected}")
        return list(found)

    def flag(self, name: str, options: Options) -> bool:
        """Return an argument that is true or false, false where it is left out."""
        value = self.named.get(name, False)
        if not isinstance(value, bool):
            raise options.refuse(f"it is called with {name} other than true or false")
        return value

    @property
    def own_mask(self) -> Tensor | None:
        """The mask of a layer that takes one tensor."""
        found = [entry for entry in leaves(self.mask) if entry is not None]
        return found[0] if found else None

    @property
    def first_mask(self) -> Tensor | None:
        """The mask that a layer hands on by default: the given one, else that of the first tensor."""
        if self.mask is not None:
            return self.own_mask
        found = [value.mask for value in leaves(self.first) if isinstance(value, Value)]
        return found[0] if found else None


def bind(options: Options, signature: Sequence[str], args: Sequence[Any], keywords: Mapping[str, Any]) -> Arguments:
    """Bind a call's arguments to names, and fill its mask in as Keras does.

    Raises:
        CaptureError: an argument is none of the signature, is given twice, or asks for training.
    """
    if len(args) > len(signature):
        raise options.refuse(f"it is called with {len(args)} arguments, expected at most {len(signature)}")
    named = dict(zip(signature, args, strict=False))
    for key, value in keywords.items():
        if key == "training":
            continue
        if key in named or (key not in signature and value is not None):
            raise options.refuse(f"it is called with {key!r}, which is not exported")
        named[key] = value
    if keywords.get("training") not in (None, False) or named.get("training") not in (None, False):
        raise options.refuse("it is called with training=True: call it without, and save the model again")
    named = {key: value for key, value in named.items() if value is not None and key != "training"}
    if not named or signature[0] not in named:
        raise options.refuse("the file does not say which tensor it is called on")
    first = named[signature[0]]
    given = named.pop("mask", None)
    mask = None if given is None else mapped(_as_mask, given)
    if mask is None and "mask" in signature:
        tensors = [value for value in named.values() if _only_tensors(value)]
        # With further tensors, such as an initial state, Keras 3 fills no mask in.
        mask = mapped(lambda value: None if value is None else value.mask, tensors[0]) if len(tensors) == 1 else None
    return Arguments(named=named, mask=mask, first=first)


def _as_mask(value: Any) -> Tensor | None:
    if value is None:
        return None
    tensor = value.tensor if isinstance(value, Value) else value
    if not isinstance(tensor, Tensor):
        raise CaptureError(f"a mask is a {type(tensor).__name__}, expected a tensor")
    return tensor if tensor.dtype == torch.bool else tensor.to(torch.bool)


def _only_tensors(structure: Any) -> bool:
    found = list(leaves(structure))
    return bool(found) and all(value is None or isinstance(value, Value) for value in found)
