"""Loading sources and weights: no pickle is ever run, and each refusal names the file and what to do."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lstm_edge.exporting import load_source
from lstm_edge_runtime.errors import ArtifactError, CaptureError, IntegrityError


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


class Holder(nn.Module):
    """A module of the test: pickled whole, it names a class that must not be imported."""


@pytest.fixture
def factory(monkeypatch):
    """The name of a factory of an LSTM with 3 inputs and 5 hidden units."""
    monkeypatch.setattr("lstm_edge._cells.make_test_lstm", lambda: nn.LSTM(3, 5), raising=False)
    return "lstm_edge._cells:make_test_lstm"


def weights():
    torch.manual_seed(1)
    return nn.LSTM(3, 5).state_dict()


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_weights_of_every_kind_arrive(factory, tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    save = save_file if suffix == ".safetensors" else torch.save
    save(weights(), path)
    module = load_source(factory, path)
    assert not module.training
    for name, value in module.state_dict().items():
        assert torch.equal(value, weights()[name]), name


def test_a_pickle_is_refused_and_never_run(factory, tmp_path):
    path, trace = tmp_path / "evil.pt", tmp_path / "it-ran"
    torch.save({"weight_ih_l0": Evil(trace)}, path)
    with pytest.raises(
        ArtifactError, match=r"evil\.pt: holds pickled objects besides tensors \(.*\), which are never loaded"
    ):
        load_source(factory, path)
    assert not trace.exists()
    # The file does what it says where pickles are loaded: the test above can fail.
    torch.load(path, weights_only=False)
    assert trace.exists()


def test_a_whole_module_is_refused_with_advice(factory, tmp_path):
    torch.save(Holder(), tmp_path / "module.pt")
    with pytest.raises(ArtifactError, match=r"with torch\.save\(module\.state_dict\(\), path\)$"):
        load_source(factory, tmp_path / "module.pt")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("w.pt", {"model": "lstm", "epoch": 3}, "holds a str under 'model', expected a state dict: names to tensors"),
        ("w.pt", {3: torch.zeros(1)}, "holds a Tensor under 3, expected a state dict: names to tensors"),
        ("w.pt", [torch.zeros(1)], "holds a list, expected a state dict: names to tensors"),
        ("w.pt", b"hello", "w.pt: not a PyTorch weights file"),
        ("w.pt", b"", "w.pt: not a PyTorch weights file"),
        ("w.safetensors", b"hello", "w.safetensors: not a safetensors file"),
        ("w.bin", b"hello", "w.bin: not a PyTorch weights file"),
    ],
)
def test_damaged_weights_are_named(factory, tmp_path, name, content, sentence):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ArtifactError) as caught:
        load_source(factory, path)
    assert sentence in str(caught.value)


def test_torchscript_is_named(factory, tmp_path):
    torch.jit.trace(torch.nn.Linear(3, 4), torch.zeros(1, 3)).save(tmp_path / "w.pt")
    with pytest.raises(ArtifactError) as caught:
        load_source(factory, tmp_path / "w.pt")
    assert str(caught.value).endswith(
        "w.pt: not a PyTorch weights file (it is TorchScript, a program with its weights. Save the weights alone, with "
        "torch.save(torch.jit.load(path).state_dict(), weights_path))"
    )


def test_truncated_weights_are_named(factory, tmp_path):
    path = tmp_path / "w.pt"
    torch.save(weights(), path)
    data = path.read_bytes()
    for size in range(0, len(data), len(data) // 15):
        path.write_bytes(data[:size])
        sentence = "the file is truncated: .*; copy the file again$" if size else "not a PyTorch weights file"
        with pytest.raises(IntegrityError if size else ArtifactError, match=rf"^.*w\.pt: {sentence}"):
            load_source(factory, path)


def test_weights_of_another_module_are_named(factory, tmp_path):
    path = tmp_path / "w.pt"
    torch.save({name: value for name, value in weights().items() if name != "bias_hh_l0"}, path)
    with pytest.raises(CaptureError, match=r"w\.pt: the weights do not fit .*: missing: bias_hh_l0$"):
        load_source(factory, path)


def test_missing_weights_are_named(factory):
    with pytest.raises(ArtifactError, match=r"^none\.pt: no such file$"):
        load_source(factory, Path("none.pt"))
