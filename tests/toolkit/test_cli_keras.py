"""`lstm-edge export model.keras` as a person uses it."""

import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from support.keras_run import run_keras
from typer.testing import CliRunner

from lstm_edge.cli import app
from lstm_edge_runtime.session import Session

FIXTURES = Path(__file__).parents[1] / "fixtures"
# float32 against float32: 3e-7 is seen.
CLOSE = 1e-5
# Probabilities of an int8 LSTM against the float32 one: 4e-3 is seen at hidden 128, a wrong scale gives 1e-1.
INT8 = 2e-2


def export(*arguments: object, exit_code: int = 0):
    """Run `lstm-edge export`; asserts the exit code, one sentence of error, and no traceback."""
    result = CliRunner().invoke(app, ["export", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    assert result.exit_code == exit_code, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == (1 if exit_code else 0), result.stderr
    return result


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("keras") is None, reason="Keras is not installed")
def test_the_classic_classifier_in_float32_and_int8(tmp_path: Path) -> None:
    """LSTM(128), Dense(softmax): Keras's answers from the float32 file, nearly so from the int8 one."""
    run_keras(tmp_path, "classifier")
    source, plain, small = (tmp_path / name for name in ("classifier.keras", "f32.onnx", "int8.onnx"))
    report = json.loads(export(source, "-o", plain, "--json").stdout)
    assert report["card"]["streaming"]["verdict"] == "last-step"
    report = json.loads(export(source, "-o", small, "--scheme", "int8", "--json").stdout)
    assert report["card"]["quantization"]["scheme"] == "int8"
    assert report["size_bytes"] < report["float32_bytes"] * 0.4
    with np.load(tmp_path / "classifier.npz") as answers:
        for index in range(3):
            x, expected = answers[f"x{index}"], answers[f"y{index}_0"]
            for path, tolerance in ((plain, CLOSE), (small, INT8)):
                session = Session(path)
                got = next(iter(session.run(x)[0].values()))
                np.testing.assert_allclose(got, expected, atol=tolerance, rtol=0, err_msg=path.name)


@pytest.mark.long
@pytest.mark.slow
def test_a_legacy_file_without_keras_and_its_stream(tmp_path: Path) -> None:
    """Keras 2's form, two masked layers: the file streams frame by frame to Keras's answer."""
    path = tmp_path / "model.onnx"
    report = json.loads(export(FIXTURES / "keras2.h5", "-o", path, "--json").stdout)
    assert report["card"]["inputs"][0]["axes"] == ["batch", "time", 3]
    assert report["card"]["preprocessing"] == [
        "inside the graph: steps are masked as the Keras file says (mask_zero or Masking); "
        "a masked step keeps the state"
    ]
    with np.load(FIXTURES / "keras_answers.npz") as answers:
        x, expected = answers["x2"], answers["y2"]
    state = None
    for start, stop in ((0, 1), (1, 2), (2, 4), (4, 5)):
        outputs, state = Session(path).run(x[:, start:stop], state=state)
    np.testing.assert_allclose(next(iter(outputs.values())), expected, atol=CLOSE, rtol=0)


def test_what_does_not_go_with_a_keras_file(tmp_path: Path) -> None:
    source, path = FIXTURES / "keras2.h5", tmp_path / "model.onnx"
    result = export(source, "-o", path, "--weights", "w.pt", exit_code=2)
    assert result.stderr.endswith(
        "error: --weights requires package.module:factory; a Keras file has its own weights\n"
    )
    result = export(source, "-o", path, "--lengths", exit_code=2)
    assert "the model's mask (mask_zero or Masking) marks the valid steps: leave --lengths out" in result.stderr
    damaged = tmp_path / "damaged.keras"
    shutil.copyfile(FIXTURES / "keras3.keras", damaged)
    os.truncate(damaged, 900)
    result = export(damaged, "-o", path, exit_code=2)
    assert f"error: {damaged}: the archive is damaged (it has no end record)" in result.stderr
    assert not path.exists()


def test_without_h5py_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("lstm_edge_exporters.keras")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "h5py", None)
    result = export(FIXTURES / "keras2.h5", "-o", tmp_path / "model.onnx", exit_code=2)
    assert "error: this command needs 'h5py', which is not installed: pip install 'lstm-edge[keras]'" in result.stderr
