"""F1 of events: what a detector finds in a sequence, matched one to one with what happens there.

An event is a run of neighbouring steps, of one of K kinds. Times are steps. Mesaros, Heittola and Virtanen, "Metrics
for polyphonic sound event detection", Applied Sciences 6(6), 2016: an event is right if its onset, and on
request its offset, is at most a tolerance away from that of an event of its kind. As in mir_eval, the pairs are a
largest matching, so no event counts twice and the order of the events has no influence.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.metrics._detections import BACKGROUND, THRESHOLD, Detector, f1_of
from lstm_edge_runtime.metrics._metric import Counts, by_sequence
from lstm_edge_runtime.metrics._options import Option, one_of, whole

__all__ = ["EventF1", "match_runs", "match_times", "runs"]

Scores = NDArray[np.float64]
Marks = NDArray[np.bool_]
Match = Literal["onset", "both", "point"]


@dataclass(frozen=True, kw_only=True)
class EventF1(Detector):
    """F1 of events within ``tolerance`` steps.

    ``match`` says what is compared. ``onset``: the first step of a run. ``both``: the first and the last step.
    ``point``: every step with the target 1 is an event, also beside another one, and a detector's run is one event at
    the step of its highest score, the first of equal ones.
    """

    tolerance: int = 0
    match: Match = "onset"

    options: ClassVar[tuple[Option, ...]] = (
        Option(name="tolerance", parse=whole, form="STEPS"),
        THRESHOLD,
        BACKGROUND,
        Option(name="match", parse=one_of("onset", "both", "point"), form="onset|both|point"),
    )

    def estimate(self, outputs: Any, targets: Any, units: NDArray[np.int64] | None = None) -> Counts:
        """Count pairs, false alarms and misses by sequence; see ``Detector.read`` and ``Metric.estimate``.

        Raises:
            InputError: there are no steps: ``units`` is None; or as for ``Detector.read``.
        """
        if units is None:
            raise InputError(f"metric {self.name}: got one target for each sequence, expected one for each step")
        scores, there = self.read(outputs, targets)
        pairs = zip(by_sequence(scores, units), by_sequence(there, units), strict=True)
        return Counts(counts=np.array([self._count(*pair) for pair in pairs], np.float64), finish=f1_of)

    def _count(self, scores: Scores, there: Marks) -> tuple[int, int, int]:
        """Return hits, false alarms and misses of one sequence; both ``[T, K]``."""
        hits = alarms = misses = 0
        for score, mark in zip(scores.T, there.T, strict=True):
            found = runs(self.found(score))
            if self.match == "both":
                happened = runs(mark)
                pairs, found_count, count = match_runs(found, happened, self.tolerance), len(found), len(happened)
            else:
                times = self._times(score, found)
                happened = np.flatnonzero(mark) if self.match == "point" else runs(mark)[:, 0]
                pairs, found_count, count = match_times(times, happened, self.tolerance), len(times), len(happened)
            hits, alarms, misses = hits + pairs, alarms + found_count - pairs, misses + count - pairs
        return hits, alarms, misses

    def _times(self, score: Scores, found: NDArray[np.int64]) -> Sequence[int] | NDArray[np.int64]:
        if self.match == "point":
            return [int(first + score[first : last + 1].argmax()) for first, last in found]
        return found[:, 0]


def runs(marks: Marks) -> NDArray[np.int64]:
    """Return the first and the last step of each run of True in bool ``[T]``: int64 ``[E, 2]``, in order."""
    edges = np.diff(marks.astype(np.int8), prepend=0, append=0)
    return np.stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1], axis=1).astype(np.int64)


def match_times(found: Any, happened: Any, tolerance: int) -> int:
    """Return the number of pairs of a largest one-to-one matching of two sorted lists of steps.

    The earliest time of each list that still fits one of the other is paired with the earliest such: as all intervals
    have the same width, no other choice gives more pairs.
    """
    i = j = pairs = 0
    while i < len(found) and j < len(happened):
        apart = int(found[i]) - int(happened[j])
        if abs(apart) <= tolerance:
            pairs += 1
        i += apart <= tolerance
        j += apart >= -tolerance
    return pairs


def match_runs(found: NDArray[np.int64], happened: NDArray[np.int64], tolerance: int) -> int:
    """Return the number of pairs of a largest one-to-one matching of runs ``[E, 2]``, both sorted by onset.

    Two runs fit if onsets and offsets are at most ``tolerance`` apart. Pairs are added along augmenting paths (Berge,
    1957), each found by a search in breadth.
    """
    first = np.searchsorted(happened[:, 0], found[:, 0] - tolerance, side="left")
    after = np.searchsorted(happened[:, 0], found[:, 0] + tolerance, side="right")
    fits = [
        [int(j) for j in range(a, b) if abs(happened[j, 1] - run[1]) <= tolerance]
        for run, a, b in zip(found, first, after, strict=True)
    ]
    pairs = _Pairs(fits=fits)
    return sum(pairs.add(start) for start in range(len(found)))


class _Pairs:
    """A matching that grows by one pair at a time; ``fits[i]`` lists the events that happened which i found may be."""

    def __init__(self, *, fits: Sequence[Sequence[int]]) -> None:
        self._fits = fits
        self._found: dict[int, int] = {}  # by event that happened
        self._happened: dict[int, int] = {}  # by event found

    def add(self, start: int) -> bool:
        """Pair the event ``start``, which was found, and shift the pairs on the way; return whether there is a way."""
        came_from: dict[int, int] = {}
        queue = deque([start])
        while queue:
            i = queue.popleft()
            for j in self._fits[i]:
                if j in came_from:
                    continue
                came_from[j] = i
                if j not in self._found:
                    self._shift(j, came_from)
                    return True
                queue.append(self._found[j])
        return False

    def _shift(self, last: int, came_from: dict[int, int]) -> None:
        j: int | None = last
        while j is not None:
            i = came_from[j]
            left = self._happened.get(i)
            self._found[j], self._happened[i] = i, j
            j = left
