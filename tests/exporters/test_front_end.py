"""`export(front_end=...)`: the file takes samples, and its answers are those of the module on independent features."""

import numpy as np
import pytest
import torch
from support.mel_oracle import cepstra, htk_bands, log_mel, slaney_bands
from torch import nn

import lstm_edge
from lstm_edge_exporters.front_end.request import parse_front_end
from lstm_edge_exporters.pytorch.export import build
from lstm_edge_exporters.pytorch.options import ExportOptions
from lstm_edge_exporters.quantize import describe_parts, quantize_bytes
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.session import Session

# Features of order 10 in float32 against float64: seen 4e-6 on noise, 3e-5 on cepstra, and 9e-4 on bands that are
# 100 dB below a pure tone in the same frame.
FEATURES, TONES = 1e-4, 2e-3

SIXTEEN = {"rate": 16000, "window": 400, "hop": 160, "fft": 512, "low": 20.0, "high": 7600.0}
EIGHT = {"rate": 8000, "window": 200, "hop": 80, "fft": 256, "low": 20.0, "high": 3800.0}
OWN = {"rate": 22050, "window": 500, "hop": 125, "fft": 1024, "low": 0.0, "high": 11025.0}
DEFINITIONS = {
    "log-mel:40": lambda x: log_mel(x, bands=40, **SIXTEEN),
    "log-mel:24,rate=8000": lambda x: log_mel(x, bands=24, **EIGHT),
    "log-mel:64,mel=slaney,floor=1e-10": lambda x: log_mel(x, bands=64, floor=1e-10, make=slaney_bands, **SIXTEEN),
    "log-mel:32,rate=22050,window=500,hop=125,fft=1024,low=0,high=11025": lambda x: log_mel(x, bands=32, **OWN),
    "mfcc:13": lambda x: cepstra(log_mel(x, bands=40, **SIXTEEN), 13),
    "mfcc:20,bands=30,rate=8000": lambda x: cepstra(log_mel(x, bands=30, **EIGHT), 20),
}


class Spotter(nn.Module):
    """A tagger; ``turn`` says how its input is laid out."""

    def __init__(self, features, turn=lambda x: x, batch_first=True, embedding=0):
        super().__init__()
        self.gru = nn.GRU(features + embedding, 12, batch_first=batch_first)
        self.head = nn.Linear(12, 3)
        self.turn, self.embedding = turn, embedding

    def forward(self, x):
        return self.head(self.gru(self.turn(x))[0])


class Conditioned(Spotter):
    def forward(self, x, speaker):
        x = torch.cat([x, speaker[:, None].expand(-1, x.shape[1], -1)], dim=2)
        return self.head(self.gru(x)[0])


def noise(shape, level=1.0, seed=0):
    return np.asarray(level * np.random.default_rng(seed).uniform(-1, 1, shape), np.float32)


def exported(module, spec, front_end="log-mel:40"):
    inputs = [spec] if isinstance(spec, str) else spec
    return build(module.eval(), None, ExportOptions(inputs=inputs, front_end=parse_front_end(front_end))).artifact


@pytest.fixture(scope="module")
def spotter():
    torch.manual_seed(0)
    module = Spotter(40)
    return module, exported(module, "x: float32[batch, time, 40]")


