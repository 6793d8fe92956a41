"""Runs a check on case after case in forked children with little memory and time, so that a fault ends one case only.

A check returns a short verdict ("accepted", "refused") or raises. These are faults: a signal, a hang of more than
``SECONDS_A_CASE`` (or six times that on the clock, which other processes slow down), more than ``MEMORY_BYTES`` of
memory, an exception that the check lets through, and a verdict that starts with "fault: ".
"""

import contextlib
import itertools
import json
import os
import resource
import signal
import struct
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["MEMORY_BYTES", "SECONDS_A_CASE", "Tally", "run_cases"]

# What a case may take: bytes of address space beyond the parent's, and seconds of processor time.
MEMORY_BYTES = 1536 * 2**20
SECONDS_A_CASE = 10
# A case that waits for something takes no processor time; one that shares two cores with five others takes its time.
_SECONDS_ON_THE_CLOCK = 60
# Cases that one child runs before a new one is forked: a leak of many small cases is not one case's fault.
_CASES_A_CHILD = 200
_HEADER = struct.Struct("<I")


@dataclass
class Tally:
    """What a fuzzer saw: how many cases gave each verdict, and the faults with what it takes to make them again."""

    verdicts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    @property
    def cases(self) -> int:
        """The number of cases that were run."""
        return self.verdicts.total()

    def add(self, label: str, verdict: str) -> None:
        """Count one case; ``label`` must be enough to make the case again (seed and number, or hex digits)."""
        fault = verdict.startswith("fault: ")
        self.verdicts["fault" if fault else verdict] += 1
        if fault:
            self.faults.append(f"{label}: {verdict}")


def run_cases(
    check: Callable[[Any], str], cases: Iterable[tuple[str, Any]], *, until: float, tally: Tally, least: int = 0
) -> None:
    """Run ``check(case)`` on each labelled case and count the verdicts.

    Args:
        check: returns a verdict; whatever it raises is a fault.
        cases: pairs of a label and a case; may be endless.
        until: when to stop, in ``time.monotonic()``'s seconds, once ``least`` cases were run.
        tally: where the verdicts are counted.
        least: cases to run at least, however long that takes.
    """
    pending: Iterator[tuple[str, Any]] = iter(cases)
    while time.monotonic() < until or tally.cases < least:
        batch = list(itertools.islice(pending, _CASES_A_CHILD))
        if not batch:
            return
        while batch:
            done = _run_in_child(check, batch, until if tally.cases >= least else float("inf"))
            for (label, _case), verdict in zip(batch, done, strict=False):
                tally.add(label, verdict)
            if not done:  # the time is over
                return
            batch = batch[len(done) :]


def _run_in_child(check: Callable[[Any], str], batch: list[tuple[str, Any]], until: float) -> list[str]:
    """Return the verdicts of the first cases of the batch: all, or those up to the one that ended the child."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        code = 1
        with contextlib.suppress(BaseException):
            _limit()
            for _label, case in batch:
                if time.monotonic() >= until:
                    break
                signal.setitimer(signal.ITIMER_PROF, SECONDS_A_CASE)
                signal.alarm(_SECONDS_ON_THE_CLOCK)
                verdict = _verdict(check, case)
                signal.alarm(0)
                signal.setitimer(signal.ITIMER_PROF, 0)
                text = json.dumps(verdict).encode()
                os.write(writer, _HEADER.pack(len(text)) + text)
            code = 0
        os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    status, usage = os.wait4(child, 0)[1:]
    verdicts, at = [], 0
    while at + _HEADER.size <= len(data):
        (size,) = _HEADER.unpack_from(data, at)
        verdicts.append(json.loads(data[at + _HEADER.size : at + _HEADER.size + size]))
        at += _HEADER.size + size
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGPROF:
        verdicts.append(f"fault: no answer within {SECONDS_A_CASE} s of processor time")
    elif code == -signal.SIGALRM:
        verdicts.append(f"fault: no answer within {_SECONDS_ON_THE_CLOCK} s")
    elif code < 0:
        verdicts.append(f"fault: ended by {signal.Signals(-code).name}")
    elif code > 0:  # a sanitizer's report, or a verdict that could not be written; else taken for the end of the time
        verdicts.append(f"fault: ended with exit code {code}")
    if verdicts and usage.ru_maxrss * 1024 > MEMORY_BYTES + _resident_bytes():
        verdicts[-1] = f"fault: up to here {usage.ru_maxrss // 1024} MiB were resident"
    return verdicts


def _verdict(check: Callable[[Any], str], case: Any) -> str:
    try:
        return check(case)
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"fault: {type(error).__module__}.{type(error).__name__} at {where.name}:{where.lineno}: {error}"[:400]


def _limit() -> None:
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
