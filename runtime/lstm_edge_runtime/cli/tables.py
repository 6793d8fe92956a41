"""Tables of plain text that fit the terminal: a device has no rich."""

import shutil
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from lstm_edge_runtime.cli.printing import printable, say

__all__ = ["format_table", "print_table"]

# Spaces between two columns, and in front of the first one.
_GAP, _MARGIN = 3, 1


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table that fits the terminal; columns after the first are right-aligned."""
    say("\n".join(format_table(columns, rows, shutil.get_terminal_size().columns)))


def format_table(columns: Sequence[str], rows: Iterable[Sequence[str]], width: int) -> list[str]:
    """Return the lines of a table.

    Args:
        columns: the titles.
        rows: of each row a text for each column; texts that do not fit are wrapped.
        width: of the terminal, in columns.
    """
    cells = [list(columns), *([printable(text) for text in row] for row in rows)]
    widths = [max(max(map(_width, text.split("\n"))) for text in column) for column in zip(*cells, strict=True)]
    widths = _narrowed(widths, width - 2 * _MARGIN - _GAP * (len(columns) - 1))
    head, *body = ([_wrapped(text, size) for text, size in zip(row, widths, strict=True)] for row in cells)
    rule = " " * _MARGIN + "─" * (sum(widths) + _GAP * (len(columns) - 1))
    lines = [line for row in body for line in _lines(row, widths)]
    return ["", *_lines(head, widths), rule, *lines, ""]


def _lines(row: Sequence[Sequence[str]], widths: Sequence[int]) -> Iterable[str]:
    """Yield the lines of one row whose texts are wrapped."""
    for parts in zip_longest(*row, fillvalue=""):
        first, *others = parts
        padded = [first + " " * (widths[0] - _width(first))]
        padded += [" " * (size - _width(part)) + part for part, size in zip(others, widths[1:], strict=True)]
        yield (" " * _MARGIN + (" " * _GAP).join(padded)).rstrip()


def _width(text: str) -> int:
    """Return how many columns of a terminal a line takes: two for a wide character, none for a combining one."""
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in text)


def _narrowed(widths: Sequence[int], most: int) -> list[int]:
    """Return widths whose sum is at most ``most``, each at least 1: the widest columns give first."""
    found = list(widths)
    while sum(found) > most and max(found) > 1:
        found[found.index(max(found))] -= 1
    return found


def _wrapped(text: str, width: int) -> list[str]:
    """Cut a text into lines of at most ``width`` columns, between words where that is possible."""
    lines = []
    for line in text.split("\n"):
        current = ""
        for word in line.split(" ") if _width(line) > width else [line]:
            longer = f"{current} {word}" if current else word
            if _width(longer) <= width:
                current = longer
                continue
            lines += [current] if current else []
            *full, current = _cut(word, width)
            lines += full
        lines.append(current)
    return lines


def _cut(word: str, width: int) -> list[str]:
    """Cut a word into pieces of at most ``width`` columns."""
    pieces = [""]
    for character in word:
        if pieces[-1] and _width(pieces[-1] + character) > width:
            pieces.append("")
        pieces[-1] += character
    return pieces
