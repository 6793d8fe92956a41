"""Measure block-sparse models: the King James text and Japanese Vowels, as Markdown, and a figure.

    python benchmarks/sparse.py language FIGURE.svg [--keep FOLDER] [--updates N]
    python benchmarks/sparse.py vowels

``language`` trains six models, each with one thread, as many at once as there are cores; then it exports, quantizes,
evaluates (the last 5 % of the text, once for each file) and times them. On two quiet cores with bfloat16 instructions
that takes three quarters of an hour; with ``--keep`` finished models are reused, and interrupted trainings continue.
Every model is trained for twice ``--updates`` updates: the ones of 384 cells start from one dense parent that was
trained for half of them. ``vowels`` trains ten classifiers (two minutes). The exit code is 1 if a goal is missed.
"""

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
from japanese_vowels_seeds import SEEDS, evaluate
from language_model import run
from lstm_limits import save
from matplotlib.figure import Figure

import lstm_edge
from lstm_edge.checkpoint import load_checkpoint
from lstm_edge.data import Dataset, load
from lstm_edge.sparsity import measure
from lstm_edge.training import train_classifier
from lstm_edge.validation.judge import validate
from lstm_edge_runtime.session import Session

mpl.use("Agg")

# The quarter-hour recipe makes about this number of updates on two cores.
UPDATES = 6400
RECIPE = "--data king-james --epochs 30 --precision bfloat16 --threads 1"
DENSE_RECIPE = "--dropout 0.1"
# A sparse model has fewer weights to overfit with. Tried in short trainings only; the dense models keep the recipe of
# docs/training.md.
SPARSE_RECIPE = "--dropout 0 --learning-rate 0.006"
HALF, THIRD, QUARTER = 1 / 2, 1 / 3, 1 / 4
EMBEDDING = 64  # of `lstm-edge train language-model`
# Largest accepted growth of the perplexity against dense int8, by density, and of the recurrent weights' bytes.
LOSS_LIMITS = {HALF: 0.005, THIRD: 0.015}
BYTES_LIMIT = 0.40
VOWELS_LIMIT = 0.005
# Turns of the timing, calls of a turn, and calls before them, which bring the weights into the caches.
TURNS, CALLS, SETTLING = 15, 150, 30


@dataclass(frozen=True, kw_only=True)
class Model:
    """One training: hidden size, updates in units of ``--updates``, density of W and R together, and its parent."""

    name: str
    hidden: int
    units: int = 1
    density: float | None = None
    parent: str | None = None

    def options(self, updates: int) -> str:
        """Return the options of `lstm-edge train language-model` after the parent."""
        own = DENSE_RECIPE
        if self.density is not None:
            own = f"{SPARSE_RECIPE} --sparse w=1,r={self.recurrent_density:.6g}"
        return f"{RECIPE} --hidden {self.hidden} --max-updates {self.units * updates} {own}"

    @property
    def recurrent_density(self) -> float:
        """Density of R that gives W and R together ``density`` if W stays dense.

        W has the 64 inputs of the embedding and needs them: models whose W is pruned as far as R lose more.
        """
        assert self.density is not None
        return self.density - (1 - self.density) * EMBEDDING / self.hidden


PARENT = Model(name="parent-384", hidden=384)
MODELS = (
    Model(name="dense-384", hidden=384, parent="parent-384"),
    Model(name="sparse-384-half", hidden=384, parent="parent-384", density=HALF),
    Model(name="sparse-384-third", hidden=384, parent="parent-384", density=THIRD),
    Model(name="sparse-384-quarter", hidden=384, parent="parent-384", density=QUARTER),
    Model(name="dense-224", hidden=224, units=2),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One file: its perplexity in float32 and int8, bytes, and median step times in microseconds.

    ``stored_us`` is the step time if the zero blocks are stored.
    """

    model: Model
    float32: float
    int8: float
    file_bytes: int
    recurrent_share: float
    step_us: float
    stored_us: float

    @property
    def bits(self) -> float:
        """Bits per character of the int8 file."""
        return math.log2(self.int8)


def main() -> None:
    """Measure one of both; exit 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description="block-sparse models")
    parser.add_argument("part", choices=("language", "vowels"))
    parser.add_argument("figure", type=Path, nargs="?", help="the .svg file that language draws")
    parser.add_argument("--keep", type=Path, help="folder that keeps the language models")
    parser.add_argument("--updates", type=int, default=UPDATES, help="updates of the parent, and of each child")
    arguments = parser.parse_args()
    if arguments.part == "vowels":
        sys.exit(0 if vowels() else 1)
    if arguments.figure is None:
        parser.error("language needs the name of the figure")
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        train_all(folder, arguments.updates)
        rows = judge(folder)
        draw(rows, arguments.figure)
        sys.exit(0 if print_rows(rows, arguments.updates) else 1)


