"""`train classification --front-end`: a folder of WAV files, features, a classifier, a file that takes samples."""

import numpy as np
import pytest
import torch
from support.mel_oracle import log_mel
from support.wav_files import write_wav

import lstm_edge
from lstm_edge.training.sounds import load_features
from lstm_edge_runtime.errors import DataError, InputError

pytest.importorskip("soundfile")

KIND = "log-mel:16,rate=8000"


def write(folder, labels=("high", "low"), count=12, rate=8000, seed=0):
    rng = np.random.default_rng(seed)
    for label in labels:
        for number in range(count):
            t = np.arange(1200 + 40 * number) / rate
            tone = 0.3 * np.sin(2 * np.pi * rng.uniform(*{"high": (2000, 3000)}.get(label, (200, 600))) * t)
            write_wav(folder / label / f"{number}.wav", tone + 0.01 * rng.standard_normal(len(t)), rate=rate)


def test_the_features_are_those_of_the_front_end(tmp_path):
    write(tmp_path, count=2)
    data = load_features(str(tmp_path), KIND)
    assert (data.features, data.labels, data.lengths.tolist()) == (16, ("high", "low"), [13, 14, 13, 14])
    import soundfile

    samples = soundfile.read(tmp_path / "low" / "1.wav", dtype="float32")[0]
    expected = log_mel(samples, bands=16, rate=8000, window=200, hop=80, fft=256, low=20.0, high=3800.0)
    assert np.abs(data[3] - expected).max() < 1e-5


def test_long_sounds_are_computed_in_blocks(tmp_path, monkeypatch):
    from lstm_edge_exporters.front_end import features
    from lstm_edge_exporters.front_end.request import parse_front_end

    samples = np.random.default_rng(0).uniform(-1, 1, (1, 4000))
    whole = features.features_of(parse_front_end(KIND), samples)
    monkeypatch.setattr(features, "MOST_FRAMES", 5)
    blocks = features.features_of(parse_front_end(KIND), samples)
    assert blocks.shape == whole.shape == (1, 48, 16)
    assert np.abs(blocks - whole).max() < 1e-12


def test_what_does_not_fit_is_refused(tmp_path):
    write(tmp_path / "words", count=2)
    with pytest.raises(
        DataError, match="is at 8000 Hz, the front end at 16000 Hz; nothing is resampled: give --front-e"
    ):
        load_features(str(tmp_path / "words"), "log-mel:16")
    write(tmp_path / "more", labels=("high", "other"), count=1)
    with pytest.raises(DataError, match="the label 'other' was never seen in training; expected one of 'high', 'low'"):
        load_features(str(tmp_path / "more"), KIND, labels=("high", "low"))
    write_wav(tmp_path / "more" / "high" / "short.wav", np.zeros(150), rate=8000)
    with pytest.raises(DataError, match=r"high/short\.wav has 150 samples, expected at least 200, one frame"):
        load_features(str(tmp_path / "more"), KIND)
    with pytest.raises(InputError, match="--front-end is for a folder of WAV files; leave it out"):
        lstm_edge.train("classification", data="japanese-vowels", output=tmp_path / "m.safetensors", front_end=KIND)
    with pytest.raises(
        DataError, match=r"is a folder of WAV files; to train on it, give `train classification` the fea"
    ):
        lstm_edge.train("classification", data=str(tmp_path / "words"), output=tmp_path / "m.safetensors")


@pytest.mark.slow
def test_from_a_folder_to_a_file_that_takes_samples(tmp_path):
    words, model, target = tmp_path / "words", tmp_path / "m.safetensors", tmp_path / "m.onnx"
    write(words, count=20)
    write(tmp_path / "test", count=5, seed=1)
    lstm_edge.train(
        "classification", data=str(words), output=model, front_end=KIND, hidden=8, epochs=60, bidirectional=False
    )
    lstm_edge.export(model, output=target, front_end=KIND)
    report = lstm_edge.validate(target, target, str(tmp_path / "test"))
    assert report.reference > 0.9
    card = lstm_edge.Session(target).card
    assert (card.labels, card.front_end.rate_hz) == (("high", "low"), 8000)
    assert torch.is_tensor(lstm_edge.front_end(card.front_end.text)(torch.zeros(1, 400)))
