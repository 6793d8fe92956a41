"""Networks around recurrent layers, as people write them, and exports of them that tests can share.

Sizes make mistakes visible: every axis has a size of its own.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from lstm_edge.layers import LSTM
from lstm_edge_exporters.artifact import Artifact
from lstm_edge_exporters.pytorch import export as exporting
from lstm_edge_exporters.pytorch.options import ExportOptions
from lstm_edge_exporters.quantize import quantize_bytes
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.state import State
from support.cases import LstmCase, build_layer

__all__ = [
    "NETWORKS",
    "Classifier",
    "LanguageModel",
    "LastStep",
    "Tagger",
    "build",
    "exported",
    "operators",
    "quantized",
    "random_inputs",
    "random_network_state",
    "seeded",
    "session_of",
    "snr_db",
    "structure",
    "structure_bytes",
]

VOCABULARY = 17


def seeded(module: nn.Module, seed: int = 0) -> nn.Module:
    """Draw every parameter anew, matrices with deviation 1 / sqrt(columns), the rest 0.5; returns it in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            scale = parameter.shape[-1] ** -0.5 if parameter.dim() > 1 else 0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return module.eval()


class Tagger(nn.Module):
    """Linear, LSTM, LayerNorm, ReLU, Dropout, Linear: an answer at every step."""

    def __init__(self, recurrent: nn.Module, features: int = 6, width: int = 5, classes: int = 4) -> None:
        super().__init__()
        self.enter = nn.Linear(features, recurrent.input_size)
        self.lstm = recurrent
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(self.enter(x))
        return self.head(self.dropout(torch.relu(self.norm(y))))


class LanguageModel(nn.Module):
    """Embedding, a stack of LSTM layers, a linear head: logits for every step."""

    def __init__(self, hidden: int = 9, layers: int = 2, embedding: int = 8, peephole: str = "none") -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, embedding)
        self.lstm = LSTM(embedding, hidden, layers, batch_first=True, peephole=peephole)
        self.head = nn.Linear(hidden, VOCABULARY)

    def forward(self, ids: Tensor) -> Tensor:
        y, _ = self.lstm(self.embedding(ids))
        return self.head(y)


class Classifier(nn.Module):
    """The last layer's final state, through a linear layer."""

    def __init__(self, layers: int = 1, hidden: int = 5, features: int = 3) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, layers, batch_first=True)
        self.head = nn.Linear(hidden, 4)

    def forward(self, x: Tensor) -> Tensor:
        _, (h, _) = self.lstm(x)
        return self.head(h[-1])


class LastStep(Classifier):
    """The last step's output, through a linear layer."""

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(x)
        return self.head(y[:, -1])


# Networks that export and quantization are tried on, each made again by a call.
NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "tagger": lambda: seeded(Tagger(nn.LSTM(7, 5, 2, batch_first=True))),
    "language-model": lambda: seeded(LanguageModel()),
    "classifier": lambda: seeded(Classifier(2)),
    "last-step": lambda: seeded(LastStep()),
    "standard-2-layers": lambda: seeded(nn.LSTM(3, 5, 2, batch_first=True)),
    "bidirectional": lambda: seeded(LSTM(3, 5, 2, bidirectional=True, batch_first=True)),
    "diagonal": lambda: seeded(LSTM(3, 5, peephole="diagonal", batch_first=True)),
    "full": lambda: seeded(LSTM(3, 5, 2, peephole="full", batch_first=True)),
    "full-projected-bidirectional": lambda: seeded(
        LSTM(3, 6, peephole="full", proj_size=4, bidirectional=True, batch_first=True)
    ),
    "projected": lambda: seeded(nn.LSTM(3, 6, 2, proj_size=2, batch_first=True)),
    "wide-language-model": lambda: seeded(LanguageModel(hidden=256, layers=1, embedding=48)),
    "wide-standard": lambda: seeded(nn.LSTM(48, 256, batch_first=True)),
    "wide-diagonal": lambda: seeded(LSTM(48, 256, peephole="diagonal", batch_first=True)),
    "wide-full": lambda: seeded(LSTM(48, 256, peephole="full", batch_first=True)),
    "wide-projected": lambda: seeded(nn.LSTM(48, 256, proj_size=64, batch_first=True)),
    "wide-bidirectional": lambda: seeded(nn.LSTM(48, 256, bidirectional=True, batch_first=True)),
    # More than 1,040 columns: sums reach 2**24 unless a column's scale is enlarged.
    "long-rows": lambda: seeded(nn.LSTM(1100, 24, batch_first=True)),
}


