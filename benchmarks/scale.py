"""Measure the speed-up of two processes at training, selection and `quantize --scheme auto`, as Markdown.

Run with lstm-edge installed: ``python benchmarks/scale.py``; it takes about ten minutes on two idle cores. Each command
runs on one thread a process, and its time is the wall time of the whole command, imports included. It exits 1 if a
search in two processes writes another file than in one. ``--quick`` takes sizes that prove no figure.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

import lstm_edge
from lstm_edge_runtime.fresh_python import python_command
from lstm_edge_runtime.session import Session

CLI = "from lstm_edge.cli import main; main()"
TORCHRUN = "from torch.distributed.run import main; main()"
PACKAGES = ("lstm_edge", "lstm_edge_exporters", "lstm_edge_runtime")
FEATURES, CLASSES, STEPS = 20, 8, 40


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of the three jobs."""

    hidden: int = 192
    sequences: int = 3_000
    epochs: int = 20
    trained_hidden: int = 128
    grid: str = "32,64"
    folds: int = 4
    selection_epochs: int = 25
    evaluations: int = 80


QUICK = Sizes(
    hidden=24, sequences=80, epochs=1, trained_hidden=16, grid="4,8", folds=2, selection_epochs=1, evaluations=48
)


class Network(nn.Module):
    """Two LSTM layers and the logits of the last step: float32 [N, T, 20] to [N, 8]."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, hidden, 2, batch_first=True)
        self.head = nn.Linear(hidden, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        y: torch.Tensor = self.lstm(x)[0]
        logits: torch.Tensor = self.head(y[:, -1])
        return logits


def write_files(folder: Path, sizes: Sizes) -> None:
    """Write a model, data whose classes are mostly those that it gives, and the same data with balanced classes."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    model, network = folder / "model.onnx", Network(sizes.hidden).eval()
    with torch.no_grad():
        # New layers forget their input; with larger weights the classes depend on it, and rounding costs something.
        for parameter in network.parameters():
            parameter.mul_(3.0)
    lstm_edge.export(network, output=model, inputs=[f"x: float32[batch, time, {FEATURES}]"])
    x = random.normal(size=(sizes.sequences, STEPS, FEATURES)).astype(np.float32)
    [logits] = Session(model).run(x)[0].values()
    y = logits.argmax(axis=1)
    wrong = random.random(len(y)) < 0.1
    steps = {"x": x.reshape(-1, FEATURES), "lengths": np.full(len(y), STEPS)}
    np.savez(folder / "data.npz", **steps, y=np.where(wrong, (y + 1) % CLASSES, y))
    np.savez(folder / "balanced.npz", **steps, y=np.arange(len(y)) % CLASSES)


def seconds(commands: Sequence[Sequence[str]], folder: Path, code: str = CLI) -> float:
    """Run commands side by side; return the seconds until the last has ended."""
    start = time.perf_counter()
    running = [
        subprocess.Popen(
            python_command(code, *command, packages=PACKAGES),
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    for process in running:
        _, errors = process.communicate()
        if process.returncode:
            sys.exit(f"{process.args}: exit code {process.returncode}\n{errors}")
    return time.perf_counter() - start


def training(folder: Path, sizes: Sizes) -> list[tuple[str, float]]:
    """Return the seconds of a training in one process and in two."""
    train = ["train", "classification", "--data", "balanced.npz", "--hidden", str(sizes.trained_hidden)]
    train += ["--epochs", str(sizes.epochs), "--batch-size", "64", "--patience", "1000"]
    alone = seconds([[*train, "-o", "one.safetensors"]], folder)
    run = ["--standalone", "--nproc-per-node", "2", "-m", "lstm_edge", *train, "-o", "two.safetensors"]
    return [("one process", alone), ("`torchrun --nproc-per-node 2`", seconds([run], folder, TORCHRUN))]


def selection(folder: Path, sizes: Sizes) -> list[tuple[str, float]]:
    """Return the seconds of a selection in one process and in two."""
    select = ["select", "--data", "balanced.npz", "--hidden-sizes", sizes.grid, "--folds", str(sizes.folds)]
    select += ["--epochs", str(sizes.selection_epochs), "--batch-size", "64"]
    alone = seconds([[*select, "-o", "s0.safetensors"]], folder)
    shared = [*select, "--storage", "sqlite:///study.sqlite3", "-o"]
    both = seconds([[*shared, f"s{number}.safetensors"] for number in (1, 2)], folder)
    return [("one process", alone), ("two processes, one `--storage`", both)]


def search(folder: Path, sizes: Sizes) -> list[tuple[str, float]]:
    """Return the seconds of a search in one process, with two workers, and in two processes."""
    auto = ["quantize", "model.onnx", "--scheme", "auto", "--data", "data.npz", "--metric", "cross-entropy"]
    auto += ["--max-drop", "2%", "--max-evaluations", str(sizes.evaluations)]
    shared = [*auto, "--storage", "sqlite:///search.sqlite3", "-o"]
    found = [
        ("one process", seconds([[*auto, "-o", "q0.onnx"]], folder)),
        ("`--workers 2`", seconds([[*auto, "--workers", "2", "-o", "q1.onnx"]], folder)),
        (
            "two processes, one `--storage`",
            seconds([[*shared, "q2.onnx"], [*shared, "q3.onnx"]], folder),
        ),
    ]
    files = {(folder / f"q{number}.onnx").read_bytes() for number in range(4)}
    if len(files) != 1:
        sys.exit("the searches wrote different files")
    return found


def main() -> None:
    """Measure and print."""
    sizes = QUICK if "--quick" in sys.argv else Sizes()
    print("| job | how | seconds | speed-up |")
    print("|---|---|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder, sizes)
        for job, measure in (("training", training), ("selection", selection), ("search", search)):
            rows = measure(folder, sizes)
            for how, taken in rows:
                print(f"| {job} | {how} | {taken:.1f} | {rows[0][1] / taken:.2f} |", flush=True)


if __name__ == "__main__":
    main()
