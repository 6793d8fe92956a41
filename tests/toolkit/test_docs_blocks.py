"""Python blocks of how-to pages run, with the names and files that their page takes as given."""

import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import lstm_edge

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "tests" / "device" / "models"


def adopt():
    """Write vad.onnx: an LSTM of another tool, with a sample rate as input."""
    rng = np.random.default_rng(0)
    shapes = {"W": (1, 16, 576), "R": (1, 16, 4), "B": (1, 32)}
    weights = [numpy_helper.from_array((0.1 * rng.normal(size=s)).astype(np.float32), n) for n, s in shapes.items()]
    nodes = [
        helper.make_node("Cast", ["sr"], ["rate"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["rate", "most"], ["gain"]),
        helper.make_node("Mul", ["input", "gain"], ["scaled"]),
        helper.make_node("Unsqueeze", ["scaled", "first"], ["x"]),
        helper.make_node("LSTM", ["x", "W", "R", "B"], ["", "last"], hidden_size=4),
        helper.make_node("Squeeze", ["last", "first"], ["output"]),
    ]
    weights += [numpy_helper.from_array(np.float32(16000), "most"), numpy_helper.from_array(np.array([0]), "first")]
    inputs = [
        helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 576]),
        helper.make_tensor_value_info("sr", TensorProto.INT64, []),
    ]
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 4])
    graph = helper.make_graph(nodes, "vad", inputs, [output], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), "vad.onnx")
    return {}


class Spotter(nn.Module):
    """Features [batch, time, 40] to scores [batch, time, 3], with a look at two later steps."""

    def __init__(self):
        super().__init__()
        self.conv, self.gru = nn.Conv1d(40, 8, 5, padding=2), nn.GRU(8, 6, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.gru(torch.relu(self.conv(x.transpose(1, 2))).transpose(1, 2))[0])


def caches():
    frames = np.random.default_rng(0).normal(size=(12, 40)).astype(np.float32)
    return {"spotter": Spotter().eval(), "microphone": lambda: frames}


def kernels():
    from lstm_edge_runtime import Session

    shutil.copy(MODELS / "exported_int8.onnx", "model.onnx")
    return {"Session": Session}


def training():
    student, teacher = Spotter(), Spotter().eval()
    x, y = torch.randn(2, 9, 40), torch.zeros(2, 9, dtype=torch.int64)
    valid = torch.ones(2, 9, dtype=torch.bool)
    return {"student": student, "teacher": teacher, "x": x, "y": y, "valid": valid}


def watch():
    shutil.copy(MODELS / "exported_int8.onnx", "kws.onnx")
    return {}


def check_adopt(names):
    assert names["report"].card.streaming.verdict
    assert Path("vad16k.onnx").exists()


def check_caches(names):
    assert len(names["rest"]) == 2


def check_denoiser(names):
    frames = np.random.default_rng(0).normal(size=(7, 514))
    noisy = frames + 0.1 * np.random.default_rng(1).normal(size=frames.shape)
    [score] = names["si_sdr"]({"enh": [noisy]}, {"enh": [frames]}, [7])
    assert 15 < score < 25


def check_kernels(names):
    assert names["session"].kernels is None


def check_pytorch(names):
    assert (tuple(names["y"].shape), tuple(names["state"].shape)) == ((2, 9, 20), (1, 2, 20))


def check_training(names):
    names["loss"].backward()
    assert names["student"].head.weight.grad.abs().sum() > 0


def check_watch(names):
    assert "lstm_edge_pushes_total" in Path("kws.prom").read_text()


# Page -> what writes its files and returns the names that it takes as given, and what must hold afterwards.
PAGES = {
    "adopt": (adopt, check_adopt),
    "caches": (caches, check_caches),
    "denoiser": (dict, check_denoiser),
    "kernels": (kernels, check_kernels),
    "pytorch": (lambda: {"torch": torch, "lstm_edge": lstm_edge}, check_pytorch),
    "training": (lambda: {"torch": torch, "lstm_edge": lstm_edge} | training(), check_training),
    "watch": (watch, check_watch),
}


@pytest.mark.slow
# A proof of caches compares many ways to cut a sequence.
@pytest.mark.parametrize("page", [pytest.param(page, marks=[pytest.mark.long] * (page == "caches")) for page in PAGES])
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    given, check = PAGES[page]
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert blocks, f"{page}.md has no Python block: nothing ran"
    names = {"__name__": page} | given()
    for number, block in enumerate(blocks):
        exec(compile(block, f"{page}.md, block {number}", "exec"), names)
    check(names)
