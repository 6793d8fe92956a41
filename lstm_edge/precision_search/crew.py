"""The worker processes of a search, and what they measure next.

The search asks for one measurement after another, and each answer decides on the next question. ``Crew.fetch`` has the
wanted measurement made first. Idle workers make others that may follow: those of ``expect``, and those that ``fetch``
gets as ``ahead``. Outcomes do not depend on who made them or when, so the search takes the same decisions as in one
process, whatever was made ahead.

A worker that dies costs its measurement, which a new worker makes again. A measurement that ends two workers is an
error. With ``Shared``, processes on other machines make measurements as well.
"""

import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.connection import wait
from types import TracebackType
from typing import TYPE_CHECKING, Any

from lstm_edge.precision_search.compose import Composer
from lstm_edge.precision_search.data import Roles
from lstm_edge.precision_search.journal import Journal
from lstm_edge.precision_search.measure import kind_of
from lstm_edge.precision_search.process import WorkerProcess
from lstm_edge.precision_search.request import BudgetRequest
from lstm_edge.precision_search.tasks import Outcome, Task, error_of, key_of
from lstm_edge.precision_search.worker import DONE, FAILED, READY, Setup
from lstm_edge_runtime.errors import WorkerError

if TYPE_CHECKING:
    from lstm_edge.precision_search.shared import Shared

__all__ = ["Crew", "setup_of"]

Say = Callable[[str], None]
# Workers that a measurement may end, and starts that may fail one after another.
MOST_DEATHS = 2
# Seconds between two looks at the database.
POLL_S = 0.5


def setup_of(request: BudgetRequest, composer: Composer, roles: Roles) -> Setup:
    """Return what the workers of a search need; ``composer`` is calibrated."""
    assert composer.calibration is not None
    return Setup(
        request=request,
        source=composer.source,
        tuning=roles.tuning,
        held_out=roles.held_out,
        calibration=composer.calibration.without_graph(),
        path=tuple(sys.path),
    )


