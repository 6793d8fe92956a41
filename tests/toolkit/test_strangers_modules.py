"""Files named like modules, in the current folder and in a folder of PYTHONPATH, are never run because of their names.

The command line starts as the installed `lstm-edge` does, whose path has no current folder; what it starts itself must
have neither. Each planted file notes its name when it is run.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lstm_edge_runtime import fresh_python
from lstm_edge_runtime.errors import LstmEdgeError
from lstm_edge_runtime.fresh_python import python_command

MODELS = Path(__file__).parents[1] / "device" / "models"
TAGGER = str(MODELS / "tagger.onnx")
CLI = "from lstm_edge.cli import main; main()"
PACKAGES = ("lstm_edge", "lstm_edge_exporters", "lstm_edge_runtime", "numpy", "onnxruntime")
# What Python imports by itself, what our code and our packages import, early and late; installed and not.
NAMES = (
    *("sitecustomize", "usercustomize", "site", "os", "json", "random", "re", "subprocess", "tempfile", "typing"),
    *("numpy", "onnxruntime", "lstm_edge_runtime", "lstm_edge", "typer", "rich", "torch", "onnx", "onnx_ir", "h5py"),
    *("sympy", "packaging", "flatbuffers", "ml_dtypes", "google", "statistics", "csv", "zipfile", "secrets", "shlex"),
)


@pytest.fixture
def planted(tmp_path):
    """Two folders of planted files: the current one and one of PYTHONPATH; and the file that they note names in."""
    marker = tmp_path / "ran"
    for folder in ("current", "stranger"):
        (tmp_path / folder).mkdir()
        for name in NAMES:
            code = f"open({str(marker)!r}, 'a').write({f'{folder}/{name} '!r})\n"
            (tmp_path / folder / f"{name}.py").write_text(code)
    return tmp_path / "current", tmp_path / "stranger", marker


def start(planted, code, *arguments):
    folder, stranger, _ = planted
    return subprocess.run(
        python_command(code, *arguments, packages=PACKAGES),
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(stranger)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def write_data(folder):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)).astype(np.float32), rng.integers(0, 2, 20)
    np.savez(folder / "data.npz", x=x, lengths=np.full(4, 5), y=y)


def ran(planted):
    return planted[2].read_text().split() if planted[2].exists() else []


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", TAGGER],
        ["check", TAGGER],
        ["bench", TAGGER, "--json"],
        ["quantize", TAGGER, "-o", "out.onnx"],
        ["validate", TAGGER, "--against", TAGGER, "--data", "data.npz"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_command_runs_no_file_of_the_current_folder(planted, arguments):
    write_data(planted[0])
    done = start(planted, CLI, *arguments)
    assert ran(planted) == []
    assert done.returncode == 0, done.stderr
    if arguments[0] == "bench":
        assert json.loads(done.stdout)["opening"]["load_ms"] > 0


METRIC = """
import random, statistics, csv, numpy, helper
def share(outputs, targets):
    import late
    return float((outputs.argmax(axis=-1) == targets).mean()) * helper.ONE * late.ONE
share.more_is_better = True
"""
FACTORY = """
import torch, statistics, helper
def make():
    import late
    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(3, 4 * helper.ONE * late.ONE, batch_first=True)
        def forward(self, x):
            import later
            return self.lstm(x)[0] * later.ONE
    return Network()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (METRIC, ["validate", TAGGER, "--against", TAGGER, "--data", "data.npz", "--metric", "mine:share", "--json"]),
        (FACTORY, ["export", "mine:make", "--input", "x: float32[batch, time, 3]", "-o", "made.onnx"]),
    ],
    ids=["metric", "factory"],
)
def test_a_named_module_may_import_its_neighbours_and_gets_everything_else_from_where_it_is_installed(
    planted, code, arguments
):
    write_data(planted[0])
    (planted[0] / "mine.py").write_text(code)
    for name in ("helper", "late", "later"):
        (planted[0] / f"{name}.py").write_text("ONE = 1\n")
    done = start(planted, CLI, *arguments)
    assert done.returncode == 0, done.stderr
    assert ran(planted) == []


def test_the_named_module_is_that_of_the_current_folder_and_the_folder_leaves_the_path(planted):
    (planted[0] / "sympy.py").write_text("def f(): pass\n")  # also installed, and not imported here
    (planted[0] / "colorsys.py").write_text("def f(): pass\n")  # also in the standard library
    code = """
import sys
from lstm_edge._imports import import_object
from lstm_edge_runtime.errors import InputError
before = list(sys.path), list(sys.meta_path)
assert import_object("sympy:f", InputError, what="w", expected="e").__module__ == "sympy"
try:
    import_object("colorsys:f", InputError, what="w", expected="e")
except InputError as error:
    assert "colorsys is a module of the standard library: give yours another name" in str(error), error
else:
    raise AssertionError
assert before == (sys.path, sys.meta_path)
"""
    done = start(planted, code)
    assert done.returncode == 0, done.stderr


def test_a_fresh_interpreter_has_the_standard_library_then_our_folders_and_no_others(planted):
    code = "import json, sys, lstm_edge_runtime; print(json.dumps([sys.path, sys.argv, lstm_edge_runtime.__file__]))"
    done = start(planted, code, "a b", "")
    path, arguments, loaded = json.loads(done.stdout)
    assert arguments == ["lstm-edge", "a b", ""]
    assert not {"", ".", *map(str, planted[:2])} & set(path)
    assert all(os.path.isabs(entry) for entry in path)
    ours = str(Path(fresh_python.__file__).parents[1])
    assert Path(loaded).parents[1] == Path(ours)
    assert path.index(str(Path(os.__file__).parent)) < path.index(ours)


def test_a_program_that_embeds_python_is_told_what_to_set(monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(LstmEdgeError, match=r"sys\.executable names no interpreter; set it to the path of one"):
        python_command("pass")


def test_a_package_that_is_not_there_is_named():
    with pytest.raises(LstmEdgeError, match="needs the package 'no_such_package', which is not installed"):
        python_command("pass", packages=("no_such_package",))
