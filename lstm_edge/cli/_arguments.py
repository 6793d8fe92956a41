"""Sentences about a file name the option or argument that it was given as."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from lstm_edge_runtime.errors import LstmEdgeError

__all__ = ["Command", "with_argument"]

# Parameters of texts that are paths, or may be.
_PATHS = frozenset({"data", "file", "held_out_data", "input", "model", "source", "targets"})
# A character that a path may go on with.
_PART_OF_A_PATH = r"[\w./~-]"


class Command(TyperCommand):
    """A command whose errors about a file say as which option or argument it was given."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except LstmEdgeError as error:
            named = with_argument(str(error), ctx)
            if named != str(error):
                error.args = (named,)
            raise


def with_argument(message: str, ctx: Any) -> str:
    """Return a message with the option or argument whose file it is about, where it names none.

    Args:
        message: of an error.
        ctx: the command's context, of click's kind: what was given.
    """
    found = list(_paths(ctx))
    # A command that takes one file needs no name for it.
    if len(found) < 2:
        return message
    places = [(_place(message, path), -len(path), name) for name, path in found]
    first = min((place for place in places if place[0] >= 0), default=None)
    if first is None:
        return message
    same = [name for place, length, name in places if (place, length) == first[:2]]
    return f"{message} ({same[0]})" if len(same) == 1 and same[0] not in message else message


def _paths(ctx: Any) -> Iterator[tuple[str, str]]:
    """Yield the name of each option and argument that was given a path, and the path."""
    for parameter in ctx.command.params:
        value = ctx.params.get(parameter.name or "")
        if isinstance(value, str) and (parameter.name not in _PATHS or _is_factory(parameter.name, value)):
            continue
        if isinstance(value, Path) or (isinstance(value, str) and value):
            long = max(parameter.opts, key=len)
            yield parameter.metavar or long if parameter.param_type_name == "argument" else long, str(value)


def _is_factory(name: str | None, value: str) -> bool:
    """Return whether a model is given as MODULE:NAME, which is not a file."""
    return name == "source" and ":" in value


def _place(message: str, path: str) -> int:
    """Return where a message has a path that is not part of another one; -1 where it has none."""
    # A dot that ends a sentence does not belong to the path before it.
    found = re.search(rf"(?<!{_PART_OF_A_PATH}){re.escape(path)}(?!{_PART_OF_A_PATH}*\w)", message)
    return -1 if found is None else found.start()
