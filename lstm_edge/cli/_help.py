"""The help of typer's commands and groups in the form of the runtime's: 80 columns, no word is cut."""

import inspect
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from lstm_edge_runtime.cli.help import VALUE_NAMES, HelpRow, HelpSection, format_help, with_default

__all__ = ["choices_of", "help_of", "kind_of", "name_of"]


def help_of(command: Any, ctx: Any, epilog: str = "") -> str:
    """Return the help of a command or a group.

    Args:
        command: of typer's kind.
        ctx: its context.
        epilog: what follows the command's own epilog.
    """
    rows: dict[str, list[HelpRow]] = {"Commands": [], "Arguments": [], "Options": []}
    arguments = []
    for name in command.list_commands(ctx) if hasattr(command, "list_commands") else ():
        rows["Commands"].append(HelpRow(label=name, text=_summary(command.commands[name].help)))
    for parameter in command.get_params(ctx):
        if getattr(parameter, "hidden", False):
            continue
        if parameter.param_type_name == "argument":
            arguments.append(name_of(parameter) if parameter.required else f"[{name_of(parameter)}]")
            rows["Arguments"].append(HelpRow(label=name_of(parameter), text=_text(parameter)))
        else:
            panel = getattr(parameter, "rich_help_panel", None) or "Options"
            rows.setdefault(panel, []).append(HelpRow(label=_label(parameter, command), text=_text(parameter)))
    usage = [ctx.command_path, *(["COMMAND"] if rows["Commands"] else []), "[OPTIONS]", *arguments]
    sections = [HelpSection(title=title, rows=found) for title, found in rows.items()]
    ends = (inspect.cleandoc(text) for text in (command.epilog or "", epilog) if text)
    return format_help(" ".join(usage), inspect.cleandoc(command.help or ""), sections, "\n\n".join(ends))


def name_of(parameter: Any) -> str:
    """Return what sentences call an option or an argument of typer's kind."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    return str(max(parameter.opts, key=len))


def kind_of(parameter: Any, command: Any) -> Any:
    """Return the type of a parameter's value, one of a list's; ``bool`` where it has no value."""
    hint = get_type_hints(command.callback or _nothing).get(parameter.name, bool)
    base = next((kind for kind in get_args(hint) if kind is not type(None)), hint)
    return next(iter(get_args(base)), base) if get_origin(base) is list else base


def _nothing() -> None:
    """Stand in for the function of a group that has none."""


def choices_of(parameter: Any, command: Any) -> tuple[str, ...]:
    """Return the values that a parameter may have; nothing where all are allowed."""
    kind = kind_of(parameter, command)
    return tuple(choice.value for choice in kind) if isinstance(kind, type) and issubclass(kind, Enum) else ()


def _label(option: Any, command: Any) -> str:
    flags = ", ".join(sorted(option.opts, key=len))
    if option.secondary_opts:
        return f"{flags}/{option.secondary_opts[0]}"
    kind = kind_of(option, command)
    if kind is bool:
        return flags
    return f"{flags} {option.metavar or '|'.join(choices_of(option, command)) or VALUE_NAMES[kind]}"


def _text(parameter: Any) -> str:
    """Return the help of a parameter with its default."""
    text = " ".join((parameter.help or "").split())
    if text.startswith("Show this message"):
        return "Show this help and exit."
    if parameter.required:
        return f"{text} [required]"
    return with_default(text, next(_defaults(parameter), None) if parameter.show_default else None)


def _defaults(parameter: Any) -> Iterator[str]:
    """Yield the default as the command line takes it, where there is one."""
    value = parameter.default
    if isinstance(value, Enum):
        yield value.value
    elif isinstance(value, bool):
        if parameter.secondary_opts:
            yield max(parameter.opts if value else parameter.secondary_opts, key=len)
    elif isinstance(value, str | int | float | Path):
        yield str(value)


def _summary(text: str | None) -> str:
    """Return the first paragraph of a command's help."""
    return " ".join(inspect.cleandoc(text or "").partition("\n\n")[0].split())
