"""A pool of 500 streams for millions of pushes, with joins and leaves; ``make test-pool-soak``.

    python tests/soak/pool_soak.py [--pushes 5000000] [--streams 500] [--c]

With ``--c`` it is a pool of the C library, which is built if needed; the twins are Python's. Each call pushes some of
the streams (a call with 500 rows counts as 500 pushes), streams leave and others join, one in a hundred pieces is
refused. Some streams have a twin, a ``Stream`` that gets the same pieces, whose answers must have the same bits. The
resident memory must be flat after the first quarter. Exit 1 when either fails.
"""

import argparse
import ctypes
import gc
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "device"), str(ROOT / "runtime")]

from streamed import MODELS  # noqa: E402

from lstm_edge_runtime.pool_answers import Answers  # noqa: E402
from lstm_edge_runtime.session import Session  # noqa: E402

MOST_GROWTH_BYTES = 1_000_000
TWINS = 5
FRAMES = 64


class PoolOfC:
    """A pool of the C library with what is used here of Python's."""

    def __init__(self, model: Path, streams: int) -> None:
        from support.c_build import build_library, find_onnxruntime
        from support.c_library import Library
        from support.c_pool import CPool

        library = Library(build_library() / "liblstm_edge.so", find_onnxruntime())
        self.pool, self.ids = CPool(library.open(model), streams), []

    def attach(self) -> int:
        """Add a stream."""
        self.ids.append(self.pool.attach())
        return self.ids[-1]

    def detach(self, number: int) -> None:
        """Remove a stream."""
        self.pool.detach(number)
        self.ids.remove(number)

    def push(self, pieces: dict) -> Answers:
        """Push pieces."""
        pushed, answers = self.pool.push(pieces), Answers()
        answers.update(pushed.answers)
        answers.refused = pushed.refused
        return answers


class PoolSoak:
    """The pool, the twins of some of its streams, and what was counted."""

    def __init__(self, streams: int, *, c: bool) -> None:
        model = MODELS / "exported_int8.onnx"
        self.session = Session(model)
        self.pool = PoolOfC(model, streams) if c else self.session.pool(capacity=streams)
        self.rng = np.random.default_rng(0)
        self.size = int(self.session.inputs[0].axes[-1])
        self.frames = self.rng.normal(size=(FRAMES, self.size)).astype(np.float32)
        self.twins, self.faults, self.pushes, self.refused, self.joins = {}, [], 0, 0, 0
        for _ in range(streams):
            self.join()

    def join(self) -> None:
        """Attach a stream; it gets a twin where one is missing."""
        number = self.pool.attach()
        self.joins += 1
        if len(self.twins) < TWINS:
            self.twins[number] = self.session.stream()

    def turn(self) -> None:
        """A few leave, as many join, then some or all are pushed."""
        rng = self.rng
        ids = np.array(self.pool.ids)
        for number in rng.choice(ids, rng.integers(0, 4), replace=False).tolist():
            self.pool.detach(number)
            self.twins.pop(number, None)
            self.join()
        ids = np.array(self.pool.ids)
        if rng.random() < 0.5:
            ids = rng.permutation(ids)[: rng.integers(1, len(ids) + 1)]
        chosen = rng.integers(0, FRAMES, len(ids))
        pieces = dict(zip(ids.tolist(), self.frames[chosen], strict=True))
        if rng.random() < 0.2:
            bad = int(ids[0])
            pieces[bad] = np.full(self.size, np.nan, np.float32)
        got = self.pool.push(pieces)
        self.pushes += len(got)
        self.refused += len(got.refused)
        for number, twin in self.twins.items():
            if number in got and got[number].tobytes() != twin.push(pieces[number]).tobytes():
                self.faults.append(f"stream {number} at step {twin.steps}: other bits than alone")


def resident_bytes() -> int:
    """VmRSS of this process, after what is free was given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def main() -> int:
    """Parse the options, run, print."""
    parser = argparse.ArgumentParser(description="a pool of many streams for millions of pushes, with joins and leaves")
    parser.add_argument("--pushes", type=int, default=5_000_000, help="how many (default 5,000,000)")
    parser.add_argument("--streams", type=int, default=500, help="how many live streams (default 500)")
    parser.add_argument("--c", action="store_true", help="a pool of the C library")
    options = parser.parse_args()
    soak, memory, start = PoolSoak(options.streams, c=options.c), [], time.monotonic()
    for share in (0.25, 0.5, 0.75, 1.0):
        while soak.pushes < share * options.pushes:
            soak.turn()
        memory.append(resident_bytes())
        print(
            f"{time.monotonic() - start:5.0f} s: {soak.pushes:,} pushes, {len(soak.faults)} faults, "
            f"{memory[-1] / 2**20:.1f} MiB resident",
            flush=True,
        )
    growth = max(memory) - memory[0]
    for fault in soak.faults[:20]:
        print(f"  {fault}")
    print(
        f"pool soak: {soak.pushes:,} pushes over {options.streams} streams, {soak.joins:,} joins, {soak.refused:,} "
        f"refused; faults: {len(soak.faults)}; memory grew by {growth:,} bytes (at most {MOST_GROWTH_BYTES:,})"
    )
    return 1 if soak.faults or growth > MOST_GROWTH_BYTES or not soak.refused else 0


if __name__ == "__main__":
    sys.exit(main())
