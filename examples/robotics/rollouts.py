"""A policy's file in a vectorized environment: beside the trainer's policy, and by itself; both trainers use it."""

from collections.abc import Callable

import numpy as np

__all__ = ["advantage", "first_returns", "lockstep", "play"]

# Takes actions [rows, actions] and returns observations, rewards and which episodes ended. The environment starts an
# episode again by itself, so the observation of a row whose episode ended is the first one of the next episode.
Step = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
# Takes observations and which episodes start, float32 [rows]; returns the action and the trainer's states.
TrainersPolicy = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, dict[str, np.ndarray]]]


def lockstep(
    stream, policy: TrainersPolicy, observation: np.ndarray, step: Step, steps: int
) -> tuple[dict[str, tuple[float, float]], int]:
    """Run the file beside the trainer's policy on the same observations; the trainer's actions drive.

    Both carry their own state all the time.

    Returns:
        For the action and each state the worst absolute difference and the largest magnitude, and the number of
        episodes that started again.
    """
    start, worst, resets = np.ones(len(observation), np.float32), {}, 0
    for _ in range(steps):
        expected, states = policy(observation, start)
        answer = stream.push({"observation": observation, "episode_start": start})
        pairs = {"action": (answer, expected)} | {name: (stream.state[name], states[name]) for name in states}
        for name, (got, wanted) in pairs.items():
            difference, size = worst.get(name, (0.0, 0.0))
            # NaN on either side must not pass as a small difference.
            here = float(np.abs(got - wanted).max()) if np.isfinite(got).all() and got.shape == wanted.shape else np.inf
            worst[name] = max(difference, here), max(size, float(np.abs(wanted).max()))
        observation, _, done = step(expected)
        start = done.astype(np.float32)
        resets += int(done.sum())
    return worst, resets


def play(stream, observation: np.ndarray, step: Step, steps: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Let the file drive.

    Returns:
        Arrays that ``quantize --data`` reads, observation float32 [rows, steps, features] and episode_start float32
        [rows, steps]; and the rewards float64 [rows, steps].
    """
    start, seen, rewards = np.ones(len(observation), np.float32), [], []
    for _ in range(steps):
        seen.append((observation, start))
        observation, reward, done = step(stream.push({"observation": observation, "episode_start": start}))
        rewards.append(reward)
        start = done.astype(np.float32)
    observations, starts = (np.stack(part, axis=1).astype(np.float32) for part in zip(*seen, strict=True))
    return {"observation": observations, "episode_start": starts}, np.stack(rewards, axis=1).astype(np.float64)


def first_returns(starts: np.ndarray, rewards: np.ndarray) -> np.ndarray:
    """Return the sum of rewards of the first episode of each row, float64 [rows].

    Args:
        starts: [rows, steps], 1 where an episode starts.
        rewards: [rows, steps].
    """
    return (rewards * (np.cumsum(starts, axis=1) == 1)).sum(axis=1)


def advantage(candidate: np.ndarray, reference: np.ndarray) -> tuple[float, float, float]:
    """Return the mean difference of paired returns, and the ends of its 95 % interval (percentile bootstrap).

    Args:
        candidate: returns [episodes].
        reference: returns of the same starts and the same noise [episodes].
    """
    difference = candidate - reference
    drawn = np.random.default_rng(0).integers(len(difference), size=(10_000, len(difference)))
    low, high = np.quantile(difference[drawn].mean(axis=1), (0.025, 0.975))
    return float(difference.mean()), float(low), float(high)
