"""``lstm-edge run --stream --metrics`` for millions of steps through a pipe; ``make test-metrics-soak``.

    python tests/soak/metrics_soak.py [--steps 5000000]

Of a thousand lines, 996 are frames, one is a chunk of three steps, one is not JSON, one has a wrong shape and one
resets the state. The metrics file must then have exact counts, each answer must have come, and the resident memory of
the command must be flat within 1 MB after the first tenth. Exit 1 when any of them fails.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "tests" / "device" / "models" / "exported_int8.onnx"
FEATURES = 6
MOST_GROWTH_BYTES = 1_000_000
# Steps, pushes and answers of a block of a thousand lines.
STEPS, PUSHES, ANSWERS = 999, 997, 999


def block() -> bytes:
    """Return a thousand lines; the first resets."""
    rng = np.random.default_rng(0)
    frames = [json.dumps(row) for row in rng.normal(size=(996, FEATURES)).round(4).tolist()]
    others = ['{"reset": true}', json.dumps(rng.normal(size=(1, 3, FEATURES)).round(4).tolist()), "[1, 2", "[1, 2]"]
    return "\n".join([others[0], *frames[:300], *others[1:], *frames[300:], ""]).encode()


def resident_bytes(process: int) -> int:
    """VmRSS of a process."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) * 1024


def counters(path: Path) -> dict[str, float]:
    """Return each metric of a file by its name and labels."""
    rows = (line.rsplit(" ", 1) for line in path.read_text().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in rows}


def feed(process: subprocess.Popen[bytes], blocks: int, memory: list[int]) -> None:
    """Write the blocks, and read the memory after each hundredth of them."""
    data, pipe = block(), process.stdin
    assert pipe is not None
    for number in range(blocks):
        pipe.write(data)
        if number % max(1, blocks // 100) == 0:
            memory.append(resident_bytes(process.pid))
            if number % max(1, blocks // 10) == 0:
                print(f"{number * STEPS:,} steps: {memory[-1] / 2**20:.2f} MiB resident", flush=True)
    pipe.close()


def main() -> int:
    """Parse the options, run, print."""
    parser = argparse.ArgumentParser(description="a watched stream through a pipe for millions of steps")
    parser.add_argument("--steps", type=int, default=5_000_000, help="how many at least (default 5,000,000)")
    blocks = -(-parser.parse_args().steps // STEPS)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in ("", "exporters", "runtime"))
    }
    with tempfile.TemporaryDirectory(prefix="lstm-edge-soak-") as folder:
        path, start, memory = Path(folder) / "soak.prom", time.monotonic(), []
        command = [sys.executable, "-c", "from lstm_edge.cli import main; main()", "run", str(MODEL), "--stream"]
        command += ["--on-bad-line", "skip", "--metrics", str(path)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        writer = threading.Thread(target=feed, args=(process, blocks, memory))
        writer.start()
        assert process.stdout is not None
        answers = sum(part.count(b"\n") for part in iter(lambda: process.stdout.read1(2**16), b""))
        writer.join()
        code, found = process.wait(), counters(path)
    expected = {
        "lstm_edge_pushes_total": blocks * PUSHES,
        "lstm_edge_steps_total": blocks * STEPS,
        'lstm_edge_refusals_total{reason="line"}': blocks,
        'lstm_edge_refusals_total{reason="shape"}': blocks,
        "lstm_edge_push_seconds_count": blocks * PUSHES // 100,
        "lstm_edge_metrics_write_errors_total": 0,
    }
    faults = [
        f"{name} is {found.get(name)}, expected {value}" for name, value in expected.items() if found[name] != value
    ]
    if answers != blocks * ANSWERS or code:
        faults.append(f"{answers:,} answers and exit code {code}, expected {blocks * ANSWERS:,} and 0")
    others = {name: value for name, value in found.items() if "refusals" in name and name not in expected and value}
    faults += [f"{name} is {value}, expected 0" for name, value in others.items()]
    settled = memory[len(memory) // 10 :]
    growth = max(settled) - min(settled)
    for fault in faults:
        print(f"  {fault}")
    print(
        f"metrics soak: {blocks * STEPS:,} steps in {time.monotonic() - start:.0f} s; faults: {len(faults)}; resident "
        f"memory {settled[-1] / 2**20:.1f} MiB, within {growth:,} bytes (at most {MOST_GROWTH_BYTES:,})"
    )
    return 1 if faults or growth > MOST_GROWTH_BYTES else 0


if __name__ == "__main__":
    sys.exit(main())
