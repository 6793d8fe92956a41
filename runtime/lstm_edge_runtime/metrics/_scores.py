"""Scores of single samples, in float64. N samples, C classes, K values."""

import math

import numpy as np
from numpy.typing import NDArray

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import InputError

__all__ = [
    "absolute_error",
    "bits",
    "check_logits",
    "check_pair",
    "correct",
    "cross_entropy",
    "log_odds",
    "same_decision",
    "squared_error",
]

Scores = NDArray[np.float64]


def correct(outputs: Array, targets: Array) -> Scores:
    """Return 1 where the largest logit is the class's, else 0."""
    check_logits(outputs, targets)
    scores: Scores = (outputs.argmax(axis=1) == targets).astype(np.float64)
    return scores


def same_decision(outputs: Array, targets: Array) -> Scores:
    """Return 1 where the largest logit is that of the reference's class ``targets``, else 0.

    Raises:
        InputError: there is one output only, for which every model decides.
    """
    check_logits(outputs, targets)
    if outputs.shape[1] < 2:
        raise InputError("metric agreement: the model has one output, expected logits of two classes or more")
    return correct(outputs, targets)


def cross_entropy(outputs: Array, targets: Array) -> Scores:
    """Return minus the natural logarithm of the class's softmax probability, in nats."""
    check_logits(outputs, targets)
    logits = outputs.astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)  # so that exp cannot overflow
    scores: Scores = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(targets)), targets]
    return scores


def log_odds(outputs: Array) -> Scores:
    """Return ``log(p / (1 - p))`` of the softmax probabilities p of logits ``[N, C]``, C at least 2.

    In the order of p, and apart where probabilities beside 0 and 1 would be rounded to the same. Sums are over sorted
    numbers: samples whose logits are the same except for their order tie.
    """
    logits = outputs.astype(np.float64)
    ranked = np.sort(logits, axis=1)
    top, second = ranked[:, -1:], ranked[:, -2:-1]
    shifted = logits - top
    rest = second - top + np.log(np.exp(ranked[:, :-1] - second).sum(axis=1, keepdims=True))
    # What is left of the sum without a class that is not the largest is 1 or more: no digits are lost.
    others = np.maximum(1 + np.exp(rest) - np.exp(shifted), 1)
    scores: Scores = np.where(shifted == 0, -rest, shifted - np.log(others))
    return scores


def bits(outputs: Array, targets: Array) -> Scores:
    """Return the cross-entropy in bits."""
    scores: Scores = cross_entropy(outputs, targets) / math.log(2.0)
    return scores


def squared_error(outputs: Array, targets: Array) -> Scores:
    """Return the mean squared difference of each sample's values."""
    return _per_row(np.square(_value_difference(outputs, targets)))


def absolute_error(outputs: Array, targets: Array) -> Scores:
    """Return the mean absolute difference of each sample's values."""
    return _per_row(np.abs(_value_difference(outputs, targets)))


def check_pair(reference: Array, candidate: Array) -> None:
    """Refuse arrays of different shapes, and empty ones."""
    if reference.shape != candidate.shape or reference.size == 0:
        raise InputError(
            f"metric: got shapes {list(reference.shape)} and {list(candidate.shape)}, "
            "expected two equal ones with at least one element"
        )


def check_logits(outputs: Array, targets: Array) -> None:
    """Refuse what is not logits ``[N, C]`` with one of these classes for each sample, an integer ``[N]``."""
    if outputs.ndim != 2 or outputs.size == 0 or targets.shape != outputs.shape[:1]:
        raise InputError(
            f"metric: got outputs {list(outputs.shape)} and classes {list(targets.shape)}, "
            "expected logits [samples, classes] and one class for each sample" + _advice(outputs)
        )
    if targets.dtype.kind not in "iu":
        raise InputError(f"metric: the classes are {targets.dtype}, expected integers")
    if targets.min() < 0 or targets.max() >= outputs.shape[1]:
        raise InputError(
            f"metric: the classes go from {targets.min()} to {targets.max()}, "
            f"but the model has {outputs.shape[1]} outputs: expected 0 to {outputs.shape[1] - 1}"
        )


def _advice(outputs: Array) -> str:
    """Say what to do with an output that has no axis of classes; nothing for others."""
    if outputs.ndim != 1:
        return ""
    if outputs.dtype.kind in "iu":
        return "; this output holds decisions: name the output that holds their logits, as in accuracy:output=NAME"
    return "; this output has no axis of classes: f1 judges one score for each sample, mse values"


def _value_difference(outputs: Array, targets: Array) -> Scores:
    if targets.ndim == 1 and outputs.ndim == 2 and outputs.shape[1] == 1:
        targets = targets[:, np.newaxis]
    check_pair(targets, outputs)
    return outputs.astype(np.float64) - targets.astype(np.float64)


def _per_row(values: Scores) -> Scores:
    rows: Scores = values.reshape(len(values), -1).mean(axis=1)
    return rows
