"""Resident memory of a session, each in a fresh process (part of ``make bench-session``).

Two LSTM layers with 512 inputs and 1024 cells, 14.7 million weights: what opening the file adds to a process, what
opening and the first push add, and how much of that is private memory (the rest are pages of files, such as
onnxruntime's code). For comparison the same for a model of 8 cells, where nearly all is onnxruntime.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import kernel_models as models  # noqa: E402
from kernel_calls import print_table  # noqa: E402

from lstm_edge import export, quantize  # noqa: E402
from lstm_edge.layers import LSTM  # noqa: E402
from lstm_edge_runtime.fresh_python import python_command  # noqa: E402

SIZES = ((4, 8), (512, 1024))
_PROBE = """
import json, sys
def resident():
    with open('/proc/self/status') as file:
        sizes = dict(line.split(':') for line in file if ':' in line)
    return [int(sizes[name].split()[0]) / 1024 for name in ('VmRSS', 'RssAnon')]
import numpy as np
import onnxruntime
from lstm_edge_runtime.session import Session
path, kernels = sys.argv[1:]
before = resident()
session = Session(path, kernels=kernels)
opened = resident()
stream = session.stream()
stream.push(np.zeros(session.inputs[0].axes[-1], 'f'))
print(json.dumps([before, opened, resident()]))
"""


def measure(path: Path, kernels: str) -> tuple[str, ...]:
    """Return MiB after opening and after the first push, and how much of it belongs to no file."""
    command = python_command(_PROBE, str(path), kernels)
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (before, own), (opened, _), (pushed, own_after) = json.loads(output)
    return tuple(f"{value:.1f}" for value in (opened - before, pushed - before, own_after - own))


def main() -> None:
    """Measure and print."""
    print(models.machine())
    rows = []
    with tempfile.TemporaryDirectory(prefix="lstm-edge-bench-") as folder:
        for inputs, hidden in SIZES:
            torch.manual_seed(0)
            path = Path(folder) / f"{hidden}.onnx"
            export(LSTM(inputs, hidden, 2).eval(), torch.randn(5, 2, inputs), path)
            for scheme in ("int8", "int4"):
                target = path.with_suffix(f".{scheme}.onnx")
                quantize(path, target, scheme=scheme)
                size = f"{target.stat().st_size / 2**20:.1f}"
                for kernels in ("required", "off"):
                    by = "kernels" if kernels == "required" else "function bodies"
                    rows.append((f"{inputs}, {hidden}", scheme, by, size, *measure(target, kernels)))
    columns = ("I, H", "scheme", "run by", "file MiB", "opened MiB", "first push MiB", "own MiB")
    print_table("Resident memory that a session adds, each in a separate process", columns, rows)


if __name__ == "__main__":
    main()
