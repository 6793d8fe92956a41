"""Compile the kernels into one shared library; needs a C++17 compiler and the standard library only.

    python build.py --compiler g++ --output DIR [--target aarch64-linux-gnu] [--sanitize address,undefined]

The compiler may be a command with arguments: ``--compiler "python -m ziglang c++" --target aarch64-linux-gnu.2.28``.
"""

import argparse
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

__all__ = ["FILE_NAME", "BuildError", "build", "compile_command"]

FILE_NAME = "liblstm_edge_kernels.so"
FOLDER = Path(__file__).parent

# Contraction is off so that every operation of docs/operators.md rounds by itself; the two others let comparisons and
# conversions be vectorized and change no result.
_COMMON = (
    *("-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-ffunction-sections", "-fdata-sections"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wextra", "-Wno-psabi"),
    # g++ 12 raises the second in its own AVX-512 header; clang does not know it.
    *("-Wno-unknown-warning-option", "-Wno-maybe-uninitialized"),
)
# The file of each instruction set, by machine. Those for every machine come first: of an inline function the linker
# keeps the first file's copy, which must run on every processor. isa_avxvnni.cpp and isa_amx.cpp are left out where the
# compiler does not know their flags (g++ before 11), and dispatch.cpp is told which of them are there.
_EVERYWHERE: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("operators.cpp", ()),
    ("scratch.cpp", ()),
    ("finite.cpp", ()),
    ("isa_portable.cpp", ()),
)
_AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni", "-mfma", "-mprefer-vector-width=512")
_FILES: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "x86_64": (
        ("isa_avx512vnni.cpp", _AVX512),
        ("isa_amx.cpp", ("-mamx-tile", "-mamx-int8")),
        ("isa_avx2.cpp", ("-mavx2", "-mfma")),
        ("isa_avxvnni.cpp", ("-mavx2", "-mfma", "-mavxvnni")),
    ),
    "aarch64": (("isa_neon.cpp", ()), ("isa_neon_dot.cpp", ("-march=armv8.2-a+dotprod",))),
}
# zig takes the name of a processor only; g++ 12 refuses the dot product where the name is below ARMv8.2.
_ZIG_DOT = ("-mcpu=generic+dotprod",)
# The files that a compiler may be too old for, and what dispatch.cpp is told if they are there.
_NEWER = {"isa_amx.cpp": "-DLSTM_EDGE_AMX", "isa_avxvnni.cpp": "-DLSTM_EDGE_AVXVNNI"}
_LINK = ("-shared", "-pthread", "-Wl,--gc-sections")
# What the library shows: without the list it would offer its C++ library's symbols, operator new among them, to all.
_SHOWN = ("RegisterCustomOps", "LstmEdgeInstructionSet", "LstmEdgeAllFinite", "LstmEdgeSelectOperators")
_EXPORTS = f"{{ global: {'; '.join(_SHOWN)}; local: *; }};"
# A sanitized library keeps its symbols, so that a report names functions, and shares the process's C++ library, whose
# exceptions the sanitizer watches; any other brings its own, which a device may not have.
_RELEASE = ("-static-libstdc++", "-static-libgcc", "-Wl,--strip-all")


class BuildError(Exception):
    """The compiler is missing or refused a file; the message holds the command and what it said."""


def build(
    compiler: Sequence[str],
    output: Path,
    *,
    target: str | None = None,
    sanitize: str | None = None,
    program: Path | None = None,
    jobs: int = 2,
) -> Path:
    """Compile and link the library.

    Args:
        compiler: the command, for example ``["g++"]`` or ``[python, "-m", "ziglang", "c++"]``.
        output: folder for the library, made where it does not exist.
        target: ``-target`` for a compiler that takes one (clang, zig); also names the machine. None: this machine.
            For a cross compiler of its own name (``aarch64-linux-gnu-g++``) the machine is read from that name.
        sanitize: what ``-fsanitize=`` gets, for example ``address,undefined`` or ``thread``.
        program: a further source with ``main``: link a program of the source's name instead of the library.
        jobs: files compiled at a time.

    Returns:
        The path of the library, or of the program.

    Raises:
        BuildError: no such compiler, or it failed.
    """
    machine = _machine(compiler, target)
    targets = ("-target", target) if target and _takes_target(compiler) else ()
    extra = () if sanitize is None else (f"-fsanitize={sanitize}", "-fno-omit-frame-pointer", "-g", "-O1")
    flags = (*_COMMON, *targets, *extra)
    if "undefined" in (sanitize or ""):
        flags += ("-fno-sanitize-recover=undefined",)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lstm-edge-") as folder:
        files = list(_files(compiler, machine, (*flags, "-o", os.path.join(folder, "probe.o"))))
        if program is not None:
            files.append((str(program.resolve()), (f"-I{FOLDER}",)))
        objects = [os.path.join(folder, f"{os.path.basename(name)}.o") for name, _ in files]
        commands = [
            [*compiler, *flags, *own, "-c", str(FOLDER / name), "-o", made]
            for (name, own), made in zip(files, objects, strict=True)
        ]
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(_run, commands))
        exports = os.path.join(folder, "exports.map")
        Path(exports).write_text(_EXPORTS, encoding="utf-8")
        name = FILE_NAME if program is None else program.stem
        link = ("-pthread",) if program is not None else (*_LINK, f"-Wl,--version-script={exports}")
        # Linked beside its place and moved there: an interrupted build leaves no half of a library.
        unfinished = os.path.join(output, f".{name}.{os.getpid()}")
        release = () if sanitize else _RELEASE
        _run([*compiler, *targets, *extra, *objects, *link, *release, "-o", unfinished])
    os.replace(unfinished, output / name)
    return output / name


