"""Word and character error rates."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.metrics._metric import Counts, Metric

__all__ = ["ErrorRate", "count_edits"]


@dataclass(frozen=True, kw_only=True)
class ErrorRate(Metric):
    """Insertions, deletions and substitutions over the length of the right texts, summed over the whole set.

    ``part``: what is counted. Words are what white space separates; characters are Unicode code points, spaces
    included. Texts are compared as they are: capitals, punctuation and accents count.
    """

    part: Literal["word", "character"]

    def estimate(self, outputs: Any, targets: Any, units: NDArray[np.int64] | None = None) -> Counts:
        """Count edits by text; ``outputs`` and ``targets`` are N texts each; see ``Metric.estimate``."""
        if len(outputs) != len(targets) or not len(targets):
            raise InputError(
                f"metric {self.name}: got {len(outputs)} texts for {len(targets)} right ones, expected one for each"
            )
        pairs = [(self._cut(right), self._cut(found)) for right, found in zip(targets, outputs, strict=True)]
        counts = np.array([(count_edits(right, found), len(right)) for right, found in pairs], np.float64)
        if not counts[:, 1].any():
            raise InputError(f"metric {self.name}: the right texts are all empty, expected a {self.part} at least")
        if units is not None:
            counts = np.stack([np.bincount(units, column) for column in counts.T], axis=1).astype(np.float64)
        return Counts(counts=counts, finish=_rate)

    def _cut(self, text: str) -> Sequence[str]:
        return text.split() if self.part == "word" else text


def _rate(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    # A resample of empty texts alone is measured as if it had one word.
    rate: NDArray[np.float64] = sums[..., 0] / np.maximum(sums[..., 1], 1)
    return rate


def count_edits(right: Sequence[Hashable], found: Sequence[Hashable]) -> int:
    """Return the fewest insertions, deletions and substitutions that turn one sequence into another.

    (Levenshtein's distance by Wagner and Fischer's table, 1974, a row at a time. Within a row, each insertion costs 1:
    the least of ``cost[k] + (j - k)`` over ``k <= j`` is a running minimum of ``cost[k] - k``, plus ``j``.)
    """
    numbers = {symbol: number for number, symbol in enumerate(dict.fromkeys([*right, *found]))}
    columns = np.array([numbers[symbol] for symbol in found], np.int64)
    place = np.arange(len(columns) + 1)
    row = place
    for symbol in right:
        cost = row + 1
        cost[1:] = np.minimum(cost[1:], row[:-1] + (columns != numbers[symbol]))
        row = np.minimum.accumulate(cost - place) + place
    return int(row[-1])
