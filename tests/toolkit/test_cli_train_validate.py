"""`lstm-edge train` and `lstm-edge validate`: what they print, write and return."""

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from lstm_edge.checkpoint import load_checkpoint
from lstm_edge.cli import app
from lstm_edge.cli._options import METRIC_FORMS
from lstm_edge.cli.train import Peephole, make_command
from lstm_edge.cli.validate import validate as validate_command
from lstm_edge.data import load
from lstm_edge.training import Epoch, TrainingOptions, train_classifier
from lstm_edge.training.models import ClassifierConfig
from lstm_edge.validation.judge import validate
from lstm_edge_runtime.metrics import metric_forms

ROOT = Path(__file__).parents[2]


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def train(*options, data="japanese-vowels"):
    return run("train", "classification", "--data", data, "--epochs", 1, "--hidden", 4, *options)


def write_model(path, weight):
    """Write logits = last frame times weight: float32 [batch, classes] from [batch, time, 12]."""
    weight = np.asarray(weight, np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["x", "last"], ["frame"], axis=1),
            helper.make_node("MatMul", ["frame", "w"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("batch", "time", 12))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("batch", weight.shape[1]))],
        [numpy_helper.from_array(np.array(-1), "last"), numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


@pytest.fixture
def models(tmp_path):
    """A linear reference fitted to the last frames of the test split, and a candidate with two speakers swapped."""
    data = load("japanese-vowels:test", default_split="test")
    frames = np.stack([row[-1] for row in data])
    weight = np.linalg.lstsq(frames, np.eye(9)[data.y], rcond=None)[0]
    swapped = weight[:, [1, 0, *range(2, 9)]]
    return write_model(tmp_path / "new.onnx", swapped), write_model(tmp_path / "old.onnx", weight)


def test_train_writes_a_checkpoint_and_prints_the_table(tmp_path):
    path = tmp_path / "m.safetensors"
    result = train("-o", path, "--peephole", "diagonal", "--layers", 2, "--bidirectional", "--seed", 3)
    assert result.exit_code == 0, result.output
    assert "training on japanese-vowels:train: 270 sequences, 9 classes, seed 3" in result.stderr
    assert "243 / 27" in result.stdout
    assert "\x1b" not in result.output
    config = load_checkpoint(path).config
    expected = (4, 2, "diagonal", True)
    assert (config.hidden, config.layers, config.peephole, config.bidirectional) == expected
    assert list(tmp_path.iterdir()) == [path]


def test_train_prints_the_librarys_report_as_json(tmp_path):
    result = train("-o", tmp_path / "m.safetensors", "--json", "--batch-size", 90, "--learning-rate", 0.01)
    assert result.exit_code == 0, result.output
    epoch, document = map(json.loads, result.stdout.splitlines())
    options = TrainingOptions(epochs=1, batch_size=90, learning_rate=0.01)
    data = load("japanese-vowels", default_split="train")
    config = ClassifierConfig(features=12, classes=9, hidden=4, labels=data.labels)
    report = train_classifier(data, config, options=options)[1]
    assert (epoch.pop("event"), document.pop("event")) == ("epoch", "report")
    assert Epoch(**epoch) == Epoch(**document["best"]) == report.best
    timed = {"seconds": 0, "best": 0, "history": 0}
    assert document | timed == json.loads(json.dumps(report.to_json())) | timed


@pytest.mark.slow
def test_train_takes_a_file(tmp_path):
    data = tmp_path / "d.npz"
    x = np.random.default_rng(0).normal(size=(24, 2)).astype(np.float32)
    np.savez(data, x=x, lengths=np.full(8, 3), y=np.arange(8) % 2)
    result = train("-o", tmp_path / "m.safetensors", data=data)
    assert result.exit_code == 0, result.output
    assert load_checkpoint(tmp_path / "m.safetensors").config.features == 2


@pytest.mark.parametrize(
    ("options", "data", "sentence"),
    [
        (["-o", "none/m.safetensors"], "japanese-vowels", "error: none/m.safetensors: the folder none does not"),
        (["-o", "."], "japanese-vowels", "error: .: the name of a trained model must end in .safetensors"),
        (
            ["-o", "m.safetensors", "--hidden", "0"],
            "japanese-vowels",
            "error: --hidden is '0', expected 1 or more",
        ),
        (
            ["-o", "m.safetensors", "--learning-rate", "0"],
            "japanese-vowels",
            "error: --learning-rate is 0.0, expected above",
        ),
        (["-o", "m.safetensors"], "vowels", "error: data 'vowels': no such data set; expected one of japanese-vowels"),
        (["-o", "m.safetensors"], "none.npz", "error: data none.npz: no such file"),
    ],
)
def test_train_refuses_before_it_trains(tmp_path, monkeypatch, options, data, sentence):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lstm_edge.training.tasks.run_training", lambda *_, **__: pytest.fail("it trained"))
    result = train(*options, data=data)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1].startswith(sentence)
    assert list(tmp_path.iterdir()) == []


