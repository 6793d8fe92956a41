"""Forms of ``nn.LSTM`` and ``nn.GRU``: their options, what becomes of the state, several of them in one network."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from support.forms import Form, state_names, straight
from support.networks import seeded

__all__ = ["LAYER_FORMS", "Around", "Decoder", "Encoder", "EncoderDecoder", "LearnedState"]

TIME_FIRST = ("x: float32[time, batch, 3]",)
UNBATCHED = ("x: float32[time, 3]",)
Kind = type[nn.LSTM] | type[nn.GRU]


class Around(nn.Module):
    """A network around one recurrent layer of 3 features and hidden size 5; subclasses have the forward."""

    def __init__(self, kind: Kind = nn.LSTM, layers: int = 1, *, batch_first: bool = True, both: bool = False) -> None:
        super().__init__()
        self.rnn = kind(3, 5, layers, batch_first=batch_first, bidirectional=both)
        self.head = nn.Linear(10 if both else 5, 4)


class Ignored(Around):
    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(x)
        return self.head(y)


class Returned(Around):
    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        y, state = self.rnn(x)
        return self.head(y), state


class Used(Around):
    def forward(self, x: Tensor) -> Tensor:
        _, state = self.rnn(x)
        h = state[0] if isinstance(state, tuple) else state
        return self.head(h[-1])


class ZeroState(Around):
    def forward(self, x: Tensor) -> Tensor:
        zeros = torch.zeros(self.rnn.num_layers, x.size(0), self.rnn.hidden_size)
        state = (zeros, zeros.clone()) if isinstance(self.rnn, nn.LSTM) else zeros
        y, _ = self.rnn(x, state)
        return self.head(y)


class Given(Around):
    def forward(self, x: Tensor, h0: Tensor, c0: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, (h, c) = self.rnn(x, (h0, c0))
        return self.head(y), (h, c)


class GivenGru(Around):
    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        y, hidden = self.rnn(x, hidden)
        return self.head(y), hidden


class GivenOnly(Around):
    def forward(self, x: Tensor, h0: Tensor, c0: Tensor) -> Tensor:
        return self.head(self.rnn(x, (h0, c0))[0])


class GivenOnlyGru(Around):
    def forward(self, x: Tensor, h0: Tensor) -> Tensor:
        return self.head(self.rnn(x, h0)[0])


class LearnedState(Around):
    """A parameter is where each sequence starts from; forward asks what kind of layer it has."""

    def __init__(self, kind: Kind = nn.LSTM) -> None:
        super().__init__(kind)
        self.first = nn.Parameter(torch.zeros(1, 1, 5))

    def forward(self, x: Tensor) -> Tensor:
        start = self.first.expand(-1, x.size(0), -1).contiguous()
        return self.head(self.rnn(x, (start, 2 * start) if isinstance(self.rnn, nn.LSTM) else start)[0])


class Mixed(nn.Module):
    """A GRU above an LSTM, and a second LSTM beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.below = nn.LSTM(3, 5, 2, batch_first=True)
        self.above = nn.GRU(5, 6, batch_first=True)
        self.beside = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.above(self.below(x)[0])[0], self.beside(x)[0]], dim=-1)


class Twice(Around):
    """Two inputs through the same weights, as of a Siamese network."""

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        return self.rnn(x)[0] - self.rnn(other)[0]


