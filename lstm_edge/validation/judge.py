"""Is a candidate good enough? Two models on one data set, judged by the task's own metric against a budget.

Sequences are judged in ``lstm_edge.validation.sequences``, the text of a language model in
``lstm_edge.validation.text``. Imports NumPy and the runtime package only: it runs on the device. Budgets and the
report: ``lstm_edge.validation.report``; intervals: ``lstm_edge.validation.bootstrap``.
"""

from collections.abc import Callable

from lstm_edge.data import BUNDLED, Columns, Dataset, Task, Transcripts, load, load_transcripts
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
AnyData = Dataset | Transcripts | TextData


class Judge:
    """Judges any number of candidates against one reference, which is run once.

    (On a text whose logits would take more than 256 MiB the reference is run again beside each candidate.)

    Attributes:
        dataset: what candidates are judged on.
        metric: what they are judged by.
    """

    def __init__(
        self, reference: Source, dataset: AnyData | str, *, metric: str | None = None, seed: int = 0, threads: int = 1
    ) -> None:
        """Check that metric and data fit; nothing is run before the first candidate.

        Args:
            reference: path of the ``.onnx`` file that candidates are judged against, or its bytes.
            dataset: the samples; for a language model a text; or the name of either (see ``load_data``).
            metric: a name from ``lstm_edge_runtime.metrics``, or ``package.module:function`` (see ``load_metric``);
                None: see ``default_metric``.
            seed: of the bootstrap: equal candidates get equal reports.
            threads: onnxruntime's threads.

        Raises:
            InputError: there is no such metric, or it is not for the data.
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
            candidate: path of the ``.onnx`` file to judge, or its bytes.
            max_drop: how much worse it may be, such as ``0.5pt`` or ``0.5%`` (see
                ``lstm_edge.validation.report``); None: see ``choose_budget``.
            confidence: None: the estimated drop decides. A share such as 0.95: the upper bound of a paired bootstrap
                decides (see ``lstm_edge.validation.bootstrap``). The intervals in the report are two-sided, at this
                confidence or at 0.95.
            on_progress: called with (sequences or tokens run, sequences or tokens to run), over the models that are
                run: both for the first candidate.

        Raises:
            InputError: an argument is not allowed, the data does not fit a model, the metric is NaN, or an output is.
            DataError: the data has a class that the model does not know, or the text is too short.
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
    """Compare a candidate with a reference on a task's own metric.

    Args:
        candidate: path of the ``.onnx`` file to judge, or its bytes.
        reference: the one it is judged against, likewise.
        dataset: the samples, as for ``Judge``.
        metric: a name, or a function of the user's, or None, as for ``Judge``.
        max_drop: how much worse the candidate may be, such as ``0.5pt`` or ``0.5%``, or None, as for ``Judge.judge``.
        confidence: None, or the level of the bound that decides, as for ``Judge.judge``.
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
    """Return the metric of the data's own task: what is judged where none was named."""
    if isinstance(data, TextData):
        return "perplexity"
    if isinstance(data, Transcripts):
        return "word-error-rate"
    return "accuracy" if data.is_classes else "mean-squared-error"


def choose_budget(max_drop: str | None, metric: str | None, data: AnyData) -> Budget:
    """Return the budget that was given, or ``0.5pt`` of a metric that was named, and of accuracy.

    Raises:
        InputError: the text is no budget; or neither was given, and points of the data's own metric mean nothing until
            somebody has seen its values.
    """
    if max_drop is None and metric is None and default_metric(data) != "accuracy":
        raise InputError(
            f"data {data.name}: the metric is {default_metric(data)}, which has no budget by default: say with "
            "--max-drop how much worse the candidate may be, such as 1%"
        )
    return parse_budget(max_drop or "0.5pt")


def load_data(spec: str, metric: str | None, *, columns: Columns | None = None) -> AnyData:
    """Load what a metric is measured on: a text for ``perplexity`` and ``bits-per-character``, else sequences.

    ``agreement`` is measured on either; ``word-error-rate`` and ``character-error-rate`` on sequences with texts.

    Args:
        spec: what ``lstm_edge.data.load``, ``load_transcripts`` or ``lstm_edge.data.text.load_text`` takes; a bundled
            name means its test part, the path of a text the whole file, or with ``:test`` its last 5 %.
        metric: what ``load_metric`` takes. For one of values, integers in a file are values too. None: a text or
            sequences, as the spec says.
        columns: for CSV files, which columns mean what.

    Raises:
        InputError: there is no such metric, it is not one of that kind of data, or ``columns`` are given for another.
        DataError: the data cannot be loaded.
    """
    if metric is None:
        metric = "perplexity" if is_text(spec) else None
    target = None if metric is None else load_metric(metric).target
    if target == "token" or (target == "reference" and is_text(spec)):
        if columns is not None:
            raise InputError(f"data {spec}: columns are for .csv files, leave them out")
        if spec.partition(":")[0] in BUNDLED:
            raise InputError(f"metric {metric}: data {spec} holds sequences, expected a text, such as king-james")
        return load_text(spec, default_part="test")
    if is_text(spec):
        known = "perplexity, bits-per-character or agreement"
        raise InputError(f"metric {metric}: data {spec} is a text, expected {known}")
    if target == "text":
        if not spec.endswith((".jsonl", ".jsonl.gz")) or columns is not None:
            raise InputError(
                f"metric {metric}: data {spec} has no texts; expected a .jsonl file with x and text on each line"
            )
        return load_transcripts(spec)
    task: Task | None = "forecast" if target == "value" and spec.partition(":")[0] not in BUNDLED else None
    return load(spec, default_split="test", task=task, columns=columns)


def _check_target(metric: Metric, data: AnyData) -> None:
    """Refuse a metric that the data have no targets for."""
    if isinstance(data, TextData) or metric.target == "token":
        if not isinstance(data, TextData) or metric.target not in ("token", "reference"):
            got = "is a text" if isinstance(data, TextData) else "holds sequences"
            raise InputError(f"metric {metric.name}: data {data.name} {got}; a text, and only that, has perplexity")
        return
    if isinstance(data, Transcripts) or metric.target == "text":
        if not isinstance(data, Transcripts) or metric.target != "text":
            got = "has a text" if isinstance(data, Transcripts) else f"has y of {data.y.dtype}"
            wanted = "a text" if metric.target == "text" else "classes or values"
            raise InputError(f"metric {metric.name}: data {data.name} {got} for each sequence, expected {wanted}")
        return
    if metric.target != "own" and (metric.target == "value") == data.is_classes:
        wanted = "float32 values" if metric.target == "value" else "integer classes"
        raise InputError(f"metric {metric.name}: data {data.name} has y of {data.y.dtype}, expected {wanted}")
