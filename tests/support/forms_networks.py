"""Forms of the networks that people build around recurrent layers."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from support.forms import Form, state_names
from support.networks import seeded

__all__ = ["NETWORK_FORMS"]


class Crnn(nn.Module):
    """Convolutions over time and frequency, pooling over frequency, a bidirectional GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)
        self.pool = nn.MaxPool2d((1, 2))
        self.rnn = nn.GRU(6, 5, batch_first=True, bidirectional=True)
        self.head = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        z = self.pool(torch.relu(self.norm(self.conv(x.unsqueeze(1)))))
        z = z.permute(0, 2, 1, 3).flatten(2)
        return torch.log_softmax(self.head(self.rnn(z)[0]), dim=-1)


class Normed(nn.Module):
    """Batch normalization before the layer, layer normalization and a skip connection after it."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.BatchNorm1d(5)
        self.rnn = nn.LSTM(5, 5, 2, batch_first=True)
        self.leave = nn.LayerNorm(5)

    def forward(self, x: Tensor) -> Tensor:
        z = self.enter(x.transpose(1, 2)).transpose(1, 2)
        return self.leave(z + self.rnn(z)[0])


class Attention(nn.Module):
    """Softmax over time of a score per step, and the weighted sum."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 5, batch_first=True, bidirectional=True)
        self.score, self.head = nn.Linear(10, 1), nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(x)
        weights = torch.softmax(self.score(y), dim=1)
        return self.head((weights * y).sum(dim=1))


class MultiHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 6, batch_first=True)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(x)
        return y + self.attention(y, y, y, need_weights=False)[0]


class LastStep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(3, 5, 2, batch_first=True), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(x)
        return self.head(y[:, -1, :])


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(x)
        return torch.cat([y.mean(dim=1), y.max(dim=1).values], dim=1)


class Language(nn.Module):
    """Embedding, dropout, ``flatten_parameters``, tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 5)
        self.dropout = nn.Dropout(0.4)
        self.rnn = nn.LSTM(5, 5, 2, dropout=0.4, batch_first=True)
        self.head = nn.Linear(5, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        self.rnn.flatten_parameters()
        y, _ = self.rnn(self.dropout(self.embedding(ids)))
        return self.head(self.dropout(y))


class Stack(nn.Module):
    """Layers in a ``ModuleList``, each added to its input, and a result that is a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.LSTM(3, 3, batch_first=True) for _ in range(3)])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        for layer in self.layers:
            x = x + layer(x)[0]
        return {"sum": x, "last": x[:, -1]}


class Permuted(nn.Module):
    """A time-first layer in a batch-first network."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(x.permute(1, 0, 2))
        return y.permute(1, 0, 2)


def _make(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """Draw weights and the running statistics of batch normalization anew: 0 and 1 would hide that they are lost."""

    def make() -> nn.Module:
        module = seeded(build())
        for child in module.modules():
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                child.running_mean.copy_(torch.linspace(-0.5, 0.5, child.num_features))
                child.running_var.copy_(torch.linspace(0.5, 2.0, child.num_features))
        return module

    return make


RNN, RNN_2 = state_names("rnn"), state_names("rnn", 2)

NETWORK_FORMS = (
    Form(
        name="crnn",
        make=_make(Crnn),
        inputs=("x: float32[batch, time, 6]",),
        states=state_names("rnn", 1, "h"),
        streaming="none",
    ),
    Form(
        name="batch-norm-layer-norm-skip",
        make=_make(Normed),
        inputs=("x: float32[batch, time, 5]",),
        states=RNN_2,
    ),
    Form(name="attention-over-time", make=_make(Attention), states=RNN, streaming="none"),
    Form(name="multi-head-attention", make=_make(MultiHead), states=state_names("rnn", 1, "h"), streaming="none"),
    Form(name="last-step", make=_make(LastStep), states=state_names("rnn", 2, "h"), streaming="last-step"),
    Form(name="pooling-over-time", make=_make(Pooled), states=RNN, streaming="none"),
    Form(
        name="embedding-dropout-flatten-parameters",
        make=_make(Language),
        inputs=("ids: int64[batch, time]",),
        states=RNN_2,
    ),
    Form(
        name="module-list-and-dict",
        make=_make(Stack),
        states=tuple(name for k in range(3) for name in state_names(f"layers.{k}")),
        outputs=("sum", "last"),
        streaming="last-step",
    ),
    Form(name="permuted", make=_make(Permuted), states=RNN),
)
