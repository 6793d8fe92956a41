"""A small denoiser: made sounds and noise, a model with channels first, and its training in plain PyTorch.

``python denoiser.py`` trains it for about ten seconds and writes ``denoiser.pt``, and noisy sounds with their clean
form to ``noisy.npz``.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

RATE, FRAME = 8000, 64  # samples a second, samples of one frame: 8 ms


def make_sounds(count: int, frames: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy and clean frames, float32 [sounds, 64, frames]: harmonic tones that come and go, in white noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(frames * FRAME) / RATE
    clean = np.zeros((count, t.size))
    for sound in clean:
        pitch = rng.uniform(100, 300) * (1 + 0.05 * np.sin(2 * np.pi * rng.uniform(2, 6) * t))
        phase = 2 * np.pi * np.cumsum(pitch) / RATE
        loudness = np.clip(np.sin(2 * np.pi * rng.uniform(1, 3) * t + rng.uniform(0, 6)) + 0.6, 0.05, None)
        sound[:] = loudness * sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in range(1, 6))
    clean *= 0.1 / clean.std(axis=1, keepdims=True)
    noisy = clean + 0.1 * 10 ** (-rng.uniform(0, 10, (count, 1)) / 20) * rng.standard_normal(clean.shape)
    return tuple(x.reshape(count, frames, FRAME).transpose(0, 2, 1).astype(np.float32) for x in (noisy, clean))


class Denoiser(nn.Module):
    """Noisy frames [batch, 64, time] to clean ones: a causal convolution over time, a GRU, and a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Conv1d(FRAME, 64, kernel_size=3)
        self.gru = nn.GRU(64, 64, batch_first=True)
        self.mask = nn.Linear(64, 64)
        self.decode = nn.Conv1d(64, FRAME, kernel_size=1)

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        """Return the clean frames."""
        latent = self.encode(functional.pad(noisy, (2, 0)))
        heard, _ = self.gru(latent.transpose(1, 2))
        return self.decode(latent * torch.sigmoid(self.mask(heard)).transpose(1, 2))


def train(steps: int = 250) -> Denoiser:
    """Train on new sounds in each step."""
    torch.manual_seed(0)
    model = Denoiser()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        noisy, clean = map(torch.from_numpy, make_sounds(16, 50, seed=1000 + step))
        loss = (model(noisy) - clean).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


if __name__ == "__main__":
    torch.save(train().state_dict(), "denoiser.pt")
    noisy, clean = make_sounds(120, 125, seed=1)
    np.savez(Path("noisy.npz"), noisy=noisy, y=clean)
