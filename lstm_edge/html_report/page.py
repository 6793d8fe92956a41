"""Renders the report with the template."""

import dataclasses
from pathlib import Path, PurePath
from typing import Any

import jinja2

from lstm_edge.html_report.drawing import against_metric, histograms
from lstm_edge.html_report.summary import budget_text, confidence_text, data_sentence, gauges, tiles, verdict
from lstm_edge.html_report.tables import EvaluationRow, evaluation_row, layer_rows, sensitivity_rows
from lstm_edge.html_report.visible import visible
from lstm_edge.html_report.words import NOT_MEASURED, Scale, measured, seconds
from lstm_edge.precision_search.report import SCHEMA, BudgetReport, FileNote
from lstm_edge.precision_search.space import Prefer

__all__ = ["render_report"]

_TEMPLATES = Path(__file__).parent / "templates"
# Visible rows of the sensitivity table; the rest is collapsed.
_FIRST_ROWS = 12
_GAUGE_WIDTHS = {"wide": 860, "narrow": 344}


def render_report(report: BudgetReport) -> str:
    """Return the report as one self-contained HTML text; equal reports give equal text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(_context(visible(report)))


def _context(report: BudgetReport) -> dict[str, Any]:
    """Return the variables of the template."""
    scale = Scale(
        name=report.metric.name,
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
        "data_sentence": data_sentence(report),
        "gauges": gauges(report, _GAUGE_WIDTHS),
        "budget": budget_text(report, scale),
        "confidence": confidence_text(report.budget.confidence),
        "drawings": [drawing for drawing in drawings if drawing is not None],
        "baselines": [(entry.name, evaluation_row(entry.evaluation, report, scale)) for entry in report.baselines],
        "final": _final_row(report, scale),
        "layers": layer_rows(report, scale),
        "sensitivities": (sensitivities[:_FIRST_ROWS], sensitivities[_FIRST_ROWS:]),
        "evaluations": [evaluation_row(found, report, scale) for found in report.evaluations],
        "timed": any(found.step_us is not None for found in report.evaluations),
        "histograms": histograms(report),
        "differences": _differences(report),
        "inputs": _inputs(report),
        "elapsed": seconds(report.elapsed_s),
    }


def _final_row(report: BudgetReport, scale: Scale) -> EvaluationRow | None:
    """Return the row of the chosen file with its written size: its card is longer than during the evaluation."""
    if report.answer is None or report.result is None:
        return None
    return evaluation_row(dataclasses.replace(report.answer, bytes=report.result.bytes), report, scale)


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


def _inputs(report: BudgetReport) -> list[tuple[str, str, str]]:
    """Return files and data with their size and their SHA-256: the inputs of a reproduction."""
    result, calibration = report.result, report.calibration
    return [
        ("source", _file(report.source), report.source.sha256),
        ("result", NOT_MEASURED, "") if result is None else ("result", _file(result), result.sha256),
        *(
            (name, f"{data.name}, {data.samples:,} {data.samples_are}", data.sha256)
            for name, data in (("tuning data", report.tuning_data), ("held-out data", report.held_out_data))
        ),
        ("calibration", f"{calibration.samples:,} samples", calibration.sha256),
    ]


def _file(file: FileNote) -> str:
    return f"{file.path}, {file.bytes:,} bytes"
