"""``cmake_dir()`` in a wheel, in a wheel without the C library, and in a checkout."""

import pytest

from lstm_edge_runtime import MissingLibraryError, c_library, cmake_dir

CONFIG = "lib/cmake/lstm_edge/lstm_edge-config.cmake"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package without files."""
    folder = tmp_path / "site-packages" / "lstm_edge_runtime"
    folder.mkdir(parents=True)
    monkeypatch.setattr(c_library, "_PACKAGE", folder)
    return folder


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout in which nothing was built."""
    (tmp_path / "runtime" / "c").mkdir(parents=True)
    (tmp_path / "runtime" / "c" / "CMakeLists.txt").touch()
    (tmp_path / "runtime" / "lstm_edge_runtime").mkdir()
    monkeypatch.setattr(c_library, "_PACKAGE", tmp_path / "runtime" / "lstm_edge_runtime")
    return tmp_path


def make(path):
    path.parent.mkdir(parents=True)
    path.touch()
    return path.parent


def test_the_wheel_has_the_folder(package):
    folder = make(package / "c" / CONFIG)
    assert cmake_dir() == folder


def test_a_wheel_without_the_library_says_what_to_do(package):
    (package / "c" / "lib").mkdir(parents=True)
    message = (
        rf"this installation of lstm-edge-runtime has no C library in {package}/c: install a wheel for this platform, "
        "or install from the sources with LSTM_EDGE_C_LIBRARY=1 where there are a C[+][+] compiler and CMake"
    )
    with pytest.raises(MissingLibraryError, match=message) as caught:
        cmake_dir()
    assert caught.value.exit_code == 2


def test_a_checkout_has_what_make_c_built(checkout):
    with pytest.raises(MissingLibraryError, match=rf"no C library in .*: run 'make c' in the checkout {checkout}$"):
        cmake_dir()
    folder = make(checkout / ".cache" / "c" / "installed" / CONFIG)
    assert cmake_dir() == folder
