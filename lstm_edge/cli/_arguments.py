"""Sentences about a file name the option or argument that it was given as."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from lstm_edge_runtime.cli.arguments import named_with
from lstm_edge_runtime.errors import LstmEdgeError

__all__ = ["Command", "with_argument"]

# Parameters of texts that are paths, or may be.
_PATHS = frozenset({"data", "file", "held_out_data", "input", "model", "source", "targets"})


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
    return named_with(message, list(_paths(ctx)))


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
