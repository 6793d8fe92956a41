"""``make bench-metrics``: what a watched stream costs beside a plain one.

One int8 model of two LSTM layers with 64 inputs and 128 cells, whose card has reference data, so that all metrics are
measured. A plain stream and a watched one take turns of 1,000 pushes in one process; a time is the mean of a turn,
which holds all sampled pushes, and the medians over all turns are compared. The file is written every ten seconds, as
by default. The exit code is 1 if the watched stream takes more than 3 % longer.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import kernel_models as models  # noqa: E402
from kernel_calls import print_table  # noqa: E402

from lstm_edge import export, quantize  # noqa: E402
from lstm_edge.layers import LSTM  # noqa: E402
from lstm_edge_runtime.session import Session  # noqa: E402
from lstm_edge_runtime.watch import Metrics  # noqa: E402

INPUTS, HIDDEN, LAYERS = 64, 128, 2
TURN = 1000
LIMIT = 1.03


def make_file(folder: Path) -> Path:
    """Export and quantize the model, with reference data."""
    torch.manual_seed(0)
    source, path, data = folder / "model.onnx", folder / "int8.onnx", folder / "data.npz"
    export(LSTM(INPUTS, HIDDEN, LAYERS).eval(), torch.randn(5, 2, INPUTS), source)
    rows = np.random.default_rng(0).standard_normal((20, 100, INPUTS)).astype(np.float32)
    np.savez(data, x=rows, y=np.zeros(20, np.int64))
    quantize(source, path, reference_data=str(data))
    return path


def turns(push: Callable[[Any], Any], frames: list[Any]) -> float:
    """Return the mean time of a push in microseconds."""
    start = time.perf_counter()
    for frame in frames:
        push(frame)
    return (time.perf_counter() - start) / len(frames) * 1e6


def main() -> None:
    """Measure, print, and exit with a code that says whether the limit holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=300, help="turns of each stream")
    rounds = parser.parse_args().rounds
    print(f"{models.machine()}; 1 thread; medians of {rounds} turns of {TURN} pushes, interleaved; every 100th sampled")
    rng = np.random.default_rng(1)
    frames = list(rng.standard_normal((TURN, INPUTS)).astype(np.float32))
    with tempfile.TemporaryDirectory(prefix="lstm-edge-bench-") as folder:
        session = Session(make_file(Path(folder)), kernels="required")
        metrics = Metrics(Path(folder) / "metrics.prom")
        calls = {"plain": session.stream().push, "watched": session.stream(metrics=metrics).push}
        times: dict[str, list[float]] = {name: [] for name in calls}
        for push in calls.values():
            turns(push, frames)
        for number in range(rounds):
            for name in sorted(calls, reverse=bool(number % 2)):
                times[name].append(turns(calls[name], frames))
        sampled = metrics.read().sampled
        assert sampled is not None
        assert all(found.drift is not None for found in sampled.inputs.values())
    plain, watched = (float(np.median(times[name])) for name in calls)
    ratio = watched / plain
    rows = [(f"{plain:.3f}", f"{watched:.3f}", f"{ratio:.4f}", f"{LIMIT}{' MISSED' if ratio > LIMIT else ''}")]
    title = f"Mean time of a push, {LAYERS} int8 layers, {INPUTS} inputs, {HIDDEN} cells"
    print_table(title, ("plain, µs", "watched, µs", "ratio", "limit"), rows)
    sys.exit(1 if ratio > LIMIT else 0)


if __name__ == "__main__":
    main()
