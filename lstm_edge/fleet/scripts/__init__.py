"""The scripts that run on a device, for a POSIX shell; each begins with the functions that it needs."""

from functools import cache
from pathlib import Path

__all__ = ["script", "source", "source_path"]

_FOLDER = Path(__file__).parent
_FUNCTIONS = {"trial": ("prelude", "switching")}


@cache
def script(name: str) -> str:
    """Return the text of a script as ``sh -c`` takes it, with the functions that it calls."""
    return "\n".join(source(part) for part in (*_FUNCTIONS.get(name, ("prelude",)), name))


def source(name: str) -> str:
    """Return the text of one file of this folder, without the functions that it calls."""
    return source_path(name).read_text(encoding="utf-8")


def source_path(name: str) -> Path:
    """Return the path of one file of this folder."""
    return _FOLDER / f"{name}.sh"
