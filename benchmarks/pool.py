"""``make bench-pool``: how many live streams one core keeps up with, and what a stream of a pool costs.

Two LSTM layers, a frame of each stream every 10 ms, one thread, int8 unless a column says float32. "Streams" is the
largest number whose frames of one tick take 10 ms: pushed one by one to a ``Stream`` each, pushed together to a
``Pool``, from Python and from C (whose clock is read in C), or as one call of onnxruntime with its own float32 LSTM on
buffers that are bound (frames and states are not copied, nothing is checked). Another way to run the streams is one
more entry of ``WAYS``.

The other tables have the cost of a stream at 64 live streams, from Python and from C. The exit code is 1 if a limit is
missed.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import c_driver  # noqa: E402
import kernel_models as models  # noqa: E402
from kernel_calls import medians, print_table  # noqa: E402

from lstm_edge import export, quantize  # noqa: E402
from lstm_edge.layers import LSTM  # noqa: E402
from lstm_edge_runtime.bindings import Runner  # noqa: E402
from lstm_edge_runtime.session import Session  # noqa: E402

FRAME_SECONDS = 0.01
LIVE = 64
C_WAYS = ("one stream each, C", "pool, C")
# Largest accepted ratio of a pool's cost for a stream to that of a single push, by size, and what is aimed at.
LIMITS = {(128, 256): 0.25}
GOALS = {(64, 128): 0.15}

Tick = Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class Model:
    """A file and its open session."""

    path: Path
    session: Session


# The median time of a tick of a number of streams in seconds, from ticks for about so many seconds.
Way = Callable[[Model, int, float], float]


def make_files(folder: Path, inputs: int, hidden: int) -> dict[str, Path]:
    """Export a seeded model; return the paths of its float32 and int8 files."""
    torch.manual_seed(0)
    paths = {form: folder / f"lstm{hidden}.{form}.onnx" for form in ("float32", "int8")}
    export(LSTM(inputs, hidden, models.LAYERS).eval(), torch.randn(5, 2, inputs), paths["float32"])
    quantize(paths["float32"], paths["int8"])
    return paths


def frames_of(session: Session, streams: int) -> list[np.ndarray[Any, Any]]:
    """Return a frame for each stream."""
    size = int(session.inputs[0].axes[-1])
    return list(np.random.default_rng(0).standard_normal((streams, size)).astype(np.float32))


def pooled(session: Session, streams: int) -> Tick:
    """Return a push of all streams of a pool."""
    pool = session.pool(capacity=streams)
    pieces = {pool.attach(): frame for frame in frames_of(session, streams)}
    return lambda: pool.push(pieces)


def one_by_one(session: Session, streams: int) -> Tick:
    """Return a push to each of many streams."""
    pairs = [(session.stream().push, frame) for frame in frames_of(session, streams)]

    def tick() -> None:
        for push, frame in pairs:
            push(frame)

    return tick


def bare_batch(session: Session, streams: int) -> Tick:
    """Return a call of onnxruntime alone for all streams; the states go from one buffer to the other and back."""
    x = np.stack(frames_of(session, streams))[None]
    output = np.zeros((1, streams, *map(int, session.outputs[0].axes[2:])), np.float32)
    blocks = [dict(session.initial_state(streams).to_arrays()) for _ in range(2)]
    runner, calls = Runner(session.onnxruntime_session), []
    for old, new in (blocks, blocks[::-1]):
        outputs = {spec.output: new[spec.input] for spec in session.states}
        calls.append(runner.bind({session.inputs[0].name: x, **old}, {session.outputs[0].name: output, **outputs}))

    def tick() -> None:
        calls.reverse()
        runner.run(calls[0].handle, runner.options)

    return tick


def median_seconds(tick: Tick, least: int = 5, seconds: float = 0.4) -> float:
    """Return the median time of a tick."""
    times: list[float] = []
    for _ in range(2):
        tick()
    while len(times) < least or sum(times) < seconds:
        start = time.perf_counter()
        tick()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def in_python(make: Callable[[Session, int], Tick]) -> Way:
    """Return the way that times what ``make`` returns."""
    return lambda model, streams, seconds: median_seconds(make(model.session, streams), seconds=seconds)


def from_c(*, pooled: bool) -> Way:
    """Return the way that pushes to a pool, or to a stream each, of the C library."""

    def median(model: Model, streams: int, seconds: float) -> float:
        frames = np.stack(frames_of(model.session, streams))
        opened = c_driver.Streams(c_driver.build_steps(), model.path, frames, pooled=pooled)
        once = opened.tick_us(3, 3)  # the third push of a pool has its last plan
        found = opened.tick_us(2, max(5, round(seconds * 1e6 / once)))
        opened.close()
        return found / 1e6

    return median


# Column -> the file that it runs, and how a tick is timed.
WAYS: dict[str, tuple[str, Way]] = {
    "one Stream each": ("int8", in_python(one_by_one)),
    "Pool": ("int8", in_python(pooled)),
    "one stream each, C": ("int8", from_c(pooled=False)),
    "pool, C": ("int8", from_c(pooled=True)),
    "Pool, float32": ("float32", in_python(pooled)),
    "onnxruntime's batch, float32": ("float32", in_python(bare_batch)),
}


def most_streams(way: Way, model: Model, seconds: float) -> int:
    """Return how many streams take one frame's time, from ticks of about as many."""
    streams = 32
    for _ in range(4):
        took = way(model, streams, seconds)
        streams = max(1, int(streams * FRAME_SECONDS / took))
    return streams


