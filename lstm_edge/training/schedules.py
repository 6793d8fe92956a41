"""The learning rate as a function of the training progress, without state to save or restore."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lstm_edge.training.options import TrainingOptions

__all__ = ["Position", "learning_rate", "share_done"]


@dataclass(frozen=True, kw_only=True)
class Position:
    """The progress of a training.

    Attributes:
        epochs_done: completed epochs.
        updates_done: completed updates in this epoch.
        updates: number of updates in an epoch.
        time_share: used share of ``max_minutes`` or ``max_updates``, whichever is larger; 0 without either.
        held_out_losses: held-out losses of the completed epochs.
    """

    epochs_done: int
    updates_done: int
    updates: int
    time_share: float
    held_out_losses: Sequence[float]


def share_done(options: TrainingOptions, position: Position) -> float:
    """Return the share of the training that is done, 0 to 1: of the epochs, the updates or the time."""
    by_update = (position.epochs_done + position.updates_done / position.updates) / options.epochs
    return min(1.0, max(by_update, position.time_share))


def learning_rate(options: TrainingOptions, position: Position) -> float:
    """Return the rate of the next update."""
    share = share_done(options, position)
    warmup = 1.0
    if share < options.warmup:
        # With a rate of 0 the first update would have no effect.
        warmup = (share + 1 / (position.updates * options.epochs)) / options.warmup
    return options.learning_rate * min(1.0, warmup) * _factor(options, position, share)


def _factor(options: TrainingOptions, position: Position, share: float) -> float:
    if options.schedule == "cosine":
        if options.schedule_by == "epoch" and options.max_minutes is None and options.max_updates is None:
            share = position.epochs_done / options.epochs
        done = max(0.0, share - options.warmup) / (1.0 - options.warmup)
        return (1.0 + math.cos(math.pi * done)) / 2.0
    if options.schedule == "step":
        return options.step_factor ** (position.epochs_done // options.step_epochs)
    if options.schedule == "plateau":
        return options.step_factor ** _plateaus(position.held_out_losses, options.step_epochs)
    return 1.0


def _plateaus(losses: Sequence[float], patience: int) -> int:
    """Count the runs of ``patience`` epochs without a loss lower than the best before."""
    best, waited, found = math.inf, 0, 0
    for loss in losses:
        best, waited = (loss, 0) if loss < best else (best, waited + 1)
        if waited == patience:
            found, waited = found + 1, 0
    return found
