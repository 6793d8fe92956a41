"""Folders of WAV files judge and calibrate a model with a front end, and refuse one that does not fit."""

import numpy as np
import pytest
import torch
from support.wav_files import write_wav
from torch import nn

import lstm_edge
from lstm_edge.precision_search.data import calibration_feeds, load_calibration
from lstm_edge_runtime.errors import DataError
from lstm_edge_runtime.session import Session

pytest.importorskip("soundfile")
pytestmark = pytest.mark.slow

INPUT = ["x: float32[batch, time, 24]"]
KIND = "log-mel:24,rate=8000"


class LoudOrQuiet(nn.Module):
    """Logits of two classes: the last state of a GRU over features."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(24, 8, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.gru(x)[1][-1])


class Denoiser(nn.Module):
    """Samples to samples: an LSTM over single ones."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(1, 6, batch_first=True)
        self.head = nn.Linear(6, 1)

    def forward(self, x):
        return self.head(self.lstm(x[..., None])[0])[..., 0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model with a front end, its int8 form, one without, and a folder of each kind."""
    folder = tmp_path_factory.mktemp("audio")
    torch.manual_seed(0)
    module = LoudOrQuiet().eval()
    lstm_edge.export(module, output=folder / "front.onnx", inputs=INPUT, front_end=KIND)
    lstm_edge.export(module, output=folder / "features.onnx", inputs=INPUT)
    rng = np.random.default_rng(0)
    for label, level in (("loud", 0.5), ("quiet", 0.01)):
        for number in range(12):
            samples = level * rng.standard_normal(1000 + 40 * number)
            write_wav(folder / "words" / label / f"{number}.wav", np.clip(samples, -1, 1), rate=8000)
    write_wav(folder / "other" / "loud" / "a.wav", rng.uniform(-1, 1, 900), rate=16000)
    return folder


def test_a_folder_judges_and_calibrates(folder):
    words = str(folder / "words")
    lstm_edge.quantize(folder / "front.onnx", folder / "int8.onnx", scheme="int8", data=words)
    report = lstm_edge.validate(folder / "int8.onnx", folder / "front.onnx", words, max_drop="50pt")
    session = Session(folder / "front.onnx")
    data = load_calibration(words)
    answers = [session.run({"samples": row[None]})[0]["output"][0].argmax() for row in data.inputs[""]]
    assert report.samples == 24
    assert report.reference == pytest.approx(np.mean(np.array(answers) == data.classes))
    card = Session(folder / "int8.onnx").card
    assert card.quantization.calibration_sha256 is not None
    feeds = list(calibration_feeds(session, data, 5))
    assert [feed["samples"].shape[0] for feed in feeds] == [1] * 5


def test_another_rate_is_refused(folder):
    with pytest.raises(
        DataError, match=r"is at 16000 Hz, model .*front.onnx takes samples at 8000 Hz; nothing is resam"
    ):
        lstm_edge.validate(folder / "front.onnx", folder / "front.onnx", str(folder / "other"))
    with pytest.raises(DataError, match="is at 16000 Hz"):
        list(calibration_feeds(Session(folder / "front.onnx"), load_calibration(str(folder / "other")), 1))


def test_a_model_of_features_is_told_what_to_do(folder):
    with pytest.raises(DataError, match=r"takes several values at each step, 'x' .*: export it with --front-end"):
        lstm_edge.validate(folder / "features.onnx", folder / "features.onnx", str(folder / "words"))


def test_pairs_judge_a_denoiser(tmp_path):
    torch.manual_seed(1)
    lstm_edge.export(Denoiser().eval(), output=tmp_path / "d.onnx", inputs=["x: float32[batch, time]"])
    rng = np.random.default_rng(0)
    for number in range(3):
        clean = np.sin(np.arange(300 + 10 * number) / 9) * 0.5
        write_wav(tmp_path / "speech" / "clean" / f"{number}.wav", clean)
        write_wav(tmp_path / "speech" / "noisy" / f"{number}.wav", clean + 0.05 * rng.standard_normal(len(clean)))
    report = lstm_edge.validate(
        tmp_path / "d.onnx", tmp_path / "d.onnx", str(tmp_path / "speech"), metric="si-sdr", max_drop="0.1dB"
    )
    assert (report.samples, report.drop) == (930, 0.0)
