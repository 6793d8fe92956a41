"""The tables of docs/peers.md."""

from collections.abc import Mapping, Sequence

from entries import OURS, key
from race import Result
from turns import Measured, ratio

__all__ = ["ratio_table", "table"]

COLUMNS = (
    "run by", "model", "step, µs", "inner call, µs", "sequence, µs a step", "dB", "file, kB", "resident, MB",
    "added, MB", "load, ms",
)  # fmt: skip
EMPTY = "| " * (len(COLUMNS) - 3)
LITERT = "peer_litert"
# What is compared: title, our form (of peer_ours, or a key), LiteRT's form and call, and whether the project set 1.0
# as the limit.
RATIOS = (
    ("int8 `push` / LiteRT int8, states in and out", "int8", "int8", "step", True),
    ("int8 `push` / LiteRT int8, bare `invoke`", "int8", "int8", "inner", True),
    ("int8 `push` from C / LiteRT int8, bare `invoke`", "peer_c:int8", "int8", "inner", True),
    ("float32 `push`, ONNX node / LiteRT float32, states in and out", "float32", "float32", "step", True),
    ("float32 `push`, own kernel / LiteRT float32, states in and out", "float32 kernel", "float32", "step", True),
    ("float32 `push`, own kernel / LiteRT float32, bare `invoke`", "float32 kernel", "float32", "inner", True),
    ("int4 `push` / LiteRT int4, states in and out", "int4", "int4", "step", True),
    ("sparse int8 `push` / LiteRT int8, states in and out", "sparse", "int8", "step", False),
    ("int8 sequence / LiteRT int8 sequence", "int8", "int8", "sequence", False),
)


def table(results: Sequence[Result], steps: int) -> str:
    """Return one case's table, fastest step first; what could not be measured comes last with its reason."""
    measured = sorted((r for r in results if r.step.us is not None), key=lambda r: r.step.us or 0)
    missing = [r for r in results if r.step.us is None]
    lines = [f"| {' | '.join(COLUMNS)} |", f"|---|---|{'---:|' * (len(COLUMNS) - 2)}"]
    lines += [f"| {' | '.join(_cells(result, steps))} |" for result in measured]
    lines += [f"| {r.entry.peer} | {r.entry.precision} | {_why(r.reason or r.step.reason)} {EMPTY}|" for r in missing]
    return "\n".join(lines)


def _cells(result: Result, steps: int) -> Sequence[str]:
    entry = result.entry
    sequence = _time(result.sequence, steps)
    return (
        f"**{entry.peer}**" if entry.peer == OURS else entry.peer,
        entry.precision,
        _time(result.step),
        _time(result.inner) if result.inner.turns else "",
        f"{sequence}{'' if result.whole or not result.sequence.turns else ' (calls)'}",
        f"**{result.db:.1f} WRONG**" if result.wrong else f"{result.db:.1f}",
        f"{result.size_bytes / 1e3:,.0f}",
        f"{result.resident_mb:,.0f}",
        f"{result.added_mb:,.1f}",
        f"{result.load_ms:,.1f}",
    )


def _time(measured: Measured, steps: int = 1) -> str:
    if measured.us is None:
        return _why(measured.reason) if measured.reason else ""
    return f"{measured.us / steps:,.1f}"


def _why(reason: str) -> str:
    return reason.replace("|", "/").replace("<", "&lt;")


def ratio_table(cases: Mapping[str, Sequence[Result]]) -> str:
    """Return the ratios to LiteRT for each case, with the number of cases in which ours is not slower."""
    lines = [f"| ours / LiteRT | {' | '.join(cases)} | at most 1.0 |", f"|---|{'---:|' * len(cases)}---|"]
    for title, ours, theirs, call, limited in RATIOS:
        found = [_ratio(results, ours, theirs, call) for results in cases.values()]
        if not any(found):
            continue
        cells = ["" if value is None else f"{value:.2f}" for value in found]
        kept = [value <= 1 for value in found if value is not None]
        met = f"{sum(kept)} of {len(kept)}" if kept else "not measured"
        verdict = met if not limited or not kept else f"{'met' if all(kept) else 'NOT MET'}, {met}"
        lines.append(f"| {title} | {' | '.join(cells)} | {verdict} |")
    return "\n".join(lines)


def _ratio(results: Sequence[Result], ours: str, theirs: str, call: str) -> float | None:
    by_key = {key(result.entry): result for result in results}
    a = by_key.get(ours if ":" in ours else f"peer_ours:{ours}")
    b = by_key.get(f"{LITERT}:{theirs}") or by_key.get(f"{LITERT}:{theirs} step")
    if a is None or b is None:
        return None
    return ratio(a.sequence if call == "sequence" else a.step, getattr(b, call))
