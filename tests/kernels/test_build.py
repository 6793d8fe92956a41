"""The build of the kernels: the script's refusals and the hook's choices."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from kernel_build import compiler, load_build

ROOT = Path(__file__).parents[2]


def build_wheel(folder, **environment):
    """Build the runtime's wheel as pip does; returns its name, its members, and what the build printed."""
    code = f"import hatchling.build; print(hatchling.build.build_wheel({str(folder)!r}))"
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("LSTM_EDGE_", "CXX"))}
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT / "runtime",
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    said = " ".join((result.stdout + result.stderr).split())
    wheels = list(Path(folder).glob("*.whl"))
    names = zipfile.ZipFile(wheels[0]).namelist() if wheels else []
    return wheels[0].name if wheels else "", names, said


LIBRARY = "lstm_edge_runtime/kernels/liblstm_edge_kernels.so"


def test_without_a_compiler_the_wheel_is_for_any_platform_and_says_so(tmp_path):
    name, names, said = build_wheel(tmp_path, CXX="no-such-compiler")
    assert name.endswith("-py3-none-any.whl")
    assert LIBRARY not in names
    sentence = (
        "lstm-edge-runtime is installed without its kernels, everything runs on the portable function bodies: no-such"
    )
    assert said.count(sentence) == 1
    # The sources travel, so that an installed package can be compiled in place.
    assert {"lstm_edge_runtime/kernels/build.py", "lstm_edge_runtime/kernels/operators.cpp"} <= set(names)


@pytest.mark.slow
def test_the_warning_gives_the_compilers_reason(tmp_path):
    failing = tmp_path / "failing"
    failing.write_text("#!/bin/sh\necho 'x.cpp: In function f' >&2\necho 'x.cpp:1: error: too old' >&2\nexit 1\n")
    failing.chmod(0o755)
    reasons = {str(failing): "x.cpp:1: error: too old", '"g++': "CXX is not a command (No closing quotation)"}
    for number, (command, reason) in enumerate(reasons.items()):
        name, _, said = build_wheel(tmp_path / str(number), CXX=command)
        assert name.endswith("-py3-none-any.whl")
        assert f"runs on the portable function bodies: {reason}" in said


@pytest.mark.slow
@pytest.mark.parametrize("kernels", ["0", "1", "yes"])
def test_a_build_leaves_nothing_behind(tmp_path, kernels):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    build_wheel(tmp_path / "wheel", CXX="no-such-compiler", LSTM_EDGE_KERNELS=kernels, TMPDIR=str(temporary))
    assert list(temporary.iterdir()) == []


def test_kernels_can_be_left_out(tmp_path):
    name, names, said = build_wheel(tmp_path, LSTM_EDGE_KERNELS="0")
    assert name.endswith("-py3-none-any.whl")
    assert LIBRARY not in names
    assert "without its kernels" not in said


def test_required_kernels_fail_the_build(tmp_path):
    name, _, said = build_wheel(tmp_path, LSTM_EDGE_KERNELS="1", CXX="no-such-compiler")
    assert name == ""
    assert "LSTM_EDGE_KERNELS=1, and the kernels do not compile: no-such-compiler: No such file" in said
    assert "LSTM_EDGE_KERNELS must be 0 or 1, got 'yes'" in build_wheel(tmp_path, LSTM_EDGE_KERNELS="yes")[2]


@pytest.mark.slow
@pytest.mark.skipif(compiler() is None, reason="no C++ compiler (c++, g++, clang++)")
@pytest.mark.long
def test_with_a_compiler_the_wheel_is_for_this_platform(tmp_path):
    name, names, said = build_wheel(tmp_path, LSTM_EDGE_KERNELS="1", LSTM_EDGE_C_LIBRARY="0")
    assert "-py3-none-linux_" in name, said
    assert LIBRARY in names
    assert not [name for name in names if name.startswith("lstm_edge_runtime/c/")]


def test_a_compiler_that_refuses_shows_its_message(tmp_path):
    build = load_build()
    with pytest.raises(build.BuildError, match="no-such-compiler: No such file or directory"):
        build.build(["no-such-compiler"], tmp_path)
    failing = tmp_path / "failing"
    failing.write_text("#!/bin/sh\necho 'error: this compiler is too old' >&2\nexit 1\n")
    failing.chmod(0o755)
    with pytest.raises(build.BuildError, match=r"(?s)-ffp-contract=off.*operators\.cpp.*this compiler is too old"):
        build.build([str(failing)], tmp_path)
    assert not list(tmp_path.glob("*.so"))


@pytest.mark.parametrize(
    ("command", "target", "machine"),
    [
        (["aarch64-linux-gnu-g++"], None, "aarch64"),
        (["x86_64-linux-gnu-g++-12"], None, "x86_64"),
        (["python", "-m", "ziglang", "c++"], "aarch64-linux-gnu.2.28", "aarch64"),
        (["clang++"], "x86_64-linux-gnu", "x86_64"),
    ],
)
def test_the_machine_is_read_from_target_or_compiler(command, target, machine):
    build = load_build()
    assert build._machine(command, target) == machine
    files = dict(build._FILES[machine])
    assert ("isa_neon.cpp" in files) == (machine == "aarch64")
    assert ("isa_avx2.cpp" in files) == (machine == "x86_64")


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        (["aarch64-linux-gnu-g++"], "-march=armv8.2-a+dotprod"),
        (["clang++"], "-march=armv8.2-a+dotprod"),
        (["python", "-m", "ziglang", "c++"], "-mcpu=generic+dotprod"),
        (["/opt/zig/zig", "c++"], "-mcpu=generic+dotprod"),
    ],
)
def test_each_compiler_gets_the_dot_product_in_the_way_that_it_takes(command, flag):
    # g++ 12 refuses arm_neon.h's dot product under -mcpu=generic+dotprod, and so the whole build; zig has no -march.
    assert dict(load_build()._files(command, "aarch64", ()))["isa_neon_dot.cpp"] == (flag,)


def test_no_float_is_contracted():
    # Every flag list has it off; a fused multiply-add would change bits.
    assert "-ffp-contract=off" in load_build()._COMMON
    assert not {"-ffast-math", "-Ofast", "-march=native"} & set(load_build()._COMMON)


@pytest.mark.parametrize("unknown", ["-mavxvnni", "-mamx-int8", "-mno-such-flag"])
def test_a_compiler_without_the_newest_flags_builds_the_rest(tmp_path, unknown):
    build = load_build()
    old = tmp_path / "old"
    old.write_text(f'#!/bin/sh\ncase " $* " in *" {unknown} "*) echo \'unknown option\' >&2; exit 1;; esac\n')
    old.chmod(0o755)
    files = dict(build._files([str(old)], "x86_64", build._COMMON))
    newest = {"-mamx-int8": "isa_amx.cpp", "-mavxvnni": "isa_avxvnni.cpp"}
    there = [name for flag, name in newest.items() if flag != unknown]
    assert [name for name in newest.values() if name in files] == there
    told = {"isa_avxvnni.cpp": "-DLSTM_EDGE_AVXVNNI", "isa_amx.cpp": "-DLSTM_EDGE_AMX"}
    assert files["dispatch.cpp"] == tuple(told[name] for name in there)
    assert {"operators.cpp", "isa_portable.cpp", "isa_avx2.cpp", "isa_avx512vnni.cpp"} <= set(files)
