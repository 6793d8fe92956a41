"""A recurrent actor of rsl_rl (RNNModel, LSTM or GRU) as one file with its normalizer and its resets.

``LstmActor``, ``GruActor`` and ``export`` are the recipe. The rest is a small world to try it: rods that a torque holds
upright, with the speed hidden from the policy. ``python rsl_policy.py [FOLDER]`` trains for seconds and exports.
"""

import sys
from pathlib import Path

import torch
from rsl_rl.env import VecEnv
from rsl_rl.models import RNNModel
from rsl_rl.runners import OnPolicyRunner
from tensordict import TensorDict
from torch import Tensor, nn

import lstm_edge

RATE_HZ = 50


class LstmActor(nn.Module):
    """One deterministic step of an actor with an LSTM, as the runner's inference policy makes it.

    Inputs: observation float32 [batch, features] (the groups of ``obs_groups["actor"]``, one after the other),
    episode_start float32 [batch] (1: the state is zeroed before this step), h and c float32 [layers, batch, hidden].
    Returns the action [batch, actions] and the next h and c.
    """

    def __init__(self, model: RNNModel) -> None:
        super().__init__()
        self.normalizer, self.rnn, self.mlp = model.obs_normalizer, model.rnn.rnn, model.mlp
        self.output = (
            nn.Identity() if model.distribution is None else model.distribution.as_deterministic_output_module()
        )

    def forward(
        self, observation: Tensor, episode_start: Tensor, h: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute one step of each row."""
        keep = (1 - episode_start)[None, :, None]
        latent, (h, c) = self.rnn(self.normalizer(observation)[None], (h * keep, c * keep))
        return self.output(self.mlp(latent[0])), h, c


class GruActor(LstmActor):
    """The same with a GRU, which has no c."""

    def forward(self, observation: Tensor, episode_start: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Compute one step of each row."""
        latent, h = self.rnn(self.normalizer(observation)[None], h * (1 - episode_start)[None, :, None])
        return self.output(self.mlp(latent[0])), h


def export(model: RNNModel, path: Path) -> None:
    """Write one verified file; h (and c) come back as outputs, so they are states."""
    rnn = model.rnn.rnn
    lstm = isinstance(rnn, nn.LSTM)
    actor = (LstmActor if lstm else GruActor)(model).eval()
    states = ["h", "c"] if lstm else ["h"]
    example = {"observation": torch.zeros(2, rnn.input_size), "episode_start": torch.zeros(2)}
    example |= {name: torch.zeros(rnn.num_layers, 2, rnn.hidden_size) for name in states}
    lstm_edge.export(actor, example, path, output_names=["action", *(f"{name}_out" for name in states)])


class Rods(VecEnv):
    """Rods that gravity tips over; the policy sees angle and last torque, and an episode ends after 4 s or a fall.

    The observations of a row: angle in tenths of a radian, last torque from -1 to 1.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.num_envs, self.num_actions, self.max_episode_length = count, 1, 4 * RATE_HZ
        self.device, self.cfg = "cpu", {}
        self.random = torch.Generator().manual_seed(seed)
        self.episode_length_buf = torch.zeros(count, dtype=torch.long)
        self.angle, self.speed, self.torque = (torch.zeros(count) for _ in range(3))
        self._start(torch.ones(count, dtype=torch.bool))

    def _start(self, rows: Tensor) -> None:
        """Start an episode of each row that is True."""
        drawn = torch.rand(2, self.num_envs, generator=self.random) * 0.6 - 0.3
        self.angle, self.speed = torch.where(rows, drawn[0], self.angle), torch.where(rows, drawn[1], self.speed)
        self.torque = self.torque.masked_fill(rows, 0)
        self.episode_length_buf = self.episode_length_buf.masked_fill(rows, 0)

    def get_observations(self) -> TensorDict:
        """Return the observations, float32 [count, 2]."""
        seen = torch.stack([10 * self.angle, self.torque], dim=1)
        return TensorDict({"policy": seen}, batch_size=[self.num_envs])

    def step(self, actions: Tensor) -> tuple[TensorDict, Tensor, Tensor, dict]:
        """Move all rods by one step; a reward is 1 less the costs of angle and torque."""
        self.torque = actions[:, 0].clamp(-1, 1)
        pushes = 0.05 * torch.randn(self.num_envs, generator=self.random)
        self.speed = self.speed + (9.81 * torch.sin(self.angle) + 12 * self.torque) / RATE_HZ + pushes
        self.angle = self.angle + self.speed / RATE_HZ
        self.episode_length_buf = self.episode_length_buf + 1
        rewards = 1 - 4 * self.angle.square() - 0.1 * self.torque.square()
        late, fallen = self.episode_length_buf >= self.max_episode_length, self.angle.abs() > 0.8
        self._start(late | fallen)
        return self.get_observations(), rewards, (late | fallen).long(), {"time_outs": late & ~fallen}


def world(count: int, seed: int):
    """Return the first observations float32 [count, 2] and a step function, as ``rollouts.play`` takes them."""
    rods = Rods(count, seed)

    def step(action):
        observation, reward, done, _ = rods.step(torch.from_numpy(action))
        return observation["policy"].numpy(), reward.numpy(), done.numpy()

    return rods.get_observations()["policy"].numpy(), step


def trainers_policy(model: RNNModel):
    """Return the policy as rsl_rl runs it, as ``rollouts.lockstep`` takes it."""
    model.reset()

    def act(observation, start):
        with torch.inference_mode():
            model.reset(torch.from_numpy(start))  # what the trainer does with the dones of the step before
            seen = TensorDict({"policy": torch.from_numpy(observation)}, batch_size=[len(observation)])
            action, state = model(seen), model.get_hidden_state()
        states = state if isinstance(state, tuple) else (state,)
        return action.numpy(), {name: part.numpy().copy() for name, part in zip("hc", states)}  # noqa: B905  # a GRU has no c

    return act


def settings(rnn: str, seed: int) -> dict:
    """Return what the runner is trained with."""
    model = {"class_name": "RNNModel", "hidden_dims": [32], "activation": "elu", "obs_normalization": True}
    model |= {"rnn_type": rnn, "rnn_hidden_dim": 32, "rnn_num_layers": 1}
    noise = {"distribution_cfg": {"class_name": "GaussianDistribution", "init_std": 0.5}}
    return {
        "seed": seed,
        "num_steps_per_env": 32,
        "save_interval": 1000,
        "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
        "actor": model | noise,
        "critic": model,
        "algorithm": {"class_name": "PPO", "learning_rate": 1e-3, "gamma": 0.98, "num_learning_epochs": 4},
    }


def train(iterations: int = 30, *, rnn: str = "lstm", rods: int = 256, seed: int = 0) -> OnPolicyRunner:
    """Return a runner whose policy is trained."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    runner = OnPolicyRunner(Rods(rods, seed), settings(rnn, seed))
    runner.learn(iterations)
    return runner


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    folder.mkdir(parents=True, exist_ok=True)
    export(train().get_inference_policy("cpu"), folder / "rsl_policy.onnx")
