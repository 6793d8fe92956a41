"""Histograms of one input of watched streams: of all values, and of a recent window for drift."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import TensorSpec
from lstm_edge_runtime.reference_data import FeatureHistogram
from lstm_edge_runtime.watch.drift import feature_count, feature_rows, psi

__all__ = ["HALF_LIFE_ROWS", "Drift", "InputCounts", "InputReading", "InputSums", "value_edges"]

# Upper bounds of the values' buckets where the card knows no range of the input: decades.
_DECADES = (-1000.0, -100.0, -10.0, -1.0, -0.1, 0.0, 0.1, 1.0, 10.0, 100.0, 1000.0)
# A sampled push counts at most so many of its rows (time steps and rows of the batch), evenly spaced.
MOST_ROWS = 16
# A row in the window for drift weighs half after so many further rows; the weights then add up to about 740.
HALF_LIFE_ROWS = 512
# The index of fewer rows is mostly noise: about 9/N.
LEAST_ROWS = 128


@dataclass(frozen=True, kw_only=True)
class Drift:
    """The population stability index of one input.

    Attributes:
        mean: mean over the features.
        worst: that of the feature that changed most.
        worst_feature: its index in the flattened fixed axes of the input.
        rows: the sum of the weights of the rows in the window.
    """

    mean: float
    worst: float
    worst_feature: int
    rows: float


@dataclass(frozen=True, kw_only=True)
class InputReading:
    """The histogram of all counted values: ``counts[i]`` values are at most ``edges[i]``; the last edge is infinite.

    ``drift`` is None without reference data, and before the window has ``LEAST_ROWS`` rows.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    drift: Drift | None


def value_edges(spec: TensorSpec) -> tuple[float, ...]:
    """Return the upper bounds of an input's buckets: tenths of the card's range or decades, and infinity."""
    if spec.range is not None and len(spec.range) == 2 and spec.range[0] < spec.range[1]:
        least, largest = spec.range
        return (*(least + (largest - least) * tenth / 10 for tenth in range(11)), np.inf)
    return (*_DECADES, np.inf)


@dataclass(frozen=True, kw_only=True, slots=True)
class InputSums:
    """What was counted so far.

    Attributes:
        values: int64 [edges], how many values are at most each edge.
        rows: the weight of the rows in the window.
        below: float64 [bins - 1, features], the weight of the rows in the window that are at most each edge of the
            reference.
    """

    values: Array
    rows: float
    below: Array


class InputCounts:
    """Counts the values of one float input."""

    def __init__(self, spec: TensorSpec, reference: Sequence[FeatureHistogram] | None, pieces: int) -> None:
        """Remember the edges, and make room for the rows of some pieces.

        Args:
            spec: the input.
            reference: the histogram of each feature, or None.
            pieces: how many pieces are taken, at most, before they are counted.
        """
        self.spec = spec
        self._features = feature_count(spec)
        self._held = np.empty((pieces * MOST_ROWS, self._features), spec.dtype)
        self._edges = np.array(value_edges(spec), spec.dtype)
        # The edges of each feature, [edges, features], and the counts [features, bins]; missing bins do not exist.
        most = max((len(feature.edges) for feature in reference or ()), default=0)
        self._own = np.full((most, self._features), np.inf, spec.dtype)
        self._expected = np.zeros((self._features, most + 1))
        self._exists = np.zeros((self._features, most + 1), bool)
        for index, feature in enumerate(reference or ()):
            self._own[: len(feature.edges), index] = feature.edges
            self._expected[index, : len(feature.counts)] = feature.counts
            self._exists[index, : len(feature.counts)] = True

    def nothing(self) -> InputSums:
        """Return sums of no rows."""
        return InputSums(values=np.zeros(self._edges.size, np.int64), rows=0.0, below=np.zeros(self._own.shape))

    def take(self, piece: Array, place: int) -> int:
        """Copy what is counted of a piece, at most ``MOST_ROWS`` of its rows, into the held rows.

        Args:
            piece: what was pushed.
            place: how many rows are held.

        Returns:
            How many rows are held now.
        """
        if piece.size == self._features:  # a frame, whatever axes it has
            self._held[place] = piece if piece.ndim == 1 else piece.reshape(-1)
            return place + 1
        rows = feature_rows(self.spec, piece)
        rows = rows[:: -(-len(rows) // MOST_ROWS)]
        self._held[place : place + len(rows)] = rows
        return place + len(rows)

    def counted(self, sums: InputSums, held: int) -> InputSums:
        """Return the sums with the first ``held`` rows that ``take`` copied."""
        rows = self._held[:held]
        decay = 0.5 ** (held / HALF_LIFE_ROWS)
        # The fastest of six ways: 25 us for 64 rows of 64 features and 9 edges, where a sum of booleans takes 100.
        below = (rows[:, None, :] <= self._own).view(np.uint8).sum(axis=0, dtype=np.uint16)
        return InputSums(
            values=sums.values + [np.count_nonzero(rows <= edge) for edge in self._edges],
            rows=sums.rows * decay + held,
            below=sums.below * decay + below,
        )

    def read(self, sums: InputSums) -> InputReading:
        """Return the histogram, and the drift."""
        return InputReading(
            edges=tuple(float(str(edge)) for edge in self._edges),
            counts=tuple(map(int, sums.values)),
            drift=self._drift(sums),
        )

    def _drift(self, sums: InputSums) -> Drift | None:
        if not self._own.size or sums.rows < LEAST_ROWS:
            return None
        weights = np.diff(sums.below, axis=0, prepend=0.0, append=sums.rows)
        index = psi(self._expected, weights.T, self._exists)
        worst = int(index.argmax())
        return Drift(mean=float(index.mean()), worst=float(index[worst]), worst_feature=worst, rows=sums.rows)
