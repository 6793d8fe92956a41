"""Calls of the user's module that leave nothing behind: neither in the module nor in the random generators.

forward may keep its state in an attribute, write into buffers, count its calls, draw random numbers. Every call starts
from what the module held when the export began, so no call sees what an earlier one left.
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from lstm_edge_exporters.pytorch.copying import Contents, tensors_in

__all__ = ["Changes", "Watch", "generators_kept", "on_copies", "unchanged"]

# What a call changed: by path, the tensor before (None: there was none) and after (None: it is gone).
Changes = Mapping[str, tuple[Tensor | None, Tensor | None]]


@contextmanager
def on_copies(module: nn.Module, replaced: Mapping[int, nn.Module] | None = None) -> Iterator[None]:
    """Let a module work on copies of all that it holds until the context ends, however it ends.

    The module and its submodules stay the same objects. Inside the context they may be changed at will: a tensor that
    forward returned shares memory with the copies only.

    Args:
        module: the module.
        replaced: modules that take the place of others, by the others' ``id``; they are not copied.
    """
    with generators_kept(), Contents(module, replaced=replaced).in_place():
        yield


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """Let nothing that happens within the context change a module, its tensors' values or the random generators.

    The module works on copies. What reaches its own tensors by another way, such as a global name, is undone as well.
    """
    kept = Contents(module)
    try:
        with on_copies(module):
            yield
    finally:
        for own, copied in kept.tensors:
            if not same_bits(own, copied):
                _write(own, copied)


def _write(tensor: Tensor, values: Tensor) -> None:
    if tensor.shape == values.shape and tensor.dtype == values.dtype:
        tensor.data.copy_(values.data)
    else:
        tensor.data = values.data


class Watch:
    """Finds what changes in a module's tensors; made within ``on_copies``, before forward.

    Args:
        module: the module.
        before: its own tensors by path (``tensors_in``), from outside of that context.
    """

    def __init__(self, module: nn.Module, before: Mapping[str, Tensor]) -> None:
        self._module, self._before = module, before
        self._marks = {path: (tensor, _version(tensor)) for path, tensor in tensors_in(module).items()}

    def changes(self) -> Changes:
        """Return which tensors are others than at the start, or were written into, be it with equal values."""
        after = tensors_in(self._module)
        return {
            path: (self._before.get(path), after.get(path))
            for path in {**self._before, **after}
            if not self._is_kept(path, after.get(path))
        }

    def _is_kept(self, path: str, now: Tensor | None) -> bool:
        tensor, version = self._marks.get(path, (None, 0))
        # The values too: what is written through another tensor of the same memory leaves the version as it is.
        return now is not None and now is tensor and _version(now) == version and same_bits(now, self._before[path])


def _version(tensor: Tensor) -> int:
    """Return how often a tensor was written into; 0 where torch does not count, in inference mode."""
    return 0 if tensor.is_inference() else tensor._version


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Say whether two tensors have one shape, one dtype and the same values; NaN equals NaN."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.equal(a, b) or (a.is_floating_point() and torch.allclose(a, b, rtol=0.0, atol=0.0, equal_nan=True))


@contextmanager
def generators_kept() -> Iterator[None]:
    """Put the random generators, the default dtype and gradients' mode back when the context ends."""
    own, numpys, pythons = torch.get_rng_state(), np.random.get_state(), random.getstate()
    dtype, gradients = torch.get_default_dtype(), torch.is_grad_enabled()
    try:
        yield
    finally:
        torch.set_rng_state(own)
        np.random.set_state(numpys)
        random.setstate(pythons)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(gradients)
