"""Measures how far a quantized file's answers are from those of its float32 parent: a hint, not a verdict."""

import numpy as np

from lstm_edge_exporters.verify.cases import Case, Comparison, input_steps
from lstm_edge_exporters.verify.inputs import InputMaker, random_feeds
from lstm_edge_exporters.verify.open_model import OpenModel
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.card import ModelCard
from lstm_edge_runtime.errors import ArtifactError, ParityError, first_line
from lstm_edge_runtime.providers import RUNTIME_ERRORS

__all__ = ["difference_to"]


def difference_to(
    parent: OpenModel, candidate: OpenModel, card: ModelCard, maker: InputMaker, *, least: int
) -> Comparison:
    """Run both on a few random inputs of ``least`` steps or more; the result goes into the card without a verdict.

    Raises:
        ArtifactError: the parent runs on none of the inputs that were made from its description.
        ParityError: the quantized model gives NaN or infinity where the parent does not.
    """
    rng = np.random.default_rng(11)
    # Of each output: the worst difference, and the greatest answer of the parent.
    found: dict[str, tuple[float, float]] = {}
    ran, refused = [], []
    for batch, time in ((2, 9), (1, 1), (1, 23)):
        case = Case(batch=batch, time=max(input_steps(card, time), least))
        feeds = random_feeds(maker, card, rng, case.batch, case.time)
        try:
            expected = parent.answers(feeds)
        except RUNTIME_ERRORS as error:
            refused.append(f"{case}: {first_line(error)}")
            continue
        answers = candidate.answers(feeds)
        for name, array in expected.items():
            worst, scale = found.get(name, (0.0, 0.0))
            found[name] = max(worst, _worst(answers[name], array)), max(scale, _greatest(array))
        ran.append(case)
    if not ran:
        raise ArtifactError(
            "the model does not run on random inputs made from its own description, so nothing can be compared: "
            + "; ".join(refused)
        )
    worst, scale = max(found.values())
    if not np.isfinite(worst):
        raise ParityError("the quantized model gives NaN or infinity where its float32 parent does not")
    return Comparison(
        against="the float32 parent, random inputs",
        max_abs_difference=worst,
        tolerance=None,
        ran=tuple(ran),
        scale=scale,
    )


def _greatest(array: Array) -> float:
    """The greatest finite absolute value."""
    values = np.abs(array.astype(np.float64))
    return float(np.max(values[np.isfinite(values)], initial=0.0))


def _worst(got: Array, expected: Array) -> float:
    """The greatest absolute difference; infinite where only one side is finite."""
    left, right = got.astype(np.float64), expected.astype(np.float64)
    if not np.array_equal(np.isfinite(left), np.isfinite(right)):
        return float("inf")
    same = np.isfinite(left)
    return float(np.max(np.abs(left[same] - right[same]), initial=0.0))
