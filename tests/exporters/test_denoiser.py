"""GTCRN, a published denoiser, adopted, quantized and streamed: the requirements of docs/denoiser.md.

Needs the authors' files; without them the tests are skipped. The measuring is benchmarks/denoiser.py, which also writes
the document's table.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

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


def test_without_the_files_the_command_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["denoiser.py", "--folder", str(tmp_path)])
    denoiser.main()
    assert "skipped: gtcrn_simple.onnx, mix.wav missing" in capsys.readouterr().out
