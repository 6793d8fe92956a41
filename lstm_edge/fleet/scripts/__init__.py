"""The scripts that run on a device, for a POSIX shell; each begins with ``prelude.sh``."""

from functools import cache
from pathlib import Path

__all__ = ["script"]

_FOLDER = Path(__file__).parent


@cache
def script(name: str) -> str:
    """Return the text of a script as ``sh -c`` takes it, with the functions of ``prelude.sh``."""
    return "\n".join((_FOLDER / f"{part}.sh").read_text(encoding="utf-8") for part in ("prelude", name))
