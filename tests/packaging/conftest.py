"""The wheel, built once for all tests and workers."""

import fcntl
import os
import sys
from pathlib import Path

import pytest
from support.environments import run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel, built from this checkout by the build backend itself; the objects of the C library are kept."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "wheel"
    folder.mkdir(exist_ok=True)
    objects = ROOT / ".cache" / "c" / "wheel"
    objects.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:  # workers of pytest-xdist wait for the first of them
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not list(folder.glob("*.whl")):
            code = f"import hatchling.build; hatchling.build.build_wheel({str(folder)!r})"
            run("env", f"LSTM_EDGE_C_FOLDER={objects}", sys.executable, "-c", code, cwd=ROOT)
    [made] = folder.glob("*.whl")
    return made
