"""What opening, checking and running a file does besides computing: it reads that file. SECURITY.md promises it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from streamed import MODELS

import lstm_edge_runtime

# Everything is imported and used once, so that what follows is what a file causes. Python reports each of its own
# opens, connections and new processes to an audit hook; what onnxruntime opens by itself is the library of kernels
# and, in a file that is refused, weights in another file.
PROGRAM = """
import json, os, sys
import numpy
from lstm_edge_runtime import Session, self_test

def use(path):
    session = Session(path)
    self_test(session)
    sizes = {"batch": 1, "time": 2}
    session.run({s.name: numpy.zeros([sizes.get(a, a) for a in s.axes], s.dtype) for s in session.inputs})
    stream = session.stream()
    stream.push({s.name: numpy.zeros([sizes.get(a, a) for a in s.axes], s.dtype) for s in session.inputs})
    stream.reset()

warm, model, also = sys.argv[1:]
use(warm)
seen = []
WATCHED = ("open", "socket.", "subprocess.", "os.", "shutil.", "ctypes.dlopen", "import", "exec", "compile")
recording = True

def watch(event, arguments):
    # A descriptor that is opened as a file once more is the file that was opened before.
    if recording and event.startswith(WATCHED) and not (event == "open" and isinstance(arguments[0], int)):
        writes = event == "open" and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))
        seen.append((event, str(arguments[0]) if arguments else "", writes))

sys.addaudithook(watch)
use(model)
if also:
    open(also, "w").close()
recording = False
print(json.dumps(seen))
"""


def events(tmp_path: Path, model: Path, also: str = "") -> list[list[object]]:
    runtime = str(Path(lstm_edge_runtime.__file__).parents[1])
    command = [sys.executable, "-c", PROGRAM, str(MODELS / "exported_int8.onnx"), str(model), also]
    environment = os.environ | {"PYTHONPATH": runtime, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", ["exported_int8", "exported_full_lengths_int8", "language_model"])
def test_a_file_is_read_and_nothing_else_happens(tmp_path, name):
    folder = tmp_path / "empty"
    folder.mkdir()
    model = tmp_path / f"{name}.onnx"
    shutil.copy(MODELS / model.name, model)
    model.chmod(0o444)
    before = model.read_bytes()
    seen = events(folder, model)
    assert seen == [["open", str(model), False]]
    assert list(folder.iterdir()) == []
    assert model.read_bytes() == before


def test_the_watch_sees_a_file_that_is_written(tmp_path):
    seen = events(tmp_path, MODELS / "exported_int8.onnx", "written")
    assert ["open", "written", True] in seen
