"""``make bench-metrics``: what a watched stream costs beside a plain one.

One int8 model of two LSTM layers with 64 inputs and 128 cells, whose card has reference data, so that all metrics are
measured. A plain stream, another plain one and a watched one take turns of 6,400 pushes in one process; a time is the
mean of a turn, which holds 64 sampled pushes and the one digest of these. Where a stream's buffers lie changes its time
by a few per cent, in plain streams too: streams are made anew again and again, the medians of each set's turns are
compared, and the ratio is the median over the sets. The second plain stream shows what such a comparison is worth. The
file is written every ten seconds, as by default. The exit code is 1 if the watched stream takes more than 3 % longer.
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
# Samples are digested 64 at a time, and every 100th push is one.
TURN = 6400
TURNS = 15
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
    parser.add_argument("--sets", type=int, default=20, help="how often new streams are made")
    sets = parser.parse_args().sets
    print(
        f"{models.machine()}; 1 thread; {sets} sets of streams, {TURNS} turns of {TURN} pushes each, interleaved; "
        "every 100th push sampled"
    )
    rng = np.random.default_rng(1)
    # Few enough for the caches: a device's frame was written a moment ago.
    frames = list(rng.standard_normal((TURN // 8, INPUTS)).astype(np.float32)) * 8
    with tempfile.TemporaryDirectory(prefix="lstm-edge-bench-") as folder:
        session = Session(make_file(Path(folder)), kernels="required")
        metrics = Metrics(Path(folder) / "metrics.prom")
        times = np.array([measure(session, metrics, frames) for _ in range(sets)])
        sampled = metrics.read().sampled
        assert sampled is not None
        assert all(found.drift is not None for found in sampled.inputs.values())
    medians = np.median(times, axis=0)
    ratios = times / times[:, :1]
    rows = []
    for column, name in enumerate(("plain", "plain, another", "watched")):
        low, middle, high = np.quantile(ratios[:, column], (0.25, 0.5, 0.75))
        asked = f"{LIMIT}{' MISSED' if middle > LIMIT else ''}" if name == "watched" else ""
        rows.append((name, f"{medians[column]:.3f}", f"{middle:.4f}", f"{low:.3f} to {high:.3f}", asked))
    title = f"Mean time of a push, {LAYERS} int8 layers, {INPUTS} inputs, {HIDDEN} cells"
    print_table(title, ("stream", "µs", "ratio", "half of the sets", "limit"), rows)
    sys.exit(1 if np.median(ratios[:, 2]) > LIMIT else 0)


def measure(session: Session, metrics: Metrics, frames: list[Any]) -> list[float]:
    """Return the median time of a push of new streams, in microseconds: plain, plain, watched."""
    pushes = (session.stream().push, session.stream().push, session.stream(metrics=metrics).push)
    times: list[list[float]] = [[] for _ in pushes]
    for push in pushes:
        turns(push, frames)
    for number in range(TURNS):
        for place in (0, 1, 2) if number % 2 else (2, 1, 0):
            times[place].append(turns(pushes[place], frames))
    return [float(np.median(one)) for one in times]


if __name__ == "__main__":
    main()
