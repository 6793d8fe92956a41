"""Comparison of models of any form: several named inputs and outputs, any axes, states, steps without a time axis.

Called by ``lstm_edge.validation.judge.Judge``. Imports only NumPy and the runtime package: it runs on the device.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from lstm_edge.data import NamedDataset
from lstm_edge.data._sequences import class_numbers
from lstm_edge.data.naming import ONLY_TARGET
from lstm_edge.validation.answers import Answers, answer, fit_targets
from lstm_edge.validation.other_outputs import other_outputs
from lstm_edge.validation.own_metric import OwnMetric
from lstm_edge.validation.predictions import OpenModel, Source, name_of
from lstm_edge.validation.report import Budget, ValidationReport, weigh
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.metrics import (
    Estimate,
    Metric,
    agreement,
    max_abs_difference,
    mean_abs_difference,
    snr_db,
)

__all__ = ["NamedJudge", "choose_output"]

Progress = Callable[[int, int], None]
Rows = tuple[Array, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Reference:
    """The reference's answers, the targets by output in the order of its axes, the measured output, the estimate.

    ``output`` is None if a function of the user's takes all outputs.
    """

    answers: Answers
    targets: Mapping[str, Rows]
    output: str | None
    estimate: Estimate

    @property
    def steps(self) -> int | None:
        """Number of steps of all sequences, if the measured output has a time axis; else None."""
        if self.output is None or self.output not in self.answers.timed:
            return None
        return sum(len(row) for row in self.answers.outputs[self.output])


class NamedJudge:
    """Evaluates candidates on named arrays; the reference is run once, for the first candidate."""

    def __init__(
        self, reference: Source, data: NamedDataset, *, metric: Metric, seed: int, open_model: OpenModel
    ) -> None:
        self._source, self._data, self._metric = reference, _with_output(data, metric.output), metric
        self._seed, self._open = seed, open_model
        self._reference: _Reference | None = None

    def judge(
        self, candidate: Source, *, budget: Budget, confidence: float | None, on_progress: Progress | None
    ) -> ValidationReport:
        """Run the candidate, and the reference if it has not been run; see ``judge.Judge.judge``."""
        count = len(self._data)
        before = count if self._reference is None else 0
        total = before + count
        old = self._run_reference(_offset(on_progress, 0, total))
        name = name_of(candidate)
        new = self._answer(candidate, _offset(on_progress, before, total))
        _check_alike(name, old.answers, new)
        estimate = self._estimate(name, old.answers, new, old.targets, old.output)
        fields = weigh(self._metric, old.estimate, estimate, budget, confidence=confidence, seed=self._seed)
        worst, mean, snr, scale = _differences(old, new)
        steps = old.steps
        return ValidationReport(
            **fields,
            data=self._data.name,
            samples=count if steps is None else steps,
            samples_are="sequences" if steps is None else "steps",
            agreement=_agreement(old, new),
            max_abs_difference=worst,
            mean_abs_difference=mean,
            snr_db=snr,
            reference_bytes=old.answers.size_bytes,
            candidate_bytes=new.size_bytes,
            others=other_outputs(old.answers, new, old.output),
            output_scale=scale,
        )

    def _answer(self, source: Source, on_sample: Callable[[int], None] | None) -> Answers:
        session = self._open(source)
        return answer(name_of(source), session, self._data, on_sample=on_sample)

    def _run_reference(self, on_sample: Callable[[int], None] | None) -> _Reference:
        if self._reference is None:
            name = name_of(self._source)
            answers = self._answer(self._source, on_sample)
            own = isinstance(self._metric, OwnMetric) and self._metric.takes_names(len(answers.outputs))
            output = None if own else choose_output(self._metric, answers, name)
            wanted = answers.data.targets if own else {key for key in answers.data.targets if key == output}
            targets = {key: _numbered(answers, key, fit_targets(answers, key, name)) for key in wanted}
            estimate = self._estimate(name, answers, answers, targets, output)
            self._reference = _Reference(answers=answers, targets=targets, output=output, estimate=estimate)
        return self._reference

    def _estimate(
        self, name: str, old: Answers, new: Answers, targets: Mapping[str, Rows], output: str | None
    ) -> Estimate:
        """Measure one output, or with a function of the user's all outputs."""
        metric = self._metric
        try:
            if isinstance(metric, OwnMetric):
                if output is None:
                    inputs = new.bound.seen() if metric.parameters > 3 else {}
                    return metric.estimate_named(new.outputs, targets, new.lengths, inputs)
                return metric.estimate_rows(new.outputs[output], targets[output], timed=output in new.timed)
            assert output is not None
            rows = new.outputs[output]
            if metric.target == "reference":
                decided = tuple(np.asarray(row.argmax(axis=-1)) for row in old.outputs[output])
                return metric.estimate_sequences(rows, decided, per_step=output in new.timed)
            return metric.estimate_sequences(rows, targets[output], per_step=output in new.timed)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error


def _with_output(data: NamedDataset, output: str | None) -> NamedDataset:
    """Return the data, with a target that has no name as that of the output that the metric names."""
    if output is None or len(data.targets) != 1:
        return data
    [(name, rows)] = data.targets.items()
    return dataclasses.replace(data, targets={output: rows}) if name in ONLY_TARGET else data