class Crew:
    """Worker processes that make measurements; a context manager that ends them.

    Attributes:
        made: number of measurements that the workers have made, those that the search did not need included.
        read: number of measurements of other processes.
    """

    def __init__(
        self,
        count: int,
        setup: Setup,
        composer: Composer,
        journal: Journal,
        *,
        shared: "Shared | None" = None,
        say: Say = lambda _line: None,
        on_workers: Callable[[Sequence[str]], None] | None = None,
    ) -> None:
        """Start the workers; they load the setup while this process goes on.

        Args:
            count: number of processes, 1 or more.
            setup: what they measure with.
            composer: takes the matrices that they round, so that each is rounded once.
            journal: takes their measurements.
            shared: measurements of other processes, or None.
            say: called with one line when a worker has died.
            on_workers: called with what each worker does, whenever that changes.
        """
        assert composer.roundings is not None
        self._roundings, self._journal, self._shared = composer.roundings, journal, shared
        self._say, self._on_workers = say, on_workers
        self._backlog: list[Task] = []
        # By the digest of their task.
        self._outcomes: dict[str, Outcome] = {}
        self._deaths: dict[str, int] = {}
        self.made = self.read = self._failed_starts = 0
        self._looked_at = -POLL_S
        # Without a name: nothing is left of it, however the processes end.
        self._setup = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close
        self._workers: list[WorkerProcess] = []
        try:
            setup.write(self._setup)
            for number in range(1, count + 1):
                self._workers.append(WorkerProcess(number, self._setup.fileno()))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Crew":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        if self._shared is not None:
            try:
                self._shared.release()
            except Exception:
                # Other processes then take the claims when they see that this one is gone.
                if kind is None:
                    raise

    def close(self) -> None:
        """End the processes at once."""
        for worker in self._workers:
            worker.end()
        self._setup.close()

    def expect(self, tasks: Iterable[Task]) -> None:
        """Have measurements made that will be fetched, in this order; returns at once."""
        self._backlog += tasks
        self._look()
        self._dispatch(None, ())

    def fetch(self, task: Task, ahead: Iterable[Task] = ()) -> None:
        """Wait until the journal has a measurement.

        Args:
            task: the measurement.
            ahead: measurements that may follow, the likely ones first.

        Raises:
            LstmEdgeError: that of the measurement.
            WorkerError: the measurement ended two workers, or workers cannot be started.
            InputError: the database cannot be used.
        """
        likely = iter(ahead)
        self._look()
        while not self._settle(task):
            self._dispatch(task, likely)
            self._wait()
            self._look()

    def sha256_of(self, task: Task) -> str | None:
        """Return the SHA-256 of the file that was measured, None if an earlier run of this search measured it."""
        file = self._outcomes.get(key_of(task), {}).get("file")
        return None if file is None else str(file["sha256"])

    def _settle(self, task: Task) -> bool:
        """Return whether a measurement was made, and record it in the journal.

        Raises:
            LstmEdgeError: the file could not be built, or not be evaluated.
        """
        outcome = self._outcomes.get(key_of(task))
        if outcome is not None:
            if "error" in outcome and ("file" not in outcome or outcome["file"]["bytes"] < task.below):
                raise error_of(outcome)
            self._record(task, outcome)
        return self._is_made(task)

    def _is_made(self, task: Task) -> bool:
        outcome = self._outcomes.get(key_of(task), {})
        if "error" in outcome and "file" not in outcome:
            return True
        file = outcome.get("file") or self._journal.get(kind_of("file", task.plain), task.parts)
        if file is None:
            return False
        if "error" in outcome or outcome.get("verdict") or file["bytes"] >= task.below:
            return True
        return self._journal.get(kind_of(task.role, task.plain), task.parts) is not None

    def _record(self, task: Task, outcome: Outcome) -> None:
        for what, values in (("file", outcome.get("file")), (task.role, outcome.get("verdict"))):
            kind = kind_of(what, task.plain)
            if values is not None and self._journal.get(kind, task.parts) is None:
                known = {name: value for name, value in values.items() if name != "sha256"}
                self._journal.put(kind, task.parts, known)

    def _look(self) -> None:
        """Read what other processes made."""
        if self._shared is not None and time.monotonic() - self._looked_at >= POLL_S:
            others = self._shared.refresh()
            self.read += len(others.keys() - self._outcomes.keys())
            self._outcomes |= others
            self._looked_at = time.monotonic()

    def _dispatch(self, wanted: Task | None, ahead: Iterable[Task]) -> None:
        """Give each idle worker the next measurement."""
        self._backlog = [task for task in self._backlog if not self._is_made(task)]
        for worker in self._workers:
            # A worker that starts again would block this process until it reads what the others rounded.
            if worker.task is not None or not (worker.is_ready or not self._roundings.known):
                continue
            given = [] if wanted is None else [wanted]
            task = next(filter(self._take, itertools.chain(given, self._backlog, ahead)), None)
            if task is None:
                return
            worker.begin(task, self._roundings)
            self._tell()

    def _take(self, task: Task) -> bool:
        """Return whether a measurement is to be made here, and claim it."""
        if self._is_made(task) or any(w.task is not None and w.task.key == task.key for w in self._workers):
            return False
        return self._shared is None or self._shared.claim(task)

    def _wait(self) -> None:
        """Wait for a message of a worker, or with a database until it is time to look there."""
        by_connection: dict[Any, WorkerProcess] = {worker.connection: worker for worker in self._workers}
        for connection in wait(list(by_connection), None if self._shared is None else POLL_S):
            worker = by_connection[connection]
            try:
                message = worker.connection.recv()
            except (EOFError, OSError):
                self._replace(worker)
            else:
                self._hear(worker, message)
            self._tell()

    def _hear(self, worker: WorkerProcess, message: tuple[Any, ...]) -> None:
        if message[0] == READY:
            worker.is_ready, self._failed_starts = True, 0
            return
        task, worker.task = worker.task, None
        assert task is not None
        if message[0] == FAILED:
            raise WorkerError(f"a worker failed while it evaluated {task}: {message[1]}")
        assert message[0] == DONE
        _, outcome, roundings = message
        self._roundings.learn(roundings)
        worker.knows.update(key for key, _ in roundings)
        self._outcomes[key_of(task)] = outcome
        self.made += 1
        self._record(task, outcome)
        if self._shared is not None:
            self._shared.finish(task, outcome)

    def _replace(self, worker: WorkerProcess) -> None:
        """Start a worker in place of one that died.

        Raises:
            WorkerError: its measurement has ended two workers, or it is the second that died before it was ready.
        """
        task, how = worker.task, worker.how_it_ended()
        worker.end()
        if not worker.is_ready:
            self._failed_starts += 1
            if self._failed_starts >= MOST_DEATHS:
                raise WorkerError(f"worker processes end before they are ready ({how})")
        elif task is not None:
            self._deaths[task.key] = self._deaths.get(task.key, 0) + 1
            if self._deaths[task.key] >= MOST_DEATHS:
                raise WorkerError(
                    f"the evaluation of {task} ended {MOST_DEATHS} worker processes (the last: {how}). If it was for "
                    "lack of memory, give fewer --workers or less data; the search continues with --resume"
                )
        doing = "" if task is None else f" while it evaluated {task}; that evaluation is made again"
        self._say(f"worker {worker.number} (process {worker.pid}) ended ({how}){doing}")
        self._workers[self._workers.index(worker)] = WorkerProcess(worker.number, self._setup.fileno())

    def _tell(self) -> None:
        if self._on_workers is not None:
            self._on_workers([worker.activity for worker in self._workers])
