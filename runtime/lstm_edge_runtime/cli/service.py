"""End a service in an orderly way: SIGINT and SIGTERM let the line that is being answered finish."""

import io
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

__all__ = ["Stopped", "stoppable"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal ended the service; ``code`` is the exit code that a shell gives for it, 130 or 143."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.name, self.code = signal.Signals(number).name, 128 + number


class _Lines(io.RawIOBase):
    """Lines of an open file, whose reading a signal ends; a second signal ends whatever is going on."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._waiting, self._asked = file, False, 0

    def readline(self, size: int | None = -1, /) -> bytes:
        self._waiting = True
        try:
            # A signal that came before this line.
            if self._asked:
                raise Stopped(self._asked)
            return self._file.readline(-1 if size is None else size)
        finally:
            self._waiting = False

    def stop(self, number: int, _frame: Any) -> None:
        """Handle a signal."""
        again, self._asked = self._asked, number
        if self._waiting or again:
            raise Stopped(number)


@contextmanager
def stoppable(file: BinaryIO) -> Iterator[io.RawIOBase]:
    """Yield the lines of a file; within, SIGINT and SIGTERM raise ``Stopped`` between two lines.

    A signal that the process ignores stays ignored, as that of a background job in a shell script.
    """
    lines = _Lines(file)
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
        for number in before:
            signal.signal(number, lines.stop)
    try:
        yield lines
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
