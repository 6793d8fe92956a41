"""Comparison of two models on one data set, by the task's metric and a budget.

``lstm_edge.validation.sequences`` evaluates sequences, ``lstm_edge.validation.text`` the text of a language model,
``lstm_edge.validation.report`` has budgets and the report, ``lstm_edge.validation.bootstrap`` the intervals. Imports
only NumPy and the runtime package, so it also runs on the device.
"""

from collections.abc import Callable

from lstm_edge.data import BUNDLED, Dataset, TableOptions, Task, Transcripts, load, load_transcripts
from lstm_edge.data.text import TextData, is_text, load_text
from lstm_edge.validation.bootstrap import bootstrap_bound, check_confidence
from lstm_edge.validation.own_metric import load_metric
from lstm_edge.validation.predictions import Predictions, Source, predict
from lstm_edge.validation.report import Budget, ValidationReport, parse_budget
from lstm_edge.validation.sequences import SequenceJudge
from lstm_edge.validation.text import TextJudge
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.metrics import Metric

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
AnyData = Dataset | Transcripts | TextData


class Judge:
    """Compares any number of candidates with one reference, which is run once.

    (On a text whose logits would take more than 256 MiB the reference is run again with each candidate.)

    Attributes:
        dataset: the evaluation data.
        metric: the evaluation metric.
    """

    def __init__(
        self, reference: Source, dataset: AnyData | str, *, metric: str | None = None, seed: int = 0, threads: int = 1
    ) -> None:
        """Check that metric and data fit; no model is run before the first candidate.

        Args:
            reference: path of the reference ``.onnx`` file, or its bytes.
            dataset: the samples; for a language model a text; or the name of either (see ``load_data``).
            metric: a name from ``lstm_edge_runtime.metrics``, or ``package.module:function`` (see ``load_metric``);
                None: see ``default_metric``.
            seed: random seed of the bootstrap: equal candidates get equal reports.
            threads: onnxruntime's threads.

        Raises:
            InputError: the metric does not exist, or does not fit the data.
            DataError: the data cannot be loaded.
        """
        self.dataset: AnyData = load_data(dataset, metric) if isinstance(dataset, str) else dataset
        self._named = metric
        self.metric = load_metric(metric or default_metric(self.dataset))
        _check_target(self.metric, self.dataset)
        self._judge: SequenceJudge | TextJudge
        if isinstance(self.dataset, TextData):
            self._judge = TextJudge(reference, self.dataset, metric=self.metric, seed=seed, threads=threads)
        else:
            self._judge = SequenceJudge(reference, self.dataset, metric=self.metric, seed=seed, threads=threads)

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
        budget = choose_budget(max_drop, self._named, self.dataset)
        check_confidence(confidence)
        return self._judge.judge(candidate, budget=budget, confidence=confidence, on_progress=on_progress)


def validate(
    candidate: Source,
    reference: Source,
    dataset: AnyData | str,
    *,
    metric: str | None = None,
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


def default_metric(data: AnyData) -> str:
    """Return the default metric of the data's task."""
    if isinstance(data, TextData):
        return "perplexity"
    if isinstance(data, Transcripts):
        return "word-error-rate"
    return "accuracy" if data.is_classes else "mean-squared-error"


def choose_budget(max_drop: str | None, metric: str | None, data: AnyData) -> Budget:
    """Return the given budget, or ``0.5pt`` for a named metric and for accuracy.

    Raises:
        InputError: the text is not a budget or does not fit the metric's unit, or neither is given and the data's
            default metric has no default budget, because the size of its points depends on the data.
    """
    if max_drop is None and metric is None and default_metric(data) != "accuracy":
        raise InputError(
            f"data {data.name}: the metric is {default_metric(data)}, which has no default budget: give one with "
            "--max-drop, such as 1%"
        )
    budget = parse_budget(max_drop or "0.5pt")
    budget.check(load_metric(metric or default_metric(data)))
    return budget


def load_data(
    spec: str,
    metric: str | None,
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
    return load(spec, default_split="test", task=task, table=table, say=say)


def _check_target(metric: Metric, data: AnyData) -> None:
    """Refuse a metric that does not fit the targets of the data."""
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
