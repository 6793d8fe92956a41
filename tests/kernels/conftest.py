"""What the kernel tests share: a library built from these sources, and sessions on kernels and on bodies."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest

from lstm_edge_runtime.library import PACKAGED, Library, find_library
from lstm_edge_runtime.providers import open_session

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from kernel_build import compiler, is_current, load_build  # noqa: E402  # needs the path above


@pytest.fixture(scope="session")
def library_path(tmp_path_factory) -> Path:
    """The library under test: LSTM_EDGE_LIBRARY, or the package's, or one built now; one for all workers."""
    given = os.environ.get("LSTM_EDGE_LIBRARY")
    if given:
        return Path(given)
    if is_current(PACKAGED):
        return PACKAGED
    command = compiler()
    if command is None:
        pytest.skip("no C++ compiler (c++, g++, clang++): the kernels cannot be built and are not tested")
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "kernels"
    build = load_build()
    made = folder / build.FILE_NAME
    try:
        folder.mkdir()
    except FileExistsError:
        # Another worker builds it, in some 15 s; the file appears whole.
        deadline = time.monotonic() + 600
        while not made.exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        assert made.exists(), f"another worker did not build {made}"
        return made
    return build.build(command, folder)


@pytest.fixture(autouse=True)
def _use_library(library_path, monkeypatch) -> None:
    monkeypatch.setenv("LSTM_EDGE_LIBRARY", str(library_path))


@pytest.fixture
def library() -> Library:
    """The library under test, loaded."""
    return find_library()


@pytest.fixture
def kernel(library) -> Callable[..., onnxruntime.InferenceSession]:
    """A function that opens a model on kernels."""
    return lambda model, **options: open_session(model, library=library, **options)


@pytest.fixture(scope="session")
def golden_folder(tmp_path_factory) -> Path:
    """Golden files, made once for each worker."""
    import make_golden

    folder = tmp_path_factory.mktemp("golden")
    make_golden.main(folder)
    return folder
