"""What looks at earlier or later steps streams with caches: pushes of any size give the whole sequence's answers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support import streamed_keras
from support.networks import build
from support.streamed_forms import BTF, FORMS, ONNX_FORMS, Form
from support.streamed_modules import Lambda, Recurrent, Steps
from support.streamed_runs import Sample, largest_difference, lengths_of, made, onnx_file, samples_of, torch_answer
from torch import Tensor, nn

from lstm_edge.commands.export import export
from lstm_edge_exporters.adopt import adopt_bytes
from lstm_edge_exporters.verify.compare import assert_close
from lstm_edge_exporters.verify.parity import EXPORT
from lstm_edge_runtime.session import Session

pytestmark = pytest.mark.slow

# One form for each kind of rewriting; the others are among the long tests.
QUICK = (
    "depthwise separable, stride 2, dilation 2",
    "keyword spotter, padding on both sides",
    "residual around convolutions with look-ahead",
    "... padding on both sides",
    "CRNN over frequency",
)


def _marked(names: tuple[str, ...], quick: tuple[str, ...]) -> list[object]:
    return [pytest.param(name, marks=() if name in quick else pytest.mark.long) for name in names]


def form_of(name: str) -> Form:
    return next(form for form in FORMS if form.name == name)


def check(session: Session, samples: list[Sample], counts: tuple[int, int, int, int] | None) -> None:
    assert session.card is not None
    streaming = session.card.streaming
    assert streaming.verdict in ("every-step", "last-step"), streaming.reason
    if counts is not None:
        assert (streaming.first, streaming.every, streaming.gives, streaming.latency_steps) == counts
    assert largest_difference(session, samples) <= EXPORT.absolute


@pytest.mark.parametrize("name", _marked(tuple(form.name for form in FORMS), QUICK))
def test_a_module(name: str) -> None:
    form = form_of(name)
    module = made(form)
    session = Session(build(module, None, inputs=list(form.inputs)).data)
    check(session, samples_of(session, torch_answer(module), lengths_of(session)), form.counts)


@pytest.mark.parametrize("name", _marked(ONNX_FORMS, ("two convolutions in a row, strides 2 and 2, look-ahead",)))
def test_a_file_of_torchs_exporter(name: str) -> None:
    form = form_of(name)
    module = made(form)
    session = Session(adopt_bytes(onnx_file(form, module), stateful=True).artifact.data)
    check(session, samples_of(session, torch_answer(module), lengths_of(session)), form.counts)


@pytest.mark.long
def test_a_keras_file(tmp_path: Path) -> None:
    streamed_keras.write_keras(tmp_path)
    for number in range(len(streamed_keras.KERAS_FORMS)):
        file = tmp_path / f"{number}.onnx"
        export(tmp_path / f"{number}.keras", None, file)
        session = Session(file)
        (spec,) = session.inputs
        with np.load(tmp_path / f"{number}.npz") as arrays:
            samples = [
                ({spec.name: arrays[f"x{steps}"]}, arrays[f"y{steps}"]) for steps in streamed_keras.KERAS_LENGTHS
            ]
        check(session, samples, None)


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (nn.InstanceNorm1d(6), "blocks.0 (InstanceNormalization) runs over all steps of the sequence"),
        (Lambda(lambda x: x - x.mean(2, keepdim=True)), "blocks.0 (ReduceMean) runs over all steps of the sequence"),
        (Lambda(lambda x: x * torch.softmax(x, 2)), "blocks.0 (Softmax) runs over all steps of the sequence"),
        (Lambda(lambda x: x - x[:, :, :1]), "blocks.0 (Slice) takes a fixed part of the sequence"),
        (
            nn.MaxPool1d(3, 1, padding=1),
            "blocks.0 (MaxPool) pads the sequence, and a maximum cannot start from zeros: pad before it",
        ),
        (
            Lambda(lambda x: nn.functional.pad(x, (2, 0), mode="replicate")),
            "blocks.0 (Pad) fills with other values than zeros along time (mode edge)",
        ),
    ],
)
def test_what_needs_the_whole_sequence_says_so(block: nn.Module, reason: str) -> None:
    card = build(Steps(block, Recurrent(6, 8)).eval(), None, inputs=[BTF]).card
    assert (card.streaming.verdict, card.streaming.reason) == ("none", reason)


class Outputs(nn.Module):
    """One output at once, and one that sees two later steps."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.conv, self.head = nn.GRU(6, 8, batch_first=True), nn.Conv1d(8, 5, 5, padding=2), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.gru(x)[0]
        return self.conv(y.transpose(1, 2)), self.head(y)


def test_outputs_wait_for_the_slowest() -> None:
    module = Outputs().eval()
    session = Session(build(module, None, inputs=[BTF]).data)
    x = np.random.default_rng(4).standard_normal((1, 11, 6)).astype(np.float32)
    stream = session.stream()
    pieces = [stream.push(frame[None]) for frame in x[0]] + [stream.flush()]
    with torch.no_grad():
        expected = [tensor.numpy() for tensor in module(torch.from_numpy(x))]
    for name, axis, whole in zip(("output_0", "output_1"), (2, 1), expected, strict=True):
        sizes = [piece[name].shape[axis] for piece in pieces]
        assert sizes == [0, 0, *[1] * 9, 2]
        joined = np.concatenate([piece[name] for piece in pieces], axis=axis)
        assert_close(name, joined, whole, EXPORT)


def test_caches_are_states_with_names_and_shapes() -> None:
    module = made(form_of("two convolutions in a row, strides 2 and 2, look-ahead"))
    card = build(module, None, inputs=[BTF]).card
    assert [(spec.input, spec.kind, spec.axes) for spec in card.states if spec.kind == "cache"] == [
        ("blocks.0.cache", "cache", ("batch", 6, 2)),
        ("blocks.2.cache", "cache", ("batch", 8, 4)),
        ("stream.position", "cache", (1,)),
    ]
    assert card.streaming.end == "stream.end"
