"""`-o` has a default where a command writes one file: it is printed, it is in the help, and it overwrites nothing."""

import json
import math
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lstm_edge.cli import app
from lstm_edge.cli._outputs import adopted_name, exported_name, quantized_name, trained_name
from lstm_edge_runtime.checkpoint_header import CHECKPOINT_KEY

TAGGER = Path(__file__).parents[1] / "device" / "models" / "tagger.onnx"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (exported_name("a/m.v2.safetensors", None), "a/m.v2.onnx"),
        (exported_name("m.safetensors", "int8"), "m.int8.onnx"),
        (exported_name("m.keras", None), "m.onnx"),
        (exported_name("saved_model", "int4"), "saved_model.int4.onnx"),
        (exported_name("package.models:make_vad", "int8"), "make_vad.int8.onnx"),
        (exported_name(":", None), "model.onnx"),  # refused by what reads it
        (exported_name("m.onnx", None), "m.exported.onnx"),  # refused, and not as its own output
        (adopted_name(Path("a/vad.onnx")), "a/vad.adopted.onnx"),
        (quantized_name(Path("a/m.onnx"), "int8"), "a/m.int8.onnx"),
        (quantized_name(Path("m.onnx"), "auto"), "m.auto.onnx"),
        (trained_name("tagging"), "tagging.safetensors"),
    ],
)
def test_the_default_follows_from_what_is_read(name, expected):
    assert name == Path(expected)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    shutil.copy(TAGGER, tmp_path / "tagger.onnx")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def invoke(*arguments):
    result = CliRunner().invoke(app, list(arguments), prog_name="lstm-edge")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_the_default_is_printed_and_written(folder):
    result = invoke("quantize", "tagger.onnx")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.splitlines()[0] == "· output: tagger.int8.onnx"
    size = (folder / "tagger.int8.onnx").stat().st_size
    assert result.stdout.splitlines()[-1] == f"wrote tagger.int8.onnx, {size:,} bytes"
    # The difference stands beside the scale that it is to be compared with.
    found = re.search(r"random inputs: (\S+) of up to (\S+) \((\d+) dB below\) ", " ".join(result.stdout.split()))
    assert found is not None
    assert float(found[3]) == pytest.approx(20 * math.log10(float(found[2]) / float(found[1])), abs=1)
    assert sorted(os.listdir()) == ["tagger.int8.onnx", "tagger.onnx"]


@pytest.mark.parametrize(
    ("arguments", "default"),
    [
        (("quantize", "tagger.onnx"), "tagger.int8.onnx"),
        (("quantize", "tagger.onnx", "--scheme", "int4"), "tagger.int4.onnx"),
        (("adopt", "tagger.onnx"), "tagger.adopted.onnx"),
        (("export", "m.safetensors"), "m.onnx"),
        (("export", "models:make", "--scheme", "int8"), "make.int8.onnx"),
        (("train", "tagging", "--data", "x.npz"), "tagging.safetensors"),
        (("select", "--data", "x.npz"), "selected.safetensors"),
    ],
)
def test_a_default_that_exists_is_never_overwritten(folder, arguments, default):
    (folder / default).write_text("mine")
    np.savez(folder / "x.npz", x=np.zeros((4, 3), np.float32))
    (folder / "models.py").write_text("")
    header = json.dumps({"__metadata__": {CHECKPOINT_KEY: "{}"}}).encode()
    (folder / "m.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"error: {default}: exists already, and only a file that -o names is overwritten: give -o {default}, or "
        "another name\n"
    )
    assert (folder / default).read_text() == "mine"


@pytest.mark.parametrize(
    "arguments",
    [
        ("quantize", "none.onnx"),
        ("adopt", "none.onnx"),
        ("export", "none.safetensors"),
        ("select", "--data", "none.npz"),
    ],
)
def test_no_default_is_announced_for_what_cannot_be_read(folder, arguments):
    """One sentence, and none about a file that is not going to be written."""
    for name in ("none.int8.onnx", "none.adopted.onnx", "none.onnx.onnx", "selected.safetensors"):
        (folder / name).write_text("mine")
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "no such file" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_named_file_is_overwritten_as_before(folder):
    (folder / "q.onnx").write_text("mine")
    result = invoke("quantize", "tagger.onnx", "-o", "q.onnx")
    assert result.exit_code == 0, result.stderr
    assert not any("output: " in line for line in result.stderr.splitlines())
    assert result.stdout.splitlines()[-1].startswith("wrote q.onnx, ")


@pytest.mark.parametrize(
    "words", ["export", "adopt", "quantize", "select", "train tagging", "sign", "bundle", "zoo get"]
)
def test_the_help_has_the_default(folder, words):
    text = " ".join(invoke(*words.split(), "--help").stdout.split())
    described = text.partition("--output ")[2].partition(" --")[0]
    assert "By default " in described
