"""Policies of sb3-contrib and rsl_rl, trained for seconds: the file beside the trainer's policy, resets, int8, rate.

`make test-robotics` runs it in an environment that has the trainers. tests/toolkit/test_example_robotics.py tests what
needs none of them.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import pytest
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.env_util import make_vec_env

import lstm_edge
from lstm_edge_exporters.verify.compare import Tolerance
from lstm_edge_runtime import Session
from lstm_edge_runtime.bench import bench

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "robotics"))

import rollouts
import rsl_policy
import sb3_policy

ROLLOUT = Tolerance(
    name="ROLLOUT",
    absolute=1e-5,
    reason="as EXPORT: two float32 evaluations that sum in different orders; and sb3 normalizes in float64. A step "
    "forgets part of the error of the state before, so 1,000 steps do not add up: worst seen 1.4e-6 at a cell state of "
    "4.7. Scaled by the largest value above 1",
)
ROWS = 16


class Case(NamedTuple):
    """A trained policy: its file and int8 file, its world, and what makes the trainer's policy."""

    float32: Path
    int8: Path
    world: Any
    policy: Any
    normalizer: Any


def exported(name, folder):
    """Train for seconds and write the float32 file; returns the world, the trainer's policy and its normalizer."""
    path = folder / f"{name}.onnx"
    if name == "sb3":
        model, normalizer = sb3_policy.train(4096)
        sb3_policy.export(model, normalizer, path)
        return path, sb3_policy.world, partial(sb3_policy.trainers_policy, model, normalizer), normalizer.obs_rms
    model = rsl_policy.train(10, rnn=name.removeprefix("rsl-")).get_inference_policy("cpu")
    rsl_policy.export(model, path)
    return path, rsl_policy.world, partial(rsl_policy.trainers_policy, model), model.obs_normalizer


@pytest.fixture(scope="module", params=["sb3", "rsl-lstm", "rsl-gru"])
def case(request, tmp_path_factory):
    """A policy of each trainer."""
    folder = tmp_path_factory.mktemp(request.param)
    path, world, policy, normalizer = exported(request.param, folder)
    recorded, _ = rollouts.play(Session(path).stream(batch_size=ROWS), *world(ROWS, 1), 100)
    np.savez(folder / "episodes.npz", **recorded)
    int8 = folder / "int8.onnx"
    lstm_edge.quantize(path, int8, data=str(folder / "episodes.npz"))
    return Case(path, int8, world, policy, normalizer)


def test_a_thousand_steps_with_resets_are_the_trainers_own(case):
    stream = Session(case.float32).stream(batch_size=ROWS)
    worst, resets = rollouts.lockstep(stream, case.policy(), *case.world(ROWS, 2), 1000)
    assert set(worst) == {"action"} | {state.input for state in Session(case.float32).states}
    assert resets >= 3 * ROWS
    for name, (difference, size) in worst.items():
        assert difference <= ROLLOUT.absolute * max(1.0, size), name
        assert size > 0.05, name


def test_the_comparison_sees_another_normalizer_and_a_reset_that_is_left_out(case):
    class Forgetful:
        """A stream that gets the first starts of episodes only."""

        def __init__(self, stream):
            self.stream, self.state, self.first = stream, None, True

        def push(self, inputs):
            starts = inputs["episode_start"] * self.first
            answer = self.stream.push(inputs | {"episode_start": starts})
            self.state, self.first = self.stream.state, False
            return answer

    stream = Forgetful(Session(case.float32).stream(batch_size=ROWS))
    worst, _ = rollouts.lockstep(stream, case.policy(), *case.world(ROWS, 2), 250)
    assert worst["h"][0] > 100 * ROLLOUT.absolute
    mean = case.normalizer.mean if hasattr(case.normalizer, "var") else case.normalizer._mean
    before = mean.copy() if isinstance(mean, np.ndarray) else mean.clone()
    mean += 0.1
    try:
        stream = Session(case.float32).stream(batch_size=ROWS)
        worst, _ = rollouts.lockstep(stream, case.policy(), *case.world(ROWS, 2), 50)
    finally:
        mean[:] = before
    assert worst["h"][0] > 100 * ROLLOUT.absolute


def test_observations_and_actions_are_limited_as_the_trainer_limits_them():
    model, normalizer = sb3_policy.train(0)
    with torch.no_grad():
        model.policy.action_net.weight.mul_(1e3)
    observation = 1e3 * np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    expected, states = sb3_policy.trainers_policy(model, normalizer)(observation, np.ones(64, np.float32))
    assert {-2.0, 2.0} <= set(expected.ravel().tolist())
    actor, zeros = sb3_policy.Actor(model, normalizer), torch.zeros(1, 64, 32)
    with torch.no_grad():
        found = actor(torch.from_numpy(observation), torch.ones(64), zeros, zeros)
    for got, wanted in zip(found, (expected, states["h"], states["c"]), strict=True):
        np.testing.assert_allclose(got.numpy(), wanted, rtol=0, atol=ROLLOUT.absolute)


