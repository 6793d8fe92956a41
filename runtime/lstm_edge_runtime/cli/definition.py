"""What a command takes, written once: the parser of a device (argparse) and lstm-edge (typer) are made from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lstm_edge_runtime.cli.printing import progress
from lstm_edge_runtime.errors import InputError

__all__ = ["CommandDefinition", "OptionDefinition", "notice_old_name"]


@dataclass(frozen=True, kw_only=True)
class OptionDefinition:
    """An option of a command, or without ``flags`` an argument.

    Attributes:
        name: the parameter of the command's function.
        help: one sentence or two.
        flags: such as ``("-o", "--output")``; empty for an argument.
        kind: ``str``, ``int``, ``float``, ``pathlib.Path``, or ``bool`` for an option without a value.
        default: the value if it is not given. None: not given, and the function decides.
        required: whether an argument must be given.
        metavar: the name of the value in the help; None: the name of its kind.
        choices: the values that are allowed; empty: all.
        minimum: the smallest value that is allowed.
        repeatable: whether it may be given several times; the value is a list, or None.
        panel: the title of the group in the help, or None.
        old_flag: an old name that still works; it is not in the help.
    """

    name: str
    help: str
    flags: tuple[str, ...] = ()
    kind: type = str
    default: Any = None
    required: bool = False
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    repeatable: bool = False
    panel: str | None = None
    old_flag: str | None = None


@dataclass(frozen=True, kw_only=True)
class CommandDefinition:
    """A command.

    Attributes:
        name: its word on the command line.
        run: reads nothing, computes and prints; called with a keyword for each option. Its docstring is the help.
        options: arguments first.
    """

    name: str
    run: Callable[..., None]
    options: tuple[OptionDefinition, ...]

    def call(self, values: Mapping[str, Any]) -> None:
        """Run the command.

        Args:
            values: a value for each option; for an option with an old name also ``old_NAME``, None if not given.

        Raises:
            InputError: an option is given under both names.
            LstmEdgeError: what the command raises.
        """
        given = dict(values)
        for option in self.options:
            old = given.pop(f"old_{option.name}", None) if option.old_flag else None
            if option.old_flag and old is not None:
                notice_old_name(option.old_flag, option.name, is_default=given[option.name] == option.default)
                given[option.name] = old
        self.run(**given)


def notice_old_name(flag: str, parameter: str, *, is_default: bool = True) -> str:
    """Print the notice about an old name of an option, and return the current one.

    Raises:
        InputError: the option is also given under its current name, so that its value is not the default.
    """
    current = f"--{parameter.replace('_', '-')}"
    progress(f"{flag} is the old name of {current}")
    if not is_default:
        raise InputError(f"{flag} is the old name of {current}: give only {current}")
    return current
