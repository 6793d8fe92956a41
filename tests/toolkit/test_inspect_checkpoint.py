"""inspect of a .safetensors checkpoint: what it says, that it loads no torch, and files that are none."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import typer
from safetensors.numpy import save
from support.networks import build
from typer.testing import CliRunner

import lstm_edge
from lstm_edge.checkpoint import CHECKPOINT_KEY, KINDS, checkpoint_bytes, load_checkpoint, save_checkpoint
from lstm_edge.cli._device import add_to
from lstm_edge.cli._frame import CommandGroup
from lstm_edge.training.models import (
    ClassifierConfig,
    ForecasterConfig,
    LanguageModel,
    LanguageModelConfig,
    SequenceClassifier,
    SequenceForecaster,
    SequenceTagger,
    TaggerConfig,
)
from lstm_edge_exporters.quantize import quantize_bytes, zero_blocks
from lstm_edge_runtime.checkpoint_header import KINDS as TASKS
from lstm_edge_runtime.commands import checkpoint
from lstm_edge_runtime.errors import ArtifactError, InputError, IntegrityError

TAGGER = Path(__file__).parents[1] / "device" / "models" / "tagger.onnx"

app = typer.Typer(cls=CommandGroup, pretty_exceptions_enable=False)
add_to(app, "inspect")


@app.command("other")
def other() -> None:
    """A second command: with one alone typer takes no name."""


def call(*arguments, exit_code=0):
    result = CliRunner().invoke(app, ["inspect", *map(str, arguments)])
    assert result.exit_code == exit_code, result.output
    assert "Traceback" not in result.output
    return result.stdout if exit_code == 0 else result.stderr


def pruned(model, kept=0.25):
    """Set whole blocks of 16 outputs by 4 inputs of W and R to zero."""
    rng = np.random.default_rng(0)
    for name, parameter in model.named_parameters():
        if "weight_ih" in name or "weight_hh" in name:
            rows, columns = parameter.shape
            mask = rng.random((rows // 16, -(-columns // 4))) < kept
            mask[0] = True
            whole = np.kron(mask, np.ones((16, 4)))[:, :columns]
            with torch.no_grad():
                parameter.mul_(torch.from_numpy(whole.astype(np.float32)))
    return model


MODELS = {
    "sequence-classifier": lambda: SequenceClassifier(
        ClassifierConfig(features=5, classes=3, hidden=20, layers=2, trained_for="int8")
    ),
    "sequence-tagger": lambda: SequenceTagger(
        TaggerConfig(features=5, classes=3, hidden=20, projection=7, peephole="full", bidirectional=True)
    ),
    "sequence-forecaster": lambda: SequenceForecaster(
        ForecasterConfig(features=5, targets=3, hidden=20, peephole="diagonal")
    ),
    "language-model": lambda: pruned(
        LanguageModel(LanguageModelConfig(tokens=9, embedding=32, hidden=128, sparse="0.25"))
    ),
}


def test_the_constants_are_those_of_the_files():
    assert set(TASKS) == set(KINDS) == set(MODELS)
    for name in ("MOST_DENSITY", "LEAST_CELLS", "BYTES_PER_BLOCK", "BYTES_OF_ROWS"):
        assert getattr(checkpoint, name) == getattr(zero_blocks, name)


@pytest.mark.parametrize("kind", MODELS)
def test_every_kind_of_model(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)  # a short name: the first line is as long as the path
    model, path = MODELS[kind](), Path("model.bin")  # told by its content
    save_checkpoint(model, path)
    report = lstm_edge.inspect(path)
    assert (report.kind, report.task, report.notes) == (kind, TASKS[kind], ())
    assert report.config == model.config.to_json()
    assert report.parameters == sum(value.numel() for value in model.state_dict().values())
    assert {tensor.name: tensor.shape for tensor in report.tensors} == {
        name: tuple(value.shape) for name, value in model.state_dict().items()
    }
    densities = {tensor.name: tensor.density for tensor in report.tensors if tensor.density is not None}
    assert len(densities) == sum("weight_ih" in name or "weight_hh" in name for name in model.state_dict())
    out = call(path)
    assert max(map(len, out.splitlines())) <= 80
    for said in (f"{report.parameters:,} parameters", f"task {TASKS[kind]}", "hidden", f"{report.int8_bytes:,} bytes"):
        assert said in out
    if kind == "language-model":
        assert all(0.2 < density < 0.4 for density in densities.values())
        assert "density" in out
        assert "0.25" in out
    else:
        assert set(densities.values()) == {1.0}
        assert "density" not in out
    found = json.loads(call(path, "--json"))
    assert found["config"] == json.loads(json.dumps(model.config.to_json()))
    assert found["int8_bytes"] == report.int8_bytes


@pytest.mark.long
@pytest.mark.parametrize("kind", MODELS)
def test_the_bytes_are_those_of_the_int8_file(tmp_path, kind):
    model = MODELS[kind]().eval()
    save_checkpoint(model, tmp_path / "m.safetensors")
    proto = onnx.load_from_string(quantize_bytes(build(model).data).data)
    # Shapes that the graph computes with are int64 constants of a few bytes; the rest is the model's.
    stored = sum(len(t.raw_data) for t in proto.graph.initializer if t.data_type != onnx.TensorProto.INT64)
    stored += sum(8 for t in proto.graph.initializer if t.name.endswith("_rows"))
    assert lstm_edge.inspect(tmp_path / "m.safetensors").int8_bytes == stored


def test_no_torch_is_loaded(tmp_path):
    save_checkpoint(MODELS["sequence-classifier"](), tmp_path / "m.safetensors")
    program = (
        "import sys; from lstm_edge.cli import main; sys.argv[:] = ['lstm-edge', 'inspect', sys.argv[1]]\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'safetensors', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "m.safetensors"], check=True, capture_output=True)


def test_weights_of_another_program_and_numbers_that_are_none(tmp_path):
    arrays = {"rnn.weight_hh_l0": np.full((8, 2), np.nan, "f"), "half": np.ones((3,), np.float16), "n": np.array(3)}
    (tmp_path / "w.safetensors").write_bytes(save(arrays))
    report = lstm_edge.inspect(tmp_path / "w.safetensors")
    assert (report.kind, report.task, report.int8_bytes, report.parameters) == (None, None, None, 20)
    assert [tensor.name for tensor in report.tensors if not tensor.finite] == ["rnn.weight_hh_l0"]
    out = " ".join(call(tmp_path / "w.safetensors").split())
    assert "note: the tensor 'rnn.weight_hh_l0' holds NaN or infinity" in out
    assert "was not written by lstm-edge train" in out


def damaged(change):
    """A file whose header was changed by a function."""
    data = checkpoint_bytes(MODELS["sequence-forecaster"]())
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def described(**changes):
    """A file whose description was changed."""

    def change(header):
        description = json.loads(header["__metadata__"][CHECKPOINT_KEY]) | changes
        header["__metadata__"][CHECKPOINT_KEY] = json.dumps(description)

    return damaged(change)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (lambda: b"", "not a readable .safetensors file"),
        (lambda: b"\xff" * 50, "its header declares"),
        (lambda: damaged(lambda header: header["mean"].update(shape=[2**40, 2**40])), "other bytes than its shape"),
        (lambda: damaged(lambda header: header["mean"].update(shape=[-5])), r"has shape \[-5\]"),
        (lambda: damaged(lambda header: header["mean"].update(dtype="F99")), "has dtype 'F99'"),
        (lambda: damaged(lambda header: header["mean"].update(data_offsets=[0, 2**62])), "other bytes than its shape"),
        (lambda: damaged(lambda header: header["mean"].update(data_offsets=[0])), r"data_offsets \[0\]"),
        (lambda: damaged(lambda header: header.update(mean=3)), "has dtype None"),
        (lambda: described(version="2"), "version is '2', this version of lstm-edge reads '1'"),
        (lambda: described(kind="tree"), "kind is 'tree'"),
        (lambda: described(config=[]), "config must be an object, got list"),
    ],
)
def test_a_damaged_checkpoint_is_refused(tmp_path, data, sentence):
    path = tmp_path / "m.safetensors"
    path.write_bytes(data())
    with pytest.raises(ArtifactError, match=sentence):
        lstm_edge.inspect(path)
    assert call(path, exit_code=2).startswith("error: checkpoint ")


@pytest.mark.parametrize("size", [3, 8, 9, 100, -1])
def test_a_truncated_checkpoint_is_exit_1_and_copied_again(tmp_path, size):
    path = tmp_path / "m.safetensors"
    path.write_bytes(checkpoint_bytes(MODELS["sequence-forecaster"]())[:size])
    error = call(path, exit_code=1)
    assert error.startswith(f"error: checkpoint {path}: the file is truncated: ")
    assert error.rstrip().endswith("; copy the file again")
    with pytest.raises(IntegrityError, match="the file is truncated"):
        load_checkpoint(path)


def test_the_content_decides_and_a_provider_is_refused(tmp_path):
    mistaken = tmp_path / "model.safetensors"
    mistaken.write_bytes(TAGGER.read_bytes())
    assert lstm_edge.inspect(mistaken).card.task == "tagging"
    save_checkpoint(MODELS["sequence-forecaster"](), tmp_path / "model.onnx")
    assert lstm_edge.inspect(tmp_path / "model.onnx").task == "forecast"
    with pytest.raises(InputError, match=r"--provider cuda requires an \.onnx file: .*model\.onnx is a checkpoint"):
        lstm_edge.inspect(tmp_path / "model.onnx", provider="cuda")
    folder = "this is a directory; give the path of an .onnx file"
    for path, sentence in ((tmp_path / "none.safetensors", "no such file"), (tmp_path, folder)):
        with pytest.raises(ArtifactError, match=sentence):
            lstm_edge.inspect(path)
