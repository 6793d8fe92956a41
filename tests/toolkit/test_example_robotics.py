"""What examples/robotics computes without a trainer; the policies: tests/robotics/policies.py."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "robotics"


@pytest.fixture(scope="module")
def rollouts():
    """The module of the example."""
    spec = importlib.util.spec_from_file_location("example_rollouts", FOLDER / "rollouts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Counter:
    """A stream whose action is the sum of the observations since the last start; an error is added at one step."""

    def __init__(self, error=0.0):
        self.sums, self.steps, self.error = np.zeros(2), 0, error

    def push(self, inputs):
        self.steps += 1
        self.sums = self.sums * (1 - inputs["episode_start"]) + inputs["observation"][:, 0]
        self.state = {"h": self.sums.copy()}
        return self.sums[:, None] + self.error * (self.steps == 3)


def world(lengths):
    """A world whose row r ends every lengths[r] steps; observations are 1, rewards the number of the step."""
    age = np.zeros(2)

    def step(_action):
        nonlocal age
        age = age + 1
        reward, done = age.copy(), age == lengths
        age = age * ~done
        return np.ones((2, 1), np.float32), reward, done

    return np.ones((2, 1), np.float32), step


def twin():
    stream = Counter()

    def policy(observation, start):
        action = stream.push({"observation": observation, "episode_start": start})
        return action, stream.state

    return policy


def test_equal_policies_differ_by_nothing_and_resets_are_counted(rollouts):
    worst, resets = rollouts.lockstep(Counter(), twin(), *world([2, 3]), 12)
    assert worst == {"action": (0.0, 3.0), "h": (0.0, 3.0)}
    assert resets == 12 // 2 + 12 // 3


@pytest.mark.parametrize(("error", "found"), [(0.25, 0.25), (np.nan, np.inf)])
def test_a_difference_at_one_step_is_found_and_nan_is_infinite(rollouts, error, found):
    worst, _ = rollouts.lockstep(Counter(error), twin(), *world([2, 3]), 12)
    assert worst["action"][0] == found
    assert worst["h"][0] == 0


def test_a_return_is_that_of_the_first_episode_of_each_row(rollouts):
    recorded, rewards = rollouts.play(Counter(), *world([2, 3]), 5)
    np.testing.assert_array_equal(recorded["episode_start"], [[1, 0, 1, 0, 1], [1, 0, 0, 1, 0]])
    assert recorded["observation"].shape == (2, 5, 1)
    np.testing.assert_array_equal(rollouts.first_returns(recorded["episode_start"], rewards), [1 + 2, 1 + 2 + 3])


def test_the_interval_is_that_of_paired_differences(rollouts):
    drawn = np.random.default_rng(1)
    luck, loss = 100 * drawn.standard_normal(400), 1 + drawn.standard_normal(400)
    mean, low, high = rollouts.advantage(luck - loss, luck)
    assert mean == pytest.approx(-loss.mean())
    # A mean of 400 has 1.96 standard deviations of 1/20 on each side; unpaired it would have 14.
    assert high - low == pytest.approx(2 * 1.96 * loss.std() / 20, rel=0.05)
    assert low < mean < high


def test_the_versions_are_pinned_and_no_other_torch_is():
    lines = [line for line in (FOLDER / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+", line) for line in lines)
    names = {line.partition("==")[0] for line in lines}
    assert {"rsl-rl-lib", "sb3-contrib"} <= names
    assert "torch" not in names
