"""Reports for the tests: the committed example, and what searches and hostile files can make of it."""

import copy
import json
from pathlib import Path

__all__ = ["CASES", "POISON", "example", "failed", "hostile", "poisoned", "timed", "with_budget"]

EXAMPLE = Path(__file__).parents[1] / "fixtures" / "quantization_report.json"
# What must not reach the page as it is: markup, quotes, controls, a right-to-left override, half a surrogate pair.
POISON = "</style><script>alert(1)</script>\"'&\x00\x1b[31m\u202e\ud800"


def example():
    """The report of a search on a character language model of two layers."""
    return json.loads(EXAMPLE.read_text())


def with_budget(report, **budget):
    """The report with a budget of 0.5%, a drop of 0.0167 at 95 % confidence, or with what is said of it."""
    report["budget"] = {"text": "0.5%", "allowed": 0.0167, "confidence": 0.95} | budget
    return report


def failed():
    """A search that nothing passed: no result, no held-out data looked at, a budget below what int8 loses."""
    report = example()
    report |= {"passed": False, "result": None, "differences": None, "validation": None}
    report["budget"] = {"text": "0.001%", "allowed": 3.34e-5, "confidence": 0.95}
    report["evaluations"] = [item for item in report["evaluations"] if item["stage"] != "held-out"]
    for item in report["evaluations"]:
        item["passed"] = False
    for layer in report["layers"]:
        layer.update({"bytes_after": None, "parts": {}})
    return report


def timed():
    """A classifier's search for the fastest file, judged by the estimate."""
    report = example()
    report |= {"prefer": "latency", "metric": {"name": "accuracy", "unit": "share", "more_is_better": True}}
    report["budget"] = {"text": "0.5pt", "allowed": 0.005, "confidence": None}
    for item in report["baselines"] + report["evaluations"]:
        item.update({key: item[key] * 0.3 for key in ("drop", "low", "high")})
        item.update({"value": 0.962 - item["drop"], "step_us": 20 + item["bytes"] / 1e5})
    return report


def hostile():
    """Names that nobody gives on purpose: markup, controls, two hundred letters."""
    report = example()
    for number, layer in enumerate(report["layers"]):
        layer["name"] = f"{POISON}{'x' * 200}{number}"
        layer["parts"] = {f"{layer['name']}.W": "int8", f"{layer['name']}.R.i": "int4:128:zero"}
        for item in layer["sensitivity"]:
            item["part"] = f"{layer['name']}.W"
    for item in report["evaluations"]:
        item["parts"] = {f"{POISON}{'y' * 200}": "int4"}
    report["command"] = f"lstm-edge quantize {POISON} {'z' * 300}"
    report["source"]["path"] = f"models/{'q' * 180}{POISON}.onnx"
    return report


def poisoned(value):
    """A copy of a JSON value with ``POISON`` in every text and key that is free to choose."""
    if isinstance(value, dict):
        return {key: _poisoned_under(key, item) for key, item in value.items()}
    return [poisoned(item) for item in value] if isinstance(value, list) else copy.copy(value)


def _poisoned_under(key, value):
    if key in ("schema", "stage", "prefer"):
        return value
    if key in ("parts", "versions"):
        return {f"{name}{POISON}": f"{text}{POISON}" for name, text in value.items()}
    return f"{value}{POISON}" if isinstance(value, str) else poisoned(value)


CASES = {"example": example, "failed": failed, "timed": timed, "hostile": hostile}
