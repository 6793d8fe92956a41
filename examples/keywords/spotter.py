"""A keyword spotter: generated words, a model, and its training with Lightning. Only one line is about lstm-edge."""

from pathlib import Path

import lightning
import numpy as np
import soundfile
import torch
from torch import nn
from torch.nn import functional

import lstm_edge

RATE, SECONDS = 16000, 0.8
WORDS = ("beep", "down", "noise", "up")

front_end = lstm_edge.front_end("log-mel:40")  # the features that the exported file computes itself


def say(word: str, rng: np.random.Generator) -> np.ndarray:
    """Return one word in noise, float32 [samples]: a steady tone, a falling one, a rising one, or noise alone."""
    samples = 0.01 * rng.standard_normal(int(RATE * SECONDS))
    t = np.arange(int(RATE * 0.4)) / RATE
    low, high = rng.uniform(300, 500), rng.uniform(1500, 2500)
    start, end = {"beep": (low, low), "down": (high, low), "up": (low, high), "noise": (0.0, 0.0)}[word]
    tone = np.sin(2 * np.pi * (start * t + (end - start) * t**2 / (2 * t[-1])))
    at = rng.integers(0, len(samples) - len(t))
    samples[at : at + len(t)] += rng.uniform(0.1, 0.5) * np.hanning(len(t)) * tone
    return samples.astype(np.float32)


def write_words(folder: Path, each: int, seed: int) -> None:
    """Write WAV files: FOLDER/beep/0.wav and so on, the form that ``--data FOLDER`` takes."""
    rng = np.random.default_rng(seed)
    for word in WORDS:
        (folder / word).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            soundfile.write(folder / word / f"{number}.wav", say(word, rng), RATE)


class Spotter(nn.Module):
    """Features [batch, time, 40] to one logit for each word: a causal convolution over time, then a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.BatchNorm1d(40)
        self.conv = nn.Conv1d(40, 32, kernel_size=3, stride=2)
        self.gru = nn.GRU(32, 32, batch_first=True)
        self.head = nn.Linear(32, len(WORDS))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the logits [batch, words] after the last step."""
        x = functional.pad(self.scale(features.transpose(1, 2)), (2, 0))
        _, h = self.gru(torch.relu(self.conv(x)).transpose(1, 2))
        return self.head(h[-1])


class Training(lightning.LightningModule):
    """The training of a spotter."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Spotter()

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _index: int) -> torch.Tensor:
        """Return the loss of a batch of features and words."""
        features, words = batch
        return functional.cross_entropy(self.model(features), words)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def train(checkpoint: Path, each: int = 60, epochs: int = 20) -> None:
    """Train on new words and write Lightning's checkpoint."""
    lightning.seed_everything(0)
    rng = np.random.default_rng(0)
    samples = np.stack([say(word, rng) for word in WORDS for _ in range(each)])
    words = torch.arange(len(WORDS)).repeat_interleave(each)
    data = torch.utils.data.TensorDataset(front_end(torch.from_numpy(samples)), words)
    loader = torch.utils.data.DataLoader(data, batch_size=16, shuffle=True)
    trainer = lightning.Trainer(max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(Training(), loader)
    trainer.save_checkpoint(checkpoint)


if __name__ == "__main__":
    train(Path("last.ckpt"))
    write_words(Path("words"), each=25, seed=1)