class TwiceOn(Around):
    """The second call goes on from where the first one ended."""

    def forward(self, x: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        y, state = self.rnn(x)
        z, _ = self.rnn(other, state)
        return y, z


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.LSTM(3, 5, 2, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        return self.encoder(x)


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 4)
        self.decoder = nn.LSTM(4, 5, 2, batch_first=True)
        self.head = nn.Linear(5, 11)

    def forward(self, ids: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, (h, c) = self.decoder(self.embedding(ids), (h, c))
        return self.head(y), h, c


class EncoderDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Encoder(), Decoder()

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        _, (h, c) = self.first(x)
        return self.second(ids, h, c)[0]


def _make(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: seeded(build())


def _options(kind: Kind) -> tuple[Form, ...]:
    """The layer alone, with each of its options."""
    path, kinds = ("lstm", "hc") if kind is nn.LSTM else ("gru", "h")
    one, two, three = (state_names(path, layers, kinds) for layers in (1, 2, 3))
    return (
        Form(name=f"{path}-1-layer", make=_make(lambda: kind(3, 5, batch_first=True)), states=one),
        Form(name=f"{path}-2-layers", make=_make(lambda: kind(3, 5, 2, batch_first=True)), states=two),
        Form(name=f"{path}-3-layers-time-first", make=_make(lambda: kind(3, 5, 3)), inputs=TIME_FIRST, states=three),
        Form(
            name=f"{path}-bidirectional",
            make=_make(lambda: kind(3, 5, batch_first=True, bidirectional=True)),
            states=one,
            streaming="none",
        ),
        Form(
            name=f"{path}-bidirectional-2-layers-time-first",
            make=_make(lambda: kind(3, 5, 2, bidirectional=True)),
            inputs=TIME_FIRST,
            states=two,
            streaming="none",
        ),
        Form(name=f"{path}-no-bias", make=_make(lambda: kind(3, 5, bias=False, batch_first=True)), states=one),
        Form(name=f"{path}-unbatched", make=_make(lambda: kind(3, 5, 2)), inputs=UNBATCHED, states=two),
        Form(
            name=f"{path}-unbatched-bidirectional",
            make=_make(lambda: kind(3, 5, batch_first=True, bidirectional=True)),
            inputs=UNBATCHED,
            states=one,
            streaming="none",
        ),
        Form(name=f"{path}-dropout", make=_make(lambda: kind(3, 5, 2, dropout=0.5, batch_first=True)), states=two),
        Form(
            name=f"{path}-lengths",
            make=_make(lambda: kind(3, 5, 2, batch_first=True, bidirectional=True)),
            states=two,
            streaming="none",
            ask_lengths=True,
            lengths="lengths",
        ),
    )


def _states(kind: Kind) -> tuple[Form, ...]:
    """What becomes of the state in a network around the layer."""
    name, kinds = ("lstm", "hc") if kind is nn.LSTM else ("gru", "h")
    one, two = state_names("rnn", 1, kinds), state_names("rnn", 2, kinds)
    hidden: Any = {"state": "hidden", "streaming": "none"}
    return (
        Form(name=f"{name}-state-ignored", make=_make(lambda: Ignored(kind)), states=one),
        Form(name=f"{name}-state-returned", make=_make(lambda: Returned(kind, 2)), states=two),
        Form(name=f"{name}-final-state-used", make=_make(lambda: Used(kind, 2)), states=two, streaming="last-step"),
        Form(name=f"{name}-zero-state-in-forward", make=_make(lambda: ZeroState(kind, 2)), states=two),
        Form(name=f"{name}-hidden-state", make=_make(lambda: Ignored(kind, 2)), **hidden),
        Form(name=f"{name}-learned-state-hidden", make=_make(lambda: LearnedState(kind)), **hidden),
    )


H, C = "h0: float32[2, batch, 5]", "c0: float32[2, batch, 5]"
X = "x: float32[batch, time, 3]"
XO = (X, "other: float32[batch, time, 3]")

LAYER_FORMS = (
    *_options(nn.LSTM),
    *_options(nn.GRU),
    Form(
        name="lstm-projected",
        make=_make(lambda: nn.LSTM(3, 6, 2, proj_size=4, batch_first=True)),
        states=state_names("lstm", 2),
    ),
    Form(
        name="lstm-projected-bidirectional",
        make=_make(lambda: nn.LSTM(3, 6, 2, proj_size=4, bidirectional=True)),
        inputs=TIME_FIRST,
        states=state_names("lstm", 2),
        streaming="none",
    ),
    *_states(nn.LSTM),
    *_states(nn.GRU),
    Form(
        name="lstm-state-given-and-returned",
        make=_make(lambda: Given(nn.LSTM, 2)),
        inputs=(X, H, C),
        states=("h0", "c0"),
        outputs=("output_0",),
        answer=straight("h0", "c0"),
    ),
    Form(
        name="gru-state-given-and-returned",
        make=_make(lambda: GivenGru(nn.GRU, 2, both=True)),
        inputs=(X, "hidden: float32[4, batch, 5]"),
        states=("hidden",),
        outputs=("output_0",),
        answer=straight("hidden"),
        streaming="none",
    ),
    Form(name="lstm-state-given", make=_make(lambda: GivenOnly(nn.LSTM, 2)), inputs=(X, H, C), streaming="none"),
    Form(name="gru-state-given", make=_make(lambda: GivenOnlyGru(nn.GRU, 2)), inputs=(X, H), streaming="none"),
    Form(
        name="lstm-and-gru-mixed",
        make=_make(Mixed),
        states=(*state_names("below", 2), *state_names("above", 1, "h"), *state_names("beside")),
    ),
    Form(
        name="one-module-twice",
        make=_make(Twice),
        inputs=XO,
        states=(*state_names("rnn"), *state_names("rnn_2")),
    ),
    Form(
        name="one-module-twice-gru-2-layers",
        make=_make(lambda: Twice(nn.GRU, 2)),
        inputs=XO,
        states=(*state_names("rnn", 2, "h"), *state_names("rnn_2", 2, "h")),
    ),
    Form(
        name="one-module-twice-going-on",
        make=_make(TwiceOn),
        inputs=XO,
        states=state_names("rnn"),
        outputs=("output_0", "output_1"),
        streaming="none",
    ),
    Form(name="encoder", make=_make(Encoder), states=state_names("encoder", 2)),
    Form(
        name="decoder",
        make=_make(Decoder),
        inputs=("ids: int64[batch, time]", "h: float32[2, batch, 5]", "c: float32[2, batch, 5]"),
        states=("h", "c"),
        outputs=("output_0",),
        answer=straight("h", "c"),
    ),
    Form(
        name="encoder-decoder-hidden",
        make=_make(EncoderDecoder),
        inputs=(X, "ids: int64[batch, steps]"),
        state="hidden",
        streaming="none",
    ),
)
