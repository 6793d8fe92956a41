"""`lstm-edge export` as a person uses it: what appears, what is said, and that nothing is left behind."""

import json
import os
import re
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from lstm_edge.checkpoint import load_checkpoint, save_checkpoint
from lstm_edge.cli import app
from lstm_edge.data import load
from lstm_edge.training import TrainingOptions, train_classifier
from lstm_edge.training.models import ClassifierConfig
from lstm_edge_exporters.quantize.layer import Refusal
from lstm_edge_runtime.session import Session

X = "x: float32[batch, time, 3]"
# float32 against float32: 2e-7 is seen at these sizes.
CLOSE = 2e-6

NETS = """
import torch
from torch import nn

class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(3, 5, batch_first=True)
        self.head = nn.Linear(5, 4)

    def forward(self, x):
        return self.head(self.rnn(x)[0])

class Third(nn.RNNCellBase):
    pass

class Rnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = Third(3, 5, True, 1)

    def forward(self, x):
        return self.rnn(x)[0]

def tagger():
    torch.manual_seed(7)
    return Tagger()

def raising():
    raise RuntimeError("no GPU here\\nand more")

def sized(size):
    return Tagger()

def leaving():
    raise SystemExit(3)

def number():
    return 3

not_callable = "text"
"""


def export(*arguments, exit_code=0):
    """Run `lstm-edge export`; asserts the exit code, one sentence of error on stderr, and no traceback."""
    result = CliRunner().invoke(app, ["export", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    assert result.exit_code == exit_code, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == (1 if exit_code else 0), result.stderr
    # Everything else on stderr is progress, a line each.
    assert all(line.startswith("· ") for line in result.stderr.splitlines() if line not in errors), result.stderr
    return result


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """Work in a folder of its own with a module of factories; returns the module's name, which no other test uses."""
    folder = tmp_path / "work"
    folder.mkdir()
    name = "nets_" + str(abs(hash(str(tmp_path))))
    (folder / f"{name}.py").write_text(NETS)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield name
    sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A small classifier after a few epochs: about 70 % of the test split, 1.5 s."""
    data = load("japanese-vowels", default_split="train")
    config = ClassifierConfig(features=12, classes=9, hidden=16, labels=data.labels)
    model, _ = train_classifier(data, config, options=TrainingOptions(epochs=12), seed=0)
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    save_checkpoint(model, path)
    return path


def files(folder="."):
    return sorted(name for name in os.listdir(folder) if not name.startswith(("nets_", "__pycache__")))


@pytest.mark.slow
def test_one_command_from_checkpoint_to_validated_int8(checkpoint, tmp_path):
    path = tmp_path / "int8.onnx"
    options = ("--scheme", "int8", "--data", "japanese-vowels", "--metric", "accuracy", "--max-drop", "5pt")
    result = export(checkpoint, "-o", path, *options, "--json")
    report = json.loads(result.stdout)
    assert (report["passed"], report["path"], report["size_bytes"]) == (True, str(path), path.stat().st_size)
    assert report["validation"]["samples"] == 370
    assert report["validation"]["data"] == "japanese-vowels:test"
    assert report["card"]["quantization"]["scheme"] == "int8"
    session = Session(path)
    assert session.verified
    assert {layer.operator for layer in session.card.layers} == {"lstm_edge::LstmInt8V1"}
    progress = result.stderr.splitlines()
    assert progress[0] == f"· loading {checkpoint}"
    assert progress[-1] == "· validating accuracy on japanese-vowels:test: 370 sequences"
    assert files(tmp_path) == ["int8.onnx"]


@pytest.mark.slow
def test_a_broken_budget_is_exit_1_and_leaves_no_file(checkpoint, tmp_path):
    # A feature that is always 0 after standardization, with weights 1000 times the others': they alone decide the
    # rows' int8 scales, every other input weight is rounded to 0, and the float32 model does not mind.
    model = load_checkpoint(checkpoint)
    model.std[0] = 1e9
    with torch.no_grad():
        next(weight for name, weight in model.lstm.named_parameters() if name.startswith("weight_ih"))[:, 0] = 1000.0
    save_checkpoint(model, tmp_path / "dead.safetensors")
    options = ("--scheme", "int8", "--data", "japanese-vowels", "--max-drop", "0.5pt")
    result = export(tmp_path / "dead.safetensors", "-o", tmp_path / "out.onnx", *options, exit_code=1)
    assert "no: over the budget" in result.stdout
    sentence = result.stderr.splitlines()[-1]
    assert sentence.startswith("error: over the budget: accuracy goes from ")
    assert sentence.endswith("allowed is 0.5 pt (0.5pt). Nothing was written")
    assert files(tmp_path) == ["dead.safetensors"]


@pytest.mark.slow
def test_a_layer_that_stays_float32_is_exit_1_and_leaves_no_file(nets, monkeypatch):
    def refuse(*_arguments, **_options):
        raise Refusal("its weights are odd")

    monkeypatch.setattr(sys.modules["lstm_edge_exporters.quantize.rewrite"], "emit", refuse)
    result = export(f"{nets}:tagger", "--input", X, "-o", "out.onnx", "--scheme", "int8", exit_code=1)
    assert "(LSTM) stays float32: its weights are odd. Nothing was written" in result.stderr
    assert files() == []
    export(f"{nets}:tagger", "--input", X, "-o", "out.onnx", "--scheme", "int8", "--allow-unquantized")
    assert files() == ["out.onnx"]


@pytest.mark.slow
def test_a_factory_with_weights_of_both_kinds(nets):
    generator = np.random.default_rng(3)
    sizes = {"rnn.weight_ih_l0": (20, 3), "rnn.weight_hh_l0": (20, 5), "rnn.bias_ih_l0": (20,)}
    sizes |= {"rnn.bias_hh_l0": (20,), "head.weight": (4, 5), "head.bias": (4,)}
    tensors = {name: torch.from_numpy(generator.normal(size=s).astype(np.float32)) for name, s in sizes.items()}
    save_file(tensors, "w.safetensors")
    torch.save(tensors, "w.pt")
    for name in ("w.safetensors", "w.pt"):
        said = export(f"{nets}:Tagger", "--weights", name, "--input", X, "-o", f"{name}.onnx").stdout
        # The worst difference beside the scale of the output, and in dB: float32 has 24 bits.
        found = re.search(r"worst difference to .* (\S+) of up to (\S+) \((\d+) dB below\)\n", said)
        assert found is not None, said
        assert int(found[3]) > 100
    # With --scheme float32 the parity is that of the export, and so is the scale beside it.
    options = ("--weights", "w.pt", "--input", X, "--json")
    plain, fused = (
        json.loads(export(f"{nets}:Tagger", *options, *more, "-o", "again.onnx").stdout)
        for more in ((), ("--scheme", "float32"))
    )
    assert fused["card"]["parity"] == plain["card"]["parity"]
    assert fused["output_scale"] == plain["output_scale"] > 0
    module = sys.modules[nets].Tagger().eval()
    module.load_state_dict(tensors)
    x = generator.normal(size=(4, 6, 3)).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    first, second = (Session(f"{name}.onnx").run(x)[0]["output"] for name in ("w.safetensors", "w.pt"))
    np.testing.assert_allclose(first, expected, atol=CLOSE, rtol=0)
    np.testing.assert_array_equal(first, second)


@pytest.mark.slow
def test_the_options_shape_the_file(nets):
    common = (f"{nets}:tagger", "--input", X, "--output-name", "logits")
    export(*common, "-o", "streams.onnx")
    export(*common, "-o", "lengths.onnx", "--lengths", "--plain")
    export(*common, "-o", "hidden.onnx", "--states", "hidden")
    streams, lengths, hidden = (Session(f"{name}.onnx") for name in ("streams", "lengths", "hidden"))
    assert [spec.name for spec in streams.outputs] == ["logits"]
    assert [spec.input for spec in streams.states] == ["rnn.0.h", "rnn.0.c"]
    assert (streams.lengths, lengths.lengths) == (None, "lengths")
    assert (hidden.states, hidden.card.streaming.verdict) == ((), "none")
    x = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32)
    answers = [session.run(x)[0]["logits"] for session in (streams, lengths, hidden)]
    np.testing.assert_allclose(answers[1], answers[0], atol=CLOSE, rtol=0)
    np.testing.assert_allclose(answers[2], answers[0], atol=CLOSE, rtol=0)
    short = lengths.run(x, None, [6, 2])[0]["logits"]
    np.testing.assert_allclose(short[1, :2], answers[0][1, :2], atol=CLOSE, rtol=0)


@pytest.mark.parametrize(
    ("factory", "sentence"),
    [
        ("nowhere_at_all:make", "nowhere_at_all:make: cannot be imported (ModuleNotFoundError: No module named"),
        ("{nets}:nothing", "cannot be imported (AttributeError: module '{nets}' has no attribute 'nothing')"),
        ("{nets}:raising", "{nets}:raising: the factory raised RuntimeError: no GPU here\n"),
        ("{nets}:sized", "sized() missing 1 required positional argument: 'size'. It is called without arguments: "),
        ("{nets}.py:tagger", "is not a package); expected package.module:factory. Leave .py out: {nets}:tagger"),
        ("{nets}:leaving", "{nets}:leaving: the factory raised SystemExit: 3\n"),
        ("{nets}:number", "{nets}:number: the factory returned int, expected a torch.nn.Module"),
        ("{nets}:not_callable", "is a str, expected a callable that returns a torch.nn.Module"),
        ("{nets}:Rnn", "Third is a recurrent layer of a kind that this version does not export"),
        ("broken:make", "broken:make: cannot be imported (SyntaxError:"),
        (":", "cannot be imported (ValueError: Empty module name); expected package.module:factory"),
        ("none.safetensors", "checkpoint none.safetensors: no such file"),
        ("model.onnx", "checkpoint model.onnx: no such file ("),
        ("nets.tagger", "checkpoint nets.tagger: no such file; a factory is written with a colon, nets:tagger ("),
        ("torch.safetensors", "torch.safetensors: its metadata has no key 'lstm_edge.checkpoint'"),
        ("text.safetensors", "text.safetensors: not a readable .safetensors file"),
    ],
)
def test_a_wrong_source_is_exit_2(nets, factory, sentence):
    with open("broken.py", "w") as file:
        file.write("def make(:\n")
    with open("text.safetensors", "w") as file:
        file.write("hello")
    save_file({"w": torch.zeros(2)}, "torch.safetensors")
    before = files()
    result = export(factory.format(nets=nets), "--input", X, "-o", "out.onnx", exit_code=2)
    assert sentence.format(nets=nets) in result.stderr
    assert files() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            [],
            "the inputs of forward are unknown; give one --input for each argument, such as "
            '--input "x: float32[batch, time, 40]"',
        ),
        (["--input", "x"], "input 'x' must look like \"x: float32[batch, time, 40]\""),
        (["--input", "x: float64[batch, time, 3]"], "input x: dtype must be one of float32, int64, int32, bool, got"),
        (["--input", "x: float32[batch, -1, 3]"], "input x: axis '-1' must be a name or a positive number"),
        (["--input", "x: float32[batch, batch, 3]"], "input x: an axis name is given twice"),
        (["--input", "x: float32[batch, time, 4]"], "the module itself fails on x [3, 7, 4]: RuntimeError: "),
        (
            ["--input", X, "--input", X.replace("x", "z", 1)],
            "2 inputs (x, z) for forward(x): give one for each argument",
        ),
        (["--input", X, "--output-name", "a", "--output-name", "b"], "got 2 output names for 1 outputs"),
        (["--input", X, "--data", "japanese-vowels"], "--data validates what --scheme quantized: give --scheme int8"),
        (["--input", X, "--allow-unquantized"], "--allow-unquantized requires --scheme"),
        (["--input", X, "--scheme", "int8", "--max-drop", "1pt"], "--max-drop requires validation data: give --data"),
        (["--input", X, "--scheme", "int8", "--metric", "accuracy"], "--metric requires validation data"),
        (["--input", X, "--confidence", "0.9"], "--confidence requires validation data"),
        (["--input", X, "--scheme", "int8", "--data", "vowels"], "data 'vowels': no such data set"),
        (
            ["--input", X, "--scheme", "int8", "--data", "japanese-vowels", "--max-drop", "-1pt"],
            "--max-drop is '-1pt', ex",
        ),
        (["--input", X, "--scheme", "int8", "--data", "japanese-vowels", "--metric", "f3"], "metric 'f3': unknown"),
        (["--input", X, "--scheme", "int8", "--data", "japanese-vowels"], "input 'x' is float32[batch, time, 3], but"),
        (["--input", X, "--weights", "none.pt"], "none.pt: no such file"),
    ],
)
def test_wrong_options_are_exit_2_and_leave_no_file(nets, options, sentence):
    result = export(f"{nets}:tagger", "-o", "out.onnx", *options, exit_code=2)
    assert sentence in result.stderr
    assert files() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("none/out.onnx", "none/out.onnx: the folder none does not exist; make it first"),
        (".", ".: this is a directory; give the path of a file"),
        ("/proc/out.onnx", "/proc/out.onnx: the "),
    ],
)
def test_a_target_that_cannot_be_written_is_exit_2(nets, target, sentence):
    result = export(f"{nets}:tagger", "--input", X, "-o", target, exit_code=2)
    assert sentence in result.stderr
    assert files() == []


def test_an_old_file_stays_when_the_export_fails(nets):
    with open("out.onnx", "w") as file:
        file.write("old")
    export(f"{nets}:tagger", "--input", "x: float32[batch, time, 4]", "-o", "out.onnx", exit_code=2)
    with open("out.onnx") as file:
        assert file.read() == "old"


@pytest.mark.slow
def test_weights_beside_a_checkpoint_are_refused(checkpoint, tmp_path):
    result = export(checkpoint, "--weights", checkpoint, "-o", tmp_path / "out.onnx", exit_code=2)
    assert "--weights requires package.module:factory; a checkpoint has its own" in result.stderr


def test_export_takes_every_scheme_that_quantize_takes_but_auto():
    from lstm_edge.cli.export import Scheme
    from lstm_edge.cli.quantize import SchemeName

    assert {scheme.value for scheme in Scheme} == {scheme.value for scheme in SchemeName} - {"auto"}
