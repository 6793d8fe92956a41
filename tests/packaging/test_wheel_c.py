"""The C library in the wheel: CMake and pkg-config find it in a fresh environment, and a program there runs."""

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from support.c_build import MissingToolError, cmake_command
from support.c_programs import MODEL, answers, compile_with_cmake, page_program, run_program
from support.environments import linked_environment, run
from support.scripts import load_script

pytestmark = [pytest.mark.slow, pytest.mark.long]

WHEELS = load_script("wheels")
BUILD = load_script("build", Path(__file__).parents[2] / "runtime" / "lstm_edge_runtime" / "kernels")
PROJECT = """cmake_minimum_required(VERSION 3.18)
project(app LANGUAGES C)
find_package(lstm_edge 0.1 REQUIRED)
add_executable(app app.c)
target_link_libraries(app PRIVATE lstm_edge::lstm_edge)
"""


@pytest.fixture(scope="module", autouse=True)
def _tools():
    try:
        cmake_command()
    except MissingToolError as error:
        pytest.skip(str(error))
    if shutil.which("cc") is None or shutil.which("c++") is None:
        pytest.skip("no C and C++ compiler (cc, c++)")


@pytest.fixture(scope="module")
def python(runtime_wheel, tmp_path_factory):
    """The interpreter of a fresh environment with the wheel."""
    folder = tmp_path_factory.mktemp("environment")
    linked_environment(folder / "venv", "numpy", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-index", "--no-deps", runtime_wheel, cwd=folder)
    return python


@pytest.fixture(scope="module")
def cmake_dir(python, tmp_path_factory):
    """What the installed package says."""
    code = "import lstm_edge_runtime; print(lstm_edge_runtime.cmake_dir())"
    found = Path(run(python, "-c", code, cwd=tmp_path_factory.mktemp("elsewhere")).stdout.strip())
    assert found.is_relative_to(python.parents[1])
    return found


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    (folder / "app.c").write_text(page_program())
    (folder / "CMakeLists.txt").write_text(PROJECT)
    return folder


def test_the_wheel_holds_what_make_wheels_asks_for(runtime_wheel):
    with zipfile.ZipFile(runtime_wheel) as archive:
        names = archive.namelist()
    expected = {WHEELS.C_LIBRARY, WHEELS.PROGRAM, *WHEELS.FILES}
    assert {name for name in names if name.startswith("lstm_edge_runtime/c/")} == expected
    assert WHEELS.LIBRARY not in names


def test_python_takes_its_kernels_from_the_c_library(python, cmake_dir):
    code = "from lstm_edge_runtime.library import find_library; print(find_library().path)"
    assert run(python, "-c", code, cwd=cmake_dir).stdout.strip() == str(cmake_dir.parents[1] / "liblstm_edge.so.1")
    shown = run("nm", "-D", "--defined-only", cmake_dir.parents[1] / "liblstm_edge.so.1", cwd=cmake_dir).stdout
    assert {line.split()[-1] for line in shown.splitlines()} >= set(BUILD._SHOWN)


def test_a_program_is_built_against_cmake_dir_and_gives_the_answers_of_python(cmake_dir, source, tmp_path):
    folder = compile_with_cmake(source, None, tmp_path, f"-Dlstm_edge_DIR={cmake_dir}")
    np.testing.assert_array_equal(*answers(folder / "app"))
    loaded = subprocess.run(["ldd", folder / "app"], check=True, capture_output=True, text=True).stdout
    assert f"liblstm_edge.so.1 => {cmake_dir.parents[1]}/liblstm_edge.so.1" in loaded


def test_pkg_config_finds_the_library_of_the_wheel(cmake_dir, source, tmp_path):
    if shutil.which("pkg-config") is None:
        pytest.skip("no pkg-config here")
    libraries = cmake_dir.parents[1]
    environment = os.environ | {"PKG_CONFIG_PATH": str(libraries / "pkgconfig")}
    command = ["pkg-config", "--cflags", "--libs", "lstm_edge"]
    flags = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.split()
    program = tmp_path / "app"
    subprocess.run(["cc", source / "app.c", *flags, f"-Wl,-rpath,{libraries}", "-o", program], check=True)
    np.testing.assert_array_equal(*answers(program))


def test_the_program_of_the_wheel_runs_where_it_is(cmake_dir, python):
    program = cmake_dir.parents[2] / "bin" / "lstm-edge-device"
    code = "import importlib.metadata; print(importlib.metadata.version('lstm-edge-runtime'))"
    assert run_program(program, "--version") == run(python, "-c", code, cwd=program.parent).stdout
    assert "passed: 2 golden vectors" in run_program(program, "check", MODEL)
