"""examples/policy as a new user runs it: trained, exported, quantized, judged by its own metric, driven with resets."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from lstm_edge_runtime.session import Session

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "policy"


@pytest.fixture(scope="module")
def example():
    """The module of the example, under a name of the test's."""
    spec = importlib.util.spec_from_file_location("example_policy", FOLDER / "policy.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["example_policy"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["example_policy"]


@pytest.mark.slow
def test_an_untrained_policy_goes_the_whole_way_and_is_reset(example, tmp_path):
    found = example.main(tmp_path, epochs=2)
    assert set(found) == {"off course", "drop", "float32 reward", "int8 reward"}
    assert found["drop"] <= 0.02
    generator = np.random.default_rng(0)

    def step(start):
        return {
            "observation": generator.normal(size=(3, 7)).astype(np.float32),
            "previous_action": generator.normal(size=(3, 2)).astype(np.float32),
            "episode_start": np.array(start, np.float32),
        }

    stream = Session(tmp_path / "policy.int8.onnx").stream(batch_size=3)
    for _ in range(4):
        stream.push(step([0, 0, 0]))
    again = step([1, 0, 1])
    late = stream.push(again)
    fresh = Session(tmp_path / "policy.int8.onnx").stream(batch_size=3).push(again)
    # The carts whose episode starts forget everything; the other one does not.
    assert np.array_equal(late["action"][[0, 2]], fresh["action"][[0, 2]])
    assert not np.allclose(late["action"][1], fresh["action"][1])


@pytest.mark.long
def test_a_trained_policy_remembers_the_beacon_after_quantization(example, tmp_path):
    found = example.main(tmp_path)
    assert found["off course"] < 0.4
    assert found["drop"] <= 0.02
    assert abs(found["float32 reward"] - found["int8 reward"]) < 0.02
    # A cart that stays where it starts is 1.04 away on average (two points of the square from -1 to 1).
    assert found["int8 reward"] > -0.4


def test_each_page_that_the_example_names_exists_and_has_the_heading():
    links = re.findall(r"\]\(([^)#]+)(?:#([\w-]+))?\)", (FOLDER / "README.md").read_text())
    assert len(links) >= 6
    for path, anchor in links:
        page = (FOLDER / path).resolve()
        assert page.is_file(), path
        headings = [
            re.sub(r"[^a-z -]", "", line.lstrip("# ").lower()).replace(" ", "-")
            for line in page.read_text().splitlines()
        ]
        assert not anchor or anchor in headings, (path, anchor)
