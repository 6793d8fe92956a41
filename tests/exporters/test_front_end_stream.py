"""A file with a front end is streamed: samples in pushes of any size give the frames of the whole sequence."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import lstm_edge
from lstm_edge_exporters.front_end.request import parse_front_end
from lstm_edge_exporters.pytorch.export import build
from lstm_edge_exporters.pytorch.options import ExportOptions
from lstm_edge_exporters.quantize import quantize_bytes
from lstm_edge_runtime.session import Session

pytestmark = pytest.mark.slow

PUSHES = (1, 37, 160, 400, 1000)
# float32 sums of another order: seen 5e-7. An int8 file rounds the activations of each frame: a last bit may flip one.
EQUAL, ROUNDED = 1e-5, 0.02


class Tagger(nn.Module):
    """Features to a class for each frame."""

    def __init__(self, features):
        super().__init__()
        self.gru, self.head = nn.GRU(features, 10, batch_first=True), nn.Linear(10, 3)

    def forward(self, x):
        return self.head(self.gru(x)[0])


class Convolved(Tagger):
    """The same behind a convolution: ``padding`` frames in front of the first and behind the last one."""

    def __init__(self, features, stride, padding, *, last=False):
        super().__init__(12)
        self.scale = nn.BatchNorm1d(features)
        self.conv = nn.Conv1d(features, 12, 3, stride=stride)
        self.padding, self.last = padding, last

    def forward(self, x):
        x = functional.pad(self.scale(x.transpose(1, 2)), self.padding)
        x, h = self.gru(torch.relu(self.conv(x)).transpose(1, 2))
        return self.head(h[-1] if self.last else x)


# The module, the front end, and what the card says: verdict, first, every, latency in samples.
CASES = {
    "tagger": (lambda: Tagger(40), "log-mel:40", ("every-step", 400, 160, 0)),
    "cepstra at 8 kHz": (lambda: Tagger(13), "mfcc:13,rate=8000", ("every-step", 200, 80, 0)),
    "hop that does not divide": (
        lambda: Tagger(20),
        "log-mel:20,rate=8000,window=123,hop=50,fft=128",
        ("every-step", 123, 50, 0),
    ),
    "hop of a window": (lambda: Tagger(20), "log-mel:20,rate=8000,window=256,hop=256", ("every-step", 256, 256, 0)),
    "causal, stride 2": (lambda: Convolved(40, 2, (2, 0)), "log-mel:40", ("every-step", 400, 320, 0)),
    "stride 2, last step": (lambda: Convolved(40, 2, (2, 0), last=True), "log-mel:40", ("last-step", 400, 320, 0)),
    "look-ahead of a frame": (lambda: Convolved(40, 1, (1, 1)), "log-mel:40", ("every-step", 560, 160, 160)),
}


def exported(module, front_end):
    kind = parse_front_end(front_end)
    inputs = [f"x: float32[batch, time, {kind.features}]"]
    return build(module.eval(), None, ExportOptions(inputs=inputs, front_end=kind)).artifact


def samples_of(count, batch=2):
    return np.asarray(0.3 * np.random.default_rng(count).standard_normal((batch, count)), np.float32)


def streamed(session, samples, size):
    """Return the answers of pushes of that many samples and of the flush, joined, or the last one."""
    stream = session.stream(batch_size=len(samples))
    pieces = [stream.push(samples[:, at : at + size]) for at in range(0, samples.shape[1], size)]
    rest = stream.flush()
    if rest is not None:
        pieces.append(rest)
    return pieces


@pytest.fixture(scope="module", params=CASES)
def case(request):
    make, front_end, expected = CASES[request.param]
    torch.manual_seed(3)
    module = make()
    artifact = exported(module, front_end)
    return module, front_end, expected, artifact


def test_pushes_of_any_size_are_the_whole(case):
    module, front_end, (verdict, first, every, latency), artifact = case
    streaming = artifact.card.streaming
    assert (streaming.verdict, streaming.first, streaming.every, streaming.latency_steps) == (
        verdict,
        first,
        every,
        latency,
    )
    session = Session(artifact.data)
    samples = samples_of(3 * every + first + every // 3)
    with torch.no_grad():
        whole = module(lstm_edge.front_end(front_end)(torch.from_numpy(samples))).numpy()
    for size in PUSHES:
        pieces = streamed(session, samples, size)
        joined = pieces[-1] if verdict == "last-step" else np.concatenate(pieces, axis=1)
        assert joined.shape == whole.shape
        assert np.abs(joined - whole).max() < EQUAL


def test_frames_come_when_the_card_says():
    artifact = exported(Tagger(40), "log-mel:40")
    stream = Session(artifact.data).stream()
    samples = samples_of(1000, batch=1)
    given = [stream.push(samples[:, at : at + 1]).shape[1] for at in range(1000)]
    assert [at + 1 for at, count in enumerate(given) if count] == [400, 560, 720, 880]


def test_an_int8_file_is_streamed_too():
    torch.manual_seed(4)
    artifact = exported(Convolved(40, 2, (2, 0)), "log-mel:40")
    session = Session(quantize_bytes(artifact.data, scheme="int8").data)
    samples = samples_of(4000)
    whole = session.run({"samples": samples})[0]["output"]
    for size in (37, 160, 1000):
        joined = np.concatenate(streamed(session, samples, size), axis=1)
        assert joined.shape == whole.shape
        assert np.abs(joined - whole).max() < ROUNDED
