"""A wrong path, a missing option or a wrong ending is refused before torch is imported, with the reader's sentence."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.scripts import load_script
from typer.testing import CliRunner

from lstm_edge import refusals
from lstm_edge.cli import app
from lstm_edge_runtime.cli import refusals as device_refusals

ROOT = Path(__file__).parents[2]
LINES, prepare = (getattr(load_script("refusals", ROOT / "benchmarks"), name) for name in ("LINES", "prepare"))
# One process runs every line: what a line imports stays, and the first that imports too much is found.
CODE = """
import json, sys
from typer.testing import CliRunner
from lstm_edge.cli import app
found = {}
for line in json.load(sys.stdin):
    result = CliRunner().invoke(app, line.split())
    heavy = [name for name in ("torch", "onnx", "onnxscript", "sklearn", "optuna") if name in sys.modules]
    found[line] = [result.exit_code, heavy]
print(json.dumps(found))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    prepare(tmp_path)
    # A readable one, so that a line has one fault.
    shutil.copyfile(ROOT / "tests" / "device" / "models" / "exported_float32.onnx", tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answers(code, lines):
    """Run lines in one process; returns the exit code of each, and what was imported until then."""
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "exporters", ROOT / "runtime")))
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": paths},
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_torch_is_not_imported_to_refuse(folder):
    assert answers(CODE, LINES) == {line: [2, []] for line in LINES}


def test_the_check_sees_an_import(folder):
    code = CODE.replace("found = {}", "import torch\nfound = {}")
    assert answers(code, LINES[:1]) == {LINES[0]: [2, ["torch"]]}


def said(line):
    result = CliRunner().invoke(app, line.split())
    assert result.exit_code == 2, result.output
    return [text for text in result.stderr.splitlines() if not text.startswith("·")]


@pytest.mark.parametrize("line", LINES)
def test_the_sentence_is_that_of_what_reads_the_file(folder, monkeypatch, line):
    early = said(line)
    for name in (*refusals.__all__, *device_refusals.__all__):
        if name.startswith("refuse_"):
            for module in list(sys.modules.values()):
                if getattr(module, "__name__", "").startswith("lstm_edge") and hasattr(module, name):
                    monkeypatch.setattr(module, name, lambda *_arguments, **_options: None)
    assert said(line) == early
    assert sorted(os.listdir()) == ["model.onnx", "wrong.txt"]


def test_only_the_first_of_several_processes_says_it(folder, monkeypatch):
    """The environment is what torchrun gives each process."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    line = ["train", "classification", "--data", "none.npz", "-o", "m.safetensors"]
    outputs = {}
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        result = CliRunner().invoke(app, line)
        outputs[rank] = (result.exit_code, result.output)
    assert outputs["1"] == (2, "")
    assert outputs["0"][0] == 2
    assert "none.npz: no such file" in outputs["0"][1]
