"""onnxruntime sends no usage data and leaves no file: a model may know what a person said or where a machine stands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import lstm_edge_runtime

# Of the checkout, or of the environment that the runtime is installed in.
PACKAGES = Path(lstm_edge_runtime.__file__).parents[1]
MODEL = Path(__file__).parent / "models" / "exported_int8.onnx"
CODE = """
import os, sys
from lstm_edge_runtime import Session, self_test
assert self_test(Session(sys.argv[1])).passed
print(os.environ["ORT_DISABLE_TELEMETRY"])
"""


def run_at_home(home: Path, **more: str) -> str:
    """Check a model in a process whose home folder is ``home``."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    environment |= {"HOME": str(home), "PYTHONPATH": str(PACKAGES), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", CODE, str(MODEL)]
    return subprocess.run(command, env=environment | more, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.slow
def test_nothing_is_left_below_the_home_folder(tmp_path):
    assert run_at_home(tmp_path) == "1"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_value_of_the_environment_is_kept(tmp_path):
    assert run_at_home(tmp_path, ORT_DISABLE_TELEMETRY="0") == "0"
