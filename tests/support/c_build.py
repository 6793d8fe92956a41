"""Builds the C library (runtime/c) with CMake, once for each state of its sources.

The objects stay in ``.cache/c/build``, so that another source is compiled alone; a finished library is copied into a
folder that is named after the content of all sources.

    python c_build.py NAME [OPTION ...]    builds the static library with CMake's options; prints its folder
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["ROOT", "MissingToolError", "build_library", "build_program", "cmake_command", "find_onnxruntime"]

ROOT = Path(__file__).resolve().parents[2]
_SOURCES = (ROOT / "runtime" / "c", ROOT / "runtime" / "lstm_edge_runtime" / "kernels")
_SUFFIXES = {".c", ".cpp", ".h", ".hpp", ".txt", ".cmake", ".in", ".map", ".S"}
_KEPT = 3  # finished libraries


class MissingToolError(Exception):
    """A compiler or CMake is missing; the sentence says which."""


def build_library(name: str = "build", options: Sequence[str] = (), compiler: str | None = None) -> Path:
    """Return the folder with ``liblstm_edge.so`` and ``liblstm_edge.a``, which is built where it is missing.

    Args:
        name: of the folder of objects; each set of options needs its own.
        options: for CMake, for example ``-DCMAKE_CXX_FLAGS=-fsanitize=address``; then only the static library is made.
        compiler: of C++; None: ``$CXX``, else ``c++``.

    Raises:
        MissingToolError: there is no compiler or no CMake.
        RuntimeError: the sources do not compile; the message ends with the compiler's last lines.
    """
    cmake = cmake_command()
    compiler = compiler or os.environ.get("CXX", "c++")
    if shutil.which(compiler.split()[0]) is None:
        raise MissingToolError(f"there is no C++ compiler: {compiler!r} was not found")
    cache = ROOT / ".cache" / "c"
    cache.mkdir(parents=True, exist_ok=True)
    target = cache / f"{name}-{_key([*options, compiler])}"
    if (target / "ready").exists():
        os.utime(target)
        return target
    with open(cache / f"{name}.lock", "w") as lock:  # workers of pytest-xdist wait for the first of them
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (target / "ready").exists():
            objects = cache / name
            # With other flags only the static library is needed: what it is linked into decides about the rest.
            wanted = ["--target", "lstm_edge_static"] if options else []
            _configure_and_build(cmake, objects, [*options, f"-DCMAKE_CXX_COMPILER={compiler}"], wanted)
            _keep(objects, target)
            _drop_old(cache, name, target)
    return target


def build_program(source: Path, library: Path, output: Path, *flags: str, compiler: str | None = None) -> Path:
    """Compile a C++ program of one file against the static library in the folder ``library``; returns ``output``."""
    include = [f"-I{_SOURCES[0] / folder}" for folder in ("include", "src")]
    command = [compiler or os.environ.get("CXX", "c++"), "-std=c++17", "-O2", "-g", *flags, *include, str(source)]
    _run([*command, str(library / "liblstm_edge.a"), "-o", str(output), "-ldl", "-lpthread"])
    return output


def cmake_command() -> str:
    """Return the path of CMake: that of this Python's packages, else the system's."""
    beside = Path(sys.executable).parent / "cmake"
    found = str(beside) if beside.exists() else shutil.which("cmake")
    if found is None:
        raise MissingToolError("there is no CMake: install the package cmake of Debian or of PyPI")
    return found


def find_onnxruntime() -> Path:
    """Return the shared library in the installed package onnxruntime."""
    import onnxruntime

    found = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"))
    if not found:
        raise MissingToolError("the installed onnxruntime has no libonnxruntime.so")
    return found[-1]


def _key(options: Sequence[str]) -> str:
    digest = hashlib.sha256(repr(list(options)).encode())
    version = re.search(r"^version = .*", (ROOT / "runtime" / "pyproject.toml").read_text(), re.MULTILINE)
    digest.update(b"" if version is None else version[0].encode())
    for folder in _SOURCES:
        for path in sorted(folder.rglob("*")):
            if path.suffix in _SUFFIXES and path.is_file():
                digest.update(f"{path.relative_to(ROOT)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _configure_and_build(cmake: str, objects: Path, options: Sequence[str], wanted: Sequence[str]) -> None:
    ninja = Path(sys.executable).parent / "ninja"
    ninja_path = str(ninja) if ninja.exists() else shutil.which("ninja")
    generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja_path}"] if ninja_path else ["-G", "Unix Makefiles"]
    if (objects / "CMakeCache.txt").exists():
        generator = []  # CMake keeps the first one
    _run([cmake, "-S", str(_SOURCES[0]), "-B", str(objects), *generator, *options])
    _run([cmake, "--build", str(objects), "--parallel", "2", *wanted])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-4000:]}")


def _keep(objects: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for path in objects.iterdir():
        if path.is_file() and (".so" in path.name or path.suffix == ".a" or path.name == "lstm-edge-device"):
            shutil.copy2(path, target / path.name)
    (target / "ready").touch()


def _drop_old(cache: Path, name: str, target: Path) -> None:
    old = [path for path in cache.glob(f"{name}-*") if path.is_dir() and path != target]
    for path in sorted(old, key=lambda path: path.stat().st_mtime)[: max(0, len(old) - _KEPT + 1)]:
        shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    print(build_library(sys.argv[1], sys.argv[2:]))
