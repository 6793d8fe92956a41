"""AddressSanitizer sees the end of every array in the scratch memory: none may be one element too short.

The kernels take all arrays of a call from one block, which an earlier, larger call may have left larger. The test
compiles a copy of the kernels in which one take() at a time asks for one element less than the kernel then uses.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from kernel_build import SOURCES

HERE = Path(__file__).parent
# Without the names of functions in its report, which take seconds to look up.
QUICK = os.environ | {"ASAN_OPTIONS": "symbolize=0"}
TAKE = re.compile(r"(scratch\.take<\w+>\()(.*)(\);)")


def copy_with_short_takes(folder: Path) -> list[str]:
    """Copy the kernels; ``short_take`` says which take() is one element short. Returns the takes."""
    takes: list[str] = []

    def shorten(match):
        takes.append(match[0])
        return f"{match[1]}({match[2]}) - (short_take == {len(takes) - 1}){match[3]}"

    for source in sorted(path for path in SOURCES.iterdir() if path.suffix in (".h", ".cpp")):
        text = TAKE.sub(shorten, source.read_text(encoding="utf-8"))
        if source.name == "scratch.h":
            text = text.replace("namespace lstm_edge", "extern int short_take;\nnamespace lstm_edge", 1)
        (folder / source.name).write_text(text, encoding="utf-8")
    return takes


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++: AddressSanitizer is not tested")
def test_an_array_that_is_one_element_too_short_is_reported(tmp_path):
    takes = copy_with_short_takes(tmp_path)
    assert len(takes) >= 10, takes
    program = tmp_path / "short_takes"
    sources = [tmp_path / "scratch.cpp", tmp_path / "isa_portable.cpp", HERE / "short_takes.cpp"]
    flags = ["-std=c++17", "-O0", "-g1", "-fsanitize=address", "-Wno-psabi", f"-I{tmp_path}"]
    made = subprocess.run(["g++", *flags, *sources, "-o", program], capture_output=True, text=True, check=False)
    if "cannot find" in made.stderr and "libasan" in made.stderr:
        pytest.skip("g++ has no AddressSanitizer here")
    assert made.returncode == 0, made.stderr
    for number, take in enumerate(["none", *takes], start=-1):
        result = subprocess.run(
            [program, str(number)], capture_output=True, text=True, check=False, env=QUICK, timeout=60
        )
        if number < 0:
            assert (result.returncode, result.stdout) == (0, "all layers ran\n"), result.stderr
        else:
            assert result.returncode != 0, f"{take}: one element too short, and no report"
            assert "AddressSanitizer: use-after-poison" in result.stderr, (take, result.stderr)
