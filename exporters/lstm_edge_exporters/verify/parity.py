"""Compares onnxruntime's answers for a file with the original's over a grid of shapes; fails closed.

The original is a PyTorch module (``pytorch/parity.py``) or another file (``file_parity.py``). Both make trials: an
input, and a call that gives the original's answer to it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from lstm_edge_exporters.verify.cases import Case, Comparison
from lstm_edge_exporters.verify.compare import Difference, Tolerance, compare, worst
from lstm_edge_exporters.verify.open_model import OpenModel
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import ParityError, first_line
from lstm_edge_runtime.providers import RUNTIME_ERRORS

__all__ = ["EXPORT", "HALF", "Refusal", "Subjects", "Trial", "check_close", "check_finite_answers", "run_trials"]


EXPORT = Tolerance(
    name="EXPORT",
    absolute=1e-5,
    reason="two float32 evaluations of one network that sum in different orders: seen 5e-7 at hidden 128 and 1.3e-6 "
    "at hidden 1024 on outputs of order one; a wrong equation is off by 1e-2 and more. Scaled by the largest output "
    "above 1",
)


HALF = Tolerance(
    name="HALF",
    absolute=1e-2,
    reason="a float16 file against its float32 form: onnxruntime rounds what goes from node to node to 11 bits, 5e-4 "
    "of a value of order one: seen 2e-4 in twelve LSTMs of one and two layers of hidden 32. The float32 form itself is "
    "held to EXPORT",
)


class Refusal(Exception):  # noqa: N818  not an error: the original says no to one shape
    """The original refuses a trial's input; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One input for the file, and a call that returns the original's answer or raises ``Refusal``."""

    case: Case
    feeds: Mapping[str, Array]
    ask: Callable[[], Mapping[str, Array]]


@dataclass(frozen=True, kw_only=True)
class Subjects:
    """Names of the file and the original in messages, the original's name in the card, and a hint for failures.

    ``same_outputs``: the file has the original's outputs and no more.
    """

    file: str
    original: str
    against: str
    hint: str = ""
    same_outputs: bool = True
    tolerance: Tolerance = EXPORT


def check_finite_answers(original: str, answers: Mapping[str, Array], inputs: Mapping[str, Array]) -> None:
    """Refuse answers of the original that are not finite: nothing can be compared with them.

    Raises:
        ParityError: there is one; the message says of which input values.
    """
    for name, array in answers.items():
        if array.dtype.kind != "f" or np.isfinite(array).all():
            continue
        what = "NaN" if np.isnan(array).any() else "infinity"
        ranges = [
            f"{key} from {float(value.min()):.3g} to {float(value.max()):.3g}"
            for key, value in inputs.items()
            if value.size and value.dtype.kind in "fiu"
        ]
        raise ParityError(
            f"{original} answers {what} in {name!r} for {', '.join(ranges) or 'its inputs'}: give the range of its "
            'inputs, as in --input "x: float32[batch, time, 40] in [0, 10]", or --example with such values'
        )


def run_trials(model: OpenModel, trials: Iterable[Trial], subjects: Subjects) -> Comparison:
    """Compare a file's answers with the original's; where the original refuses every trial, ``ran`` is empty.

    Raises:
        ParityError: a difference is over ``EXPORT``, the outputs differ in name, or onnxruntime does not run the file.
    """
    differences: list[Difference] = []
    ran, refused = [], []
    for trial in trials:
        try:
            expected = trial.ask()
        except Refusal as error:
            refused.append((trial.case, str(error)))
            continue
        differences += _compare(model, trial, expected, subjects)
        ran.append(trial.case)
    furthest = worst(differences) if ran else None
    return Comparison(
        against=subjects.against,
        max_abs_difference=furthest.max_abs if furthest else 0.0,
        tolerance=subjects.tolerance.absolute,
        ran=tuple(ran),
        refused=tuple(refused),
        scale=furthest.scale if furthest else None,
    )


def _compare(model: OpenModel, trial: Trial, expected: Mapping[str, Array], subjects: Subjects) -> list[Difference]:
    try:
        answers = model.answers(trial.feeds)
    except RUNTIME_ERRORS as error:
        raise ParityError(
            f"onnxruntime does not run {subjects.file} at {trial.case}, which {subjects.original} itself does: "
            f"{first_line(error)}"
        ) from error
    if set(expected) - set(answers) or (subjects.same_outputs and set(answers) != set(expected)):
        raise ParityError(f"{subjects.file} has outputs {sorted(answers)}, {subjects.original} {sorted(expected)}")
    return [check_close(f"{name} at {trial.case}", answers[name], value, subjects) for name, value in expected.items()]


def check_close(what: str, got: Array, expected: Array, subjects: Subjects) -> Difference:
    """Return the difference of two arrays.

    Raises:
        ParityError: it is over ``EXPORT``, or ``compare`` refuses the arrays.
    """
    difference = compare(what, got, expected)
    limit = subjects.tolerance.absolute * max(1.0, float(np.max(np.abs(expected.astype(np.float64)))))
    if not difference.max_abs <= limit:
        raise ParityError(
            f"{subjects.file} is not {subjects.original}: {difference}, tolerance {limit:.1g}; nothing was written"
            f"{subjects.hint}"
        )
    return difference
