"""Renders the report with the template."""

import dataclasses
import math
import re
from pathlib import Path, PurePath
from typing import Any

import jinja2
import markupsafe

from lstm_edge.html_report.drawing import against_metric, histograms, is_same_file, judged_files
from lstm_edge.html_report.summary import (
    allowed_drop,
    budget_text,
    confidence_text,
    data_sentences,
    plain_sentence,
    tiles,
    verdict,
)
from lstm_edge.html_report.tables import EvaluationRow, evaluation_row, layer_rows, sensitivity_rows
from lstm_edge.html_report.visible import visible
from lstm_edge.html_report.words import NOT_MEASURED, Scale, measured, metric_name, seconds
from lstm_edge.precision_search.report import SCHEMA, BudgetReport, FileNote
from lstm_edge.precision_search.request import LOOKS
from lstm_edge.precision_search.space import Prefer

__all__ = ["render_report"]

_TEMPLATES = Path(__file__).parent / "templates"
_AMOUNT = re.compile(r"(\d[\d.,]* (?:bytes|kB|MB|GB|µs|points?|dB))")
# Visible rows of the sensitivity table; the rest is collapsed.
_FIRST_ROWS = 12


def render_report(report: BudgetReport) -> str:
    """Return the report as one self-contained HTML text; equal reports give equal text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["together"] = _together
    return environment.get_template("report.html").render(_context(visible(report)))


def _together(text: str) -> markupsafe.Markup:
    """Return a text as HTML that breaks no line between a number and its unit."""
    pieces = enumerate(_AMOUNT.split(text))
    amount = markupsafe.Markup('<span class="nowrap">{}</span>')
    return markupsafe.Markup("").join(amount.format(piece) if number % 2 else piece for number, piece in pieces)


def _context(report: BudgetReport) -> dict[str, Any]:
    """Return the variables of the template."""
    scale = Scale(
        name=metric_name(report.metric.name),
        unit=report.metric.unit,
        more_is_better=report.metric.more_is_better,
        allowed=report.budget.allowed,
    )
    sensitivities = sensitivity_rows(report, scale)
    first: tuple[Prefer, Prefer] = ("latency", "size") if report.prefer == "latency" else ("size", "latency")
    drawings = [against_metric(report, scale, by=by) for by in first]
    return {
        "report": report,
        "schema": SCHEMA,
        "scale": scale,
        "not_measured": NOT_MEASURED,
        "names": [PurePath(file.path).name for file in (report.source, report.result) if file is not None],
        "verdict": verdict(report),
        "tiles": tiles(report, scale),
        "plain": plain_sentence(report, scale),
        "data_sentences": data_sentences(report),
        "judged": judged_files(report, scale, allowed=allowed_drop(report)),
        "budget": budget_text(report, scale),
        "confidence": confidence_text(report.budget.confidence),
        "each": confidence_text(report.budget.held_out_confidence),
        "most": LOOKS,
        "drawings": [drawing for drawing in drawings if drawing is not None],
        "baselines": [(entry.name, evaluation_row(entry.evaluation, report, scale)) for entry in report.baselines],
        "tuned": _tuned_row(report, scale),
        "original": _original_row(report, scale),
        "final": _final_row(report, scale),
        "layers": layer_rows(report, scale),
        "sensitivities": (sensitivities[:_FIRST_ROWS], sensitivities[_FIRST_ROWS:]),
        "evaluations": [evaluation_row(found, report, scale) for found in report.evaluations],
        "timed": any(found.step_us is not None for found in report.evaluations),
        "histograms": histograms(report),
        "few_bins": _few_bins(report),
        "same_loss": _same_loss(report, scale),
        "differences": _differences(report),
        "inputs": _inputs(report),
        "elapsed": seconds(report.elapsed_s),
    }


def _final_row(report: BudgetReport, scale: Scale) -> EvaluationRow | None:
    """Return the row of the chosen file with its written size: its card is longer than during the evaluation."""
    if report.answer is None or report.result is None:
        return None
    return evaluation_row(dataclasses.replace(report.answer, bytes=report.result.bytes), report, scale)


def _tuned_row(report: BudgetReport, scale: Scale) -> EvaluationRow | None:
    """Return the row of the chosen file on the tuning data, where it has a verdict there."""
    answer = report.answer
    for found in report.evaluations:
        if answer and found.stage != "held-out" and found.drop is not None and is_same_file(found, answer):
            return evaluation_row(found, report, scale)
    return None


def _original_row(report: BudgetReport, scale: Scale) -> EvaluationRow | None:
    """Return the row of the source on the held-out data, from the chosen file's value and loss."""
    answer = report.answer
    if answer is None:
        return None
    value = scale.reference(answer.value, answer.drop)
    source = report.source
    same = dataclasses.replace(answer, value=value, drop=0.0, low=0.0, high=0.0)
    return evaluation_row(dataclasses.replace(same, bytes=source.bytes, step_us=source.step_us), report, scale)


def _differences(report: BudgetReport) -> list[tuple[str, str]]:
    """Return the figures of the output differences, from the histogram and the validation, as rows."""
    found, validation = report.differences, report.validation
    worst, mean = (None, None) if found is None else (found.worst, found.mean)
    snr, agreement = (None, None) if validation is None else (validation.snr_db, validation.agreement)
    return [
        ("worst difference", measured(worst, "{:.3g}")),
        ("mean difference", measured(mean, "{:.3g}")),
        ("signal to noise", measured(snr, "{:.1f} dB")),
        ("same decision as float32", measured(agreement, "{:.2%}")),
    ]


def _few_bins(report: BudgetReport) -> str:
    """Return a sentence on differences that have no histogram since outliers leave all others in a few bins."""
    found = report.differences
    if found is None:
        return ""
    count, low, high = max(zip(found.counts, found.edges, found.edges[1:], strict=False))
    share = f"{math.floor(1e4 * count / sum(found.counts)) / 100:g}%"
    return f"{share} of the differences lie between {low:.3g} and {high:.3g}: a histogram would show one bar."


def _same_loss(report: BudgetReport, scale: Scale) -> str:
    """Return a sentence for a report without a drawing."""
    drops = {found.drop for found in report.evaluations if found.stage != "held-out" and found.drop is not None}
    if not drops:
        return NOT_MEASURED
    return (
        f"There is nothing to draw: the whole files that were evaluated on the tuning data have the same {scale.name}. "
        "The tables below have their sizes."
    )


def _inputs(report: BudgetReport) -> list[tuple[str, str, str]]:
    """Return files and data with their size and their SHA-256: the inputs of a reproduction."""
    result, calibration = report.result, report.calibration
    return [
        ("source", _file(report.source), report.source.sha256),
        ("result", "none", "") if result is None else ("result", _file(result), result.sha256),
        *(
            (name, f"{data.name}, {data.samples:,} {data.samples_are}", data.sha256)
            for name, data in (("tuning data", report.tuning_data), ("held-out data", report.held_out_data))
        ),
        ("calibration", f"{calibration.samples:,} samples", calibration.sha256),
    ]


def _file(file: FileNote) -> str:
    return f"{file.path}, {file.bytes:,} bytes"
