"""CMake compiles the kernels with the flags of kernels/build.py, and nothing else."""

import importlib.util
import json
import platform
import shlex
import subprocess
from pathlib import Path

import pytest
from support.c_build import ROOT, MissingToolError, cmake_command

pytestmark = pytest.mark.slow

# What CMake adds: where things are, and the language that build.py names in another way.
PLACES = {"-o", "-c", "-I", "-isystem"}
SAME = {"-std=gnu++17": "-std=c++17"}


@pytest.fixture(scope="module")
def kernels():
    """kernels/build.py, which belongs to no package."""
    path = ROOT / "runtime" / "lstm_edge_runtime" / "kernels" / "build.py"
    spec = importlib.util.spec_from_file_location("lstm_edge_kernels_build", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def flags_of(words):
    """The flags of a command, without the compiler, the files and the folders, in order."""
    found, skip = [], True
    for word in words:
        if not skip and word not in PLACES and not word.startswith("-I"):
            found.append(SAME.get(word, word))
        skip = word in PLACES
    return found


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """The compile commands of the kernels, by file name."""
    try:
        cmake = cmake_command()
    except MissingToolError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("cmake")
    define = ["-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", "-DCMAKE_CXX_COMPILER=c++"]
    subprocess.run(
        [cmake, "-S", ROOT / "runtime" / "c", "-B", folder, *define], check=True, capture_output=True, timeout=120
    )
    entries = json.loads((folder / "compile_commands.json").read_text())
    return {
        Path(entry["file"]).name: shlex.split(entry["command"])
        for entry in entries
        if Path(entry["file"]).parent.name == "kernels"
    }


def test_every_kernel_of_this_machine_is_compiled(commands, kernels):
    machine = platform.machine()
    assert "dispatch.cpp" in commands
    for path in Path(kernels.__file__).parent.glob("isa_*.cpp"):
        try:
            kernels.compile_command(["c++"], path.name, target=f"{machine}-linux-gnu")
        except kernels.BuildError:
            assert path.name not in commands
        else:
            assert path.name in commands


def test_the_flags_are_those_of_the_python_package(commands, kernels):
    # The portable set is for old processors where there are faster ones: its loops are unrolled less.
    less = "--param=max-completely-peeled-insns=60"
    smaller = {"isa_portable.cpp": {less}} if platform.machine() == "x86_64" else {}
    for name, words in commands.items():
        expected = flags_of([*kernels.compile_command(["c++"], name, target=f"{platform.machine()}-linux-gnu")])
        got = flags_of(words)
        assert set(got) - set(expected) - {"-DNDEBUG"} <= smaller.get(name, set()), name
        assert set(expected) - set(got) == set(), name
        own = [flag for flag in expected if flag.startswith(("-m", "-D"))]
        assert [flag for flag in got if flag in own] == own, name
