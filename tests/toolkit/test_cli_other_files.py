"""A file of another kind, or a part of one, where a model or a checkpoint is expected: what it is and what to do."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from lstm_edge.cli import app

TAGGER = Path(__file__).parents[1] / "device" / "models" / "tagger.onnx"
COMMANDS = {
    "inspect": ("FILE",),
    "check": ("FILE",),
    "bench": ("FILE",),
    "run": ("FILE", "--stream"),
    "quantize": ("FILE", "-o", "out.onnx"),
    "adopt": ("FILE", "-o", "out.onnx"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One file of each kind."""
    folder = tmp_path_factory.mktemp("files")
    weights = torch.nn.LSTM(3, 4).state_dict()
    torch.save(weights, folder / "new.pt")
    torch.save(weights, folder / "old.pth", _use_new_zipfile_serialization=False)
    torch.jit.trace(torch.nn.Linear(3, 4), torch.zeros(1, 3)).save(folder / "script.pt")
    from safetensors.torch import save_file

    save_file(weights, folder / "weights.safetensors")
    (folder / "model.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    data = TAGGER.read_bytes()
    for name, size in (("half.onnx", len(data) // 2), ("begin.onnx", 100), ("end.onnx", len(data) - 40)):
        (folder / name).write_bytes(data[:size])
    shutil.copy(TAGGER, folder / "model.onnx")
    np.save(folder / "x.npy", np.zeros((2, 3), np.float32))
    np.savez(folder / "x.npz", x=np.zeros((2, 3), np.float32))
    return folder


def call(folder, monkeypatch, *arguments):
    """Return the exit code and the error of a command."""
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(app, list(arguments), prog_name="lstm-edge")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert not Path("out.onnx").exists()
    return result.exit_code, result.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", ["half.onnx", "begin.onnx", "end.onnx"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_truncated_file_is_exit_1_and_copied_again(folder, monkeypatch, command, name):
    arguments = [name if word == "FILE" else word for word in COMMANDS[command]]
    code, error = call(folder, monkeypatch, command, *arguments)
    assert code == 1
    assert error.startswith(f"error: {name}: the file is truncated: ")
    assert "copy the file again" in error


@pytest.mark.parametrize(
    ("name", "what", "advice"),
    [
        ("new.pt", "a PyTorch checkpoint", "lstm-edge export package.module:factory --weights new.pt -o model.onnx"),
        ("old.pth", "a PyTorch checkpoint", "lstm-edge export package.module:factory --weights old.pth -o model.onnx"),
        ("weights.safetensors", "a .safetensors checkpoint", "lstm-edge export weights.safetensors -o model.onnx"),
        ("model.h5", "a Keras file", "lstm-edge export model.h5 -o model.onnx"),
    ],
)
@pytest.mark.parametrize("command", ["check", "quantize", "adopt", "run"])
def test_a_checkpoint_in_place_of_a_model_says_what_to_do(folder, monkeypatch, command, name, what, advice):
    arguments = [name if word == "FILE" else word for word in COMMANDS[command]]
    code, error = call(folder, monkeypatch, command, *arguments)
    assert code == 2
    assert error.startswith(f"error: {name}: this is {what}, and an .onnx file was expected: {advice} makes one")


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
@pytest.mark.parametrize("command", ["inspect", "quantize", "run"])
def test_an_array_in_place_of_a_model_says_what_to_do(folder, monkeypatch, command, name):
    arguments = [name if word == "FILE" else word for word in COMMANDS[command]]
    code, error = call(folder, monkeypatch, command, *arguments)
    assert code == 2
    assert error.startswith(
        f"error: {name}: this is an array of NumPy, and an .onnx file was expected: the model comes first, as in "
        "lstm-edge run MODEL.onnx INPUT.npy"
    )


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("new.pt", "it is a PyTorch checkpoint, which holds weights without their module: lstm-edge export package."),
        (
            "script.pt",
            "it is TorchScript, which export does not take: give the module, package.module:factory, and",
        ),
        ("model.onnx", "it is an .onnx file, which lstm-edge adopt and lstm-edge quantize take"),
    ],
)
def test_a_model_in_place_of_a_checkpoint_says_what_to_do(folder, monkeypatch, name, sentence):
    code, error = call(folder, monkeypatch, "export", name, "-o", "out.onnx")
    assert code == 2
    assert error.startswith(f"error: checkpoint {name}: not a readable .safetensors file ({sentence}")
