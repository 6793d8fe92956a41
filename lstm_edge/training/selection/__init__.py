"""Choosing a model's size for a device: cross-validation, the size and speed of each candidate, limits, one choice."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from lstm_edge.data import Dataset
from lstm_edge.storage import parse_storage, sqlite_url
from lstm_edge.training import TrainingReport
from lstm_edge.training.selection.candidates import Model, measure, metric_for, score, train
from lstm_edge.training.selection.folds import Fold, check_held_out, choose_split, make_folds
from lstm_edge.training.selection.plot import plot_selection
from lstm_edge.training.selection.report import Candidate, SelectionReport, check_limits, choose
from lstm_edge.training.selection.settings import (
    Architecture,
    Limits,
    SelectionSettings,
    Split,
)
from lstm_edge.training.selection.study import Cell, open_study, run_trials
from lstm_edge.training.sequences import fingerprint

__all__ = [
    "Architecture",
    "Candidate",
    "Fold",
    "Limits",
    "SelectionReport",
    "SelectionSettings",
    "Split",
    "check_held_out",
    "choose",
    "choose_split",
    "make_folds",
    "plot_selection",
    "retrain",
    "select",
    "sqlite_url",
    "study_name",
]

# Increased when the meaning of a trial changes, so that old and new trials are not mixed in one study.
_MEANING = 1


def select(
    dataset: Dataset,
    settings: SelectionSettings,
    *,
    storage: str,
    limits: Limits | None = None,
    say: Callable[[str], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> SelectionReport:
    """Compare candidates by cross-validation, and choose one.

    All candidates are exported, quantized and timed first, so that unreachable limits are found before any training.
    Then each candidate is trained on every fold, including those over the limits: the table shows the cost of the
    limits.

    Args:
        dataset: the training data.
        settings: the candidates, the folds, the training options.
        storage: URL of the study's database (see ``open_study``).
        limits: the limits of the device.
        say: called with a sentence before each stage.
        on_progress: called with (trials done, trials), including those of earlier runs and other processes.

    Raises:
        BudgetError: no candidate is within the limits.
        DataError: the data cannot be split this way.
        InputError: the metric does not fit the data, or the storage cannot be opened.
        LstmEdgeError: the errors of training, export and quantization.
    """
    database = parse_storage(storage)
    tell = say or (lambda _sentence: None)
    limits = limits or Limits()
    metric = metric_for(dataset, settings)
    split = settings.split or choose_split(dataset)
    folds = make_folds(dataset, folds=settings.folds, split=split, seed=settings.seed)
    check_held_out(dataset, folds, settings.options, seed=settings.seed)
    candidates = _measured(dataset, settings, limits, tell)
    check_limits(candidates, limits)
    name = study_name(dataset, settings, split)
    cells = [(candidate.architecture, fold) for candidate in candidates for fold in range(len(folds))]
    tell(f"cross-validating {len(candidates)} candidates, {len(folds)} folds, {split} split: study {name}")

    def judge(cell: Cell) -> float:
        architecture, number = cell
        fold = folds[number]
        classes = dataset.classes if dataset.is_classes else 0
        model, _ = train(dataset.subset(fold.train), architecture, settings, classes=classes)
        return score(model, dataset.subset(fold.test), metric)

    def on_score(scores: dict[Cell, float]) -> None:
        if on_progress:
            on_progress(len(scores), len(cells))

    with open_study(database, name, maximize=metric.more_is_better) as study:
        scores = run_trials(study, cells, judge, on_score=on_score)
    judged = tuple(
        replace(candidate, scores=tuple(scores[candidate.architecture, fold] for fold in range(len(folds))))
        for candidate in candidates
    )
    best, chosen = choose(judged, metric)
    return SelectionReport(
        data=dataset.name,
        samples=len(dataset),
        task=dataset.task,
        metric=metric.name,
        split=split,
        folds=len(folds),
        seed=settings.seed,
        limits=limits,
        study=name,
        best=best.architecture,
        chosen=chosen.architecture,
        candidates=judged,
    )


def retrain(dataset: Dataset, chosen: Architecture, settings: SelectionSettings) -> tuple[Model, TrainingReport]:
    """Train the chosen architecture on all of the data, with the options of the folds.

    Raises:
        LstmEdgeError: the errors of the task's training.
    """
    return train(dataset, chosen, settings)


def study_name(dataset: Dataset, settings: SelectionSettings, split: Split) -> str:
    """Return the study's name, with a hash of everything but candidate and fold that a trial's score depends on.

    The hash does not cover the grid and the limits, so a larger grid reuses the existing trials.
    """
    arrays: list[NDArray[Any]] = [dataset.x, dataset.lengths, dataset.y]
    arrays += [array for array in (dataset.groups, dataset.times) if array is not None]
    known = {
        "meaning": _MEANING,
        "data": fingerprint(*arrays),
        "labels": dataset.labels,
        "task": dataset.task,
        "parts": [dataset.groups is not None, dataset.times is not None],
        "split": split,
        "folds": settings.folds,
        "seed": settings.seed,
        "metric": metric_for(dataset, settings).name,
        "model": settings.model,
        "options": settings.options.to_json(),
    }
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
    return f"lstm-edge-select-{digest[:16]}"


def _measured(
    dataset: Dataset, settings: SelectionSettings, limits: Limits, say: Callable[[str], None]
) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(
            architecture=architecture,
            parameters=found.parameters,
            int8_bytes=found.int8_bytes,
            step_us=found.step_us,
            streamed=found.streamed,
            within_limits=(limits.max_bytes is None or found.int8_bytes <= limits.max_bytes)
            and (limits.max_step_us is None or found.step_us <= limits.max_step_us),
        )
        for architecture, found in measure(dataset, settings, say=say).items()
    )
