"""Models with something that looks at earlier or later steps: streamed in pushes, they must give the whole's answers.

``FORMS`` are PyTorch modules; ``ONNX_FORMS`` names those that are also exported by torch.onnx and adopted;
``KERAS_FORMS`` are written by Keras in a process of its own (``python tests/support/streamed_forms.py FOLDER``).
``benchmarks/caches.py`` writes the table of docs/caches.md from them.
"""

import io
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lstm_edge_exporters.verify.pushes import pushes_of
from lstm_edge_runtime.card import TIME
from lstm_edge_runtime.session import Session

F = 6  # features of every input
BTF, BFT = "x: float32[batch, time, 6]", "x: float32[batch, 6, time]"


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


class ExplicitCache(nn.Module):
    """The cache of a convolution is an argument of forward that comes back; another one has none."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(F, F, 3), nn.Conv1d(F, F, 4)
        self.gru = nn.GRU(F, 8, batch_first=True)

    def forward(self, x: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        joined = torch.cat([cache, x.transpose(1, 2)], 2)
        y = torch.relu(self.first(joined))
        y = self.second(functional.pad(y, (3, 0)))
        return self.gru(y.transpose(1, 2))[0], joined[:, :, -2:]


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
Sample = tuple[dict[str, np.ndarray], np.ndarray]


def made(form: Form) -> nn.Module:
    """Return the module of a form, with seeded weights and statistics, in evaluation mode."""
    torch.manual_seed(5)
    module = form.make()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.5, 0.5)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
    return module.eval()


def samples_of(
    session: Session, ask: Callable[[dict[str, np.ndarray]], np.ndarray], lengths: Sequence[int]
) -> list[Sample]:
    """Return random sequences of some lengths, batch 2, and the answers to them."""
    rng = np.random.default_rng(3)
    samples = []
    for steps in lengths:
        shapes = {spec.name: [{"batch": 2, TIME: steps}.get(str(a), a) for a in spec.axes] for spec in session.inputs}
        inputs = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
        samples.append((inputs, ask(inputs)))
    return samples


def lengths_of(session: Session) -> list[int]:
    """Return the lengths that a form is streamed at: some that end in the middle of what an output step takes."""
    assert session.card is not None
    first, every = session.card.streaming.first, session.card.streaming.every
    return [first, first + 1, first + 5 * every, first + 9 * every + every // 2]


def largest_difference(session: Session, samples: Sequence[Sample]) -> float:
    """Push each sequence in chunks of 1, 2, 7, T - 1, T and ragged ones; return how far the answers are from the whole.

    Raises:
        AssertionError: the joined answers have another shape than the whole's.
    """
    worst = 0.0
    spec = session.outputs[0]
    for inputs, expected in samples:
        whole = session.run(inputs)[0][spec.name]
        assert whole.shape == expected.shape
        worst = max(worst, float(np.abs(whole - expected).max()))
        timed = {one.name: one.axes.index(TIME) for one in session.inputs if TIME in one.axes}
        steps = next(inputs[name].shape[axis] for name, axis in timed.items())
        for pushes in pushes_of(steps):
            joined = _streamed(session, inputs, timed, pushes)
            assert joined.shape == expected.shape, (pushes, joined.shape, expected.shape)
            worst = max(worst, float(np.abs(joined - expected).max()))
    return worst


def _streamed(
    session: Session, inputs: dict[str, np.ndarray], timed: dict[str, int], pushes: Sequence[int]
) -> np.ndarray:
    stream, spec = session.stream(2), session.outputs[0]
    answers, start = [], 0
    for steps in pushes:
        part = {
            name: array.take(range(start, start + steps), axis=timed[name]) if name in timed else array
            for name, array in inputs.items()
        }
        answers.append(stream.push(part if len(part) > 1 else next(iter(part.values()))))
        start += steps
    answers.append(stream.flush())
    if TIME in spec.axes:
        return np.concatenate(answers, axis=spec.axes.index(TIME))
    return next(answer for answer in reversed(answers) if answer.size)


def torch_answer(module: nn.Module) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """Return the module as a function of named arrays."""

    def ask(inputs: dict[str, np.ndarray]) -> np.ndarray:
        with torch.no_grad():
            answer = module(*(torch.from_numpy(array) for array in inputs.values()))
        return np.asarray(answer.numpy())

    return ask


def onnx_file(form: Form, module: nn.Module) -> bytes:
    """Return what torch.onnx's first exporter writes for a form of one input."""
    (text,) = form.inputs
    axes = [axis.strip() for axis in text[text.index("[") + 1 : -1].split(",")]
    shape = [{"batch": 2, "time": 24}.get(axis) or int(axis) for axis in axes]
    dynamic = {"x": {at: axis for at, axis in enumerate(axes) if not axis.isdecimal()}}
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.zeros(shape),),
            buffer,
            dynamo=False,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes=dynamic,
        )
    return buffer.getvalue()


def keras_forms(layers: Any) -> dict[str, list[Any]]:
    """Return the layers of the Keras forms by name."""
    return {
        "causal convolution, GRU": [
            layers.Conv1D(8, 3, padding="causal", activation="relu"),
            layers.GRU(8, return_sequences=True),
        ],
        "causal, stride 2, LSTM": [
            layers.Conv1D(8, 3, strides=2, padding="causal"),
            layers.LSTM(8, return_sequences=True),
        ],
        "same padding, dilation 2, LSTM": [
            layers.Conv1D(8, 3, padding="same", dilation_rate=2),
            layers.BatchNormalization(),
            layers.LSTM(8, return_sequences=True),
        ],
        "separable convolution, pooling, last step": [
            layers.SeparableConv1D(8, 3, padding="same"),
            layers.MaxPooling1D(2),
            layers.GRU(8),
        ],
        "zeros in front, valid convolution, GRU": [
            layers.ZeroPadding1D((2, 0)),
            layers.Conv1D(8, 3),
            layers.GRU(8, return_sequences=True),
        ],
    }


KERAS_FORMS = tuple(keras_forms(MagicMock()))
KERAS_LENGTHS = (12, 13, 23)


def write_keras(folder: Path) -> None:
    """Let Keras, in a process of its own, write its forms (``0.keras``, ...) and its answers (``0.npz``, ...)."""
    environment = os.environ | {"KERAS_BACKEND": "torch", "KERAS_HOME": str(folder)}
    subprocess.run(
        [sys.executable, __file__, str(folder)], check=True, capture_output=True, env=environment, timeout=300
    )


def _write_keras(folder: Path) -> None:
    import keras

    for number, (name, blocks) in enumerate(keras_forms(keras.layers).items()):
        keras.utils.set_random_seed(number)
        model = keras.Sequential([keras.layers.Input((None, F)), *blocks])
        rng = np.random.default_rng(number)
        for weight in model.weights:
            values = rng.standard_normal(weight.shape) * 0.4
            weight.assign(np.abs(values) + 0.3 if "variance" in weight.path else values)
        model.save(folder / f"{number}.keras")
        arrays = {}
        for steps in KERAS_LENGTHS:
            x = rng.standard_normal((2, steps, F)).astype(np.float32)
            arrays[f"x{steps}"], arrays[f"y{steps}"] = x, np.asarray(model(x).detach())
        np.savez(folder / f"{number}.npz", **arrays)
        print(name)


if __name__ == "__main__":
    _write_keras(Path(sys.argv[1]))
