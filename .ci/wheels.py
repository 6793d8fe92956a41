"""Build the manylinux wheels with zig as cross compiler, and check their contents; ``make wheels`` calls it.

Usage: python .ci/wheels.py OUTPUT [x86_64] [aarch64]
"""

import os
import platform
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Oldest supported glibc: the version of Debian 10, RHEL 8 and Raspberry Pi OS 10.
GLIBC = (2, 28)
# Machine -> e_machine in the header of an ELF file.
ELF_MACHINE = {"x86_64": 62, "aarch64": 183}
LIBRARY = "lstm_edge_runtime/kernels/liblstm_edge_kernels.so"


def build(machine: str, output: Path) -> Path:
    """Build the wheel for a machine with the build backend of this environment; return its path."""
    version = ".".join(map(str, GLIBC))
    environment = os.environ | {
        "CXX": f"{sys.executable} -I -m ziglang c++",
        "LSTM_EDGE_KERNELS": "1",
        "LSTM_EDGE_TARGET": f"{machine}-linux-gnu.{version}",
        "LSTM_EDGE_PLATFORM": tag(machine),
        # zig compiles its C++ library once and caches it.
        "ZIG_GLOBAL_CACHE_DIR": os.environ.get("ZIG_GLOBAL_CACHE_DIR", str(ROOT / ".cache" / "zig")),
    }
    command = [sys.executable, "-I", "-m", "build", "--wheel", "--no-isolation", "--outdir", str(output), str(ROOT)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if result.returncode != 0:
        sys.exit(f"error: the {machine} wheel was not built\n{result.stdout}{result.stderr}")
    (wheel,) = output.glob(f"lstm_edge-*-py3-none-{tag(machine)}.whl")
    return wheel


def tag(machine: str) -> str:
    """Return the platform tag of a machine's wheel."""
    return f"manylinux_{GLIBC[0]}_{GLIBC[1]}_{machine}"


def problems(wheel: Path, machine: str) -> list[str]:
    """Return the defects of a wheel: wrong tags, a library for another machine, a newer glibc, or a C++ library."""
    found = []
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/WHEEL"))
        text = archive.read(metadata).decode()
        if f"Tag: py3-none-{tag(machine)}\n" not in text or "Root-Is-Purelib: false" not in text:
            found.append(f"its WHEEL file does not say py3-none-{tag(machine)}: {text!r}")
        if LIBRARY not in names:
            return [*found, f"it has no {LIBRARY}"]
        library = archive.read(LIBRARY)
    if int.from_bytes(library[18:20], "little") != ELF_MACHINE[machine]:
        found.append(f"its library is not for {machine}")
    asked = {(int(a), int(b)) for a, b in re.findall(rb"GLIBC_(\d+)\.(\d+)", library)}
    if not asked or max(asked) > GLIBC:
        found.append(f"its library needs glibc {max(asked, default=None)}, expected at most {GLIBC}")
    if re.search(rb"GLIBCXX_|libstdc\+\+\.so|libc\+\+\.so|libgcc_s\.so", library):
        found.append("its library needs a C++ library, which a device may lack")
    return found


def check_bits(wheel: Path, folder: Path) -> None:
    """Run the kernels of this machine's wheel on the golden files, with every available instruction set.

    zig's compiler differs from the compiler of the tests, and must give the same bits.
    """
    tests = ROOT / "tests" / "kernels"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    _python(str(tests / "make_golden.py"), str(folder / "golden"))
    for instruction_set in ("avx512vnni", "avxvnni", "avx2", "neon-dot", "neon", "portable"):
        environment = {"PYTHONPATH": str(folder / "site"), "LSTM_EDGE_ISA": instruction_set}
        said = _python(str(tests / "check_golden.py"), str(folder / "golden"), instruction_set, **environment)
        print(said.strip() or f"this processor has no {instruction_set}")


def _python(*arguments: str, **environment: str) -> str:
    """Run a script; return its output, or "" if the processor lacks the instruction set."""
    command = [sys.executable, *arguments]
    result = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)  # noqa: S603
    if result.returncode != 0 and "LSTM_EDGE_ISA asks for" not in result.stderr:
        sys.exit(f"error: {' '.join(arguments)}\n{result.stdout}{result.stderr}")
    return result.stdout


def main() -> None:
    """Build and check the wheels for the machines in the arguments; without arguments, for both."""
    output = Path(sys.argv[1])
    for machine in sys.argv[2:] or list(ELF_MACHINE):
        wheel = build(machine, output)
        wrong = problems(wheel, machine)
        if wrong:
            sys.exit(f"error: {wheel.name}: {'; '.join(wrong)}")
        if machine == platform.machine():
            with tempfile.TemporaryDirectory(prefix="lstm-edge-") as folder:
                check_bits(wheel, Path(folder))
        print(f"{wheel.name}: {wheel.stat().st_size:,} bytes, tag and glibc <= {GLIBC[0]}.{GLIBC[1]} checked")


if __name__ == "__main__":
    main()