def compile_command(compiler: Sequence[str], name: str, *, target: str) -> list[str]:
    """Return the command that compiles a source of the library, without the source and the output.

    Args:
        compiler: as for ``build``.
        name: the source, for example ``isa_neon.cpp``.
        target: as for ``build``.

    Raises:
        BuildError: the library for this target has no such source.
    """
    flags = (*_COMMON, *(("-target", target) if _takes_target(compiler) else ()))
    own = dict(_files(compiler, _machine(compiler, target), (*flags, "-o", os.devnull)))
    if name not in own:
        raise BuildError(f"{name} is no source of the library for {target}: expected one of {', '.join(own)}")
    return [*compiler, *flags, *own[name]]


def _files(compiler: Sequence[str], machine: str, flags: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each file of a machine with its own flags."""
    yield from _EVERYWHERE
    defines: tuple[str, ...] = ()
    for name, own in _FILES.get(machine, ()):
        if name in _NEWER:
            if not _knows(compiler, (*flags, *own)):
                continue
            defines += (_NEWER[name],)
        yield name, _ZIG_DOT if name == "isa_neon_dot.cpp" and _is_zig(compiler) else own
    yield "dispatch.cpp", defines


def _knows(compiler: Sequence[str], flags: Sequence[str]) -> bool:
    command = [*compiler, *flags, "-x", "c++", "-c", os.devnull]
    return _start(command).returncode == 0


def _takes_target(compiler: Sequence[str]) -> bool:
    return _is_zig(compiler) or any("clang" in part for part in compiler)


def _is_zig(compiler: Sequence[str]) -> bool:
    return any(os.path.basename(part) in ("ziglang", "zig") for part in compiler)


def _machine(compiler: Sequence[str], target: str | None) -> str:
    """Return the machine that is compiled for: the target's or the cross compiler's first part, else this one."""
    names = [target or "", os.path.basename(compiler[0])]
    known = [name.split("-")[0] for name in names if name.split("-")[0] in _FILES]
    return known[0] if known else {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())


def _start(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # a compiler
    except OSError as error:
        raise BuildError(f"{command[0]}: {error.strerror}") from error


def _run(command: Sequence[str]) -> None:
    result = _start(command)
    if result.returncode != 0:
        raise BuildError(f"{shlex.join(command)}\n{result.stderr or result.stdout}")
    # Warnings are not errors for a user's compiler, but they are shown.
    sys.stderr.write(result.stderr)


def main() -> None:
    """Build from the command line; print the library's path."""
    parser = argparse.ArgumentParser(description="Compile the lstm-edge kernels.")
    parser.add_argument("--compiler", default=os.environ.get("CXX", "c++"), help="command, may have arguments")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder for the library")
    parser.add_argument("--target", help="for clang and zig: -target, for example aarch64-linux-gnu.2.28")
    parser.add_argument("--sanitize", help="address,undefined or thread")
    parser.add_argument("--program", type=Path, help="a source with main: link a program instead of the library")
    arguments = parser.parse_args()
    try:
        made = build(
            shlex.split(arguments.compiler),
            arguments.output,
            target=arguments.target,
            sanitize=arguments.sanitize,
            program=arguments.program,
        )
    except BuildError as error:
        sys.exit(f"error: {error}")
    print(made)


if __name__ == "__main__":
    main()
