"""Measure the waiting time of `lstm-edge --help` and of the export of a 2-layer model of hidden size 256, as Markdown.

Run with lstm-edge installed: ``python benchmarks/startup.py``; it takes about half a minute. Each command runs in a
separate process, ``--help`` five times and the others three times. The table has the median and the worst wall time,
start-up and imports included.
"""

import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lstm_edge_runtime.fresh_python import python_command

# `lstm-edge` in a fresh interpreter.
CLI = "from lstm_edge.cli import main; main()"
PACKAGES = ("lstm_edge", "lstm_edge_exporters", "lstm_edge_runtime")
NETWORK = """
import torch
from torch import nn

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(40, 256, 2, batch_first=True)
        self.linear = nn.Linear(256, 10)

    def forward(self, x):
        return self.linear(self.lstm(x)[0])

def make():
    torch.manual_seed(0)
    return Network()
"""


def seconds(arguments: Sequence[str], folder: str, times: int) -> list[float]:
    """Run `lstm-edge` with the arguments in a folder; return the wall time of each run in seconds."""
    command = python_command(CLI, *arguments, packages=PACKAGES)
    found = []
    for _ in range(times):
        start = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        found.append(time.perf_counter() - start)
    return found


def main() -> None:
    """Measure and print."""
    export = ["export", "network:make", "--input", "x: float32[batch, time, 40]", "-o", "network.onnx"]
    print("| command | median, s | worst, s |")
    print("|---|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "network.py").write_text(NETWORK)
        for name, arguments, times in (
            ("`lstm-edge --help`", ["--help"], 5),
            ("`lstm-edge export`, 2 layers, hidden 256", export, 3),
            ("the same with `--scheme int8`", [*export, "--scheme", "int8"], 3),
            ("`lstm-edge check` of the int8 file", ["check", "network.onnx"], 3),
        ):
            found = seconds(arguments, folder, times)
            print(f"| {name} | {np.median(found):.2f} | {max(found):.2f} |", flush=True)


if __name__ == "__main__":
    main()
