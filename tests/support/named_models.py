"""Models as new users write them, with several inputs or other axes than [batch, time, features], and data for them."""

import functools

import numpy as np
import torch
from torch import Tensor, nn

import lstm_edge
from lstm_edge_runtime.session import Session

__all__ = [
    "DENOISER_AXES",
    "Conditioned",
    "Denoiser",
    "KeywordSpotter",
    "Policy",
    "conditioned_arrays",
    "denoiser_arrays",
    "exported",
    "keyword_arrays",
    "policy_arrays",
    "run_policy",
]

DENOISER_AXES = ("batch", 2, 17, "time")


class KeywordSpotter(nn.Module):
    """Log-mel features [batch, 40, time] to one of 12 words; the convolution halves the steps."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Conv1d(40, 24, 3, stride=2, padding=1)
        self.gru, self.head = nn.GRU(24, 32, batch_first=True), nn.Linear(32, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(torch.relu(self.front(x)).transpose(1, 2))[0][:, -1])


class Denoiser(nn.Module):
    """Spectra [batch, channels, frequency, time] to spectra of the same axes, by a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.front, self.lstm = nn.Conv2d(2, 6, (3, 1), padding=(1, 0)), nn.LSTM(6 * 17, 24, batch_first=True)
        self.mask = nn.Linear(24, 2 * 17)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, bins, time = x.shape
        rows = torch.relu(self.front(x)).permute(0, 3, 1, 2).reshape(batch, time, -1)
        mask = torch.sigmoid(self.mask(self.lstm(rows)[0])).reshape(batch, time, 2, bins)
        return mask.permute(0, 2, 3, 1) * x


class Policy(nn.Module):
    """A step of a robot's policy; an episode's start resets the states. Two outputs: the action and its value."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.cell = nn.Linear(6 + 2, 16), nn.LSTMCell(16, 20)
        self.action, self.value = nn.Linear(20, 2), nn.Linear(20, 1)

    def forward(
        self, observation: Tensor, previous_action: Tensor, episode_start: Tensor, h: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        keep = (1 - episode_start)[:, None]
        encoded = torch.tanh(self.encoder(torch.cat([observation, previous_action], dim=-1)))
        h, c = self.cell(encoded, (h * keep, c * keep))
        return torch.tanh(self.action(h)), self.value(h), h, c


class Conditioned(nn.Module):
    """Token ids and a speaker's vector to logits for each step, and one value for the sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.gru = nn.Embedding(30, 8), nn.GRU(8 + 5, 16, batch_first=True)
        self.head, self.value = nn.Linear(16, 7), nn.Linear(16, 1)

    def forward(self, ids: Tensor, speaker: Tensor) -> tuple[Tensor, Tensor]:
        spoken = speaker[:, None].expand(-1, ids.shape[1], -1)
        y, h = self.gru(torch.cat([self.table(ids), spoken], dim=-1))
        return self.head(y), self.value(h[-1])


_EXAMPLES = {
    KeywordSpotter: (lambda: torch.randn(2, 40, 20), ("word",)),
    Denoiser: (lambda: torch.randn(2, 2, 17, 9), ("clean",)),
    Policy: (
        lambda: {
            "observation": torch.randn(2, 6),
            "previous_action": torch.randn(2, 2),
            "episode_start": torch.zeros(2),
            "h": torch.zeros(2, 20),
            "c": torch.zeros(2, 20),
        },
        ("action", "value", "h_out", "c_out"),
    ),
    Conditioned: (lambda: {"ids": torch.randint(0, 30, (2, 6)), "speaker": torch.randn(2, 5)}, ("logits", "value")),
}


@functools.cache
def exported(kind, folder):
    """Export a model of random weights once; returns the paths of the float32 file and of an int8 file."""
    torch.manual_seed(0)
    module = kind().eval()
    example, names = _EXAMPLES[kind]
    path = folder / f"{kind.__name__}.onnx"
    lstm_edge.export(module, example(), path, output_names=names)
    return path


def keyword_arrays(path, samples=60, steps=25):
    """Return features [samples, 40, time] and the model's own words as targets."""
    x = np.random.default_rng(1).normal(size=(samples, 40, steps)).astype(np.float32)
    return x, Session(path).run(x)[0]["word"].argmax(axis=1)


def denoiser_arrays(path, samples=40, steps=12):
    """Return noisy spectra [samples, 2, 17, time], and targets near the model's answers."""
    generator = np.random.default_rng(2)
    x = generator.normal(size=(samples, 2, 17, steps)).astype(np.float32)
    return x, Session(path).run(x)[0]["clean"] + 0.1 * generator.normal(size=x.shape).astype(np.float32)


def policy_arrays(episodes=30, steps=14):
    """Return inputs for each step [episodes, time, ...] and initial states [episodes, size] by name."""
    generator = np.random.default_rng(3)

    def normal(*shape):
        return generator.normal(size=shape).astype(np.float32)

    return {
        "observation": normal(episodes, steps, 6),
        "previous_action": normal(episodes, steps, 2),
        "episode_start": generator.random((episodes, steps)) < 0.15,
        "h": normal(episodes, 20),
        "c": normal(episodes, 20),
    }


def run_policy(path, arrays, lengths=None):
    """Run the policy step by step with its states; returns action and value of each episode, by name."""
    session = Session(path)
    found = {"action": [], "value": []}
    for episode, start in enumerate(arrays["episode_start"]):
        state = session.initial_state()
        if "h" in arrays:
            state = type(state).from_arrays(
                session.states, {name: arrays[name][episode : episode + 1] for name in ("h", "c")}
            )
        rows = {"action": [], "value": []}
        for step in range(len(start) if lengths is None else lengths[episode]):
            one = {name: arrays[name][episode][step][None].astype(np.float32) for name in list(arrays)[:3]}
            outputs, state = session.run(one, state)
            for name, kept in rows.items():
                kept.append(outputs[name][0])
        for name, kept in rows.items():
            found[name].append(np.stack(kept))
    return found


def conditioned_arrays(samples=40, steps=9):
    """Return ids [samples, time], speakers [samples, 5] and lengths."""
    generator = np.random.default_rng(4)
    return {
        "ids": generator.integers(0, 30, (samples, steps)),
        "speaker": generator.normal(size=(samples, 5)),
        "lengths": generator.integers(2, steps + 1, samples),
    }
