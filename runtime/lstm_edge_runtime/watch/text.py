"""The metrics as Prometheus text (exposition format 0.0.4) and as a line of JSON."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.watch.samples import LATENCY_EDGES_S, SATURATED, Reading, Sampled

__all__ = ["check_labels", "json_line", "prometheus_text"]

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
# Labels of single metrics.
_TAKEN = frozenset({"reason", "state", "layer", "input", "le", "quantile"})

Labels = Mapping[str, str]
Row = tuple[str, Labels, float]


def check_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of all metrics.

    Raises:
        InputError: a name is not one of Prometheus, or a metric has it already; or a value is no text.
    """
    for name, value in labels.items():
        if not isinstance(name, str) or not _LABEL.fullmatch(name) or name.startswith("__") or name in _TAKEN:
            raise InputError(
                f"the label {name!r} must have letters, digits and underscores, begin with a letter, and be none of "
                f"{', '.join(sorted(_TAKEN))}"
            )
        if not isinstance(value, str):
            raise InputError(f"the label {name!r} must be a text, got {value!r}")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"the label {name!r} must be text of whole characters, got {value!r}") from error
    return dict(labels)


def prometheus_text(reading: Reading, labels: Labels) -> str:
    """Return the metrics as text for node_exporter's textfile collector; it ends in a newline."""
    lines: list[str] = []

    def family(name: str, kind: str, about: str, rows: Iterable[Row]) -> None:
        lines.extend((f"# HELP lstm_edge_{name} {_escaped_help(about)}", f"# TYPE lstm_edge_{name} {kind}"))
        lines.extend(
            f"lstm_edge_{name}{suffix}{_braces({**labels, **own})} {_number(value)}" for suffix, own, value in rows
        )

    family("pushes_total", "counter", "Pieces that streams accepted.", [("", {}, reading.pushes)])
    family("steps_total", "counter", "Time steps in the accepted pieces.", [("", {}, reading.steps)])
    refusals: list[Row] = [("", {"reason": reason}, count) for reason, count in reading.refusals.items()]
    family("refusals_total", "counter", "Refused pieces, flushes and lines.", refusals)
    family("streams", "gauge", "Streams that exist.", [("", {}, reading.streams)])
    errors: list[Row] = [("", {}, reading.write_errors)]
    family("metrics_write_errors_total", "counter", "How often this file could not be written.", errors)
    if reading.sampled is not None:
        _sampled_families(reading.sampled, family)
    return "\n".join(lines) + "\n"


def _sampled_families(sampled: Sampled, family: Any) -> None:
    count = sampled.count
    buckets = zip((*LATENCY_EDGES_S, math.inf), (*sampled.latency_counts, count), strict=True)
    latency: list[Row] = [("_bucket", {"le": _number(edge)}, below) for edge, below in buckets]
    latency += [("_sum", {}, sampled.latency_sum_s), ("_count", {}, count)]
    family("push_seconds", "histogram", "Duration of sampled pushes.", latency)
    for name, about, label, sums in (
        ("state_norm", "Euclidean norm of a state after sampled pushes.", "state", sampled.norms),
        ("saturated_share", f"Share of |h| above {SATURATED} after sampled pushes.", "layer", sampled.saturated),
    ):
        rows = [(s, {label: key}, v) for key, value in sums.items() for s, v in (("_sum", value), ("_count", count))]
        if rows:
            family(name, "summary", about, rows)
    values = [
        row
        for name, found in sampled.inputs.items()
        for row in (
            *(
                ("_bucket", {"input": name, "le": _number(edge)}, below)
                for edge, below in zip(found.edges, found.counts, strict=True)
            ),
            ("_count", {"input": name}, found.counts[-1]),
        )
    ]
    if values:
        family("input_value", "histogram", "Values of an input in sampled pushes.", values)
    drifts = {name: found.drift for name, found in sampled.inputs.items() if found.drift is not None}
    for key, about in (
        ("mean", "Population stability index of an input, mean over its features."),
        ("worst", "Population stability index of the feature that changed most."),
        ("worst_feature", "Index of the feature that changed most."),
    ):
        if drifts:
            rows = [("", {"input": name}, getattr(drift, key)) for name, drift in drifts.items()]
            family(f"input_psi_{key}", "gauge", about, rows)


def _escaped_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _braces(labels: Labels) -> str:
    if not labels:
        return ""
    pairs = (f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return "{" + ",".join(pairs) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(value) if isinstance(value, int) else repr(float(value))


def json_line(reading: Reading, labels: Labels) -> str:
    """Return the metrics as one line of JSON, with the same names and numbers as the Prometheus text."""
    values: dict[str, Any] = {
        "time_s": round(reading.time_s, 3),
        **({"labels": dict(labels)} if labels else {}),
        "pushes": reading.pushes,
        "steps": reading.steps,
        "refusals": dict(reading.refusals),
        "streams": reading.streams,
        "metrics_write_errors": reading.write_errors,
    }
    if reading.sampled is not None:
        values |= _sampled_json(reading.sampled)
    return json.dumps(values, allow_nan=False, ensure_ascii=False)


def _sampled_json(sampled: Sampled) -> dict[str, Any]:
    edges = [_number(edge) for edge in LATENCY_EDGES_S]
    latency = dict(zip(edges, sampled.latency_counts, strict=True)) | {"+Inf": sampled.count}
    inputs: dict[str, Any] = {}
    for name, found in sampled.inputs.items():
        inputs[name] = {"value": dict(zip(map(_number, found.edges), found.counts, strict=True))}
        if found.drift is not None:
            inputs[name] |= {f"psi_{key}": value for key, value in vars(found.drift).items()}
    return {
        "samples": sampled.count,
        "push_seconds": {"sum": sampled.latency_sum_s, "buckets": latency},
        "state_norm_sum": dict(sampled.norms),
        "saturated_share_sum": dict(sampled.saturated),
        "inputs": inputs,
    }
