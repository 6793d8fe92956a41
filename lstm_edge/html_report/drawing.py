"""The drawings of a report at each width, with text descriptions for screen readers."""

from collections.abc import Mapping
from dataclasses import dataclass

from lstm_edge.html_report.bars import Histogram, draw_histogram
from lstm_edge.html_report.scatter import Point, Role, Scatter, draw_scatter
from lstm_edge.html_report.summary import budget_text
from lstm_edge.html_report.tables import parts_text
from lstm_edge.html_report.verdicts import Judged, Verdicts, draw_verdicts
from lstm_edge.html_report.words import Scale, ratio, size, step_time, tick_text
from lstm_edge.precision_search import Evaluation
from lstm_edge.precision_search.report import BudgetReport
from lstm_edge.precision_search.space import Prefer
from lstm_edge.precision_search.verdicts import Verdict

__all__ = ["Drawing", "against_metric", "histograms", "is_same_file", "judged_files"]

# Width and height in pixels. The drawing for phones is nearly square, so that its text and points keep their size.
_SCATTER = {"wide": (860, 430), "narrow": (344, 380)}
_VERDICTS = {"wide": 860, "narrow": 344}
# A histogram with fewer bars than this has nothing to show.
_LEAST_BARS = 5
_HISTOGRAM = {"wide": (860, 260), "narrow": (344, 240)}


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A drawing laid out at each width; ``missing`` counts the evaluations without a mark."""

    name: str
    layouts: Mapping[str, Scatter]
    x_name: str
    y_name: str
    description: str
    legend: tuple[tuple[str, str], ...]
    missing: int
    beyond: int


def against_metric(report: BudgetReport, scale: Scale, *, by: Prefer) -> Drawing | None:
    """Return the drawing of the size, or of the time of a step, against the loss on the tuning data.

    None if no file has both, or if all have the same loss: their marks would lie on one line.
    """
    points = _points(report, scale, by)
    if len({point.drop for point in points}) < 2:
        return None
    text = size if by == "size" else step_time
    layouts = {
        name: draw_scatter(
            points,
            budget=report.budget.allowed,
            budget_text=f"budget: {scale.given(report.budget.text)}",
            width=width,
            height=height,
            x_text=lambda value: tick_text(text(value)),
            y_text=scale.tick,
        )
        for name, (width, height) in _SCATTER.items()
    }
    what = "Size" if by == "size" else "Step time"
    chosen = next((point.title for point in points if point.role == "chosen"), None)
    return Drawing(
        name=f"{what} and loss of {scale.name}, on the tuning data",
        layouts=layouts,
        x_name="size of the file" if by == "size" else "time of a step on this machine",
        y_name=scale.drop_axis,
        description=(
            f"{what} of {len(points)} files from {text(min(p.x for p in points))} to {text(max(p.x for p in points))} "
            f"against their loss of {scale.name}; the budget is {budget_text(report, scale)}. "
            + (f"The chosen file: {chosen}. " if chosen else "No file was chosen. ")
            + "The tables below have every figure."
        ),
        legend=_legend(points, by),
        missing=sum(
            not _amount(found, by) or found.drop is None for found in report.evaluations if found.stage == "search"
        ),
        beyond=layouts["wide"].beyond,
    )


def histograms(report: BudgetReport) -> dict[str, Histogram]:
    """Return the histogram of the output differences at each width.

    Nothing if they were not measured, or if outliers leave all others in a few bins.
    """
    found = report.differences
    if found is None or sum(count > 0 for count in found.counts) < _LEAST_BARS:
        return {}
    return {
        name: draw_histogram(found.edges, found.counts, width=width, height=height)
        for name, (width, height) in _HISTOGRAM.items()
    }


def judged_files(report: BudgetReport, scale: Scale, *, allowed: float) -> dict[str, Verdicts]:
    """Return the drawing of the files on the held-out data at each width, or nothing if none was evaluated there.

    Args:
        report: the report.
        scale: formats losses.
        allowed: the budget on the held-out data, in the metric's unit.
    """
    judged = [
        Judged(
            drop=look.drop,
            low=look.low,
            high=look.high,
            text=f"{verdict.name}, {_judged_text(verdict, scale, chosen=look is report.answer)}",
            short=_judged_text(verdict, scale, chosen=look is report.answer),
            chosen=look is report.answer,
        )
        for look, verdict in zip(report.looks, report.verdicts, strict=True)
        if look.drop is not None
    ]
    if not judged:
        return {}
    texts = {"zero_text": "no loss", "allowed_text": f"budget: {scale.given(report.budget.text)}"}
    return {name: draw_verdicts(judged, allowed=allowed, width=width, **texts) for name, width in _VERDICTS.items()}


def _judged_text(verdict: Verdict, scale: Scale, *, chosen: bool) -> str:
    mark = "chosen" if chosen else "within" if verdict.passed else "over"
    return f"{size(verdict.bytes)}: {scale.loss(verdict.drop)} ({mark})"


def _amount(found: Evaluation, by: Prefer) -> float | None:
    return found.bytes if by == "size" else found.step_us


def _points(report: BudgetReport, scale: Scale, by: Prefer) -> list[Point]:
    """Return the files with a loss and a value for the axis: baselines, candidates, the chosen file; no part alone.

    The evaluations on the held-out data are in the verdicts' drawing: other data have other losses and another budget.
    """
    answer = report.answer
    marked: list[tuple[Evaluation, Role, str, str]] = []
    for entry in report.baselines:
        share = f" {ratio(entry.evaluation.bytes, report.source.bytes)}" if by == "size" else ""
        marked.append((entry.evaluation, "baseline", entry.name, f"{entry.name}{share}"))
    # A baseline is also an evaluation, and an assignment may be evaluated in two stages; each is drawn once.
    drawn = {(entry.evaluation.bytes, entry.evaluation.drop) for entry in report.baselines}
    for found in report.evaluations:
        title = f"number {found.number}"
        # A file may be built first and evaluated later; only the second entry has a drop to draw.
        tuned = found.stage != "held-out" and found.drop is not None
        known = found.bytes, found.drop
        chosen = answer is not None and tuned and is_same_file(found, answer)
        if chosen and not any(role == "chosen" for _, role, _, _ in marked):
            marked.append((found, "chosen", title, "chosen"))
        elif tuned and found.stage == "search" and known not in drawn:
            marked.append((found, "search", title, ""))
        drawn.add(known)
    return [
        Point(
            x=amount,
            drop=found.drop,
            low=found.low,
            high=found.high,
            role=role,
            title=_title(found, role, name, scale),
            label=label,
            far=scale.drop(found.drop),
        )
        for found, role, name, label in marked
        if (amount := _amount(found, by)) and found.drop is not None
    ]


def is_same_file(found: Evaluation, answer: Evaluation) -> bool:
    """Return whether two evaluations are of one file; a plain file has other bytes than a calibrated one."""
    return found.plain == answer.plain and found.parts == answer.parts


def _legend(points: list[Point], by: Prefer) -> tuple[tuple[str, str], ...]:
    """Return the roles that occur, and the meaning of their marks."""
    texts = {
        "chosen": "the chosen file",
        "baseline": "one scheme for all layers",
        "search": "another candidate",
    }
    roles = {point.role for point in points}
    front = "best compromises: every file with less loss is " + ("larger" if by == "size" else "slower")
    return (("front", front), *((role, text) for role, text in texts.items() if role in roles))


def _title(found: Evaluation, role: Role, name: str, scale: Scale) -> str:
    parts = "" if role == "baseline" else parts_text(found.parts)
    figures = f"{size(found.bytes)}, loss {scale.drop(found.drop)} ({scale.interval(found.low, found.high)})"
    return f"{name}: {figures}{': ' + parts if parts else ''}"
