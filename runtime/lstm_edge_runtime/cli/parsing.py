"""A command's definition as a parser of argparse, with help of at most 80 columns."""

import argparse
import inspect
import shutil
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from lstm_edge_runtime.cli.definition import CommandDefinition, OptionDefinition
from lstm_edge_runtime.cli.printing import print_error

__all__ = ["parse", "summary_of"]

_METAVARS = {str: "TEXT", int: "INTEGER", float: "NUMBER", Path: "PATH"}


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        print_error(f"{message}; {self.prog} --help describes the command")
        raise SystemExit(2)


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=min(80, shutil.get_terminal_size().columns))


def parse(command: CommandDefinition, arguments: Sequence[str]) -> dict[str, Any]:
    """Return a value for each option of a command, and for each old name.

    Raises:
        SystemExit: with 2 after a sentence about what is wrong, with 0 after the help.
    """
    parser = _Parser(
        prog=f"lstm-edge {command.name}",
        usage=f"lstm-edge {command.name} [OPTIONS] {' '.join(map(_usage, _arguments(command)))}",
        description=_wrapped(inspect.getdoc(command.run) or ""),
        formatter_class=_Help,
        allow_abbrev=False,
    )
    groups: dict[str | None, Any] = {None: parser}
    for option in command.options:
        if option.panel not in groups:
            groups[option.panel] = parser.add_argument_group(option.panel)
        _add(groups[option.panel], option)
    # Arguments may come after options that are between them, which parse_args does not allow in every Python.
    return vars(parser.parse_intermixed_args(list(arguments)))


def summary_of(command: CommandDefinition) -> str:
    """Return the first sentence of a command's help."""
    return (inspect.getdoc(command.run) or "").partition("\n")[0]


def _arguments(command: CommandDefinition) -> list[OptionDefinition]:
    return [option for option in command.options if not option.flags]


def _usage(argument: OptionDefinition) -> str:
    return str(argument.metavar) if argument.required else f"[{argument.metavar}]"


def _add(group: Any, option: OptionDefinition) -> None:
    """Add an option to a parser or a group of one."""
    text = option.help.replace("%", "%%")
    if option.default not in (None, False):
        text += f" [default: {option.default}]"
    if not option.flags:
        group.add_argument(option.name, metavar=option.metavar, nargs=None if option.required else "?", help=text)
        return
    given: dict[str, Any] = {"dest": option.name, "default": option.default}
    if option.kind is bool:
        group.add_argument(*option.flags, **given, action="store_true", help=text)
        return
    given |= {"type": _reader(option), "action": "append" if option.repeatable else "store"}
    metavar = option.metavar or "|".join(option.choices) or _METAVARS[option.kind]
    group.add_argument(*option.flags, **given, choices=option.choices or None, metavar=metavar, help=text)
    if option.old_flag:
        old = given | {"dest": f"old_{option.name}", "default": None}
        group.add_argument(option.old_flag, **old, metavar=metavar, help=argparse.SUPPRESS)


def _reader(option: OptionDefinition) -> Callable[[str], Any]:
    """Return what makes the value of an option from its text."""

    def read(text: str) -> Any:
        try:
            value = option.kind(text)
        except ValueError as error:
            expected = {int: "an integer", float: "a number"}.get(option.kind, option.kind.__name__)
            raise argparse.ArgumentTypeError(f"got {text!r}, expected {expected}") from error
        if option.minimum is not None and value < option.minimum:
            raise argparse.ArgumentTypeError(f"got {text}, expected {option.minimum} or more")
        return value

    return read


def _wrapped(text: str) -> str:
    """Return a docstring whose paragraphs are wrapped to 80 columns; examples are indented."""
    paragraphs = text.split("\n\n")
    indents = (("    ", "        ") if part.startswith(" ") else ("", "") for part in paragraphs)
    return "\n\n".join(
        textwrap.fill(part.strip(), 80, initial_indent=first, subsequent_indent=later, break_on_hyphens=False)
        for part, (first, later) in zip(paragraphs, indents, strict=True)
    )
