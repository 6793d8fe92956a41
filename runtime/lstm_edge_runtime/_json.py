"""Convert between JSON and frozen dataclasses; errors name the dotted path of the wrong value.

The types of the model card are supported: str, int, float, bool, ``Literal``, ``X | None``, ``str | int``,
``tuple[X, ...]``, ``Mapping[str, X]`` and nested dataclasses. A dataclass with a field ``extra`` keeps
unknown keys there, so that a file written by a later minor version survives a round trip.
"""

import dataclasses
import json
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from lstm_edge_runtime.errors import CardError

__all__ = ["decode", "encode", "shortened"]

T = TypeVar("T")


def encode(value: Any) -> Any:
    """Return a dataclass (or a value in one) as JSON values; unknown keys in ``extra`` are written back."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        extra = fields.pop("extra", {})
        return {name: encode(item) for name, item in fields.items()} | dict(extra)
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    return value


def decode(kind: type[T], value: Any, path: str, *, minor: int) -> T:
    """Build a ``kind`` from JSON values.

    Args:
        kind: a frozen dataclass. A field with ``since`` in its metadata has its default in older documents.
        value: the result of ``json.loads``.
        path: dotted path of ``value`` in the document, for messages.
        minor: the minor version that the document was written by.

    Raises:
        CardError: a key is missing or a value has the wrong type; the message names the dotted path.
    """
    result: T = _decode(kind, value, path, minor)
    return result


def _decode(kind: Any, value: Any, path: str, minor: int) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _decode_object(kind, value, path, minor)
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _decode_union(kind, value, path, minor)
    if origin is tuple:
        if not isinstance(value, list):
            raise _wrong(path, "a list", value)
        return tuple(_decode(get_args(kind)[0], item, f"{path}[{i}]", minor) for i, item in enumerate(value))
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise _wrong(path, "an object", value)
        return {
            _decode_scalar(str, key, f"{path}, a key,"): _decode(get_args(kind)[1], item, _below(path, key), minor)
            for key, item in value.items()
        }
    if origin is Literal:
        if not isinstance(value, str) or value not in get_args(kind):
            raise _wrong(path, "one of " + ", ".join(map(repr, get_args(kind))), value)
        return value
    return _decode_scalar(kind, value, path)


def _decode_object(kind: Any, value: Any, path: str, minor: int) -> Any:
    if not isinstance(value, Mapping):
        raise _wrong(path, "an object", value)
    hints = get_type_hints(kind)
    arguments: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if field.name == "extra":
            continue
        where = f"{path}.{field.name}"
        if field.name in value:
            arguments[field.name] = _decode(hints[field.name], value[field.name], where, minor)
        elif minor >= field.metadata.get("since", 0):
            # Required even if the dataclass has a default: writers write every key, so a missing key means damage.
            raise CardError(f"model card: {where} is missing")
    extra = {key: item for key, item in value.items() if key not in hints}
    for key, item in extra.items():
        _check_kept(key, item, _below(path, key))
    return kind(**arguments, **({"extra": extra} if "extra" in hints else {}))


def _decode_union(kind: Any, value: Any, path: str, minor: int) -> Any:
    options = get_args(kind)
    if value is None and type(None) in options:
        return None
    options = tuple(option for option in options if option is not type(None))
    if len(options) == 1:
        return _decode(options[0], value, path, minor)
    if isinstance(value, bool) or not isinstance(value, options):
        raise _wrong(path, " or ".join(option.__name__ for option in options), value)
    return _checked_text(value, path)


def _decode_scalar(kind: Any, value: Any, path: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError as error:
            raise _wrong(path, "a finite number", value) from error
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _wrong(path, f"a {kind.__name__}", value)
    if kind is float and not math.isfinite(value):
        raise _wrong(path, "a finite number", value)
    return _checked_text(value, path)


def _checked_text(value: Any, path: str) -> Any:
    """Refuse a text that cannot be written: JSON can escape half a surrogate pair, which has no UTF-8 encoding."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise _wrong(path, "text of whole characters", value) from error
    return value


def _check_kept(key: str, value: Any, path: str) -> None:
    """Refuse a value of a later version that could not be written again, because it is kept only for writing."""
    try:
        json.dumps({key: value}, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise _wrong(path, "JSON of finite numbers, whole characters and few levels", value) from error


def _below(path: str, key: str) -> str:
    return f"{path}[{shortened(key)}]"


def shortened(value: Any) -> str:
    """Return a value for a message, with at most 60 characters and without control characters."""
    try:
        shown = repr(value)
    except (RecursionError, ValueError):  # nested too deeply, or an integer of more than 4,300 digits
        shown = f"a {type(value).__name__}"
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _wrong(path: str, expected: str, got: Any) -> CardError:
    return CardError(f"model card: {path} must be {expected}, got {shortened(got)}")
