"""The density during a training: 1 at first, then down on a cubic curve, then constant."""

import math
from typing import Any

from lstm_edge_runtime.errors import InputError

__all__ = ["check_density", "density_at"]


def density_at(density: float, progress: float) -> float:
    """Return the density after a share of the schedule: ``density + (1 - density) * (1 - progress)^3``.

    Most blocks go early, while many are superfluous (Zhu and Gupta, To Prune, or Not to Prune, 2017).

    Args:
        density: the final density.
        progress: 0 (nothing is pruned) to 1 (the final density).
    """
    return density + (1.0 - density) * (1.0 - min(1.0, max(0.0, progress))) ** 3


def check_density(what: str, value: Any) -> float:
    """Return a density as a float.

    Raises:
        InputError: it is not a number above 0 and at most 1.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not 0 < value <= 1:
        raise InputError(f"sparsity: {what} is {value!r}, expected a number above 0 and at most 1")
    return float(value)
