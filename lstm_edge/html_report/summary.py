"""The summary: the verdict and the figures behind it."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

from lstm_edge.html_report.bars import Gauge, draw_gauge
from lstm_edge.html_report.words import NOT_MEASURED, Scale, percent, ratio, signed_percent, size, step_time
from lstm_edge.precision_search.report import BudgetReport, DataNote, ResultNote

__all__ = ["Tile", "budget_text", "confidence_text", "data_sentence", "gauges", "tiles", "verdict"]


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One figure, with notes on what it is compared with."""

    name: str
    figure: str
    notes: tuple[str, ...]


def verdict(report: BudgetReport) -> tuple[str, str]:
    """Return the verdict as a word for the style, and as a sentence."""
    if report.passed:
        return "passed", "Within the budget"
    return "failed", "No file within the budget was found, and none was written"


def budget_text(report: BudgetReport, scale: Scale) -> str:
    """Return the budget as given, and in the metric's unit."""
    return f"{report.budget.text}, a drop of {scale.budget}"


def confidence_text(confidence: float) -> str:
    """Return a confidence as a percentage."""
    return f"{100 * confidence:.4g}%"


def data_sentence(report: BudgetReport) -> str:
    """Return a sentence on the tuning data and the held-out data."""
    tuned, looks = f"Tuned on {_data(report.tuning_data)}. ", len(report.looks)
    if not looks:
        return f"{tuned}Nothing was evaluated on held-out data."
    times = "once" if looks == 1 else f"{looks} times"
    note = f"{report.tuning_note}. " if report.tuning_note else ""
    return (
        f"{tuned}{note}Evaluated {times} on {_data(report.held_out_data)}, which the search does not use. "
        f"{report.conclusion}."
    )


def tiles(report: BudgetReport, scale: Scale) -> tuple[Tile, ...]:
    """Return the figures of the summary, including the budget; without a result, the closest file."""
    result, answer = report.result, report.answer
    if result is None or answer is None:
        return (_budget_tile(report, scale), _closest_tile(report, scale), _tried_tile(report))
    reference = scale.reference(answer.value, answer.drop)
    # A search with several evaluations on held-out data needs more than the given confidence in each.
    confidence = confidence_text(report.budget.held_out_confidence)
    relative = signed_percent(answer.drop, reference)
    return (
        _size_tile(report, result),
        Tile(
            name=f"{scale.name[:1].upper()}{scale.name[1:]} on held-out data",
            figure=scale.value(answer.value),
            notes=(
                f"float32: {scale.value(reference)}",
                *_interval(report, scale),
                f"{'more' if scale.more_is_better else 'less'} is better",
            ),
        ),
        Tile(
            name="Drop (+ is worse)",
            figure=scale.drop(answer.drop),
            notes=(
                f"at most {scale.drop(answer.high)} at {confidence} confidence",
                *(() if relative is None or scale.unit == "share" else (f"{relative} of float32's",)),
            ),
        ),
        _budget_tile(report, scale),
    )


def gauges(report: BudgetReport, widths: Mapping[str, int]) -> dict[str, Gauge]:
    """Return the drop beside the budget at each width, nothing without a result."""
    answer = report.answer
    if answer is None or answer.drop is None:
        return {}
    drop, allowed = answer.drop, _allowed(report)
    return {
        name: draw_gauge(drop, answer.low, answer.high, allowed=allowed, width=width) for name, width in widths.items()
    }


def _size_tile(report: BudgetReport, result: ResultNote) -> Tile:
    source = report.source
    int8 = next((entry.evaluation.bytes for entry in report.baselines if entry.name == "int8"), None)
    notes = (
        f"{size(result.bytes)} instead of {size(source.bytes)}",
        *(() if int8 is None else (f"{percent(result.bytes, int8)} against int8",)),
        # A smaller file is not always faster.
        f"step {step_time(result.step_us)} instead of {step_time(source.step_us)}",
    )
    return Tile(name="Size, of float32", figure=ratio(result.bytes, source.bytes), notes=notes)


def _interval(report: BudgetReport, scale: Scale) -> tuple[str, ...]:
    """Return the interval of the metric, or nothing if an end is infinite (metric undefined on a resample)."""
    validation = report.validation
    low, high = (None, None) if validation is None else (validation.candidate_low, validation.candidate_high)
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ()
    return (f"interval {scale.value(low)} to {scale.value(high)}",)


def _budget_tile(report: BudgetReport, scale: Scale) -> Tile:
    decides = f"applies to the drop's bound, {confidence_text(report.budget.confidence)} confidence"
    drop = dataclasses.replace(scale, allowed=_allowed(report)).budget
    return Tile(name="Budget", figure=report.budget.text, notes=(f"a drop of {drop}", decides))


def _allowed(report: BudgetReport) -> float:
    """Return the allowed drop on the held-out data; a relative budget differs from that on the tuning data."""
    return report.budget.allowed if report.validation is None else report.validation.max_drop


def _closest_tile(report: BudgetReport, scale: Scale) -> Tile:
    mixes = [found for found in report.evaluations if found.stage != "sensitivity"]
    known = [(found.high, found.number, found) for found in mixes if found.high is not None]
    if not known:
        return Tile(name="Closest to it", figure=NOT_MEASURED, notes=())
    high, number, closest = min(known)
    share = ratio(closest.bytes, report.source.bytes)
    return Tile(
        name="Closest to it",
        figure=scale.drop(high),
        notes=(f"number {number} ({closest.stage})", f"{size(closest.bytes)}, {share} of float32"),
    )


def _data(data: DataNote) -> str:
    return f"{data.name} ({data.samples:,} {data.samples_are})"


def _tried_tile(report: BudgetReport) -> Tile:
    return Tile(name="Tried", figure=str(len(report.evaluations)), notes=("files built, listed below",))
