"""Builds the C library once for all workers, and opens it."""

from pathlib import Path

import pytest
from support.c_build import MissingToolError, build_library, find_onnxruntime
from support.c_library import Library


@pytest.fixture(scope="session")
def c_build() -> Path:
    """The folder with the built library."""
    try:
        return build_library()
    except MissingToolError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def library(c_build: Path) -> Library:
    """The library, with the onnxruntime that Python uses."""
    return Library(c_build / "liblstm_edge.so", find_onnxruntime())
