"""Programs against the installed C library, as a user compiles them."""

import os
import re
import subprocess
from pathlib import Path

import numpy as np

from lstm_edge_runtime import Session
from support.c_build import ROOT, cmake_command, find_onnxruntime

__all__ = ["MODEL", "answers", "compile_with_cmake", "install", "page_program", "run_program"]

MODEL = ROOT / "tests" / "device" / "models" / "exported_int8.onnx"


def install(prefix: Path) -> Path:
    """Install what the fixture ``c_build`` built; returns the prefix."""
    _run(cmake_command(), "--install", ROOT / ".cache" / "c" / "build", "--prefix", prefix)
    return prefix


def page_program() -> str:
    """Return the program of docs/c.md."""
    text = (ROOT / "docs" / "c.md").read_text(encoding="utf-8")
    [program] = re.findall(r"```c\n(.*?)```", text, re.DOTALL)
    return program


def answers(program: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return what the program of docs/c.md prints for eight frames, and what Python answers."""
    x = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
    printed = np.array([line.split() for line in run_program(program, MODEL, stdin=x.tobytes()).splitlines()], float)
    stream = Session(MODEL).stream()
    return printed, np.array([[float(f"{value:g}") for value in stream.push(frame)] for frame in x])


def compile_with_cmake(source: Path, prefix: Path | None, folder: Path, *options: str) -> Path:
    """Configure and build a project with ``find_package(lstm_edge)``; returns the folder of its programs.

    ``prefix`` is the installed library; without it, ``options`` say where that is.
    """
    cmake = cmake_command()
    where = [] if prefix is None else [f"-DCMAKE_PREFIX_PATH={prefix}"]
    _run(cmake, "-S", source, "-B", folder, *where, *options)
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
