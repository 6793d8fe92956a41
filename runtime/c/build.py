"""Build and install the C library with CMake; needs CMake and a C and C++ compiler.

    python build.py PREFIX [--compiler "python -m ziglang c++" --target aarch64-linux-gnu.2.28] [--define NAME=VALUE]

PREFIX gets ``include``, ``lib`` (with the CMake package and the pkg-config file) and ``bin/lstm-edge-device``.
"""

import argparse
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["WHEEL", "BuildError", "build", "find_cmake", "install"]

FOLDER = Path(__file__).parent
# CMake keeps the options of the last build in its folder: each build sets all of them.
_OPTIONS = {
    "LSTM_EDGE_BUILD_SHARED": "ON",
    "LSTM_EDGE_BUILD_STATIC": "ON",
    "LSTM_EDGE_BUILD_DEVICE": "ON",
    "LSTM_EDGE_DEVICE_SHARED": "OFF",
    "LSTM_EDGE_WITHOUT_LINKS": "OFF",
    "LSTM_EDGE_FOR_PYTHON": "OFF",
}
# What the Python wheel contains: no static library, no symbolic links, and a shared library that the program and Python
# load: without a copy of the kernels in each a device keeps 1.8 MB.
WHEEL = {
    "LSTM_EDGE_BUILD_STATIC": "OFF",
    "LSTM_EDGE_DEVICE_SHARED": "ON",
    "LSTM_EDGE_WITHOUT_LINKS": "ON",
    "LSTM_EDGE_FOR_PYTHON": "ON",
}
_NO_CMAKE = "no CMake found: install Debian's cmake, or the Python package cmake"


class BuildError(Exception):
    """CMake or the compiler is missing or failed; the message holds the command and what it said."""


def find_cmake() -> str | None:
    """Return the path of CMake, of the system or of this Python environment; None without one."""
    return shutil.which("cmake") or shutil.which("cmake", path=sysconfig.get_path("scripts"))


def build(
    prefix: Path,
    *,
    folder: Path,
    compiler: Sequence[str] | None = None,
    target: str | None = None,
    define: Mapping[str, str] | None = None,
    jobs: int = 2,
) -> Path:
    """Build the library and install it, stripped.

    Args:
        prefix: the folder that is installed into.
        folder: the folder of CMake's own files; a second build there compiles only what changed.
        compiler: the C++ compiler, ``["g++"]`` or zig's command, ``[python, "-m", "ziglang", "c++"]``. None: CMake's
            choice.
        target: what zig gets as ``-target``, for example ``aarch64-linux-gnu.2.28``.
        define: variables of CMake, for example ``{"LSTM_EDGE_BUILD_STATIC": "OFF"}``.
        jobs: files compiled at a time.

    Returns:
        ``prefix``.

    Raises:
        BuildError: CMake or the compiler is missing, or a command failed.
    """
    cmake = find_cmake()
    if cmake is None:
        raise BuildError(_NO_CMAKE)
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_INSTALL_PREFIX": str(prefix.resolve()),
        "CMAKE_INSTALL_LIBDIR": "lib",
        "CMAKE_SHARED_LINKER_FLAGS": "-s",
        "CMAKE_EXE_LINKER_FLAGS": "-s",
        **_OPTIONS,
        **_compilers(compiler, target, folder),
        **(define or {}),
    }
    ninja = (
        ["-G", "Ninja"] if shutil.which("ninja") or shutil.which("ninja", path=sysconfig.get_path("scripts")) else []
    )
    _forget_other_compiler(folder, values.get("CMAKE_CXX_COMPILER"))
    definitions = [f"-D{name}={value}" for name, value in values.items()]
    _run([cmake, "-S", str(FOLDER), "-B", str(folder), *ninja, *definitions])
    _run([cmake, "--build", str(folder), "--parallel", str(jobs)])
    install(prefix, folder=folder)
    return prefix


