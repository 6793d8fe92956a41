"""Interleaved turns: only one worker runs at a time, and each gets a turn in each round."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from given import RefusedError
from workers import Worker

# A worker's name, and what its turn times.
Job = tuple[str, str]

__all__ = ["Job", "Measured", "Plan", "measure", "ratio"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many calls, and how long one order may take.

    Attributes:
        turns: rounds.
        settling: calls of a turn that do not count: they bring the model's weights back into the caches.
        calls: calls of a turn that count.
        limit_s: seconds that a worker may take to answer; then it is stopped.
    """

    turns: int = 9
    settling: int = 10
    calls: int = 150
    limit_s: float = 120


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The median of each turn in microseconds, in the order of the rounds; or the reason why there are none."""

    turns: tuple[float, ...] = ()
    reason: str = ""

    @property
    def us(self) -> float | None:
        """Median of the turns' medians."""
        return float(np.median(self.turns)) if self.turns else None


def measure(workers: Mapping[str, Worker], jobs: Sequence[Job], plan: Plan) -> dict[Job, Measured]:
    """Give every job a turn in each round, in an order that is reversed from round to round.

    A job that fails has no further turns and no result; the others go on.

    Args:
        workers: the workers by name.
        jobs: names and what is timed, ``step``, ``inner`` or ``sequence``.
        plan: how many turns and calls.

    Returns:
        A result for each job.
    """
    times: dict[Job, list[float]] = {job: [] for job in jobs}
    failed: dict[Job, str] = {}
    for number in range(plan.turns):
        for job in jobs if number % 2 == 0 else reversed(jobs):
            if job in failed:
                continue
            name, what = job
            try:
                answer = workers[name].ask(
                    "turn", what=what, settling=plan.settling, calls=plan.calls, limit_s=plan.limit_s
                )
                times[job].append(answer["us"])
            except RefusedError as error:
                failed[job] = str(error)
    return {job: Measured(reason=failed[job]) if job in failed else Measured(turns=tuple(times[job])) for job in jobs}


def ratio(ours: Measured, theirs: Measured) -> float | None:
    """Median over the rounds of the ratio of two turns of one round; None if one of them has no result."""
    if not ours.turns or not theirs.turns:
        return None
    return float(np.median(np.array(ours.turns) / np.array(theirs.turns)))
