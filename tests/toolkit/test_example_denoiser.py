"""The example of a denoiser: trained, exported, quantized within a budget in dB, and streamed, as its page says."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import lstm_edge
from lstm_edge_runtime.metrics import METRICS
from lstm_edge_runtime.session import Session

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "denoiser"
# A rounding of the int8 GRU may flip where a sum of a chunk's convolution differs in the last bit.
ROUNDED = 5e-3


@pytest.fixture(scope="module")
def denoiser():
    spec = importlib.util.spec_from_file_location("denoiser", FOLDER / "denoiser.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def si_sdr(frames, clean):
    """Return the SI-SDR of float32 [sounds, 64, frames]: time first, as the judge joins the frames."""
    return METRICS["si-sdr"].estimate_sequences(list(frames.transpose(0, 2, 1)), list(clean.transpose(0, 2, 1))).value


@pytest.mark.slow
def test_the_budget_is_on_the_waveform_and_the_stream_is_causal(denoiser, tmp_path):
    model = denoiser.train(steps=3)
    noisy, clean = denoiser.make_sounds(8, 40, seed=1)
    np.savez(tmp_path / "noisy.npz", noisy=noisy, y=clean)
    options = {"scheme": "int8", "data": str(tmp_path / "noisy.npz"), "metric": "si-sdr"}
    example = torch.from_numpy(noisy[:2])
    report = lstm_edge.export(model, example, tmp_path / "denoiser.onnx", max_drop="1dB", **options)
    report.check()
    with torch.no_grad():
        expected = si_sdr(model(torch.from_numpy(noisy)).numpy(), clean)
    assert report.validation.reference == pytest.approx(expected, abs=1e-3)
    assert (report.validation.unit, report.validation.max_drop) == ("dB", 1.0)
    session = Session(tmp_path / "denoiser.onnx")
    assert (session.card.streaming.verdict, session.card.streaming.latency_steps) == ("every-step", 0)
    assert {state.kind for state in session.card.states} == {"h", "cache"}
    [whole] = session.run(noisy[:1])[0].values()
    stream = session.stream()
    pieces = [stream.push(noisy[:1, :, step : step + 1]) for step in range(40)]
    np.testing.assert_allclose(np.concatenate(pieces, axis=2), whole, atol=ROUNDED)


@pytest.mark.long
def test_the_example_as_its_page_says(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(FOLDER)}
    subprocess.run([sys.executable, str(FOLDER / "denoiser.py")], cwd=tmp_path, env=environment, check=True)
    [code] = re.findall(r"```python\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    code += "\nprint(report.validation.reference)\nnp.save('cleaned.npy', np.concatenate(clean, axis=2))\n"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    data = np.load(tmp_path / "noisy.npz")
    before = si_sdr(data["noisy"], data["y"])
    # 5.2 dB when this was written; a denoiser that learned nothing has none.
    assert float(result.stdout.splitlines()[-1]) > before + 3
    streamed = np.load(tmp_path / "cleaned.npy")
    assert si_sdr(streamed, data["y"][:1]) > si_sdr(data["noisy"][:1], data["y"][:1]) + 1


def test_the_example_has_at_most_five_lines_of_the_toolkit():
    [code] = re.findall(r"```python\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    steps = [line for line in code.splitlines() if re.search(r"options|report|stream|lstm_edge\.", line)]
    assert len(steps) <= 5, steps
    assert "lstm_edge" not in (FOLDER / "denoiser.py").read_text()
