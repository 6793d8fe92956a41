"""The runtime's options in typer's form."""

from enum import Enum
from typing import Any

import typer

from lstm_edge_runtime.cli.definition import OptionDefinition

__all__ = ["choice_of", "typer_option"]


def typer_option(option: OptionDefinition) -> Any:
    """Return typer's form of an option or an argument, for ``Annotated``."""
    if not option.flags:
        return typer.Argument(help=option.help, metavar=option.metavar)
    return typer.Option(
        *option.flags, help=option.help, metavar=option.metavar, min=option.minimum, rich_help_panel=option.panel
    )


def choice_of(option: OptionDefinition) -> type[Enum]:
    """Return the values of an option, which a shell completes."""
    values = {choice: choice for choice in option.choices}
    return Enum(option.name, values, type=str)  # type: ignore[return-value]  # mypy takes the call for a member
