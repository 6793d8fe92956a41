"""Records of a training: one for each epoch, and a report of the whole."""

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lstm_edge.sparsity import SparsityReport
from lstm_edge.training.models import RecurrentConfig
from lstm_edge.training.options import TrainingOptions

__all__ = ["Epoch", "TaskName", "TrainingReport", "best_of", "epoch_line", "report_line"]

TaskName = Literal["classification", "tagging", "forecast", "language-model"]


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch. Two records are equal if all fields except their times are equal.

    Attributes:
        number: from 1.
        train_loss: mean over the epoch, with noise, dropout and label smoothing, while the weights change.
        held_out_loss: loss after the epoch, without these.
        held_out_metric: the task's metric on the held-out data (``TrainingReport.metric`` names it).
        grad_norm_mean, grad_norm_max: mean and maximum of the gradient norms before clipping.
        learning_rate: learning rate of the last update.
        updates: number of updates; smaller if the time limit ended the epoch.
        density: share of the recurrent layers' blocks that are kept at the end; None in a training without pruning.
        seconds: time of the updates and the evaluation.
        per_second: sequences or tokens trained on per second, without the evaluation.
    """

    number: int
    train_loss: float
    held_out_loss: float
    held_out_metric: float
    grad_norm_mean: float
    grad_norm_max: float
    learning_rate: float
    updates: int
    density: float | None = None
    seconds: float = field(compare=False)
    per_second: float = field(compare=False)


def best_of(history: Sequence[Epoch]) -> Epoch:
    """Return the epoch with the lowest held-out loss, the first of equal ones, among those of the last density."""
    return min(
        (epoch for epoch in history if epoch.density == history[-1].density), key=lambda epoch: epoch.held_out_loss
    )


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """Task, data, configuration and epochs of a training; ``best`` is the epoch whose weights were kept.

    ``trained`` and ``held_out`` count ``unit``: sequences, or tokens of text.
    """

    task: TaskName
    data: str
    seed: int
    unit: Literal["sequences", "tokens"]
    trained: int
    held_out: int
    metric: str
    parameters: int
    seconds: float
    processes: int
    best: Epoch
    history: tuple[Epoch, ...]
    config: RecurrentConfig
    options: TrainingOptions
    sparsity: SparsityReport | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        values: dict[str, Any] = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}
        return values | {
            "best": dataclasses.asdict(self.best),
            "history": [dataclasses.asdict(epoch) for epoch in self.history],
            "config": self.config.to_json(),
            "options": self.options.to_json(),
            "sparsity": None if self.sparsity is None else self.sparsity.to_json(),
        }

    def rows(self) -> list[tuple[str, str]]:
        """Return the report as the rows of a table."""
        speed = sum(epoch.per_second for epoch in self.history) / len(self.history)
        return [
            ("data", self.data),
            ("seed", str(self.seed)),
            (f"{self.unit} trained on / held out", f"{self.trained:,} / {self.held_out:,}"),
            ("parameters", f"{self.parameters:,}"),
            ("epochs, best / run", f"{self.best.number} / {len(self.history)}"),
            *self._awareness(),
            *self._density(),
            *([] if self.config.distilled is None else [("distilled from", str(self.config.distilled))]),
            *self._quality(),
            ("gradient norm, last epoch mean / max", self._norms()),
            (f"{self.unit} a second", f"{speed:,.0f}"),
            ("time", f"{self.seconds:.1f} s"),
        ]

    def _quality(self) -> list[tuple[str, str]]:
        loss, metric = self.best.held_out_loss, self.best.held_out_metric
        if self.task == "language-model":
            return [
                ("held-out bits per token", f"{loss / math.log(2):.4f}"),
                ("held-out perplexity", f"{metric:.4f}"),
            ]
        if self.task == "forecast":
            return [(f"held-out {self.metric}", f"{metric:.4g}"), ("held-out loss (standardized)", f"{loss:.4f}")]
        return [("held-out accuracy", f"{metric:.2%}"), ("held-out cross-entropy", f"{loss:.4f}")]

    def _awareness(self) -> list[tuple[str, str]]:
        scheme = self.config.trained_for
        return (
            [] if scheme is None else [("quantization-aware", f"{scheme}; held-out figures are the quantized model's")]
        )

    def _density(self) -> list[tuple[str, str]]:
        if self.sparsity is None:
            return []
        found = self.sparsity
        return [
            ("density of the recurrent layers", f"{found.density:.3f}"),
            ("their bytes, sparse / dense int8", f"{found.sparse_bytes:,} / {found.dense_bytes:,}"),
        ]

    def _norms(self) -> str:
        last = self.history[-1]
        return f"{last.grad_norm_mean:.3g} / {last.grad_norm_max:.3g}"


def epoch_line(epoch: Epoch) -> str:
    """Return an epoch as one line of JSON: ``event`` is ``epoch``, the rest its fields."""
    return json.dumps({"event": "epoch"} | dataclasses.asdict(epoch), allow_nan=False)


def report_line(report: TrainingReport) -> str:
    """Return a report as one line of JSON: ``event`` is ``report``, the rest its fields."""
    return json.dumps({"event": "report"} | report.to_json(), ensure_ascii=False, allow_nan=False)
