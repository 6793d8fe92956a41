"""A worker process and the pipe to it; a worker that crashes, or does not answer in time, becomes a reason."""

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from given import RefusedError, first_line

__all__ = ["WORKER", "Worker"]

WORKER = Path(__file__).resolve().parent / "worker.py"
# One thread, wherever a library reads it from; caches of compiled code stay with the peer's files.
QUIET = {
    "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3",
    "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1", "OV_TELEMETRY_DISABLE": "1",
}  # fmt: skip


class Worker:
    """One process that waits for orders: ``ask`` sends one and returns its answer."""

    def __init__(self, command: Sequence[str], log: Path, variables: Mapping[str, str] | None = None) -> None:
        """Start the process in a new process group.

        Args:
            command: the program and its arguments.
            log: the file for what it prints to standard error.
            variables: further environment variables.
        """
        self.log = log
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | QUIET | dict(variables or {}),
                start_new_session=True,
            )
        self.rest = b""

    def ask(self, order: str, *, limit_s: float, **values: Any) -> dict[str, Any]:
        """Send an order and wait for its answer.

        Raises:
            RefusedError: the worker says why it cannot, ends, or does not answer within ``limit_s`` seconds; in the
                last case it is stopped.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"do": order, **values}).encode() + b"\n")
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError) as error:
            raise RefusedError(self._ended(order)) from error
        answer: dict[str, Any] = json.loads(self._line(order, limit_s))
        if "failed" in answer:
            raise RefusedError(answer["failed"])
        return answer

    def _line(self, order: str, limit_s: float) -> bytes:
        assert self.process.stdout is not None
        pipe, deadline = self.process.stdout.fileno(), time.monotonic() + limit_s
        while b"\n" not in self.rest:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([pipe], [], [], left)[0]:
                self.stop()
                raise RefusedError(f"stopped: no answer to {order!r} within {limit_s:g} s")
            piece = os.read(pipe, 65536)
            if not piece:
                raise RefusedError(self._ended(order))
            self.rest += piece
        line, _, self.rest = self.rest.partition(b"\n")
        return line

    def _ended(self, order: str) -> str:
        code = self.process.wait(timeout=10)
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        said = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return first_line(f"ended with {how} at {order!r}{': ' + said[-1].strip() if said else ''}")

    @property
    def running(self) -> bool:
        """Whether the process is running."""
        return self.process.poll() is None

    def stop(self) -> None:
        """End the process and everything that it started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=10)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
