"""The commands that a device has too: the runtime defines them, and typer lists, completes and calls them here."""

import inspect
from enum import Enum
from typing import Annotated, Any

import typer

from lstm_edge.cli._arguments import add_command
from lstm_edge.cli._option_form import choice_of, typer_option
from lstm_edge_runtime.cli import COMMANDS, definition_of
from lstm_edge_runtime.cli.definition import CommandDefinition, OptionDefinition

__all__ = ["COMMANDS", "add_to"]


def add_to(app: typer.Typer, name: str) -> None:
    """Add one of the runtime's commands to the command line."""
    add_command(app, name, _function_of(definition_of(name)))


def _function_of(command: CommandDefinition) -> Any:
    """Return a function with the parameters that typer makes its options from; it calls the command."""

    def call(**values: Any) -> None:
        command.call({name: value.value if isinstance(value, Enum) else value for name, value in values.items()})

    parameters = [_parameter(option) for option in command.options]
    for option in command.options:
        if option.old_flag:
            old: Any = option.kind
            old = Annotated[old | None, typer.Option(option.old_flag, hidden=True)]
            parameters.append(_keyword(f"old_{option.name}", old, None))
    call.__name__, call.__doc__ = command.name, command.run.__doc__
    call.__dict__["__signature__"] = inspect.Signature(parameters)
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _parameter(option: OptionDefinition) -> inspect.Parameter:
    kind: Any = option.kind
    default = option.default
    if option.choices:
        kind = choice_of(option)
        default = None if default is None else kind(default)
    if option.repeatable:
        kind = list[kind]
    if option.required:
        return _keyword(option.name, Annotated[kind, typer_option(option)], inspect.Parameter.empty)
    return _keyword(option.name, Annotated[kind if default is not None else kind | None, typer_option(option)], default)


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
