"""examples/keywords as a new user runs it: Lightning trains it, five lines export, judge and stream it."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lstm_edge

pytest.importorskip("lightning")
soundfile = pytest.importorskip("soundfile")
pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "keywords"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The example's folder after both programs ran, and what the second one printed."""
    folder = tmp_path_factory.mktemp("keywords")
    for path in EXAMPLE.glob("*.py"):
        shutil.copy(path, folder)
    path = os.pathsep.join(str(ROOT / part) for part in (".", "exporters", "runtime"))
    printed = ""
    for program in ("spotter.py", "deploy.py"):
        done = subprocess.run(
            [sys.executable, program],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        printed = done.stdout
    return folder, printed


def test_the_programs_say_what_they_heard(folder):
    assert "words/up/0.wav: first answer after 480 samples, at the end up" in folder[1]
    assert "words/down/0.wav: first answer after 480 samples, at the end down" in folder[1]


def test_the_checkpoint_is_lightnings(folder):
    import torch

    assert "pytorch-lightning_version" in torch.load(folder[0] / "last.ckpt", weights_only=False)


def test_the_file_says_what_it_takes_and_how_it_streams(folder):
    card = lstm_edge.Session(folder[0] / "keywords.onnx").card
    assert card.labels == ("beep", "down", "noise", "up")
    assert (card.task, card.quantization.scheme) == ("classification", "int8")
    assert card.front_end.text.startswith("log-mel:40,rate=16000")
    streaming = card.streaming
    assert (streaming.verdict, streaming.first, streaming.every, streaming.latency_steps) == ("last-step", 400, 320, 0)
    assert (folder[0] / "keywords.onnx").stat().st_size < 120_000


def test_streamed_frame_by_frame_it_knows_the_words(folder):
    session = lstm_edge.Session(folder[0] / "keywords.onnx")
    right, paths = 0, sorted((folder[0] / "words").glob("*/*.wav"))
    for path in paths:
        samples = soundfile.read(path, dtype="float32")[0]
        stream, answers = session.stream(), []
        for start in range(0, len(samples), 160):
            answer = stream.push(samples[None, start : start + 160])
            # The first answer comes with the push of sample 400, further ones with every 320 more.
            due = min(start + 160, len(samples)) >= 400 + 320 * len(answers)
            assert len(answer) == due
            answers += [answer] * due
        whole = session.run({"samples": samples[None]})[0]["output"]
        assert np.abs(answers[-1] - whole).max() < 0.05
        right += session.card.labels[answers[-1][0].argmax()] == path.parent.name
    assert right / len(paths) > 0.95


def test_at_most_five_lines_are_about_the_toolkit():
    lines = set()
    for path in EXAMPLE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and "lstm_edge" in ast.unparse(node.func):
                lines.add((path.name, node.lineno))
    assert 0 < len(lines) <= 5
