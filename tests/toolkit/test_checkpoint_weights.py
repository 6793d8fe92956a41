"""Weights in checkpoints as training loops save them: under a key, with a prefix, beside other things."""

import argparse
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lstm_edge.exporting import load_source
from lstm_edge_runtime.errors import ArtifactError, CaptureError, InputError

pytestmark = pytest.mark.slow


class Net(nn.Module):
    """With a buffer and two recurrent layers of different widths."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.GRU(3, 5)
        self.rnn = nn.Sequential(nn.LSTM(5, 4))
        self.norm = nn.BatchNorm1d(4)


@pytest.fixture
def factory(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("lstm_edge._cells.make_test_net", Net, raising=False)
    return "lstm_edge._cells:make_test_net"


def weights(seed: int = 1) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return Net().state_dict()


def prefixed(prefix: str, seed: int = 1) -> dict[str, Tensor]:
    return OrderedDict((prefix + name, value) for name, value in weights(seed).items())


def trained() -> dict[str, Any]:
    """A checkpoint with an optimizer, a schedule and numbers."""
    net = Net()
    net.load_state_dict(weights())
    optimizer = torch.optim.Adam(net.parameters())
    sum(value.sum() for value in net.parameters()).backward()
    optimizer.step()
    net.load_state_dict(weights())
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    return {
        "epoch": 3,
        "model_state_dict": net.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "best": Counter({"a": 1}),
        "loss": 0.25,
    }


def lightning() -> dict[str, Any]:
    """The keys of a Lightning checkpoint, with a loss that has weights of its own."""
    return {
        "epoch": 1,
        "global_step": 20,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": OrderedDict([*prefixed("model.").items(), ("criterion.weight", torch.ones(4))]),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 2}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val'}": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}],
        "hyper_parameters": {"hidden": 5},
    }


def middle() -> dict[str, Tensor]:
    """One submodule alone was compiled."""
    return {name.replace("rnn.0.", "rnn._orig_mod.0."): value for name, value in weights().items()}


CERTAIN = {
    "plain.pt": (weights, None),
    "state_dict.pt": (lambda: {"state_dict": weights(), "epoch": 3}, "under 'state_dict'; left out: epoch"),
    "same-twice.pt": (lambda: {"net": weights(), "last": weights()}, "under 'net'; left out: last"),
    "nested.pth": (lambda: {"a": {"model": {"net": weights()}}}, "under 'a.model.net'"),
    "optimizer.bin": (
        trained,
        "under 'model_state_dict'; left out: epoch, optimizer_state_dict, schedule, best, loss",
    ),
    "lightning.ckpt": (lightning, "under 'state_dict'; the prefix 'model.' is removed; left out: epoch, global_step"),
    "parallel.pt": (lambda: prefixed("module."), "the prefix 'module.' is removed"),
    "both.pt": (lambda: {"model": prefixed("module.net.")}, "under 'model'; the prefix 'module.net.' is removed"),
    "compiled.pt": (lambda: prefixed("_orig_mod."), "the prefix '_orig_mod.' is removed"),
    "compiled-parallel.pt": (lambda: prefixed("module._orig_mod."), "the prefix 'module._orig_mod.' is removed"),
    "compiled-inside.pt": (middle, "pt: '_orig_mod.' within names is removed"),
    "own.safetensors": (lambda: prefixed("net."), "the prefix 'net.' is removed"),
}


def save(content: Any, path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(dict(content), path)
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize("name", CERTAIN)
def test_weights_are_found_where_it_is_certain(factory: str, tmp_path: Path, name: str) -> None:
    make, sentence = CERTAIN[name]
    lines: list[str] = []
    module = load_source(factory, save(make(), tmp_path / name), say=lines.append)
    for own, value in module.state_dict().items():
        assert torch.equal(value, weights()[own]), own
    if sentence is None:
        assert lines == []
    else:
        assert len(lines) == 1
        assert sentence in lines[0]


def test_several_that_fit_are_refused_and_chosen(factory: str, tmp_path: Path) -> None:
    path = save({"model": weights(), "ema": prefixed("module.", 2)}, tmp_path / "two.pt")
    with pytest.raises(CaptureError) as caught:
        load_source(factory, path)
    said = str(caught.value)
    assert '--weights-key "model" --weights-prefix ""; --weights-key "ema" --weights-prefix "module."' in said
    for key, seed in (("model", 1), ("ema", 2)):
        module = load_source(factory, path, key=key)
        assert torch.equal(module.state_dict()["norm.weight"], weights(seed)["norm.weight"])
        assert torch.equal(module.state_dict()["encoder.weight_ih_l0"], weights(seed)["encoder.weight_ih_l0"])
    with pytest.raises(InputError, match=r"no weights are under the key 'best'; they are under 'model', 'ema'$"):
        load_source(factory, path, key="best")


def test_several_prefixes_that_fit_are_refused_and_chosen(factory: str, tmp_path: Path) -> None:
    path = save({**prefixed("online."), **prefixed("target.", 2)}, tmp_path / "two.pt")
    with pytest.raises(CaptureError, match=r'several weights fit.*--weights-prefix "online."; .*"target."'):
        load_source(factory, path)
    for prefix in ("target.", "target"):
        module = load_source(factory, path, prefix=prefix)
        assert torch.equal(module.state_dict()["encoder.weight_ih_l0"], weights(2)["encoder.weight_ih_l0"])
    with pytest.raises(InputError, match=r"no name begins with the prefix 'left'; the names are online\.encoder"):
        load_source(factory, path, prefix="left")


def test_weights_that_do_not_fit_are_described(factory: str, tmp_path: Path) -> None:
    changed = prefixed("module.")
    changed["module.norm.weight"] = torch.zeros(7)
    del changed["module.norm.bias"]
    changed["module.extra"] = torch.zeros(1)
    path = save({"net": changed}, tmp_path / "other.pt")
    with pytest.raises(CaptureError) as caught:
        load_source(factory, path)
    said = str(caught.value)
    assert '--weights-key "net" --weights-prefix "module.": missing: norm.bias; not in the module: extra; ' in said
    assert "norm.weight is [7], expected [4]" in said
    with pytest.raises(CaptureError, match=r"other\.pt: the weights do not fit .*: missing: norm\.bias; "):
        load_source(factory, path, prefix="module.")


def test_a_checkpoint_with_other_objects_says_what_to_save(factory: str, tmp_path: Path) -> None:
    path = save({"state_dict": weights(), "args": argparse.Namespace(lr=0.1)}, tmp_path / "last.ckpt")
    with pytest.raises(
        ArtifactError, match=r"besides tensors \(argparse.Namespace\).*torch.save\(module.state_dict\(\)"
    ):
        load_source(factory, path)


def test_a_dict_that_holds_itself_many_times_is_read_once(factory: str, tmp_path: Path) -> None:
    item: dict[str, Any] = {"w": torch.zeros(1)}
    for _ in range(6):
        item = {str(index): item for index in range(400)}
    with pytest.raises((CaptureError, ArtifactError)):
        load_source(factory, save(item, tmp_path / "bomb.pt"))
