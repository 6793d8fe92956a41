"""What every command prints with: results on standard output, errors and progress as single lines on stderr."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from lstm_edge_runtime.cli.verbosity import current_verbosity
from lstm_edge_runtime.errors import LstmEdgeError, MissingExtraError
from lstm_edge_runtime.extras import missing_extra

__all__ = ["end_unforeseen", "end_with", "print_error", "print_json", "printable", "progress", "say", "shortened"]

# Characters that the tables of `inspect` leave for a layer's name at 80 columns, and how many of them start it.
_LONGEST_NAME = 23
_BEGINNING = 8
# What ends a command as one sentence; anything else is a defect.
FORESEEN = (LstmEdgeError, ModuleNotFoundError, OSError, KeyboardInterrupt)


def end_with(error: BaseException, missing: Callable[[ModuleNotFoundError], MissingExtraError] = missing_extra) -> int:
    """Print one of the ``FORESEEN`` errors as one sentence on stderr, and return the exit code.

    Args:
        error: what a command raised.
        missing: names the extra for a package that is not installed.
    """
    if isinstance(error, LstmEdgeError):
        print_error(str(error))
        return error.exit_code
    if isinstance(error, ModuleNotFoundError):
        print_error(str(missing(error)))
        return 2
    if isinstance(error, BrokenPipeError):
        # The reader of the output has closed the pipe (`| head`): this is not an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if isinstance(error, OSError):
        said = str(error.strerror or error)
        print_error(f"{said}: {error.filename}" if error.filename else said)
        return 2
    if isinstance(error, KeyboardInterrupt):
        print_error("interrupted")
        return 130
    raise error


def end_unforeseen(error: Exception) -> int:
    """Print an error that nobody foresaw as one sentence on stderr, and return the exit code.

    Args:
        error: what a command raised. Extension modules whose import Ctrl-C ends raise ImportError from it.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, KeyboardInterrupt):
        cause = cause.__cause__ or cause.__context__
    if cause is not None:
        return end_with(cause)
    if isinstance(error, MemoryError):
        print_error(f"there is not enough memory ({error})" if str(error) else "there is not enough memory")
        return 2
    print_error(
        f"unexpected {type(error).__name__}: {error}. This is a defect of lstm-edge; "
        "LSTM_EDGE_DEBUG=1 in the environment shows where"
    )
    return 2


def print_error(message: str) -> None:
    """Print an error on one line of stderr; messages of other libraries may have several lines."""
    # Where stderr cannot be written, the exit code still says that there was an error.
    with suppress(OSError):
        _print_aside(f"error: {printable(' '.join(message.split()))}")


def _print_aside(line: str) -> None:
    """Print a line on stderr; a closed stderr is None, and print() would take standard output in its place."""
    if sys.stderr is not None:
        print(line, file=sys.stderr, flush=True)


def progress(message: str) -> None:
    """Print one line of progress on stderr: standard output stays for results. ``--quiet`` prints none."""
    verbosity = current_verbosity()
    if not verbosity.quiet:
        _print_aside(f"· {verbosity.stamp()}{printable(message)}")


def say(text: str) -> None:
    """Print a line on standard output, and flush it: a consumer sees each line at once."""
    print(text, flush=True)


def print_json(value: Any) -> None:
    """Print one JSON object on standard output."""
    say(printable(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)))


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