def install(prefix: Path, *, folder: Path, component: str | None = None) -> None:
    """Install what ``build`` built in a folder.

    Args:
        prefix: the folder that is installed into.
        folder: CMake's folder, as for ``build``.
        component: ``library``, ``development`` or ``device``. None: all.

    Raises:
        BuildError: CMake is missing or failed.
    """
    cmake = find_cmake()
    if cmake is None:
        raise BuildError(_NO_CMAKE)
    only = [] if component is None else ["--component", component]
    _run([cmake, "--install", str(folder), "--prefix", str(prefix.resolve()), *only])


def _compilers(compiler: Sequence[str] | None, target: str | None, folder: Path) -> dict[str, str]:
    """Return CMake's variables for a compiler; zig's commands become scripts, because CMake takes one path for each."""
    if compiler is None:
        return {}
    if not any(os.path.basename(part) in ("ziglang", "zig") for part in compiler):
        if target is not None or len(compiler) != 1:
            raise BuildError(f"{shlex.join(compiler)}: expected zig, or one command without a target")
        return {"CMAKE_CXX_COMPILER": compiler[0]}
    machine = (target or platform.machine()).partition("-")[0]
    zig, targets = list(compiler[:-1]), ["-target", target] if target else []
    scripts = {"CMAKE_C_COMPILER": ["cc", *targets], "CMAKE_CXX_COMPILER": ["c++", *targets]}
    scripts |= {"CMAKE_AR": ["ar"], "CMAKE_RANLIB": ["ranlib"]}
    for arguments in scripts.values():
        script = folder / f"zig-{arguments[0]}"
        text = f'#!/bin/sh\nexec {shlex.join([*zig, *arguments])} "$@"\n'
        if not script.exists() or script.read_text(encoding="utf-8") != text:
            script.write_text(text, encoding="utf-8")
            script.chmod(0o755)
    values = {name: str((folder / f"zig-{arguments[0]}").resolve()) for name, arguments in scripts.items()}
    return values | {"CMAKE_SYSTEM_NAME": "Linux", "CMAKE_SYSTEM_PROCESSOR": machine}


def _forget_other_compiler(folder: Path, compiler: str | None) -> None:
    """Remove CMake's cache where another compiler is in it: CMake would drop the variables that came with it."""
    cache = folder / "CMakeCache.txt"
    asked = None if compiler is None else shutil.which(compiler)
    if asked is None or not cache.exists():
        return
    found = re.search(r"^CMAKE_CXX_COMPILER:\w+=(.*)$", cache.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None or found[1] != asked:
        cache.unlink()
        shutil.rmtree(folder / "CMakeFiles", ignore_errors=True)


def _run(command: Sequence[str]) -> None:
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # CMake
    except OSError as error:
        raise BuildError(f"{command[0]}: {error.strerror}") from error
    if result.returncode != 0:
        raise BuildError(f"{shlex.join(command)}\n{result.stdout}{result.stderr}")


def main() -> None:
    """Build from the command line; print the prefix."""
    parser = argparse.ArgumentParser(description="Build and install the lstm-edge C library.")
    parser.add_argument("prefix", type=Path, help="folder to install into")
    parser.add_argument("--folder", type=Path, help="CMake's folder [default: PREFIX/build]")
    parser.add_argument("--compiler", help="C++ compiler: one command, or zig's")
    parser.add_argument("--target", help="for zig: -target, for example aarch64-linux-gnu.2.28")
    parser.add_argument("--define", action="append", default=[], metavar="NAME=VALUE", help="a variable of CMake")
    parser.add_argument("--jobs", type=int, default=2, help="files compiled at a time")
    arguments = parser.parse_args()
    define = dict(text.partition("=")[::2] for text in arguments.define)
    compiler = None if arguments.compiler is None else shlex.split(arguments.compiler)
    folder = arguments.folder or arguments.prefix / "build"
    try:
        build(
            arguments.prefix,
            folder=folder,
            compiler=compiler,
            target=arguments.target,
            define=define,
            jobs=arguments.jobs,
        )
    except BuildError as error:
        sys.exit(f"error: {error}")
    print(arguments.prefix)


if __name__ == "__main__":
    main()
