"""``make docs-robotics``: train the policies of examples/robotics, and compare the files with the trainers' own.

Prints the tables of docs/robotics.md; ``--write`` puts them there. Runs in the environment of ``make test-robotics``.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import lstm_edge
from lstm_edge_runtime import Session
from lstm_edge_runtime.bench import bench

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples" / "robotics"))

import rollouts  # noqa: E402
import rsl_policy  # noqa: E402
import sb3_policy  # noqa: E402

PAGE = ROOT / "docs" / "robotics.md"
BEGIN, END = "<!-- robotics: written by `make docs-robotics` -->\n", "<!-- robotics: end -->\n"
ROWS, STEPS, EPISODES = 16, 1000, 256
RATE_HZ, PUSHES = 200, 4000


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A policy of a trainer, and what the measurements need of it."""

    title: str
    seconds: float
    world: Callable[[int, int], Any]
    policy: Any
    export: Callable[[Path], None]


def trained() -> list[Trained]:
    """Train a policy of each kind."""
    begin = time.monotonic()
    model, normalizer = sb3_policy.train()
    found = [
        Trained(
            title=f"sb3-contrib {version('sb3-contrib')}, RecurrentPPO, LSTM",
            seconds=time.monotonic() - begin,
            world=sb3_policy.world,
            policy=sb3_policy.trainers_policy(model, normalizer),
            export=lambda path: sb3_policy.export(model, normalizer, path),
        )
    ]
    for kind in ("lstm", "gru"):
        begin = time.monotonic()
        actor = rsl_policy.train(rnn=kind).get_inference_policy("cpu")
        found.append(
            Trained(
                title=f"rsl-rl-lib {version('rsl-rl-lib')}, PPO, {kind.upper()}",
                seconds=time.monotonic() - begin,
                world=rsl_policy.world,
                policy=rsl_policy.trainers_policy(actor),
                export=lambda path, actor=actor: rsl_policy.export(actor, path),
            )
        )
    return found


def returns(path: Path, world: Callable[[int, int], Any]) -> np.ndarray:
    """Return the return of the first episode of each row, float64 [EPISODES]."""
    recorded, rewards = rollouts.play(Session(path).stream(batch_size=EPISODES), *world(EPISODES, 1000), 200)
    return rollouts.first_returns(recorded["episode_start"], rewards)


def rows(policy: Trained, folder: Path) -> tuple[str, list[str]]:
    """Return the row of the first table, and those of the second: one for each file."""
    float32, int8, data = folder / "policy.onnx", folder / "policy.int8.onnx", folder / "episodes.npz"
    policy.export(float32)
    stream = Session(float32).stream(batch_size=ROWS)
    worst, resets = rollouts.lockstep(stream, policy.policy, *policy.world(ROWS, 1), STEPS)
    recorded, _ = rollouts.play(Session(float32).stream(batch_size=ROWS), *policy.world(ROWS, 2), STEPS // 4)
    np.savez(data, **recorded)
    lstm_edge.quantize(float32, int8, data=str(data))
    reference, candidate = (returns(path, policy.world) for path in (float32, int8))
    mean, low, high = rollouts.advantage(candidate, reference)
    differences = "; ".join(f"{name} {difference:.1e} of {size:.2g}" for name, (difference, size) in worst.items())
    first = (
        f"| {policy.title} | {policy.seconds:.0f} s | {differences} | {resets:,} | {reference.mean():.1f} | "
        f"{candidate.mean():.1f} | {mean:+.3f} ({low:+.3f} to {high:+.3f}) |"
    )
    return first, [rate_row(policy.title, path) for path in (float32, int8)]


def rate_row(title: str, path: Path) -> str:
    """Return the row of a file in the table of rates; the load is that of the minute before."""
    report = bench(path, rate_hz=RATE_HZ, steps=PUSHES)
    paced = report.paced
    assert paced is not None
    times = " | ".join(f"{value:,.0f}" for value in (paced.p50_us, paced.p99_us, paced.p999_us, paced.worst_us))
    kind = "int8" if path.name.endswith("int8.onnx") else "float32"
    load = "" if report.before.load is None else f"{report.before.load:.1f}"
    late = f"{paced.worst_wake_us:,.0f} | {paced.missed_deadlines} | {load}"
    return f"| {title} | {kind} | {report.size_bytes:,} | {times} | {late} |"


def group_nice() -> str:
    """Return the nice value of this process's scheduling group (man 7 sched, the autogroup feature)."""
    path = Path("/proc/self/autogroup")
    return path.read_text().split()[-1] if path.exists() else "0"


def text() -> str:
    """Return both tables."""
    first = [
        "| policy | trained in | worst difference of the largest magnitude | resets | float32 return | int8 return | "
        "int8 less float32, 95 % |",
        "|---|---:|---|---:|---:|---:|---|",
    ]
    second = [
        "| policy | file | bytes | p50, µs | p99 | p99.9 | worst | latest start | missed deadlines | load |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for policy in trained():
        with tempfile.TemporaryDirectory(prefix="lstm-edge-robotics-") as folder:
            row, rates = rows(policy, Path(folder))
        first.append(row)
        second += rates
    said = (
        f"`lstm-edge bench --rate {RATE_HZ} --steps {PUSHES}`: Python on a shared machine of {os.cpu_count()} cores, "
        f"in a scheduling group of the nice value {group_nice()}. Load is the system's load average before: above the "
        "number of cores, processes wait for each other."
    )
    return "\n".join([*first, "", said, "", *second])


def main() -> None:
    """Measure and print, or write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="put the tables into docs/robotics.md")
    chosen, found = parser.parse_args(), text()
    print(found)
    if chosen.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{found}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
