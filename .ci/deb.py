"""Build the Debian packages of the C library with Debian's compilers; ``make deb`` calls it.

Usage: python .ci/deb.py OUTPUT [amd64] [arm64]

Each architecture gets liblstm-edge1, liblstm-edge-dev and lstm-edge-device. The same sources, compilers and
``SOURCE_DATE_EPOCH`` (default: the time of the last commit) give the same bytes.
"""

import gzip
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import deb_texts
import elf

ROOT = Path(__file__).resolve().parent.parent
# Debian's name of an architecture -> that of its tools, the machine, and the package with its compiler.
ARCHITECTURES = {
    "amd64": ("x86_64-linux-gnu", "x86_64", "g++-x86-64-linux-gnu"),
    "arm64": ("aarch64-linux-gnu", "aarch64", "g++-aarch64-linux-gnu"),
}
# Libraries in Debian's package libc6.
LIBC = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
OURS = "liblstm_edge.so.1"
LINKER_FLAGS = "-s -Wl,-z,relro,-z,now"


def compile_library(architecture: str) -> tuple[Any, Path]:
    """Compile for an architecture; return the build script and CMake's folder, from which it installs."""
    triplet, machine, package = ARCHITECTURES[architecture]
    if shutil.which(f"{triplet}-g++") is None:
        sys.exit(f"error: no {triplet}-g++ for {architecture}: install Debian's {package}")
    build = _load(ROOT / "runtime" / "c" / "build.py")
    folder = ROOT / ".cache" / "c" / f"deb-{architecture}"
    define = {
        "CMAKE_C_COMPILER": f"{triplet}-gcc",
        "CMAKE_CXX_COMPILER": f"{triplet}-g++",
        "CMAKE_SYSTEM_NAME": "Linux",
        "CMAKE_SYSTEM_PROCESSOR": machine,
        "CMAKE_INSTALL_LIBDIR": f"lib/{triplet}",
        "CMAKE_SKIP_INSTALL_RPATH": "ON",
        "CMAKE_SHARED_LINKER_FLAGS": LINKER_FLAGS,
        "CMAKE_EXE_LINKER_FLAGS": LINKER_FLAGS,
        "LSTM_EDGE_DEVICE_SHARED": "ON",
    }
    try:
        build.build(folder / "all", folder=folder / "make", define=define)
    except build.BuildError as error:
        sys.exit(f"error: the C library was not built for {architecture}: {error}")
    return build, folder / "make"


def fill(name: str, root: Path, architecture: str, epoch: int) -> None:
    """Add to the installed files of a package what Debian expects in it: documents, control files, modes and times.

    Args:
        name: a key of ``deb_texts.PACKAGES``.
        root: the folder that is the root of the package, with ``usr``.
        architecture: a key of ``ARCHITECTURES``.
        epoch: of every file, in seconds since 1970.
    """
    document = root / "usr" / "share" / "doc"
    shutil.rmtree(document, ignore_errors=True)  # the licence of zlib is part of the copyright file
    _write(document / name / "copyright", deb_texts.copyright_text(epoch).encode())
    _write(document / name / "changelog.gz", _packed(deb_texts.change_log(epoch)))
    if (root / "usr" / "bin").is_dir():
        manual = root / "usr" / "share" / "man" / "man1" / "lstm-edge-device.1.gz"
        _write(manual, _packed(deb_texts.manual_page(epoch)))
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    size = sum(-(-path.stat().st_size // 1024) for path in files)
    depends = dependencies(name, files)
    text = deb_texts.control(name, architecture=architecture, depends=depends, installed_kib=size)
    sums = "".join(f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(root)}\n" for path in files)  # noqa: S324
    _write(root / "DEBIAN" / "control", text.encode())
    _write(root / "DEBIAN" / "md5sums", sums.encode())
    if deb_texts.PACKAGES[name]["component"] == "library":
        version = deb_texts.project()["version"]
        _write(root / "DEBIAN" / "shlibs", f"liblstm_edge 1 {name} (>= {version})\n".encode())
        _write(root / "DEBIAN" / "triggers", b"activate-noawait ldconfig\n")
    for path in [*root.rglob("*"), root]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
        os.utime(path, (epoch, epoch), follow_symlinks=False)


def dependencies(name: str, files: list[Path]) -> list[str]:
    """Return the field ``Depends``: the C library that the compiled files need, and other packages of ours."""
    version = deb_texts.project()["version"]
    newest = (0, 0)
    for path in files:
        data = path.read_bytes()
        if data[:4] != b"\x7fELF":
            continue
        unknown = set(elf.needed_libraries(data)) - LIBC - {OURS}
        if unknown:
            sys.exit(f"error: {path}: needs {', '.join(sorted(unknown))}, which is in no package that is known here")
        newest = max(newest, elf.needed_glibc(data) or newest)
    libc = [f"libc6 (>= {newest[0]}.{newest[1]})"] if newest > (0, 0) else []
    return [*libc, *(relation.format(version=version) for relation in deb_texts.PACKAGES[name]["depends"])]


def pack(root: Path, path: Path, epoch: int) -> None:
    """Make the package of a folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch)}
    # One thread: the bytes must not depend on the number of processors.
    command = ["dpkg-deb", "--root-owner-group", "--threads-max=1", "-Zxz", "--build", str(root), str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(command)}\n{done.stdout}{done.stderr}")


def time_of_sources() -> int:
    """Return ``SOURCE_DATE_EPOCH``, or the time of the last commit, in seconds since 1970."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is None:
        command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        given = done.stdout.strip() if done.returncode == 0 else None
    if given is None or not given.isdecimal():
        sys.exit("error: no time for the files of the packages: this is no git checkout, set SOURCE_DATE_EPOCH")
    return int(given)


def _packed(text: str) -> bytes:
    return gzip.compress(text.encode(), 9, mtime=0)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _load(path: Path) -> Any:
    """Import the build script of the C library, which belongs to no package."""
    spec = importlib.util.spec_from_file_location("lstm_edge_c_build", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Build the packages for the architectures in the arguments; without arguments, for both."""
    output, architectures = Path(sys.argv[1]), sys.argv[2:] or list(ARCHITECTURES)
    if shutil.which("dpkg-deb") is None:
        sys.exit("error: no dpkg-deb here: install Debian's dpkg")
    epoch = time_of_sources()
    for architecture in architectures:
        if architecture not in ARCHITECTURES:
            sys.exit(f"error: unknown architecture {architecture!r}, expected {', '.join(ARCHITECTURES)}")
        build, folder = compile_library(architecture)
        for name, package in deb_texts.PACKAGES.items():
            with tempfile.TemporaryDirectory(prefix="lstm-edge-") as work:
                root = Path(work) / "root"
                build.install(root / "usr", folder=folder, component=package["component"])
                fill(name, root, architecture, epoch)
                made = output / f"{name}_{deb_texts.project()['version']}_{architecture}.deb"
                pack(root, made, epoch)
            print(f"{made.name}: {made.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
