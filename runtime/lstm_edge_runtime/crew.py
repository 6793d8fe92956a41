"""A few threads that run jobs at once, for a pool; an interrupt while they run leaves them usable."""

import threading
import weakref
from collections.abc import Callable, Sequence
from queue import SimpleQueue

__all__ = ["Crew", "Job"]

Job = Callable[[], None]
# A job, and where its end is told; None ends the thread.
_Order = tuple[Job, "SimpleQueue[None]"] | None


class Crew:
    """The caller's thread and ``threads - 1`` more, which the first run starts and which end with the crew."""

    def __init__(self, threads: int) -> None:
        """Start no thread yet."""
        self.threads = threads
        # Each thread has a queue, so that what was put there last ends last.
        self._orders: list[SimpleQueue[_Order]] = []
        # Whether jobs may still run, because an interrupt came while the caller waited for them.
        self._open = False

    def run(self, jobs: Sequence[Callable[[], Job]]) -> None:
        """Prepare and run jobs at once; return when all have ended.

        Args:
            jobs: at most ``threads``. Each is called in turn, by the caller's thread, and returns what a thread runs
                then, which must not raise an error.
        """
        self.settle()
        if len(jobs) > 1 and not self._orders:
            self._start()
        done: SimpleQueue[None] = SimpleQueue()
        self._open = len(jobs) > 1
        for orders, job in zip(self._orders, jobs[:-1], strict=False):
            orders.put((job(), done))
        jobs[-1]()()
        for _ in jobs[:-1]:
            done.get()
        self._open = False

    def settle(self) -> None:
        """Wait for jobs that an interrupt left running."""
        if not self._open:
            return
        for orders in self._orders:
            reached = threading.Event()
            orders.put((reached.set, SimpleQueue()))
            reached.wait()
        self._open = False

    def _start(self) -> None:
        orders: list[SimpleQueue[_Order]] = [SimpleQueue() for _ in range(self.threads - 1)]
        weakref.finalize(self, _end, orders)
        for own in orders:
            threading.Thread(target=_work, args=(own,), daemon=True, name="lstm-edge-pool").start()
        self._orders = orders


def _end(orders: "list[SimpleQueue[_Order]]") -> None:
    for own in orders:
        own.put(None)


def _work(orders: "SimpleQueue[_Order]") -> None:
    while (order := orders.get()) is not None:
        job, done = order
        job()
        # What a job holds is freed before the caller goes on.
        del job, order
        done.put(None)
