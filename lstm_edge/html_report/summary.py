"""The summary: the verdict, and the figures that decide whether the file is shipped."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lstm_edge.html_report.bars import Gauge, draw_gauge
from lstm_edge.html_report.words import NOT_MEASURED, Scale, percent, ratio, signed_percent, size, step_time

__all__ = [
    "Tile",
    "bound",
    "budget_text",
    "confidence_text",
    "data_sentence",
    "final_evaluation",
    "gauges",
    "tiles",
    "verdict",
]

Values = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One figure, with what it is compared with."""

    name: str
    figure: str
    notes: tuple[str, ...]


def final_evaluation(values: Values) -> Values | None:
    """Return how the written file was judged on held-out data: the last such evaluation, a passed one if there is."""
    if values["result"] is None:
        return None
    judged: list[Values] = [item for item in values["evaluations"] if item["stage"] == "held-out"]
    passed = [item for item in judged if item["passed"]]
    return next(reversed(passed or judged), None)


def bound(values: Values, item: Values) -> float | None:
    """Return what the budget is held against: the bound of a drop, or the drop where the estimate decides."""
    estimated = values["budget"]["confidence"] is None or item["high"] is None
    found: float | None = item["drop" if estimated else "high"]
    return found


def verdict(values: Values) -> tuple[str, str]:
    """Return the verdict as a word for the style, and as a sentence."""
    if values["passed"]:
        return "passed", "Within the budget"
    if values["result"] is None:
        return "failed", "No file within the budget was found, and none was written"
    return "failed", "Over the budget"


def budget_text(values: Values, scale: Scale) -> str:
    """Return the budget as it was asked for, and in the metric's unit."""
    text: str = values["budget"]["text"]
    return f"{text}, a drop of {scale.budget}"


def confidence_text(values: Values, item: Values | None = None) -> str | None:
    """Return the confidence as a percentage, None where the estimate decides; an evaluation may have one of its own.

    (A search that may look at the held-out data several times holds each look to more than the asked confidence.)
    """
    own = None if item is None else item.get("confidence")
    confidence = values["budget"]["confidence"] if own is None else own
    return None if confidence is None else f"{100 * confidence:.4g}%"


def data_sentence(values: Values) -> str:
    """Return which data judged, and which the search went by."""
    tuning, held_out = values["tuning_data"], values["held_out_data"]
    looks = sum(item["stage"] == "held-out" for item in values["evaluations"])
    tuned = f"Tuned on {_data(tuning)}. "
    if held_out is None or not looks:
        return f"{tuned}Nothing was judged on held-out data."
    times = "once" if looks == 1 else f"{looks} times"
    return f"{tuned}Judged {times} on {_data(held_out)}, which the search does not see."


def tiles(values: Values, scale: Scale) -> tuple[Tile, ...]:
    """Return the figures of the summary, the budget among them; without a result, what came closest."""
    if values["result"] is None:
        return (_budget_tile(values, scale), *_closest_tile(values, scale), _tried_tile(values))
    final = final_evaluation(values) or {"value": None, "drop": None, "low": None, "high": None}
    reference = scale.reference(final["value"], final["drop"])
    confidence = confidence_text(values, final)
    low, high = (_validated(values, f"candidate_{end}") for end in ("low", "high"))
    interval = () if low is None or high is None else (f"interval {scale.value(low)} to {scale.value(high)}",)
    relative = signed_percent(final["drop"], reference)
    return (
        _size_tile(values),
        Tile(
            name=f"{scale.name[:1].upper()}{scale.name[1:]} on held-out data",
            figure=scale.value(final["value"]),
            notes=(
                f"float32: {scale.value(reference)}",
                *interval,
                f"{'more' if scale.more_is_better else 'less'} is better",
            ),
        ),
        Tile(
            name="Drop (+ is worse)",
            figure=scale.drop(final["drop"]),
            notes=(
                f"at most {scale.drop(final['high'])}" + (f" at {confidence} confidence" if confidence else ""),
                *(() if relative is None or scale.unit == "share" else (f"{relative} of float32's",)),
            ),
        ),
        _budget_tile(values, scale),
    )


def gauges(values: Values, widths: Mapping[str, int]) -> dict[str, Gauge]:
    """Return the drop beside the budget at each width, nothing where the drop was not measured."""
    final = final_evaluation(values)
    if final is None or final["drop"] is None:
        return {}
    allowed = _allowed(values)
    return {
        name: draw_gauge(final["drop"], final["low"], final["high"], allowed=allowed, width=width)
        for name, width in widths.items()
    }


def _size_tile(values: Values) -> Tile:
    whole, part = values["source"]["bytes"], values["result"]["bytes"]
    int8 = next((item["bytes"] for item in values["baselines"] if item["name"] == "int8"), None)
    against = () if int8 is None else (f"{percent(part, int8)} against int8",)
    # A smaller file is not always a faster one; both files are timed where a device is what they are for.
    times = [values[file].get("step_us") for file in ("result", "source")]
    timed = () if None in times else (f"step {step_time(times[0])} instead of {step_time(times[1])}",)
    notes = (f"{size(part)} instead of {size(whole)}", *against, *timed)
    return Tile(name="Size, of float32", figure=ratio(part, whole), notes=notes)


def _budget_tile(values: Values, scale: Scale) -> Tile:
    confidence = confidence_text(values)
    decides = f"held at the drop's bound, {confidence} confidence" if confidence else "held at the estimate"
    drop = dataclasses.replace(scale, allowed=_allowed(values)).budget
    return Tile(name="Budget", figure=values["budget"]["text"], notes=(f"a drop of {drop}", decides))


def _allowed(values: Values) -> float:
    """Return the allowed drop on the held-out data: a relative budget is a little another than on the tuning data."""
    validated = _validated(values, "max_drop")
    allowed: float = values["budget"]["allowed"]
    return allowed if validated is None else validated


def _validated(values: Values, key: str) -> float | None:
    """Return a number of the validation, None where it has none: it is the report of another room."""
    found = (values["validation"] or {}).get(key)
    return float(found) if isinstance(found, int | float) and math.isfinite(found) else None


def _closest_tile(values: Values, scale: Scale) -> tuple[Tile, ...]:
    judged = [(bound(values, item), item) for item in values["evaluations"]]
    known = [(high, item) for high, item in judged if high is not None and item["stage"] != "sensitivity"]
    if not known:
        return (Tile(name="Closest to it", figure=NOT_MEASURED, notes=()),)
    high, item = min(known, key=lambda pair: (pair[0], pair[1]["number"]))
    share = ratio(item["bytes"], values["source"]["bytes"])
    return (
        Tile(
            name="Closest to it",
            figure=scale.drop(high),
            notes=(f"number {item['number']} ({item['stage']})", f"{size(item['bytes'])}, {share} of float32"),
        ),
    )


def _data(data: Values) -> str:
    return f"{data['name']} ({data['samples']:,} {data['samples_are']})"


def _tried_tile(values: Values) -> Tile:
    return Tile(name="Tried", figure=str(len(values["evaluations"])), notes=("files built, listed below",))
