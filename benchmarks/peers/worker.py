"""A process that runs one peer: reads one order per line from standard input and answers each with a line of JSON.

``python -I worker.py MODE FOLDER MODULE CASE PLACE``: ``convert`` or ``run``; the folder and the name of the peer's
file; the case's folder; the folder of the peer's models. A worker that runs imports the peer's library at once, so that
many can start at a time; from ``load`` on only one of them works. Standard output belongs to the protocol; whatever a
library prints goes to standard error. The orders are the functions ``on_...`` below; their keywords are the order's
other keys.
"""

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from given import Case, Step, first_line, frames_of

clock = time.perf_counter


def resident_mb() -> float:
    """Return the resident memory of this process in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


class Worker:
    """The state between two orders: the peer's module, and its open model."""

    def __init__(self, module: str, case: Path, place: Path) -> None:
        self.peer: Any = importlib.import_module(module)
        self.case = Case.read(case)
        self.place = place
        self.frames = getattr(self.peer, "frames_of", frames_of)(self.case)
        self.at = 0
        self.version = ""
        self.open: Step
        self.sequence: Any = None

    def on_convert(self, form: str) -> dict[str, Any]:
        """Make the peer's files of a form."""
        folder = self.place / form
        folder.mkdir(parents=True, exist_ok=True)
        return {"size_bytes": self.peer.convert(self.case, form, folder)}

    def on_load(self, form: str, cpu: int) -> dict[str, Any]:
        """Stay on one processor from here on; open the model for one frame and call it once."""
        os.sched_setaffinity(0, {cpu})
        before = resident_mb()
        start = clock()
        self.open = self.peer.open_step(self.case, form, self.place / form)
        load_ms = (clock() - start) * 1e3
        self.open.step(self.frames[0])
        now = resident_mb()
        return {"load_ms": load_ms, "resident_mb": now, "added_mb": now - before, "version": self.version}

    def on_sequence(self, form: str) -> dict[str, Any]:
        """Open the model for all frames, where the peer has one."""
        self.sequence = self.peer.open_sequence(self.case, form, self.place / form)
        return {"has": self.sequence is not None}

    def on_answers(self, target: str) -> dict[str, Any]:
        """Write the answers of single steps [T, ...], and those of the sequence if there is one, to a file."""
        self.open.reset()
        answers = {"steps": np.stack([np.array(self.open.step(frame)).reshape(-1) for frame in self.frames])}
        if self.sequence is not None:
            answers["sequence"] = np.array(self.sequence()).reshape(len(self.frames), -1)
        self.open.reset()
        np.savez(target, **answers)
        return {"inner": self.open.inner is not None}

    def on_turn(self, what: str, settling: int, calls: int) -> dict[str, Any]:
        """Time one turn; return the median of its counted calls in microseconds."""
        # A peer that is not Python reads the clock itself: a call from Python would cost it more than a small step.
        if what == "step" and hasattr(self.open, "step_us"):
            return {"us": self.open.step_us(settling, calls)}
        call = {"step": self.next_step, "inner": self.open.inner, "sequence": self.sequence or self.all_steps}[what]
        assert call is not None, what
        times = np.empty(calls)
        for _ in range(settling):
            call()
        for place in range(calls):
            start = clock()
            call()
            times[place] = clock() - start
        return {"us": float(np.median(times)) * 1e6}

    def next_step(self) -> None:
        """Push the next frame; the state is that of the frames before."""
        self.at = (self.at + 1) % len(self.frames)
        self.open.step(self.frames[self.at])

    def all_steps(self) -> None:
        """Push every frame once: what a peer without a model of whole sequences has to do."""
        for frame in self.frames:
            self.open.step(frame)


def main() -> None:
    """Answer orders until the input ends."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        channel.write(json.dumps(answer) + "\n")
        channel.flush()

    mode, folder, module, case, place = sys.argv[1:]
    sys.path.insert(0, folder)
    worker, reason = None, ""
    try:
        worker = Worker(module, Path(case), Path(place))
        if mode == "run":
            worker.version = worker.peer.runtime()
    except Exception as error:
        reason = first_line(error)
    for line in sys.stdin:
        order = json.loads(line)
        name = order.pop("do")
        try:
            say({"failed": reason} if reason else getattr(worker, f"on_{name}")(**order))
        except Exception as error:
            say({"failed": first_line(error)})


if __name__ == "__main__":
    main()
