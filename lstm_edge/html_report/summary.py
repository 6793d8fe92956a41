"""The summary: the verdict and the figures behind it."""

import dataclasses
import math
from dataclasses import dataclass

from lstm_edge.html_report.words import NOT_MEASURED, Scale, percent, ratio, signed_percent, size, step_time
from lstm_edge.precision_search.report import BudgetReport, DataNote, ResultNote

__all__ = [
    "Tile",
    "allowed_drop",
    "budget_text",
    "confidence_text",
    "data_sentences",
    "plain_sentence",
    "tiles",
    "verdict",
]


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
    return f"{scale.given(report.budget.text)}, a loss of at most {scale.budget}"


def confidence_text(confidence: float) -> str:
    """Return a confidence as a percentage."""
    return f"{100 * confidence:.4g}%"


def plain_sentence(report: BudgetReport, scale: Scale) -> str:
    """Return the result in one paragraph for a reader who knows the product and not the method."""
    result, answer = report.result, report.answer
    allowed = dataclasses.replace(scale, allowed=allowed_drop(report)).budget
    if result is None or answer is None:
        tried = f"{len(report.evaluations)} files were tried"
        return f"{tried}, and none keeps {scale.name} within the budget with enough certainty. The model is unchanged."
    before = scale.reference(answer.value, answer.drop)
    most = scale.loss(answer.high).removeprefix("+")
    return (
        f"The file has {size(result.bytes)} instead of {size(report.source.bytes)}. On data that the search did not "
        f"use, {scale.name} is {scale.value(answer.value)} instead of {scale.value(before)}; "
        f"{'more' if scale.more_is_better else 'less'} is better. The loss is at most {most} with "
        f"{confidence_text(report.budget.confidence)} confidence, and the budget allows {allowed}."
    )


def data_sentences(report: BudgetReport) -> tuple[str, ...]:
    """Return sentences on the tuning data and the held-out data, and on files that were left out."""
    tuned, looks = f"Tuning data, which chose the file: {_data(report.tuning_data)}.", len(report.looks)
    if not looks:
        return (tuned, "Nothing was evaluated on held-out data.")
    times = "One file was" if looks == 1 else f"{looks} files were"
    notes = [f"{note}." for note in (report.tuning_note, *report.left_out) if note]
    held_out = f"Held-out data, which the search does not use: {_data(report.held_out_data)}. {times} judged on them."
    return (tuned, held_out, *notes)


def tiles(report: BudgetReport, scale: Scale) -> tuple[Tile, ...]:
    """Return the figures of the summary, including the budget; without a result, the closest file."""
    result, answer = report.result, report.answer
    if result is None or answer is None:
        return (_budget_tile(report, scale), _closest_tile(report, scale), _tried_tile(report))
    reference = scale.reference(answer.value, answer.drop)
    # The bounds on the held-out data have this confidence together, and more each.
    confidence = confidence_text(report.budget.confidence)
    relative = signed_percent(answer.drop, reference)
    return (
        _size_tile(report, result),
        Tile(
            name=f"{scale.name[:1].upper()}{scale.name[1:]} on held-out data",
            figure=scale.value(answer.value),
            notes=(
                f"original: {scale.value(reference)}",
                *_interval(report, scale),
                f"{'more' if scale.more_is_better else 'less'} is better",
            ),
        ),
        Tile(
            name="Loss (+ is worse)",
            figure=scale.loss(answer.drop),
            notes=(
                f"at most {scale.loss(answer.high)}, {confidence} confidence¹",
                *(() if relative is None or scale.unit == "share" else (f"{relative} of the original's",)),
            ),
        ),
        _budget_tile(report, scale),
    )


def _size_tile(report: BudgetReport, result: ResultNote) -> Tile:
    source = report.source
    int8 = next((entry.evaluation.bytes for entry in report.baselines if entry.name == "int8"), None)
    notes = (
        f"{ratio(result.bytes, source.bytes)} of the original, {size(source.bytes)}",
        *(() if int8 is None else (f"{_against(result.bytes, int8)} int8 for all layers",)),
        # A smaller file is not always faster.
        f"step {step_time(result.step_us)} instead of {step_time(source.step_us)}",
    )
    return Tile(name="File size", figure=size(result.bytes), notes=notes)


def _against(part: float, whole: float) -> str:
    change = percent(part, whole)
    return "as large as" if change[1:] == "0%" else f"{change} against"


def _interval(report: BudgetReport, scale: Scale) -> tuple[str, ...]:
    """Return the range of the metric, or nothing if an end is infinite (metric undefined on a resample)."""
    validation = report.validation
    low, high = (None, None) if validation is None else (validation.candidate_low, validation.candidate_high)
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ()
    return (f"range {scale.value(low)} to {scale.value(high)}¹",)


def _budget_tile(report: BudgetReport, scale: Scale) -> Tile:
    drop = dataclasses.replace(scale, allowed=allowed_drop(report)).budget
    return Tile(name="Budget", figure=scale.given(report.budget.text), notes=(f"a loss of at most {drop}",))


def allowed_drop(report: BudgetReport) -> float:
    """Return the allowed drop on the held-out data; a relative budget differs from that on the tuning data."""
    return report.budget.allowed if report.validation is None else report.validation.max_drop


def _closest_tile(report: BudgetReport, scale: Scale) -> Tile:
    # The evaluations that the error of the command counts: all but the source.
    known = [
        (found.high, found.number, found) for found in report.evaluations if found.high is not None and found.parts
    ]
    if not known:
        return Tile(name="Closest to it", figure=NOT_MEASURED, notes=())
    high, number, closest = min(known)
    share = ratio(closest.bytes, report.source.bytes)
    return Tile(
        name="Closest to it",
        figure=scale.loss(high),
        notes=(
            "the most that it may lose¹",
            f"number {number} ({closest.stage})",
            f"{size(closest.bytes)}, {share} of the original",
        ),
    )


def _data(data: DataNote) -> str:
    return f"{data.name} ({data.samples:,} {data.samples_are})"


def _tried_tile(report: BudgetReport) -> Tile:
    return Tile(name="Tried", figure=str(len(report.evaluations)), notes=("files built, listed below",))
