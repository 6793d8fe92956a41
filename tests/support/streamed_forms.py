"""Models with something that looks at earlier or later steps: streamed in pushes, they give the whole's answers.

``FORMS`` are PyTorch modules; ``ONNX_FORMS`` names those that are also exported by torch.onnx and adopted.
``benchmarks/caches.py`` writes the table of docs/caches.md from them and from ``streamed_keras``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from support.streamed_modules import (
    Causal,
    Chomp,
    Conditioned,
    Crnn,
    F,
    Lambda,
    Recurrent,
    Residual,
    Skip,
    Spotter,
    Steps,
)

BTF, BFT = "x: float32[batch, time, 6]", "x: float32[batch, 6, time]"


@dataclass(frozen=True, kw_only=True)
class Form:
    """A model, its inputs, and how a stream counts its steps: first, every, gives, latency."""

    name: str
    make: Callable[[], nn.Module]
    counts: tuple[int, int, int, int]
    inputs: tuple[str, ...] = (BTF,)


def _frames() -> nn.Module:
    return Steps(
        nn.Conv1d(1, 10, 6, stride=4, bias=False),
        Lambda(lambda y: torch.log(y * y + 1e-2)),
        Causal(10, 8, 3),
        Recurrent(8, 8),
        features_last=True,
    )


def _zeros_in_front(x: Tensor) -> Tensor:
    return torch.cat([torch.zeros(x.shape[0], F, 2), x], 2)


ONE = (1, 1, 1, 0)
FORMS = (
    Form(name="causal convolution, GRU", make=lambda: Steps(Causal(F, 8, 3), Recurrent(8, 8)), counts=ONE),
    Form(name="... stride 2", make=lambda: Steps(Causal(F, 8, 3, stride=2), Recurrent(8, 8)), counts=(1, 2, 1, 0)),
    Form(name="... stride 4", make=lambda: Steps(Causal(F, 8, 5, stride=4), Recurrent(8, 8)), counts=(1, 4, 1, 0)),
    Form(name="... dilation 3", make=lambda: Steps(Causal(F, 8, 3, dilation=3), Recurrent(8, 8)), counts=ONE),
    Form(name="... depthwise", make=lambda: Steps(Causal(F, F, 5, groups=F), Recurrent(F, 8)), counts=ONE),
    Form(
        name="depthwise separable, stride 2, dilation 2",
        make=lambda: Steps(Causal(F, F, 3, groups=F, stride=2, dilation=2), nn.Conv1d(F, 8, 1), Recurrent(8, 8)),
        counts=(1, 2, 1, 0),
    ),
    Form(
        name="keyword spotter, scores of the last step",
        make=lambda: Spotter(Causal(F, 8, 3, stride=2)),
        counts=(1, 2, 1, 0),
    ),
    Form(
        name="keyword spotter, padding on both sides",
        make=lambda: Spotter(nn.Conv1d(F, 8, 3, padding=1)),
        counts=(2, 1, 1, 1),
    ),
    Form(
        name="padding cut off at the end (TCN), two in a row",
        make=lambda: Steps(Chomp(F, 8, 3), Chomp(8, 8, 3, dilation=2), Recurrent(8, 8)),
        counts=ONE,
    ),
    Form(
        name="look-ahead of 1",
        make=lambda: Steps(nn.Conv1d(F, 8, 3, padding=1), Recurrent(8, 8)),
        counts=(2, 1, 1, 1),
    ),
    Form(
        name="look-ahead of 3",
        make=lambda: Steps(nn.Conv1d(F, 8, 7, padding=3), Recurrent(8, 8, nn.LSTM)),
        counts=(4, 1, 1, 3),
    ),
    Form(
        name="look-ahead behind the recurrent layer",
        make=lambda: Steps(Recurrent(F, 8, nn.LSTM), nn.Conv1d(8, 4, 5, padding=2)),
        counts=(3, 1, 1, 2),
    ),
    Form(
        name="two convolutions in a row, strides 2 and 2, look-ahead",
        make=lambda: Steps(
            nn.Conv1d(F, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv1d(8, 8, 5, stride=2, padding=2), Recurrent(8, 8)
        ),
        counts=(6, 4, 1, 5),
    ),
    Form(
        name="residual around a causal convolution",
        make=lambda: Steps(Residual(Causal(F, F, 3)), Recurrent(F, 8)),
        counts=ONE,
    ),
    Form(
        name="residual around convolutions with look-ahead",
        make=lambda: Steps(
            Residual(nn.Sequential(nn.Conv1d(F, 8, 3, padding=1), nn.ReLU(), nn.Conv1d(8, F, 5, padding=2))),
            Recurrent(F, 8),
        ),
        counts=(4, 1, 1, 3),
    ),
    Form(
        name="residual around convolution and LSTM",
        make=lambda: Steps(Residual(nn.Sequential(nn.Conv1d(F, F, 3, padding=1), Recurrent(F, F, nn.LSTM)))),
        counts=(2, 1, 1, 1),
    ),
    Form(
        name="convolution, LSTM, deconvolution, channels first",
        make=lambda: Steps(
            Causal(F, 8, 4, stride=2),
            Recurrent(8, 8, nn.LSTM),
            nn.ConvTranspose1d(8, F, 4, stride=2),
            Lambda(lambda y: y[:, :, :-2]),
            features_last=False,
        ),
        counts=(1, 2, 2, 0),
        inputs=(BFT,),
    ),
    Form(
        name="... padding on both sides",
        make=lambda: Steps(
            nn.Conv1d(F, 8, 4, stride=2, padding=1),
            Residual(Recurrent(8, 8)),
            nn.ConvTranspose1d(8, F, 4, stride=2, padding=1),
            features_last=False,
        ),
        counts=(3, 2, 2, 3),
        inputs=(BFT,),
    ),
    Form(
        name="mask of a causal encoder and decoder, cut to the input's steps",
        make=lambda: Skip(3, 0),
        counts=(1, 2, 2, 0),
        inputs=(BFT,),
    ),
    Form(
        name="mask of an encoder and decoder with look-ahead",
        make=lambda: Skip(2, 2),
        counts=(2, 2, 2, 1),
        inputs=(BFT,),
    ),
    Form(
        name="convolution, GRU, repeated steps",
        make=lambda: Steps(Causal(F, 8, 3, stride=2), Recurrent(8, 8), nn.Upsample(scale_factor=2)),
        counts=(1, 2, 2, 0),
    ),
    Form(name="CRNN over frequency", make=lambda: Crnn(0), counts=ONE, inputs=("x: float32[batch, 1, 16, time]",)),
    Form(
        name="CRNN over frequency, look-ahead of 1",
        make=lambda: Crnn(1),
        counts=(2, 1, 1, 1),
        inputs=("x: float32[batch, 1, 16, time]",),
    ),
    Form(
        name="normalization with running statistics",
        make=lambda: Steps(nn.BatchNorm1d(F), Causal(F, 8, 3), nn.BatchNorm1d(8), Recurrent(8, 8)),
        counts=ONE,
    ),
    Form(
        name="max pooling by 2",
        make=lambda: Steps(Causal(F, 8, 3), nn.MaxPool1d(2), Recurrent(8, 8)),
        counts=(2, 2, 1, 0),
    ),
    Form(
        name="mean of 4 steps, every 2",
        make=lambda: Steps(nn.AvgPool1d(4, 2), Recurrent(F, 8)),
        counts=(4, 2, 1, 0),
    ),
    Form(
        name="every third step",
        make=lambda: Steps(Lambda(lambda x: x[:, :, ::3]), Recurrent(F, 8)),
        counts=(1, 3, 1, 0),
    ),
    Form(
        name="differences of steps",
        make=lambda: Steps(Lambda(lambda x: x[:, :, 1:] - x[:, :, :-1]), Recurrent(F, 8)),
        counts=(2, 1, 1, 0),
    ),
    Form(
        name="cumulative sum",
        make=lambda: Steps(Lambda(lambda x: torch.cumsum(x, 2) / 8), Recurrent(F, 8)),
        counts=ONE,
    ),
    Form(
        name="zeros joined in front",
        make=lambda: Steps(Lambda(_zeros_in_front), nn.Conv1d(F, 8, 3), Recurrent(8, 8)),
        counts=ONE,
    ),
    Form(
        name="frames of raw samples, logarithm, convolution",
        make=_frames,
        counts=(6, 4, 1, 0),
        inputs=("x: float32[batch, time, 1]",),
    ),
    Form(
        name="condition without steps, look-ahead of 1",
        make=Conditioned,
        counts=(2, 1, 1, 1),
        inputs=(BTF, "speaker: float32[batch, 4]"),
    ),
)
# Those that torch.onnx's first exporter writes for any length.
ONNX_FORMS = (
    "causal convolution, GRU",
    "... stride 2",
    "... dilation 3",
    "keyword spotter, padding on both sides",
    "padding cut off at the end (TCN), two in a row",
    "look-ahead of 3",
    "two convolutions in a row, strides 2 and 2, look-ahead",
    "residual around convolutions with look-ahead",
    "convolution, LSTM, deconvolution, channels first",
    "CRNN over frequency",
    "cumulative sum",
    "differences of steps",
)
