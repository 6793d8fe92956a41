"""Measure what LSTMs are bad at: draw one figure and print one Markdown table for docs/limits-of-lstms.md.

    python benchmarks/lstm_limits.py gradients|adding|cost DRAWING.svg [--quick]

``gradients``: the gradient's norm against the lag, for the three cells. ``adding``: the adding problem (Hochreiter and
Schmidhuber, Long Short-Term Memory, 1997, section 5.4) at three lengths. ``cost``: time of a step against the hidden
size. All three use one thread and together take under ten minutes on one core. ``--quick`` takes under a minute: its
sizes are small, so its figures prove only that the script runs. Seeds are fixed.
"""

import argparse
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import lstm_edge
from lstm_edge.layers import LSTM, Peephole
from lstm_edge.training.models import ClassifierConfig, SequenceClassifier
from lstm_edge_runtime.bench import bench

CELLS: tuple[Peephole, ...] = ("none", "diagonal", "full")
NAMES = {"none": "standard", "diagonal": "diagonal peephole", "full": "full peephole"}
CLIP_NORM = 1.0


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of the measurements; QUICK is for a test."""

    lags: tuple[int, ...] = (0, 10, 25, 50, 100, 199)
    gradient_hidden: int = 64
    gradient_seeds: int = 5
    recurrent_scale: float = 4.0
    lengths: tuple[int, ...] = (100, 200, 400)
    updates: int = 3000
    adding_hidden: int = 32
    adding_seeds: int = 3
    judged: int = 1000
    cost_hidden: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    steps: int = 2000


QUICK = Sizes(
    lags=(0, 5, 10),
    gradient_hidden=8,
    gradient_seeds=2,
    lengths=(10, 20),
    updates=4,
    adding_hidden=4,
    adding_seeds=1,
    judged=20,
    cost_hidden=(4, 8),
    steps=20,
)


def main() -> None:
    """Measure one part, draw it, print its table."""
    parts = {"gradients": gradients, "adding": adding, "cost": cost}
    parser = argparse.ArgumentParser(description="measure what LSTMs are bad at")
    parser.add_argument("part", choices=sorted(parts))
    parser.add_argument("drawing", type=Path, help="the .svg file that the figure is written to")
    parser.add_argument("--quick", action="store_true", help="use small sizes, to check that the script runs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    figure, rows = parts[arguments.part](QUICK if arguments.quick else Sizes())
    save(figure, arguments.drawing)
    print("\n".join(rows))


def gradients(sizes: Sizes) -> tuple[Figure, list[str]]:
    """Measure the gradient norm of the last output with respect to the input ``lag`` steps before, raw and clipped."""
    figure = Figure(figsize=(9.0, 3.4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    header = " | ".join(f"lag {lag}" for lag in sizes.lags)
    rows = [
        f"| recurrent weights | cell | all parameters | {header} |",
        "|---|---|---:" + "|---:" * len(sizes.lags) + "|",
    ]
    settings = (("as initialized", 1.0), (f"times {sizes.recurrent_scale:g}", sizes.recurrent_scale))
    for plot, (setting, scale) in zip(axes, settings, strict=True):
        for colour, cell in enumerate(CELLS):
            norms, total = gradient_norms(cell, scale, sizes)
            kept = min(1.0, CLIP_NORM / total)
            lags = np.arange(len(norms))
            plot.plot(lags, norms, color=f"C{colour}", label=NAMES[cell])
            plot.plot(lags, norms * kept, color=f"C{colour}", linestyle="dotted")
            for name, values, norm in (("", norms, total), (", clipped", norms * kept, total * kept)):
                shown = " | ".join(f"{values[lag]:.1e}" for lag in sizes.lags)
                rows.append(f"| {setting} | {NAMES[cell]}{name} | {norm:.2g} | {shown} |")
        plot.set(title=f"recurrent weights {setting}", xlabel="lag, steps", yscale="log")
    axes[0].set_ylabel("gradient norm (dotted: clipped)")
    axes[0].legend()
    return figure, rows


def gradient_norms(cell: Peephole, scale: float, sizes: Sizes) -> tuple[np.ndarray, float]:
    """Return the gradient norm for each lag, float64 ``[T]``, and that of all parameters together: medians over seeds.

    The loss is the sum of the last output over the hidden units, its mean over 8 rows of standard normal inputs with 8
    features; ``scale`` multiplies the recurrent and the peephole matrices of a new layer.
    """
    curves, totals = [], []
    for seed in range(sizes.gradient_seeds):
        torch.manual_seed(seed)
        layer = LSTM(8, sizes.gradient_hidden, peephole=cell)
        with torch.no_grad():
            for name, weight in layer.named_parameters():
                if name.startswith(("weight_hh", "weight_ch")):
                    weight.mul_(scale)
        x = torch.randn(sizes.lags[-1] + 1, 8, 8, requires_grad=True)
        y, _ = layer(x)
        assert isinstance(y, Tensor)
        torch.autograd.backward(y[-1].sum(dim=1).mean())
        assert x.grad is not None
        curves.append(x.grad.double().flip(0).flatten(1).norm(dim=1).numpy())
        totals.append(float(nn.utils.clip_grad_norm_(layer.parameters(), CLIP_NORM)))
    return np.median(curves, axis=0), float(np.median(totals))


def adding(sizes: Sizes) -> tuple[Figure, list[str]]:
    """Train the standard cell on the adding problem, with the default forget-gate bias and with the bias ln T."""
    figure = Figure(figsize=(9.0, 3.0), layout="constrained")
    plots = figure.subplots(1, len(sizes.lengths), sharey=True, squeeze=False)[0]
    rows = [
        "| T | forget-gate bias | mean squared error of each seed | updates until it is below 0.01 |",
        "|---:|---:|---|---|",
    ]
    for plot, length in zip(plots, sizes.lengths, strict=True):
        for colour, bias in enumerate((1.0, math.log(length))):
            errors, solved = [], []
            for seed in range(sizes.adding_seeds):
                curve = train_adding(length, bias, seed, sizes)
                errors.append(f"{curve[-1][1]:.4f}")
                solved.append(next((str(update) for update, error in curve if error < 0.01), "never"))
                label = f"bias {bias:.1f}" if seed == 0 else None
                plot.plot(*zip(*curve, strict=True), color=f"C{colour}", label=label)
            rows.append(f"| {length} | {bias:.1f} | {', '.join(errors)} | {', '.join(solved)} |")
        plot.axhline(1 / 6, color="0.7", linewidth=0.8, zorder=0)
        plot.set(title=f"T = {length}", xlabel="updates", yscale="log")
    plots[0].set_ylabel("mean squared error")
    plots[0].legend()
    return figure, rows


def train_adding(length: int, bias: float, seed: int, sizes: Sizes) -> list[tuple[int, float]]:
    """Train one layer; return (updates, mean squared error on new sequences) at ten points of the training."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    layer, linear = LSTM(2, sizes.adding_hidden), nn.Linear(sizes.adding_hidden, 1)
    with torch.no_grad():
        layer.bias_ih_l0[sizes.adding_hidden : 2 * sizes.adding_hidden] = bias
    parameters = [*layer.parameters(), *linear.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=5e-3)
    judged = make_adding(np.random.default_rng(10_000), length, sizes.judged)
    every = max(1, sizes.updates // 10)
    curve = []
    for update in range(1, sizes.updates + 1):
        x, y = make_adding(generator, length, 32)
        loss = nn.functional.mse_loss(linear(layer(x)[0][-1])[:, 0], y)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        optimizer.step()
        if update % every == 0:
            with torch.inference_mode():
                error = nn.functional.mse_loss(linear(layer(judged[0])[0][-1])[:, 0], judged[1])
            curve.append((update, float(error)))
    return curve


def make_adding(generator: np.random.Generator, length: int, rows: int) -> tuple[Tensor, Tensor]:
    """Return sequences float32 ``[T, B, 2]`` of a number from 0 to 1 and a mark, and the marked numbers' sums ``[B]``.

    Each half has one mark. A model that always answers 1 has a mean squared error of 1/6.
    """
    x = np.zeros((length, rows, 2), np.float32)
    x[:, :, 0] = generator.random((length, rows))
    for low, high in ((0, length // 2), (length // 2, length)):
        x[generator.integers(low, high, rows), np.arange(rows), 1] = 1.0
    return torch.from_numpy(x), torch.from_numpy((x[:, :, 0] * x[:, :, 1]).sum(axis=0))


def cost(sizes: Sizes) -> tuple[Figure, list[str]]:
    """Measure the time of a stream's step against the hidden size: standard and full peephole, float32 and int8."""
    figure = Figure(figsize=(5.0, 3.4), layout="constrained")
    plot = figure.subplots()
    kinds = [(cell, scheme) for cell in ("none", "full") for scheme in ("float32", "int8")]
    times = {kind: [step_us(kind[0], kind[1], hidden, sizes.steps) for hidden in sizes.cost_hidden] for kind in kinds}
    for colour, (kind, values) in enumerate(times.items()):
        plot.plot(sizes.cost_hidden, values, marker="o", color=f"C{colour}", label=f"{NAMES[kind[0]]}, {kind[1]}")
    plot.set(xlabel="hidden size", ylabel="µs per step", xscale="log", yscale="log")
    plot.legend()
    names = " | ".join(f"{NAMES[cell]}, {scheme}" for cell, scheme in kinds)
    rows = [f"| hidden | recurrent weights, standard | {names} |", "|---:" * (2 + len(kinds)) + "|"]
    for number, hidden in enumerate(sizes.cost_hidden):
        shown = " | ".join(f"{times[kind][number]:,.1f}" for kind in kinds)
        rows.append(f"| {hidden} | {4 * hidden * hidden:,} | {shown} |")
    return figure, rows


def step_us(cell: Peephole, scheme: str, hidden: int, steps: int) -> float:
    """Return the median step time in microseconds of a new classifier with 16 features, 10 classes and one layer."""
    torch.manual_seed(0)
    model = SequenceClassifier(ClassifierConfig(features=16, classes=10, hidden=hidden, peephole=cell)).eval()
    with tempfile.TemporaryDirectory() as folder:
        path, int8 = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        lstm_edge.export(model, None, path)
        if scheme == "int8":
            lstm_edge.quantize(path, int8, scheme="int8")
        report = bench(int8 if scheme == "int8" else path, threads=1, steps=steps, time_steps=2, repeats=1)
    assert report.step is not None
    return report.step.p50_us


def save(figure: Figure, path: Path) -> None:
    """Write a drawing; equal figures give equal bytes."""
    with mpl.rc_context({"svg.hashsalt": "lstm-edge", "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