@pytest.mark.parametrize("text", DEFINITIONS)
def test_the_features_for_training_are_the_definition(text):
    front = lstm_edge.front_end(text)
    rate = front.request.rate_hz
    assert not front.state_dict()
    assert not list(front.parameters())
    for level in (1.0, 1e-2):
        samples = noise(front.request.samples(9) + front.request.hop - 1, level)
        expected = DEFINITIONS[text](samples)
        assert expected.shape == (9, front.request.features)
        assert np.abs(front(torch.from_numpy(samples)).numpy() - expected).max() < FEATURES
    tone = np.sin(2 * np.pi * 440 / rate * np.arange(rate // 4)) + 0.001 * noise(rate // 4)
    tone = (0.9 * tone).astype(np.float32)
    assert np.abs(front(torch.from_numpy(tone)[None])[0].numpy() - DEFINITIONS[text](tone)).max() < TONES


def test_the_bands_are_not_those_of_the_other_scale():
    htk, slaney = (make(40, 512, 16000, 20.0, 7600.0) for make in (htk_bands, slaney_bands))
    assert np.abs(htk / htk.max() - slaney / slaney.max()).max() > 0.5


def test_the_file_takes_samples(spotter):
    module, artifact = spotter
    session = Session(artifact.data)
    samples = noise((2, 4000), 0.3)
    got = session.run({"samples": samples})[0]["output"]
    features = np.stack([DEFINITIONS["log-mel:40"](row) for row in samples]).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(features)).numpy()
    assert got.shape == (2, 23, 3)
    assert np.abs(got - expected).max() < FEATURES


def test_too_few_samples_are_refused(spotter):
    session = Session(spotter[1].data)
    with pytest.raises(InputError, match=r"'samples' has 399 samples, expected at least 400: .* \(25 ms at 16000 Hz\)"):
        session.run({"samples": noise((1, 399))})


def test_the_card_says_what_the_file_does(spotter):
    card = spotter[1].card
    assert [(spec.name, spec.axes, spec.range) for spec in card.inputs] == [("samples", ("batch", "time"), (-1.0, 1.0))]
    assert card.front_end is not None
    assert (card.front_end.rate_hz, card.front_end.first, card.front_end.every) == (16000, 400, 160)
    assert card.front_end.text == (
        "log-mel:40,rate=16000,window=400,hop=160,fft=512,low=20,high=7600,floor=1e-06,mel=htk"
    )
    assert parse_front_end(card.front_end.text) == parse_front_end("log-mel:40")
    (sentence,) = card.preprocessing
    assert "Frame j is samples 160*j to 160*j + 399" in sentence
    assert "not features" in sentence
    assert card.parity is not None
    assert card.parity.shapes[0].startswith("batch 3, time 1360")


def test_the_transform_is_computed_and_not_stored(spotter):
    front = lstm_edge.front_end("log-mel:40")
    assert front.get_buffer("transform").nbytes > 700_000
    assert len(spotter[1].data) < 100_000


def test_int8_leaves_the_front_end_float32(spotter):
    artifact = quantize_bytes(spotter[1].data, scheme="int8")
    assert artifact.card.front_end == spotter[1].card.front_end
    assert [(row.layer, row.scheme) for row in artifact.card.quantization.coverage] == [
        ("gru.0", "int8"),
        ("head", "int8"),
    ]
    assert [part.layer for part in describe_parts(spotter[1].data)] == ["gru.0", "head"]
    samples = noise((2, 4000), 0.3)
    answers = [Session(data).run({"samples": samples})[0]["output"] for data in (artifact.data, spotter[1].data)]
    assert 0 < np.abs(answers[0] - answers[1]).max() < 0.05


LAYOUTS = {
    "channels first": (
        lambda: Spotter(40, lambda x: x.transpose(1, 2)),
        "x: float32[batch, 40, time]",
        lambda x: x.transpose(1, 2),
    ),
    "an image": (
        lambda: Spotter(40, lambda x: x[:, 0].transpose(1, 2)),
        "x: float32[batch, 1, 40, time]",
        lambda x: x.transpose(1, 2)[:, None],
    ),
    "time first": (
        lambda: Spotter(40, batch_first=False),
        "x: float32[time, batch, 40]",
        lambda x: x.transpose(0, 1),
    ),
    "no batch": (lambda: Spotter(40), "x: float32[time, 40]", lambda x: x[0]),
    "a batch of one": (lambda: Spotter(40), "x: float32[1, time, 40]", lambda x: x),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name):
    make, spec, lay_out = LAYOUTS[name]
    torch.manual_seed(1)
    module = make()
    session = Session(exported(module, spec).data)
    samples = noise((1 if name in ("no batch", "a batch of one") else 2, 2000), 0.3)
    with torch.no_grad():
        expected = module(lay_out(lstm_edge.front_end("log-mel:40")(torch.from_numpy(samples)))).numpy()
    got = session.run({"samples": samples[0] if name == "no batch" else samples})[0]["output"]
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() < 1e-5


def test_another_input_stays():
    torch.manual_seed(2)
    module = Conditioned(13, embedding=5)
    artifact = exported(module, ["x: float32[batch, time, 13]", "speaker: float32[batch, 5]"], "mfcc:13")
    samples, speaker = noise((3, 2000), 0.3), noise((3, 5), seed=1)
    got = Session(artifact.data).run({"samples": samples, "speaker": speaker})[0]["output"]
    with torch.no_grad():
        features = lstm_edge.front_end("mfcc:13")(torch.from_numpy(samples))
        expected = module(features, torch.from_numpy(speaker)).numpy()
    assert np.abs(got - expected).max() < 1e-5


REFUSED = {
    "mel:40": "the kind is 'mel', expected log-mel or mfcc",
    "log-mel": "the number behind log-mel: is '', expected a whole number from 1 to 512",
    "log-mel:40,rate=0": "rate is '0', expected a whole number from 1000 to 768000",
    "log-mel:40,window=800,fft=512": "fft is '512', expected a whole number from 800 to 8192",
    "log-mel:40,hop=401": "hop is '401', expected a whole number from 1 to 400",
    "log-mel:40,high=9000": "bands from 20 to 9000 Hz, expected 0 <= low < high <= 8000, half the rate",
    "log-mel:40,floor=0": "floor is 0, expected 1e-30 to 1e6",
    "log-mel:40,mel=bark": "mel is 'bark', expected htk or slaney",
    "log-mel:40,size=3": "the option 'size' is unknown",
    "log-mel:40,rate": "'rate' must look like rate=16000",
    "log-mel:40,hop=1,hop=2": "hop is given twice",
    "mfcc:41": "41 coefficients of 40 bands",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_wrong_request(text):
    with pytest.raises(InputError) as caught:
        parse_front_end(text)
    assert REFUSED[text] in str(caught.value)


def test_a_band_without_a_frequency():
    with pytest.raises(InputError, match=r"band 1, .* Hz, has no frequency of the 512-point transform.*larger fft="):
        lstm_edge.front_end("log-mel:128")


@pytest.mark.parametrize(
    ("spec", "front_end", "message"),
    [
        (
            "x: float32[batch, time, 40]",
            "log-mel:64",
            "gives 64 features a frame, and no input takes them: expected one",
        ),
        ("x: float32[batch, time, 40]", "log-mel:40,input=y", "input 'y' does not take them"),
    ],
)
def test_a_model_that_does_not_take_the_features(spec, front_end, message):
    with pytest.raises(InputError, match=message):
        exported(Spotter(40), spec, front_end)


def test_lengths_count_frames():
    options = ExportOptions(
        inputs=["x: float32[batch, time, 40]"], lengths=True, front_end=parse_front_end("log-mel:40")
    )
    with pytest.raises(InputError, match="'lengths' counts frames, and the file's steps are samples: export without"):
        build(Spotter(40).eval(), None, options)
