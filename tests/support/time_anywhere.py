"""Modules whose inputs and outputs have their time axis at any place, some beside inputs without one."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["LAYOUTS"]


class ChannelsFirst(nn.Module):
    """[batch, features, time] in and out, with convolutions of one step and a normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(6, 5, 1), nn.BatchNorm1d(5)
        self.rnn, self.back = nn.GRU(5, 8, batch_first=True), nn.ConvTranspose1d(8, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(torch.relu(self.norm(self.conv(x))).transpose(1, 2))
        return self.back(y.transpose(1, 2))


class Spectrum(nn.Module):
    """A mask on [batch, real and imaginary, frequency, time]."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(12, 9, batch_first=True), nn.Linear(9, 12)

    def forward(self, x: Tensor) -> Tensor:
        b, c, f, t = x.shape
        y, _ = self.rnn(x.permute(0, 3, 1, 2).reshape(b, t, c * f))
        return x * torch.sigmoid(self.head(y)).reshape(b, t, c, f).permute(0, 2, 3, 1)


class TwoLayouts(nn.Module):
    """Two inputs and two outputs, each pair with its time axis at two places."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.mask, self.voice = nn.GRU(9, 8, batch_first=True), nn.Linear(8, 6), nn.Linear(8, 2)

    def forward(self, near: Tensor, far: Tensor) -> dict[str, Tensor]:
        y, _ = self.rnn(torch.cat([near.transpose(1, 2), far], 2))
        return {"mask": torch.sigmoid(self.mask(y)).transpose(1, 2), "voice": self.voice(y)}


class Speaker(nn.Module):
    """An embedding of the speaker beside frames, channels first."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(11, 8, batch_first=True), nn.Linear(8, 6)

    def forward(self, x: Tensor, speaker: Tensor) -> Tensor:
        joined = torch.cat([x, speaker[:, :, None].expand(-1, -1, x.shape[2])], 1)
        return self.head(self.rnn(joined.transpose(1, 2))[0]).transpose(1, 2)


class SpeakerNumber(nn.Module):
    """A number that a table looks up has the shape of lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.rnn = nn.Embedding(4, 8), nn.GRU(6, 8, batch_first=True)

    def forward(self, x: Tensor, who: Tensor) -> Tensor:
        return self.rnn(x)[0] * self.table(who)[:, None]


class Controls(nn.Module):
    """A gain for each row, a condition for all rows, and a scalar; time comes first."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.rnn = nn.Linear(5, 6), nn.GRU(6, 8)

    def forward(self, x: Tensor, gain: Tensor, scene: Tensor, level: Tensor) -> Tensor:
        return self.rnn(x * gain[None, :, None] + self.project(scene))[0] * level


class DualPath(nn.Module):
    """A layer over the frequencies of each frame, and one over time that sees each frequency as a row."""

    def __init__(self) -> None:
        super().__init__()
        self.over_f = nn.GRU(2, 3, batch_first=True, bidirectional=True)
        self.over_t, self.head = nn.GRU(6, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        b, c, f, t = x.shape
        y = self.over_f(x.permute(0, 3, 2, 1).reshape(b * t, f, c))[0].reshape(b, t, f, 6)
        y = self.over_t(y.permute(0, 2, 1, 3).reshape(b * f, t, 6))[0].reshape(b, f, t, 4)
        return self.head(y).permute(0, 3, 1, 2)


class Crnn(nn.Module):
    """Convolution and pooling over frequency only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(1, 3, (3, 1), padding=(1, 0)), nn.MaxPool2d((2, 1))
        self.rnn = nn.GRU(9, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(self.pool(torch.relu(self.conv(x))).flatten(1, 2).transpose(1, 2))[0]


LAYOUTS: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "channels first": (ChannelsFirst, ("x: float32[batch, 6, time]",)),
    "complex spectrum": (Spectrum, ("x: float32[batch, 2, 6, time]",)),
    "two layouts": (TwoLayouts, ("near: float32[batch, 6, time]", "far: float32[batch, time, 3]")),
    "speaker": (Speaker, ("x: float32[batch, 6, time]", "speaker: float32[batch, 5]")),
    "speaker's number": (SpeakerNumber, ("x: float32[batch, time, 6]", "who: int64[batch]")),
    "number, axes of the user's": (SpeakerNumber, ("x: float32[B, T, 6]", "who: int64[B]")),
    "controls": (
        Controls,
        ("x: float32[time, batch, 6]", "gain: float32[batch]", "scene: float32[1, 5]", "level: float32[]"),
    ),
    "dual path": (DualPath, ("x: float32[batch, 2, 6, time]",)),
    "convolution over frequency": (Crnn, ("x: float32[batch, 1, 6, time]",)),
}
