"""The wheels of both distributions, each built once for all tests and workers."""

import fcntl
import os
import sys
from pathlib import Path

import pytest
from support.environments import run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def runtime_wheel(tmp_path_factory):
    """The wheel of lstm-edge-runtime with the C library, whose objects are kept."""
    objects = ROOT / ".cache" / "c" / "wheel"
    objects.mkdir(parents=True, exist_ok=True)
    return _built(tmp_path_factory, ROOT / "runtime", f"LSTM_EDGE_C_FOLDER={objects}")


@pytest.fixture(scope="session")
def toolkit_wheel(tmp_path_factory):
    """The wheel of lstm-edge."""
    return _built(tmp_path_factory, ROOT)


def _built(tmp_path_factory, project, *environment):
    """Build a wheel from this checkout by the build backend itself."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"wheel-{project.name}"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:  # workers of pytest-xdist wait for the first of them
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not list(folder.glob("*.whl")):
            code = f"import hatchling.build; hatchling.build.build_wheel({str(folder)!r})"
            run("env", *environment, sys.executable, "-c", code, cwd=project)
    [made] = folder.glob("*.whl")
    return made
