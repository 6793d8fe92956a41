"""What report.json must hold, and text from it made fit to be shown. Imports the standard library and the errors only.

The keys are those of schema 1.x; unknown keys are ignored, so that a later minor version can add some.
"""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from lstm_edge_runtime.errors import DataError

__all__ = ["check_report", "visible"]

# A tuple lists what is allowed, a list holds any number of its element, {str: x} any keys, {"key": x} these keys.
_NUMBER = (float, None)
_FILE = {"path": str, "sha256": str, "bytes": int}
_DATA = {"name": str, "samples": int, "samples_are": str, "sha256": str}
_JUDGED = {"bytes": (int, None), "value": _NUMBER, "drop": _NUMBER, "low": _NUMBER, "high": _NUMBER, "step_us": _NUMBER}
_SENSITIVITY = {"part": str, "scheme": str, "bytes": (int, None), "drop": _NUMBER, "high": _NUMBER, "snr_db": _NUMBER}
_LAYER = {
    "name": str,
    "operator": str,
    "kind": str,
    "parameters": int,
    "bytes_before": int,
    "bytes_after": (int, None),
    "parts": {str: str},
    "sensitivity": [_SENSITIVITY],
}
_REPORT = {
    "schema": str,
    "command": str,
    "versions": {str: str},
    "machine": str,
    "seed": int,
    "prefer": str,
    "passed": bool,
    "source": _FILE,
    "result": (_FILE | {"scheme": str}, None),
    "metric": {"name": str, "unit": str, "more_is_better": bool},
    "budget": {"text": str, "allowed": float, "confidence": _NUMBER},
    "tuning_data": _DATA,
    "held_out_data": (_DATA, None),
    "calibration": ({"samples": int, "sha256": str}, None),
    "baselines": [{"name": str} | _JUDGED],
    "evaluations": [{"number": int, "stage": str, "parts": {str: str}, "passed": (bool, None)} | _JUDGED],
    "layers": [_LAYER],
    "differences": ({"edges": [float], "counts": [int], "worst": _NUMBER, "mean": _NUMBER}, None),
    "validation": ({}, None),
    "elapsed_s": _NUMBER,
}
_NAMES: Mapping[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    None: "null",
}


def check_report(values: Any) -> None:
    """Refuse a JSON object that is not a report of schema 1.

    Raises:
        DataError: a key is missing, a value has the wrong type or is not finite, the major version is another, or the
            parts contradict each other; the message has the dotted path of the culprit.
    """
    _check(values, _REPORT, "report")
    if values["schema"].split(".")[0] != "1":
        raise DataError(f"report.schema: got {values['schema']!r}, expected '1.x'; a newer lstm-edge wrote it")
    if values["passed"] and values["result"] is None:
        raise DataError("report.result: got null, expected the written file, for report.passed is true")
    differences = values["differences"]
    if differences is None:
        return
    edges, bins = differences["edges"], len(differences["counts"])
    if len(edges) != bins + 1 or any(high <= low for low, high in pairwise(edges)):
        raise DataError(f"report.differences.edges: got {len(edges)} numbers, expected {bins + 1}, each above the last")


def visible(value: Any) -> Any:
    r"""Return a JSON value with every character in its texts that is not shown as itself written as ``\u001b``.

    Layers' names and paths come out of files that others made: a right-to-left override shows something else than what
    is there, HTML has no way to write a control character, and half of a surrogate pair has no bytes in UTF-8.
    """
    if isinstance(value, str):
        return value if value.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in value)
    if isinstance(value, Mapping):
        return {visible(key): visible(item) for key, item in value.items()}
    return [visible(item) for item in value] if isinstance(value, list | tuple) else value


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _check(value: Any, shape: Any, path: str) -> None:
    """Compare one value with its shape, and go on into it."""
    if isinstance(shape, tuple):
        if value is None:
            return
        shape = shape[0]
    if isinstance(shape, dict):
        _check_object(value, shape, path)
    elif isinstance(shape, list):
        if not isinstance(value, list | tuple):
            raise DataError(f"{path}: got {_got(value)}, expected a list")
        for index, item in enumerate(value):
            _check(item, shape[0], f"{path}[{index}]")
    elif not _is(value, shape):
        raise DataError(f"{path}: got {_got(value)}, expected {_NAMES[shape]}")


def _check_object(value: Any, shape: dict[Any, Any], path: str) -> None:
    if not isinstance(value, Mapping):
        raise DataError(f"{path}: got {_got(value)}, expected an object")
    if str in shape:
        for key, item in value.items():
            _check(item, shape[str], f"{path}.{visible(key)}")
        return
    for key, item in shape.items():
        if key not in value:
            raise DataError(f"{path}.{key}: missing")
        _check(value[key], item, f"{path}.{key}")


def _is(value: Any, kind: type) -> bool:
    if kind in (bool, str):
        return isinstance(value, kind)
    if isinstance(value, bool):  # Python's bool is an int; JSON's is not
        return False
    return isinstance(value, int) if kind is int else isinstance(value, int | float) and math.isfinite(value)


def _got(value: Any) -> str:
    text = repr(value)
    short: str = visible(text if len(text) <= 60 else f"{text[:57]}...")
    return short
