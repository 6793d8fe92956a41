"""The report of a finished search: layers, differences of the outputs, and the verdict on the written file."""

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lstm_edge.data import data_sha256
from lstm_edge.data.text import TextData
from lstm_edge.precision_search.compose import Composer
from lstm_edge.precision_search.data import Roles, Samples, calibration_feeds
from lstm_edge.precision_search.environment import machine, versions
from lstm_edge.precision_search.measure import Evaluation, Judged
from lstm_edge.precision_search.report import (
    Baseline,
    BudgetNote,
    BudgetReport,
    CalibrationNote,
    DataNote,
    Differences,
    FileNote,
    LayerNote,
    MetricNote,
    ResultNote,
    Sensitivity,
)
from lstm_edge.precision_search.request import BudgetRequest
from lstm_edge.precision_search.space import SearchPart
from lstm_edge.validation.judge import load_metric
from lstm_edge_exporters.artifact import Artifact
from lstm_edge_exporters.quantize import LayerPart
from lstm_edge_runtime.session import Session

__all__ = ["Outcome", "report_on"]

Timer = Callable[[bytes], float]

# Enough samples for a histogram of 41 bins; the number is odd, so that zero has a separate bin.
COMPARED, BINS = 64, 41


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Results of the stages of a search.

    ``answer`` is the evaluation of the result on the held-out data, or None; ``tuning_note`` and ``left_out``: see
    ``BudgetReport``.
    """

    reference: Evaluation
    parts: tuple[SearchPart, ...]
    alone: Mapping[tuple[str, str], Evaluation]
    baselines: tuple[Baseline, ...]
    exhaustive: bool
    answer: Evaluation | None
    tuning_note: str
    left_out: tuple[str, ...]


def report_on(
    request: BudgetRequest,
    outcome: Outcome,
    artifact: Artifact | None,
    *,
    composer: Composer,
    verify: Callable[[bytes], Judged],
    layers: Sequence[LayerPart],
    roles: Roles,
    evaluations: Sequence[Evaluation],
    timer: Timer,
    start: float,
) -> BudgetReport:
    """Return the report; the finished file is evaluated again exactly as it will be written.

    Args:
        request: the request.
        outcome: the results of the stages.
        artifact: the finished file, or None.
        composer: holds the source.
        verify: evaluates a file on the held-out data.
        layers: layers of the source.
        roles: the data.
        evaluations: all evaluations, in order.
        timer: returns microseconds per step of a file; a smaller file is not always faster.
        start: ``time.monotonic()`` at the beginning.
    """
    validation = None if artifact is None else verify(artifact.data)
    reference, metric = outcome.reference, load_metric(request.metric)
    assert reference.allowed is not None
    assert composer.calibration_sha256 is not None
    return BudgetReport(
        command=request.command,
        versions=versions(),
        machine=machine(),
        seed=request.seed,
        prefer=request.prefer,
        source=_file(request.source, composer.source, timer),
        result=None if artifact is None else _result(request.output, artifact, timer),
        metric=MetricNote(name=request.metric, unit=reference.unit, more_is_better=metric.more_is_better),
        budget=BudgetNote(
            text=request.max_drop,
            allowed=reference.allowed,
            confidence=request.confidence,
            held_out_confidence=request.look_confidence,
        ),
        tuning_data=_note(roles.tuning),
        held_out_data=_note(roles.held_out),
        calibration=CalibrationNote(
            name=roles.calibration.name, samples=composer.runs, sha256=composer.calibration_sha256
        ),
        baselines=outcome.baselines,
        evaluations=tuple(evaluations),
        layers=tuple(_layer(layer, outcome, artifact) for layer in layers),
        differences=None if artifact is None else _differences(composer.source, artifact.data, request, roles),
        validation=validation,
        exhaustive=outcome.exhaustive,
        elapsed_s=round(time.monotonic() - start, 2),
        tuning_note=outcome.tuning_note,
        left_out=outcome.left_out,
    )


def _file(path: Path, data: bytes, timer: Timer) -> FileNote:
    return FileNote(
        path=os.fspath(path),
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        step_us=round(timer(data), 2),
    )


def _result(path: Path, artifact: Artifact, timer: Timer) -> ResultNote:
    assert artifact.card.quantization is not None
    return ResultNote(**vars(_file(path, artifact.data, timer)), scheme=artifact.card.quantization.scheme)


def _note(samples: Samples) -> DataNote:
    unit = "characters" if isinstance(samples, TextData) else "sequences"
    return DataNote(name=samples.name, samples=len(samples), samples_are=unit, sha256=data_sha256(samples))


def _layer(layer: LayerPart, outcome: Outcome, artifact: Artifact | None) -> LayerNote:
    own = {layer.layer, *layer.parts}
    chosen = {} if outcome.answer is None else outcome.answer.parts
    rows = artifact.card.quantization.coverage if artifact is not None and artifact.card.quantization else ()
    after = [row.bytes_after for row in rows if row.layer == layer.layer]
    return LayerNote(
        name=layer.layer,
        operator=layer.operator,
        kind=layer.kind,
        parameters=layer.parameters,
        bytes_before=layer.bytes,
        bytes_after=sum(after) if after else layer.bytes,
        parts={part: scheme for part, scheme in chosen.items() if part in own},
        sensitivity=tuple(
            Sensitivity(part=part, scheme=scheme, evaluation=found)
            for (part, scheme), found in outcome.alone.items()
            if part in own
        ),
    )


def _differences(source: bytes, result: bytes, request: BudgetRequest, roles: Roles) -> Differences:
    """Count the differences of all output values over 64 held-out samples, in 41 bins around zero."""
    sessions = [Session(data, threads=request.threads) for data in (source, result)]
    found = []
    for feed in calibration_feeds(sessions[0], roles.held_out, COMPARED, seed=request.seed):
        before, after = (session.run(feed)[0] for session in sessions)
        found += [after[name].astype(np.float64).ravel() - array.ravel() for name, array in before.items()]
    values = np.concatenate(found)
    worst = float(np.abs(values).max())
    span = worst or 1.0
    counts, edges = np.histogram(values, bins=BINS, range=(-span, span))
    return Differences(
        edges=tuple(edges.tolist()), counts=tuple(counts.tolist()), worst=worst, mean=float(np.abs(values).mean())
    )
