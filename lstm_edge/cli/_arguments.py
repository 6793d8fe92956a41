"""What every command has: its help, sentences about wrong usage and about files, ``--quiet`` and ``--verbose``."""

import functools
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand

from lstm_edge.cli._help import help_of
from lstm_edge.cli._option_form import typer_option
from lstm_edge.cli._usage import UsageError, sentence_of
from lstm_edge_runtime.cli.arguments import flagged, named_with
from lstm_edge_runtime.cli.options import VERBOSITY
from lstm_edge_runtime.cli.printing import print_error
from lstm_edge_runtime.cli.reporting import verbosity
from lstm_edge_runtime.errors import LstmEdgeError

__all__ = ["Command", "add_command", "with_argument"]

# Parameters of texts that are paths, or may be.
_PATHS = frozenset({"data", "file", "held_out_data", "input", "model", "source", "targets"})


class Command(TyperCommand):
    """A command whose errors about a file say as which option or argument it was given."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help in the form of the runtime's commands."""
        formatter.write(help_of(self, ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the command line; wrong usage is one sentence and exit code 2."""
        words = list(args)
        try:
            return super().parse_args(ctx, args)
        except UsageError as error:
            print_error(sentence_of(error, ctx, words))
            raise typer.Exit(2) from None

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except LstmEdgeError as error:
            named = with_argument(str(error), ctx)
            if named != str(error):
                error.args = (named,)
            raise


def add_command(app: typer.Typer, name: str, function: Callable[..., None], **settings: Any) -> None:
    """Add a command to a group.

    Args:
        app: the group.
        name: the command's word.
        function: typer makes its options from the parameters; ``--quiet`` and ``--verbose`` are added.
        settings: of ``typer.Typer.command``, such as ``help`` and ``epilog``.
    """
    app.command(name, cls=Command, **settings)(_with_verbosity(function))


def _with_verbosity(function: Callable[..., None]) -> Callable[..., None]:
    """Return a command that also takes ``--quiet`` and ``--verbose``, and prints less or more."""
    signature, hints = inspect.signature(function), get_type_hints(function, include_extras=True)
    added = {option.name: Annotated[bool, typer_option(option)] for option in VERBOSITY}

    @functools.wraps(function)
    def run(*, quiet: bool, verbose: bool, **values: Any) -> None:
        with verbosity(quiet=quiet, verbose=verbose):
            function(**values)

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        *signature.parameters.values(),
        *(inspect.Parameter(name, keyword, default=False, annotation=kind) for name, kind in added.items()),
    ]
    run.__dict__["__signature__"] = signature.replace(parameters=parameters)
    run.__annotations__ = hints | added
    return run


def with_argument(message: str, ctx: Any) -> str:
    """Return a message with the option or argument that it is about, where it names none.

    Args:
        message: of an error.
        ctx: the command's context, of click's kind: what was given.
    """
    options = [p for p in ctx.command.params if p.param_type_name == "option"]
    return named_with(flagged(message, {p.name: max(p.opts, key=len) for p in options}), list(_paths(ctx)))


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
