"""Streams of every kind for a long time, beside garbage collection, allocation noise and threads; `make test-soak`.

    python tests/soak/soak.py [--seconds 600] [--threads 4]

Threads push pieces through long-lived streams that share sessions, drop streams and make new ones, save and restore
states, open sessions and close them. After each cycle a stream's answers must have the bits that a fresh process with
one thread and no noise gave. The resident memory must be flat. Prints a line of counts; exit 1 when either fails.
"""

import argparse
import ctypes
import gc
import hashlib
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "device"), str(ROOT / "runtime")]

from streamed import MODELS, STREAMED, AllocationNoise, answer_bytes, pieces  # noqa: E402

from lstm_edge_runtime.session import Session  # noqa: E402

Key = tuple[str, str, int, int]  # model, kernels, batch size, seed of the input

BATCHES, SEEDS = (1, 3), (0, 1)
KEYS: list[Key] = [
    (name, kernels, batch, seed)
    for name in STREAMED
    for kernels in ("auto", "off")
    for batch in BATCHES
    for seed in SEEDS
]
# Pieces of one cycle.
PIECES = 120
# The share of the time after which the memory must be flat: by then every session, stream and plan was made.
WARM_UP = 0.25
# What the resident memory may grow by from there on. Sessions that are opened and closed leave some 40 bytes each in
# onnxruntime itself, and the threads' allocator arenas settle slowly: 0.6 and 1.6 MB were seen in runs of ten minutes.
# A leak of 8 bytes a push would be 18 MB or more.
MOST_GROWTH_BYTES = 2 * 2**20


def digest_of_cycle(stream, session, key: Key, noise=lambda: None) -> str:
    """Reset the stream, push a cycle and return the SHA-256 of all answers and of the last state."""
    _name, _kernels, batch, seed = key
    digest = hashlib.sha256()
    stream.reset()
    for number, piece in enumerate(pieces(session, batch, PIECES, seed)):
        noise()
        digest.update(answer_bytes(stream.push(piece)))
        if number == PIECES // 2:
            stream.state, _kept = stream.state, noise()
    digest.update(answer_bytes(dict(stream.state)))
    return digest.hexdigest()


def references() -> dict[str, str]:
    """The digest of each key's cycle; meant for a process that does nothing else."""
    found = {}
    for key in KEYS:
        session = Session(MODELS / f"{key[0]}.onnx", kernels=key[1])
        found[json.dumps(key)] = digest_of_cycle(session.stream(key[2]), session, key)
    return found


class Soak:
    """Workers, what they share, and what they counted."""

    def __init__(self, expected: dict[str, str]) -> None:
        self.expected = expected
        self.sessions = {(n, k): Session(MODELS / f"{n}.onnx", kernels=k) for n in STREAMED for k in ("auto", "off")}
        self.cycles, self.faults = 0, []
        self.lock, self.stop = threading.Lock(), threading.Event()
        self.idle = threading.Semaphore(0)
        self.go = threading.Event()
        self.go.set()

    def work(self, seed: int) -> None:
        rng, streams, noise = np.random.default_rng(seed), {}, AllocationNoise(seed)

        def disturb() -> None:
            if rng.random() < 0.02:
                noise.make()

        while not self.stop.is_set():
            if not self.go.is_set():  # the memory is being measured
                self.idle.release()
                self.go.wait()
            key = KEYS[rng.integers(len(KEYS))]
            chance = rng.random()
            session = self.sessions[key[:2]]
            if chance < 0.05:
                session = Session(MODELS / f"{key[0]}.onnx", kernels=key[1])
                stream = session.stream(key[2])
            elif chance < 0.15 or key[:3] not in streams:
                stream = streams[key[:3]] = session.stream(key[2])
            else:
                stream = streams[key[:3]]
            try:
                good = digest_of_cycle(stream, session, key, disturb) == self.expected[json.dumps(key)]
                fault = None if good else f"{key}: other bits than in a fresh process"
            except Exception as error:
                fault = f"{key}: {type(error).__name__}: {error}"
            with self.lock:
                self.cycles += 1
                self.faults += [] if fault is None else [fault]

    def measure(self, threads: int) -> int:
        """Resident bytes while all workers wait between two cycles, after what is free was given back."""
        self.go.clear()
        for _ in range(threads):
            self.idle.acquire()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        resident = resident_bytes()
        self.go.set()
        return resident


def resident_bytes() -> int:
    """VmRSS of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def main() -> int:
    """Parse the options, run, print."""
    parser = argparse.ArgumentParser(description="streams of every kind for a long time, beside noise and threads")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (default 600)")
    parser.add_argument("--threads", type=int, default=4, help="workers (default 4)")
    parser.add_argument("--reference", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reference:
        print(json.dumps(references()))
        return 0
    command = [sys.executable, __file__, "--reference"]
    soak = Soak(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    workers = [threading.Thread(target=soak.work, args=(seed,)) for seed in range(options.threads)]
    for worker in workers:
        worker.start()
    start, memory = time.monotonic(), []
    for share in (WARM_UP, 0.5, 0.75, 1.0):
        soak.stop.wait(max(0.0, start + share * options.seconds - time.monotonic()))
        memory.append(soak.measure(options.threads))
        print(
            f"{time.monotonic() - start:5.0f} s: {soak.cycles * PIECES:,} pushes, {len(soak.faults)} faults, "
            f"{memory[-1] / 2**20:.1f} MiB resident",
            flush=True,
        )
    soak.stop.set()
    for worker in workers:
        worker.join()
    growth = max(memory) - memory[0]
    for fault in soak.faults[:20]:
        print(f"  {fault}")
    print(
        f"soak: {soak.cycles:,} cycles of {PIECES} pushes over {len(KEYS)} kinds with {options.threads} threads; "
        f"faults: {len(soak.faults)}; memory grew by {growth / 2**20:.2f} MiB (at most {MOST_GROWTH_BYTES / 2**20:.0f})"
    )
    return 1 if soak.faults or growth > MOST_GROWTH_BYTES or not soak.cycles else 0


if __name__ == "__main__":
    sys.exit(main())
