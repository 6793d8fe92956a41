"""Is a candidate good enough? Two models on one data set, judged by the task's own metric against a budget.

Sequences are judged here, the text of a language model in ``lstm_edge.text_validation``.
Imports NumPy and the runtime package only: it runs on the device. Budgets and the report: ``lstm_edge.reports``.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_edge.data import BUNDLED, Columns, Dataset, Task, load
from lstm_edge.data.text import TextData, is_text, load_text
from lstm_edge.reports import Budget, ValidationReport, parse_budget
from lstm_edge.text_validation import validate_text
from lstm_edge_runtime.card import BATCH, TIME, TensorSpec
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.metrics import Metric, agreement, get_metric, max_abs_difference, mean_abs_difference, snr_db
from lstm_edge_runtime.session import Session

__all__ = [
    "Budget",
    "Predictions",
    "ValidationReport",
    "bootstrap_bound",
    "load_data",
    "parse_budget",
    "predict",
    "validate",
]

Array = NDArray[Any]
Progress = Callable[[int, int], None]
Source = str | os.PathLike[str] | bytes

# Enough that the 95 % bound of a share over 370 samples moves by less than one sample (0.0027) between seeds.
RESAMPLES = 10_000
# Elements of one block of resampled indices: 2 million int64 are 16 MB, small enough for a device.
BLOCK = 2_000_000
# A drop that equals the budget passes: both are rounded sums in float64, whose error is far below this share.
ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """A model's answers: ``outputs`` ``[N, ...]``, one row for each sequence, and the size of the model in bytes.

    ``labels``: the classes' names in the model's card, or empty.
    """

    outputs: Array
    size_bytes: int
    labels: tuple[str, ...] = ()


def validate(
    candidate: Source,
    reference: Source,
    dataset: Dataset | TextData | str,
    *,
    metric: str = "accuracy",
    max_drop: str = "0.5pt",
    confidence: float | None = None,
    seed: int = 0,
    threads: int = 1,
    on_progress: Progress | None = None,
) -> ValidationReport:
    """Compare a candidate with a reference on a task's own metric.

    Args:
        candidate: path of the ``.onnx`` file to judge, or its bytes.
        reference: the one it is judged against, likewise.
        dataset: the samples; for a language model a text; or the name of either (see ``load_data``).
        metric: a name from ``lstm_edge_runtime.metrics``.
        max_drop: how much worse the candidate may be, such as ``0.5pt`` or ``0.5%`` (see ``lstm_edge.reports``).
        confidence: None: the estimated drop decides. A share such as 0.95: the upper bound of a paired bootstrap
            over samples decides (see ``bootstrap_bound``).
        seed: of the bootstrap.
        threads: onnxruntime's threads.
        on_progress: called with (sequences or tokens run, sequences or tokens to run), over both models.

    Raises:
        InputError: an argument is not allowed, the data does not fit the metric or a model, or an output is NaN.
        DataError: the data cannot be loaded.
        ArtifactError: a model cannot be opened.
    """
    chosen, budget = get_metric(metric), parse_budget(max_drop)
    _check_confidence(confidence)
    data = load_data(dataset, metric) if isinstance(dataset, str) else dataset
    _check_target(chosen, data)
    if isinstance(data, TextData):
        return validate_text(
            candidate,
            reference,
            data,
            metric=chosen,
            budget=budget,
            confidence=confidence,
            seed=seed,
            threads=threads,
            on_progress=on_progress,
        )
    total = 2 * len(data)
    old = predict(reference, data, threads=threads, on_sample=_offset(on_progress, 0, total))
    data = _numbered(data, old)
    new = predict(candidate, data, threads=threads, on_sample=_offset(on_progress, len(data), total))
    if new.outputs.shape != old.outputs.shape:
        raise InputError(
            f"{_name(candidate)}: its outputs are {list(new.outputs.shape[1:])} for each sequence, "
            f"those of the reference {list(old.outputs.shape[1:])}; expected the same"
        )
    if old.labels and new.labels and new.labels != old.labels:
        raise InputError(f"{_name(candidate)}: its labels are not those of the reference; expected the same names")
    return _judge(old, new, data, chosen, budget, confidence=confidence, seed=seed)


def load_data(spec: str, metric: str, *, columns: Columns | None = None) -> Dataset | TextData:
    """Load what a metric is measured on: for ``perplexity`` and ``bits-per-character`` a text, else sequences.

    Args:
        spec: what ``lstm_edge.data.load`` or ``lstm_edge.data.text.load_text`` takes; a bundled name means its test
            part, the path of a text the whole file, or with ``:test`` its last 5 %.
        metric: a name from ``lstm_edge_runtime.metrics``. For one of values, integers in a file are values too.
        columns: for CSV files, which columns mean what.

    Raises:
        InputError: there is no such metric, it is not one of that kind of data, or ``columns`` are given for another.
        DataError: the data cannot be loaded.
    """
    target = get_metric(metric).target
    if target == "token":
        if columns is not None:
            raise InputError(f"data {spec}: columns are for .csv files, leave them out")
        return load_text(spec, default_part="test")
    if is_text(spec):
        raise InputError(f"metric {metric}: data {spec} is a text, expected perplexity or bits-per-character")
    task: Task | None = "forecast" if target == "value" and spec.partition(":")[0] not in BUNDLED else None
    return load(spec, default_split="test", task=task, columns=columns)


def _judge(
    old: Predictions,
    new: Predictions,
    data: Dataset,
    metric: Metric,
    budget: Budget,
    *,
    confidence: float | None,
    seed: int,
) -> ValidationReport:
    old_scores, new_scores = metric.per_sample(old.outputs, data.y), metric.per_sample(new.outputs, data.y)
    losses = metric.losses(old_scores, new_scores)
    # The mean of the differences, not the difference of the means: one lost sample of 200 is 0.005 to the last bit.
    drop = float(losses.mean())
    bound = None if confidence is None else bootstrap_bound(losses, confidence, seed=seed)
    reference = float(old_scores.mean())
    allowed = budget.allowed(metric, reference)
    return ValidationReport(
        metric=metric.name,
        unit=metric.unit,
        data=data.name,
        samples=len(data),
        reference=reference,
        candidate=float(new_scores.mean()),
        drop=drop,
        budget=str(budget),
        max_drop=allowed,
        passed=(drop if bound is None else bound) <= allowed + ROUNDING * max(1.0, abs(reference)),
        confidence=confidence,
        drop_bound=bound,
        seed=seed,
        agreement=agreement(old.outputs, new.outputs) if metric.target == "class" else None,
        max_abs_difference=max_abs_difference(old.outputs, new.outputs),
        mean_abs_difference=mean_abs_difference(old.outputs, new.outputs),
        snr_db=snr_db(old.outputs, new.outputs),
        reference_bytes=old.size_bytes,
        candidate_bytes=new.size_bytes,
    )


def predict(
    source: Source, data: Dataset, *, threads: int = 1, on_sample: Callable[[int], None] | None = None
) -> Predictions:
    """Run a model over every sequence, one by one (batch 1), so that it needs no ``lengths`` input.

    Args:
        source: path of an ``.onnx`` file, or its bytes, with one float32 input and one output that has no time axis.
        data: N sequences.
        threads: onnxruntime's threads.
        on_sample: called with the number of sequences run so far.

    Returns:
        The model's output for each sequence, without the batch axis of 1, and the size of the model in bytes.

    Raises:
        ArtifactError: the file is missing or cannot be opened.
        InputError: the model's input or output is not of that form, or an output holds NaN or infinity.
    """
    name = _name(source)
    session = Session(source, threads=threads)
    feed = _only(name, "input", session.inputs)
    target = _only(name, "output", session.outputs)
    if TIME in target.axes:
        raise InputError(f"{name}: output {target.name!r} has a time axis, expected one answer for each sequence")
    _check_features(name, feed, data)
    time_first = TIME in feed.axes and feed.axes.index(TIME) == 0
    batch_axis = target.axes.index(BATCH) if BATCH in target.axes else 0
    rows: list[Array] = []
    for number, sequence in enumerate(data, start=1):
        outputs, _ = session.run({feed.name: np.expand_dims(sequence, 1 if time_first else 0)})
        row = np.take(outputs[target.name], 0, axis=batch_axis)
        if not np.isfinite(row).all():
            raise InputError(f"{name}: output {target.name!r} holds NaN or infinity for sequence {number - 1}")
        rows.append(row)
        if on_sample:
            on_sample(number)
    labels = (session.card.labels if session.card is not None else None) or ()
    return Predictions(outputs=np.stack(rows), size_bytes=session.size_bytes, labels=tuple(labels))


def _numbered(data: Dataset, predictions: Predictions) -> Dataset:
    """Return the data with the model's numbers for its classes: a file that lacks one numbers the later ones lower.

    Names that a model without labels cannot know are left in the order that the data have them in.
    """
    if not data.is_classification or not data.labels or predictions.outputs.ndim != 2:
        return data
    if not predictions.labels and not all(label.isascii() and label.isdecimal() for label in data.labels):
        return data
    return data.for_model(predictions.labels, predictions.outputs.shape[1])


def bootstrap_bound(losses: NDArray[np.float64], confidence: float, *, seed: int = 0) -> float:
    """Return the upper bound of a mean loss by a percentile bootstrap over samples.

    10,000 times, as many samples are drawn with replacement as there are, and their mean loss is taken; the bound is
    the smallest of those means that at least the share ``confidence`` of them does not exceed (Efron and Tibshirani,
    An Introduction to the Bootstrap, 1993, section 13.3, one-sided). Pairing is in the losses: each is one sample's
    score under both models. Samples that all lose nothing give the bound 0: the bootstrap cannot see what the
    samples do not show.

    Args:
        losses: float64 ``[N]``, for each sample how much worse the candidate is.
        confidence: above 0 and below 1.
        seed: of the draws.

    Raises:
        InputError: ``confidence`` is out of its range, or there are no samples.
    """
    _check_confidence(confidence)
    count = len(losses)
    if not count:
        raise InputError("bootstrap: got no samples, expected at least one")
    generator = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    step = max(1, BLOCK // count)
    for start in range(0, RESAMPLES, step):
        block = means[start : start + step]
        block[:] = losses[generator.integers(count, size=(len(block), count))].mean(axis=1)
    return float(np.quantile(means, confidence, method="inverted_cdf"))


def _check_target(metric: Metric, data: Dataset | TextData) -> None:
    if isinstance(data, TextData) or metric.target == "token":
        if not isinstance(data, TextData) or metric.target != "token":
            got = "is a text" if isinstance(data, TextData) else "holds sequences"
            raise InputError(f"metric {metric.name}: data {data.name} {got}; a text, and only that, has perplexity")
        return
    if (metric.target == "class") != data.is_classification:
        wanted = "integer classes" if metric.target == "class" else "float32 values"
        raise InputError(f"metric {metric.name}: data {data.name} has y of {data.y.dtype}, expected {wanted}")


def _check_confidence(confidence: float | None) -> None:
    if confidence is not None and not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence}, expected a share above 0 and below 1, such as 0.95")


def _name(source: Source) -> str:
    return "model" if isinstance(source, bytes) else f"model {os.fspath(source)}"


def _only(name: str, what: str, specs: Sequence[TensorSpec]) -> TensorSpec:
    if len(specs) != 1:
        names = ", ".join(spec.name for spec in specs) or "none"
        raise InputError(f"{name}: has {len(specs)} {what}s ({names}), expected one to validate")
    return specs[0]


def _check_features(name: str, source: TensorSpec, data: Dataset) -> None:
    known = [axis for axis in source.axes if isinstance(axis, int)]
    if source.dtype != "float32" or len(source.axes) != 3 or known[-1:] not in ([], [data.features]):
        axes = ", ".join(map(str, source.axes))
        raise InputError(
            f"{name}: input {source.name!r} is {source.dtype}[{axes}], "
            f"but data {data.name} has float32[batch, time, {data.features}]"
        )


def _offset(on_progress: Progress | None, start: int, total: int) -> Callable[[int], None] | None:
    if on_progress is None:
        return None
    report = on_progress
    return lambda done: report(start + done, total)
