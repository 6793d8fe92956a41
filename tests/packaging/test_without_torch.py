"""``pip install 'lstm-edge[cpu,onnx]'``: what works on ONNX files, where neither torch nor safetensors is installed."""

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from support.budget_models import FEATURES, write_classifier, write_data
from support.environments import linked_environment, required, run

from lstm_edge_runtime.checkpoint_header import CHECKPOINT_KEY

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
EXTRAS = ("cpu", "onnx")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A virtual environment with what the extras require and the checkout, a classifier, and data for it."""
    folder = tmp_path_factory.mktemp("onnx")
    site = linked_environment(folder / "venv", *required(*EXTRAS))
    (site / "checkout.pth").write_text("".join(f"{ROOT / part}\n" for part in ("", "exporters", "runtime")))
    write_data(folder / "data.npz", write_classifier(folder / "foreign.onnx"))
    # Sources that exist: a missing one is refused before its package is needed.
    header = json.dumps({"__metadata__": {CHECKPOINT_KEY: "{}"}}).encode()
    (folder / "m.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    (folder / "m.keras").touch()
    (folder / "factories.py").touch()
    run(folder / "venv/bin/python", "-m", "lstm_edge", "adopt", "foreign.onnx", "-o", "f32.onnx", cwd=folder)
    run(folder / "venv/bin/python", "-m", "lstm_edge", "quantize", "f32.onnx", "-o", "int8.onnx", cwd=folder)
    return folder


@pytest.fixture
def python(folder):
    return partial(run, folder / "venv" / "bin" / "python", cwd=folder)


@pytest.fixture
def lstm_edge(python):
    return partial(python, "-m", "lstm_edge")


def test_torch_is_not_there(python):
    code = "import importlib.util; print(*(importlib.util.find_spec(n) for n in ('torch', 'safetensors', 'h5py')))"
    assert python("-c", code).stdout.split() == ["None"] * 3
    # The search finds something: what runs these tests has torch.
    assert run(sys.executable, "-c", code, cwd=ROOT).stdout.split()[0] != "None"


def test_a_model_is_adopted_with_its_state(lstm_edge, folder):
    lstm_edge("adopt", "foreign.onnx", "-o", "stateful.onnx", "--stateful")
    shown = json.loads(lstm_edge("inspect", "stateful.onnx", "--json").stdout)
    assert shown["card"]["streaming"]["verdict"] == "last-step"


def test_the_files_are_checked_measured_and_run(lstm_edge, folder):
    assert "passed" in lstm_edge("check", "int8.onnx").stdout
    assert json.loads(lstm_edge("bench", "int8.onnx", "--steps", "20", "--json").stdout)
    np.save(folder / "x.npy", np.zeros((3, 1, FEATURES), np.float32))
    lstm_edge("run", "int8.onnx", "x.npy", "-o", "y.npy")
    assert np.load(folder / "y.npy").shape == (1, 4)


@pytest.mark.parametrize("scheme", ["int4", "float16"])
def test_a_model_is_quantized(lstm_edge, scheme):
    report = json.loads(lstm_edge("quantize", "f32.onnx", "-o", f"{scheme}.onnx", "--scheme", scheme, "--json").stdout)
    assert report["size_bytes"] < report["parent_bytes"]


def test_a_quantized_model_is_validated(lstm_edge):
    arguments = ("validate", "int8.onnx", "--against", "f32.onnx", "--data", "data.npz", "--max-drop", "5pt", "--json")
    assert json.loads(lstm_edge(*arguments).stdout)["passed"]


def test_the_smallest_model_is_found_on_data(lstm_edge, folder):
    """The data are cut into halves here, which the library of training does too."""
    arguments = ("quantize", "f32.onnx", "-o", "auto.onnx", "--scheme", "auto", "--data", "data.npz")
    lstm_edge(*arguments, "--metric", "accuracy", "--max-drop", "10pt", "--max-evaluations", "30")
    assert (folder / "auto.onnx").stat().st_size < (folder / "f32.onnx").stat().st_size


@pytest.mark.parametrize("source", ["m.safetensors", "m.keras", "factories:make"])
def test_a_command_that_needs_torch_names_its_extra(lstm_edge, source):
    result = lstm_edge("export", source, "-o", "m.onnx", "--input", "x: float32[batch, time, 3]", exit_code=2)
    assert result.stderr.splitlines()[-1] == (
        "error: export needs 'torch', which is not installed: pip install 'lstm-edge[export]'"
    )


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import lstm_edge\n    lstm_edge.export('m.safetensors', output='m.onnx')", "export"),
        ("from lstm_edge import LSTM", "lstm_edge.LSTM"),
        ("from lstm_edge import train", "lstm_edge.train"),
        ("from lstm_edge import train_classifier", "lstm_edge.train_classifier"),
    ],
)
def test_a_function_that_needs_torch_names_its_extra(python, code, what):
    code = f"try:\n    {code}\nexcept ImportError as error:\n    print(error)"
    assert python("-c", code).stdout == (
        f"{what} needs 'torch', which is not installed: pip install 'lstm-edge[export]'\n"
    )
