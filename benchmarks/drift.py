"""``make bench-drift``: the population stability index of changed inputs, on real data.

A model with the 12 inputs of the bundled Japanese Vowels is quantized with reference data, the training utterances. The
test utterances go through a watched stream four times over, unchanged and changed as a microphone or a cable changes
them. Every push is sampled. `--write` puts the table into docs/watch.md.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lstm_edge import export, quantize
from lstm_edge.data import load
from lstm_edge.layers import LSTM
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.watch import Metrics

PAGE = Path(__file__).resolve().parents[1] / "docs" / "watch.md"
START, END = "<!-- drift -->", "<!-- end of drift -->"
Frames = np.ndarray[Any, np.dtype[np.float32]]


def changes(deviation: Frames) -> Mapping[str, Callable[[Frames], Frames]]:
    """Return what is done to frames float32 [N, 12]; ``deviation`` is that of each feature."""

    def dead(x: Frames) -> Frames:
        changed = x.copy()
        changed[:, 5] = 0
        return changed

    noise = np.random.default_rng(0)
    return {
        "unchanged": lambda x: x,
        "gain 0.8": lambda x: 0.8 * x,
        "gain 2": lambda x: 2 * x,
        "offset of half a standard deviation": lambda x: x + 0.5 * deviation,
        "noise of one standard deviation": lambda x: x + deviation * noise.standard_normal(x.shape),
        "feature 5 is always 0": dead,
    }


def table(folder: Path) -> list[str]:
    """Return the lines of the table."""
    torch.manual_seed(0)
    source, path = folder / "model.onnx", folder / "int8.onnx"
    export(LSTM(12, 16).eval(), torch.randn(5, 2, 12), source)
    quantize(source, path, reference_data="japanese-vowels", calibration_samples=270)
    session = Session(path)
    data = load("japanese-vowels:test", default_split="test")
    frames = np.concatenate([data[index] for index in np.random.default_rng(0).permutation(len(data))])
    lines = ["| test utterances | mean over the features | worst feature | its number |", "|---|---|---|---|"]
    for name, change in changes(frames.std(axis=0)).items():
        metrics = Metrics(every=1)
        stream = session.stream(metrics=metrics)
        for frame in change(frames).astype(np.float32):
            stream.push(frame)
        sampled = metrics.read().sampled
        assert sampled is not None
        [found] = sampled.inputs.values()
        assert found.drift is not None
        drift = found.drift
        lines.append(f"| {name} | {drift.mean:.2f} | {drift.worst:.2f} | {drift.worst_feature} |")
    return lines


def main() -> int:
    """Measure and print, or write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the table into docs/watch.md")
    write = parser.parse_args().write
    with tempfile.TemporaryDirectory(prefix="lstm-edge-drift-") as folder:
        lines = table(Path(folder))
    print("\n".join(lines))
    if write:
        text = PAGE.read_text(encoding="utf-8")
        before, after = text.split(START)[0], text.split(END)[-1] if END in text else text.split(START)[1]
        PAGE.write_text("\n".join([before + START, "", *lines, "", END]) + after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
