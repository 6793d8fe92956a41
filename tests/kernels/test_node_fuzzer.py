"""The node fuzzer finds what it is made for, and a short run of it finds nothing."""

import dataclasses
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "fuzz"))

import node_replay  # noqa: E402  # needs the path above
import nodes  # noqa: E402
from node_cases import draw  # noqa: E402


def first(wanted):
    """The first case, with calls that are not wrong, that meets a condition."""
    drawn = (draw(1, number) for number in itertools.count())
    return next(node for node in drawn if wanted(node))


def sound(node):
    return node.must == "open" and node.exact and node.ordinary and any(not call.wrong for call in node.calls)


@pytest.mark.slow
def test_a_short_run_finds_nothing(library_path):
    # In a process of its own: the fuzzer forks.
    command = [
        sys.executable,
        str(ROOT / "tests/fuzz/run.py"),
        "nodes",
        "--seconds",
        "0",
        "--least",
        "120",
        "--seed",
        "9",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "faults: 0" in result.stdout
    for verdict in (" ran", " refused by a kernel", " refused by onnxruntime"):
        assert verdict in result.stdout


def test_other_bits_are_a_fault(library):
    node = first(sound)
    assert nodes.check(node) == "ran"
    bias = {**node.weights, "b": np.nextafter(node.weights["b"], np.float32(9))}
    assert "other numbers than the NumPy model's" in nodes.check(dataclasses.replace(node, weights=bias))


def test_the_wrong_verdict_is_a_fault(library):
    node = first(sound)
    assert nodes.check(dataclasses.replace(node, must="refuse")).endswith("was opened")
    refused = first(lambda node: node.must == "refuse")
    assert nodes.check(refused).startswith("refused by ")
    assert nodes.check(dataclasses.replace(refused, must="open")).startswith(f"fault: {refused.name} with ")


def test_an_answer_to_a_wrong_call_is_a_fault(library):
    node = first(sound)
    calls = tuple(dataclasses.replace(call, wrong="x has another shape") for call in node.calls if not call.wrong)
    assert "was answered, though x has another shape" in nodes.check(dataclasses.replace(node, calls=calls))


def test_float32_operators_are_drawn_and_their_answers_compared(library):
    # A layer that runs backward, of which the case says that it runs forward: cut in two it gives another answer.
    backward = first(
        lambda node: (
            node.layer is not None
            and (node.must, node.why, node.layer.attributes.get("direction")) == ("open", "", "reverse")
            and node.layer.states == node.layer.variant.states
            and not node.layer.variant.ragged
            and any(not call.wrong and len(call.feeds["x"]) > 1 for call in node.calls)
        )
    )
    assert nodes.check(backward) == "ran"
    forward = {**backward.layer.attributes, "direction": "forward"}
    mistaken = dataclasses.replace(backward, layer=dataclasses.replace(backward.layer, attributes=forward))
    assert "other bits by ['the first steps', 'the last steps']" in nodes.check(mistaken)
    ordinary = first(
        lambda node: node.layer is not None and node.must == "open" and node.ordinary and not node.calls[0].wrong
    )
    bias = {**ordinary.weights, "b": ordinary.weights["b"] + np.float32(1e-3)}
    assert "from the NumPy model" in nodes.check(dataclasses.replace(ordinary, weights=bias))


@pytest.mark.slow
def test_a_replay_compares_verdicts_bits_and_numbers(library_path, tmp_path):
    folder = tmp_path / "corpus"
    command = [sys.executable, str(ROOT / "tests/fuzz/node_corpus.py"), str(folder), "--seconds", "2", "--seed", "3"]
    environment = os.environ | {"LSTM_EDGE_ISA": "portable"}
    written = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert written.returncode == 0, written.stdout + written.stderr
    assert node_replay.replay(folder, time.monotonic() + 60)[2] == []
    index = json.loads((folder / "index.json").read_text())
    label = next(label for label, entry in index.items() for call in entry["calls"] if call["exact"] and call["digest"])
    others = (
        ({"refused": True}, "opened here"),
        ({"calls": [c | {"digest": "0"} for c in index[label]["calls"]]}, "bits"),
    )
    for change, said in others:
        (folder / "index.json").write_text(json.dumps({label: index[label] | change}))
        _, _, wrong = node_replay.replay(folder, time.monotonic() + 60)
        assert any(said in text for text in wrong)
