"""One worker process as the search sees it: started, given work, ended."""

import os
import signal
import subprocess
from contextlib import suppress
from multiprocessing.connection import Pipe
from typing import Any

from lstm_edge.precision_search.compose import Remembered
from lstm_edge.precision_search.tasks import Task
from lstm_edge.precision_search.worker import CODE
from lstm_edge_runtime.fresh_python import python_command

__all__ = ["WorkerProcess"]

PACKAGES = ("lstm_edge", "lstm_edge_exporters", "lstm_edge_runtime", "numpy", "onnxruntime", "onnx", "onnx_ir")
STANDARD_ERROR = 2
# A process whose connection is closed is about to end.
LAST_SECONDS = 5.0


class WorkerProcess:
    """A fresh interpreter that runs ``lstm_edge.precision_search.worker``.

    It ends with this process, however that ends: then the pipe to it is closed.

    Attributes:
        number: number of the worker, for messages.
        connection: its messages arrive here.
        task: what it measures, None if it is idle.
        is_ready: whether it has loaded its setup.
        knows: keys of the rounded matrices that it has.
    """

    def __init__(self, number: int, setup: int) -> None:
        """Start the process.

        Args:
            number: number of the worker.
            setup: file descriptor of the file with the ``Setup``.
        """
        self.number = number
        self.task: Task | None = None
        self.is_ready = False
        self.knows: set[Any] = set()
        self.connection, theirs = Pipe()
        self._lifeline: int | None
        end, self._lifeline = os.pipe()
        descriptors = theirs.fileno(), end, setup
        try:
            # Its standard output would be among the results of this process.
            self._process = subprocess.Popen(  # noqa: S603  # our own code
                python_command(CODE, *map(str, descriptors), packages=PACKAGES),
                stdin=subprocess.DEVNULL,
                stdout=STANDARD_ERROR,
                pass_fds=descriptors,
            )
        finally:
            theirs.close()
            os.close(end)

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    @property
    def activity(self) -> str:
        """What the worker does, in a few words."""
        doing = "idle" if self.is_ready else "starting"
        return f"{self.number}: {doing if self.task is None else self.task.name}"

    def how_it_ended(self) -> str:
        """Wait for a process that ends by itself; returns by which signal, or with which exit code."""
        try:
            code = self._process.wait(LAST_SECONDS)
        except subprocess.TimeoutExpired:
            return "its connection was closed"
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def begin(self, task: Task, roundings: Remembered) -> None:
        """Send a task, with the rounded matrices that the worker lacks; a dead worker is noticed later."""
        news = [(key, arrays) for key, arrays in roundings.known.items() if key not in self.knows]
        self.task = task
        self.knows.update(key for key, _ in news)
        # An error means that its end of the socket is closed; the search then hears that the worker has ended.
        with suppress(OSError):
            self.connection.send((task, news))

    def end(self) -> None:
        """End the process at once, and wait for its end."""
        self.connection.close()
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        self._process.kill()
        self._process.wait()
