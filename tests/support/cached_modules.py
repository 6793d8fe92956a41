"""Modules of one frame per call that keep caches of every kind, and files of them as PyTorch's exporter writes them."""

import io
import logging
import warnings

import torch
from torch import Tensor, nn

__all__ = ["CASES", "FRAME", "cached", "export_frame"]

FRAME = 6


class ShiftRegister(nn.Module):
    """A causal convolution over time of five taps, two steps apart; the cache holds eight frames."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(FRAME, FRAME, 5, dilation=2)

    def forward(self, x: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        joined = torch.cat([cache, x.unsqueeze(2)], 2)
        return torch.tanh(self.conv(joined))[:, :, 0], joined[:, :, 1:]


class ShortRegister(nn.Module):
    """Two taps: the cache is one frame, of which nothing is left after a call. Its values are computed ones."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.conv = nn.Linear(FRAME, FRAME), nn.Conv1d(FRAME, FRAME, 2)

    def forward(self, x: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        now = torch.tanh(self.first(x)).unsqueeze(2)
        return self.conv(torch.cat([a, now], 2))[:, :, 0], now


class TwoRegisters(nn.Module):
    """Two registers of one shape, in one tensor, behind each other; names that say nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv1d(FRAME, FRAME, 3), nn.Conv1d(FRAME, FRAME, 3)

    def forward(self, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        first = torch.cat([p[0], x.unsqueeze(2)], 2)
        second = torch.cat([p[1], torch.relu(self.one(first))], 2)
        return self.two(second)[:, :, 0], torch.stack([first[:, :, 1:], second[:, :, 1:]])


class Written(nn.Module):
    """A register moved by assignment: ScatterND."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4 * FRAME, FRAME)

    def forward(self, x: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        new = torch.roll(b, -1, 1)
        new[:, -1] = x
        return torch.tanh(self.head(new.flatten(1))), new


class Counter(nn.Module):
    """A positional angle counted from call to call."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(FRAME, FRAME)

    def forward(self, x: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(x) * torch.cos(0.1 * step), step + 1


class RunningMean(nn.Module):
    """A normalization by a leaking mean and variance."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(FRAME, FRAME)

    def forward(self, x: Tensor, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean = 0.9 * mean + 0.1 * x
        var = 0.95 * var + 0.05 * (x - mean) ** 2
        return self.head((x - mean) / torch.sqrt(var + 1e-3)), mean, var


class CountedMean(nn.Module):
    """The mean of all frames so far: its share changes with the count."""

    def forward(self, x: Tensor, mean: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        count = count + 1
        mean = mean + (x - mean) / count
        return torch.tanh(x - mean), mean, count


class Attention(nn.Module):
    """One head over the last seven frames: keys and values move on, the oldest ones fall out."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(FRAME, FRAME) for _ in range(3))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        keys = torch.cat([keys[:, 1:], self.k(x).unsqueeze(1)], 1)
        values = torch.cat([values[:, 1:], self.v(x).unsqueeze(1)], 1)
        share = torch.softmax((keys @ self.q(x).unsqueeze(2))[:, :, 0], 1)
        return (share.unsqueeze(1) @ values)[:, 0], keys, values


class Ring(nn.Module):
    """One head over a ring of seven frames, of which one is written; the place is counted in a state."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(FRAME, FRAME), nn.Linear(FRAME, FRAME)

    def forward(self, x: Tensor, keys: Tensor, place: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        here = torch.arange(7, dtype=torch.float32) == torch.remainder(torch.floor(place), 7)
        keys = torch.where(here[None, :, None], self.k(x).unsqueeze(1), keys)
        share = torch.softmax((keys @ self.q(x).unsqueeze(2))[:, :, 0], 1)
        return (share.unsqueeze(1) @ keys)[:, 0], keys, place + 1


class Bands(nn.Module):
    """A bidirectional LSTM over the bands of a frame, an LSTM over time with its state in and out, and a register."""

    def __init__(self) -> None:
        super().__init__()
        self.bands = nn.LSTM(2, 3, bidirectional=True, batch_first=True)
        self.time = nn.LSTM(6, 5)
        self.conv, self.head = nn.Conv1d(FRAME, FRAME, 3), nn.Linear(5, 1)

    def forward(self, x: Tensor, cache: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        joined = torch.cat([cache, x.unsqueeze(2)], 2)
        pairs = torch.stack([x, self.conv(joined)[:, :, 0]], 2)
        inner, _ = self.bands(pairs)
        outer, (h, c) = self.time(inner.reshape(1, FRAME, 6), (h, c))
        return self.head(outer[0])[:, 0][None], joined[:, :, 1:], h, c


# Module and the names and shapes of its caches; each leaves by the name that follows.
_CASES: dict[str, tuple[type[nn.Module], dict[str, tuple[str, tuple[int, ...]]]]] = {
    "shift register": (ShiftRegister, {"cache": ("cache_out", (1, FRAME, 8))}),
    "register of one frame": (ShortRegister, {"a": ("b", (1, FRAME, 1))}),
    "two registers in one tensor": (TwoRegisters, {"p": ("q", (2, 1, FRAME, 2))}),
    "register moved by assignment": (Written, {"b": ("z", (1, 4, FRAME))}),
    "counter": (Counter, {"step": ("step_out", (1,))}),
    "running mean and variance": (
        RunningMean,
        {"mean": ("new_mean", (1, FRAME)), "var": ("new_var", (1, FRAME))},
    ),
    "mean by a count": (CountedMean, {"mean": ("mean_next", (1, FRAME)), "count": ("count_next", (1,))}),
    "keys and values": (
        Attention,
        {"past_k": ("present_k", (1, 7, FRAME)), "past_v": ("present_v", (1, 7, FRAME))},
    ),
    "ring": (Ring, {"keys": ("keys_out", (1, 7, FRAME)), "place": ("place_out", (1,))}),
    "bands": (
        Bands,
        {"cache": ("cache_out", (1, FRAME, 2)), "h": ("hn", (1, FRAME, 5)), "c": ("cn", (1, FRAME, 5))},
    ),
}
CASES = tuple(_CASES)


def cached(name: str) -> tuple[bytes, dict[str, str]]:
    """Return a file whose data go from ``x`` to ``y``, and the output of each of its caches."""
    module, caches = _CASES[name]
    torch.manual_seed(3)
    arguments = {"x": (1, FRAME)} | {entering: shape for entering, (_leaving, shape) in caches.items()}
    return export_frame(module(), arguments, ["y", *(leaving for leaving, _shape in caches.values())]), {
        entering: leaving for entering, (leaving, _shape) in caches.items()
    }


def export_frame(
    module: nn.Module,
    arguments: dict[str, tuple[int, ...]],
    outputs: list[str],
    axes: dict[str, dict[int, str]] | None = None,
) -> bytes:
    """Export a module as PyTorch's legacy exporter writes it; axes that are not named are fixed."""
    stream = io.BytesIO()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations
        torch.onnx.export(
            module.eval(),
            tuple(torch.zeros(shape) for shape in arguments.values()),
            stream,  # type: ignore[arg-type]
            input_names=[*arguments],
            output_names=outputs,
            dynamic_axes=axes or {},
            opset_version=17,
            dynamo=False,
        )
    return stream.getvalue()
