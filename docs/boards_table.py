"""The table of docs/boards.md, made from the reports in docs/boards/; ``make docs-boards`` writes it."""

from pathlib import Path

from lstm_edge_runtime.bench_report import BenchReport, Timing, read_report

__all__ = ["boards_table", "read_reports"]

HEAD = (
    "device", "file", "kernels", "threads", "step: p50 / p99 / worst, µs", "sequence: p50 of a step, µs", "opening, ms",
    "memory added, MiB", "conditions",
)  # fmt: skip
# A last quarter of the calls that is slower than the first by more than this is said.
_SLOWER = 1.1
NOTHING = "No report has come in yet."


def read_reports(folder: Path) -> list[tuple[str, BenchReport]]:
    """Return the reports of a folder with their names, in the order of the names.

    Raises:
        InputError: a file is not a report.
    """
    paths = sorted(folder.glob("*.json"))
    return [(path.stem, read_report(path.read_text(encoding="utf-8"), path.name)) for path in paths]


def boards_table(folder: Path) -> str:
    """Return the Markdown table of the reports in a folder."""
    reports = read_reports(folder)
    if not reports:
        return NOTHING
    lines = [HEAD, ["---"] * len(HEAD), *(_cells(report) for _, report in reports)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(report: BenchReport) -> tuple[str, ...]:
    step, sequence = report.step, report.sequence
    memory = report.opening.resident_bytes
    return (
        _device(report),
        f"{report.model}, {report.size_bytes:,} bytes, `{report.sha256[:8]}`",
        _runs(report),
        str(report.threads),
        "" if step is None else f"{step.p50_us:,.1f} / {step.p99_us:,.1f} / {step.worst_us:,.1f}",
        "" if sequence is None else f"{sequence.p50_us / report.time:,.1f}",
        f"{report.opening.load_ms:,.0f}",
        "" if memory is None else f"{memory / 2**20:.1f}",
        "; ".join(_conditions(report)),
    )


def _device(report: BenchReport) -> str:
    device = report.device
    cores = f"{' + '.join(device.processors) or device.machine}, {device.cores} cores"
    speed = "" if device.max_mhz is None else f", {device.max_mhz / 1e3:.1f} GHz"
    memory = "" if device.memory_bytes is None else f", {device.memory_bytes / 2**30:.0f} GiB"
    return f"{device.board or device.machine}: {cores}{speed}{memory}"


def _runs(report: BenchReport) -> str:
    if not report.operators:
        return f"onnxruntime {report.onnxruntime}"
    return f"{report.kernels or 'function bodies'}, onnxruntime {report.onnxruntime}"


def _conditions(report: BenchReport) -> list[str]:
    """Return what may have slowed the device down."""
    said = [f"batch {report.batch_size}"] if report.batch_size > 1 else []
    if report.device.governors:
        said.append(f"governor {', '.join(report.device.governors)}")
    if report.before.load is not None:
        said.append(f"load {report.before.load:.1f} before")
    if report.after.celsius is not None:
        said.append(f"{report.after.celsius:.0f} °C after")
    if report.after.throttled not in (None, "0", "0x0"):
        said.append(f"throttled: {report.after.throttled}")
    for name, timing in (("steps", report.step), ("sequences", report.sequence)):
        if timing is not None and _slower(timing) > _SLOWER:
            said.append(f"the last {name} took {_slower(timing):.2f} times as long as the first")
    return said


def _slower(timing: Timing) -> float:
    return timing.last_us / timing.first_us
