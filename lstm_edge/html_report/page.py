"""The page: the JSON object of report.json, laid out and put into the template."""

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import jinja2

from lstm_edge.html_report.drawing import against_metric, histograms
from lstm_edge.html_report.shape import check_report, visible
from lstm_edge.html_report.summary import (
    budget_text,
    confidence_text,
    data_sentence,
    final_evaluation,
    gauges,
    tiles,
    verdict,
)
from lstm_edge.html_report.tables import EvaluationRow, baseline_rows, evaluation_rows, layer_rows, sensitivity_rows
from lstm_edge.html_report.words import NOT_MEASURED, Scale, seconds

__all__ = ["render_report"]

_TEMPLATES = Path(__file__).parent / "templates"
# Rows of the sensitivity table that are seen at once; the rest is folded away.
_FIRST_ROWS = 12
_GAUGE_WIDTHS = {"wide": 860, "narrow": 344}


def render_report(values: Mapping[str, Any]) -> str:
    """Return the report as one HTML text that asks for nothing from anywhere; equal values give equal text.

    Args:
        values: the JSON object of report.json, schema 1.x, with or without a result.

    Raises:
        DataError: it is not such an object; the message has the dotted path of what is wrong.
    """
    check_report(values)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(_context(visible(values)))


def _context(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the template is filled with."""
    metric, result = values["metric"], values["result"]
    scale = Scale(
        name=metric["name"],
        unit=metric["unit"],
        more_is_better=metric["more_is_better"],
        allowed=values["budget"]["allowed"],
    )
    sensitivities = sensitivity_rows(values, scale)
    first, second = ("step_us", "bytes") if values["prefer"] == "latency" else ("bytes", "step_us")
    drawings = [against_metric(values, scale, by=by) for by in (first, second)]
    return {
        "report": values,
        "scale": scale,
        "not_measured": NOT_MEASURED,
        "names": [PurePath(file["path"]).name for file in (values["source"], result) if file is not None],
        "verdict": verdict(values),
        "tiles": tiles(values, scale),
        "data_sentence": data_sentence(values),
        "gauges": gauges(values, _GAUGE_WIDTHS),
        "budget": budget_text(values, scale),
        "confidence": confidence_text(values),
        "drawings": [drawing for drawing in drawings if drawing is not None],
        "baselines": baseline_rows(values, scale),
        "final": _final_row(values, scale),
        "layers": layer_rows(values, scale),
        "sensitivities": (sensitivities[:_FIRST_ROWS], sensitivities[_FIRST_ROWS:]),
        "evaluations": evaluation_rows(values, scale),
        "timed": any(item["step_us"] is not None for item in (*values["baselines"], *values["evaluations"])),
        "histograms": histograms(values),
        "differences": _differences(values),
        "inputs": _inputs(values),
        "elapsed": seconds(values["elapsed_s"]),
    }


def _final_row(values: Mapping[str, Any], scale: Scale) -> EvaluationRow | None:
    """Return the chosen file with the size that was written: its card is a little longer than when it was judged."""
    final = final_evaluation(values)
    if final is None:
        return None
    return evaluation_rows({**values, "evaluations": [{**final, "bytes": values["result"]["bytes"]}]}, scale)[0]


def _differences(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is known of the outputs' differences, from the histogram and the validation, as rows."""
    found, validation = values["differences"] or {}, values["validation"] or {}

    def text(key: str, pattern: str) -> str:
        value = validation.get(key)
        return NOT_MEASURED if not isinstance(value, int | float) else pattern.format(value)

    def number(key: str) -> str:
        return NOT_MEASURED if found.get(key) is None else f"{found[key]:.3g}"

    return [
        ("worst difference", number("worst")),
        ("mean difference", number("mean")),
        ("signal to noise", text("snr_db", "{:.1f} dB")),
        ("same decision as float32", text("agreement", "{:.2%}")),
    ]


def _inputs(values: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return files and data with their size and their SHA-256: what a second run must start from."""
    rows = []
    for name, file in (("source", values["source"]), ("result", values["result"])):
        rows.append((name, NOT_MEASURED, "") if file is None else (name, _file(file), file["sha256"]))
    for name, data in (("tuning data", values["tuning_data"]), ("held-out data", values["held_out_data"])):
        text = NOT_MEASURED if data is None else f"{data['name']}, {data['samples']:,} {data['samples_are']}"
        rows.append((name, text, "" if data is None else data["sha256"]))
    calibration = values["calibration"]
    if calibration is not None:
        rows.append(("calibration", f"{calibration['samples']:,} samples", calibration["sha256"]))
    return rows


def _file(file: Mapping[str, Any]) -> str:
    return f"{file['path']}, {file['bytes']:,} bytes"
