"""The device's commands: exit codes, sentences, files, and never a traceback."""

import json
import os
import select
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from lstm_edge.cli._device import add_to
from lstm_edge.cli._frame import CommandGroup
from lstm_edge_runtime import cli
from lstm_edge_runtime.session import Session

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "tests" / "device" / "models"
TAGGER = str(MODELS / "tagger.onnx")

app = typer.Typer(cls=CommandGroup, pretty_exceptions_enable=False)
for name in ("check", "inspect", "run"):
    add_to(app, name)


def call(*arguments, stdin=None, exit_code=0):
    """Run a command; returns (stdout, stderr) and asserts the exit code and that no traceback escaped."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    assert result.exit_code == exit_code, result.output
    if exit_code:
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1, "one sentence"
    return result.stdout, result.stderr


@pytest.fixture
def x(tmp_path):
    array = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", array)
    return array


def test_check_passes_and_says_how_well():
    out, _ = call("check", TAGGER)
    assert "passed: 2 golden vectors, worst difference" in out
    assert "tolerance 1e-05 (bodies); file verified" in out
    words = " ".join(out.split())
    assert "tolerance: 1e-05 for float32, since processors sum in other orders; 0.01 with integers" in words


def test_the_reasons_of_the_tolerance_are_those_of_the_docs():
    from lstm_edge_exporters.verify.golden import FLOAT_TOLERANCE, INT8_TOLERANCE
    from lstm_edge_runtime.cli.check import _REASON

    assert f"{FLOAT_TOLERANCE:g} for float32" in _REASON
    assert f"{INT8_TOLERANCE:g} with integers" in _REASON


def test_run_says_what_it_wrote(tmp_path, x):
    out, err = call("run", TAGGER, tmp_path / "x.npy", "-o", tmp_path / "y.npy")
    assert out == ""
    assert err == f"· wrote {tmp_path / 'y.npy'}: logits float32 [2, 5, 4]\n"
    assert call("run", TAGGER, tmp_path / "x.npy", "-o", tmp_path / "y.npy", "-q") == ("", "")
    report = json.loads(call("check", TAGGER, "--json")[0])
    assert (report["passed"], report["vectors"], report["verified"]) == (True, 2, True)
    assert {output["name"] for output in report["outputs"]} >= {"logits", "lstm.1.c_out"}


def test_check_past_the_tolerance_is_exit_1(monkeypatch):
    real = Session.run

    def wrong(self, *arguments):
        outputs, state = real(self, *arguments)
        return {name: array + np.float32(0.5) for name, array in outputs.items()}, state

    monkeypatch.setattr(Session, "run", wrong)
    out, err = call("check", TAGGER, exit_code=1)
    assert "FAILED: 2 golden vectors, worst difference 0.5" in out
    assert "the worst difference 0.5 is over the file's tolerance 1e-05" in err
    assert json.loads(call("check", TAGGER, "--json", exit_code=1)[0])["passed"] is False


@pytest.mark.parametrize("command", ["check", "inspect", "run"])
def test_a_damaged_file_is_exit_1(tmp_path, x, command):
    data = bytearray((MODELS / "tagger.onnx").read_bytes())
    data[len(data) // 2] ^= 4
    path = tmp_path / "damaged.onnx"
    path.write_bytes(data)
    more = [tmp_path / "x.npy", "-o", tmp_path / "y.npy"] if command == "run" else []
    _, err = call(command, path, *more, exit_code=1)
    assert "damaged.onnx: the file is damaged: its SHA-256 differs from the one in its integrity trailer" in err
    assert sorted(os.listdir(tmp_path)) == ["damaged.onnx", "x.npy"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["check", "none.onnx"], "none.onnx: no such file"),
        (["check", MODELS], "this is a directory"),
        (["check", MODELS / "no_card.onnx"], "carries no golden vectors"),
        (["check", TAGGER, "--provider", "tpu"], "--provider is 'tpu', expected one of cpu, cuda"),
        (["run", TAGGER], "give an INPUT.npy or INPUT.npz, or --stream"),
        (["run", TAGGER, "none.npy"], "none.npy: no such file"),
        (["run", TAGGER, "x.npy", "--stream"], "INPUT and --stream exclude one another: give one of INPUT, --stream"),
        (["run", TAGGER, "--stream", "-o", "y.npy"], "leave out -o and --row-lengths"),
        (["run", MODELS / "bidirectional.onnx", "--stream"], "cannot be streamed: lstm is bidirectional"),
        (["run", TAGGER, TAGGER], "not a readable .npy or .npz file of numbers"),
    ],
)
def test_what_cannot_be_done_is_exit_2_and_one_sentence(arguments, sentence):
    assert sentence in call(*arguments, exit_code=2)[1]


def test_run_writes_what_the_session_answers(tmp_path, x):
    outputs, state = Session(TAGGER).run(x)
    call("run", TAGGER, tmp_path / "x.npy", "-o", tmp_path / "y.npy", "--save-state", tmp_path / "s.npz")
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), outputs["logits"])
    with np.load(tmp_path / "s.npz") as saved:
        assert {name: saved[name].tobytes() for name in saved.files} == {name: a.tobytes() for name, a in state.items()}
    np.savez(tmp_path / "in.npz", x=x)
    call("run", TAGGER, tmp_path / "in.npz", "-o", tmp_path / "y.npz", "--load-state", tmp_path / "s.npz")
    expected, _ = Session(TAGGER).run(x, state)
    with np.load(tmp_path / "y.npz") as written:
        np.testing.assert_array_equal(written["logits"], expected["logits"])


def test_run_prints_json_that_reads_back_as_the_same_float32(tmp_path, x):
    out, _ = call("run", TAGGER, tmp_path / "x.npy")
    np.testing.assert_array_equal(np.array(json.loads(out)["logits"], np.float32), Session(TAGGER).run(x)[0]["logits"])


def test_run_takes_lengths(tmp_path, x):
    model = MODELS / "lengths.onnx"
    call("run", model, tmp_path / "x.npy", "--row-lengths", "5,2", "-o", tmp_path / "y.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), Session(model).run(x, None, [5, 2])[0]["logits"])
    assert (
        "--row-lengths is 'all', expected integers"
        in call("run", model, tmp_path / "x.npy", "--row-lengths", "all", exit_code=2)[1]
    )
    assert "lengths[0] is 6" in call("run", model, tmp_path / "x.npy", "--row-lengths", "6,2", exit_code=2)[1]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["-o", "none/y.npy"], "does not exist; make it first"),
        (["-o", "y.txt"], "must end in .npy or .npz"),
        (["-o", "y.npy", "--save-state", "none/s.npz"], "does not exist; make it first"),
        (["-o", "y.npy", "--save-state", "s.npy"], "the name of a state file must end in .npz"),
        (
            ["-o", "y.npy", "--load-state", "x.npy"],
            "expected an .npz file of --save-state, with an array for each state",
        ),
        (["-o", "y.npy", "--load-state", "in.npz"], "state 'lstm.0.h' is missing"),
        (["-o", "y.npy", "--row-lengths", "5,3"], "the model takes no lengths"),
    ],
)
def test_a_refused_run_leaves_no_file_behind(tmp_path, x, monkeypatch, options, sentence):
    monkeypatch.chdir(tmp_path)
    np.savez("in.npz", x=x)
    assert sentence in call("run", TAGGER, "x.npy", *options, exit_code=2)[1]
    assert sorted(os.listdir(tmp_path)) == ["in.npz", "x.npy"]


def test_stream_answers_line_by_line(tmp_path, x):
    stream = Session(TAGGER).stream()
    expected = [stream.push(frame) for frame in x[0]]
    lines = "".join(json.dumps(frame.tolist()) + "\n" for frame in x[0])
    out, _ = call("run", TAGGER, "--stream", "--save-state", tmp_path / "s.npz", stdin=lines)
    for line, array in zip(out.splitlines(), expected, strict=True):
        np.testing.assert_array_equal(np.array(json.loads(line), np.float32), array)
    with np.load(tmp_path / "s.npz") as saved:
        assert all(np.array_equal(saved[name], array) for name, array in stream.state.items())
    out, _ = call("run", TAGGER, "--stream", "--load-state", tmp_path / "s.npz", stdin="[1, 2, 3]")
    following = stream.push(np.array([1, 2, 3], np.float32))
    np.testing.assert_array_equal(np.array(json.loads(out), np.float32), following)


def test_stream_of_two_rows():
    out, _ = call("run", TAGGER, "--stream", "--batch-size", "2", stdin="[[1, 2, 3], [4, 5, 6]]\n")
    assert np.array(json.loads(out)).shape == (2, 4)


def test_a_bad_line_ends_a_stream_with_its_number(tmp_path):
    stdin = '[1, 2, 3]\n{"reset": true}\n[NaN, 2, 3]\n[1, 2, 3]\n'
    out, err = call("run", TAGGER, "--stream", "--save-state", tmp_path / "s.npz", stdin=stdin, exit_code=2)
    assert len(out.splitlines()) == 1
    assert err == "error: line 3: NaN is not JSON; every value must be a finite number\n"
    assert os.listdir(tmp_path) == []


def test_every_answer_is_flushed_before_the_next_line_is_read():
    # A consumer on a device waits for each answer before it sends the next line.
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("", "exporters", "runtime"))
    process = subprocess.Popen(
        [sys.executable, "-c", "from lstm_edge.cli import main; main()", "run", TAGGER, "--stream"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": paths},
    )
    with process:
        for _ in range(3):
            process.stdin.write(b"[1, 0, 0]\n")
            process.stdin.flush()
            # Start-up takes well under a second: without an answer for so long there comes none.
            readable, _, _ = select.select([process.stdout], [], [], 600)
            if not readable:
                process.kill()
            assert readable, "no answer while the input is open"
            assert len(json.loads(process.stdout.readline())) == 4
        process.stdin.close()
        assert process.wait(timeout=600) == 0


@pytest.mark.parametrize("name", [path.stem for path in sorted(MODELS.glob("*.onnx"))])
def test_inspect_fits_80_columns_and_its_json_is_the_card(monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "80")
    model = str(MODELS / f"{name}.onnx")
    out, _ = call("inspect", model)
    assert max(len(line) for line in out.splitlines()[1:]) <= 80
    report = json.loads(call("inspect", model, "--json")[0])
    session = Session(model)
    assert report["size_bytes"] == session.size_bytes
    assert report["verified"] is session.verified
    assert report["notes"] == list(session.notes)
    assert (report["card"] is None) == (session.card is None)


def test_inspect_says_what_a_person_asks():
    out, _ = call("inspect", TAGGER)
    for sentence in (
        f"{os.path.getsize(TAGGER):,} bytes, verified",
        "[batch, time, 3]",
        "streaming: every-step",
        "parity: worst difference 1.2e-07 against onnxruntime, tolerance 2e-06, over 2 shapes",
        "labels: 4 (a, b, c, d)",
    ):
        assert sentence in " ".join(out.split())
    both = call("inspect", MODELS / "bidirectional.onnx")[0]
    assert "streaming: none (lstm is bidirectional: its reverse direction starts at the end)" in " ".join(both.split())
    quantized = call("inspect", MODELS / "quantized.onnx")[0]
    assert "int8 saves disk and transfer, not RAM or time" in " ".join(quantized.split())
    assert "0.38" in quantized  # 240 of 640 bytes
    bare = call("inspect", MODELS / "no_card.onnx")[0]
    assert "no model card: inputs and outputs are read from the graph" in " ".join(bare.split())


@pytest.mark.parametrize("command", ["check", "inspect", "run"])
def test_help_has_an_example(command):
    assert f"lstm-edge {command} model.onnx" in call(command, "--help")[0]


def test_the_runtime_knows_the_commands_of_both_packages():
    from lstm_edge.cli import COMMANDS

    assert {*cli.COMMANDS, *cli.TOOLKIT_COMMANDS} == set(COMMANDS)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {extra for extra in cli.TOOLKIT_COMMANDS.values() if extra} <= set(extras)


def test_the_installed_command_is_that_of_lstm_edge_where_it_is_installed(monkeypatch):
    monkeypatch.setattr("lstm_edge.cli.main", lambda: sys.exit(17))
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    assert leaving.value.code == 17
