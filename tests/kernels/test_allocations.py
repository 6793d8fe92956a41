"""A call of a kernel allocates nothing once its scratch memory has grown, whatever the operator."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from kernel_build import compiler

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PATHS = [ROOT / folder for folder in ("tests", "tests/kernels", "exporters", "runtime")]


@pytest.mark.slow
@pytest.mark.skipif(compiler() is None, reason="no C++ compiler: the functions that count cannot be built")
def test_calls_allocate_nothing(library_path, tmp_path):
    counter = tmp_path / "count_allocations.so"
    source = str(HERE / "count_allocations.cpp")
    built = subprocess.run(
        [*compiler(), "-shared", "-fPIC", "-O1", "-std=c++17", source, "-o", str(counter)],
        capture_output=True,
        text=True,
        check=False,
    )
    if "__libc_memalign" in built.stderr:
        pytest.skip("not glibc: its allocation functions cannot be replaced")
    assert built.returncode == 0, built.stderr
    environment = os.environ | {
        "LD_PRELOAD": str(counter),
        "LSTM_EDGE_LIBRARY": str(library_path),
        "PYTHONPATH": os.pathsep.join(map(str, PATHS)),
    }
    program = [sys.executable, str(HERE / "allocations.py")]
    result = subprocess.run(program, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert len(found) >= 15
    for operator, (opening, calls) in found.items():
        assert opening > 0, f"{operator}: packing allocates, so the counter sees nothing"
        assert calls == 0, f"{operator}: {calls} allocations in calls after the first ones"
