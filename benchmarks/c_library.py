"""``make bench-c``: a push from C beside one from Python and onnxruntime alone, and the way to a first answer.

int8, two LSTM layers, batch 1, one thread, the state not zero. The three take turns in one process; C's clock is read
in C. "onnxruntime alone" runs the same graph with the same kernels on bound buffers: what nothing around it can beat.
The last table has new processes, in turns: from the file on the disk to the first answer. Then lstm-edge-device pushes
a million frames. The exit code is 1 if a limit is missed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import c_driver  # noqa: E402
import kernel_models as models  # noqa: E402
from kernel_calls import BURST, SETTLING, medians, print_table, streaming  # noqa: E402

from lstm_edge import export, quantize  # noqa: E402
from lstm_edge.layers import LSTM  # noqa: E402
from lstm_edge_runtime.fresh_python import python_command  # noqa: E402
from lstm_edge_runtime.session import Session  # noqa: E402

PACKAGES = ("lstm_edge", "lstm_edge_exporters", "lstm_edge_runtime")

# Largest accepted ratios of a push from C to one from Python, by size, and what is aimed at.
LIMITS, GOALS = {(64, 128): 0.75, (512, 1024): 1.0}, {(64, 128): 0.6}
FIRST_LIMIT = 1.2  # of the time to the first answer


def make_file(folder: Path, inputs: int, hidden: int) -> Path:
    """Export a seeded model and return the path of its int8 file."""
    torch.manual_seed(0)
    plain, int8 = folder / f"lstm{hidden}.onnx", folder / f"lstm{hidden}.int8.onnx"
    export(LSTM(inputs, hidden, models.LAYERS).eval(), torch.randn(5, 2, inputs), plain)
    quantize(plain, int8)
    return int8


def push_times(library: Path, path: Path, size: tuple[int, int], rounds: int) -> dict[str, float]:
    """Return medians in microseconds of turns of the three ways, after the same answers from both libraries."""
    inputs, hidden = size
    frames = np.random.default_rng(1).standard_normal((20, inputs)).astype(np.float32)
    steps, other = c_driver.Steps(library, path, frames[0], hidden), Session(path, kernels="required").stream()
    for frame in frames:
        if steps.answer(frame).tobytes() != other.push(frame).tobytes():
            raise AssertionError("C and Python give different bits")
    push, found = streaming(path, inputs), []
    for _ in range(rounds):
        turn = {"Python": medians({"push": push}, 1)["push"]}
        turn["C"] = steps.push_us(SETTLING, BURST)
        turn["alone"] = steps.bare_us(SETTLING, BURST)
        found.append(turn)
    steps.close()
    return {key: float(np.median([turn[key] for turn in found])) for key in ("Python", "C", "alone")}


def pushes(library: Path, files: dict[tuple[int, int], Path], rounds: int) -> list[str]:
    """Print the table of pushes; return the limits that are missed."""
    rows, missed = [], []
    for size, path in files.items():
        times = push_times(library, path, size, rounds)
        ratio = times["C"] / times["Python"]
        limit, goal = LIMITS.get(size), GOALS.get(size)
        over = limit is not None and ratio > limit
        missed += [f"push at {size}: {ratio:.2f}"] if over else []
        cells = [f"{times[key]:.2f}" for key in ("Python", "C", "alone")]
        limit_text = "" if limit is None else f"{limit:.2f}{' MISSED' if over else ''}"
        goal_text = "" if goal is None else f"{goal:.2f}{' missed' if ratio > goal else ' met'}"
        alone = times["alone"] / times["Python"]
        rows.append((str(size), *cells, f"{ratio:.2f}", f"{alone:.2f}", limit_text, goal_text))
    columns = ("I, H", "push, Python, µs", "push, C, µs", "onnxruntime alone, µs", "C / Python", "alone / Python",
               "at most", "goal")  # fmt: skip
    print_table("Push of one frame, int8", columns, rows)
    return missed


def first_answers(library: Path, path: Path, inputs: int, rounds: int) -> list[str]:
    """Print the time to a first answer; return the limit if it is missed."""
    operators = sorted({node.op_type for node in _graph(path) if node.domain == "lstm_edge"})
    ways = {"the C library": None, "onnxruntime alone, same kernels": operators, "onnxruntime alone, no kernels": []}
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, given in ways.items():
            times[way].append(c_driver.first_answer_us(library, path, inputs, given))
    found = {way: float(np.median(values)) for way, values in times.items()}
    alone = found["onnxruntime alone, same kernels"]
    print_table(
        f"From the file to the first answer, {path.name}, {path.stat().st_size:,} bytes, new processes",
        ("by", "ms", "ratio"),
        [(way, f"{us / 1e3:.2f}", f"{us / alone:.2f}") for way, us in found.items()],
    )
    ratio = found["the C library"] / alone
    return [f"first answer: {ratio:.2f} of at most {FIRST_LIMIT}"] if ratio > FIRST_LIMIT else []


def _graph(path: Path) -> list[object]:
    import onnx

    return list(onnx.load(path).graph.node)


def long_run(path: Path, calls: int) -> None:
    """Print the quantiles of many pushes, as lstm-edge-device measures them."""
    command = [c_driver.device_program(), "bench", "--calls", str(calls), "--json", path]
    environment = os.environ | {"LSTM_EDGE_ONNXRUNTIME": str(c_driver.find_onnxruntime())}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    keys = {"p50_us": "median", "p99_us": "p99", "p999_us": "p99.9", "worst_us": "worst"}
    print_table(
        f"lstm-edge-device bench, {calls:,} pushes, {path.name}, µs",
        tuple(keys.values()),
        [tuple(f"{found[key]:.1f}" for key in keys)],
    )


def main() -> None:
    """Measure, print, and exit with a code that says whether the limits hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the smallest size and few turns, to try that it runs")
    quick = parser.parse_args().quick
    sizes, rounds, processes, calls = (models.SIZES[:1], 2, 2, 1000) if quick else (models.SIZES, 100, 15, 1_000_000)
    library = c_driver.build_steps()
    print(f"{models.machine()}; {models.LAYERS} LSTM layers, int8, batch 1, 1 thread; medians of interleaved turns")
    with tempfile.TemporaryDirectory(prefix="lstm-edge-bench-") as folder:
        files = {size: make_file(Path(folder), *size) for size in sizes}
        missed = pushes(library, files, rounds)
        # The demo's file, of 12 inputs; `make demo` trains it.
        demo = python_command("from lstm_edge.demo import main; main()", folder, packages=PACKAGES)
        subprocess.run(demo, check=True, capture_output=True)
        missed += first_answers(library, Path(folder) / "model.int8.onnx", 12, processes)
        long_run(files[models.SIZES[0]], calls)
    print(f"\nlimits missed: {'; '.join(missed)}" if missed else "\nall limits met")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
