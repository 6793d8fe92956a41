"""`lstm-edge train` for the other tasks: files written, lines printed, bad input in one sentence."""

import inspect
import json

import numpy as np
import pytest
from support.training_cases import LENGTHS, ids, sequences, train
from typer.testing import CliRunner

from lstm_edge.checkpoint import load_checkpoint
from lstm_edge.cli import app
from lstm_edge.cli.train import TASKS, make_command
from lstm_edge.training import Checkpoint, LanguageOptions, TrainingOptions
from lstm_edge.training.models import ClassifierConfig, ForecasterConfig, LanguageModelConfig, TaggerConfig


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for task in ("classification", "tagging", "forecast"):
        data = sequences(task)
        np.savez(f"{task}.npz", x=data.x, lengths=LENGTHS, y=data.y)
    (tmp_path / "text.txt").write_text("".join("abcdefg"[number] for number in ids(1500)))
    return tmp_path


SHORT = ("-o", "m.safetensors", "--epochs", 2, "--hidden", 4, "--batch-size", 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "options", "kind"),
    [
        (
            "tagging",
            ("--bidirectional", "--optimizer", "sgd", "--pad", "random", "--truncate", "pre"),
            "SequenceTagger",
        ),
        ("forecast", ("--loss", "mae", "--schedule", "plateau", "--no-bucket"), "SequenceForecaster"),
        ("classification", ("--label-smoothing", 0.1, "--clip-norm", 0, "--max-length", 3), "SequenceClassifier"),
    ],
)
def test_a_task_trains_from_a_file(folder, task, options, kind):
    result = run("train", task, "--data", f"{task}.npz", *SHORT, "--projection", 3, "--plot", "c.svg", *options)
    assert result.exit_code == 0, result.output
    assert f"training on {task}.npz: 12 sequences, " in result.stderr
    assert "gradient norm, last epoch mean / max" in result.stdout
    assert type(load_checkpoint("m.safetensors")).__name__ == kind
    assert (folder / "c.svg").read_text().startswith("<?xml")
    assert not (folder / "m.safetensors.resume").exists()


def test_a_language_model_trains_from_a_text(folder):
    options = ("--tied", "--layers", 2, "--window", 20, "--threads", 1, "--warmup", 0.1, "--json")
    result = run("train", "language-model", "--data", "text.txt", *SHORT, *options)
    assert result.exit_code == 0, result.output
    first, second, report = map(json.loads, result.stdout.splitlines())
    assert (first["number"], second["number"], report["metric"]) == (1, 2, "perplexity")
    assert (report["unit"], report["trained"], report["held_out"]) == ("tokens", 1350, 75)
    config = load_checkpoint("m.safetensors").config
    assert (config.tokens, config.embedding, config.layers, config.tied) == (8, 4, 2, True)
    assert config.vocabulary[1:] == tuple("abcdefg")
    assert config.text.kind == "character"


