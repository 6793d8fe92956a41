"""Comparison of two models on one data set, by the task's metric and a budget.

``lstm_edge.validation.sequences`` evaluates sequences, ``lstm_edge.validation.text`` the text of a language model,
``lstm_edge.validation.report`` has budgets and the report, ``lstm_edge.validation.bootstrap`` the intervals. Imports
only NumPy and the runtime package, so it also runs on the device.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from lstm_edge.amounts import check_confidence
from lstm_edge.data import (
    BUNDLED,
    Dataset,
    NamedDataset,
    TableOptions,
    Task,
    Transcripts,
    load_samples,
    load_transcripts,
)
from lstm_edge.data.binding import as_named
from lstm_edge.data.naming import with_names
from lstm_edge.data.text import TextData, is_text, load_text
from lstm_edge.validation.bootstrap import bootstrap_bound
from lstm_edge.validation.named import NamedJudge
from lstm_edge.validation.own_metric import OwnMetric, load_metric
from lstm_edge.validation.predictions import OpenModel, Predictions, Source, name_of, opener, predict
from lstm_edge.validation.report import Budget, ValidationReport, parse_budget
from lstm_edge.validation.sequences import SequenceJudge
from lstm_edge.validation.text import TextJudge
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.metrics import Metric
from lstm_edge_runtime.session import Session

__all__ = [
    "Budget",
    "Judge",
    "Predictions",
    "ValidationReport",
    "bootstrap_bound",
    "choose_budget",
    "default_metric",
    "load_data",
    "load_metric",
    "parse_budget",
    "predict",
    "validate",
]

Progress = Callable[[int, int], None]
# Targets of metrics that compare with values.
VALUES = ("value", "signal")
AnyData = Dataset | NamedDataset | Transcripts | TextData
MetricLike = str | Callable[..., Any] | Metric


class Judge:
    """Compares any number of candidates with one reference, which is run once.

    (On a text whose logits would take more than 256 MiB the reference is run again with each candidate.)

    Attributes:
        dataset: the evaluation data.
        metric: the evaluation metric.
    """

    def __init__(
        self,
        reference: Source,
        dataset: AnyData | str,
        *,
        metric: MetricLike | None = None,
        seed: int = 0,
        threads: int = 1,
        open_model: OpenModel | None = None,
    ) -> None:
        """Check that metric and data fit; no model is run before the first candidate.

        Args:
            reference: path of the reference ``.onnx`` file, or its bytes.
            dataset: the samples; for a language model a text; or the name of either (see ``load_data``).
            metric: a name from ``lstm_edge_runtime.metrics``, ``package.module:function`` or a function (see
                ``load_metric``); None: see ``default_metric``.
            seed: random seed of the bootstrap: equal candidates get equal reports.
            threads: onnxruntime's threads.
            open_model: opens a model to run it; None: on this machine, with ``threads``.

        Raises:
            InputError: the metric does not exist, or does not fit the data.
            DataError: the data cannot be loaded.
        """
        self.dataset: AnyData = load_data(dataset, metric) if isinstance(dataset, str) else dataset
        self._named = metric
        self.metric = load_metric(metric or default_metric(self.dataset, reference))
        _check_target(self.metric, self.dataset)
        self._reference = reference
        self._options: dict[str, Any] = {
            "metric": self.metric,
            "seed": seed,
            "open_model": open_model or opener(threads),
        }
        self._made: SequenceJudge | NamedJudge | TextJudge | None = None

    def judge(
        self,
        candidate: Source,
        *,
        max_drop: str | None = None,
        confidence: float | None = None,
        on_progress: Progress | None = None,
    ) -> ValidationReport:
        """Compare a candidate with the reference.

        Args:
            candidate: path of the ``.onnx`` file to evaluate, or its bytes.
            max_drop: the budget, such as ``0.5pt`` or ``0.5%`` (see
                ``lstm_edge.validation.report``); None: see ``choose_budget``.
            confidence: None: the estimated drop decides. A share such as 0.95: the upper bound of a paired bootstrap
                decides (see ``lstm_edge.validation.bootstrap``). The intervals in the report are two-sided, at this
                confidence or at 0.95.
            on_progress: called with (sequences or tokens run, sequences or tokens to run), over the models that are
                run: both for the first candidate.

        Raises:
            InputError: an argument is not allowed, the data does not fit a model, the metric is NaN, or an output is.
            DataError: the data has a class that the model does not have, or the text is too short.
            ArtifactError: a model cannot be opened.
        """
        budget = choose_budget(max_drop, self._named, self.dataset, self._reference)
        check_confidence(confidence)
        if self._made is None:
            self._made = self._make()
        return self._made.judge(candidate, budget=budget, confidence=confidence, on_progress=on_progress)

    def _make(self) -> SequenceJudge | NamedJudge | TextJudge:
        """Return what compares on this kind of data; one target of a model with several outputs has a name."""
        if self.metric.output is not None:
            _check_output(self.metric, self._reference)
        if isinstance(self.dataset, TextData):
            return TextJudge(self._reference, self.dataset, **self._options)
        if not isinstance(self.dataset, Dataset):
            if isinstance(self.dataset, Transcripts):
                return SequenceJudge(self._reference, self.dataset, **self._options)
            return NamedJudge(self._reference, self.dataset, **self._options)
        session = Session(self._reference, kernels="off")
        names = isinstance(self.metric, OwnMetric) and self.metric.takes_names(len(session.outputs))
        if session.card is not None and (len(session.outputs) > 1 or names or self.metric.output is not None):
            return NamedJudge(self._reference, as_named(self.dataset), **self._options)
        return SequenceJudge(self._reference, self.dataset, **self._options)


def validate(
    candidate: Source,
    reference: Source,
    dataset: AnyData | str,
    *,
    metric: MetricLike | None = None,
    max_drop: str | None = None,
    confidence: float | None = None,
    seed: int = 0,
    threads: int = 1,
    on_progress: Progress | None = None,
) -> ValidationReport:
    """Compare a candidate with a reference on a task's metric.

    Args:
        candidate: path of the ``.onnx`` file to judge, or its bytes.
        reference: the reference, a path or bytes.
        dataset: the samples, as for ``Judge``.
        metric: a name, or a user-defined function, or None, as for ``Judge``.
        max_drop: the budget, such as ``0.5pt`` or ``0.5%``, or None, as for ``Judge.judge``.
        confidence: None, or the confidence level of the bound that decides, as for ``Judge.judge``.
        seed: of the bootstrap.
        threads: onnxruntime's threads.
        on_progress: called with (sequences or tokens run, sequences or tokens to run), over both models.

    Raises:
        InputError: an argument is not allowed, the data does not fit the metric or a model, or an output is NaN.
        DataError: the data cannot be loaded.
        ArtifactError: a model cannot be opened.
    """
    judge = Judge(reference, dataset, metric=metric, seed=seed, threads=threads)
    return judge.judge(candidate, max_drop=max_drop, confidence=confidence, on_progress=on_progress)


def default_metric(data: AnyData, model: Source | None = None) -> str:
    """Return the default metric of the data's task.

    Args:
        data: the data.
        model: for named arrays the model, which says which of them are targets; None: those that the data call so.

    Raises:
        InputError: named arrays have no target, or several, so that a metric must be chosen.
        DataError: named arrays do not fit the model.
    """
    if isinstance(data, NamedDataset):
        return _default_of_names(data, model)
    if isinstance(data, TextData):
        return "perplexity"
    if isinstance(data, Transcripts):
        return "word-error-rate"
    return "accuracy" if data.is_classes else "mean-squared-error"


def _default_of_names(data: NamedDataset, model: Source | None) -> str:
    named = data
    if model is not None:
        named = with_names(data, Session(model, kernels="off"), model=name_of(model))
    targets = list(named.targets)
    if len(targets) != 1:
        found = f"targets for {', '.join(targets)}" if targets else "no targets"
        raise InputError(
            f"data {data.name}: has {found}; name a metric with --metric, such as "
            f"{f'mean-squared-error:output={targets[0]}' if targets else 'agreement'}, or a function of yours"
        )
    return "accuracy" if np.asarray(named.targets[targets[0]][0]).dtype.kind in "iu" else "mean-squared-error"


def choose_budget(
    max_drop: str | None, metric: MetricLike | None, data: AnyData, model: Source | None = None
) -> Budget:
    """Return the given budget, or ``0.5pt`` for a named metric and for accuracy.

    Args:
        max_drop: the budget, or None.
        metric: the metric, or None.
        data: the data.
        model: as for ``default_metric``; None: named arrays without targets are not checked.

    Raises:
        InputError: the text is not a budget or does not fit the metric's unit, or neither is given and the data's
            default metric has no default budget, because the size of its points depends on the data.
    """
    budget = parse_budget(max_drop or "0.5pt")
    if metric is None and model is None and isinstance(data, NamedDataset) and not data.targets:
        return budget
    chosen = metric or default_metric(data, model)
    if max_drop is None and metric is None and chosen != "accuracy":
        raise InputError(
            f"data {data.name}: the metric is {chosen}, which has no default budget: give one with --max-drop, such as "
            "1%"
        )
    budget.check(load_metric(chosen))
    return budget


def load_data(
    spec: str,
    metric: MetricLike | None,
    *,
    table: TableOptions | None = None,
    say: Callable[[str], None] | None = None,
) -> AnyData:
    """Load the data of a metric: a text for ``perplexity`` and ``bits-per-character``, else sequences.

    ``agreement`` is measured on either; ``word-error-rate`` and ``character-error-rate`` on sequences with texts.

    Args:
        spec: a name for ``lstm_edge.data.load``, ``load_transcripts`` or ``lstm_edge.data.text.load_text``; a bundled
            name means its test part, the path of a text the whole file, or with ``:test`` its last 5 %.
        metric: a name for ``load_metric``. For a metric of values, integers in a file are values too. None: a text or
            sequences, according to the spec.
        table: how a table is read: roles of the columns, spacing of the steps, what becomes of what is missing.
        say: called with one line for each thing that was done to the rows of a table.

    Raises:
        InputError: the metric does not exist or does not fit this kind of data, or ``table`` is given for another kind
            of file.
        DataError: the data cannot be loaded.
    """
    if metric is None:
        metric = "perplexity" if is_text(spec) else None
    target = None if metric is None else load_metric(metric).target
    if target == "token" or (target == "reference" and is_text(spec)):
        if table is not None:
            raise InputError(f"data {spec}: --columns, --step-every and --missing are for tables, leave them out")
        if spec.partition(":")[0] in BUNDLED:
            raise InputError(f"metric {metric}: data {spec} holds sequences, expected a text, such as king-james")
        return load_text(spec, default_part="test")
    if is_text(spec):
        known = "perplexity, bits-per-character or agreement"
        raise InputError(f"metric {metric}: data {spec} is a text, expected {known}")
    if target == "text":
        if not spec.endswith((".jsonl", ".jsonl.gz")) or table is not None:
            raise InputError(
                f"metric {metric}: data {spec} has no texts; expected a .jsonl file with x and text on each line"
            )
        return load_transcripts(spec)
    task: Task | None = "forecast" if target in VALUES and spec.partition(":")[0] not in BUNDLED else None
    return load_samples(spec, default_split="test", task=task, table=table, say=say)


def _check_output(metric: Metric, model: Source) -> None:
    """Refuse the name of an output that the model does not have."""
    outputs = [spec.name for spec in Session(model, kernels="off").outputs]
    if metric.output not in outputs:
        raise InputError(
            f"metric {metric.name}: {name_of(model)} has no output {metric.output!r}; expected one of "
            f"{', '.join(outputs)}"
        )


def _check_target(metric: Metric, data: AnyData) -> None:
    """Refuse a metric that does not fit the targets of the data; the output of named arrays is checked later."""
    if isinstance(data, NamedDataset):
        if metric.target in ("token", "text"):
            wanted = "a text" if metric.target == "token" else "a text for each sequence"
            raise InputError(f"metric {metric.name}: data {data.name} holds arrays, expected {wanted}")
        return
    if isinstance(data, TextData) or metric.target == "token":
        if not isinstance(data, TextData) or metric.target not in ("token", "reference"):
            got = "is a text" if isinstance(data, TextData) else "holds sequences"
            raise InputError(
                f"metric {metric.name}: data {data.name} {got}; expected a text for perplexity, else sequences"
            )
        return
    if isinstance(data, Transcripts) or metric.target == "text":
        if not isinstance(data, Transcripts) or metric.target != "text":
            got = "has a text" if isinstance(data, Transcripts) else f"has y of {data.y.dtype}"
            wanted = "a text" if metric.target == "text" else "classes or values"
            raise InputError(f"metric {metric.name}: data {data.name} {got} for each sequence, expected {wanted}")
        return
    values = metric.target in VALUES
    if metric.target not in ("own", "detection") and values == data.is_classes:
        wanted = "float32 values" if values else "integer classes"
        raise InputError(f"metric {metric.name}: data {data.name} has y of {data.y.dtype}, expected {wanted}")
