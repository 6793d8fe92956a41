"""Every Python block of README and docs runs, in the order of its page."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/audio.md", "docs/data.md", "docs/pool.md", "docs/sparse.md", "docs/streaming.md")


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_python_block_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found = blocks(page, "python")
    assert found, f"{page} has no Python block: nothing ran"
    for number, block in enumerate(found):
        # Each block in a namespace of its own: a reader copies one of them.
        exec(compile(block, f"{page}, block {number}", "exec"), {"__name__": f"block_{number}"})
    assert list(tmp_path.iterdir())
    if page == "docs/streaming.md":
        run_the_streams_of(page)
    if page == "README.md":
        # The figure that its comment speaks of.
        assert 0 < float(capsys.readouterr().out.splitlines()[0]) < 2e-6


def run_the_streams_of(page):
    """Run the commands of the page on streams, in a shell, with the model that its Python made."""
    shutil.copy(ROOT / "tests" / "device" / "models" / "tagger.onnx", "tagger.onnx")
    frames = np.random.default_rng(0).normal(size=(9, 40))
    Path("frames.jsonl").write_text("".join(f"{frame.tolist()}\n" for frame in frames))
    folders = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    [block] = blocks(page, "sh")
    subprocess.run(["bash", "-ec", block], check=True, env=os.environ | {"PATH": folders}, timeout=600)
    answers, first, rest = (
        [json.loads(line) for line in Path(f"{name}.jsonl").read_text().splitlines()]
        for name in ("answers", "first", "rest")
    )
    # Nine frames and the end; the file that is saved is of a sequence that goes on.
    assert [len(lines) for lines in (answers, first, rest)] == [10, 9, 10]
    assert [answer["scores"] for answer in answers[:9]] == first
    assert {label for answer in answers for label in answer["labels"]} <= {"yes", "no", "other"}


def test_the_data_page_shows_a_file_that_loads(tmp_path, monkeypatch):
    from lstm_edge.data import load

    monkeypatch.chdir(tmp_path)
    exec(blocks("docs/data.md", "python")[0], {})
    data = load("mine.npz", default_split="train")
    assert (len(data), data.features, data.labels) == (12, 3, ("quiet", "loud"))


def test_the_make_targets_shown_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = set(re.findall(r"make ([a-z-]+)", " ".join(blocks("README.md", "sh") + blocks("CONTRIBUTING.md", "sh"))))
    assert shown == targets & shown
    assert {"demo", "test", "check"} <= shown


def test_the_readme_holds_the_demos_table():
    text = (ROOT / "README.md").read_text()
    table = text.partition("<!-- demo: written by")[2].partition("<!-- demo: end -->")[0]
    for row in ("test accuracy, float32", "test accuracy, int8", "self-test of the int8 file", "whole demo"):
        assert row in table
