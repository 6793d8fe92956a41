"""A sentence about a file names the option or argument that it was given as: missing, a folder, of a wrong kind."""

import types
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from lstm_edge.checkpoint import save_checkpoint
from lstm_edge.cli import app
from lstm_edge.cli._arguments import Command, with_argument
from lstm_edge.training.models import ClassifierConfig, SequenceClassifier

MODELS = Path(__file__).parents[1] / "device" / "models"
TRAIN = "train classification --data data.npz -o new.safetensors"
AUTO = "quantize tagger.onnx -o new.onnx --scheme auto --max-drop 1% --data data.npz"
# A command line without its last option or argument, and that one; its value is a wrong file.
LINES = (
    (TRAIN, "--teacher"),
    (TRAIN, "--from"),
    ("train classification -o new.safetensors", "--data"),
    (TRAIN, "--held-out-data"),
    ("train classification --data data.npz", "--output"),
    (TRAIN, "--plot"),
    (f"{TRAIN} --resume", "--resume-file"),
    ("select -o new.safetensors --hidden-sizes 4", "--data"),
    ("select --data data.npz --hidden-sizes 4", "--output"),
    ("select --data data.npz -o new.safetensors --hidden-sizes 4", "--plot"),
    ("quantize -o new.onnx", "IN.onnx"),
    ("quantize tagger.onnx", "--output"),
    ("quantize tagger.onnx -o new.onnx --scheme auto --max-drop 1%", "--data"),
    (AUTO, "--held-out-data"),
    (AUTO, "--report"),
    ("validate --against tagger.onnx --data frames.npz", "CANDIDATE.onnx"),
    ("validate tagger.onnx --data frames.npz", "--against"),
    ("validate tagger.onnx --against tagger.onnx", "--data"),
    ("validate tagger.onnx --against tagger.onnx --data x.npy", "--targets"),
    ("export -o new.onnx", "SOURCE"),
    ("export model.safetensors", "--output"),
    ("export model.safetensors -o new.onnx", "--example"),
    ("export torch.nn:Identity -o new.onnx --input x:float32[2]", "--weights"),
    ("export model.safetensors -o new.onnx --scheme int8", "--data"),
    ("export model.safetensors -o new.onnx", "--labels"),
    ("adopt -o new.onnx", "IN.onnx"),
    ("adopt bare.onnx", "--output"),
    ("adopt bare.onnx -o new.onnx", "--example"),
    ("adopt bare.onnx -o new.onnx", "--labels"),
)
WRONG = {"missing": "none.x", "folder": "folder", "wrong kind": "wrong.txt"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("paths")
    x = np.random.default_rng(0).standard_normal((60, 3)).astype(np.float32)
    np.savez(made / "data.npz", x=x, lengths=np.full(12, 5), y=np.arange(12) % 2)
    np.savez(made / "frames.npz", x=x, lengths=np.full(12, 5), y=np.arange(60) % 4)
    np.save(made / "x.npy", x.reshape(12, 5, 3))
    save_checkpoint(SequenceClassifier(ClassifierConfig(features=3, classes=2, hidden=4)), made / "model.safetensors")
    for name, source in (("tagger", "tagger"), ("bare", "no_card")):
        (made / f"{name}.onnx").write_bytes((MODELS / f"{source}.onnx").read_bytes())
    (made / "folder").mkdir()
    (made / "wrong.txt").write_text("hello\n")
    return made


@pytest.mark.parametrize(("line", "name"), LINES, ids=[f"{line.split()[0]} {name}" for line, name in LINES])
def test_the_sentence_names_it(folder, monkeypatch, line, name):
    monkeypatch.chdir(folder)
    for kind, path in WRONG.items():
        value = f"@{path}" if name == "--labels" else path
        result = CliRunner().invoke(app, [*line.split(), *([name] if name.startswith("--") else []), value])
        said = [text for text in result.stderr.splitlines() if not text.startswith("·")]
        assert result.exit_code == 2, (kind, result.output)
        assert len(said) == 1, (kind, said)
        assert said[0].startswith("error: "), kind
        assert (name.removeprefix("--") if name == "--labels" else name) in said[0], (kind, said[0])
        assert not list(folder.glob("new.*"))


def test_every_command_has_it():
    def commands(group):
        for command in group.commands.values():
            yield from commands(command) if hasattr(command, "commands") else [command]

    assert all(isinstance(command, Command) for command in commands(typer.main.get_command(app)))


def test_only_a_path_that_is_given_once_is_named():
    def context(**values):
        options = [types.SimpleNamespace(name=n, opts=[f"--{n}"], param_type_name="option") for n in values]
        return types.SimpleNamespace(
            command=types.SimpleNamespace(params=options), params={n: Path(v) for n, v in values.items()}
        )

    named = with_argument("a/b.onnx: no such file", context(one="a", two="a/b.onnx"))
    assert named == "a/b.onnx: no such file (--two)"
    for message, given in (
        ("a.onnx: no such file", {"one": "a.onnx", "two": "a.onnx"}),  # of both
        ("a.onnx: no such file", {"one": "a.onnx"}),  # one file
        ("--one a.onnx: no such file", {"one": "a.onnx", "two": "b"}),  # named
        ("a.onnx2: no such file", {"one": "a.onnx", "two": "b"}),
        ("b/a.onnx: no such file", {"one": "a.onnx", "two": "c"}),
    ):
        assert with_argument(message, context(**given)) == message
