"""The Debian packages in a fresh Debian 12, and those for arm64 on an emulated processor: `make test-deb`.

Needs root, mmdebstrap and the mirror of apt, so pytest does not collect it by itself. The root that mmdebstrap makes is
kept as ``.cache/debian-12.tar``; each run installs into a new copy.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.c_build import ROOT, find_onnxruntime
from support.c_programs import MODEL, compile_with_cmake, page_program, run_program
from support.scripts import load_script

from lstm_edge_runtime import Session

TEXTS = load_script("deb_texts")
VERSION = TEXTS.project()["version"]
CACHE = ROOT / ".cache"
ARM64 = CACHE / "arm64"
INCLUDED = "gcc,libc6-dev,pkg-config,systemd"
# In the root.
ONNXRUNTIME, DEVICE_MODEL = "/opt/onnxruntime/libonnxruntime.so.1", "/etc/lstm-edge/model.onnx"
PROJECT = """cmake_minimum_required(VERSION 3.18)
project(app LANGUAGES C CXX)
find_package(lstm_edge 0.1 REQUIRED)
add_executable(app app.c)
target_link_libraries(app PRIVATE lstm_edge::static)
set_target_properties(app PROPERTIES LINKER_LANGUAGE CXX)
"""


def packages(architecture: str) -> list[Path]:
    """The packages that `make deb` built."""
    found = [ROOT / "dist" / f"{name}_{VERSION}_{architecture}.deb" for name in TEXTS.PACKAGES]
    missing = [path.name for path in found if not path.is_file()]
    assert not missing, f"{', '.join(missing)}: run `make deb`"
    return found


def apt_lines() -> str:
    """What apt of this machine has of Debian 12, as a sources.list; empty where that is another system."""
    command = ["apt-get", "indextargets", "--format", "deb $(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return "\n".join(sorted({line for line in lines if " bookworm" in line}))


def fresh_root(folder: Path) -> Path:
    """Unpack a minimal Debian 12, which mmdebstrap makes the first time."""
    made = CACHE / "debian-12.tar"
    if not made.exists():
        CACHE.mkdir(exist_ok=True)
        part = made.with_name("debian-12.part.tar")
        command = ["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={INCLUDED}", "bookworm", str(part)]
        # A sources.list on standard input, or the mirror that mmdebstrap takes without one.
        lines = apt_lines()
        done = subprocess.run(
            [*command, *(["-"] if lines else [])], input=lines, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        part.replace(made)
    folder.mkdir()
    # Device nodes cannot be made in every container, and nothing here needs them.
    subprocess.run(["tar", "-x", "-f", made, "-C", folder, "--exclude=./dev/*", "--numeric-owner"], check=True)
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A Debian 12 with the packages for this machine, an onnxruntime and a model."""
    if os.geteuid() != 0:
        pytest.skip("a root of Debian can only be made and entered by root")
    if shutil.which("mmdebstrap") is None:
        pytest.skip("no mmdebstrap here: install Debian's mmdebstrap")
    if platform.machine() != "x86_64":
        pytest.skip(f"the packages for amd64 do not run on {platform.machine()}")
    folder = fresh_root(tmp_path_factory.mktemp("debian") / "root")
    for path in packages("amd64"):
        shutil.copy(path, folder / "tmp")
    (folder / "opt" / "onnxruntime").mkdir()
    shutil.copy(find_onnxruntime(), folder / ONNXRUNTIME.lstrip("/"))
    inside(folder, "dpkg", "-i", *(f"/tmp/{path.name}" for path in packages("amd64")))
    (folder / "etc" / "lstm-edge").mkdir()
    shutil.copy(MODEL, folder / DEVICE_MODEL.lstrip("/"))
    yield folder
    shutil.rmtree(folder)


def inside(root: Path, *command: str, stdin: str | bytes = b"") -> str:
    """Run a command in the root, without this machine's environment; returns its standard output."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "LSTM_EDGE_ONNXRUNTIME": ONNXRUNTIME}
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(
        ["/usr/sbin/chroot", root, *command], input=data, env=environment, capture_output=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return done.stdout.decode()


def frames() -> tuple[np.ndarray, np.ndarray]:
    """Eight frames for the model, and Python's answers."""
    x = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
    stream = Session(MODEL).stream()
    return x, np.array([stream.push(frame) for frame in x])


