"""Small model files of each kind, for the comparison of Python and C: layers, schemes, inputs, streaming."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lstm_edge_runtime.artifact import TRAILER_BYTES

__all__ = ["STORED", "made_models", "stored_models"]

_MODELS = Path(__file__).resolve().parents[1] / "device" / "models"
# The files that the device tests have: several inputs and outputs, lengths, tokens, caches and strides, no card, ...
STORED = tuple(sorted(path.stem for path in _MODELS.glob("*.onnx")))


def stored_models(names: tuple[str, ...] = STORED) -> dict[str, bytes]:
    """Return the stored files by name."""
    return {name: (_MODELS / f"{name}.onnx").read_bytes() for name in names}


def made_models() -> dict[str, bytes]:
    """Export, adopt and quantize a file of each kind; about half a minute."""
    import torch
    from torch import nn

    from lstm_edge import LSTM
    from lstm_edge_exporters.front_end.request import parse_front_end
    from lstm_edge_exporters.pytorch.export import build
    from lstm_edge_exporters.pytorch.options import ExportOptions

    class Tagger(nn.Module):
        def __init__(self, layer: nn.Module, width: int, take: Callable[[Any], Any] = lambda y: y) -> None:
            super().__init__()
            self.layer, self.head, self.take = layer, nn.Linear(width, 3), take

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.take(self.layer(x)[0]))

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.gru, self.head = nn.Embedding(9, 6), nn.GRU(6, 10, batch_first=True), nn.Linear(10, 9)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.head(self.gru(self.embedding(ids))[0])

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head, self.gate = nn.LSTM(7, 9, batch_first=True), nn.Linear(9, 4), nn.Linear(9, 1)

        def forward(self, x: torch.Tensor, speaker: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            wide = torch.cat([x, speaker[:, None].expand(-1, x.shape[1], -1)], dim=2)
            y = self.lstm(wide)[0]
            return self.head(y), torch.sigmoid(self.gate(y))

    torch.manual_seed(0)
    first = partial(nn.LSTM, batch_first=True)
    cells: dict[str, tuple[nn.Module, dict[str, Any]]] = {
        "lstm": (Tagger(first(5, 16), 16), {}),
        "lstm two layers": (Tagger(first(5, 8, 2), 8), {}),
        "lstm lengths": (Tagger(first(5, 12), 12), {"lengths": True}),
        "lstm projected": (Tagger(first(5, 12, proj_size=7), 7), {}),
        "lstm peepholes": (Tagger(LSTM(5, 12, batch_first=True, peephole="diagonal"), 12), {}),
        "lstm full peepholes": (Tagger(LSTM(5, 8, batch_first=True, peephole="full"), 8), {}),
        "lstm bidirectional": (Tagger(first(5, 6, bidirectional=True), 12), {"lengths": True}),
        "lstm last step": (Tagger(first(5, 12), 12, lambda y: y[:, -1]), {}),
        "lstm hidden state": (Tagger(first(5, 8), 8), {"state": "hidden"}),
        "gru": (Tagger(nn.GRU(5, 13, batch_first=True), 13), {}),
        "gru labels": (Tagger(nn.GRU(5, 8, batch_first=True), 8), {"labels": ("a", "b\n", "ü"), "task": "tagging"}),
        "rnn": (Tagger(nn.RNN(5, 11, batch_first=True), 11), {}),
        "rnn relu": (Tagger(nn.RNN(5, 11, nonlinearity="relu", batch_first=True), 11), {}),
        "gru time first": (Tagger(nn.GRU(5, 9), 9), {"inputs": ["x: float32[time, batch, 5]"]}),
        "tokens": (Tokens(), {"inputs": ["ids: int64[batch, time]"]}),
        "two": (Two(), {"inputs": ["x: float32[batch, time, 4]", "speaker: float32[batch, 3]"]}),
        "front end": (
            Tagger(nn.GRU(8, 9, batch_first=True), 9),
            {"inputs": ["x: float32[batch, time, 8]"], "front_end": parse_front_end("log-mel:8,rate=8000")},
        ),
    }
    found: dict[str, bytes] = {}
    for name, (module, options) in cells.items():
        chosen = ExportOptions(**{"inputs": ["x: float32[batch, time, 5]"], **options})
        found[name] = build(module.eval(), None, chosen).artifact.data
    found |= _quantized(found)
    found["no trailer"] = found["gru int8"][:-TRAILER_BYTES]
    return found


# Name of the made file, and the schemes it is quantized to.
_SCHEMES: Mapping[str, tuple[str, ...]] = {
    "lstm": ("int8", "int4:32", "int4:128", "float16", "float32"),
    "lstm two layers": ("int8",),
    "lstm lengths": ("int8", "float32"),
    "lstm projected": ("int8",),
    "lstm peepholes": ("int8", "float32"),
    "lstm full peepholes": ("int8",),
    "lstm bidirectional": ("int8",),
    "gru": ("int8", "int4:32", "float32"),
    "rnn": ("int8", "int4:32"),
    "rnn relu": ("int8",),
    "tokens": ("int8",),
    "two": ("int8",),
    "front end": ("int8",),
}


def _quantized(made: Mapping[str, bytes]) -> dict[str, bytes]:
    from lstm_edge_exporters.adopt import adopt_bytes
    from lstm_edge_exporters.quantize import parse_scheme, quantize_bytes
    from support.pruned import pruned_file, recurrent_weights

    found = {
        f"{name} {scheme.replace(':', '-')}": quantize_bytes(made[name], scheme=parse_scheme(scheme)).data
        for name, schemes in _SCHEMES.items()
        for scheme in schemes
    }
    parts = {"layer.0.R": parse_scheme("int4:32")}
    found["lstm mixed"] = quantize_bytes(made["lstm"], scheme="int8", parts=parts).data
    for operator in ("LSTM", "GRU"):
        weights = recurrent_weights(operator, 8, 32, {"W": 0.25, "R": 0.25})
        more = {"linear_before_reset": 1} if operator == "GRU" else {}
        adopted = adopt_bytes(pruned_file(operator, weights, **more)).artifact.data
        found[f"{operator} sparse"] = quantize_bytes(adopted, scheme="int8", sparse="required").data
    return found
