"""The outermost frame of every command: errors become one sentence and an exit code; progress goes to stderr."""

import os
from typing import Any

import typer
from typer.core import TyperGroup

from lstm_edge._imports import missing_extra
from lstm_edge.cli._help import help_of
from lstm_edge.cli._usage import UsageError, sentence_of
from lstm_edge_runtime.cli import EXIT_CODES
from lstm_edge_runtime.cli.printing import (
    FORESEEN,
    end_with,
    print_error,
    print_json,
    printable,
    progress,
    shortened,
)
from lstm_edge_runtime.cli.tables import print_table

__all__ = ["CommandGroup", "print_error", "print_json", "print_table", "printable", "progress", "shortened"]


class CommandGroup(TyperGroup):
    """The group of commands; turns an exception of a command into one sentence on stderr and an exit code."""

    order: tuple[str, ...] = ()

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the commands in the order that ``order`` gives; typer lists groups last."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: self.order.index(name) if name in self.order else len(self.order))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help in the form of the runtime's commands."""
        formatter.write(help_of(self, ctx, "" if ctx.parent else EXIT_CODES))

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Read the words of the command line; typer ends Ctrl-C meanwhile with 130 and says nothing."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except KeyboardInterrupt as error:
            raise typer.Exit(end_with(error)) from None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the command line; wrong usage is one sentence and exit code 2.

        Without a word the first group prints its help, and the others name their commands.
        """
        words = list(args)
        try:
            return super().parse_args(ctx, args)
        except UsageError as error:
            if ctx.parent is None and not words:
                typer.echo(ctx.get_help())
            else:
                print_error(sentence_of(error, ctx, words))
            raise typer.Exit(2) from None

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command that the words name; without one the sentence lists them."""
        try:
            return super().resolve_command(ctx, args)
        except UsageError as error:
            print_error(sentence_of(error, ctx, args))
            raise typer.Exit(2) from None

    def invoke(self, ctx: Any) -> Any:
        """Run the command; set LSTM_EDGE_DEBUG=1 to see the traceback instead."""
        if os.environ.get("LSTM_EDGE_DEBUG"):
            return super().invoke(ctx)
        try:
            return super().invoke(ctx)
        except FORESEEN as error:
            raise typer.Exit(end_with(error, missing_extra)) from None