def test_the_program_inspects_checks_and_streams(root):
    assert inside(root, "lstm-edge-device", "--version") == f"{VERSION}\n"
    shown = json.loads(inside(root, "lstm-edge-device", "inspect", "--json", DEVICE_MODEL))
    assert shown["card"]["task"]
    assert "passed: 2 golden vectors" in inside(root, "lstm-edge-device", "check", DEVICE_MODEL)
    x, expected = frames()
    lines = inside(root, "lstm-edge-device", "run", DEVICE_MODEL, stdin="\n".join(json.dumps(f.tolist()) for f in x))
    got = np.array([json.loads(line) for line in lines.splitlines()], np.float32)
    np.testing.assert_array_equal(got.reshape(expected.shape), expected)


def test_a_program_is_compiled_there_with_pkg_config(root):
    (root / "root" / "app.c").write_text(page_program())
    inside(root, "sh", "-c", "cc /root/app.c $(pkg-config --cflags --libs lstm_edge) -o /root/app")
    x, expected = frames()
    printed = inside(root, "/root/app", DEVICE_MODEL, stdin=x.tobytes())
    got = [[float(word) for word in line.split()] for line in printed.splitlines()]
    assert got == [[float(f"{value:g}") for value in row] for row in expected.reshape(8, -1)]


def test_the_static_library_is_found_by_cmake(root, tmp_path):
    """Outside of the root, which has no C++ compiler."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "app.c").write_text(page_program())
    (source / "CMakeLists.txt").write_text(PROJECT)
    where = root / "usr" / "lib" / "x86_64-linux-gnu" / "cmake" / "lstm_edge"
    folder = compile_with_cmake(source, None, tmp_path / "build", f"-Dlstm_edge_DIR={where}")
    x, expected = frames()
    assert len(run_program(folder / "app", MODEL, stdin=x.tobytes()).splitlines()) == len(expected)
    listed = subprocess.run(["ldd", folder / "app"], check=True, capture_output=True, text=True).stdout
    assert "liblstm_edge" not in listed


def test_the_unit_is_valid_in_the_root(root):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd here")
    command = ["systemd-analyze", "verify", f"--root={root}", "lstm-edge-device@model.service"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert [line for line in done.stderr.splitlines() if "lstm-edge" in line] == []


def test_the_packages_leave_nothing_behind(root):
    before = {path.name for path in (root / "usr" / "share" / "doc").iterdir()}
    assert set(TEXTS.PACKAGES) <= before
    inside(root, "dpkg", "--purge", *TEXTS.PACKAGES)
    left = [path for part in ("usr", "lib", "etc", "var/lib/dpkg/info") for path in (root / part).rglob("*lstm*")]
    assert {path.relative_to(root).as_posix() for path in left} == {"etc/lstm-edge"}
    inside(root, "dpkg", "-i", *(f"/tmp/{path.name}" for path in packages("amd64")))


def test_both_architectures_have_the_same_files():
    names = {}
    for architecture, triplet in (("amd64", "x86_64-linux-gnu"), ("arm64", "aarch64-linux-gnu")):
        names[architecture] = []
        for path in packages(architecture):
            shown = subprocess.run(["dpkg-deb", "-f", path, "Architecture"], check=True, capture_output=True, text=True)
            assert shown.stdout == f"{architecture}\n"
            listed = subprocess.run(["dpkg-deb", "-c", path], check=True, capture_output=True, text=True).stdout
            names[architecture] += [line.replace(triplet, "T") for line in re.findall(r" \./(.*)", listed)]
    assert len(names["amd64"]) > 20
    assert names["amd64"] == names["arm64"]


def test_the_packages_for_arm64_run_on_an_emulated_processor(tmp_path):
    if not (ARM64 / "ready").exists():
        pytest.skip(f"no emulated processor: run tests/arm64/setup.sh {ARM64} {sys.executable}")
    for path in packages("arm64"):
        subprocess.run(["dpkg-deb", "-x", path, tmp_path], check=True)
    [onnxruntime] = (ARM64 / "root").glob("usr/local/lib/python3*/dist-packages/onnxruntime/capi/libonnxruntime.so.*")
    libraries = tmp_path / "usr" / "lib" / "aarch64-linux-gnu"
    settings = [f"LD_LIBRARY_PATH={libraries}", f"LSTM_EDGE_ONNXRUNTIME={onnxruntime}"]
    emulator = [ARM64 / "bin" / "qemu-aarch64-static", "-cpu", "cortex-a72", "-L", ARM64 / "cpu" / "cortex-a72"]
    for setting in settings:
        emulator += ["-E", setting]
    program = tmp_path / "usr" / "bin" / "lstm-edge-device"
    assert run_program(*emulator, program, "--version") == f"{VERSION}\n"
    assert "passed: 2 golden vectors" in run_program(*emulator, program, "check", MODEL)
