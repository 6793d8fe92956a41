"""Typer's errors about wrong usage as the sentences that the runtime's parser prints."""

import re
from typing import Any

import typer

from lstm_edge.cli._help import choices_of, kind_of, name_of
from lstm_edge_runtime.cli import usage

__all__ = ["UsageError", "sentence_of"]

# Typer does not export it: BadParameter is one.
UsageError: Any = typer.BadParameter.__mro__[1]


def sentence_of(error: Any, ctx: Any, words: list[str]) -> str:
    """Return the sentence about wrong usage.

    Args:
        error: a ``UsageError``.
        ctx: the context of the command or group that was called.
        words: what it was called with.
    """
    program, command, kind = ctx.command_path, ctx.command, type(error).__name__
    parameter, option = getattr(error, "param", None), getattr(error, "option_name", "")
    if hasattr(command, "commands") and not isinstance(error, typer.BadParameter) and kind != "NoSuchOption":
        word = next((word for word in words if not word.startswith("-")), "")
        sentence = usage.no_command(program, word, command.list_commands(ctx))
    elif kind == "NoSuchOption":
        sentence = usage.no_option(program, option, _flags(command))
    elif kind == "MissingParameter":
        sentence = usage.missing(_missing(command, ctx, words) or [name_of(parameter)])
    elif kind == "BadOptionUsage":
        needs = "requires" in error.message
        sentence = usage.needs_value(option) if needs else usage.takes_no_value(option)
    elif parameter is not None:
        sentence = _wrong_value(error, parameter, ctx, words)
    elif found := re.match(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", error.message):
        sentence = usage.unexpected(found[1].split(" "))
    else:
        sentence = error.message.rstrip(".")
    return usage.with_help(sentence, program)


def _flags(command: Any) -> list[str]:
    return [flag for p in command.params if not getattr(p, "hidden", False) for flag in (*p.opts, *p.secondary_opts)]


def _given(command: Any, ctx: Any, words: list[str]) -> dict[str, Any]:
    """Return the texts that were given, by the name of the parameter."""
    values: dict[str, Any] = command.make_parser(ctx).parse_args(args=list(words))[0]
    return {name: value for name, value in values.items() if isinstance(value, str | list | tuple | bool | int)}


def _missing(command: Any, ctx: Any, words: list[str]) -> list[str]:
    """Return the names of what must be given and is not."""
    given = _given(command, ctx, words)
    return [name_of(p) for p in command.params if p.required and p.name not in given]


def _wrong_value(error: Any, parameter: Any, ctx: Any, words: list[str]) -> str:
    """Return the sentence about a value that is not one of the choices, not a number, or too small."""
    value = _given(ctx.command, ctx, words).get(parameter.name, "")
    text = str(value[-1] if isinstance(value, list | tuple) and value else value)
    choices, kind = choices_of(parameter, ctx.command), kind_of(parameter, ctx.command)
    least = re.search(r"(?:equal to|x>=) ?(-?[\d.]+)", error.message)
    if choices:
        expected = f"one of {', '.join(choices)}"
    elif least:
        expected = f"{least[1]} or more"
    elif kind in (int, float):
        expected = {int: "an integer", float: "a number"}[kind]
    else:
        return f"{name_of(parameter)}: {error.message.rstrip('.')}"
    return usage.wrong_value(name_of(parameter), text, expected)
