"""PyTorch modules with something that looks at earlier or later steps, for ``streamed_forms``."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

F = 6  # features of every input


class Steps(nn.Module):
    """Blocks over [batch, channels, time]; ``features_last``: the axes outside are [batch, time, channels]."""

    def __init__(self, *blocks: nn.Module, features_last: bool = True) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.features_last = features_last

    def forward(self, x: Tensor) -> Tensor:
        y = x.transpose(1, 2) if self.features_last else x
        for block in self.blocks:
            y = block(y)
        return y.transpose(1, 2) if self.features_last else y


class Recurrent(nn.Module):
    """An LSTM or a GRU over [batch, channels, time]."""

    def __init__(self, inputs: int, hidden: int, kind: type[nn.LSTM] | type[nn.GRU] = nn.GRU) -> None:
        super().__init__()
        self.rnn = kind(inputs, hidden, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.rnn(x.transpose(1, 2))[0]
        return answer.transpose(1, 2)


class Causal(nn.Module):
    """A convolution with zeros before the first step only."""

    def __init__(self, inputs: int, outputs: int, size: int, **options: int) -> None:
        super().__init__()
        self.before = (size - 1) * options.get("dilation", 1)
        self.conv = nn.Conv1d(inputs, outputs, size, **options)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(functional.pad(x, (self.before, 0))))


class Chomp(nn.Module):
    """Padding on both sides, of which the end is cut off again, as temporal convolutional networks do."""

    def __init__(self, inputs: int, outputs: int, size: int, dilation: int = 1) -> None:
        super().__init__()
        self.cut = (size - 1) * dilation
        self.conv = nn.Conv1d(inputs, outputs, size, padding=self.cut, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)[:, :, : -self.cut]


class Residual(nn.Module):
    """A block, and its input added to its output."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)


class Lambda(nn.Module):
    """A function of the steps."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Crnn(nn.Module):
    """A convolution over frequency and time, then a GRU over the steps: [batch, 1, 16, time] in and out."""

    def __init__(self, ahead: int) -> None:
        super().__init__()
        self.ahead = ahead
        self.conv = nn.Conv2d(1, 4, (3, 3), stride=(2, 1), padding=(1, 0))
        self.norm = nn.BatchNorm2d(4)
        self.gru = nn.GRU(4 * 8, 12, batch_first=True)
        self.out = nn.Linear(12, 16)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm(self.conv(functional.pad(x, (2 - self.ahead, self.ahead)))))
        batch, channels, frequencies, time = y.shape
        y = self.gru(y.permute(0, 3, 1, 2).reshape(batch, time, channels * frequencies))[0]
        return torch.sigmoid(self.out(y)).transpose(1, 2).unsqueeze(1) * x if not self.ahead else self.out(y)


class Spotter(nn.Module):
    """Scores of the last step."""

    def __init__(self, front: nn.Module) -> None:
        super().__init__()
        self.front, self.gru, self.out = front, nn.GRU(8, 12, batch_first=True), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.gru(self.front(x.transpose(1, 2)).transpose(1, 2))[0][:, -1])


class Conditioned(nn.Module):
    """A condition without steps beside frames that go through a convolution with look-ahead."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gru = nn.Conv1d(F, F, 3, padding=1), nn.GRU(F + 4, 8, batch_first=True)

    def forward(self, x: Tensor, speaker: Tensor) -> Tensor:
        y = self.conv(x.transpose(1, 2)).transpose(1, 2)
        return self.gru(torch.cat([y, speaker.unsqueeze(1).expand(-1, y.shape[1], -1)], 2))[0]


class Skip(nn.Module):
    """Strided convolution, GRU, deconvolution, and the input beside it, all cut to the input's number of steps."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.pads = (before, after)
        self.down, self.up = nn.Conv1d(F, 8, 4, stride=2), nn.ConvTranspose1d(8, F, 4, stride=2)
        self.gru = Recurrent(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        z = self.down(functional.pad(x, self.pads))
        return torch.sigmoid(self.up(z + self.gru(z))[:, :, : x.shape[2]]) * x
