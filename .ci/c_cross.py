"""Cross-build the C library with zig into .cache/c/MACHINE/installed, and check it; ``make c-cross`` calls it.

Usage: python .ci/c_cross.py [x86_64] [aarch64] [armv7]
"""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import elf

ROOT = Path(__file__).resolve().parent.parent
# Oldest supported glibc, as in .ci/wheels.py.
GLIBC = (2, 28)
# Machine -> what zig calls the target. 32-bit ARM: hard float, with the processor that zig takes by default (ARMv7-A).
TARGETS = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu", "armv7": "arm-linux-gnueabihf"}


def build(machine: str) -> Path:
    """Build and install the library for a machine; return the folder with ``include``, ``lib`` and ``bin``."""
    module = _load(ROOT / "runtime" / "c" / "build.py")
    os.environ.setdefault("ZIG_GLOBAL_CACHE_DIR", str(ROOT / ".cache" / "zig"))
    folder = ROOT / ".cache" / "c" / machine
    compiler = [sys.executable, "-I", "-m", "ziglang", "c++"]
    target = f"{TARGETS[machine]}.{GLIBC[0]}.{GLIBC[1]}"
    try:
        return module.build(folder / "installed", folder=folder / "make", compiler=compiler, target=target)
    except module.BuildError as error:
        sys.exit(f"error: the C library was not built for {machine}: {error}")


def check(prefix: Path, machine: str) -> list[str]:
    """Return the defects of an installed library: missing files, or those of ``elf.problems``."""
    found = []
    for name in ("lib/liblstm_edge.so.1", "bin/lstm-edge-device"):
        path = prefix / name
        if path.is_file():
            found += [f"{name} {problem}" for problem in elf.problems(path.read_bytes(), machine, GLIBC)]
        else:
            found.append(f"there is no {name}")
    for name in ("include/lstm_edge.h", "lib/liblstm_edge.a", "lib/cmake/lstm_edge/lstm_edge-config.cmake"):
        if not (prefix / name).is_file():
            found.append(f"there is no {name}")
    return found


def _load(path: Path) -> Any:
    """Import the build script of the C library, which belongs to no package."""
    spec = importlib.util.spec_from_file_location("lstm_edge_c_build", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Build and check for the machines in the arguments; without arguments, for all."""
    for machine in sys.argv[1:] or TARGETS:
        if machine not in TARGETS:
            sys.exit(f"error: unknown machine {machine!r}, expected {', '.join(TARGETS)}")
        prefix = build(machine)
        wrong = check(prefix, machine)
        if wrong:
            sys.exit(f"error: {prefix}: {'; '.join(wrong)}")
        library = (prefix / "lib" / "liblstm_edge.so.1").resolve()
        needed = ".".join(map(str, elf.needed_glibc(library.read_bytes()) or ()))
        program = (prefix / "bin" / "lstm-edge-device").stat().st_size
        print(f"{machine}: {prefix.relative_to(ROOT)}, glibc {needed}, {library.stat().st_size:,} bytes", end="")
        print(f", lstm-edge-device {program:,} bytes")


if __name__ == "__main__":
    main()
