"""Build both distributions in a fresh Debian 12, install each there and run the device tests; ``make release-check``.

Usage: python .ci/release_check.py [WHEEL ...]

The source distributions and the wheels are built in a root that mmdebstrap makes, from the files that git knows. Each
of them is installed in a fresh virtual environment there, and so are the given wheels, those of ``make wheels``. The
root has no network: what the distributions require is downloaded before, for Debian's Python 3.11. Needs root.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import deb_texts

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "release"
# Of Debian 12: compilers, CMake, and the parts of Python that its virtual environments need.
INCLUDED = "ca-certificates,cmake,g++,ninja-build,python3-venv"
BUILD = ("build", "hatchling", "twine")
REQUIRED = ("numpy", "onnxruntime", "typer", "pytest", "hypothesis")
# What the runtime may add to a virtual environment that has onnxruntime, byte code included.
MOST_BYTES = 5_000_000
# Mounts and the network belong to the process: its end unmounts everything, and nothing outside can be reached.
ENTER = (
    'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && '
    'exec chroot "$0" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root "$@"'
)
BYTES = 'find "$1" -type f -printf "%s\\n" | awk "{ sum += \\$1 } END { print sum }"'


def fresh_root(folder: Path) -> None:
    """Unpack a minimal Debian 12, which mmdebstrap makes the first time."""
    made = CACHE / "debian-12.tar"
    if not made.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        part = made.with_name("part.tar")
        _run("mmdebstrap", "--mode=root", "--variant=minbase", f"--include={INCLUDED}", "bookworm", part)
        part.replace(made)
    folder.mkdir()
    # Device nodes cannot be made in every container; those of this machine are mounted.
    _run("tar", "-x", "-f", made, "-C", folder, "--exclude=./dev/*", "--numeric-owner")


def download(folder: Path) -> None:
    """Download the wheels that are installed in the root."""
    pip = (sys.executable, "-I", "-m", "pip", "download", "--quiet", "--disable-pip-version-check")
    machine = platform.machine()
    tags = [word for tag in ("manylinux_2_28", "manylinux_2_17", "manylinux2014") for word in _platform(tag, machine)]
    _run(*pip, "-c", ROOT / "constraints.txt", "-d", folder, "--only-binary", ":all:", "--python-version", "3.11",
         *tags, *BUILD, *REQUIRED)  # fmt: skip


def _platform(tag: str, machine: str) -> tuple[str, str]:
    return "--platform", f"{tag}_{machine}"


def copy_checkout(folder: Path) -> None:
    """Copy the files that git knows, as they are in the checkout."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout  # noqa: S607
    for name in filter(None, os.fsdecode(listed).split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)


class Debian:
    """The root, in which commands run without a network."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *command: str | Path, **settings: str) -> str:
        """Run a command with these environment variables; returns its output, and ends this script if it fails."""
        given = [f"{name}={value}" for name, value in settings.items()]
        return _run("unshare", "--mount", "--net", "--fork", "sh", "-c", ENTER, self.folder, *given, *command)

    def environment(self, name: str, *packages: str | Path) -> str:
        """Make a virtual environment with packages, without compiling the C library; returns its folder."""
        self.run("python3", "-m", "venv", f"/venv/{name}")
        pip = (f"/venv/{name}/bin/pip", "install", "--quiet", "--no-index", "--find-links", "/wheels")
        self.run(*pip, "--find-links", "/dist", *packages, LSTM_EDGE_KERNELS="1", LSTM_EDGE_C_LIBRARY="0")
        return f"/venv/{name}"

    def size(self, folder: str) -> int:
        """Return the bytes of all files in a folder."""
        return int(self.run("sh", "-c", BYTES, "sh", folder))


def build(debian: Debian) -> list[str]:
    """Build the source distributions, and the wheels from them; returns the names of the files in /dist."""
    folder = debian.environment("build", *BUILD)
    for project in ("runtime", "."):
        command = (f"{folder}/bin/python", "-m", "build", "--no-isolation", "--outdir", "/dist", f"/src/{project}")
        debian.run(*command, LSTM_EDGE_KERNELS="1", LSTM_EDGE_C_LIBRARY="1", LSTM_EDGE_C_FOLDER="/root/c")
    built = debian.run("ls", "/dist").split()
    debian.run(f"{folder}/bin/twine", "check", "--strict", *(f"/dist/{name}" for name in built))
    return built


def check(debian: Debian, number: int, file: str) -> str:
    """Install a distribution in a fresh environment and use it; returns a line about it."""
    name = Path(file).name
    folder = debian.environment(f"device-{number}", f"{file}[cpu]", "pytest", "hypothesis")
    model = "/device/models/exported_int8.onnx"
    answers = [
        debian.run(f"{folder}/bin/lstm-edge", *arguments)
        for arguments in (("check", model, "--kernels", "required"), ("--help",))
    ]
    # The runtime alone says what lstm-edge would bring.
    alone = not name.startswith("lstm_edge-")
    if "passed" not in answers[0] or ("not installed here" in answers[1]) != alone:
        sys.exit(f"error: {name}: lstm-edge answers\n{answers[0]}{answers[1]}")
    pytest = (f"{folder}/bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib")
    passed = debian.run(*pytest, "/device", "--rootdir", "/device").splitlines()[-1]
    return f"{name}: lstm-edge check passed, device tests: {passed}"


def added_bytes(debian: Debian, wheel: str) -> int:
    """Return how many bytes the runtime adds to a virtual environment that has onnxruntime."""
    sizes = [
        debian.size(debian.environment(name, *packages))
        for name, packages in (("bare", ("onnxruntime",)), ("runtime", (f"{wheel}[cpu]",)))
    ]
    return sizes[1] - sizes[0]


def main() -> None:
    """Build and check; the arguments are further wheels."""
    if os.geteuid() != 0 or shutil.which("mmdebstrap") is None:
        sys.exit(
            "error: a root of Debian is made by root with mmdebstrap: install Debian's mmdebstrap, and run as root"
        )
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lstm-edge-") as name:
        debian = Debian(Path(name, "root"))
        fresh_root(debian.folder)
        download(debian.folder / "wheels")
        copy_checkout(debian.folder / "src")
        shutil.copytree(debian.folder / "src" / "tests" / "device", debian.folder / "device")
        (debian.folder / "dist").mkdir()
        files = [f"/dist/{file}" for file in build(debian)]
        print(f"built, and twine check --strict passed: {', '.join(Path(file).name for file in files)}", flush=True)
        given = debian.folder / "given"
        given.mkdir()
        for wheel in map(Path, sys.argv[1:]):
            shutil.copy(wheel, given)
            files.append(f"/given/{wheel.name}")
        wheel = next(file for file in files if "lstm_edge_runtime" in file and file.endswith(".whl"))
        added = added_bytes(debian, wheel)
        print(f"the runtime adds {added:,} bytes to a virtual environment with onnxruntime", flush=True)
        if added > MOST_BYTES:
            sys.exit(f"error: {added:,} bytes are more than {MOST_BYTES:,}")
        for number, file in enumerate(files):
            print(check(debian, number, file), flush=True)
    print(f"version {deb_texts.project()['version']} checked in {time.monotonic() - begun:.0f} s")


def _run(*command: str | Path) -> str:
    """Run a command; returns its output, and ends this script if it fails."""
    done = subprocess.run([*command], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(map(str, command))}\n{done.stdout[-8000:]}{done.stderr[-8000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
