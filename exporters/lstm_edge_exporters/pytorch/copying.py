"""Copies of everything that a module holds: tensors, containers, other objects' attributes, closures, class attributes.

An object keeps its identity and gets other contents for a while, because hooks, closures and bound methods refer to it.
``copy.deepcopy`` does neither that nor accept a tensor that autograd computed.
"""

import copy
import enum
import random
import sys
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Contents", "TensorCopy", "copy_tensor", "tensors_in"]

# Given a tensor, its path and the memo of ``copy.deepcopy``: the tensor that forward sees instead.
TensorCopy = Callable[[Tensor, str, dict[int, Any]], Tensor]
RANDOM = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
# Objects of these packages are their own business: a module may hold an optimizer, a trainer with all its data.
FOREIGN = {"torch", "numpy", "lightning", "pytorch_lightning", "onnx", "onnxruntime", *sys.stdlib_module_names}
KNOWN = ("torch.nn.", "torch.distributions.", "torch.utils.hooks")
REGISTRIES = ("_parameters", "_buffers", "_modules")


def copy_tensor(tensor: Tensor, _path: str, memo: dict[int, Any]) -> Tensor:
    """Copy a tensor; tensors that share memory share it afterwards, too."""
    if tensor.is_leaf:
        return copy.deepcopy(tensor, memo)
    # What autograd computed, such as a state of an earlier call, supports no deepcopy.
    return copy.deepcopy(tensor.detach(), memo).requires_grad_()


