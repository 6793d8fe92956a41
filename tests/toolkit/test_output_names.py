"""What a name says and what lies there already is looked at before any work is done."""

import os
import pty
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lstm_edge.cli import _quantized, app
from lstm_edge_runtime.fresh_python import python_command

TAGGER = Path(__file__).parents[1] / "device" / "models" / "tagger.onnx"
# Of none of these is anything read, loaded or trained: the name is refused first.
COMMANDS = {
    "quantize": ["quantize", "none.onnx"],
    "quantize auto": [
        *("quantize", "none.onnx", "--scheme", "auto", "--data", "none.npz"),
        *("--metric", "accuracy", "--max-drop", "1pt"),
    ],
    "adopt": ["adopt", "none.onnx"],
    "export": ["export", "none:make"],
    "train": ["train", "classification", "--data", "none.npz"],
    "select": ["select", "--data", "none.npz"],
}


@pytest.mark.parametrize("name", ["o.txt", "o", "o.onnx.bak", "o.json", "o.html"])
@pytest.mark.parametrize("command", COMMANDS)
def test_an_ending_that_contradicts_the_contents_is_refused_first(tmp_path, monkeypatch, command, name):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [*COMMANDS[command], "-o", name])
    assert result.exit_code == 2
    kind = ".safetensors" if command in ("train", "select") else ".onnx"
    assert result.stderr.startswith(f"error: {name}: the name")
    assert f"must end in {kind}" in result.stderr
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("train", "select")])
def test_a_model_of_one_kind_is_not_written_under_the_name_of_another(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [*COMMANDS[command], "-o", "m.safetensors"])
    assert "m.safetensors: the name must end in .onnx" in result.stderr


def test_a_json_beside_the_report_is_not_overwritten_unasked(tmp_path):
    figures = tmp_path / "r.json"
    figures.write_text("mine")
    command = ["quantize", str(TAGGER), "-o", str(tmp_path / "o.onnx"), "--scheme", "auto", "--data", "none.npz"]
    command += ["--metric", "accuracy", "--max-drop", "1pt", "--report", str(tmp_path / "r.html")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "r.json: file exists, and --report would write the report's figures to it" in result.stderr
    assert "overwrite the file with --force" in result.stderr
    forced = CliRunner().invoke(app, [*command, "--force"])
    assert "none.npz: no such file" in forced.stderr
    assert figures.read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "goes_on"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_on_a_terminal_the_command_asks(tmp_path, answer, goes_on):
    (tmp_path / "r.json").write_text("mine")
    code = "from lstm_edge.cli import main; main()"
    arguments = ["quantize", str(TAGGER), "-o", "o.onnx", "--scheme", "auto", "--data", "none.npz", "--metric"]
    arguments += ["accuracy", "--max-drop", "1pt", "--report", "r.html"]
    command = python_command(code, *arguments, packages=("lstm_edge", "lstm_edge_exporters", "lstm_edge_runtime"))
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, cwd=tmp_path, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        os.write(ours, answer.encode())
        said = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # the end of a terminal
                break
            said += piece
        assert process.stdout.read() == b""
    os.close(ours)
    text = said.decode()
    assert "r.json exists. Overwrite it? [y/N]" in text
    assert ("none.npz: no such file" in text) == goes_on
    assert ("file exists" in text) != goes_on
    assert process.returncode == 2


def test_the_answer_is_looked_for_only_where_it_is_needed(tmp_path, monkeypatch):
    page = ["--report", str(tmp_path / "r.html")]
    command = ["quantize", "none.onnx", "-o", str(tmp_path / "q.onnx"), "--scheme", "auto", "--data", "d.npz"]
    command += ["--metric", "accuracy", "--max-drop", "1pt"]
    (tmp_path / "r.json").symlink_to(tmp_path / "kept.json")
    for figures, more, sentence in (
        (False, page, "none.onnx: no such file"),
        (False, ["--force"], "--force requires --report; leave it out"),
        (True, page, "r.json: file exists, and --report would write"),
        (True, [*page, "--force"], "none.onnx: no such file"),
    ):
        (tmp_path / "kept.json").unlink(missing_ok=True)
        if figures:
            (tmp_path / "kept.json").touch()
        result = CliRunner().invoke(app, [*command, *more])
        assert result.exit_code == 2
        assert sentence in result.stderr
    monkeypatch.setattr(_quantized.typer, "echo", lambda *_, **__: pytest.fail("there is no terminal"))
    assert not _quantized.may_overwrite(tmp_path / "r.json")
