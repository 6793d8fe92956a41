"""``make kernel-model``: what LLVM's model of a processor predicts for the inner loops of the ARM kernels.

The loops are compiled by the compiler and with the flags of the released aarch64 wheel, and llvm-mca predicts their
cycles. That is a model and not a time: it assumes that every load hits the first cache and that every branch is
predicted, and it has its own errors. It shows what a person who changes the kernels must know without such a machine:
loops that wait for their own sums, registers that did not suffice, and units that are busy.
"""

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
KERNELS = ROOT / "runtime" / "lstm_edge_runtime" / "kernels"
PAGE = ROOT / "docs" / "kernels.md"
sys.path[:0] = [str(HERE), str(KERNELS), str(ROOT / "docs")]

from assembly_loops import predict_function, scheduling_model  # noqa: E402
from build import compile_command  # noqa: E402
from generate import fill  # noqa: E402

TARGET = "aarch64-linux-gnu.2.28"
SOURCES = {"neon": "isa_neon.cpp", "neon-dot": "isa_neon_dot.cpp"}
# Kind -> bytes of 64 weights; with 64 sparse ones comes the number of their group.
BYTES = {"int8": 64, "int4": 32, "sparse": 66, "float32": 256}
# Vectors of a tile: those of an LSTM and of a GRU.
TILES = (4, 3)
ROWS = (1, 4)
COLUMNS = (
    "processor", "weights", "rows", "LSTM, cycles", "GRU, cycles", "units alone", "loads alone", "spills",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Processor:
    """A core, the kernels that it runs, LLVM's name for the nearest model, and what its first cache delivers."""

    name: str
    kernels: str
    cpu: str
    load_bytes: int
    source: str


PROCESSORS = (
    Processor(
        name="Cortex-A53",
        kernels="neon",
        cpu="cortex-a53",
        load_bytes=8,
        source="a 64-bit read path from the first data cache (Technical Reference Manual, DDI 0500, section 6.1)",
    ),
    Processor(
        name="Cortex-A55",
        kernels="neon-dot",
        cpu="cortex-a55",
        load_bytes=8,
        source="a 64-bit read path from the first data cache (Technical Reference Manual, 100442, section A6.1)",
    ),
    Processor(
        name="Cortex-A72",
        kernels="neon",
        cpu="cortex-a72",
        load_bytes=16,
        source="one load of a 128-bit register a cycle (Software Optimization Guide, UAN 0016, LDR of a Q register)",
    ),
    Processor(
        name="Cortex-A76",
        kernels="neon-dot",
        cpu="neoverse-n1",
        load_bytes=32,
        source="two loads of a 128-bit register a cycle (Software Optimization Guide, PJDOC-466751330-7215)",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """The predictions for the product of some rows with a tile of an LSTM and of a GRU.

    Cycles are for 64 weights and all rows. ``unit_cycles``: what the busiest unit needs if no instruction waits for
    another, for the LSTM. ``load_cycles``: what loading the weights from the first cache takes at its documented width.
    ``before``: the cycles of the sources that ``--before`` names.
    """

    processor: str
    model: str
    kernels: str
    weights: str
    rows: int
    lstm_cycles: float
    gru_cycles: float
    unit_cycles: float
    load_cycles: float
    spills: int
    before: tuple[float, float] | None = None

    def cells(self) -> tuple[str, ...]:
        """Return the row as text."""
        cycles = [f"{self.lstm_cycles:.1f}", f"{self.gru_cycles:.1f}"]
        if self.before is not None:
            cycles = [f"{was:.1f} -> {now}" for was, now in zip(self.before, cycles, strict=True)]
        bounds = (f"{self.unit_cycles:.1f}", f"{self.load_cycles:.1f}")
        return f"{self.processor}, {self.kernels}", self.weights, str(self.rows), *cycles, *bounds, str(self.spills)


def find_program() -> str:
    """Return the newest llvm-mca.

    Raises:
        FileNotFoundError: there is none.
    """
    found: dict[int, str] = {}
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        for path in Path(folder).glob("llvm-mca*") if folder else ():
            match = re.fullmatch(r"llvm-mca(?:-(\d+))?", path.name)
            if match:
                found.setdefault(int(match[1] or version(str(path))), str(path))
    if not found:
        raise FileNotFoundError("no llvm-mca here; install LLVM's tools, for example Debian's package llvm-19")
    return found[max(found)]


def version(program: str) -> int:
    """Return the major version of an llvm-mca."""
    text = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    match = re.search(r"version (\d+)", text)
    return int(match[1]) if match else 0


def assemble(kernels: str, sources: Path, folder: Path) -> str:
    """Compile arm_loops.cpp with the sources of a folder as the wheel's are compiled; return the assembly."""
    zig = [sys.executable, "-I", "-m", "ziglang", "c++"]
    defines = ["-DLSTM_EDGE_NEON_DOT"] if kernels == "neon-dot" else []
    output = folder / f"{kernels}.s"
    command = [*compile_command(zig, SOURCES[kernels], target=TARGET), *defines, f"-I{sources}", "-g0", "-S"]
    environment = {"ZIG_GLOBAL_CACHE_DIR": str(ROOT / ".cache" / "zig"), **os.environ}
    result = subprocess.run(
        [*command, str(HERE / "arm_loops.cpp"), "-o", str(output)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if result.returncode != 0:
        sys.exit(f"error: the kernels do not compile\n{result.stderr}")
    return output.read_text()


def measure(program: str, sources: Path) -> list[Row]:
    """Predict every loop on every processor."""
    with tempfile.TemporaryDirectory(prefix="lstm-edge-model-") as folder:
        texts = {kernels: assemble(kernels, sources, Path(folder)) for kernels in SOURCES}
    return [
        predict_row(program, processor, texts[processor.kernels], weights, rows)
        for processor in PROCESSORS
        for weights in BYTES
        for rows in ROWS
    ]


def predict_row(program: str, processor: Processor, assembly: str, weights: str, rows: int) -> Row:
    """Predict the loops of one kind of weights for a number of rows."""
    command = [program, "-mtriple=aarch64", f"-mcpu={processor.cpu}", "-mattr=+dotprod"]
    # The vectors of a sparse matrix are multiplied one by one, those of an LSTM as those of a GRU.
    tiles = (1, 1) if weights == "sparse" else TILES
    lstm, gru = (predict_function(command, assembly, f"{weights}_{vectors}_{rows}", rows) for vectors in tiles)
    return Row(
        processor=processor.name,
        model=f"{scheduling_model(command)} (-mcpu={processor.cpu})",
        kernels=processor.kernels,
        weights=weights,
        rows=rows,
        lstm_cycles=lstm.cycles,
        gru_cycles=gru.cycles,
        unit_cycles=lstm.unit_cycles,
        load_cycles=BYTES[weights] / processor.load_bytes,
        spills=lstm.spills + gru.spills,
    )


def with_before(rows: list[Row], program: str, commit: str) -> list[Row]:
    """Add the predictions for the sources of a commit."""
    with tempfile.TemporaryDirectory(prefix="lstm-edge-before-") as folder:
        place = KERNELS.relative_to(ROOT)
        archive = subprocess.run(
            ["git", "archive", commit, str(place)], cwd=ROOT, check=True, capture_output=True
        ).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        old = measure(program, Path(folder) / place)
    pairs = zip(rows, old, strict=True)
    return [dataclasses.replace(now, before=(was.lstm_cycles, was.gru_cycles)) for now, was in pairs]


def page_text(rows: list[Row], program: str, before: str | None) -> str:
    """Return the part of docs/kernels.md: the table, the models and the sources of the bounds."""
    head = (COLUMNS, ["---", "---", *["---:"] * (len(COLUMNS) - 2)])
    table = "\n".join(f"| {' | '.join(line)} |" for line in (*head, *(row.cells() for row in rows)))
    models = {row.processor: row.model for row in rows}
    notes = "\n".join(f"- {p.name}: LLVM's model {models[p.name]}. Loads: {p.source}." for p in PROCESSORS)
    arrow = f" Left of an arrow: the sources of commit `{before}`." if before else ""
    return f"**A model by llvm-mca {version(program)}, not a time.**{arrow}\n\n{table}\n\n{notes}"


def main() -> None:
    """Predict, and print the table or the JSON, or write the table to docs/kernels.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the rows as one JSON object")
    parser.add_argument("--write", action="store_true", help="put the table into docs/kernels.md")
    parser.add_argument("--before", metavar="COMMIT", help="print the predictions for the sources of a commit beside")
    arguments = parser.parse_args()
    try:
        program = find_program()
    except FileNotFoundError as error:
        parser.exit(2, f"error: {error}\n")
    rows = measure(program, KERNELS)
    if arguments.before:
        rows = with_before(rows, program, arguments.before)
    if arguments.json:
        print(json.dumps({"llvm_mca": version(program), "rows": [dataclasses.asdict(row) for row in rows]}, indent=2))
        return
    text = page_text(rows, program, arguments.before)
    print(text)
    if arguments.write:
        PAGE.write_text(fill(PAGE.read_text(), "kernel-model", "kernel-model", text))
        print(f"written: {PAGE.name}")


if __name__ == "__main__":
    main()
