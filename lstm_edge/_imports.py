"""Importing an object of the user's that was named as ``package.module:name``."""

import importlib
import os
import sys
from typing import Any

from lstm_edge_runtime.errors import LstmEdgeError

__all__ = ["first_line", "import_object"]


def import_object(source: str, error_class: type[LstmEdgeError], *, what: str, expected: str) -> Any:
    """Import ``package.module:name``, also where the module lies in the current folder and is not installed.

    Args:
        source: the name.
        error_class: what to raise.
        what: how the sentence names it, as ``metric a.b:c``.
        expected: what should have been given.

    Raises:
        LstmEdgeError: ``error_class``, whatever the user's code raised; the sentence has its first line.
    """
    path, _, name = source.partition(":")
    # As `python -m` does: a module beside the user, not installed, can be named.
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(path), name)
    except (Exception, SystemExit) as error:  # the user's own code runs on import: whatever it raises is the answer
        raise error_class(
            f"{what}: cannot be imported ({type(error).__name__}: {first_line(error)}); expected {expected}"
        ) from error


def first_line(error: BaseException) -> str:
    """Return the beginning of what an error says."""
    return (str(error).splitlines() or [""])[0][:200]
