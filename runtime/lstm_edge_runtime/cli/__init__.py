"""The command ``lstm-edge``: inspect, check, run and bench on a device; with lstm-edge installed all its commands."""

import importlib
import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lstm_edge_runtime.cli.arguments import named_with
from lstm_edge_runtime.cli.definition import CommandDefinition
from lstm_edge_runtime.cli.parsing import parse, summary_of
from lstm_edge_runtime.cli.printing import FORESEEN, end_with, print_error, print_unexpected, say
from lstm_edge_runtime.errors import LstmEdgeError
from lstm_edge_runtime.extras import has_toolkit, toolkit_module

__all__ = ["COMMANDS", "TOOLKIT_COMMANDS", "definition_of", "device_main", "main"]

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


def main() -> None:
    """Run the command line; the exit code is 0, 1 (a check or budget failed) or 2 (usage or environment)."""
    if has_toolkit():
        toolkit_module("lstm_edge.cli", "lstm-edge").main()
    sys.exit(device_main(sys.argv[1:]))


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
    if word == "--version":
        say(_version())
        return 0
    if word in ("-h", "--help", ""):
        say(_help())
        return 0 if word else 2
    try:
        if word in TOOLKIT_COMMANDS:
            toolkit_module("lstm_edge.cli", f"lstm-edge {word}", TOOLKIT_COMMANDS[word]).main()
        if word not in COMMANDS:
            known = ", ".join((*COMMANDS, *TOOLKIT_COMMANDS))
            print_error(f"lstm-edge has no command {word!r}, expected one of {known}; lstm-edge --help describes them")
            return 2
        definition = definition_of(word)
        _call(definition, parse(definition, arguments[1:]))
    except FORESEEN as error:
        if os.environ.get("LSTM_EDGE_DEBUG"):
            raise
        return end_with(error)
    except Exception as error:  # the outermost frame: an unforeseen error becomes one sentence too
        if os.environ.get("LSTM_EDGE_DEBUG"):
            raise
        print_unexpected(error)
        return 2
    return 0


def _call(definition: CommandDefinition, values: dict[str, Any]) -> None:
    """Run a command; an error about a file says as which option or argument it was given."""
    try:
        definition.call(values)
    except LstmEdgeError as error:
        error.args = (named_with(str(error), list(_paths(definition, values))),)
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
    summaries = [(f"  {name:10}", summary_of(definition_of(name))) for name in COMMANDS]
    commands = [textwrap.fill(text, 80, initial_indent=name, subsequent_indent=" " * 12) for name, text in summaries]
    return "\n".join(
        (
            "usage: lstm-edge COMMAND [OPTIONS]",
            "",
            "Check, run, stream and measure a model file on this device.",
            "",
            *commands,
            "",
            "lstm-edge COMMAND --help describes a command, lstm-edge --version prints the",
            "version. The package lstm-edge brings these, and is not installed here:",
            f"  {', '.join(list(TOOLKIT_COMMANDS)[:7])},",
            f"  {', '.join(list(TOOLKIT_COMMANDS)[7:])}",
        )
    )