class Contents:
    """The contents of a module and of all that it refers to, which can be put in place and taken out again.

    Args:
        root: the module.
        copy_of: makes the copy of a tensor.
        replaced: modules that take the place of others, by the others' ``id``; neither is looked into.
    """

    def __init__(
        self, root: nn.Module, copy_of: TensorCopy = copy_tensor, replaced: Mapping[int, nn.Module] | None = None
    ) -> None:
        self._copy_of = copy_of
        self._memo: dict[int, Any] = dict(replaced or {})
        self._kept: list[Any] = []  # keeps alive whose id is in the memo
        self._waiting: list[tuple[Any, str]] = []
        self._put: list[Callable[[], None]] = []
        self._back: list[Callable[[], None]] = []
        self.tensors: list[tuple[Tensor, Tensor]] = []
        self._holder(root, "")
        while self._waiting:
            self._fill(*self._waiting.pop())

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Give each object its copied contents, and at the end its own back: the very objects that it had."""
        try:
            for step in self._put:
                step()
            yield
        finally:
            for step in self._back:
                step()

    def _copy(self, value: Any, path: str) -> Any:
        known = self._memo.get(id(value))
        if known is not None:
            return known
        if isinstance(value, Tensor):
            return self._tensor(value, path)
        if isinstance(value, dict | list | deque | tuple):
            return self._tuple(value, path) if isinstance(value, tuple) else self._container(value, path)
        if isinstance(value, weakref.ref | partial):
            return self._reference(value, path)
        if isinstance(value, (set, bytearray, np.ndarray, *RANDOM)):
            return self._note(value, _copy_flat(value))
        self._holder(value, path)
        return value

    def _note(self, value: Any, copied: Any) -> Any:
        self._memo[id(value)] = copied
        self._kept.append(value)
        return copied

    def _tensor(self, value: Tensor, path: str) -> Tensor:
        copied = self._copy_of(value, path.removeprefix("."), self._memo)
        self.tensors.append((value, copied))
        return cast(Tensor, self._note(value, copied))

    def _reference(self, value: Any, path: str) -> Any:
        """Copy what refers to others so that it refers to their copies."""
        if isinstance(value, weakref.ref):
            referent = value()
            found = self._copy(referent, path)
            return value if found is referent else weakref.ref(found)
        parts = [self._copy(part, path) for part in (value.func, value.args, value.keywords)]
        return self._note(value, type(value)(parts[0], *parts[1], **parts[2]))

    def _container(self, value: Any, path: str) -> Any:
        copied = self._note(value, copy.copy(value))
        if isinstance(value, dict):
            for key, item in value.items():
                dict.__setitem__(copied, key, self._copy(item, f"{path}.{key}"))
        else:
            for index, item in enumerate(value):
                copied[index] = self._copy(item, f"{path}.{index}")
        return copied

    def _tuple(self, value: tuple[Any, ...], path: str) -> tuple[Any, ...]:
        parts = [self._copy(item, f"{path}.{index}") for index, item in enumerate(value)]
        if all(new is old for new, old in zip(parts, value, strict=True)):
            return value
        return cast(tuple[Any, ...], self._note(value, tuple.__new__(type(value), parts)))

    def _holder(self, value: Any, path: str) -> None:
        """Note an object whose contents are to be copied, if it is such a one."""
        if isinstance(value, types.MethodType):
            self._holder(value.__func__, path)
            value = value.__self__
        if id(value) not in self._memo and _has_contents(value):
            self._note(value, value)
            self._waiting.append((value, path))

    def _fill(self, value: Any, path: str) -> None:
        if isinstance(value, type):
            self._attributes(value, path, [name for name, item in vars(value).items() if _is_data(name, item)])
            self._class_names(value)
            for item in vars(value).values():
                self._holder(getattr(item, "__func__", item), path) if callable(item) else None
            return
        if isinstance(value, types.CellType):
            self._cell(value, path)
            return
        if isinstance(value, types.FunctionType):
            for cell in value.__closure__ or ():
                self._holder(cell, path)
        else:
            for kind in type(value).__mro__:
                self._holder(kind, f"{path}.{kind.__name__}")
                self._attributes(value, path, [name for name in _slots(kind) if hasattr(value, name)])
        if hasattr(value, "__dict__"):
            self._dict(value, path)

    def _dict(self, value: Any, path: str) -> None:
        own = value.__dict__
        registries = REGISTRIES if isinstance(value, nn.Module) else ()
        try:
            object.__setattr__(value, "__dict__", own)
        except (AttributeError, TypeError):  # an object of an extension module, whose attributes are read-only
            return
        copied = {
            name: self._copy(item, path if name in registries else f"{path}.{name}") for name, item in own.items()
        }
        self._put.append(lambda: object.__setattr__(value, "__dict__", copied))
        self._back.append(lambda: object.__setattr__(value, "__dict__", own))

    def _attributes(self, value: Any, path: str, names: list[str]) -> None:
        set_one = type.__setattr__ if isinstance(value, type) else object.__setattr__
        for name in names:
            own = vars(value)[name] if isinstance(value, type) else getattr(value, name)
            copied = self._copy(own, f"{path}.{name}")
            if copied is not own:
                self._put.append(partial(set_one, value, name, copied))
            self._back.append(partial(set_one, value, name, own))

    def _class_names(self, kind: type) -> None:
        names = set(vars(kind))

        def back() -> None:
            for name in [name for name, item in vars(kind).items() if name not in names and _is_data(name, item)]:
                type.__delattr__(kind, name)

        self._back.append(back)

    def _cell(self, cell: types.CellType, path: str) -> None:
        try:
            own = cell.cell_contents
        except ValueError:  # a name that its function has not assigned yet
            return
        # A closure's data and modules; other objects that a function refers to belong to others.
        own_object = _has_contents(own) and not isinstance(own, nn.Module | types.FunctionType)
        copied = own if own_object else self._copy(own, path)

        def put(contents: Any) -> None:
            cell.cell_contents = contents

        if copied is not own:
            self._put.append(partial(put, copied))
        self._back.append(partial(put, own))


def tensors_in(root: nn.Module) -> dict[str, Tensor]:
    """Return each tensor that a module holds by its path, as ``encoder.h`` or ``state.0``, in whatever container."""
    found: dict[str, Tensor] = {}

    def note(tensor: Tensor, path: str, _memo: dict[int, Any]) -> Tensor:
        found[path] = tensor
        return tensor

    Contents(root, note)
    return found


def _has_contents(value: Any) -> bool:
    """Say whether an object can change: a module, the user's own object, class or function, or a closure's cell."""
    if isinstance(value, nn.Module | types.FunctionType | types.CellType | types.SimpleNamespace):
        return not isinstance(value, types.FunctionType) or not _is_foreign(value.__module__ or "")
    if isinstance(value, types.ModuleType | enum.Enum | types.BuiltinFunctionType):
        return False
    if isinstance(value, type):
        return value.__module__.partition(".")[0] not in FOREIGN and not issubclass(value, enum.Enum)
    kind = type(value)
    if _is_foreign(kind.__module__):
        return False
    return hasattr(value, "__dict__") or any(any(_slots(base)) for base in kind.__mro__)


def _is_foreign(name: str) -> bool:
    return name.partition(".")[0] in FOREIGN and not f"{name}.".startswith(KNOWN)


def _slots(kind: type) -> Iterator[str]:
    slots = vars(kind).get("__slots__", ())
    return (name for name in ((slots,) if isinstance(slots, str) else slots) if not name.startswith("__"))


def _is_data(name: str, item: Any) -> bool:
    return not (name.startswith("__") or callable(item) or hasattr(item, "__get__"))


def _copy_flat(value: Any) -> Any:
    if not isinstance(value, torch.Generator):
        return copy.deepcopy(value) if isinstance(value, RANDOM) else copy.copy(value)
    copied = torch.Generator(value.device)
    copied.set_state(value.get_state())
    return copied
