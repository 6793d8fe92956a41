"""Models with convolutions in front of recurrent layers, and signals for them: an EEG network and a keyword spotter.

Their weights are random: times and bytes are those of trained ones, the signal to noise is that of signals and weights
without outliers.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import lstm_edge

__all__ = ["MODELS"]

Made = tuple[Path, list[dict[str, np.ndarray]]]


class Eeg(nn.Module):
    """Two convolutions with batch normalization and two bidirectional LSTMs; x [batch, time, 22 electrodes]."""

    def __init__(self) -> None:
        super().__init__()
        self.temporal, self.norm1 = nn.Conv1d(22, 64, 25, padding=12), nn.BatchNorm1d(64)
        self.features, self.norm2 = nn.Conv1d(64, 128, 5, stride=2, padding=2), nn.BatchNorm1d(128)
        self.pool = nn.MaxPool1d(4)
        self.rnn = nn.LSTM(128, 32, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return the classes' logits [batch, 4]."""
        y = self.pool(torch.relu(self.norm1(self.temporal(x.transpose(1, 2)))))
        y = torch.relu(self.norm2(self.features(y))).transpose(1, 2)
        answer: Tensor = self.head(self.rnn(y)[0][:, -1])
        return answer


class Spotter(nn.Module):
    """Three convolutions in two dimensions and a GRU; x [batch, time, 40 bands]."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList([nn.Conv2d(1, 32, 3, padding=1)])
        self.convolutions.extend(nn.Conv2d(32, 32, 3, stride=(1, 2), padding=1) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(32) for _ in range(3))
        self.rnn, self.head = nn.GRU(320, 64, batch_first=True), nn.Linear(64, 12)

    def forward(self, x: Tensor) -> Tensor:
        """Return the words' logits [batch, time, 12]."""
        y = x[:, None]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            y = torch.relu(norm(convolution(y)))
        answer: Tensor = self.head(self.rnn(y.transpose(1, 2).flatten(2))[0])
        return answer


def _signals(count: int, steps: int, channels: int) -> np.ndarray:
    """Sums of six sines a sequence with a phase and an amplitude for each channel, and noise."""
    rng, time = np.random.default_rng(0), np.arange(steps)[:, None]
    made = rng.normal(size=(count, steps, channels))
    for sequence in made:
        for period in rng.uniform(3, 60, 6):
            phase, amplitude = rng.uniform(0, 2 * np.pi, channels), rng.normal(size=channels)
            np.add(sequence, amplitude * np.sin(2 * np.pi * time / period + phase), out=sequence)
    return made.astype(np.float32)


def _made(folder: Path, name: str, kind: Callable[[], nn.Module], shape: tuple[int, int, int]) -> Made:
    torch.manual_seed(0)
    module, x = kind(), _signals(*shape)
    with torch.no_grad():
        for _ in range(30):  # statistics of the batch normalizations
            module(torch.from_numpy(x[::2]))
    path = folder / f"{name}.onnx"
    lstm_edge.export(module.eval(), torch.from_numpy(x[:2]), path)
    return path, [{"x": row[None]} for row in x]


MODELS: Mapping[str, Callable[[Path], Made]] = {
    "EEG network, 4 seconds": lambda folder: _made(folder, "eeg", Eeg, (64, 512, 22)),
    "Keyword spotter, 1 second": lambda folder: _made(folder, "spotter", Spotter, (64, 100, 40)),
}
