"""How far two models' outputs are apart, whatever the right answer is."""

import math

import numpy as np
from numpy.typing import NDArray

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.metrics._scores import check_logits, check_pair

__all__ = ["agreement", "max_abs_difference", "mean_abs_difference", "snr_db"]


def agreement(reference: Array, candidate: Array) -> float:
    """Return the share of samples for which two models decide for the same class; both ``[N, C]``.

    Raises:
        InputError: the shapes differ, or are not ``[N, C]``.
    """
    check_pair(reference, candidate)
    check_logits(reference, np.zeros(len(reference), dtype=np.int64))
    return float(np.mean(reference.argmax(axis=1) == candidate.argmax(axis=1)))


def max_abs_difference(reference: Array, candidate: Array) -> float:
    """Return the worst absolute difference of two outputs of equal shape.

    Raises:
        InputError: the shapes differ.
    """
    check_pair(reference, candidate)
    return float(np.abs(_wide(candidate) - _wide(reference)).max())


def mean_abs_difference(reference: Array, candidate: Array) -> float:
    """Return the mean absolute difference of two outputs of equal shape.

    Raises:
        InputError: the shapes differ.
    """
    check_pair(reference, candidate)
    return float(np.abs(_wide(candidate) - _wide(reference)).mean())


def snr_db(reference: Array, candidate: Array) -> float:
    """Return the signal-to-noise ratio in dB: ``10 log10(sum(reference²) / sum((candidate - reference)²))``.

    Infinite when the outputs are equal; minus infinity when only the reference is all zeros.

    Raises:
        InputError: the shapes differ.
    """
    check_pair(reference, candidate)
    signal = float(np.sum(np.square(_wide(reference))))
    noise = float(np.sum(np.square(_wide(candidate) - _wide(reference))))
    if noise == 0.0:
        return math.inf
    return 10.0 * math.log10(signal / noise) if signal > 0.0 else -math.inf


def _wide(values: Array) -> NDArray[np.float64]:
    return values.astype(np.float64)
