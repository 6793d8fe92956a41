"""How much a command prints: ``--quiet`` prints results and errors, ``--verbose`` also what happens."""

import time
from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["CURRENT", "Verbosity", "current_verbosity"]


@dataclass(frozen=True, kw_only=True)
class Verbosity:
    """How much is printed.

    Attributes:
        quiet: no progress.
        verbose: the time of each line of progress, and what the library logs.
        began_s: ``time.monotonic`` at the start, in seconds.
    """

    quiet: bool = False
    verbose: bool = False
    began_s: float = 0.0

    def stamp(self) -> str:
        """Return the seconds since the start as a prefix of a line, with ``--verbose``; otherwise nothing."""
        return f"{time.monotonic() - self.began_s:.2f} s: " if self.verbose else ""


CURRENT = ContextVar("verbosity", default=Verbosity())  # noqa: B039  # frozen


def current_verbosity() -> Verbosity:
    """Return how much the command that is running prints."""
    return CURRENT.get()
