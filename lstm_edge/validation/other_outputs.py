"""Figures of the outputs that a budget does not judge: a model with several outputs may lose where nobody looks."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from lstm_edge.validation.answers import Answers, fit_targets
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import DataError, InputError
from lstm_edge_runtime.metrics import get_metric

__all__ = ["OutputFigures", "other_outputs"]


@dataclass(frozen=True, kw_only=True)
class OutputFigures:
    """One output's metric of both models: accuracy for classes, else the mean squared error; ``drop`` is the loss."""

    output: str
    metric: str
    unit: str
    reference: float
    candidate: float
    drop: float


def other_outputs(old: Answers, new: Answers, measured: str | None) -> tuple[OutputFigures, ...]:
    """Measure every output with a target, except the one that the budget judges.

    An output whose targets have another form, such as 0 or 1 for one score, is left out.
    """
    found = []
    for name in old.data.targets:
        if name == measured:
            continue
        with contextlib.suppress(DataError, InputError):
            found.append(_figures(old, new, name, fit_targets(old, name, "the reference")))
    return tuple(found)


def _figures(old: Answers, new: Answers, name: str, targets: Sequence[Array]) -> OutputFigures:
    classes = targets[0].dtype.kind in "iu" and targets[0].ndim < old.outputs[name][0].ndim
    metric = get_metric("accuracy" if classes else "mean-squared-error")
    first, second = (
        metric.estimate_sequences(answers.outputs[name], targets, per_step=name in answers.timed)
        for answers in (old, new)
    )
    return OutputFigures(
        output=name,
        metric=metric.name,
        unit=metric.unit,
        reference=first.value,
        candidate=second.value,
        drop=metric.loss(first, second).value,
    )
