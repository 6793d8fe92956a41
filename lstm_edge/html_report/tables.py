"""The rows of the report's tables, as text and shares of a bar's length."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lstm_edge.html_report.summary import bound
from lstm_edge.html_report.words import NOT_MEASURED, Scale, ratio, size, step_time

__all__ = [
    "EvaluationRow",
    "LayerRow",
    "Sensitivity",
    "baseline_rows",
    "evaluation_rows",
    "layer_rows",
    "parts_text",
    "sensitivity_rows",
]

Values = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One layer; ``share`` is its size as a share of float32's, ``schemes`` pairs of part and scheme."""

    name: str
    operator: str
    parameters: str
    before: str
    after: str
    ratio: str
    share: float | None
    schemes: tuple[tuple[str, str], ...]
    sensitivity: "Sensitivity | None"


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """One part in one scheme with all else float32; ``bar`` is its drop as a share of the largest, 0 when not worse."""

    part: str
    scheme: str
    saved: str
    drop: str
    high: str
    snr: str
    bar: float
    over: bool
    chosen: bool


@dataclass(frozen=True, kw_only=True)
class EvaluationRow:
    """One file that was judged; ``passed`` is None where there was nothing to pass."""

    number: str
    stage: str
    size: str
    ratio: str
    value: str
    drop: str
    interval: str
    step: str
    passed: bool | None
    parts: str


def layer_rows(values: Values, scale: Scale) -> tuple[LayerRow, ...]:
    """Return the layers in the order of the model, each with the worst of its chosen schemes alone."""
    sensitivities = _sensitivities(values, scale)
    rows = []
    for layer in values["layers"]:
        # The worst first, so the first of the layer's own that is in the result is the one to show.
        found = (row for owner, row in sensitivities if owner == layer["name"] and row.chosen)
        before, after = layer["bytes_before"], layer["bytes_after"]
        rows.append(
            LayerRow(
                name=layer["name"],
                operator=layer["operator"],
                parameters=f"{layer['parameters']:,}",
                before=size(before),
                after=size(after),
                ratio=ratio(after, before),
                share=None if after is None or not before else min(1.0, after / before),
                schemes=tuple((_short(part, layer["name"]), scheme) for part, scheme in layer["parts"].items()),
                sensitivity=next(found, None),
            )
        )
    return tuple(rows)


def sensitivity_rows(values: Values, scale: Scale) -> tuple[Sensitivity, ...]:
    """Return what each part loses alone, the worst first; what was not measured comes last."""
    return tuple(row for _, row in _sensitivities(values, scale))


def evaluation_rows(values: Values, scale: Scale) -> tuple[EvaluationRow, ...]:
    """Return every file that was judged, in the order of judging."""
    return tuple(_judged(item, values, scale) for item in values["evaluations"])


def baseline_rows(values: Values, scale: Scale) -> tuple[EvaluationRow, ...]:
    """Return the files that have one scheme throughout; ``number`` is empty, ``stage`` the scheme."""
    return tuple(
        _judged({"number": "", "stage": item["name"], "parts": {}, "passed": None, **item}, values, scale)
        for item in values["baselines"]
    )


def parts_text(parts: Mapping[str, str]) -> str:
    """Return the schemes of the parts on one line."""
    return ", ".join(f"{part} {scheme}" for part, scheme in parts.items())


def _judged(item: Values, values: Values, scale: Scale) -> EvaluationRow:
    return EvaluationRow(
        number=str(item["number"]),
        stage=item["stage"],
        size=size(item["bytes"]),
        ratio=ratio(item["bytes"], values["source"]["bytes"]),
        value=scale.value(item["value"]),
        drop=scale.drop(item["drop"]),
        interval=scale.interval(item["low"], item["high"]),
        step=step_time(item["step_us"]),
        passed=item["passed"],
        parts=parts_text(item["parts"]),
    )


def _sensitivities(values: Values, scale: Scale) -> list[tuple[str, Sensitivity]]:
    """Return (layer, row) sorted by the drop, the worst first."""
    found = [(layer, item) for layer in values["layers"] for item in layer["sensitivity"]]
    found.sort(key=lambda pair: (-_known(pair[1]["drop"]), pair[1]["part"], pair[1]["scheme"]))
    largest = max((_known(item["drop"], 0.0) for _, item in found), default=0.0)
    return [(layer["name"], _sensitivity(item, layer, largest, values, scale)) for layer, item in found]


def _sensitivity(item: Values, layer: Values, largest: float, values: Values, scale: Scale) -> Sensitivity:
    drop, high, snr = item["drop"], item["high"], item["snr_db"]
    whole = values["source"]["bytes"]
    return Sensitivity(
        part=item["part"],
        scheme=item["scheme"],
        saved=NOT_MEASURED if item["bytes"] is None else size(whole - item["bytes"]),
        drop=scale.drop(drop),
        high=scale.drop(high),
        # JSON has no infinity: where the outputs are equal the ratio is null, and the drop is exactly 0.
        snr=f"{snr:.1f} dB" if snr is not None else "outputs equal" if drop == 0 else NOT_MEASURED,
        bar=0.0 if drop is None or largest <= 0 else round(max(0.0, drop) / largest, 4),
        over=_known(bound(values, item)) > values["budget"]["allowed"],
        chosen=layer["parts"].get(item["part"]) == item["scheme"],
    )


def _known(value: float | None, missing: float = -float("inf")) -> float:
    return missing if value is None else value


def _short(part: str, layer: str) -> str:
    """Return a part without the name of its layer: the row has that already."""
    return part.removeprefix(layer).lstrip(".") if part == layer or part.startswith(f"{layer}.") else part
