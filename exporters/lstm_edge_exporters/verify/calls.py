"""Calls in a row, each with the states that the one before left, against the original; fails closed."""

from collections.abc import Mapping, Sequence

import numpy as np

from lstm_edge_exporters.verify.cases import Case, Comparison, within
from lstm_edge_exporters.verify.file_parity import Original, adopted_subjects, full_lengths
from lstm_edge_exporters.verify.inputs import InputMaker, random_state
from lstm_edge_exporters.verify.open_model import OpenModel
from lstm_edge_exporters.verify.parity import check_close
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import StateSpec
from lstm_edge_runtime.errors import ArtifactError

__all__ = ["check_calls"]

CALLS = 3
_SHAPE = Case(batch=2, time=7, calls=CALLS)


def check_calls(
    found: Comparison,
    model: OpenModel,
    original: Original,
    maker: InputMaker,
    *,
    states: Sequence[StateSpec],
    fixed: Mapping[str, Array],
    lengths: str | None,
) -> Comparison:
    """Compare a rewritten file with the original over calls in a row, from a random state and with new inputs each.

    Returns:
        ``found`` with this case added; unchanged where the original does not take its shape.

    Raises:
        ParityError: a difference is over ``EXPORT``.
    """
    rng = np.random.default_rng(41)
    ours = theirs = random_state(states, rng, _SHAPE.batch, zero=False)
    differences = []
    for call in range(CALLS):
        feeds = maker.make(rng, _SHAPE.batch, _SHAPE.time) | full_lengths(lengths, _SHAPE.batch, _SHAPE.time)
        try:
            expected = original.run({**feeds, **theirs, **fixed})
        except ArtifactError:
            return found
        answers = model.answers({**feeds, **ours})
        differences += [
            check_close(f"{name} of call {call + 1}", answers[name], value, adopted_subjects(original))
            for name, value in expected.items()
        ]
        ours = {spec.input: answers[spec.output] for spec in states}
        theirs = {spec.input: expected[spec.output] for spec in states}
    return found.with_case(within(_SHAPE, maker), differences)
