"""The rows of the report's tables, as text and shares of a bar's length."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lstm_edge.html_report.words import NOT_MEASURED, Scale, ratio, size, step_time
from lstm_edge.precision_search import Evaluation
from lstm_edge.precision_search.report import BudgetReport, LayerNote, Sensitivity

__all__ = [
    "EvaluationRow",
    "LayerRow",
    "SensitivityRow",
    "evaluation_row",
    "layer_rows",
    "parts_text",
    "sensitivity_rows",
]


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One layer; ``share`` is its size as a share of float32's, ``schemes`` pairs of part and scheme."""

    name: str
    operator: str
    parameters: str
    before: str
    after: str
    ratio: str
    share: float
    schemes: tuple[tuple[str, str], ...]
    sensitivity: "SensitivityRow | None"


@dataclass(frozen=True, kw_only=True)
class SensitivityRow:
    """One part in one scheme with all else float32; ``bar`` is its drop as a share of the largest, 0 if not worse."""

    part: str
    scheme: str
    saved: str
    drop: str
    high: str
    snr: str
    bar: float
    over: bool
    chosen: bool


@dataclass(frozen=True, kw_only=True)
class EvaluationRow:
    """One evaluated file; ``passed`` is None if no verdict exists."""

    number: str
    stage: str
    size: str
    ratio: str
    value: str
    drop: str
    interval: str
    step: str
    passed: bool | None
    parts: str


def layer_rows(report: BudgetReport, scale: Scale) -> tuple[LayerRow, ...]:
    """Return the layers in the order of the model, each with the worst of its chosen schemes alone."""
    sensitivities = _sensitivities(report, scale)
    rows = []
    for layer in report.layers:
        # Sorted by drop, the worst first, so the first sensitivity of the layer that is in the result is shown.
        found = (row for owner, row in sensitivities if owner == layer.name and row.chosen)
        before, after = layer.bytes_before, layer.bytes_after
        rows.append(
            LayerRow(
                name=layer.name,
                operator=layer.operator,
                parameters=f"{layer.parameters:,}",
                before=size(before),
                after=size(after),
                ratio=ratio(after, before),
                share=min(1.0, after / before),
                schemes=tuple((_short(part, layer.name), scheme) for part, scheme in layer.parts.items()),
                sensitivity=next(found, None),
            )
        )
    return tuple(rows)


def sensitivity_rows(report: BudgetReport, scale: Scale) -> tuple[SensitivityRow, ...]:
    """Return the loss of each part alone, the worst first; of equal losses the one with the most noise."""
    return tuple(row for _, row in _sensitivities(report, scale))


def evaluation_row(found: Evaluation, report: BudgetReport, scale: Scale) -> EvaluationRow:
    """Return one file that was evaluated, or only built."""
    return EvaluationRow(
        number=str(found.number),
        stage=found.stage,
        size=size(found.bytes),
        ratio=ratio(found.bytes, report.source.bytes),
        value=scale.value(found.value),
        drop=scale.drop(found.drop),
        interval=scale.interval(found.low, found.high),
        step=step_time(found.step_us),
        passed=found.passed,
        parts=f"{found.name}: {parts_text(found.parts)}" if found.name else parts_text(found.parts),
    )


def parts_text(parts: Mapping[str, str]) -> str:
    """Return the schemes of the parts on one line."""
    return ", ".join(f"{part} {scheme}" for part, scheme in parts.items())


def _sensitivities(report: BudgetReport, scale: Scale) -> list[tuple[str, SensitivityRow]]:
    """Return (layer, row) sorted by the drop, the worst first; of equal drops the one with the most noise."""
    found = [(layer, item) for layer in report.layers for item in layer.sensitivity]
    found.sort(key=lambda pair: _order(pair[1]))
    largest = max((_known(item.evaluation.drop) for _, item in found), default=0.0)
    return [(layer.name, _sensitivity(item, layer, largest, report, scale)) for layer, item in found]


def _sensitivity(
    item: Sensitivity, layer: LayerNote, largest: float, report: BudgetReport, scale: Scale
) -> SensitivityRow:
    found = item.evaluation
    drop, snr = found.drop, found.snr_db
    return SensitivityRow(
        part=item.part,
        scheme=item.scheme,
        saved=size(report.source.bytes - found.bytes),
        drop=scale.drop(drop),
        high=scale.drop(found.high),
        # JSON has no infinity: for equal outputs the ratio is None and the drop is exactly 0.
        snr=f"{snr:.1f} dB" if snr is not None else "outputs equal" if drop == 0 else NOT_MEASURED,
        bar=0.0 if drop is None or largest <= 0 else round(max(0.0, drop) / largest, 4),
        over=_known(found.high) > report.budget.allowed,
        chosen=layer.parts.get(item.part) == item.scheme,
    )


def _order(item: Sensitivity) -> tuple[float, float, str, str]:
    snr = item.evaluation.snr_db
    return -_known(item.evaluation.drop), math.inf if snr is None else snr, item.part, item.scheme


def _known(value: float | None) -> float:
    return -math.inf if value is None else value


def _short(part: str, layer: str) -> str:
    """Return a part without the name of its layer, which the row already shows."""
    return part.removeprefix(layer).lstrip(".") if part == layer or part.startswith(f"{layer}.") else part
