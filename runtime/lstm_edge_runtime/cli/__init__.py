"""The command ``lstm-edge``: inspect, check, run and bench on a device; with lstm-edge installed all its commands."""

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from lstm_edge_runtime.cli import usage
from lstm_edge_runtime.cli.arguments import flagged, named_with
from lstm_edge_runtime.cli.completion import BASH_SCRIPT, asked_words, completions
from lstm_edge_runtime.cli.definition import CommandDefinition
from lstm_edge_runtime.cli.help import HelpRow, HelpSection, format_help
from lstm_edge_runtime.cli.parsing import parse, summary_of
from lstm_edge_runtime.cli.printing import FORESEEN, end_unforeseen, end_with, print_error, say
from lstm_edge_runtime.cli.reporting import verbosity
from lstm_edge_runtime.errors import LstmEdgeError
from lstm_edge_runtime.extras import has_toolkit, toolkit_module

__all__ = ["COMMANDS", "EXIT_CODES", "TOOLKIT_COMMANDS", "definition_of", "device_main", "main"]

# Order in `lstm-edge --help`; a module of this package defines each.
COMMANDS = ("inspect", "check", "run", "bench")
# The commands of lstm-edge, and the extra that a command needs beside it.
TOOLKIT_COMMANDS = {
    "data": "",
    "train": "train",
    "select": "train",
    "export": "export",
    "adopt": "onnx",
    "zoo": "onnx",
    "quantize": "onnx",
    "validate": "cpu",
    "keygen": "sign",
    "sign": "sign",
    "bundle": "",
    "deploy": "deploy",
    "status": "deploy",
    "rollback": "deploy",
    "prune": "deploy",
}

# The end of `lstm-edge --help`, with both packages.
EXIT_CODES = """
Exit codes: 0 done; 1 a check or a budget failed, or a file is damaged; 2 wrong usage, input or environment; 130 after
Ctrl-C, 143 after SIGTERM (`run --stream`).

`lstm-edge COMMAND --help` describes a command.
"""


def main() -> None:
    """Run the command line; the exit code is one of ``EXIT_CODES``."""
    try:
        if has_toolkit():
            toolkit_module("lstm_edge.cli", "lstm-edge").main()
        sys.exit(device_main(sys.argv[1:]))
    except KeyboardInterrupt as error:  # while a module is imported; later the frames of the commands take it
        sys.exit(end_with(error))


def definition_of(name: str) -> CommandDefinition:
    """Return one of ``COMMANDS``."""
    definition: CommandDefinition = importlib.import_module(f"lstm_edge_runtime.cli.{name}").COMMAND
    return definition


def device_main(arguments: Sequence[str]) -> int:
    """Run one of ``COMMANDS`` with the parser of this package, and return the exit code.

    Raises:
        SystemExit: after a help or a sentence about wrong usage; with the exit code.
    """
    word = arguments[0] if arguments else ""
    text = _text_for(word)
    if text is not None:
        say(text)
        return 0 if word or asked_words() is not None else 2
    try:
        if word in TOOLKIT_COMMANDS:
            toolkit_module("lstm_edge.cli", f"lstm-edge {word}", TOOLKIT_COMMANDS[word]).main()
        if word not in COMMANDS:
            _refuse(word)
        definition = definition_of(word)
        _call(definition, parse(definition, arguments[1:]))
    except FORESEEN as error:
        if os.environ.get("LSTM_EDGE_DEBUG"):
            raise
        return end_with(error)
    except Exception as error:  # the outermost frame: an unforeseen error becomes one sentence too
        if os.environ.get("LSTM_EDGE_DEBUG"):
            raise
        return end_unforeseen(error)
    return 0


def _text_for(word: str) -> str | None:
    """Return what is printed without a command: the answer to a shell, the version, the help; otherwise None."""
    asked = asked_words()
    if asked is not None:
        return "\n".join(completions(asked, {name: definition_of(name) for name in COMMANDS}, [*TOOLKIT_COMMANDS]))
    if word in ("-V", "--version"):
        return _version()
    if word == "--show-completion":
        return BASH_SCRIPT
    return _help() if word in ("-h", "--help", "") else None


def _refuse(word: str) -> NoReturn:
    """End because a command or an option is unknown."""
    if word.startswith("-"):
        sentence = usage.no_option("lstm-edge", word, ("--version", "--help", "--show-completion"))
    else:
        sentence = usage.no_command("lstm-edge", word, (*COMMANDS, *TOOLKIT_COMMANDS))
    print_error(usage.with_help(sentence, "lstm-edge"))
    raise SystemExit(2)


def _call(definition: CommandDefinition, values: dict[str, Any]) -> None:
    """Run a command; an error about a file says as which option or argument it was given."""
    try:
        with verbosity(quiet=values.pop("quiet"), verbose=values.pop("verbose")):
            definition.call(values)
    except LstmEdgeError as error:
        flags = {option.name: max(option.flags, key=len) for option in definition.options if option.flags}
        error.args = (named_with(flagged(str(error), flags), list(_paths(definition, values))),)
        raise


def _paths(definition: CommandDefinition, values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name of each option and argument that was given a path, and the path."""
    for option in definition.options:
        value = values[option.name]
        if isinstance(value, Path) or (not option.flags and value):
            yield (max(option.flags, key=len) if option.flags else str(option.metavar)), str(value)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("lstm-edge-runtime")
    except PackageNotFoundError:
        return "uninstalled: a checkout on the path"


def _help() -> str:
    brought = "Commands of the package lstm-edge, which is not installed here"
    others = ", ".join(TOOLKIT_COMMANDS)
    options = (
        HelpRow(label="-V, --version", text="Print the version and exit."),
        HelpRow(label="--show-completion", text="Print what makes bash complete commands and options."),
        HelpRow(label="-h, --help", text="Show this help and exit."),
    )
    sections = (
        HelpSection(
            title="Commands", rows=[HelpRow(label=name, text=summary_of(definition_of(name))) for name in COMMANDS]
        ),
        HelpSection(title=brought, rows=[HelpRow(label="", text=others)]),
        HelpSection(title="Options", rows=options),
    )
    description = "Check, run, stream and measure a model file on this device."
    return format_help("lstm-edge COMMAND [OPTIONS]", description, sections, EXIT_CODES)
