"""``make bench-kernels``: compare the fused kernels with onnxruntime, in one table of ratios and limits.

All ratios come from one run: single thread, through ``Stream`` and ``Session`` from Python, medians, interleaved. Each
round gives every call a turn. The first calls of a turn do not count: they bring the weights of this model back into
the caches, where a long stream would find them. On a machine with AVX-512 VNNI the command exits 1 if a limit is
missed; elsewhere it only prints. The models are two-layer LSTMs with batch 1 unless stated, and states that are not
zero.
"""

import argparse
import logging
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import kernel_models as models  # noqa: E402
from kernel_models import SIZES, Files  # noqa: E402

# Largest accepted ratios, in the order of SIZES.
STEP_LIMITS = (0.40, 0.55, 0.70, 0.65)
SEQUENCE_LIMITS = (0.75, 0.85, 0.95, 1.0)
BATCH_LIMIT, INT4_LIMIT, INT4_SMALL_LIMIT, FULL_LIMIT, FLOAT_BODY_LIMIT = 0.35, 0.7, 1.1, 1.8, 0.7
BATCH, STEPS = 16, 100
# Calls of a turn: first those that do not count, until the caches hold this model's weights, then those that count.
SETTLING, BURST = 10, 20

Call = Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: microseconds of both sides, the largest accepted ratio, and the reading time."""

    what: str
    size: str
    ours_us: float
    other_us: float
    limit: float | None
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
        reading = "" if self.reading_us is None else f"{self.reading_us:.1f}"
        return (
            self.what,
            self.size,
            f"{self.ours_us:.1f}",
            f"{self.other_us:.1f}",
            f"{self.ratio:.2f}",
            limit,
            reading,
        )


def medians(calls: Mapping[str, Call], rounds: int) -> dict[str, float]:
    """Give every call one turn per round, and return each call's median in microseconds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            for _ in range(SETTLING):
                call()
            for _ in range(BURST):
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


def step_rows(files: Files, index: int, bandwidth: Mapping[str, float]) -> list[Row]:
    """Measure single steps at one size."""
    inputs, hidden = SIZES[index]
    size = f"{inputs}, {hidden}"
    calls = {
        "int8": streaming(files.int8, inputs),
        "dynamic": bare_loop(files.dynamic, inputs, 1),
        "int4": streaming(files.int4, inputs),
        "int4-128": streaming(files.int4_wide, inputs),
        "batch": streaming(files.int8, inputs, batch=BATCH),
        "full": streaming(files.full_int8, inputs),
        "full float": streaming(files.full, inputs),
        "full body": bare_loop(files.full, inputs, 1),
        "float": bare_loop(files.float32, inputs, 1),
        "float kernel": streaming(files.float_kernel, inputs),
        "float stream": streaming(files.float32, inputs, kernels="off"),
    }
    t = medians(calls, 50 if hidden < 1024 else 20)
    reading = {name: models.weight_bytes(path) / bandwidth[name] * 1e6 for name, path in files.items()}
    small = hidden < 1024
    return [
        Row(what="int8 step / DynamicQuantizeLSTM", size=size, ours_us=t["int8"], other_us=t["dynamic"],
            limit=STEP_LIMITS[index], reading_us=reading["int8"]),
        Row(what=f"int8 step, batch {BATCH}, per stream / batch 1", size=size, ours_us=t["batch"] / BATCH,
            other_us=t["int8"], limit=BATCH_LIMIT if hidden >= 256 else None, reading_us=reading["int8"] / BATCH),
        Row(what="int4 step (block 32) / int8 step", size=size, ours_us=t["int4"], other_us=t["int8"],
            limit=INT4_SMALL_LIMIT if small else INT4_LIMIT, reading_us=reading["int4"]),
        Row(what="int4 step (block 128) / int8 step", size=size, ours_us=t["int4-128"], other_us=t["int8"],
            limit=INT4_SMALL_LIMIT if small else INT4_LIMIT, reading_us=reading["int4_wide"]),
        Row(what="full peephole int8 step / standard int8", size=size, ours_us=t["full"], other_us=t["int8"],
            limit=FULL_LIMIT, reading_us=reading["full_int8"]),
        Row(what="full peephole float32 step / function body", size=size, ours_us=t["full float"],
            other_us=t["full body"], limit=FLOAT_BODY_LIMIT, reading_us=reading["full"]),
        Row(what="float32 step by a kernel / onnxruntime's LSTM", size=size, ours_us=t["float kernel"],
            other_us=t["float stream"], limit=None, reading_us=reading["float32"]),
    ]  # fmt: skip


