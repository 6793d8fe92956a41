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
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import kernel_models as models  # noqa: E402
from kernel_calls import BATCH, STEPS, Row, bare_loop, be_quick, medians, print_table, sequences, streaming  # noqa: E402
from kernel_models import SIZES, Files  # noqa: E402
from kernel_rows import cell_rows  # noqa: E402
from recurrent_files import GATES, CellFiles, check_bits, make_cell_files  # noqa: E402

# Largest accepted ratios, in the order of SIZES.
STEP_LIMITS = (0.40, 0.55, 0.70, 0.65)
SEQUENCE_LIMITS = (0.75, 0.85, 0.95, 1.0)
BATCH_LIMIT, INT4_LIMIT, INT4_SMALL_LIMIT, FULL_LIMIT, FLOAT_BODY_LIMIT = 0.35, 0.7, 1.1, 1.8, 0.7


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
        "projected": streaming(files.projected_int8, inputs),
        "projected float": streaming(files.projected, inputs),
        "projected body": bare_loop(files.projected, inputs, 1),
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
        Row(what="projected int8 step (half the outputs) / standard int8", size=size, ours_us=t["projected"],
            other_us=t["int8"], reading_us=reading["projected_int8"]),
        Row(what="projected float32 step / function body", size=size, ours_us=t["projected float"],
            other_us=t["projected body"], reading_us=reading["projected"]),
        Row(what="float32 step by a kernel / onnxruntime's LSTM", size=size, ours_us=t["float kernel"],
            other_us=t["float stream"], reading_us=reading["float32"]),
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


def measure_bandwidth(paths: Mapping[str, Path], folder: Path) -> dict[str, float]:
    """Compile and run read_bandwidth.cpp; return bytes per second for a block of the size of each file's weights."""
    program = folder / "read_bandwidth"
    source = HERE / "read_bandwidth.cpp"
    compiler = shlex.split(os.environ.get("CXX", "g++"))
    subprocess.run([*compiler, "-O2", "-march=native", "-Wno-psabi", source, "-o", program], check=True)
    sizes = {name: str(models.weight_bytes(path)) for name, path in paths.items()}
    output = subprocess.run([program, *sizes.values()], check=True, capture_output=True, text=True).stdout
    return dict(zip(sizes, map(float, output.split()), strict=True))


def measure(folder: Path, index: int) -> tuple[list[Row], Files, dict[str, float]]:
    """Make all files of one size, check their answers and measure; return the rows, the files and the bandwidths."""
    inputs, hidden = SIZES[index]
    files = models.make_files(folder, inputs, hidden)
    models.check_answers(files, inputs)
    cells: dict[str, CellFiles] = {cell: make_cell_files(folder, cell, inputs, hidden) for cell in GATES}
    for made in cells.values():
        check_bits(made, inputs)
    paths = dict(files.items())
    paths |= {f"{cell} {name}": path for cell, made in cells.items() for name, path in vars(made).items()}
    bandwidth = measure_bandwidth(paths, folder)
    rows = [*step_rows(files, index, bandwidth), *sequence_rows(files, index, bandwidth)]
    for cell, made in cells.items():
        rows += cell_rows(cell, made, SIZES[index], bandwidth)
    return rows, files, bandwidth


def print_files(files: Mapping[int, Files]) -> list[str]:
    """Print the tables of signal to noise and of memory; return what is missed."""
    noise = [models.signal_to_noise(files[index], *SIZES[index]) for index in files]
    print_table("Signal to noise against float32, dB", ("I, H", *models.NOISE), [line.cells() for line in noise])
    memory = [line for index in files for line in models.memory_rows(files[index], *SIZES[index])]
    print_table("Memory and load time, each in a separate process", models.MEMORY_COLUMNS, memory)
    return [
        f"signal to noise at {line.size}: int8 {line.int8:.1f} dB < {line.dynamic:.1f} dB"
        for line in noise
        if line.int8 < line.dynamic
    ]


def main() -> None:
    """Measure, print, and exit with a code that says whether every limit holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="0123", help="sizes to measure, as digits 0 to 3")
    parser.add_argument("--quick", action="store_true", help="two calls of everything, to try that it runs")
    arguments = parser.parse_args()
    digits = arguments.sizes
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
    if arguments.quick:
        be_quick()
    print(f"kernels: {library.instruction_set}; {models.machine()}; 1 thread; medians, interleaved")
    with tempfile.TemporaryDirectory(prefix="lstm-edge-bench-") as name:
        folder = Path(name)
        measured = {index: measure(folder, index) for index in chosen}
        rows = [row for made, _, _ in measured.values() for row in made]
        columns = ("ours / other", "I, H", "ours µs", "other µs", "ratio", "at most", "goal", "reading µs")
        print_table("Latency", columns, [row.cells() for row in rows])
        missed = [f"{row.what} at {row.size}: {row.ratio:.2f} > {row.limit}" for row in rows if row.missed]
        if arguments.quick:
            print("\ntwo calls of everything: no time above means anything")
            return
        missed += print_files({index: files for index, (_, files, _) in measured.items()})
        for index, (made, files, bandwidth) in measured.items():
            speed = models.weight_bytes(files.int8) / made[0].ours_us / 1e3
            reads = bandwidth["int8"] / 1e9
            print(f"hidden {SIZES[index][1]}: an int8 push reads weights at {speed:.0f} GB/s, the machine {reads:.0f}")
    print("\nlimits missed:\n  " + "\n  ".join(missed) if missed else "\nall limits hold")
    sys.exit(1 if missed and library.instruction_set in ("amx", "avx512vnni") else 0)


if __name__ == "__main__":
    main()
