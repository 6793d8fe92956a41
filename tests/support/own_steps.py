"""Cells of one's own, as papers have them: steps for ``lstm_edge.Recurrent``, and networks around them."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lstm_edge.recurrent import Recurrent

__all__ = ["MEMBERS", "Around", "Given", "Stacked"]

Pair = tuple[Tensor, Tensor]


class NormalizedLstm(nn.Module):
    """Layer-normalized LSTM (Ba, Kiros, Hinton 2016): each product and the cell state are normalized."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.w, self.r = nn.Linear(inputs, 4 * hidden, bias=False), nn.Linear(hidden, 4 * hidden)
        self.of_x, self.of_h, self.of_c = nn.LayerNorm(4 * hidden), nn.LayerNorm(4 * hidden), nn.LayerNorm(hidden)

    def forward(self, x: Tensor, state: Pair) -> tuple[Tensor, Pair]:
        h, c = state
        i, f, g, o = (self.of_x(self.w(x)) + self.of_h(self.r(h))).chunk(4, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(self.of_c(c))
        return h, (h, c)


class ConvLstm(nn.Module):
    """ConvLSTM (Shi et al. 2015) over images [channels, height, width]."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(channels + hidden, 4 * hidden, 3, padding=1)

    def forward(self, x: Tensor, state: Pair) -> tuple[Tensor, Pair]:
        h, c = state
        i, f, g, o = self.gates(torch.cat([x, h], dim=1)).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, (h, c)


class CoupledLstm(nn.Module):
    """Input and forget gate coupled: f = 1 - i (Greff et al. 2017, CIFG)."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.w, self.r = nn.Linear(inputs, 3 * hidden), nn.Linear(hidden, 3 * hidden)

    def forward(self, x: Tensor, state: Pair) -> tuple[Tensor, Pair]:
        h, c = state
        i, g, o = (self.w(x) + self.r(h)).chunk(3, dim=-1)
        i = torch.sigmoid(i)
        c = (1 - i) * c + i * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, (h, c)


class MinGru(nn.Module):
    """minGRU (Feng et al. 2024): gate and candidate see x alone."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.z, self.candidate = nn.Linear(inputs, hidden), nn.Linear(inputs, hidden)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.sigmoid(self.z(x))
        h = (1 - z) * h + z * self.candidate(x)
        return h, h


class Smoother(nn.Module):
    """A state without any Linear, and an output that is another tensor of another width."""

    def forward(self, x: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        mean = 0.9 * mean + 0.1 * x
        return torch.cat([x - mean, mean.abs()], dim=-1), mean


class Around(nn.Module):
    """A network around one layer: what the layer gives, flattened, goes through a Linear."""

    def __init__(self, layer: Recurrent, width: int) -> None:
        super().__init__()
        self.cell, self.head = layer, nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0].flatten(2))


class Stacked(nn.Module):
    """Two own cells, time first, with an LSTM between them; forward gives the last one's state back."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Recurrent(MinGru(6, 7), state=[(7,)], features=(6,), batch_first=False)
        self.middle = nn.LSTM(7, 5)
        self.last = Recurrent(NormalizedLstm(5, 4), state=[(4,), (4,)], features=(5,), batch_first=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, state = self.last(self.middle(self.first(x)[0])[0])
        return y.mean(-1), state


class Given(nn.Module):
    """The state is forward's own input and output."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = Recurrent(CoupledLstm(6, 7), state=[(7,), (7,)], features=(6,))

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return self.cell(x, h)


def _make(step: nn.Module, state: list[tuple[int, ...]], features: tuple[int, ...], width: int) -> Around:
    return Around(Recurrent(step, state=state, features=features), width)


def _members() -> Mapping[str, tuple[Around, str]]:
    torch.manual_seed(0)
    return {
        "layer-normalized LSTM": (_make(NormalizedLstm(6, 20), [(20,), (20,)], (6,), 20), "batch, time, 6"),
        "ConvLSTM": (_make(ConvLstm(2, 3), [(3, 4, 5), (3, 4, 5)], (2, 4, 5), 60), "batch, time, 2, 4, 5"),
        "coupled gates": (_make(CoupledLstm(6, 20), [(20,), (20,)], (6,), 20), "batch, time, 6"),
        "minGRU": (_make(MinGru(6, 20), [(20,)], (6,), 20), "batch, time, 6"),
        "smoother": (_make(Smoother(), [(3,)], (3,), 6), "batch, time, 3"),
    }


MEMBERS = _members()