def sequence_rows(files: Files, index: int, bandwidth: Mapping[str, float]) -> list[Row]:
    """Measure a sequence of STEPS steps at one size; the times are per step."""
    inputs, hidden = SIZES[index]
    calls = {"int8": sequences(files.int8, inputs), "dynamic": bare_loop(files.dynamic, inputs, STEPS)}
    t = medians(calls, 8 if hidden < 1024 else 4)
    recurrent = 2 * 4 * hidden * hidden  # bytes of both layers' recurrent weights; the others are read once per chunk
    return [
        Row(what=f"int8 T = {STEPS}, per step / DynamicQuantizeLSTM", size=f"{inputs}, {hidden}",
            ours_us=t["int8"] / STEPS, other_us=t["dynamic"] / STEPS, limit=SEQUENCE_LIMITS[index],
            reading_us=recurrent / bandwidth["int8"] * 1e6)
    ]  # fmt: skip


def measure_bandwidth(files: Files, folder: Path) -> dict[str, float]:
    """Compile and run read_bandwidth.cpp; return bytes per second for a block of the size of each file's weights."""
    program = folder / "read_bandwidth"
    source = HERE / "read_bandwidth.cpp"
    compiler = shlex.split(os.environ.get("CXX", "g++"))
    subprocess.run([*compiler, "-O2", "-march=native", "-Wno-psabi", source, "-o", program], check=True)
    sizes = {name: str(models.weight_bytes(path)) for name, path in files.items()}
    output = subprocess.run([program, *sizes.values()], check=True, capture_output=True, text=True).stdout
    return dict(zip(sizes, map(float, output.split()), strict=True))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table with aligned columns."""
    widths = [max(len(line[i]) for line in (columns, *rows)) for i in range(len(columns))]
    print(f"\n{title}\n")
    for line in (columns, ["-" * width for width in widths], *rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")
    sys.stdout.flush()


def main() -> None:
    """Measure, print, and exit with a code that says whether every limit holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="0123", help="sizes to measure, as digits 0 to 3")
    digits = parser.parse_args().sizes
    if not digits or set(digits) - set("0123"):
        parser.error(f"--sizes must be digits of 0123, got {digits!r}")
    chosen = [int(digit) for digit in digits]
    logging.disable(logging.WARNING)  # quantize_dynamic recommends a preprocessing that changes nothing here
    from lstm_edge_runtime.errors import ProviderError
    from lstm_edge_runtime.library import find_library

    try:
        library = find_library()
    except ProviderError as error:
        parser.exit(2, f"error: {error}\n")
    print(f"kernels: {library.instruction_set}; {models.machine()}; 1 thread; medians, interleaved")
    with tempfile.TemporaryDirectory(prefix="lstm-edge-bench-") as name:
        folder = Path(name)
        files = {index: models.make_files(folder, *SIZES[index]) for index in chosen}
        for index in chosen:
            models.check_answers(files[index], SIZES[index][0])
        bandwidth = {index: measure_bandwidth(files[index], folder) for index in chosen}
        rows = [row for index in chosen for row in step_rows(files[index], index, bandwidth[index])]
        rows += [row for index in chosen for row in sequence_rows(files[index], index, bandwidth[index])]
        columns = ("ours / other", "I, H", "ours µs", "other µs", "ratio", "at most", "reading µs")
        print_table("Latency", columns, [row.cells() for row in rows])
        noise = [models.signal_to_noise(files[index], *SIZES[index]) for index in chosen]
        print_table("Signal to noise against float32, dB", ("I, H", *models.NOISE), [line.cells() for line in noise])
        memory = [line for index in chosen for line in models.memory_rows(files[index], *SIZES[index])]
        print_table("Memory and load time, each in a separate process", models.MEMORY_COLUMNS, memory)
        for index in chosen:
            step = next(row for row in rows if row.size == f"{SIZES[index][0]}, {SIZES[index][1]}")
            speed = models.weight_bytes(files[index].int8) / step.ours_us / 1e3
            reads = bandwidth[index]["int8"] / 1e9
            print(f"hidden {SIZES[index][1]}: an int8 push reads weights at {speed:.0f} GB/s, the machine {reads:.0f}")
    missed = [f"{row.what} at {row.size}: {row.ratio:.2f} > {row.limit}" for row in rows if row.missed]
    missed += [
        f"signal to noise at {line.size}: int8 {line.int8:.1f} dB < {line.dynamic:.1f} dB"
        for line in noise
        if line.int8 < line.dynamic
    ]
    print("\nlimits missed:\n  " + "\n  ".join(missed) if missed else "\nall limits hold")
    sys.exit(1 if missed and library.instruction_set == "avx512vnni" else 0)


if __name__ == "__main__":
    main()
