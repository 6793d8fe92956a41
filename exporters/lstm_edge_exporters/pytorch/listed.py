"""Lengths that forward takes out of a tensor, as ``lengths.tolist()`` does, find back to the tensor while it is traced.

A traced tensor has no numbers. It hands out marks instead, each of which says whose element it is and which one. A list
of all of them in order is the tensor again, for ``pack_padded_sequence`` and for ``torch.tensor``.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from lstm_edge_runtime.errors import CaptureError

__all__ = ["Listed", "Mark", "check_marks"]

# Far above sizes of tensors and far below what int64 holds; each tensor has a thousand.
FIRST_MARK = 2**40 + 12_345_000
PER_TENSOR = 1000
# What a graph rounds to float32 is that far off, and tensors are not that many.
MOST_APART = 2**20
NUMBERS = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.FLOAT, ir.DataType.DOUBLE)
CHANGED = (
    "forward changes the numbers of the lengths in Python before it packs by them, which has no form in a graph: "
    "compute with the tensor of lengths (lengths.sort(), lengths // 2) and call tolist() last"
)


def check_marks(model: ir.Model) -> None:
    """Refuse a graph that computes with a mark as if it were a number.

    Raises:
        CaptureError: it does.
    """
    constants = [value.const_value for value in model.graph.initializers.values()]
    for node in model.graph.all_nodes():
        value = node.attributes.get("value")
        constants.append(value.as_tensor() if node.op_type == "Constant" and value is not None else None)
    for tensor in constants:
        if tensor is not None and tensor.size <= PER_TENSOR and tensor.dtype in NUMBERS:
            numbers = np.asarray(tensor.numpy(), np.float64)
            if np.any(np.abs(np.abs(numbers) - FIRST_MARK) < MOST_APART):
                raise CaptureError(
                    "forward computes with a number that it took out of a tensor of lengths, which has no form in a "
                    "graph: compute with the tensor itself (lengths.max() instead of max(lengths.tolist()))"
                )


class Mark(int):
    """An element of a traced tensor of integers, as a number."""

    def item(self) -> "Mark":
        """Return itself, as an element of a tensor returns its number."""
        return self


class Listed:
    """The tensors whose numbers were asked for while a graph is traced."""

    def __init__(self) -> None:
        self._tensors: list[Tensor] = []

    @property
    def used(self) -> bool:
        """Whether numbers of some tensor were asked for."""
        return bool(self._tensors)

    def numbers(self, tensor: Tensor) -> list[Mark]:
        """Return a mark for each element of a tensor int64 [batch]."""
        size: Any = tensor.shape[0]
        count = int(size.node.hint) if isinstance(size, torch.SymInt) else size
        start = FIRST_MARK + PER_TENSOR * len(self._tensors)
        self._tensors.append(tensor)
        return [Mark(start + index) for index in range(count)]

    def tensor_of(self, lengths: Any) -> Tensor | None:
        """Return the tensor that a list, a tuple or an array of numbers was taken from; None where there are no marks.

        Raises:
            CaptureError: some numbers, or their order, are others.
        """
        if isinstance(lengths, Tensor):
            return None
        numbers = [int(number) for number in lengths if not isinstance(number, torch.SymInt)]
        marked = [number for number in numbers if number >= FIRST_MARK // 4]
        if not marked:
            return None
        place, offset = divmod(numbers[0] - FIRST_MARK, PER_TENSOR)
        if offset == 0 and 0 <= place < len(self._tensors):
            tensor = self._tensors[place]
            if numbers == list(range(numbers[0], numbers[0] + self._count(tensor))):
                return tensor
        raise CaptureError(CHANGED)

    @contextlib.contextmanager
    def replaced(self) -> Iterator[None]:
        """Let traced tensors of integers hand out marks, until the context ends."""
        with contextlib.ExitStack() as stack:
            for kind in (Tensor, FakeTensor):
                stack.enter_context(_attribute(kind, "tolist", self._taking(kind.tolist, list)))
            stack.enter_context(_attribute(Tensor, "numpy", self._taking(Tensor.numpy, np.array)))
            stack.enter_context(_attribute(Tensor, "__array__", self._taking(Tensor.__array__, np.array)))
            stack.enter_context(_attribute(Tensor, "__iter__", self._taking(Tensor.__iter__, iter)))
            stack.enter_context(_attribute(Tensor, "data", _data(Tensor.data)))
            for name in ("tensor", "as_tensor", "LongTensor", "IntTensor"):
                stack.enter_context(_attribute(torch, name, self._making(getattr(torch, name))))
            yield

    def _taking(self, original: Any, form: Any) -> Any:
        def method(tensor: Tensor, *arguments: Any, **options: Any) -> Any:
            if _is_traced(tensor):
                return form(self.numbers(tensor))
            return original(tensor, *arguments, **options)

        return method

    def _making(self, original: Any) -> Any:
        def make(data: Any = (), *arguments: Any, **options: Any) -> Any:
            if isinstance(data, list | tuple | np.ndarray) and np.ndim(_plain(data)) == 1 and len(data):
                found = self.tensor_of(data) if all(isinstance(n, int | np.integer) for n in data) else None
                if found is not None:
                    return found.to(options.get("dtype") or torch.int64)
            return original(data, *arguments, **options)

        return make

    def _count(self, tensor: Tensor) -> int:
        size: Any = tensor.shape[0]
        return int(size.node.hint) if isinstance(size, torch.SymInt) else size


def _is_traced(tensor: Any) -> bool:
    return isinstance(tensor, FakeTensor) and tensor.ndim == 1 and tensor.dtype in (torch.int64, torch.int32)


def _data(original: Any) -> property:
    """``tensor.data``, which torch.export loses sight of: of lengths, it is ``tensor.detach()``."""

    def get(tensor: Tensor) -> Any:
        return tensor.detach() if _is_traced(tensor) else original.__get__(tensor)

    return property(get, original.__set__)


def _plain(data: Any) -> Any:
    """Return a list whose first element says how deep it is, without a look at traced elements."""
    return data if isinstance(data, np.ndarray) else [0 if isinstance(item, int) else item for item in data[:1]]


@contextlib.contextmanager
def _attribute(owner: Any, name: str, value: Any) -> Iterator[None]:
    own = name in vars(owner)
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)