def train_all(folder: Path, updates: int) -> None:
    """Train what the folder lacks, as many models at once as there are cores; children wait for their parent."""
    order = (PARENT, MODELS[4], *MODELS[:4])
    started: dict[str, Future[None]] = {}

    def work(model: Model) -> None:
        if model.parent is not None:
            started[model.parent].result()
        train(folder, model, updates)

    # A child is started after its parent, so a waiting child never keeps its parent from a worker.
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        for model in order:
            started[model.name] = pool.submit(work, model)
    for future in started.values():
        future.result()


def train(folder: Path, model: Model, updates: int) -> None:
    """Train one model unless the folder has it with this number of updates; continue an interrupted training."""
    output, log = folder / f"{model.name}.safetensors", folder / f"{model.name}.jsonl"
    if output.exists() and log.exists():
        known = json.loads(log.read_text().splitlines()[-1])["options"]["max_updates"]
        if known != model.units * updates:
            raise SystemExit(f"{output}: has {known} updates, expected {model.units * updates}; give another folder")
        return
    start = [] if model.parent is None else ["--from", str(folder / f"{model.parent}.safetensors")]
    resume = ["--resume"] if Path(f"{output}.resume").exists() else []
    words = ("train", "language-model", *model.options(updates).split(), *start, *resume, "-o", str(output), "--json")
    log.write_text(run(*words))


def judge(folder: Path) -> list[Row]:
    """Export, quantize, evaluate and time all models."""
    files: dict[str, Path] = {}
    for model in MODELS:
        parent = folder / f"{model.name}.onnx"
        run("export", str(folder / f"{model.name}.safetensors"), "-o", str(parent))
        for name in ("off", "required") if model.density else ("off",):
            files[f"{model.name} {name}"] = folder / f"{model.name}.int8-{name}.onnx"
            run("quantize", str(parent), "-o", str(files[f"{model.name} {name}"]), "--sparse", name)
    times = step_times(files)
    rows = []
    for model in MODELS:
        chosen = f"{model.name} {'required' if model.density else 'off'}"
        report = validate(
            files[chosen], folder / f"{model.name}.onnx", "king-james", metric="perplexity", max_drop="100%"
        )
        sizes = measure(load_checkpoint(folder / f"{model.name}.safetensors"))
        rows.append(
            Row(
                model=model,
                float32=report.reference,
                int8=report.candidate,
                file_bytes=files[chosen].stat().st_size,
                recurrent_share=sum(min(one.sparse_bytes, one.dense_bytes) for one in sizes.matrices)
                / sizes.dense_bytes,
                step_us=times[chosen],
                stored_us=times[f"{model.name} off"],
            )
        )
    return rows


def step_times(files: dict[str, Path]) -> dict[str, float]:
    """Return the median time of a push of one character in microseconds; all files in turns, one thread."""
    streams = {name: Session(path, threads=1, kernels="required").stream() for name, path in files.items()}
    ids = np.array([[5]], dtype=np.int64)
    found: dict[str, list[float]] = {name: [] for name in files}
    for _ in range(TURNS):
        for name, stream in streams.items():
            for _ in range(SETTLING):
                stream.push(ids)
            began = time.perf_counter()
            for _ in range(CALLS):
                stream.push(ids)
            found[name].append((time.perf_counter() - began) / CALLS * 1e6)
    return {name: statistics.median(values) for name, values in found.items()}


