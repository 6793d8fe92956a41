"""Timed calls and table rows of benchmarks/kernels.py."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kernel_models as models
import numpy as np

BATCH, STEPS = 16, 100
# Calls of a turn: first those that do not count, until the caches hold this model's weights, then those that count.
SETTLING, BURST = 10, 20

Call = Callable[[], Any]
quick = False


def be_quick() -> None:
    """Make turns of two calls from now on, to try that everything runs; the times then mean nothing."""
    global quick  # noqa: PLW0603  # one switch of a script
    quick = True


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: microseconds of both sides, the largest accepted ratio, its goal, and the reading time."""

    what: str
    size: str
    ours_us: float
    other_us: float
    limit: float | None = None
    goal: float | None = None
    reading_us: float | None = None

    @property
    def ratio(self) -> float:
        """Time of our side divided by that of the other side; below 1 ours is faster."""
        return self.ours_us / self.other_us

    @property
    def missed(self) -> bool:
        """Whether the ratio is above its limit."""
        return self.limit is not None and self.ratio > self.limit

    def cells(self) -> tuple[str, ...]:
        """Return the row as text."""
        limit = "" if self.limit is None else f"{self.limit:.2f}{' MISSED' if self.missed else ''}"
        goal = "" if self.goal is None else f"{self.goal:.2f}{' missed' if self.ratio > self.goal else ' met'}"
        reading = "" if self.reading_us is None else f"{self.reading_us:.1f}"
        return (
            self.what,
            self.size,
            f"{self.ours_us:.1f}",
            f"{self.other_us:.1f}",
            f"{self.ratio:.2f}",
            limit,
            goal,
            reading,
        )


def medians(
    calls: Mapping[str, Call], rounds: int, *, settling: int = SETTLING, burst: int = BURST
) -> dict[str, float]:
    """Give every call one turn per round, and return each call's median in microseconds.

    Args:
        calls: what is timed, by name.
        rounds: turns of each call.
        settling: first calls of a turn, which do not count. One is enough for a sequence: its steps settle the caches.
        burst: calls of a turn that count.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    settling, burst, rounds = (1, 1, 2) if quick else (settling, burst, rounds)
    for _ in range(rounds):
        for name, call in calls.items():
            for _ in range(settling):
                call()
            for _ in range(burst):
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) * 1e6 for name, values in times.items()}


def streaming(path: Path, inputs: int, batch: int = 1, kernels: str = "required") -> Call:
    """Return a push of one frame, with a state from 20 random frames."""
    from lstm_edge_runtime.session import Session

    rng = np.random.default_rng(1)
    stream = Session(path, kernels=kernels).stream(batch_size=batch)
    shape = (inputs,) if batch == 1 else (batch, inputs)
    for _ in range(20):
        stream.push(rng.standard_normal(shape).astype(np.float32))
    frame = rng.standard_normal(shape).astype(np.float32)
    return lambda: stream.push(frame)


def sequences(path: Path, inputs: int) -> Call:
    """Return a push of a chunk of STEPS steps."""
    from lstm_edge_runtime.session import Session

    stream = Session(path, kernels="required").stream()
    chunk = np.random.default_rng(1).standard_normal((STEPS, 1, inputs)).astype(np.float32)
    stream.push(chunk)
    return lambda: stream.push(chunk)


def bare_loop(path: Path, inputs: int, steps: int) -> Call:
    """Return one turn of a plain ``session.run`` loop that feeds the states back."""
    session = models.bare_session(path)
    names = [output.name for output in session.get_outputs()]
    rng = np.random.default_rng(1)
    feeds = {
        i.name: rng.standard_normal([1 if isinstance(n, str) else n for n in i.shape]).astype(np.float32) * 0.3
        for i in session.get_inputs()
    }
    first = session.get_inputs()[0].name
    feeds[first] = rng.standard_normal((steps, 1, inputs)).astype(np.float32)
    states = [(i, name.removesuffix("_out")) for i, name in enumerate(names) if name.endswith("_out")]

    def turn() -> None:
        answers = session.run(None, feeds)
        for index, state in states:
            feeds[state] = answers[index]

    return turn


def run_sequences(path: Path, inputs: int) -> Call:
    """Return a ``Session.run`` of STEPS steps that continues from the state of the run before it."""
    from lstm_edge_runtime.session import Session

    session = Session(path, kernels="required")
    rng = np.random.default_rng(1)
    feeds = {
        spec.name: 0.3 * rng.standard_normal([1 if isinstance(axis, str) else axis for axis in spec.axes]).astype("f")
        for spec in session.inputs
    }
    feeds[session.inputs[0].name] = rng.standard_normal((STEPS, 1, inputs)).astype(np.float32)
    return lambda: session.run(feeds)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table with aligned columns."""
    widths = [max(len(line[i]) for line in (columns, *rows)) for i in range(len(columns))]
    print(f"\n{title}\n")
    for line in (columns, ["-" * width for width in widths], *rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")
    sys.stdout.flush()
