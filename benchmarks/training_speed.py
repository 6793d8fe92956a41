"""Compare the training throughput at hidden 256 with a bare ``nn.LSTM`` loop on the same batches, as Markdown.

Run with lstm-edge installed: ``python benchmarks/training_speed.py``; it takes about a minute on one core, and exits 1
if the standard cell is below 0.9 of the bare loop. Both run on one thread. Each figure is that of the fastest epoch,
because other load on the machine can only make an epoch slower.
"""

import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from lstm_edge.data import Dataset, pad
from lstm_edge.layers import Peephole
from lstm_edge.training import TrainingOptions, train_classifier
from lstm_edge.training.models import ClassifierConfig

HIDDEN, FEATURES, CLASSES, STEPS, BATCH, SEQUENCES, EPOCHS = 256, 16, 10, 60, 32, 256, 4
FLOOR = 0.9


def main() -> None:
    """Measure, print, and exit 1 if the standard cell is too slow."""
    print("| sequences | cell | ours, sequences per second | bare `nn.LSTM` loop | ratio |")
    print("|---|---|---:|---:|---:|")
    worst = 1e9
    for name, lengths in (("all of 60 steps", np.full(SEQUENCES, STEPS)), ("of 20 to 60 steps", mixed_lengths())):
        data = make_data(lengths)
        bare = measure_bare(data)
        cells: tuple[tuple[Peephole, bool], ...] = (("none", True), ("none", False), ("diagonal", True), ("full", True))
        for cell, pack in cells:
            ours = measure_ours(data, cell, pack=pack)
            label = cell if pack else f"{cell}, unpacked"
            print(f"| {name} | {label} | {ours:,.0f} | {bare:,.0f} | {ours / bare:.2f} |", flush=True)
            worst = min(worst, ours / bare) if cell == "none" else worst
    sys.exit(0 if worst >= FLOOR else 1)


def mixed_lengths() -> np.ndarray:
    """Return int64 ``[SEQUENCES]`` lengths from 20 to 60, the same in every run."""
    return np.random.default_rng(0).integers(20, STEPS + 1, size=SEQUENCES)


def make_data(lengths: np.ndarray) -> Dataset:
    """Return sequences of noise: the speed does not depend on the data."""
    x = np.random.default_rng(1).normal(size=(int(lengths.sum()), FEATURES)).astype(np.float32)
    return Dataset(name="noise", x=x, lengths=lengths.astype(np.int64), y=np.arange(len(lengths)) % CLASSES)


def measure_ours(data: Dataset, cell: Peephole, *, pack: bool) -> float:
    """Return the sequences per second of ``train_classifier`` in its fastest epoch."""
    config = ClassifierConfig(features=FEATURES, classes=CLASSES, hidden=HIDDEN, peephole=cell, input_noise=0.0)
    options = TrainingOptions(epochs=EPOCHS, batch_size=BATCH, pack=pack)
    # All sequences are trained on, as in the bare loop, so the held-out data are the same sequences.
    _, report = train_classifier(data, config, options=options, validation=data)
    return max(epoch.per_second for epoch in report.history)


def measure_bare(data: Dataset) -> float:
    """Return the sequences per second of a bare training loop in its fastest epoch."""
    torch.set_num_threads(1)
    lstm, linear = nn.LSTM(FEATURES, HIDDEN, batch_first=True), nn.Linear(HIDDEN, CLASSES)
    parameters = [*lstm.parameters(), *linear.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=3e-3)
    batches = []
    for start in range(0, len(data), BATCH):
        rows = range(start, min(start + BATCH, len(data)))
        x, lengths = pad([data[row] for row in rows])
        batches.append((torch.from_numpy(x), torch.from_numpy(lengths), torch.from_numpy(data.y[start : rows.stop])))
    speeds = []
    for _ in range(EPOCHS):
        start_s = time.perf_counter()
        for x, lengths, y in batches:
            full = bool((lengths == x.shape[1]).all())
            entering = x if full else pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            _, (hidden, _) = lstm(entering)
            loss = nn.functional.cross_entropy(linear(hidden[-1]), y)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
        speeds.append(len(data) / (time.perf_counter() - start_s))
    return max(speeds)


if __name__ == "__main__":
    main()
