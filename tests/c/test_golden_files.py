"""C gives Python's bits for every golden file, with each instruction set that this processor has."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from support.c_build import ROOT, find_onnxruntime

SETS = (
    ("amx", "avx512vnni", "avxvnni", "avx2", "portable")
    if platform.machine() == "x86_64"
    else ("neon-dot", "neon", "portable")
)


@pytest.fixture(scope="module")
def golden(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    make = ROOT / "tests" / "kernels" / "make_golden.py"
    subprocess.run([sys.executable, make, folder], check=True, capture_output=True)
    return folder


@pytest.mark.long
@pytest.mark.parametrize("instruction_set", SETS)
def test_c_equals_python(c_build, golden, instruction_set):
    environment = {**os.environ, "LSTM_EDGE_ISA": instruction_set}
    probe = "from lstm_edge_runtime.library import find_library; find_library()"
    search = {**environment, "PYTHONPATH": str(ROOT / "runtime")}
    asked = subprocess.run([sys.executable, "-c", probe], env=search, capture_output=True, text=True, check=False)
    if "LSTM_EDGE_ISA asks for" in asked.stderr:
        pytest.skip(f"this processor has no {instruction_set}")
    script = ROOT / "tests" / "c" / "check_golden.py"
    command = [sys.executable, script, c_build / "liblstm_edge.so", find_onnxruntime(), golden, instruction_set]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    assert "0 differences" in done.stdout
