"""Every place that starts a process is known, and none starts Python with the current folder on its path."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("runtime", "exporters", "lstm_edge", "benchmarks", "docs", ".ci")
# The files that start processes, and what they start.
STARTS = {
    "runtime/lstm_edge_runtime/bench.py": "python_command",
    "runtime/lstm_edge_runtime/survival.py": "python_command",
    "lstm_edge/precision_search/process.py": "python_command",
    "exporters/lstm_edge_exporters/keras/hdf5.py": "python_command",
    "exporters/lstm_edge_exporters/verify/guarded.py": "python_command",
    "runtime/lstm_edge_runtime/kernels/build.py": "the compiler that CXX names",
    "runtime/c/build.py": "CMake",
    "lstm_edge/fleet/packing.py": "rauc and mender-artifact",
    "lstm_edge/zoo/download.py": "pip, by python_command; npm",
    "benchmarks/c_driver.py": "runtime/c/build.py and a compiler; itself, isolated",
    "benchmarks/c_library.py": "python_command; lstm-edge-device",
    "benchmarks/arm_model.py": "ziglang, isolated; llvm-mca, git and tar",
    "benchmarks/assembly_loops.py": "llvm-mca",
    "benchmarks/kernels.py": "a compiler, and the program it made",
    "benchmarks/kernel_models.py": "python_command",
    "benchmarks/language_model.py": "python_command",
    "benchmarks/memory.py": "python_command",
    "benchmarks/peers/environments.py": "venv and pip, isolated",
    "benchmarks/peers/workers.py": "worker.py by the isolated interpreter of a peer's environment",
    "benchmarks/quantization.py": "python_command",
    "benchmarks/refusals.py": "python_command",
    "benchmarks/scale.py": "python_command",
    "benchmarks/selection.py": "python_command",
    "benchmarks/startup.py": "python_command",
    "benchmarks/silero.py": "pip, isolated; apt-get and dpkg",
    "docs/generate.py": "scripts and modules of the checkout, from its root",
    ".ci/action.py": "pip and lstm_edge, isolated",
    ".ci/deb.py": "dpkg-deb and git",
    ".ci/release_check.py": "pip, isolated; git, mmdebstrap and tar; commands in the root that it made",
    ".ci/wheels.py": "build and ziglang, isolated; scripts of the checkout",
}
# Files that may call the interpreter other than by python_command; each `-c` and `-m` in them comes after -I.
INTERPRETER = {
    "runtime/lstm_edge_runtime/fresh_python.py",
    "benchmarks/arm_model.py",
    "benchmarks/c_driver.py",
    "benchmarks/peers/environments.py",
    "benchmarks/peers/run.py",
    "benchmarks/silero.py",
    "docs/generate.py",
    ".ci/action.py",
    ".ci/c_cross.py",
    ".ci/release_check.py",
    ".ci/wheels.py",
}
MODULES = {"subprocess", "multiprocessing", "torch.multiprocessing", "pty", "runpy", "concurrent.futures.process"}
NAMES = {"ProcessPoolExecutor", "create_subprocess_exec", "create_subprocess_shell", "system", "popen", "fork"}
PREFIXES = ("exec", "spawn", "posix_spawn")  # of os


def sources():
    found = []
    for folder in FOLDERS:
        found += sorted((ROOT / folder).rglob("*.py"))
    return found


def problems(name, code):
    """Say what in a file starts a process and is not in the lists above."""
    for node in ast.walk(ast.parse(code)):
        if _starts(node) and name not in STARTS:
            yield f"{name}:{node.lineno}: starts a process: add it to STARTS with what it starts"
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.executable" and name not in INTERPRETER:
            yield f"{name}:{node.lineno}: calls the interpreter: use lstm_edge_runtime.fresh_python.python_command"
        if isinstance(node, ast.List | ast.Tuple) and node.elts and ast.unparse(node.elts[0]) == "sys.executable":
            words = [part.value for part in node.elts if isinstance(part, ast.Constant)]
            if {"-c", "-m"} & set(words) and words[0] != "-I":
                yield f"{name}:{node.lineno}: python {words[0]} without -I puts the current folder on the path"
        text = ast.unparse(node) if isinstance(node, ast.JoinedStr) else ""
        if "sys.executable} -" in text and "sys.executable} -I " not in text:
            yield f"{name}:{node.lineno}: python without -I in a command line"


def _starts(node):
    if isinstance(node, ast.Import):
        return any(alias.name in MODULES for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        names = {alias.name for alias in node.names}
        return node.module in MODULES or bool(names & (NAMES - {"system"})) or _of_os(node.module, names)
    if isinstance(node, ast.Attribute):
        return node.attr in NAMES - {"system", "popen", "fork"} or _of_os(ast.unparse(node.value), {node.attr})
    return False


def _of_os(module, names):
    return module in ("os", "posix", "asyncio") and any(name in NAMES or name.startswith(PREFIXES) for name in names)


def test_every_file_that_starts_a_process_is_known():
    files = sources()
    assert len(files) > 150
    found = [line for path in files for line in problems(path.relative_to(ROOT).as_posix(), path.read_text())]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", STARTS)
def test_no_file_is_listed_in_vain(name):
    assert any(_starts(node) for node in ast.walk(ast.parse((ROOT / name).read_text())))


@pytest.mark.parametrize(
    "code",
    [
        "import subprocess",
        "from subprocess import run",
        "import multiprocessing",
        "from torch.multiprocessing import spawn",
        "import os\nos.system('x')",
        "from os import execvp",
        "import os\nos.spawnlp(0, 'x')",
        "import concurrent.futures\nconcurrent.futures.ProcessPoolExecutor()",
        "from concurrent.futures import ProcessPoolExecutor",
        "import runpy",
        "import asyncio\nasyncio.create_subprocess_exec('x')",
        "import sys\nprint(sys.executable)",
    ],
)
def test_the_check_sees_it(code):
    assert list(problems("lstm_edge/new.py", code))


@pytest.mark.parametrize(
    "code", ["[sys.executable, '-c', code]", "[sys.executable, '-m', 'build', *more]", "f'{sys.executable} -m ziglang'"]
)
def test_the_check_sees_an_interpreter_that_is_not_isolated(code):
    assert len(list(problems("docs/generate.py", code))) == 1