def wrong_files(folder):
    data = sequences("tagging")
    (folder / "empty.npz").write_bytes(b"")
    (folder / "empty.txt").write_text("")
    x = data.x.copy()
    x[3, 1] = np.nan
    np.savez(folder / "nan.npz", x=x, lengths=LENGTHS, y=data.y)
    np.savez(folder / "zero.npz", x=data.x, lengths=np.where(LENGTHS == 1, 0, LENGTHS), y=data.y)
    labels = np.array(["x", "y"])
    np.savez(folder / "named.npz", x=data.x, lengths=LENGTHS, y=data.y, labels=labels)
    np.savez(folder / "new.npz", x=data.x, lengths=LENGTHS, y=data.y, labels=np.array(["x", "z"]))
    np.savez(folder / "one.npz", x=np.ones((12, 2), np.float32), lengths=np.full(6, 2), y=np.zeros(6, np.int64))
    np.savez(folder / "ones.npz", x=np.ones((12, 2), np.float32), lengths=np.full(6, 2), y=np.ones(6, np.int64))
    np.savez(folder / "one_step.npz", x=np.ones((12, 2), np.float32), lengths=np.full(6, 2), y=np.zeros(12, np.int64))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("tagging", "--data", "empty.npz"), "error: data empty.npz: not an .npz archive, or a damaged one"),
        (("tagging", "--data", "nan.npz"), "error: data nan.npz: x holds NaN or infinity, first in row 3"),
        (("tagging", "--data", "zero.npz"), "error: data zero.npz: lengths[8] is 0; expected every sequence to have 1"),
        (
            ("tagging", "--data", "named.npz", "--held-out-data", "new.npz"),
            "error: data new.npz: the label 'z' was never seen in training; expected one of 'x', 'y'",
        ),
        (("forecast", "--data", "tagging.npz"), "error: data tagging.npz"),
        (("classification", "--data", "forecast.npz"), "error: data forecast.npz: y holds values (float32); expected"),
        (("language-model", "--data", "empty.txt"), "error: data empty.txt: the text is empty, expected at least one"),
        (
            ("language-model", "--data", "text.txt", "--max-vocabulary", 5),
            "error: --vocabulary: the character vocabulary of this text has 8 tokens, more than the 5 that",
        ),
        (
            ("language-model", "--data", "text.txt", "--max-vocabulary", 0),
            "error: --max-vocabulary is 0, expected 1 or more",
        ),
        (
            ("classification", "--data", "one.npz"),
            "error: data one.npz: all 6 targets are of one class, expected two classes or more",
        ),
        # The class is 1: numbers have room for two.
        (
            ("classification", "--data", "ones.npz"),
            "error: data ones.npz: all 6 targets are of one class, expected two classes or more",
        ),
        (
            ("language-model", "--data", "text.txt", "--embedding", 0),
            "error: language model: embedding is 0, expected an integer from 1 to ",
        ),
        (
            ("tagging", "--data", "one_step.npz"),
            "error: data one_step.npz: all 12 targets are of one class, expected two classes or more",
        ),
        (
            ("language-model", "--data", "text.txt", "--max-bytes", 100),
            "error: language model: the weights take ",
        ),
        (
            ("language-model", "--data", "text.txt", "--tied", "--embedding", 9),
            "error: language model: tied embeddings need an embedding of the recurrent output's size, 4",
        ),
        (("tagging", "--data", "tagging.npz", "--resume"), "error: m.safetensors.resume: no such file, so there is"),
        (("tagging", "--data", "tagging.npz", "--plot", "c.gif"), "error: c.gif: the name of a plot must end in"),
        (("tagging", "--data", "tagging.npz", "--projection", 4), "error: --projection is 4, expected less than"),
        (
            ("tagging", "--data", "tagging.npz", "--columns", "target=y"),
            "error: data tagging.npz: --columns, --step-every and --missing are for tables",
        ),
        (("tagging", "--data", "tagging.npz", "--held-out", 0), "error: training: the held-out share is 0.0, expected"),
    ],
)
def test_bad_input_gets_one_sentence_and_nothing_is_overwritten(folder, arguments, sentence):
    wrong_files(folder)
    (folder / "m.safetensors").write_bytes(b"precious")
    result = run("train", *arguments, *SHORT)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1].startswith(sentence)
    assert (folder / "m.safetensors").read_bytes() == b"precious"
    assert not (folder / "m.safetensors.resume").exists()


@pytest.mark.parametrize("command", [("train", "tagging"), ("select",)])
def test_a_trained_model_is_not_written_over_an_exported_one(folder, command):
    (folder / "m.onnx").write_bytes(b"precious")
    result = run(*command, "--data", "tagging.npz", "-o", "m.onnx")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "error: m.onnx: the name of a trained model must end in .safetensors; lstm-edge export converts it to .onnx "
        "(--output)\n"
    )
    assert (folder / "m.onnx").read_bytes() == b"precious"


def test_the_state_is_not_kept_where_the_model_goes(folder):
    # The state is removed when the model is safe: both under one name, and the model would be gone.
    result = run("train", "tagging", "--data", "tagging.npz", *SHORT, "--resume-file", str(folder / "m.safetensors"))
    assert result.exit_code == 2
    assert result.stderr.endswith("m.safetensors: --resume-file is the same file as -o: give it another name\n")
    assert not (folder / "m.safetensors").exists()


def test_a_checkpoint_of_another_task_is_refused(folder):
    result = run("train", "tagging", "--data", "tagging.npz", *SHORT, "--json")
    assert result.exit_code == 0
    # A finished training leaves no state, so an interrupted one is made by hand: the state of one task for another.
    train("tagging", checkpoint=Checkpoint(path=folder / "state"))
    result = run("train", "forecast", "--data", "forecast.npz", *SHORT, "--resume-file", "state", "--resume")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == (
        "error: state: it is a checkpoint of another task, tagging; this training is forecast (--resume-file)"
    )
    assert (folder / "state").exists()


@pytest.mark.parametrize("task", TASKS)
def test_help_has_examples_and_fits_80_columns(task, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    result = run("train", task, "--help")
    assert result.exit_code == 0
    assert f"lstm-edge train {task} " in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("task", "config", "options"),
    [
        ("classification", ClassifierConfig(features=1, classes=2), TrainingOptions()),
        ("tagging", TaggerConfig(features=1, classes=2), TrainingOptions(bucket=True, pack=False)),
        ("forecast", ForecasterConfig(features=1), TrainingOptions(bucket=True, pack=False, loss="mse")),
        ("language-model", LanguageModelConfig(tokens=2), LanguageOptions()),
    ],
)
def test_the_commands_defaults_are_the_librarys(task, config, options):
    given = {name: parameter.default for name, parameter in inspect.signature(make_command(task)).parameters.items()}
    for source in (config, options):
        for name in source.to_json():
            if name in given and name not in ("embedding", "vocabulary"):
                assert given[name] == getattr(source, name), name
    assert {"hidden", "layers", "epochs", "optimizer", "schedule", "patience", "forget_bias"} <= given.keys()