def print_rows(rows: list[Row], updates: int) -> bool:
    """Print the table; return whether the goals are met."""
    dense = {row.model.name: row for row in rows}["dense-384"]
    print(f"`lstm-edge train language-model {PARENT.options(updates)} -o parent-384.safetensors`,")
    print("and from it (`--from parent-384.safetensors`) or from new weights:\n")
    for model in MODELS:
        print(f"- {model.name}: `{model.options(updates).removeprefix(RECIPE).strip()}`")
    print("\n| model | perplexity, float32 | int8 | against dense-384 | bits per character | file, bytes | ", end="")
    print("W and R, of dense int8 | step, us | step with stored zeros, us |\n|---" + "|---:" * 8 + "|")
    passed = True
    for row in rows:
        more = row.int8 / dense.int8 - 1
        print(f"| {row.model.name} | {row.float32:.4f} | {row.int8:.4f} | {more:+.2%} | {row.bits:.4f} ", end="")
        print(f"| {row.file_bytes:,} | {row.recurrent_share:.3f} | {row.step_us:.1f} | {row.stored_us:.1f} |")
        if row.model.density in LOSS_LIMITS:
            passed = passed and more <= LOSS_LIMITS[row.model.density]
        if row.model.density == THIRD:
            passed = passed and row.recurrent_share <= BYTES_LIMIT
    limits = ", ".join(f"{limit:+.1%} at density {density:.3g}" for density, limit in LOSS_LIMITS.items())
    print(f"\nGoals against dense-384: {limits}; W and R at most {BYTES_LIMIT:.2f} of dense int8 at density 0.333.")
    print(f"{'Met' if passed else 'Missed'}.")
    return passed


def draw(rows: list[Row], path: Path) -> None:
    """Draw bits per character against the bytes of the file and against the time of a step."""
    figure = Figure(figsize=(9.0, 3.4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, label in zip(axes, ("int8 file, kB", "step, us"), strict=True):
        for sparse, marker in ((False, "s"), (True, "o")):
            chosen = [row for row in rows if (row.model.density is not None) == sparse]
            across = [row.step_us if label == "step, us" else row.file_bytes / 1000 for row in chosen]
            axis.scatter(across, [row.bits for row in chosen], marker=marker, label="sparse" if sparse else "dense")
            for x, row in zip(across, chosen, strict=True):
                axis.annotate(row.model.name, (x, row.bits), fontsize=7, xytext=(4, 4), textcoords="offset points")
        axis.set_xlabel(label)
        axis.margins(0.2)
    axes[0].set_ylabel("bits per character")
    axes[0].legend()
    save(figure, path)


def vowels() -> bool:
    """Train the default classifier densely and sparsely with five seeds; print the table, return whether it is met."""
    train_set, test = (load(f"japanese-vowels:{split}", default_split="train") for split in ("train", "test"))
    print("| seed | dense, PyTorch | dense, int8 file | density 1/3, PyTorch | density 1/3, sparse int8 file |")
    print("|---:" * 5 + "|")
    rows = []
    for seed in SEEDS:
        row: list[float] = []
        for density in (None, THIRD):
            options = replace(train_classifier.options, sparse=density)
            model, _ = train_classifier(train_set, seed=seed, options=options)
            row += [evaluate(model, test), int8_accuracy(model, test, "off" if density is None else "required")]
        rows.append(row)
        print(f"| {seed} | " + " | ".join(f"{value:.2%}" for value in row) + " |", flush=True)
    means = np.mean(rows, axis=0)
    print("| mean | " + " | ".join(f"{mean:.2%}" for mean in means) + " |")
    lost = means[1] - means[3]
    print(
        f"\nGoal: sparse int8 at most {100 * VOWELS_LIMIT:.1f} points below dense int8; lost: {100 * lost:.2f} points."
    )
    return bool(lost <= VOWELS_LIMIT)


def int8_accuracy(model: lstm_edge.SequenceClassifier, data: Dataset, sparse: str) -> float:
    """Return the accuracy of a model's int8 file, as a share."""
    with tempfile.TemporaryDirectory() as folder:
        float32, int8 = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        lstm_edge.export(model, None, float32)
        lstm_edge.quantize(float32, int8, scheme="int8", sparse="required" if sparse == "required" else "off")
        return lstm_edge.validate(int8, float32, data).candidate


if __name__ == "__main__":
    main()
