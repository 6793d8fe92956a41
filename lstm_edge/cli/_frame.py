"""The outermost frame of every command: errors become one sentence and an exit code; progress goes to stderr."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from lstm_edge._imports import missing_extra
from lstm_edge_runtime.errors import LstmEdgeError

__all__ = ["CommandGroup", "print_error", "print_json", "print_table", "printable", "progress", "shortened"]

# Characters that the tables of `inspect` leave for a layer's name at 80 columns, and how many of them start it.
_LONGEST_NAME = 23
_BEGINNING = 8


class CommandGroup(TyperGroup):
    """The group of commands; turns an exception of a command into one sentence on stderr and an exit code."""

    order: tuple[str, ...] = ()

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the commands in the order that ``order`` gives; typer lists groups last."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: self.order.index(name) if name in self.order else len(self.order))

    def invoke(self, ctx: Any) -> Any:
        """Run the command; set LSTM_EDGE_DEBUG=1 to see the traceback instead."""
        if os.environ.get("LSTM_EDGE_DEBUG"):
            return super().invoke(ctx)
        try:
            return super().invoke(ctx)
        except LstmEdgeError as error:
            _fail(str(error), error.exit_code)
        except ModuleNotFoundError as error:
            _fail(str(missing_extra(error)), 2)
        except BrokenPipeError:
            # The reader of the output has closed the pipe (`| head`): this is not an error.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except OSError as error:
            _fail(f"{error.strerror or error}: {error.filename}" if error.filename else str(error), 2)
        except KeyboardInterrupt:
            _fail("interrupted", 130)


def _fail(message: str, code: int) -> None:
    print_error(message)
    raise typer.Exit(code) from None


def print_error(message: str) -> None:
    """Print an error on one line of stderr; messages of other libraries may have several lines."""
    typer.echo(f"error: {printable(' '.join(message.split()))}", err=True)


def progress(message: str) -> None:
    """Print one line of progress on stderr: standard output stays for results."""
    typer.echo(f"· {printable(message)}", err=True)


def printable(text: str) -> str:
    r"""Return text with each non-printable character escaped, such as ``\u001b``; line breaks stay.

    Names come from files that others made: a terminal would execute an escape sequence, and a right-to-left override
    would disguise the text. In JSON the escaped text has the same meaning.
    """
    if text.isprintable():
        return text
    units = ((c, c.encode("utf-16-be", "surrogatepass").hex()) for c in text)
    return "".join(
        c if c.isprintable() or c == "\n" else "".join(f"\\u{code[at : at + 4]}" for at in range(0, len(code), 4))
        for c, code in units
    )


def shortened(names: Sequence[str]) -> tuple[str, ...]:
    """Return layer names that fit a table of 80 columns: a long name keeps its beginning and its end.

    Names of layers in nested bodies have 50 characters and more. If two short names would be equal, all names stay
    whole. ``--json`` always prints whole names.
    """
    end = _LONGEST_NAME - _BEGINNING - 1
    short = [name if len(name) <= _LONGEST_NAME else f"{name[:_BEGINNING]}…{name[-end:]}" for name in names]
    return tuple(short if len(set(short)) == len(set(names)) else names)


def print_json(value: Any) -> None:
    """Print one JSON object on standard output."""
    typer.echo(printable(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "") -> None:
    """Print a table that fits the terminal; columns after the first are right-aligned."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(printable, row))
    Console(highlight=False, markup=False).print(table)