def input_spec(name: str) -> str:
    """Return the input of a network as it is written on the command line."""
    module = NETWORKS[name]()
    if isinstance(module, LanguageModel):
        return "ids: int64[batch, time]"
    features = module.enter.in_features if isinstance(module, Tagger) else getattr(module, "lstm", module).input_size
    return f"x: float32[batch, time, {features}]"


def build(module: nn.Module, example: Any = None, **options: Any) -> Artifact:
    """Export a module in memory, with ``ExportOptions``."""
    return exporting.build(module, example, ExportOptions(**options)).artifact


@functools.cache
def exported(name: str, *, lengths: bool = False, plain: bool = False, state: str = "explicit") -> bytes:
    """Return the exported file of a network, made once a process."""
    return build(NETWORKS[name](), None, inputs=[input_spec(name)], lengths=lengths, plain=plain, state=state).data


@functools.cache
def quantized(name: str, *, lengths: bool = False) -> bytes:
    """Return the int8 file of a network, made once a process."""
    return quantize_bytes(exported(name, lengths=lengths)).data


@functools.cache
def session_of(data: bytes, threads: int = 1) -> Session:
    """Return a session of a file on stock onnxruntime (no fused kernels), opened once a process."""
    return Session(data, threads=threads, kernels="off")


def random_inputs(session: Session, batch: int, time: int, *, seed: int = 0) -> dict[str, Array]:
    """Return random inputs of a session: ids below the vocabulary, or normal float32."""
    rng = np.random.default_rng(seed)
    sizes = {"batch": batch, "time": time}
    arrays: dict[str, Array] = {}
    for spec in session.inputs:
        shape = [sizes[axis] if isinstance(axis, str) else axis for axis in spec.axes]
        if spec.dtype == "float32":
            arrays[spec.name] = rng.standard_normal(shape).astype(np.float32)
        else:
            arrays[spec.name] = rng.integers(0, VOCABULARY, shape)
    return arrays


def random_network_state(session: Session, batch: int, *, seed: int = 1) -> State:
    """Return a random state of a session, uniform in -0.9 to 0.9."""
    rng = np.random.default_rng(seed)
    zeros = session.initial_state(batch)
    arrays = {name: rng.uniform(-0.9, 0.9, array.shape).astype(np.float32) for name, array in zeros.items()}
    return State.from_arrays(session.states, arrays)


def operators(data: bytes) -> list[str]:
    """Return the operators of a file's graph in order, with their domain where they have one."""
    return [f"{node.domain}::{node.op_type}" if node.domain else node.op_type for node in parsed(data).graph.node]


def parsed(data: bytes) -> onnx.ModelProto:
    """Return a file as a protobuf."""
    model = onnx.ModelProto()
    model.ParseFromString(data)
    return model


def snr_db(expected: Array, got: Array) -> float:
    """Return the signal-to-noise ratio in dB: the power of ``expected`` over that of the difference."""
    noise = np.square(got.astype(np.float64) - expected).sum()
    return float(10 * np.log10(np.square(expected.astype(np.float64)).sum() / max(noise, 1e-30)))


def structure(case: LstmCase) -> tuple[Any, ...]:
    """Return what of a parity case needs a file of its own; batch, time, state and the lengths' values do not."""
    sizes = (case.input, case.hidden, case.layers, case.bidirectional, case.peephole, case.projection, case.bias)
    return (*sizes, case.lengths is not None)


@functools.cache
def structure_bytes(representative: str) -> bytes:
    """Return the exported file of a parity case, by the case's name, made once a process."""
    from support.cases import case_named

    case = case_named(representative)
    spec = f"x: float32[time, batch, {case.input}]"
    return build(build_layer(case), None, inputs=[spec], lengths=case.lengths is not None).data
