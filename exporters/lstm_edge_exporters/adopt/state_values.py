"""What the values of states do in calls in a row: states that change no answer, and states that are never negative."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from lstm_edge_exporters.adopt.trial import Runs
from lstm_edge_exporters.verify.inputs import random_state
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, StateSpec, TensorSpec

__all__ = ["idle_states", "with_domains"]

# A delay of one frame shows in the second call, one behind another in the third.
CALLS = 3
# A state that is only compared with a number, such as a count of calls, has to be large to make a difference.
_LARGE = 1000.0


def idle_states(
    trial: Runs,
    inputs: Sequence[TensorSpec],
    sizes: Mapping[str, int],
    states: Sequence[StateSpec],
) -> tuple[StateSpec, ...]:
    """Return the states whose initial value changes no output but states, in calls in a row.

    Args:
        trial: the model.
        inputs: all of its inputs, states too.
        sizes: the size of each named axis.
        states: the states.
    """
    base = random_state(states, np.random.default_rng(43), sizes[BATCH], zero=False)
    expected = _answers(trial, inputs, sizes, states, base)
    if expected is None:
        return ()
    idle = []
    for index, spec in enumerate(states):
        rng = np.random.default_rng(index)
        for size in (1.0, _LARGE):
            changed = (rng.standard_normal(base[spec.input].shape) * size).astype(np.float32)
            answers = _answers(trial, inputs, sizes, states, base | {spec.input: changed})
            if answers is None or any(
                not np.array_equal(one[name], other[name], equal_nan=True)
                for one, other in zip(expected, answers, strict=True)
                for name in one
            ):
                break
        else:
            idle.append(spec)
    return tuple(idle)


def with_domains(
    trial: Runs, inputs: Sequence[TensorSpec], sizes: Mapping[str, int], states: Sequence[StateSpec]
) -> tuple[StateSpec, ...]:
    """Mark packed states as ``nonnegative`` where the model's answers are finite at such values of them alone.

    A running variance goes into a square root, a count divides or picks a place. Arguments as for ``idle_states``.
    """
    marked = tuple(dataclasses.replace(spec, nonnegative=spec.kind == "packed") for spec in states)
    for specs in (states, marked):
        state = random_state(specs, np.random.default_rng(47), sizes[BATCH], zero=False)
        answers = _answers(trial, inputs, sizes, specs, state)
        if answers is not None and all(np.all(np.isfinite(a)) for call in answers for a in call.values()):
            return tuple(specs)
    return tuple(states)


def _answers(
    trial: Runs,
    inputs: Sequence[TensorSpec],
    sizes: Mapping[str, int],
    states: Sequence[StateSpec],
    state: Mapping[str, Array],
) -> list[dict[str, Array]] | None:
    """The answers of calls in a row from a state: all outputs that are not states, else the first output."""
    leaving, found = {spec.output for spec in states}, []
    for seed in range(CALLS):
        answers = trial.run(inputs, sizes, seed=seed, given=state)
        if answers is None:
            return None
        found.append(
            {name: array for name, array in answers.items() if name not in leaving} or dict([*answers.items()][:1])
        )
        state = {spec.input: answers[spec.output] for spec in states}
    return found