def main() -> None:
    """Measure, print, and exit with a code that says whether the limits hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the smallest size and few ticks, to try that it runs")
    parser.add_argument("--no-c", action="store_true", help="leave out what needs the C library and a compiler")
    options = parser.parse_args()
    quick, ways = options.quick, {name: way for name, way in WAYS.items() if not (options.no_c and name in C_WAYS)}
    sizes, rounds, seconds = (models.SIZES[:1], 3, 0.01) if quick else (models.SIZES, 40, 0.4)
    print(f"{models.machine()}; {models.LAYERS} LSTM layers, a frame every 10 ms, 1 thread; medians")
    counts, costs, costs_c, missed = [], [], [], []
    for size in sizes:
        inputs, hidden = size
        with tempfile.TemporaryDirectory(prefix="lstm-edge-bench-") as folder:
            paths = make_files(Path(folder), inputs, hidden)
            opened = {form: Model(path=path, session=Session(path)) for form, path in paths.items()}
            found = {name: most_streams(way, opened[form], seconds) for name, (form, way) in ways.items()}
            counts.append((f"({inputs}, {hidden})", *(f"{streams:,}" for streams in found.values())))
            session = opened["int8"].session
            stream, frame = session.stream(), frames_of(session, 1)[0]
            calls = {"push": lambda: stream.push(frame), "pool": pooled(session, LIVE)}  # noqa: B023  # used in this turn
            times = medians(calls, rounds)
            from_each = [ways[name][1](opened["int8"], LIVE, seconds) * 1e6 / LIVE for name in C_WAYS if name in ways]
        ratio = times["pool"] / LIVE / times["push"]
        limit, goal = LIMITS.get(size), GOALS.get(size)
        if limit is not None and ratio > limit:
            missed.append(f"({inputs}, {hidden}): {ratio:.2f}")
        bounds = [
            "" if bound is None else f"{bound:.2f}{' MISSED' if ratio > bound else ''}" for bound in (limit, goal)
        ]
        costs.append(
            (f"({inputs}, {hidden})", f"{times['push']:.1f}", f"{times['pool'] / LIVE:.2f}", f"{ratio:.2f}", *bounds)
        )
        if from_each:
            single, shared = from_each
            costs_c.append((f"({inputs}, {hidden})", f"{single:.1f}", f"{shared:.2f}", f"{shared / single:.2f}"))
    print_table("Streams that one core keeps up with, 10 ms frames", ("I, H", *ways), counts)
    columns = ("I, H", "push of a Stream, µs", "Pool, µs a stream", "ratio", "at most", "goal")
    print_table(f"Cost of a stream, {LIVE} live streams, int8", columns, costs)
    if costs_c:
        columns = ("I, H", "push of a stream, µs", "pool, µs a stream", "ratio")
        print_table(f"The same from C, {LIVE} live streams, int8", columns, costs_c)
    print("\nlimits missed: " + "; ".join(missed) if missed else "\nlimits: all held")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
