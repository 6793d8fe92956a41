"""A recurrent policy of sb3-contrib (RecurrentPPO, MlpLstmPolicy) as one file with its normalizer and its resets.

``Actor`` and ``export`` are the recipe. The rest is a small world to try it: gymnasium's Pendulum, balanced near the
top, with the speed hidden from the policy. ``python sb3_policy.py [FOLDER]`` trains for some seconds and exports.
"""

import sys
from pathlib import Path

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor, nn

import lstm_edge


class Actor(nn.Module):
    """One deterministic step of a policy, as ``model.predict(..., deterministic=True)`` makes it.

    Inputs: observation float32 [batch, features] as the environment gives it, episode_start float32 [batch] (1: the
    state is zeroed before this step), h and c float32 [layers, batch, hidden]. Returns the action and the next h and c:
    for a Box float32 [batch, actions], within the limits of the action space, for Discrete int64 [batch].

    Args:
        model: the trained model; observations are vectors, actions in a Box or Discrete.
        normalizer: the ``VecNormalize`` that the model was trained with; None if it was trained without one.

    Raises:
        TypeError: the actions are in another space.
    """

    def __init__(self, model: RecurrentPPO, normalizer: VecNormalize | None = None) -> None:
        super().__init__()
        policy, space = model.policy, model.action_space
        if not isinstance(space, spaces.Box | spaces.Discrete):
            raise TypeError(f"expected actions in a Box or Discrete, got {space}")
        self.lstm, self.head = policy.lstm_actor, nn.Sequential(policy.mlp_extractor.policy_net, policy.action_net)
        self.discrete, self.limit = isinstance(space, spaces.Discrete), float("inf")
        constants = {"mean": np.zeros(self.lstm.input_size), "deviation": np.ones(self.lstm.input_size)}
        if normalizer is not None and normalizer.norm_obs:
            self.limit = normalizer.clip_obs
            statistics = normalizer.obs_rms
            constants = {"mean": statistics.mean, "deviation": np.sqrt(statistics.var + normalizer.epsilon)}
        if not self.discrete:
            constants |= {"low": space.low, "high": space.high}
        for name, value in constants.items():
            self.register_buffer(name, torch.as_tensor(value, dtype=torch.float32))

    def forward(
        self, observation: Tensor, episode_start: Tensor, h: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute one step of each row."""
        normalized = (observation - self.mean) / self.deviation
        if self.limit < float("inf"):
            normalized = normalized.clamp(-self.limit, self.limit)
        keep = (1 - episode_start)[None, :, None]
        latent, (h, c) = self.lstm(normalized[None], (h * keep, c * keep))
        answer = self.head(latent[0])
        return answer.argmax(-1) if self.discrete else answer.clamp(self.low, self.high), h, c


def export(model: RecurrentPPO, normalizer: VecNormalize | None, path: Path) -> None:
    """Write one verified file; h and c come back as outputs, so they are states."""
    actor = Actor(model, normalizer).eval()
    state = torch.zeros(actor.lstm.num_layers, 2, actor.lstm.hidden_size)
    example = {
        "observation": torch.zeros(2, actor.lstm.input_size),
        "episode_start": torch.zeros(2),
        "h": state,
        "c": state,
    }
    lstm_edge.export(actor, example, path, output_names=["action", "h_out", "c_out"])


class HiddenSpeed(gymnasium.Wrapper):
    """Pendulum near the top: the policy sees cosine and sine of the angle, and an episode ends when it falls."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):  # noqa: ARG002  # gymnasium's parameters
        """Start within 0.2 rad and 0.2 rad/s of the top."""
        observation, info = self.env.reset(seed=seed, options={"x_init": 0.2, "y_init": 0.2})
        return observation[:2], info

    def step(self, action):
        """Give a point for each step, less the cost of the angle, the speed and the torque."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation[:2], 1 + float(reward), terminated or observation[0] < 0.5, truncated, info


def environments(count: int, seed: int):
    """Return vectorized environments."""
    return make_vec_env(lambda: HiddenSpeed(gymnasium.make("Pendulum-v1")), n_envs=count, seed=seed)


def world(count: int, seed: int):
    """Return the first observations float32 [count, 2] and a step function, as ``rollouts.play`` takes them."""
    vectorized = environments(count, seed)
    return vectorized.reset(), lambda action: vectorized.step(action)[:3]


def trainers_policy(model: RecurrentPPO, normalizer: VecNormalize | None):
    """Return the policy as sb3-contrib runs it, as ``rollouts.lockstep`` takes it."""
    state = None

    def act(observation, start):
        nonlocal state
        normalized = observation if normalizer is None else normalizer.normalize_obs(observation)
        action, state = model.predict(normalized, state=state, episode_start=start, deterministic=True)
        return action, dict(zip("hc", state, strict=True))

    return act


def train(steps: int = 16_384, seed: int = 0) -> tuple[RecurrentPPO, VecNormalize]:
    """Return a trained model, and the normalizer with its statistics frozen."""
    torch.set_num_threads(1)
    normalizer = VecNormalize(environments(16, seed), norm_reward=True)
    model = RecurrentPPO(
        "MlpLstmPolicy",
        normalizer,
        n_steps=128,
        batch_size=1024,
        n_epochs=10,
        learning_rate=2e-3,
        gamma=0.97,
        gae_lambda=0.9,
        policy_kwargs={"lstm_hidden_size": 32, "net_arch": [32]},
        seed=seed,
        device="cpu",
    )
    model.learn(steps)
    normalizer.training = False
    return model, normalizer


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    folder.mkdir(parents=True, exist_ok=True)
    export(*train(), folder / "sb3_policy.onnx")
