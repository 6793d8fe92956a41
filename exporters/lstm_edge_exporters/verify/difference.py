"""How far a quantized file's answers are from those of its float32 parent: a hint, not a verdict."""

from collections.abc import Mapping

import numpy as np

from lstm_edge_exporters.verify.inputs import InputMaker
from lstm_edge_exporters.verify.parity import answers_of, random_lengths, random_state
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import BATCH, TIME, ModelCard, Parity
from lstm_edge_runtime.errors import ArtifactError, ParityError, first_line
from lstm_edge_runtime.providers import RUNTIME_ERRORS, open_session

__all__ = ["difference_to"]


def difference_to(parent: bytes, candidate: bytes, card: ModelCard, maker: InputMaker, *, least: int) -> Parity:
    """Run both on a few random inputs of ``least`` steps or more; the result goes into the card without a verdict.

    Raises:
        ArtifactError: the parent runs on none of the inputs that were made from its description.
        ParityError: the quantized model gives NaN or infinity where the parent does not.
    """
    sessions = [open_session(data) for data in (parent, candidate)]
    rng = np.random.default_rng(11)
    worst, shapes, refused = 0.0, [], []
    for batch, time in ((2, max(9, least)), (1, least), (1, max(23, least))):
        feeds: dict[str, Array] = dict(maker.make(rng, batch, time)) | random_state(card.states, rng, batch, zero=False)
        if card.lengths:
            feeds[card.lengths] = random_lengths(rng, batch, time)
        where = f"{BATCH} {batch}, {TIME} {time}"
        try:
            expected = answers_of(sessions[0], feeds)
        except RUNTIME_ERRORS as error:
            refused.append(f"{where}: {first_line(error)}")
            continue
        worst = max(worst, _worst(answers_of(sessions[1], feeds), expected))
        shapes.append(where)
    if not shapes:
        raise ArtifactError(
            "the model does not run on random inputs made from its own description, so nothing can be compared: "
            + "; ".join(refused)
        )
    if not np.isfinite(worst):
        raise ParityError("the quantized model gives NaN or infinity where its float32 parent does not")
    return Parity(
        against="the float32 parent, random inputs", max_abs_difference=worst, tolerance=None, shapes=tuple(shapes)
    )


def _worst(got: Mapping[str, Array], expected: Mapping[str, Array]) -> float:
    """The greatest absolute difference over all outputs; infinite where only one side is finite."""
    worst = 0.0
    for name, array in expected.items():
        left, right = got[name].astype(np.float64), array.astype(np.float64)
        if not np.array_equal(np.isfinite(left), np.isfinite(right)):
            return float("inf")
        same = np.isfinite(left)
        worst = max(worst, float(np.max(np.abs(left[same] - right[same]), initial=0.0)))
    return worst
