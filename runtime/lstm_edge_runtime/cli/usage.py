"""Sentences about wrong usage: argparse's and typer's errors become the same ones."""

import difflib
from collections.abc import Sequence

__all__ = [
    "missing",
    "needs_value",
    "no_command",
    "no_option",
    "takes_no_value",
    "unexpected",
    "with_help",
    "wrong_value",
]

# Options that every command has, and lstm-edge itself does not.
_BEHIND = ("-q", "--quiet", "-v", "--verbose")


def missing(names: Sequence[str]) -> str:
    """Return the sentence about the arguments and options that must be given.

    Args:
        names: at least one, such as ``("CANDIDATE.onnx", "--against")``.
    """
    *others, last = names
    return f"{', '.join(others)} and {last} are missing" if others else f"{last} is missing"


def no_command(program: str, word: str, known: Sequence[str]) -> str:
    """Return the sentence about a command that does not exist, or that is missing (``word`` is empty)."""
    expected = f"expected one of {', '.join(known)}"
    if not word:
        return f"{program} needs a command, {expected}"
    return f"{program} has no command {word!r}{_near(word, known)}, {expected}"


def no_option(program: str, word: str, known: Sequence[str]) -> str:
    """Return the sentence about an option that a command does not have."""
    if " " not in program and word in _BEHIND:
        return f"{word} goes behind the command, as in {program} check {word}"
    return f"{program} has no option {word}{_near(word, known)}"


def wrong_value(name: str, value: str, expected: str) -> str:
    """Return the sentence about the value of an option or an argument."""
    return f"{name} is {value!r}, expected {expected}"


def needs_value(name: str) -> str:
    """Return the sentence about an option without its value."""
    return f"{name} needs a value"


def takes_no_value(name: str) -> str:
    """Return the sentence about a flag that was given a value."""
    return f"{name} takes no value"


def unexpected(words: Sequence[str]) -> str:
    """Return the sentence about words that no argument takes."""
    return f"unexpected argument{'s' * (len(words) > 1)} {' '.join(words)}"


def with_help(sentence: str, program: str) -> str:
    """Return a sentence, followed by where the help is.

    Args:
        sentence: what is wrong.
        program: the words of the command, such as ``lstm-edge train tagging``.
    """
    return f"{sentence}; {program} --help describes the command"


def _near(word: str, known: Sequence[str]) -> str:
    """Return the known word that is most like a wrong one, as a question; nothing where none is."""
    found = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {found[0]}?)" if found else ""
