"""The population stability index (PSI) of a model's inputs against the reference data of its card.

For the shares p of the reference and q of the device in the same bins, PSI = sum over bins of (q - p) ln(q / p), which
is the symmetric Kullback-Leibler divergence (Jeffreys, 1946); the name and the limits 0.1 and 0.25 come from credit
scoring (N. Siddiqi, Credit Risk Scorecards, 2006). A share is (count + 1/2) / (total + bins / 2), so that an empty bin
gives a finite value: the estimator of R. Krichevsky and V. Trofimov (IEEE Transactions on Information Theory 27(2),
1981). Without a change the expected PSI of B bins is about (B - 1) (1/N + 1/M) for N and M independent values.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME, TensorSpec
from lstm_edge_runtime.errors import CardError
from lstm_edge_runtime.reference_data import FeatureHistogram, ReferenceData

__all__ = ["BINS", "MOST_FEATURES", "check_reference", "feature_count", "feature_histograms", "feature_rows", "psi"]

# Deciles: with 10 bins and the window of some 740 rows the index of unchanged inputs is near 0.01 (module docstring).
BINS = 10
# An input with more features (such as an image) has one histogram of all its values: the card would grow by 120 bytes
# and a sampled push by 30 ns for each feature.
MOST_FEATURES = 256


def feature_count(spec: TensorSpec) -> int:
    """Return how many histograms an input has: one for each place of its fixed axes, or 1 above ``MOST_FEATURES``."""
    count = math.prod(axis for axis in spec.axes if not isinstance(axis, str))
    return count if count <= MOST_FEATURES else 1


def feature_rows(spec: TensorSpec, piece: Array) -> Array:
    """Return an array or a piece of an input as [rows, features]; a piece may lack time, and the batch too."""
    axes = list(spec.axes)
    for name in (TIME, BATCH):
        if len(axes) > piece.ndim and name in axes:
            axes.remove(name)
    fixed = [place for place, axis in enumerate(axes) if not isinstance(axis, str)]
    if fixed != list(range(len(axes) - len(fixed), len(axes))):
        piece = np.moveaxis(piece, fixed, range(-len(fixed), 0))
    return piece.reshape(-1, feature_count(spec))


def feature_histograms(rows: Array) -> tuple[FeatureHistogram, ...]:
    """Return the histogram of each feature of the reference data.

    The edges are the nine deciles, each a value of the data, without repetitions. If the lowest decile is also the
    least value, as in silence or in a feature that never changes, a further edge right below it makes smaller values
    visible.

    Args:
        rows: floats [rows, features], at least one row.
    """
    return tuple(_histogram(column) for column in np.ascontiguousarray(rows.T))


def _histogram(column: Array) -> FeatureHistogram:
    deciles = np.quantile(column, np.arange(1, BINS) / BINS, method="inverted_cdf")
    edges = np.unique(deciles.astype(column.dtype))
    least = column.min()
    if edges[0] == least:
        edges = np.concatenate([[np.nextafter(least, column.dtype.type(-np.inf))], edges])
    below = np.searchsorted(np.sort(column), edges, side="right")
    counts = np.diff(below, prepend=0, append=column.size)
    # The shortest decimals that read back as the same float32.
    texts = [str(edge) for edge in edges.astype(column.dtype)]
    return FeatureHistogram(edges=tuple(map(float, texts)), counts=tuple(map(int, counts)))


def check_reference(
    reference: ReferenceData, inputs: Sequence[TensorSpec]
) -> Mapping[str, tuple[FeatureHistogram, ...]]:
    """Return the histograms of a card by input, after a comparison with the model.

    Raises:
        CardError: they contradict the model's inputs, or are no histograms.
    """
    specs = {spec.name: spec for spec in inputs}
    for name, features in reference.inputs.items():
        where = f"model card: card.reference.inputs[{name!r}]"
        spec = specs.get(name)
        if spec is None or np.dtype(spec.dtype).kind != "f":
            raise CardError(f"{where}: the model has no float input of this name")
        if len(features) != feature_count(spec):
            raise CardError(f"{where} has {len(features)} histograms, expected {feature_count(spec)}")
        for index, feature in enumerate(features):
            ascend = all(one < other for one, other in itertools.pairwise(feature.edges))
            total = sum(feature.counts)
            if not 1 <= len(feature.edges) <= BINS or not ascend or len(feature.counts) != len(feature.edges) + 1:
                raise CardError(
                    f"{where}[{index}]: expected 1 to {BINS} ascending edges, and one count more than edges"
                )
            if min(feature.counts) < 0 or not 0 < total < 2**53:
                raise CardError(f"{where}[{index}]: expected counts of at least 0, and one value or more")
    return reference.inputs


def psi(reference: Array, current: Array, exists: Any = True) -> Array:
    """Return the population stability index, float64 [...].

    Args:
        reference: counts of the reference data, [..., bins].
        current: counts of the device, [..., bins]; weights of a decaying window need not be whole numbers.
        exists: which bins exist, [..., bins] or a single value.
    """
    there = np.broadcast_to(np.asarray(exists, bool), np.broadcast_shapes(reference.shape, current.shape))
    half = there.sum(axis=-1, keepdims=True) / 2
    p = (reference + 0.5) / (reference.sum(axis=-1, keepdims=True) + half)
    q = (current + 0.5) / (current.sum(axis=-1, keepdims=True) + half)
    index: Array = np.where(there, (q - p) * np.log(q / p), 0.0).sum(axis=-1)
    return index
