"""``lstm-edge validate``: compare a candidate with a reference on the task's metric."""

from collections.abc import Callable
from typing import Any

from lstm_edge.commands.old_names import accept_old_names
from lstm_edge.data import Columns, Missing, table_options
from lstm_edge.data.text import TextData
from lstm_edge.validation.judge import AnyData, Judge, load_data
from lstm_edge.validation.predictions import Source
from lstm_edge.validation.report import ValidationReport
from lstm_edge_runtime.metrics import Metric

__all__ = ["validate"]


@accept_old_names(reference="against", dataset="data")
def validate(
    candidate: Source,
    against: Source,
    data: AnyData | str,
    *,
    targets: str | None = None,
    columns: Columns | str | None = None,
    step_every: str | float | None = None,
    missing: Missing = "refuse",
    metric: str | Callable[..., Any] | Metric | None = None,
    max_drop: str | None = None,
    confidence: float | None = None,
    seed: int = 0,
    threads: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
    progress: Callable[[str], None] | None = None,
) -> ValidationReport:
    """Compare a candidate with a reference on the task's metric; implements ``lstm-edge validate``.

    The report says whether the candidate stayed within the budget; its ``check()`` raises if not.

    Args:
        candidate: path of the ``.onnx`` file to evaluate, or its bytes.
        against: the reference, a path or bytes.
        data: a bundled name, the path of a file (docs/data.md), or loaded data: sequences with targets
            (``lstm_edge.data.Dataset``), named inputs and targets (``NamedDataset``), transcripts, or a text.
        targets: for data that are an ``.npy`` file of the input: the ``.npy`` file of the targets.
        columns: roles of the columns of a table, as ``sequence=id,step=t,target=y,features=a+b``.
        step_every: expected spacing of the steps of a table: ``"1s"``, ``"100ms"``, ``0.5``, or ``"any"``; None: 1 for
            integers, any even spacing otherwise.
        missing: what becomes of missing cells and steps of a table: ``"refuse"``, ``"ffill"`` or ``"drop"``.
        metric: a name from ``lstm_edge_runtime.metrics``, ``package.module:function``, or a function with an attribute
            ``more_is_better`` (docs/data.md); None: accuracy for classes, mean-squared-error for values, perplexity for
            a text.
        max_drop: the budget, such as ``"0.5pt"`` or ``"0.5%"``; None: ``"0.5pt"`` for a named metric and for accuracy.
        confidence: None: the estimated drop decides; a share such as 0.95: the upper bound of a paired bootstrap.
        seed: random seed of the bootstrap.
        threads: onnxruntime's threads.
        on_progress: called with (sequences or tokens run, sequences or tokens to run), over both models.
        progress: called with one line for each step of the work.

    Raises:
        InputError: an argument is not allowed, the data does not fit the metric or a model, or an output is NaN.
        DataError: the data cannot be loaded.
        ArtifactError, IntegrityError: a model cannot be opened.
    """
    if isinstance(data, str):
        data = load_data(data, metric, table=table_options(columns, step_every, missing, targets), say=progress)
    if progress is not None:
        unit = "characters" if isinstance(data, TextData) else "sequences"
        progress(f"validating on {data.name}: {len(data):,} {unit}, seed {seed}")
    judge = Judge(against, data, metric=metric, seed=seed, threads=threads)
    return judge.judge(candidate, max_drop=max_drop, confidence=confidence, on_progress=on_progress)
