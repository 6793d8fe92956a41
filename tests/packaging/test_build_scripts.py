"""What `make wheels` and `make c-cross` refuse, and when the build hook adds the C library to a wheel."""

import importlib.util
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.scripts import load_script

ROOT = Path(__file__).parents[2]
WHEELS, CROSS, ELF = load_script("wheels"), load_script("c_cross"), load_script("elf")
TAG = "manylinux_2_28_aarch64"


def header(machine, flags=0):
    """The first bytes of an ELF file, and two versions of glibc."""
    return b"\x7fELF".ljust(18, b"\0") + struct.pack("<H16xI", machine, flags) + b"GLIBC_2.17\0GLIBC_2.28\0"


GOOD = header(183)
DEFECTS = (
    (GOOD + b"GLIBC_2.29\0", "needs glibc (2, 29), expected at most (2, 28)"),
    (header(183)[:40], "needs glibc None, expected at most (2, 28)"),
    (GOOD + b"GLIBCXX_3.4\0", "needs a C++ library, which a device may lack"),
    (header(62), "is not for aarch64"),
)


@pytest.mark.parametrize(("data", "sentence"), DEFECTS, ids=["new glibc", "no glibc", "C++ library", "other machine"])
def test_a_compiled_file_is_refused(data, sentence):
    assert ELF.problems(GOOD, "aarch64", (2, 28)) == []
    assert ELF.problems(data, "aarch64", (2, 28)) == [sentence]


def test_arm_needs_hard_float():
    assert ELF.problems(header(40, 0x5000400), "armv7", (2, 28)) == []
    assert ELF.problems(header(40, 0x5000200), "armv7", (2, 28)) == ["does not pass floats in registers (hard float)"]


def test_the_needed_libraries_are_those_that_the_linker_loads():
    data = Path(sys.executable).resolve().read_bytes()
    listed = subprocess.run(["ldd", sys.executable], check=True, capture_output=True, text=True).stdout
    needed = ELF.needed_libraries(data)
    assert "libc.so.6" in needed
    assert all(name in listed for name in needed)
    with pytest.raises(ValueError, match="not a 64-bit little-endian ELF file"):
        ELF.needed_libraries(b"\x7fELF\x01\x01")


