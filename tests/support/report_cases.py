"""Reports for the tests: the committed example, and what searches and hostile files can make of it."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from lstm_edge.precision_search import BudgetReport, Evaluation
from lstm_edge.precision_search.report import (
    Baseline,
    BudgetNote,
    CalibrationNote,
    DataNote,
    Differences,
    FileNote,
    LayerNote,
    MetricNote,
    ResultNote,
    Sensitivity,
)
from lstm_edge.validation.report import ValidationReport
from lstm_edge.validation.stuck_streams import StreamCheck, StuckStream

__all__ = [
    "CASES",
    "EXAMPLE",
    "POISON",
    "example",
    "failed",
    "hostile",
    "poisoned",
    "read_report",
    "timed",
    "with_budget",
    "with_evaluations",
    "with_sensitivities",
]

EXAMPLE = Path(__file__).parents[1] / "fixtures" / "quantization_report.json"
# What must not reach the page as it is: markup, quotes, controls, a right-to-left override, half a surrogate pair.
POISON = "</style><script>alert(1)</script>\"'&\x00\x1b[31m\u202e\ud800"


def read_report(values):
    """The report that a ``report.json`` was written from, except for what that leaves out."""
    values = {key: value for key, value in values.items() if key not in ("schema", "passed", "judged", "conclusion")}
    shared = {"saved": 0, "allowed": values["budget"]["allowed"], "unit": values["metric"]["unit"]}
    evaluations = tuple(Evaluation(**item, **shared) for item in values["evaluations"])

    def evaluated(item):
        """The evaluation that has these figures: a baseline and a sensitivity are evaluations under a name."""
        known = {key: item[key] for key in ("bytes", "drop", "high", "step_us", "value", "snr_db") if key in item}
        parts = {item["part"]: item["scheme"]} if "part" in item else None
        return next(
            found
            for found in evaluations
            if known.items() <= vars(found).items() and parts in (None, dict(found.parts)) and found.drop is not None
        )

    def sensitivity(item):
        return Sensitivity(part=item["part"], scheme=item["scheme"], evaluation=evaluated(item))

    def layer(item):
        return LayerNote(**item | {"sensitivity": tuple(map(sensitivity, item["sensitivity"]))})

    def made(kind, key):
        return None if values[key] is None else kind(**values[key])

    return BudgetReport(
        **values
        | {
            "source": FileNote(**values["source"]),
            "result": made(ResultNote, "result"),
            "metric": MetricNote(**values["metric"]),
            "budget": BudgetNote(**values["budget"]),
            "tuning_data": DataNote(**values["tuning_data"]),
            "held_out_data": DataNote(**values["held_out_data"]),
            "calibration": CalibrationNote(**values["calibration"]),
            "baselines": tuple(Baseline(name=b["name"], evaluation=evaluated(b)) for b in values["baselines"]),
            "evaluations": evaluations,
            "layers": tuple(map(layer, values["layers"])),
            "differences": made(_differences, "differences"),
            "validation": made(_validation, "validation"),
        }
    )


def _differences(edges, counts, **more):
    return Differences(edges=tuple(edges), counts=tuple(counts), **more)


def _validation(streams, **more):
    if streams is not None:
        stuck = tuple(StuckStream(**item) for item in streams["stuck"])
        streams = StreamCheck(windows=streams["windows"], stuck=stuck)
    return ValidationReport(streams=streams, **more)


def example():
    """The report of a search on a character language model of two layers."""
    return read_report(json.loads(EXAMPLE.read_text()))


def with_budget(report, **budget):
    """The report with a budget of 0.5%, a drop of 0.0167 at 95 % confidence, or with what is said of it."""
    return replace(report, budget=replace(report.budget, **{"text": "0.5%", "allowed": 0.0167} | budget))


def with_evaluations(report, change):
    """The report with ``change`` made of each evaluation, those of baselines and sensitivities among them."""
    return with_sensitivities(
        replace(
            report,
            evaluations=tuple(map(change, report.evaluations)),
            baselines=tuple(replace(entry, evaluation=change(entry.evaluation)) for entry in report.baselines),
        ),
        lambda entry: replace(entry, evaluation=change(entry.evaluation)),
    )


def with_sensitivities(report, change):
    """The report with ``change`` made of each sensitivity."""
    layers = (replace(layer, sensitivity=tuple(map(change, layer.sensitivity))) for layer in report.layers)
    return replace(report, layers=tuple(layers))


def failed():
    """A search that nothing passed: no result, no held-out data looked at, a budget below what int8 loses."""
    report = replace(example(), result=None, differences=None, validation=None)
    report = with_budget(report, text="0.001%", allowed=3.34e-5)
    report = replace(report, evaluations=tuple(e for e in report.evaluations if e.stage != "held-out"))
    layers = tuple(replace(layer, bytes_after=layer.bytes_before, parts={}) for layer in report.layers)
    return with_evaluations(replace(report, layers=layers), lambda found: replace(found, passed=False))


def timed():
    """A classifier's search for the fastest file."""
    metric = MetricNote(name="accuracy", unit="share", more_is_better=True)
    report = with_budget(replace(example(), prefer="latency", metric=metric), text="0.5pt", allowed=0.005)

    def change(found):
        step_us = 20 + found.bytes / 1e5
        if found.drop is None:
            return replace(found, step_us=step_us)
        drop, low, high = (0.3 * value for value in (found.drop, found.low, found.high))
        return replace(found, value=0.962 - drop, drop=drop, low=low, high=high, step_us=step_us)

    return with_evaluations(report, change)


def hostile():
    """Names that nobody gives on purpose: markup, controls, two hundred letters."""
    report = example()

    def layer(number, known):
        name = f"{POISON}{'x' * 200}{number}"
        alone = tuple(replace(entry, part=f"{name}.W") for entry in known.sensitivity)
        parts = {f"{name}.W": "int8", f"{name}.R.i": "int4:128:zero"}
        return replace(known, name=name, parts=parts, sensitivity=alone)

    parts = {f"{POISON}{'y' * 200}": "int4"}
    return replace(
        report,
        layers=tuple(layer(number, known) for number, known in enumerate(report.layers)),
        evaluations=tuple(replace(found, parts=parts) for found in report.evaluations),
        command=f"lstm-edge quantize {POISON} {'z' * 300}",
        source=replace(report.source, path=f"models/{'q' * 180}{POISON}.onnx"),
    )


def poisoned(value):
    """A copy of a report with ``POISON`` in every text and key in it that is free to choose."""
    if isinstance(value, str):
        return f"{value}{POISON}"
    if isinstance(value, Mapping):
        return {poisoned(key): poisoned(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(map(poisoned, value))
    if dataclasses.is_dataclass(value):
        free = {name: item for name, item in vars(value).items() if name not in ("stage", "prefer")}
        return replace(value, **{name: poisoned(item) for name, item in free.items()})
    return value


CASES = {"example": example, "failed": failed, "timed": timed, "hostile": hostile}
