"""Old names of keyword arguments: they still work, with a DeprecationWarning."""

import functools
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from lstm_edge_runtime.errors import InputError

__all__ = ["accept_old_names"]

P = ParamSpec("P")
R = TypeVar("R")


def accept_old_names(**old: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that accepts old keyword names; ``old`` maps each old name to the current one."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*arguments: P.args, **keywords: P.kwargs) -> R:
            given: dict[str, Any] = keywords
            for name in old.keys() & given.keys():
                if old[name] in given:
                    raise InputError(f"{name} is the old name of {old[name]}: give only {old[name]}")
                warnings.warn(f"{name} is the old name of {old[name]}", DeprecationWarning, stacklevel=2)
                given[old[name]] = given.pop(name)
            return function(*arguments, **keywords)

        return call

    return decorate
