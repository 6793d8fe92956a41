"""GTCRN, a published denoiser, adopted, quantized and streamed: the requirements of docs/denoiser.md.

Needs the authors' files; without them the tests are skipped. The measuring is benchmarks/denoiser.py, which also writes
the document's table.
"""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import lstm_edge
from lstm_edge_exporters.adopt import adopt_bytes

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_benchmark", ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


denoiser = _load("denoiser")
MISSING = denoiser.missing(denoiser.FOLDER)
needs_files = pytest.mark.skipif(bool(MISSING), reason=f"GTCRN's files are not here: {', '.join(MISSING)}")


@pytest.mark.long
@needs_files
def test_every_frame_of_the_recording_is_the_original_s():
    data = (denoiser.FOLDER / denoiser.MODEL).read_bytes()
    artifact = adopt_bytes(data).artifact
    assert artifact.card.streaming.verdict == "each-call"
    assert {spec.input: spec.output for spec in artifact.card.states} == denoiser.STATES
    assert [spec.name for spec in artifact.card.inputs] == ["mix"]
    frames = denoiser.spectra(denoiser.read_recording(denoiser.FOLDER / denoiser.RECORDING))
    expected, state = denoiser.called(data)(frames)
    got, after = denoiser.streamed(artifact.data)(frames)
    assert len(frames) > 600
    assert max(float(np.abs(a - b).max()) for a, b in zip(got, expected, strict=True)) <= denoiser.LARGEST_DIFFERENCE
    assert all(float(np.abs(after[key] - state[key]).max()) <= denoiser.LARGEST_DIFFERENCE for key in state)


def test_frames_are_added_up_to_the_samples_that_they_were_cut_from():
    samples = np.random.default_rng(0).standard_normal(5000) / 4
    again = denoiser.samples_of(denoiser.spectra(samples))
    assert np.abs(again[: samples.size] - samples).max() < 1e-6
    assert denoiser.sdr_db(again[: samples.size], samples) > 120


def test_the_ratio_of_speech_and_noise_is_as_said_and_seeded():
    speech = _load("denoiser_speech")
    generator = np.random.default_rng(0)
    recordings = {"a": 0.1 * generator.standard_normal(9 * 16000 + 5), "quiet": np.full(16000, 1e-4)}
    pieces = speech.pieces_of(recordings)
    assert [len(piece) for piece in pieces] == [16000] * 9
    made = list(speech.segments(pieces, 3))
    assert [segment.kind for segment in made[:6]] == ["white", "white", "pink", "pink", "babble", "babble"]
    for segment in made:
        ratio = np.sum(segment.clean**2) / np.sum((segment.noisy - segment.clean) ** 2)
        assert 10 * np.log10(ratio) == pytest.approx(segment.ratio_db)
    assert {segment.ratio_db for segment in made} == {0.0, 5.0, 10.0}
    again = list(speech.segments(pieces, 3))
    assert all(np.array_equal(one.noisy, other.noisy) for one, other in zip(made, again, strict=True))
    power = np.abs(np.fft.rfft(speech.make_noise("pink", generator, pieces))) ** 2
    octaves = [power[start : 2 * start].sum() for start in (100, 200, 400, 800, 1600, 3200)]
    assert max(octaves) / min(octaves) < 1.5


def test_the_metric_is_si_sdr_of_the_waveform():
    waveform = _load("waveform")
    generator = np.random.default_rng(1)
    clean = generator.standard_normal(4000) / 4
    noisy = clean + generator.standard_normal(4000) / 20
    frames = [np.stack(denoiser.spectra(samples)) for samples in (noisy, clean)]
    assert frames[0].shape[1:] == (1, 257, 1, 2)
    outputs, targets = ({"enh": [each, each[:9]]} for each in frames)
    values = waveform.si_sdr(outputs, targets, np.array([len(frames[0]), 9]))
    factor = (noisy @ clean) / (clean @ clean)
    expected = 10 * np.log10(np.sum((factor * clean) ** 2) / np.sum((factor * clean - noisy) ** 2))
    assert values[0] == pytest.approx(expected, abs=1e-3)
    assert values[1] != pytest.approx(expected, abs=0.01)
    assert (waveform.si_sdr.unit, waveform.si_sdr.more_is_better) == ("dB", True)


def test_the_page_shows_the_metric_and_the_figures():
    page = denoiser.DOCUMENT.read_text()
    assert f"```python\n{denoiser.METRIC_CODE.read_text()}```" in page
    for file in ("noisy input", "float32", "int8", "auto"):
        assert re.search(rf"^\| {file} \| .* to .* \|$", page, re.MULTILINE), file


@pytest.mark.long
@needs_files
def test_int8_keeps_within_the_budget_in_decibels(tmp_path, monkeypatch):
    sdr, speech = sys.modules["denoiser_sdr"], _load("denoiser_speech")
    # Without the recordings: tones instead of speech.
    t = np.arange(16000) / 16000
    pieces = [0.2 * np.sin(2 * np.pi * (200 + 60 * n) * t) * (np.sin(2 * np.pi * 3 * t) > 0) for n in range(7)]
    sdr.write_data(tmp_path / "made.npz", list(speech.segments(pieces, 0))[:8], denoiser.spectra)
    original, adopted = denoiser.FOLDER / denoiser.MODEL, tmp_path / "gtcrn.onnx"
    lstm_edge.adopt(original, adopted)
    lstm_edge.quantize(adopted, tmp_path / "int8.onnx", scheme="int8")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    report = lstm_edge.validate(
        tmp_path / "int8.onnx", adopted, str(tmp_path / "made.npz"), metric=sdr.METRIC, max_drop="0.5dB"
    )
    assert report.passed
    assert (report.unit, report.samples, report.max_drop) == ("dB", 8, 0.5)


def test_without_the_files_the_command_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["denoiser.py", "--folder", str(tmp_path)])
    denoiser.main()
    assert "skipped: gtcrn_simple.onnx, mix.wav missing" in capsys.readouterr().out
