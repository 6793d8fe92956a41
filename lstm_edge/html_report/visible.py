"""Escaping of text that other people chose."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

__all__ = ["visible"]

T = TypeVar("T")


def visible(value: T) -> T:
    r"""Return a copy with each non-printable character escaped, such as ``\u001b``.

    Layer names and paths come from files that others made: a right-to-left override disguises the text, HTML cannot
    represent a control character, and UTF-8 cannot encode half of a surrogate pair.

    Args:
        value: a text, or frozen dataclasses, tuples and mappings that hold texts at any depth.
    """
    shown: Any = value
    if isinstance(value, str):
        shown = "".join(c if c.isprintable() else _escaped(c) for c in value)
    elif isinstance(value, Mapping):
        shown = {visible(key): visible(item) for key, item in value.items()}
    elif isinstance(value, tuple):
        shown = tuple(visible(item) for item in value)
    elif dataclasses.is_dataclass(value):
        shown = dataclasses.replace(shown, **{name: visible(item) for name, item in vars(value).items()})
    return shown  # type: ignore[no-any-return]  # each branch keeps the argument's type


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
