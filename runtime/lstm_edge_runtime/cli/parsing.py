"""A command's definition as a parser of argparse, with help of at most 80 columns."""

import argparse
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from lstm_edge_runtime.cli import usage
from lstm_edge_runtime.cli.definition import CommandDefinition, OptionDefinition
from lstm_edge_runtime.cli.help import VALUE_NAMES, HelpRow, HelpSection, format_help, with_default
from lstm_edge_runtime.cli.options import VERBOSITY
from lstm_edge_runtime.cli.printing import print_error

__all__ = ["help_of", "options_of", "parse", "summary_of"]


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are the sentences of ``usage``, and whose help is that of ``help_of``."""

    def __init__(self, command: CommandDefinition) -> None:
        super().__init__(prog=f"lstm-edge {command.name}", allow_abbrev=False)
        self.command = command

    def format_help(self) -> str:
        return help_of(self.command) + "\n"

    def error(self, message: str) -> NoReturn:
        print_error(usage.with_help(self._sentence(message), self.prog))
        raise SystemExit(2)

    def _sentence(self, message: str) -> str:
        """Return what argparse says as one of the sentences that typer's errors become too."""
        if found := re.fullmatch(r"unrecognized arguments: (.*)", message, re.DOTALL):
            words = found[1].split(" ")
            options = [flag for option in options_of(self.command) for flag in option.flags]
            wrong = next((word for word in words if word.startswith("-") and word != "-"), None)
            return usage.unexpected(words) if wrong is None else usage.no_option(self.prog, wrong, options)
        if found := re.fullmatch(r"argument (\S+): (.*)", message, re.DOTALL):
            name = max(found[1].split("/"), key=len)
            if found[2].startswith("expected one argument"):
                return usage.needs_value(name)
            if found[2].startswith("ignored explicit argument"):
                return usage.takes_no_value(name)
            return found[2]
        return message


def parse(command: CommandDefinition, arguments: Sequence[str]) -> dict[str, Any]:
    """Return a value for each option of a command, for each old name, and for ``quiet`` and ``verbose``.

    Raises:
        SystemExit: with 2 after a sentence about what is wrong, with 0 after the help.
    """
    parser = _Parser(command)
    for option in options_of(command):
        _add(parser, option)
    # Arguments may come after options that are between them, which parse_args does not allow in every Python.
    values = vars(parser.parse_intermixed_args(list(arguments)))
    absent = [_name(option) for option in command.options if option.required and values[option.name] is None]
    if absent:
        parser.error(usage.missing(absent))
    return values


def options_of(command: CommandDefinition) -> tuple[OptionDefinition, ...]:
    """Return the options of a command with those that every command has."""
    return (*command.options, *VERBOSITY)


def help_of(command: CommandDefinition) -> str:
    """Return the help of a command."""
    arguments = [option for option in command.options if not option.flags]
    rows: dict[str, list[HelpRow]] = {"Arguments": [], "Options": []}
    for option in options_of(command):
        place = (option.panel or "Options") if option.flags else "Arguments"
        label = ", ".join(option.flags) or str(option.metavar)
        if option.flags and option.kind is not bool:
            label += f" {option.metavar or '|'.join(option.choices) or VALUE_NAMES[option.kind]}"
        text = f"{option.help} [required]" if option.required else with_default(option.help, option.default)
        rows.setdefault(place, []).append(HelpRow(label=label, text=text))
    rows["Options"].append(HelpRow(label="-h, --help", text="Show this help and exit."))
    words = ["lstm-edge", command.name, "[OPTIONS]"]
    words += [str(a.metavar) if a.required else f"[{a.metavar}]" for a in arguments]
    sections = [HelpSection(title=title, rows=found) for title, found in rows.items()]
    return format_help(" ".join(words), inspect.getdoc(command.run) or "", sections)


def summary_of(command: CommandDefinition) -> str:
    """Return the first sentence of a command's help."""
    return (inspect.getdoc(command.run) or "").partition("\n")[0]


def _name(option: OptionDefinition) -> str:
    return max(option.flags, key=len) if option.flags else str(option.metavar)


def _add(parser: argparse.ArgumentParser, option: OptionDefinition) -> None:
    """Add an option to a parser."""
    if not option.flags:
        # parse() names all that are missing, in the words of usage.missing.
        parser.add_argument(option.name, nargs="?")
        return
    given: dict[str, Any] = {"dest": option.name, "default": option.default}
    if option.kind is bool:
        parser.add_argument(*option.flags, **given, action="store_true")
        return
    given |= {"type": _reader(option, _name(option)), "action": "append" if option.repeatable else "store"}
    parser.add_argument(*option.flags, **given)
    if option.old_flag:
        old = given | {"dest": f"old_{option.name}", "default": None, "type": _reader(option, option.old_flag)}
        parser.add_argument(option.old_flag, **old)


def _reader(option: OptionDefinition, name: str) -> Callable[[str], Any]:
    """Return what makes the value of an option from its text.

    Args:
        option: what is read.
        name: the name that sentences give it.
    """

    def read(text: str) -> Any:
        if option.choices and text not in option.choices:
            raise argparse.ArgumentTypeError(usage.wrong_value(name, text, f"one of {', '.join(option.choices)}"))
        try:
            value = option.kind(text)
        except ValueError as error:
            expected = {int: "an integer", float: "a number"}.get(option.kind, option.kind.__name__)
            raise argparse.ArgumentTypeError(usage.wrong_value(name, text, expected)) from error
        if option.minimum is not None and value < option.minimum:
            raise argparse.ArgumentTypeError(usage.wrong_value(name, text, f"{option.minimum} or more"))
        return value

    return read
