"""The signal to noise of a quantized file on made inputs: the self-check of a recipe."""

import math
from collections.abc import Mapping

import numpy as np

from lstm_edge_exporters.verify.inputs import InputMaker
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import ParityError
from lstm_edge_runtime.session import Session

__all__ = ["signal_to_noise_db"]

# Calls in a row, and steps of each for a model with a time axis; the state goes from call to call.
CALLS, STEPS = 24, 16
SEED = 7


def signal_to_noise_db(reference: Session, candidate: Session) -> float:
    """Return 10 log10 of the power of the reference's answers over that of the difference.

    Both files get the same seeded inputs, within the ranges of their card, in 24 calls in a row; each keeps its own
    state from call to call. The answers are all outputs and states; integer ones, such as counters, are left out. Each
    array counts by its own power, and the worst array decides.

    Raises:
        ParityError: an answer of the candidate is not finite.
    """
    maker, rng = InputMaker(reference.inputs), np.random.default_rng(SEED)
    powers: dict[str, list[float]] = {}
    states = [session.initial_state() if session.states else None for session in (reference, candidate)]
    for _ in range(CALLS):
        feeds = maker.make(rng, 1, STEPS)
        answers = []
        for index, session in enumerate((reference, candidate)):
            outputs, state = session.run(feeds, states[index])
            states[index] = state if session.states else None
            answers.append({**outputs, **{f"state {name}": array for name, array in dict(state).items()}})
        _add(powers, *answers)
    return min((_decibels(signal, noise) for signal, noise in powers.values() if signal > 0), default=math.inf)


def _add(powers: dict[str, list[float]], expected: Mapping[str, Array], got: Mapping[str, Array]) -> None:
    for name, array in expected.items():
        if array.dtype.kind != "f":
            continue
        if not np.isfinite(got[name]).all():
            raise ParityError(f"the quantized file's {name} is not finite on made inputs")
        signal, noise = powers.setdefault(name, [0.0, 0.0])
        wide = array.astype(np.float64)
        powers[name] = [signal + float(np.sum(wide**2)), noise + float(np.sum((got[name] - wide) ** 2))]


def _decibels(signal: float, noise: float) -> float:
    return 10 * math.log10(signal / noise) if noise else math.inf
