"""Build the wheels of both distributions and check their contents; ``make wheels`` calls it.

Usage: python .ci/wheels.py OUTPUT [x86_64] [aarch64] [any]

``x86_64`` and ``aarch64`` are the manylinux wheels of lstm-edge-runtime, with zig as cross compiler; ``any`` is the
wheel of lstm-edge, which is pure Python.
"""

import os
import platform
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

import elf

ROOT = Path(__file__).resolve().parent.parent
# Oldest supported glibc: the version of Debian 10, RHEL 8 and Raspberry Pi OS 10.
GLIBC = (2, 28)
TARGETS = ("x86_64", "aarch64", "any")
# What lstm-edge's wheel contains beside its metadata.
PACKAGES = {"lstm_edge", "lstm_edge_exporters"}
LIBRARY = "lstm_edge_runtime/kernels/liblstm_edge_kernels.so"
C_LIBRARY = "lstm_edge_runtime/c/lib/liblstm_edge.so.1"
PROGRAM = "lstm_edge_runtime/c/bin/lstm-edge-device"
# Beside the compiled files: what CMake, pkg-config and a C or C++ compiler look for, and the licence of zlib.
FILES = (
    "lstm_edge_runtime/c/include/lstm_edge.h",
    "lstm_edge_runtime/c/include/lstm_edge.hpp",
    "lstm_edge_runtime/c/lib/cmake/lstm_edge/lstm_edge-config.cmake",
    "lstm_edge_runtime/c/lib/cmake/lstm_edge/lstm_edge-config-version.cmake",
    "lstm_edge_runtime/c/lib/cmake/lstm_edge/lstm_edge-targets.cmake",
    "lstm_edge_runtime/c/lib/cmake/lstm_edge/lstm_edge-targets-release.cmake",
    "lstm_edge_runtime/c/lib/pkgconfig/lstm_edge.pc",
    "lstm_edge_runtime/c/share/doc/lstm_edge/LICENSE.zlib",
)


def build(machine: str, output: Path) -> Path:
    """Build the runtime's wheel for a machine with the build backend of this environment; return its path."""
    version = ".".join(map(str, GLIBC))
    target = f"{machine}-linux-gnu.{version}"
    environment = os.environ | {
        "CXX": f"{sys.executable} -I -m ziglang c++",
        "LSTM_EDGE_KERNELS": "1",
        "LSTM_EDGE_C_LIBRARY": "1" if with_c() else "0",
        # Shared with `make c-cross`, which compiles the same objects.
        "LSTM_EDGE_C_FOLDER": str(ROOT / ".cache" / "c" / machine / "make"),
        "LSTM_EDGE_TARGET": target,
        "LSTM_EDGE_PLATFORM": tag(machine),
        # zig compiles its C++ library once and caches it.
        "ZIG_GLOBAL_CACHE_DIR": os.environ.get("ZIG_GLOBAL_CACHE_DIR", str(ROOT / ".cache" / "zig")),
    }
    _build(ROOT / "runtime", output, environment)
    return output / f"lstm_edge_runtime-{project_version()}-py3-none-{tag(machine)}.whl"


def build_toolkit(output: Path) -> Path:
    """Build the wheel of lstm-edge; return its path."""
    _build(ROOT, output, dict(os.environ))
    return output / f"lstm_edge-{project_version()}-py3-none-any.whl"


