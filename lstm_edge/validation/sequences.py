"""Comparison of models on sequences: classes or values per sequence or per step, or texts.

Called by ``lstm_edge.validation.judge.Judge``. Imports only NumPy and the runtime package: it runs on the device.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_edge.data import Dataset, Transcripts
from lstm_edge.validation.predictions import OpenModel, Predictions, Source, name_of, predict
from lstm_edge.validation.report import Budget, ValidationReport, weigh
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.metrics import (
    Estimate,
    Metric,
    agreement,
    max_abs_difference,
    mean_abs_difference,
    snr_db,
)

__all__ = ["SequenceJudge"]

Progress = Callable[[int, int], None]


class SequenceJudge:
    """Evaluates candidates on sequences; the reference is run once, for the first candidate."""

    def __init__(
        self, reference: Source, data: Dataset | Transcripts, *, metric: Metric, seed: int, open_model: OpenModel
    ) -> None:
        self._source, self._data, self._metric = reference, data, metric
        self._seed, self._open = seed, open_model
        # A step is a sample, but the bootstrap draws sequences: the steps of one share the speaker and the noise, and
        # their errors are correlated.
        self._units: NDArray[np.int64] | None = None
        if isinstance(data, Dataset) and data.per_step:
            self._units = np.repeat(np.arange(len(data)), data.lengths)
        self._reference: tuple[Predictions, Estimate] | None = None

    def judge(
        self, candidate: Source, *, budget: Budget, confidence: float | None, on_progress: Progress | None
    ) -> ValidationReport:
        """Run the candidate, and the reference if it has not been run; see ``judge.Judge.judge``."""
        count = len(self._data)
        before = count if self._reference is None else 0
        total = before + count
        old, old_estimate = self._run_reference(_offset(on_progress, 0, total))
        new = predict(candidate, self._data, open_model=self._open, on_sample=_offset(on_progress, before, total))
        floats = old.outputs.dtype.kind == "f"
        _check_alike(name_of(candidate), old, new, floats=floats)
        new_estimate = self._estimate(name_of(candidate), old, new)
        fields = weigh(self._metric, old_estimate, new_estimate, budget, confidence=confidence, seed=self._seed)
        return ValidationReport(
            **fields,
            data=self._data.name,
            samples=count if self._units is None else len(self._units),
            samples_are="sequences" if self._units is None else "steps",
            agreement=self._agreement(old, new),
            max_abs_difference=max_abs_difference(old.outputs, new.outputs) if floats else None,
            mean_abs_difference=mean_abs_difference(old.outputs, new.outputs) if floats else None,
            snr_db=snr_db(old.outputs, new.outputs) if floats else None,
            reference_bytes=old.size_bytes,
            candidate_bytes=new.size_bytes,
            output_scale=float(np.abs(old.outputs).max()) if floats else None,
        )

    def _run_reference(self, on_sample: Callable[[int], None] | None) -> tuple[Predictions, Estimate]:
        if self._reference is None:
            old = predict(self._source, self._data, open_model=self._open, on_sample=on_sample)
            if isinstance(self._data, Dataset):
                self._data = _numbered(self._data, old)
            self._reference = old, self._estimate(name_of(self._source), old, old)
        return self._reference

    def _estimate(self, name: str, old: Predictions, new: Predictions) -> Estimate:
        try:
            if self._metric.target == "text":
                return self._metric.estimate(new.texts, self._targets(old))
            return self._metric.estimate(new.outputs, self._targets(old), self._units)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error

    def _targets(self, old: Predictions) -> Any:
        if isinstance(self._data, Transcripts):
            return self._data.texts
        if self._metric.target != "reference":
            return self._data.y
        if old.outputs.ndim != 2:
            raise InputError(f"the outputs are {list(old.outputs.shape[1:])} each, expected logits to decide by")
        return old.outputs.argmax(axis=1)

    def _agreement(self, old: Predictions, new: Predictions) -> float | None:
        if isinstance(self._data, Transcripts):
            return sum(a == b for a, b in zip(old.texts, new.texts, strict=True)) / len(old.texts)
        if not self._data.is_classes or old.outputs.ndim != 2 or old.outputs.shape[1] < 2:
            return None  # one score is no decision between classes
        return agreement(old.outputs, new.outputs)


def _check_alike(name: str, old: Predictions, new: Predictions, *, floats: bool) -> None:
    """Refuse a candidate with other outputs or labels than the reference."""
    if new.outputs.dtype.kind != old.outputs.dtype.kind or (floats and new.outputs.shape != old.outputs.shape):
        raise InputError(
            f"{name}: its outputs are {_shape(new)} for each sequence, the reference's are {_shape(old)}; expected "
            "the same shape"
        )
    if old.labels and new.labels and new.labels != old.labels:
        raise InputError(f"{name}: its labels differ from the reference's; expected the same names")


def _shape(predictions: Predictions) -> str:
    integers = "" if predictions.outputs.dtype.kind == "f" else f"{predictions.outputs.dtype} "
    return f"{integers}{list(predictions.outputs.shape[1:])}"


def _numbered(data: Dataset, predictions: Predictions) -> Dataset:
    """Return the data with the model's class numbers: a file without one of the classes numbers the later ones lower.

    For a model without labels, class names that are not numbers keep the order of the data.
    """
    if not data.is_classes or not data.labels or predictions.outputs.ndim != 2:
        return data
    if predictions.outputs.shape[1] == 1 and len(data.labels) == 2 and len(predictions.labels) < 2:
        return data  # one score for the second of two classes
    if not predictions.labels and not all(label.isascii() and label.isdecimal() for label in data.labels):
        return data
    return data.for_model(predictions.labels, predictions.outputs.shape[1])


def _offset(on_progress: Progress | None, start: int, total: int) -> Callable[[int], None] | None:
    if on_progress is None:
        return None
    report = on_progress
    return lambda done: report(start + done, total)
