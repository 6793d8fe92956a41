"""The help of a command, the same from argparse and from typer: at most 80 columns, and no word is cut."""

import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["VALUE_NAMES", "HelpRow", "HelpSection", "format_help", "with_default"]

# What a value without a name of its own is called.
VALUE_NAMES: dict[type, str] = {str: "TEXT", int: "INTEGER", float: "NUMBER", Path: "PATH"}
_WIDTH = 80
# The column that descriptions start at, so that 52 columns are left for them.
_DESCRIPTION = 28
# Where a word that is longer than a line may be cut: a list of choices, the settings of a metric.
_CUTS = re.compile(r"(?<=[|,=:/\[])")
# A default stays on one line.
_WORD = re.compile(r"\[default: [^\]]{1,40}\]|\S+")
_SHELL_WORD = re.compile(r"(?:\"[^\"]*\"|'[^']*'|[^\s\"'])+")


@dataclass(frozen=True, kw_only=True)
class HelpRow:
    """An argument, an option or a command: its names with the name of its value, and what it does."""

    label: str
    text: str


@dataclass(frozen=True, kw_only=True)
class HelpSection:
    """Rows under a title."""

    title: str
    rows: Sequence[HelpRow]


def format_help(usage: str, description: str, sections: Iterable[HelpSection], epilog: str = "") -> str:
    """Return a help page.

    Args:
        usage: such as ``lstm-edge check [OPTIONS] MODEL.onnx``.
        description: paragraphs with empty lines between them. A paragraph that is indented, or within back quotes, is
            a command line to copy; other back quotes are left out.
        sections: those without rows are left out.
        epilog: as ``description``, after the sections.
    """
    width = max(min(_WIDTH, shutil.get_terminal_size().columns), _DESCRIPTION + 16)
    parts = [_filled(f"Usage: {usage}", width, "", "         "), *_paragraphs(description, width)]
    for section in sections:
        if section.rows:
            lines = [line for row in section.rows for line in _row(row, width)]
            parts.append("\n".join((f"{section.title}:", *lines)))
    return "\n\n".join((*parts, *_paragraphs(epilog, width)))


def with_default(text: str, default: Any) -> str:
    """Return the help of an option followed by its default, unless it has none or the text says it."""
    if default is None or default is False or "[default" in text:
        return text
    return f"{text} [default: {default}]"


def _row(row: HelpRow, width: int) -> Iterator[str]:
    """Yield the lines of a row: the description begins beside a short label, and below a long one."""
    label = _lines(f"  {row.label}", width, "      ")
    text = _lines(" " * _DESCRIPTION + row.text.replace("`", ""), width, " " * _DESCRIPTION)
    if len(label[-1]) <= _DESCRIPTION - 2:
        yield from label[:-1]
        yield label[-1].ljust(_DESCRIPTION) + text[0].lstrip()
        yield from text[1:]
    else:
        yield from (*label, *text)


def _paragraphs(text: str, width: int) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        command = re.fullmatch(r"\s*`([^`]+)`\s*", paragraph)
        if command:
            yield _command_line([command[1]], width)
        elif paragraph.startswith(" "):
            yield _command_line(textwrap.dedent(paragraph).split("\n"), width)
        elif paragraph.strip():
            yield _filled(paragraph.replace("`", ""), width, "", "")


def _command_line(lines: Sequence[str], width: int) -> str:
    """Return a command line indented; where it is cut a backslash goes on, so that it can be copied."""
    found = [f"    {line}" for line in lines]
    if max(map(len, found)) <= width:
        return "\n".join(found)
    rows = [""]
    for word in _shell_words(" ".join(line.removesuffix("\\") for line in lines)):
        longer = f"{rows[-1]} {word}" if rows[-1] else word
        # Two columns for the space and the backslash.
        if len(longer) + (4 if len(rows) == 1 else 8) <= width - 2:
            rows[-1] = longer
        else:
            rows.append(word)
    return " \\\n".join((" " * (8 if index else 4)) + row for index, row in enumerate(rows))


def _shell_words(line: str) -> Iterator[str]:
    """Yield the words of a command line; an option and the word after it are one."""
    option = ""
    for word in _SHELL_WORD.findall(line):
        if option and not word.startswith("-"):
            yield f"{option} {word}"
            option = ""
            continue
        if option:
            yield option
        option = word if word.startswith("-") else ""
        if not option:
            yield word
    if option:
        yield option


def _filled(text: str, width: int, first: str, later: str) -> str:
    return "\n".join(_lines(first + " ".join(text.split()), width, later))


def _lines(text: str, width: int, later: str) -> list[str]:
    """Cut a text into lines, between words; a word that is longer than a line is cut after a sign."""
    start = text[: len(text) - len(text.lstrip())]
    lines = [start]
    for word in _WORD.findall(text):
        pieces = _CUTS.split(word) if len(later) + len(word) > width else [word]
        for index, piece in enumerate(pieces):
            _add(lines, piece, width, later, glue="" if index else " ")
    return lines


def _add(lines: list[str], word: str, width: int, later: str, *, glue: str) -> None:
    """Put a word at the end of the last line, or on a new one where it does not fit."""
    empty = not lines[-1].strip()
    longer = lines[-1] + ("" if empty else glue) + word
    if len(longer) <= width or empty:
        lines[-1] = longer
    else:
        lines.append(later + word)