def test_validate_passes_within_the_budget(models):
    _, reference = models
    result = run("validate", reference, "--against", reference, "--data", "japanese-vowels")
    assert result.exit_code == 0, result.output
    assert "japanese-vowels:test, 370 sequences" in result.stdout
    assert "passed" in result.stdout
    assert "inf dB" in result.stdout
    assert "validating on japanese-vowels:test: 370 sequences, seed 0" in result.stderr


def test_validate_exits_1_when_the_budget_is_broken(models):
    candidate, reference = models
    result = run("validate", candidate, "--against", reference, "--data", "japanese-vowels", "--max-drop", "1%")
    assert result.exit_code == 1
    assert "BUDGET BROKEN" in result.stdout
    # The worst difference beside the scale of the output, and in dB.
    assert re.search(r"worst output difference +\S+ of up to \S+ \(-?\d+ dB below\)\n", result.stdout)
    assert result.stderr.splitlines()[-1].startswith("error: over the budget: accuracy goes from ")


def test_validate_prints_the_librarys_report_as_json(models):
    candidate, reference = models
    options = ("--metric", "cross-entropy", "--max-drop", "90%", "--confidence", 0.9, "--seed", 4, "--json")
    result = run("validate", candidate, "--against", reference, "--data", "japanese-vowels:train", *options)
    report = validate(
        candidate,
        reference,
        load("japanese-vowels:train", default_split="test"),
        metric="cross-entropy",
        max_drop="90%",
        confidence=0.9,
        seed=4,
    )
    assert json.loads(result.stdout) == report.to_json()
    assert result.exit_code == (0 if report.passed else 1)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--metric", "f2"], "error: metric 'f2': unknown; expected one of accuracy, cross-entropy"),
        (
            ["--max-drop", "0.5"],
            "error: budget 0.5: metric accuracy is in share; expected a unit: 0.5pt",
        ),
        (["--confidence", "95"], "error: --confidence is 95.0, expected a share above 0 and below 1"),
        (["--data", "japanese-vowels:all"], "error: data 'japanese-vowels:all': japanese-vowels has no split 'all'"),
    ],
)
def test_validate_refuses_wrong_options(models, options, sentence):
    result = run("validate", *models[:1], "--against", models[1], "--data", "japanese-vowels", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1].startswith(sentence)


def test_validate_names_a_missing_model(models, tmp_path):
    result = run("validate", tmp_path / "none.onnx", "--against", models[1], "--data", "japanese-vowels")
    assert result.exit_code == 2
    assert "none.onnx" in result.stderr.splitlines()[-1]
    assert result.stderr.splitlines()[-1].startswith("error: ")


def test_the_commands_defaults_are_the_librarys():
    given = {
        name: parameter.default
        for name, parameter in inspect.signature(make_command("classification")).parameters.items()
    }
    options, config = TrainingOptions(), ClassifierConfig(features=1, classes=2)
    assert {name: given[name] for name in ("epochs", "batch_size", "learning_rate")} == {
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
    }
    for name in ("hidden", "layers", "bidirectional", "peephole", "input_noise"):
        assert given[name] == getattr(config, name), name
    assert given["seed"] == inspect.signature(train_classifier).parameters["seed"].default == 0
    command, library = inspect.signature(validate_command).parameters, inspect.signature(validate).parameters
    for name in ("metric", "max_drop", "confidence", "seed", "threads"):
        assert command[name].default == library[name].default, name


def test_the_commands_choices_are_the_librarys():
    assert metric_forms() == METRIC_FORMS
    assert [ClassifierConfig(features=1, classes=2, peephole=kind.value).peephole for kind in Peephole] == list(
        Peephole
    )


@pytest.mark.parametrize("command", [["train", "classification"], ["validate"]])
def test_help_has_examples(command):
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert f"lstm-edge {' '.join(command)} " in result.stdout
    assert "--data" in result.stdout


def fresh(code, *arguments):
    path = os.pathsep.join(str(ROOT / part) for part in ("", "exporters", "runtime"))
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_validation_needs_neither_torch_nor_onnx(models):
    """The gate that the device itself can run, in a fresh interpreter that refuses both imports."""
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'safetensors'): sys.modules[name] = None\n"
        "from lstm_edge.validation.judge import validate\n"
        "print(validate(sys.argv[1], sys.argv[2], 'japanese-vowels').samples)\n"
    )
    result = fresh(code, *map(str, models))
    assert (result.returncode, result.stdout) == (0, "370\n"), result.stderr
    # The refusal itself works.
    assert fresh(code.replace("'onnx'", "'numpy'"), *map(str, models)).returncode == 1


def test_the_command_files_import_nothing_heavy():
    code = (
        "import sys, lstm_edge.cli.train, lstm_edge.cli.validate\n"
        "print([name for name in ('torch', 'numpy', 'onnxruntime') if name in sys.modules])"
    )
    result = fresh(code)
    assert (result.returncode, result.stdout) == (0, "[]\n"), result.stderr
