"""Programs against the installed C library, as a user compiles them."""

import os
import subprocess
from pathlib import Path

from support.c_build import ROOT, cmake_command, find_onnxruntime

__all__ = ["compile_with_cmake", "install", "run_program"]


def install(prefix: Path) -> Path:
    """Install what the fixture ``c_build`` built; returns the prefix."""
    _run(cmake_command(), "--install", ROOT / ".cache" / "c" / "build", "--prefix", prefix)
    return prefix


def compile_with_cmake(source: Path, prefix: Path, folder: Path, *options: str) -> Path:
    """Configure and build a project with ``find_package(lstm_edge)``; returns the folder of its programs."""
    cmake = cmake_command()
    _run(cmake, "-S", source, "-B", folder, f"-DCMAKE_PREFIX_PATH={prefix}", *options)
    _run(cmake, "--build", folder)
    return folder


def run_program(*command: object, stdin: bytes = b"", exit_code: int = 0) -> str:
    """Run a program with the tests' onnxruntime; returns its standard output."""
    environment = os.environ | {"LSTM_EDGE_ONNXRUNTIME": str(find_onnxruntime())}
    done = subprocess.run(
        [*map(str, command)], input=stdin, env=environment, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == exit_code, done.stdout.decode() + done.stderr.decode()
    return done.stdout.decode()


def _run(*command: object) -> None:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