def wheel_of(path, *, tag=TAG, without=(), mode=0o100755, **changed):
    compiled = {"C_LIBRARY": GOOD, "PROGRAM": GOOD} | changed
    files = {getattr(WHEELS, name, "lib/a.a"): data for name, data in compiled.items()} | dict.fromkeys(
        WHEELS.FILES, b""
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.dist-info/WHEEL", f"Root-Is-Purelib: false\nTag: py3-none-{tag}\n")
        for name, data in files.items():
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            if name not in without:
                archive.writestr(member, data)
    return path


def test_what_make_wheels_refuses(tmp_path):
    path = tmp_path / "a.whl"
    assert WHEELS.problems(wheel_of(path), "aarch64") == []
    for name in ("C_LIBRARY", "PROGRAM"):
        for data, sentence in DEFECTS:
            expected = f"{getattr(WHEELS, name)} {sentence}"
            assert WHEELS.problems(wheel_of(path, **{name: data}), "aarch64") == [expected]
    for name in (WHEELS.C_LIBRARY, WHEELS.PROGRAM, *WHEELS.FILES):
        assert WHEELS.problems(wheel_of(path, without=[name]), "aarch64") == [f"it has no {name}"]
    assert WHEELS.problems(wheel_of(path, mode=0o100644), "aarch64") == [f"{WHEELS.PROGRAM} is not executable"]
    (found,) = WHEELS.problems(wheel_of(path, LIBRARY=GOOD), "aarch64")
    assert found == f"it has the kernels twice, in {WHEELS.C_LIBRARY} and in {WHEELS.LIBRARY}"
    (found,) = WHEELS.problems(wheel_of(path, STATIC=GOOD), "aarch64")
    assert found == "it has a static library, lib/a.a"
    (found,) = WHEELS.problems(wheel_of(path, tag="any"), "aarch64")
    assert found.startswith(f"its WHEEL file does not say py3-none-{TAG}")


def test_what_make_c_cross_refuses(tmp_path):
    names = ("lib/liblstm_edge.so.1", "bin/lstm-edge-device", "include/lstm_edge.h", "lib/liblstm_edge.a")
    names += ("lib/cmake/lstm_edge/lstm_edge-config.cmake",)
    assert CROSS.check(tmp_path, "aarch64") == [f"there is no {name}" for name in names]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(GOOD)
    assert CROSS.check(tmp_path, "aarch64") == []
    assert CROSS.check(tmp_path, "x86_64") == [f"{name} is not for x86_64" for name in names[:2]]


@pytest.fixture
def module():
    """The build hook's file, which belongs to no package."""
    spec = importlib.util.spec_from_file_location("lstm_edge_hook", ROOT / "runtime" / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def hook(module, tmp_path, monkeypatch):
    """The build hook of this checkout, whose kernels need no compiler; ``hook.added`` lists the C libraries."""
    made = module.KernelsHook(str(ROOT / "runtime"), {}, None, None, str(tmp_path), "wheel")
    made.added, made.kernels = [], True
    monkeypatch.setattr(made, "_add_kernels", lambda *_: made.kernels)
    monkeypatch.setattr(made, "_add_c_library", lambda _, wanted: made.added.append(wanted))
    for name in ("LSTM_EDGE_KERNELS", "LSTM_EDGE_C_LIBRARY"):
        monkeypatch.delenv(name, raising=False)
    return made


def run_hook(hook, version="standard"):
    try:
        hook.initialize(version, {})
    finally:
        hook.finalize(version, {}, "")
    return hook.added


def test_a_wheel_has_the_c_library(hook):
    assert run_hook(hook) == [""]


def test_an_editable_install_does_not_wait_for_it(hook):
    assert run_hook(hook, "editable") == []


def test_a_wheel_with_the_c_library_has_no_second_copy_of_the_kernels(hook, monkeypatch):
    kernels = {"made.so": "lstm_edge_runtime/kernels/made.so", "other": "lstm_edge_runtime/c/other"}
    for built, expected in ((True, ["other"]), (False, ["made.so", "other"])):
        monkeypatch.setattr(hook, "_add_c_library", lambda *_, built=built: built)
        data = {"force_include": dict(kernels)}
        hook.initialize("standard", data)
        hook.finalize("standard", data, "")
        assert list(data["force_include"]) == expected


def test_a_wheel_without_kernels_has_no_c_library(hook, monkeypatch):
    hook.kernels = False
    assert run_hook(hook) == []
    monkeypatch.setenv("LSTM_EDGE_C_LIBRARY", "1")
    with pytest.raises(RuntimeError, match="LSTM_EDGE_C_LIBRARY=1, and the wheel has no kernels"):
        run_hook(hook)


def test_the_c_library_can_be_left_out_or_required(hook, monkeypatch):
    monkeypatch.setenv("LSTM_EDGE_C_LIBRARY", "0")
    assert run_hook(hook) == []
    monkeypatch.setenv("LSTM_EDGE_C_LIBRARY", "1")
    assert run_hook(hook) == ["1"]
    monkeypatch.setenv("LSTM_EDGE_C_LIBRARY", "yes")
    with pytest.raises(ValueError, match="LSTM_EDGE_C_LIBRARY must be 0 or 1, got 'yes'"):
        run_hook(hook)


def test_without_cmake_the_wheel_is_built_with_a_warning(module, tmp_path, monkeypatch):
    said, load = [], module._load

    def load_without_cmake(path, name):
        build = load(path, name)
        build.find_cmake = lambda: None
        return build

    monkeypatch.setattr(module, "_load", load_without_cmake)
    monkeypatch.setattr(module.KernelsHook, "app", SimpleNamespace(display_warning=said.append))
    monkeypatch.setenv("CXX", "c++")
    hook = module.KernelsHook(str(ROOT / "runtime"), {}, None, None, str(tmp_path), "wheel")
    hook.folder = SimpleNamespace(name=str(tmp_path))
    hook._add_c_library({}, "")
    reason = "no CMake found: install Debian's cmake, or the Python package cmake"
    assert said == [f"lstm-edge-runtime is installed without its C library: {reason}"]
    with pytest.raises(RuntimeError, match=f"LSTM_EDGE_C_LIBRARY=1, and the C library does not compile: {reason}"):
        hook._add_c_library({}, "1")


def test_a_build_folder_of_another_compiler_starts_anew(tmp_path):
    """CMake drops what it was told with its cache when the compiler changes, so the cache goes first."""
    build = load_script("build", ROOT / "runtime" / "c")
    cache, compiler = tmp_path / "CMakeCache.txt", sys.executable
    cases = (("/nowhere/c++", compiler, False), (compiler, compiler, True), ("/nowhere/c++", None, True))
    for known, asked, kept in cases:
        cache.write_text(f"CMAKE_CXX_COMPILER:FILEPATH={known}\n")
        build._forget_other_compiler(tmp_path, asked)
        assert cache.exists() == kept
