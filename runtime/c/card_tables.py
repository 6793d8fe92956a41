"""The dataclasses of the model card as tables in C++, so that both readers have one schema."""

import dataclasses
import json
import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from lstm_edge_runtime.card import SCHEMA, ModelCard

__all__ = ["card_schema_source"]

_SCALARS = {str: "kText", int: "kWhole", float: "kNumber", bool: "kFlag"}


def card_schema_source(head: str) -> str:
    """Return the tables of the card and of all dataclasses in it, as C++; ``head`` is the file's first line."""
    records = list(_records(ModelCard))
    return (
        f"{head}"
        '#include "card_schema.h"\n\n'
        "namespace lstm_edge::device::card_schema {\nnamespace {\n\n"
        "// clang-format off\n"
        + "".join(_Table(kind).source() for kind in records)
        + "// clang-format on\n\n}  // namespace\n\n"
        f"const char kSchema[] = {_quoted(SCHEMA)};\n"
        "const Record kModelCard = kModelCardRecord;\n\n"
        "}  // namespace lstm_edge::device::card_schema\n"
    )


def _records(kind: Any) -> Iterator[Any]:
    """Yield a dataclass after those that it holds, each once."""
    found: dict[Any, None] = {}

    def visit(hint: Any) -> None:
        if dataclasses.is_dataclass(hint) and hint not in found:
            for name, inner in get_type_hints(hint).items():
                if name != "extra":
                    visit(inner)
            found[hint] = None
        for inner in get_args(hint) if get_origin(hint) is not Literal else ():
            visit(inner)

    visit(kind)
    yield from found


class _Table:
    """Writes one dataclass: the kinds and literals that its fields point to, its fields, its record."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._before: list[str] = []

    def source(self) -> str:
        name = self._kind.__name__
        hints = get_type_hints(self._kind)
        if "extra" not in hints:
            raise TypeError(f"{name} has no field for unknown keys")
        rows = [self._field(field, hints[field.name]) for field in dataclasses.fields(self._kind)]
        fields = "".join(f"    {row},\n" for row in rows if row)
        return (
            "".join(f"{line}\n" for line in self._before)
            + f"constexpr Field k{name}Fields[] = {{\n{fields}}};\n"
            + f'constexpr Record k{name}Record = {{"{name}", k{name}Fields, {sum(map(bool, rows))}}};\n\n'
        )

    def _field(self, field: "dataclasses.Field[Any]", hint: Any) -> str:
        if field.name == "extra":
            return ""
        since = field.metadata.get("since", 0)
        fallback = _quoted(json.dumps(_default(field))) if since else "nullptr"
        return f"{{{_quoted(field.name)}, {self._kind_of(hint, field.name)}, {since}, {fallback}}}"

    def _kind_of(self, hint: Any, where: str) -> str:
        origin, arguments = get_origin(hint), get_args(hint)
        if origin in (Union, types.UnionType):
            options = tuple(option for option in arguments if option is not type(None))
            if set(options) == {str, int} and len(options) == len(arguments):
                return _kind("kAxis")
            if len(options) != 1:
                raise TypeError(f"{where}: {hint} has no kind in C++")
            return self._kind_of(options[0], where).replace(", false,", ", true,", 1)
        if origin is Literal:
            texts = ", ".join(map(_quoted, arguments))
            return _kind(
                "kLiteral", literals=self._named("const char* const", f"{where}Literals[]", texts + ", nullptr")
            )
        if origin is tuple or origin is Mapping:
            inner = self._kind_of(arguments[0 if origin is tuple else 1], where)
            item = self._named("Kind", f"{where}Item{'' if origin is tuple else 's'}", inner[1:-1])
            return _kind("kList" if origin is tuple else "kMap", item=f"&{item}")
        if dataclasses.is_dataclass(hint):
            return _kind("kRecord", record=f"&k{hint.__name__}Record")  # type: ignore[union-attr]
        return _kind(_SCALARS[hint])

    def _named(self, kind: str, name: str, value: str) -> str:
        full = f"k{self._kind.__name__}_{name}"
        self._before.append(f"constexpr {kind} {full} = {{{value}}};")
        return full.removesuffix("[]")


def _kind(kind: str, *, literals: str = "nullptr", item: str = "nullptr", record: str = "nullptr") -> str:
    return f"{{Type::{kind}, false, {literals}, {item}, {record}}}"


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is dataclasses.MISSING:
        raise TypeError(f"{field.name} was added later and has no value for older cards")
    return field.default_factory()


def _quoted(text: str) -> str:
    return json.dumps(text)
