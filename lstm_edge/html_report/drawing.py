"""The drawings of a report at each width, with the words for those who do not see them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lstm_edge.html_report.bars import Histogram, draw_histogram
from lstm_edge.html_report.scatter import Point, Role, Scatter, draw_scatter
from lstm_edge.html_report.summary import budget_text, final_evaluation
from lstm_edge.html_report.tables import parts_text
from lstm_edge.html_report.words import NOT_MEASURED, Scale, ratio, size, step_time, tick_text

__all__ = ["Drawing", "against_metric", "histograms"]

Values = Mapping[str, Any]
# Width and height in pixels: the phone's drawing is nearly square, so that its type and its points keep their size.
_SCATTER = {"wide": (860, 430), "narrow": (344, 380)}
_HISTOGRAM = {"wide": (860, 260), "narrow": (344, 240)}


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A drawing laid out at each width; ``missing`` counts the evaluations that have no place in it."""

    name: str
    layouts: Mapping[str, Scatter]
    x_name: str
    y_name: str
    description: str
    legend: tuple[tuple[str, str], ...]
    missing: int
    beyond: int


def against_metric(values: Values, scale: Scale, *, by: str) -> Drawing | None:
    """Return the drawing of ``by`` (``bytes`` or ``step_us``) against the drop; None where nothing has both."""
    points = _points(values, scale, by)
    if not points:
        return None
    text = size if by == "bytes" else step_time
    layouts = {
        name: draw_scatter(
            points,
            budget=values["budget"]["allowed"],
            budget_text=f"budget {values['budget']['text']}",
            width=width,
            height=height,
            x_text=lambda value: tick_text(text(value)),
            y_text=scale.tick,
        )
        for name, (width, height) in _SCATTER.items()
    }
    what = "Size" if by == "bytes" else "Step time"
    chosen = next((point.title for point in points if point.role == "chosen"), None)
    return Drawing(
        name=f"{what} against {scale.name}",
        layouts=layouts,
        x_name="size of the file" if by == "bytes" else "time of a step on this machine",
        y_name=scale.drop_axis,
        description=(
            f"{what} of {len(points)} files from {text(min(p.x for p in points))} to {text(max(p.x for p in points))} "
            f"against their drop in {scale.name}; the budget is {budget_text(values, scale)}. "
            + (f"The chosen file: {chosen}. " if chosen else "No file was chosen. ")
            + "The tables below have every figure."
        ),
        legend=_legend(points),
        missing=sum(not item[by] or item["drop"] is None for item in values["evaluations"]),
        beyond=layouts["wide"].beyond,
    )


def histograms(values: Values) -> dict[str, Histogram]:
    """Return the histogram of the output differences at each width, nothing where they were not measured."""
    found = values["differences"]
    drawn = {
        name: draw_histogram(found["edges"], found["counts"], width=width, height=height)
        for name, (width, height) in (_HISTOGRAM.items() if found else ())
    }
    return {name: histogram for name, histogram in drawn.items() if histogram is not None}


def _points(values: Values, scale: Scale, by: str) -> list[Point]:
    """Return what has both a place on the axis and a drop: baselines, evaluations, the chosen file on both data."""
    final = final_evaluation(values)
    found: list[tuple[Values, Role, str, str]] = []
    for item in values["baselines"]:
        share = f" {ratio(item['bytes'], values['source']['bytes'])}" if by == "bytes" else ""
        found.append((item, "baseline", item["name"], f"{item['name']}{share}"))
    # A baseline is also an evaluation, and is drawn once; so is a mix that was judged in two stages.
    drawn = {(item["bytes"], item["drop"]) for item in values["baselines"]}
    for item in values["evaluations"]:
        title = f"number {item['number']}, {item['stage']}"
        if item["stage"] == "held-out":
            found.append((item, "held-out", title, "held-out data" if item is final else ""))
            continue
        chosen, known = final is not None and item["parts"] == final["parts"], (item["bytes"], item["drop"])
        if chosen and not any(role == "chosen" for _, role, _, _ in found):
            found.append((item, "chosen", title, "chosen"))
        elif known not in drawn:
            found.append((item, "sensitivity" if item["stage"] == "sensitivity" else "search", title, ""))
        drawn.add(known)
    return [
        Point(
            x=item[by],
            drop=item["drop"],
            low=item["low"],
            high=item["high"],
            role=role,
            title=_title(item, name, scale),
            label=label,
            far=scale.drop(item["drop"]),
            tuned=role != "held-out",
        )
        for item, role, name, label in found
        if item[by] and item["drop"] is not None
    ]


def _legend(points: list[Point]) -> tuple[tuple[str, str], ...]:
    """Return the roles that occur, and what their marks mean."""
    texts = {
        "chosen": "the chosen mix, on tuning data",
        "held-out": "on held-out data",
        "baseline": "one scheme throughout",
        "search": "a mix that was tried",
        "sensitivity": "one part alone",
    }
    roles = {point.role for point in points}
    return (("front", "Pareto front"), *((role, text) for role, text in texts.items() if role in roles))


def _title(item: Values, name: str, scale: Scale) -> str:
    interval = scale.interval(item["low"], item["high"])
    within = "" if interval == NOT_MEASURED else f" ({interval})"
    parts = parts_text(item.get("parts", {}))
    return f"{name}: {size(item['bytes'])}, drop {scale.drop(item['drop'])}{within}{': ' + parts if parts else ''}"
