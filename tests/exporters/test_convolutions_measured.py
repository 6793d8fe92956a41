"""Int8 convolutions on a published detector, which they can ruin, and the verdicts of benchmarks/convolutions.py."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from lstm_edge.precision_search.compose import Composer
from lstm_edge_exporters.adopt import adopt
from lstm_edge_exporters.quantize import Convolutions, quantize_bytes
from lstm_edge_runtime.session import Session

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_measured", ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


benchmark, silero = _load("convolutions"), _load("silero")
MISSING = silero.missing()
needs_files = pytest.mark.skipif(bool(MISSING), reason=f"not fetched, `make test-silero` does: {', '.join(MISSING)}")


@needs_files
def test_the_bound_keeps_a_detector_that_int8_convolutions_ruin(tmp_path):
    path = tmp_path / "silero.onnx"
    adopt(silero.FORMS[0].path, path)
    inputs = [silero.frames_of(samples, 16000) for samples in silero.recordings()]
    composer = Composer.read(path)
    rounder = composer.calibrate([{"input": x} for x in inputs[::2]])

    def flipped(take: str) -> tuple[int, dict[str, str]]:
        request = Convolutions(gathered=composer.gathered, take=take)
        artifact = quantize_bytes(composer.source, rounder=rounder, convolutions=request)
        parent, session = Session(path), Session(artifact.data)
        pairs = [(session.run(x)[0], parent.run(x)[0]) for x in inputs]
        name = next(iter(pairs[0][0]))
        decisions = [(np.ravel(a[name]) >= 0.5) != (np.ravel(b[name]) >= 0.5) for a, b in pairs]
        schemes = {row.layer: row.scheme for row in artifact.card.quantization.coverage}
        return int(np.concatenate(decisions).sum()), schemes

    kept, schemes = flipped("auto")
    assert kept <= 2
    assert schemes["stft"].startswith("float32: with it the signal to noise of ")
    assert schemes["encoder.0"].startswith("float32: with it the signal to noise of ")
    ruined, schemes = flipped("required")
    assert ruined > 5
    assert schemes["stft"] == "int8, fixed activation scales"


def row(file: str, us: float, snr_db: float):
    return benchmark.Row(model="m", file=file, size_bytes=1, snr_db=snr_db, us=us, ratio=1.0)


@pytest.mark.parametrize(
    ("us", "snr_db", "missed"), [(100.0, 30.0, False), (120.0, 30.0, True), (120.0, 36.0, False), (80.0, 20.0, False)]
)
def test_a_slower_file_at_no_better_signal_to_noise_is_a_failure(us, snr_db, missed):
    rows = [row("float32", 200.0, 99.0), row("quantize_dynamic", 100.0, 35.0), row("int8", us, snr_db)]
    assert bool(benchmark.failures(rows)) is missed
    assert "| int8 | 1 |" in benchmark.table(rows, {"m": ""})
