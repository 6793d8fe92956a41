"""A recurrent policy with several inputs and resets: trained, exported, quantized, judged by its own metric, run.

A cart on a plane must drive to a beacon that it sees only in the first steps of an episode, so it must remember it.
``python policy.py [FOLDER]`` trains the policy to act as an expert that knows the beacon, and writes its files there.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import lstm_edge
from lstm_edge_runtime import Session

STEPS, SEEN = 24, 3  # of an episode; with the beacon in sight


class Policy(nn.Module):
    """One step: observation [batch, 7], action of the last step [batch, 2], start of an episode [batch], states.

    Returns the action [batch, 2], its value [batch, 1] (minus the distance to drive), and the next states.
    """

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.encoder, self.cell = nn.Linear(7 + 2, 32), nn.LSTMCell(32, hidden)
        self.action, self.value = nn.Linear(hidden, 2), nn.Linear(hidden, 1)

    def forward(
        self, observation: Tensor, previous_action: Tensor, episode_start: Tensor, h: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute one step of each row; a row whose episode starts forgets the one before."""
        keep = 1 - episode_start[:, None]
        encoded = torch.tanh(self.encoder(torch.cat([observation, previous_action * keep], dim=-1)))
        h, c = self.cell(encoded, (h * keep, c * keep))
        return torch.tanh(self.action(h)), self.value(h), h, c


class Carts:
    """Carts that drive at the same time; an episode that ends starts again elsewhere."""

    def __init__(self, carts: int, seed: int) -> None:
        self.generator, self.age = np.random.default_rng(seed), np.full(carts, STEPS)
        self.position, self.speed, self.beacon = (np.zeros((carts, 2), np.float32) for _ in range(3))

    def observe(self) -> tuple[np.ndarray, np.ndarray]:
        """Return observations float32 [carts, 7] and which episodes start, float32 [carts]."""
        start = self.age == STEPS
        for array in (self.position, self.beacon):
            array[start] = self.generator.uniform(-1, 1, (start.sum(), 2))
        self.speed[start], self.age[start] = 0, 0
        seen = (self.age < SEEN)[:, None]
        parts = (self.position, self.speed, self.beacon * seen, seen)
        return np.concatenate(parts, axis=1).astype(np.float32), start.astype(np.float32)

    def expert(self) -> np.ndarray:
        """Return the best actions, float32 [carts, 2]."""
        return np.clip(4 * (self.beacon - self.position) - 3 * self.speed, -1, 1).astype(np.float32)

    def act(self, action: np.ndarray) -> np.ndarray:
        """Move; return the reward of each cart, minus its distance to the beacon."""
        self.speed += 0.2 * np.clip(action, -1, 1)
        self.position += 0.2 * self.speed
        self.age += 1
        return -np.linalg.norm(self.beacon - self.position, axis=1)


def record(carts: int, seed: int) -> dict[str, np.ndarray]:
    """Let the expert drive one episode with each cart; returns arrays [carts, time, ...] by name."""
    world, steps, rewards = Carts(carts, seed), [], []
    previous = np.zeros((carts, 2), np.float32)
    for _ in range(STEPS):
        observation, start = world.observe()
        action = world.expert()
        steps.append((observation, previous, start, action))
        # The expert's hand is not steady, so the policy also sees how to recover.
        previous = action + 0.3 * world.generator.normal(size=action.shape).astype(np.float32)
        rewards.append(world.act(previous))
    names = ("observation", "previous_action", "episode_start", "action")
    arrays = {name: np.stack(rows, axis=1) for name, rows in zip(names, zip(*steps, strict=True), strict=True)}
    left = np.cumsum(np.stack(rewards, axis=1)[:, ::-1], axis=1)[:, ::-1] / STEPS
    return arrays | {"value": left[..., None].astype(np.float32)}


def train(policy: Policy, arrays: dict[str, np.ndarray], epochs: int) -> None:
    """Imitate the expert, all steps of an episode together."""
    data = {name: torch.from_numpy(array) for name, array in arrays.items()}
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    inputs = [data[name].unbind(1) for name in ("observation", "previous_action", "episode_start")]
    for _ in range(epochs):
        h = c = torch.zeros(len(data["action"]), policy.cell.hidden_size)
        actions, values = [], []
        for step in zip(*inputs, strict=True):
            action, value, h, c = policy(*step, h, c)
            actions.append(action)
            values.append(value)
        loss = nn.functional.mse_loss(torch.stack(actions, 1), data["action"])
        loss = loss + nn.functional.mse_loss(torch.stack(values, 1), data["value"])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def off_course(predictions: dict, targets: dict, lengths: np.ndarray) -> np.ndarray:
    """Return for each episode the share of steps whose action is further than 0.2 from the expert's."""
    wrong = np.abs(predictions["action"] - targets["action"]).max(axis=-1) > 0.2
    return wrong.sum(axis=1) / lengths


off_course.more_is_better = False
off_course.unit = "share"


def drive(stream, carts: int, episodes: int, seed: int) -> float:
    """Drive carts step by step, with the policy's own actions; returns the mean reward of a step."""
    world, action, rewards = Carts(carts, seed), np.zeros((carts, 2), np.float32), []
    for _ in range(episodes * STEPS):
        observation, start = world.observe()
        answer = stream.push({"observation": observation, "previous_action": action, "episode_start": start})
        action = answer["action"]
        rewards.append(world.act(action))
    return float(np.mean(rewards))


def main(folder: Path, epochs: int = 120) -> dict[str, float]:
    """Train, export, quantize, judge and run; returns the share of steps off course, and rewards."""
    torch.manual_seed(0)
    policy = Policy()
    train(policy, record(128, seed=1), epochs)
    np.savez(folder / "episodes.npz", **record(200, seed=2))

    names = {"observation": 7, "previous_action": 2, "episode_start": None, "h": 32, "c": 32}
    example = {name: torch.zeros(2, *([] if size is None else [size])) for name, size in names.items()}
    f32, int8, data = folder / "policy.onnx", folder / "policy.int8.onnx", str(folder / "episodes.npz")
    # What follows is all that the toolkit needs.
    lstm_edge.export(policy.eval(), example, f32, output_names=["action", "value", "h_out", "c_out"])
    lstm_edge.quantize(f32, int8, data=data)
    report = lstm_edge.validate(int8, f32, data, metric=off_course, max_drop="2pt", confidence=0.95)
    report.check()
    rewards = [drive(Session(model).stream(batch_size=16), carts=16, episodes=3, seed=3) for model in (f32, int8)]
    return {
        "off course": report.candidate,
        "drop": report.drop,
        "float32 reward": rewards[0],
        "int8 reward": rewards[1],
    }


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    target.mkdir(parents=True, exist_ok=True)
    for name, value in main(target).items():
        print(f"{name}: {value:.4f}")
