"""Every block of code of the tutorials and explanations runs, in the order of its page.

The board is a folder: ``scp`` copies into it and ``ssh`` runs its command there, where neither torch nor onnx can be
imported. Its /opt/lstm-edge is this environment.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
EXPLANATIONS = sorted((ROOT / "docs" / "explanations").glob("*.md"))
BIN = Path(sys.executable).parent
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SAVED = re.compile(r"# (\w+\.py)\n")
STAND_INS = {
    "scp": 'for last; do :; done; [ "$last" = pi@board1: ]; while [ $# -gt 1 ]; do cp "$1" "$BOARD"; shift; done',
    "ssh": '[ "$1" = pi@board1 ]; shift; cd "$BOARD"; command=$(echo "$*" | sed "s,/opt/lstm-edge/bin/,$BIN/,g"); '
    'PYTHONPATH="$BOARD/.without" exec sh -ec "$command"',
}
pytestmark = pytest.mark.long


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """The reader's folder and terminal, beside a board; returns what runs a shell block."""
    desk, board, tools = (tmp_path / name for name in ("desk", "board", "tools"))
    for folder in (desk, board, tools, board / ".without"):
        folder.mkdir()
    for name, body in STAND_INS.items():
        (tools / name).write_text(f"#!/bin/sh -e\n{body}\n")
        (tools / name).chmod(0o755)
    for package in ("torch", "onnx", "lstm_edge_exporters"):
        (board / ".without" / f"{package}.py").write_text("raise ImportError('the board does not have this package')\n")
    environment = os.environ | {"PATH": f"{tools}:{BIN}:{os.environ['PATH']}", "BOARD": str(board), "BIN": str(BIN)}
    monkeypatch.chdir(desk)
    monkeypatch.syspath_prepend(str(desk))

    def shell(block):
        done = subprocess.run(
            ["bash", "-ec", block], env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"

    return shell


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_every_block_runs(page, desk):
    session, ran = {"__name__": "session"}, []
    for number, (language, block) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8"))):
        if saved := SAVED.match(block):
            Path(saved[1]).write_text(block)
        elif language == "python":
            exec(compile(block, f"{page.name}, block {number}", "exec"), session)
        else:
            assert language == "sh", f"{page.name}, block {number}: nothing runs {language!r}"
            desk(block)
        ran.append(language)
    assert ran.count("python") >= 6
    assert ran.count("sh") >= 2
    sys.modules.pop("rod", None)
    if page.stem == "voice-detector":
        # When the made recording begins and ends to speak; the detector may be some frames late.
        times = [float(line.split()[0]) for line in Path("heard.txt").read_text().splitlines()]
        there = session["voices"][0].nonzero()[0] * 0.01
        assert abs(times[0] - there[0]) < 0.1
        assert abs(times[-1] - there[-1]) < 0.1


@pytest.mark.parametrize("page", EXPLANATIONS, ids=lambda page: page.stem)
def test_every_block_of_an_explanation_runs(page):
    for number, (language, block) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8"))):
        assert language == "python", f"{page.name}, block {number}: nothing runs {language!r}"
        exec(compile(block, f"{page.name}, block {number}", "exec"), {"__name__": "block"})


def test_the_tutorials_are_three():
    assert [page.stem for page in TUTORIALS] == ["denoiser", "policy", "voice-detector"]