def choose_output(metric: Metric, answers: Answers, model: str) -> str:
    """Return the output that a metric measures: the one that it names, the only one with a target, or the only one.

    Raises:
        InputError: there is none, several are possible, or its targets are of another kind than the metric's.
    """
    data = answers.data
    with_targets = tuple(name for name in answers.outputs if name in data.targets)
    possible = with_targets if metric.target != "reference" else tuple(answers.outputs)
    if metric.output is None and metric.target == "reference" and len(with_targets) == 1:
        possible = with_targets
    output = metric.output or (possible[0] if len(possible) == 1 else None)
    if output is None and possible:
        got = f"data {data.name} has targets for" if metric.target != "reference" else f"{model} has the outputs"
        raise InputError(
            f"metric {metric.name}: {got} {', '.join(possible)}; name the output to "
            f"measure, such as {metric.name}:output={possible[0]}, or give a function that takes all outputs"
        )
    if output is None or (metric.target != "reference" and output not in data.targets):
        of = "" if output is None else f" for the output {output!r}"
        raise InputError(
            f"metric {metric.name}: data {data.name} has no targets{of} for {model}; expected the key "
            f"{f'target.{output}' if output else 'y, or target.NAME for an output NAME'}"
        )
    if metric.target != "reference":
        _check_kind(metric, data, output)
    return output


def _check_kind(metric: Metric, data: NamedDataset, output: str) -> None:
    kind = np.asarray(data.targets[output][0]).dtype
    wanted = {"class": "integer classes", "token": "a text", "text": "a text for each sequence"}.get(metric.target)
    if wanted is not None and not (metric.target == "class" and kind.kind in "iu"):
        raise InputError(
            f"metric {metric.name}: the targets of {output!r} in data {data.name} are {kind}, expected {wanted}"
        )


def _check_alike(name: str, old: Answers, new: Answers) -> None:
    """Refuse a candidate with other outputs or labels than the reference."""
    if tuple(old.outputs) != tuple(new.outputs):
        raise InputError(
            f"{name}: its outputs are {', '.join(new.outputs)}, the reference's {', '.join(old.outputs)}; expected the "
            "same names"
        )
    for output, rows in old.outputs.items():
        for number, (row, other) in enumerate(zip(rows, new.outputs[output], strict=True)):
            if row.dtype.kind != other.dtype.kind or row.shape != other.shape:
                raise InputError(
                    f"{name}: output {output!r} of sequence {number} is {other.dtype} {list(other.shape)}, the "
                    f"reference's is {row.dtype} {list(row.shape)}; expected the same shape"
                )
    if old.labels and new.labels and new.labels != old.labels:
        raise InputError(f"{name}: its labels differ from the reference's; expected the same names")


def _numbered(answers: Answers, output: str, rows: Rows) -> Rows:
    """Return classes with the model's numbers, matched by name; see ``Dataset.for_model``."""
    labels, data = answers.labels, answers.data
    outputs = answers.outputs[output]
    if not data.labels or rows[0].dtype.kind not in "iu" or outputs[0].ndim != rows[0].ndim + 1:
        return rows
    if outputs[0].shape[-1] == 1 and len(data.labels) == 2 and len(labels) < 2:
        return rows  # one score for the second of two classes
    if not labels and not all(label.isascii() and label.isdecimal() for label in data.labels):
        return rows
    present = np.unique(np.concatenate([row.reshape(-1) for row in rows]))
    numbers = class_numbers(data.name, present, own=data.labels, labels=labels, classes=outputs[0].shape[-1])
    table = np.zeros(int(present.max()) + 1, dtype=np.int64)
    table[list(numbers)] = list(numbers.values())
    return tuple(np.asarray(table[row]) for row in rows)


def _agreement(old: _Reference, new: Answers) -> float | None:
    """Return the share of equal decisions, for an output of logits with classes."""
    if old.output is None or old.output not in old.targets:
        return None
    targets, outputs = old.targets[old.output], old.answers.outputs[old.output]
    if targets[0].dtype.kind not in "iu" or outputs[0].ndim != targets[0].ndim + 1 or outputs[0].shape[-1] < 2:
        return None
    first, second = (_joined(answers.outputs[old.output]) for answers in (old.answers, new))
    return agreement(first, second)


def _joined(rows: Rows) -> Array:
    return np.concatenate([row.reshape(-1, row.shape[-1]) for row in rows])


def _differences(old: _Reference, new: Answers) -> tuple[float | None, ...]:
    """Return the worst and the mean difference, the signal to noise in dB, and the reference's greatest absolute value.

    They are of the measured output, or of all outputs of floats if a function takes all.
    """
    measured = tuple(old.answers.outputs) if old.output is None else (old.output,)
    floats = [name for name in measured if old.answers.outputs[name][0].dtype.kind == "f"]
    if not floats:
        return (None, None, None, None)
    first, second = (
        np.concatenate([row.reshape(-1) for name in floats for row in answers.outputs[name]])
        for answers in (old.answers, new)
    )
    differences = (measure(first, second) for measure in (max_abs_difference, mean_abs_difference, snr_db))
    return (*differences, float(np.abs(first).max()))


def _offset(on_progress: Progress | None, start: int, total: int) -> Callable[[int], None] | None:
    if on_progress is None:
        return None
    report = on_progress
    return lambda done: report(start + done, total)
