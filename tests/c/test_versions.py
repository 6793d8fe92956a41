"""Structs that begin with their size: callers of older and newer headers."""

import ctypes
import shutil
import subprocess

import pytest
from support.c_build import ROOT
from support.c_library import Library
from support.c_models import stored_models

# Pointers are eight bytes.
OPTIONS, INFO, CHECK = 32, 64, 32
MISUSE = 9


@pytest.fixture(scope="module")
def session(library: Library):
    return library.open(stored_models(("exported_int8",))["exported_int8"])


def sized(size: int, length: int = 128, fill: int = 0) -> ctypes.Array:
    """Memory that begins with a size."""
    memory = (ctypes.c_char * length)(*[fill] * length)
    ctypes.c_size_t.from_buffer(memory).value = size
    return memory


def test_two_versions_of_a_struct(tmp_path):
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler (g++, c++)")
    program = tmp_path / "versions"
    include = [f"-I{ROOT / 'runtime' / 'c' / folder}" for folder in ("include", "src")]
    source = str(ROOT / "tests" / "c" / "versions.cpp")
    subprocess.run([compiler, "-std=c++17", "-Wall", "-Wextra", *include, source, "-o", str(program)], check=True)
    done = subprocess.run([program], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("size", [OPTIONS, OPTIONS + 8, 1024])
def test_options_with_zeros_behind_are_accepted(library, size):
    options = sized(size, 1024)
    ctypes.c_int32.from_buffer(options, 20).value = 1  # threads
    path = str(library.onnxruntime).encode()
    ctypes.c_char_p.from_buffer(options, 8).value = path
    assert opened(library, options) == 0, library.error


def opened(library: Library, options: ctypes.Array) -> int:
    """The status of opening a model with these options."""
    data = stored_models(("exported_int8",))["exported_int8"]
    handle = ctypes.c_void_p()
    open_bytes = library.c["lstm_edge_open_bytes"]  # without declared types
    open_bytes.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p]
    status = open_bytes(data, len(data), options, ctypes.byref(handle))
    library.c.lstm_edge_close(handle)
    return int(status)


@pytest.mark.parametrize(
    ("size", "at", "sentence"),
    [
        (OPTIONS - 1, 0, "lstm_edge_options.size is 31, expected 32 to 1024: set it to sizeof(lstm_edge_options)"),
        (1025, 0, "lstm_edge_options.size is 1025, expected 32 to 1024: set it to sizeof(lstm_edge_options)"),
        (OPTIONS, OPTIONS - 4, "lstm_edge_options.reserved is 1, expected 0"),
        (
            OPTIONS + 8, OPTIONS + 7,
            "lstm_edge_options has 40 bytes, this library knows 32, and those behind are not zero: they ask for "
            "something that this library does not have; use a newer one",
        ),
    ],
)  # fmt: skip
def test_other_options_are_refused(library, size, at, sentence):
    options = sized(size)
    if at:
        options[at] = 1
    assert opened(library, options) == MISUSE
    assert library.error == sentence


@pytest.mark.parametrize(("function", "first"), [("describe", INFO - 4), ("check", CHECK)])
def test_a_result_is_filled_up_to_the_callers_size(library, session, function, first):
    call = library.c[f"lstm_edge_{function}"]
    call.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    for size in (first, first + 4, 120):
        result = sized(size, fill=0xA5)
        assert call(session.handle, result) == 0, library.error
        raw = result.raw
        assert int.from_bytes(raw[:8], "little") == size
        assert raw[8:first] != b"\xa5" * (first - 8)
        assert raw[first + 4 : size] == bytes(max(0, size - first - 4))
        assert raw[size:] == b"\xa5" * (128 - size)
    assert call(session.handle, sized(first - 1)) == MISUSE
    assert library.error.endswith(f"expected {first} to 1024: set it to sizeof(lstm_edge_{NAMES[function]})")


NAMES = {"describe": "info", "check": "check_result"}
