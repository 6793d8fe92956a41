"""``len(tensor)`` in a module's own code, while it is captured: the size of the first axis, which stays dynamic.

Python makes a plain int of what ``len`` returns, so torch.export (2.13) would fix the axis at the traced size.
"""

import builtins
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

__all__ = ["dynamic_length"]

NAME = "len"


@contextmanager
def dynamic_length(module: nn.Module) -> Iterator[None]:
    """Let ``len`` keep the axis dynamic in the code of a module's classes until the context ends."""
    places = [names for names in _globals_of(module) if NAME not in names]
    for names in places:
        names[NAME] = _length
    try:
        yield
    finally:
        for names in places:
            del names[NAME]


def _length(value: Any) -> Any:
    return value.shape[0] if isinstance(value, Tensor) and value.ndim else builtins.len(value)


def _globals_of(module: nn.Module) -> list[dict[str, Any]]:
    """The global names of the code in the classes of a module and its submodules, torch's own aside."""
    classes = {cls for child in module.modules() for cls in type(child).__mro__}
    functions = [
        value
        for cls in classes
        if not cls.__module__.startswith(("torch.", "lstm_edge"))
        for value in vars(cls).values()
        if isinstance(value, types.FunctionType)
    ]
    return list({id(function.__globals__): function.__globals__ for function in functions}.values())
