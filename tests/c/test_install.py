"""The installed library as others find it: CMake, pkg-config, the program of docs/c.md, the systemd unit."""

import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from support.c_build import ROOT
from support.c_programs import MODEL, answers, compile_with_cmake, install, page_program, run_program

from lstm_edge_runtime import Session
from lstm_edge_runtime.errors import LstmEdgeError

pytestmark = pytest.mark.slow

DOCUMENT = (ROOT / "docs" / "c.md").read_text()
PROJECT = """cmake_minimum_required(VERSION 3.18)
project(app LANGUAGES C CXX)
find_package(lstm_edge 0.1 REQUIRED)
foreach(kind lstm_edge static)
  add_executable(app_${kind} app.c)
  target_link_libraries(app_${kind} PRIVATE lstm_edge::${kind})
  set_target_properties(app_${kind} PROPERTIES LINKER_LANGUAGE CXX)
endforeach()
"""


CPP_POOL = """#include <cstdio>
#include <utility>
#include <lstm_edge.hpp>
int main(int, char** words) {
  lstm_edge::Session session(words[1]);
  lstm_edge::Pool pool = session.pool(2), other = std::move(pool);
  const float x[6] = {};
  const lstm_edge_array frame = lstm_edge::array(x, {6});
  const int64_t one = other.attach();
  lstm_edge::StreamHandle stream = other.stream(one);
  stream.push(frame);
  const int64_t two = other.attach(stream.save());
  lstm_edge_pool_piece pieces[] = {{one, &frame, 1, nullptr, LSTM_EDGE_OK, nullptr},
                                   {two, &frame, 0, nullptr, LSTM_EDGE_OK, nullptr}};
  other.push({pieces, 2});
  std::printf("%d ", int(other.stream(one).steps()));
  std::printf("%d %s\\n", int(other.stream(two).steps()), pieces[1].error);
  other.detach(one);
}
"""


@pytest.fixture(scope="module")
def prefix(c_build, tmp_path_factory):
    return install(tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A project with the program of docs/c.md."""
    folder = tmp_path_factory.mktemp("source")
    (folder / "app.c").write_text(page_program())
    (folder / "CMakeLists.txt").write_text(PROJECT)
    return folder


def test_the_program_of_the_page_is_found_by_cmake_and_gives_the_answers_of_python(source, prefix, tmp_path):
    folder = compile_with_cmake(source, prefix, tmp_path)
    for kind in ("lstm_edge", "static"):
        printed, expected = answers(folder / f"app_{kind}")
        np.testing.assert_array_equal(printed, expected)


def test_the_pool_of_its_page_gives_the_answers_of_pythons(prefix, tmp_path):
    [program] = re.findall(r"```c\n(.*?)```", (ROOT / "docs" / "pool.md").read_text(), re.DOTALL)
    (tmp_path / "app.c").write_text(program)
    (tmp_path / "CMakeLists.txt").write_text(PROJECT)
    folder = compile_with_cmake(tmp_path, prefix, tmp_path / "built", "-DCMAKE_C_FLAGS=-Wall -Wextra -Werror")
    x = np.random.default_rng(0).normal(size=(8, 3, 6)).astype(np.float32)
    x[4, 1, 2] = np.nan
    pool, lines = Session(MODEL).pool(), []
    ids = [pool.attach() for _ in range(3)]
    for frames in x:
        got = pool.push(dict(zip(ids, frames, strict=True)))
        for number in ids:
            answer = got.get(number)
            values = None if answer is None else [f"{value:g} " for value in answer]
            lines.append(str(got.refused[number]) if values is None else "".join(values))
    assert run_program(folder / "app_lstm_edge", MODEL, stdin=x.tobytes()).splitlines() == lines
    assert len(got.refused) == 0


def test_the_wrappers_of_cpp_do_what_the_functions_do(prefix, tmp_path):
    (tmp_path / "app.cpp").write_text(CPP_POOL)
    (tmp_path / "CMakeLists.txt").write_text(PROJECT.replace("app.c)", "app.cpp)"))
    folder = compile_with_cmake(tmp_path, prefix, tmp_path / "built", "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror")
    said = run_program(folder / "app_static", MODEL)
    assert said == "2 1 stream 2: input 'x' is missing; the model's inputs are 'x'\n"


def test_pkg_config_finds_the_library_where_it_was_moved_to(source, prefix, tmp_path):
    if shutil.which("pkg-config") is None:
        pytest.skip("no pkg-config here")
    moved = shutil.copytree(prefix, tmp_path / "moved", symlinks=True)
    [config] = moved.rglob("lstm_edge.pc")
    environment = os.environ | {"PKG_CONFIG_PATH": str(config.parent)}
    command = ["pkg-config", "--cflags", "--libs", "lstm_edge"]
    flags = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.split()
    assert str(prefix) not in config.read_text()
    program = tmp_path / "app"
    libraries = config.parents[1]
    subprocess.run(["cc", source / "app.c", *flags, f"-Wl,-rpath,{libraries}", "-o", program], check=True)
    np.testing.assert_array_equal(*answers(program))


def test_the_library_shows_its_functions_and_no_others(prefix):
    header = (ROOT / "runtime" / "c" / "include" / "lstm_edge.h").read_text()
    declared = set(re.findall(r"^LSTM_EDGE_API .*?(lstm_edge_\w+)\(", header, re.MULTILINE))
    assert len(declared) > 15
    [library] = prefix.rglob("liblstm_edge.so.*.*")
    table = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    assert {line.split()[-1] for line in table.splitlines()} == declared
    dynamic = subprocess.run(["readelf", "-d", library], check=True, capture_output=True, text=True).stdout
    assert "[liblstm_edge.so.1]" in dynamic
    needed = set(re.findall(r"NEEDED.*\[(.*?)\]", dynamic))
    assert not [name for name in needed if name.startswith(("libstdc++", "libz", "libgcc"))], needed


def test_the_statuses_of_the_page_are_those_of_the_header():
    header = (ROOT / "runtime" / "c" / "include" / "lstm_edge.h").read_text()
    declared = dict(re.findall(r"^  (LSTM_EDGE_[A-Z]+) = (\d+),? +/\* (?:no|the|a|onnxruntime)", header, re.MULTILINE))
    rows = re.findall(r"^\| `(LSTM_EDGE_[A-Z]+)` (\d+) \| `?(\w+)`?", DOCUMENT, re.MULTILINE)
    assert {name: number for name, number, _ in rows} == declared
    classes = {
        kind.__name__ for kind in LstmEdgeError.__subclasses__() + LstmEdgeError.__subclasses__()[0].__subclasses__()
    }
    assert {kind for *_, kind in rows if kind not in ("MemoryError", "none")} <= classes


def test_the_unit_is_valid_and_has_no_privileges(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd here")
    unit = (ROOT / "runtime" / "c" / "systemd" / "lstm-edge-device@.service").read_text()
    # The program is not installed here: verify looks for it.
    (tmp_path / "lstm-edge-device@.service").write_text(unit.replace("/usr/bin/lstm-edge-device", "/bin/true"))
    path = tmp_path / "lstm-edge-device@model.service"
    shutil.copy(tmp_path / "lstm-edge-device@.service", path)
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, timeout=60, check=False)
    said = [line for line in done.stderr.splitlines() if "lstm-edge" in line]
    assert said == []
    command = ["systemd-analyze", "security", "--offline=yes", path]
    score = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
    assert float(re.search(r"Overall exposure level for .*?: ([\d.]+)", score)[1]) < 1.0
