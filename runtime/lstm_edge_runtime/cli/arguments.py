"""Sentences about a file or a value name the option or argument that it was given as."""

import re
from collections.abc import Mapping, Sequence

__all__ = ["flagged", "named_with"]

# A character that a path may go on with.
_PART_OF_A_PATH = r"[\w./~-]"


def flagged(message: str, flags: Mapping[str, str]) -> str:
    """Return a message that calls a value as the command line does: ``--top-p is 2.0`` for ``top_p is 2.0``.

    Args:
        message: of an error; the library names the argument of its function, some behind ``training: ``.
        flags: the option of each argument.
    """
    found = re.match(r"(?:[a-z]+: )?(\w+)(?= (?:is|has|must be) |:)", message)
    return message if found is None or found[1] not in flags else flags[found[1]] + message[found.end() :]


def named_with(message: str, found: Sequence[tuple[str, str]]) -> str:
    """Return a message with the option or argument whose file it is about, where it names none.

    Args:
        message: of an error.
        found: the name of each option and argument that was given a path, and the path.
    """
    # A command that takes one file needs no name for it.
    if len(found) < 2:
        return message
    places = [(_place(message, path), -len(path), name) for name, path in found]
    first = min((place for place in places if place[0] >= 0), default=None)
    if first is None:
        return message
    same = [name for place, length, name in places if (place, length) == first[:2]]
    return f"{message} ({same[0]})" if len(same) == 1 and same[0] not in message else message


def _place(message: str, path: str) -> int:
    """Return where a message has a path that is not part of another one; -1 where it has none."""
    # A dot that ends a sentence does not belong to the path before it.
    found = re.search(rf"(?<!{_PART_OF_A_PATH}){re.escape(path)}(?!{_PART_OF_A_PATH}*\w)", message)
    return -1 if found is None else found.start()
