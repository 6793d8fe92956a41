"""Names of classes as an option gives them."""

from collections.abc import Sequence
from pathlib import Path

from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.reading import reason

__all__ = ["parse_labels"]

# A name for each of a million classes.
_MOST_BYTES = 64 * 2**20


def parse_labels(given: Sequence[str] | str | None) -> tuple[str, ...] | None:
    """Return the names of an option ``a,b,c``, of the lines of a file ``@file``, or of a sequence.

    Raises:
        InputError: the file cannot be read, is over 64 MiB, or is not UTF-8.
    """
    if given is None or not isinstance(given, str):
        return None if given is None else tuple(given)
    if not given.startswith("@"):
        return tuple(part.strip() for part in given.split(","))
    path = Path(given[1:])
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--labels @{path}: the labels cannot be read ({reason(error)})") from error
    if len(data) > _MOST_BYTES:
        raise InputError(f"--labels @{path}: the labels take more than {_MOST_BYTES:,} bytes")
    return tuple(line.strip() for line in text.rstrip().splitlines())