def _build(project: Path, output: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-I", "-m", "build", "--wheel", "--no-isolation", "--outdir", str(output), str(project)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if result.returncode != 0:
        sys.exit(f"error: the wheel of {project} was not built\n{result.stdout}{result.stderr}")


def project_version() -> str:
    """Return the version in pyproject.toml, which both distributions have."""
    version: str = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return version


def with_c() -> bool:
    """Whether the wheels get the C library; LSTM_EDGE_C_LIBRARY=0 leaves it out, for a test of the kernels alone."""
    return os.environ.get("LSTM_EDGE_C_LIBRARY") != "0"


def tag(machine: str) -> str:
    """Return the platform tag of a machine's wheel."""
    return f"manylinux_{GLIBC[0]}_{GLIBC[1]}_{machine}"


def problems(wheel: Path, machine: str) -> list[str]:
    """Return the defects of a runtime's wheel: wrong tags, missing files, or those of ``elf.problems``."""
    found = []
    # The C library contains the kernels.
    compiled, others = ((C_LIBRARY, PROGRAM), FILES) if with_c() else ((LIBRARY,), ())
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/WHEEL"))
        text = archive.read(metadata).decode()
        if f"Tag: py3-none-{tag(machine)}\n" not in text or "Root-Is-Purelib: false" not in text:
            found.append(f"its WHEEL file does not say py3-none-{tag(machine)}: {text!r}")
        found += [f"it has no {name}" for name in (*compiled, *others) if name not in names]
        found += [f"it has a static library, {name}" for name in names if name.endswith(".a")]
        if with_c() and LIBRARY in names:
            found.append(f"it has the kernels twice, in {C_LIBRARY} and in {LIBRARY}")
        for name in compiled:
            if name in names:
                found += [f"{name} {problem}" for problem in elf.problems(archive.read(name), machine, GLIBC)]
        if PROGRAM in names and not archive.getinfo(PROGRAM).external_attr >> 16 & 0o111:
            found.append(f"{PROGRAM} is not executable")
    return found


def toolkit_problems(wheel: Path) -> list[str]:
    """Return the defects of the wheel of lstm-edge: another package in it, or another requirement of the runtime."""
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
        info = next(top for top in tops if top.endswith(".dist-info"))
        metadata = archive.read(f"{info}/METADATA").decode()
    found = [] if tops == PACKAGES | {info} else [f"it contains {sorted(tops - {info})}, expected {sorted(PACKAGES)}"]
    pin = f"Requires-Dist: lstm-edge-runtime=={project_version()}"
    if pin not in metadata.splitlines():
        found.append(f"it does not require exactly its version of the runtime: no line {pin!r} in its metadata")
    return found


def check_bits(wheel: Path, folder: Path) -> None:
    """Run the kernels and the C library of this machine's wheel on the golden files, on every instruction set here.

    zig's compiler differs from the compiler of the tests, and must give the same bits.
    """
    tests = ROOT / "tests" / "kernels"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    _python(str(tests / "make_golden.py"), str(folder / "golden"))
    for instruction_set in ("amx", "avx512vnni", "avxvnni", "avx2", "neon-dot", "neon", "portable"):
        environment = {"PYTHONPATH": str(folder / "site"), "LSTM_EDGE_ISA": instruction_set}
        said = _python(str(tests / "check_golden.py"), str(folder / "golden"), instruction_set, **environment)
        print(said.strip() or f"this processor has no {instruction_set}")
        if said and with_c():
            library, onnxruntime = folder / "site" / C_LIBRARY, find_onnxruntime()
            arguments = (str(library), str(onnxruntime), str(folder / "golden"), instruction_set)
            print("in C:", _python(str(ROOT / "tests" / "c" / "check_golden.py"), *arguments, **environment).strip())


def find_onnxruntime() -> Path:
    """Return the shared library in this environment's package onnxruntime."""
    code = "import onnxruntime; print(onnxruntime.__file__)"
    command = [sys.executable, "-I", "-c", code]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603
    (library,) = (Path(said.strip()).parent / "capi").glob("libonnxruntime.so.*")
    return library


def _python(*arguments: str, **environment: str) -> str:
    """Run a script; return its output, or "" if the processor lacks the instruction set."""
    command = [sys.executable, *arguments]
    result = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)  # noqa: S603
    if result.returncode != 0 and "LSTM_EDGE_ISA asks for" not in result.stderr:
        sys.exit(f"error: {' '.join(arguments)}\n{result.stdout}{result.stderr}")
    return result.stdout


def main() -> None:
    """Build and check the wheels that the arguments name; without arguments, all of them."""
    output = Path(sys.argv[1])
    for machine in sys.argv[2:] or TARGETS:
        wheel = build_toolkit(output) if machine == "any" else build(machine, output)
        wrong = toolkit_problems(wheel) if machine == "any" else problems(wheel, machine)
        if wrong:
            sys.exit(f"error: {wheel.name}: {'; '.join(wrong)}")
        if machine == "any":
            print(f"{wheel.name}: {wheel.stat().st_size:,} bytes, contents and requirements checked")
            continue
        if machine == platform.machine():
            with tempfile.TemporaryDirectory(prefix="lstm-edge-") as folder:
                check_bits(wheel, Path(folder))
        print(f"{wheel.name}: {wheel.stat().st_size:,} bytes, tag and glibc <= {GLIBC[0]}.{GLIBC[1]} checked")


if __name__ == "__main__":
    main()
