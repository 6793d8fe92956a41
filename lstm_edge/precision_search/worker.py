"""A worker process of a search: makes the measurements that the search sends, until the search ends."""

import mmap
import os
import pickle
import signal
import sys
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, BinaryIO

from lstm_edge.precision_search.compose import Composer, built
from lstm_edge.precision_search.data import Samples
from lstm_edge.precision_search.judges import Judges
from lstm_edge.precision_search.request import BudgetRequest
from lstm_edge.precision_search.tasks import perform
from lstm_edge_exporters.quantize.calibration import Calibration
from lstm_edge_runtime.errors import first_line

__all__ = ["CODE", "DONE", "FAILED", "READY", "Setup", "main"]

# What a fresh interpreter runs; its arguments are the file descriptors of ``main``.
CODE = "import sys; from lstm_edge.precision_search.worker import main; main(*map(int, sys.argv[1:]))"
# The messages of a worker: (READY,), (DONE, outcome, new roundings), (FAILED, class and message of an error).
READY, DONE, FAILED = "ready", "done", "failed"


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What all measurements of a search have in common.

    ``path``: the module path of the process that searches, because a user-defined metric may be anywhere on it.
    """

    request: BudgetRequest
    source: bytes
    tuning: Samples
    held_out: Samples
    calibration: Calibration
    path: tuple[str, ...]

    def write(self, file: BinaryIO) -> None:
        """Write the setup for ``main``."""
        pickle.dump(self, file)
        file.flush()


def main(connection: int, lifeline: int, setup: int) -> None:
    """Measure until the other end of ``connection`` is closed.

    Args:
        connection: file descriptor of the socket with the tasks.
        lifeline: file descriptor of a pipe to which nothing is written; its end means that the search has ended.
        setup: file descriptor of the file with the ``Setup``.
    """
    # Ctrl-C goes to every process of the terminal; the search decides what becomes of its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_search, args=(lifeline,), daemon=True).start()
    tasks = Connection(connection)
    with mmap.mmap(setup, 0, access=mmap.ACCESS_READ) as content:
        # Written by the process that started this one, into a file without a name.
        given: Setup = pickle.loads(content)  # noqa: S301
    sys.path += [entry for entry in given.path if entry not in sys.path]
    _measure(given, tasks)


def _measure(given: Setup, tasks: "Connection[Any, Any]") -> None:
    request = given.request
    composer = Composer(given.source, sparse=request.sparse, prefer=request.prefer)
    roundings = composer.use(
        given.calibration, compensate=request.compensate, search_scales=request.search_scales, clip=request.clip
    )
    judges = Judges(request, given.source, tuning=given.tuning, held_out=given.held_out)
    tasks.send((READY,))
    while True:
        try:
            task, learned = tasks.recv()
        except EOFError:
            return
        roundings.learn(learned)
        count = len(roundings.known)
        try:
            outcome = perform(
                task,
                build=composer.build,
                plain=lambda scheme: built(composer.plain(scheme, layers=request.layers, pinned=request.parts)),
                judges=judges.by_role,
            )
        except MemoryError:
            raise  # as if the system had killed this process for it
        except Exception as error:
            tasks.send((FAILED, f"{type(error).__name__}: {first_line(error)}"))
            continue
        tasks.send((DONE, outcome, roundings.since(count)))


def _end_with_the_search(lifeline: int) -> None:
    os.read(lifeline, 1)
    # The measurement under way is of no use to anyone.
    os._exit(1)