class HiddenSpeeds(gymnasium.ObservationWrapper):
    """CartPole without its two speeds: position and angle."""

    def __init__(self, env):
        super().__init__(env)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def observation(self, observation):
        return observation[[0, 2]]


def carts(count, seed):
    return make_vec_env(lambda: HiddenSpeeds(gymnasium.make("CartPole-v1")), n_envs=count, seed=seed)


def test_discrete_actions_without_a_normalizer_are_the_trainers_own(tmp_path):
    torch.set_num_threads(1)
    sizes = {"lstm_hidden_size": 32, "net_arch": [32]}
    model = RecurrentPPO(
        "MlpLstmPolicy", carts(ROWS, 0), n_steps=128, batch_size=1024, learning_rate=3e-3, policy_kwargs=sizes, seed=0
    ).learn(8192)
    path, int8 = tmp_path / "carts.onnx", tmp_path / "carts.int8.onnx"
    sb3_policy.export(model, None, path)
    world, policy = carts(ROWS, 2), sb3_policy.trainers_policy(model, None)
    worst, resets = rollouts.lockstep(
        Session(path).stream(batch_size=ROWS), policy, world.reset(), lambda action: world.step(action)[:3], 1000
    )
    assert worst["action"] == (0, 1)  # the same of both actions, and both were taken
    assert resets >= 3 * ROWS
    for name in ("h", "c"):
        difference, size = worst[name]
        assert difference <= ROLLOUT.absolute * max(1.0, size)
        assert size > 0.05
    recorded, _ = rollouts.play(
        Session(path).stream(batch_size=ROWS), world.reset(), lambda action: world.step(action)[:3], 100
    )
    np.savez(tmp_path / "episodes.npz", **recorded)
    lstm_edge.quantize(path, int8, data=str(tmp_path / "episodes.npz"))
    same = []
    streams = [Session(file).stream(batch_size=ROWS) for file in (path, int8)]
    for step in range(100):
        inputs = {name: values[:, step] for name, values in recorded.items()}
        answers = [stream.push(inputs) for stream in streams]
        same.append(np.mean(answers[0] == answers[1]))
    assert answers[1].dtype == np.int64
    assert np.mean(same) > 0.95


def test_actions_of_another_space_are_refused():
    class Two(gymnasium.ActionWrapper):
        """CartPole with a list of one action."""

        def __init__(self, env):
            super().__init__(env)
            self.action_space = gymnasium.spaces.MultiDiscrete([2])

        def action(self, action):
            return action[0]

    model = RecurrentPPO("MlpLstmPolicy", make_vec_env(lambda: Two(gymnasium.make("CartPole-v1"))), device="cpu")
    with pytest.raises(TypeError, match="expected actions in a Box or Discrete, got MultiDiscrete"):
        sb3_policy.Actor(model)


def test_a_row_whose_episode_starts_has_no_memory_and_the_others_keep_theirs(case):
    observation = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    stream = Session(case.float32).stream(batch_size=3)
    for _ in range(5):
        stream.push({"observation": observation, "episode_start": np.zeros(3, np.float32)})
    late = stream.push({"observation": observation, "episode_start": np.float32([1, 0, 1])})
    fresh = Session(case.float32).stream(batch_size=3)
    first = fresh.push({"observation": observation, "episode_start": np.zeros(3, np.float32)})
    np.testing.assert_array_equal(late[[0, 2]], first[[0, 2]])
    assert np.abs(late[1] - first[1]).max() > 1e-4


def test_int8_costs_at_most_a_twentieth_of_the_return(case):
    returns = []
    for path in (case.float32, case.int8):
        recorded, rewards = rollouts.play(Session(path).stream(batch_size=64), *case.world(64, 3), 200)
        returns.append(rollouts.first_returns(recorded["episode_start"], rewards))
    mean, low, high = rollouts.advantage(returns[1], returns[0])
    assert low <= mean <= high
    assert low > -0.05 * returns[0].mean()
    assert not np.array_equal(*returns)  # int8 does something


def test_the_int8_file_is_timed_at_200_hz(case):
    paced = bench(case.int8, rate_hz=200, steps=200).paced
    assert (paced.calls, paced.rate_hz) == (200, 200.0)
