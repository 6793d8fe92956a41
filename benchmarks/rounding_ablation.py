"""Measure the effect of each step of calibrated rounding: quantize a float32 model with every combination, as Markdown.

``python benchmarks/rounding_ablation.py MODEL.onnx --data king-james --metric perplexity`` (two to three minutes on one
core for one layer of 384 cells). The rounding is calibrated on samples of the training split, drawn again for each
seed. One draw changes the loss by a tenth of a percent, so the table does not show a single draw. The models are
evaluated on the test split, which influenced no choice. The first row is the smallest possible loss: int8, whose
activations are rounded like those of int4. ``--write docs/quantization.md`` puts the table between the document's
markers.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from lstm_edge.data import BUNDLED
from lstm_edge.data.text import TEXTS, TextData
from lstm_edge.precision_search.data import calibration_feeds, load_calibration
from lstm_edge.validation.judge import Judge, load_data
from lstm_edge.validation.report import ValidationReport
from lstm_edge_exporters.quantize import parse_scheme, quantize_bytes
from lstm_edge_exporters.quantize.calibration import Calibration, collect
from lstm_edge_exporters.quantize.compensate import calibrated_rounder
from lstm_edge_exporters.quantize.rounding import Scheme
from lstm_edge_runtime.session import Session

PARTS = ("scales", "clipping", "compensation")
BEGIN = "<!-- rounding: written by `benchmarks/rounding_ablation.py` -->\n"
END = "<!-- rounding: end -->\n"
HEADING = "## The effect of each step of the rounding\n\n"


@dataclass(frozen=True, kw_only=True)
class Row:
    """Results of one scheme with the same steps of the rounding switched on: one report for each draw of samples."""

    scheme: Scheme
    parts: tuple[bool, bool, bool]
    reports: tuple[ValidationReport, ...]

    @property
    def losses(self) -> list[float]:
        """Return the losses against float32, as shares of the float32 value."""
        return [report.drop / abs(report.reference) for report in self.reports]


def main() -> None:
    """Calibrate, quantize and evaluate each combination, print."""
    arguments = parse()
    data = Path(arguments.model).read_bytes()
    name, _, part = arguments.data.partition(":")
    if name not in (*BUNDLED, *TEXTS) or part:
        raise SystemExit(f"--data {arguments.data}: expected one of {', '.join((*BUNDLED, *TEXTS))}, without a part")
    samples, session = load_calibration(f"{name}:train"), Session(data)
    calibrations = [
        collect(data, calibration_feeds(session, samples, arguments.calibration_samples, seed=seed))
        for seed in range(arguments.seeds)
    ]
    for matrix, reason in calibrations[0].missing.items():
        print(f"not calibrated: {matrix}: {reason}", file=sys.stderr)
    test = shortened(load_data(f"{name}:test", arguments.metric), arguments.samples)
    rows = []
    for row in measured(data, calibrations, Judge(data, test, metric=arguments.metric), arguments):
        rows.append(row)
        print(f"{row.scheme}, {row.parts}: {row.losses}", file=sys.stderr, flush=True)
    text = table(rows, calibrations[0], arguments)
    print(text, end="")
    if arguments.write:
        fill(Path(arguments.write), text)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="measure the effect of each step of calibrated rounding")
    parser.add_argument("model", metavar="MODEL.onnx", help="a float32 file")
    parser.add_argument("--data", required=True, help="king-james or japanese-vowels")
    parser.add_argument("--metric", required=True, help="a metric of lstm-edge validate")
    parser.add_argument("--block", type=int, default=32, choices=(32, 128), help="inputs per scale")
    parser.add_argument("--zero-points", action="store_true", help="int4 with zero points")
    parser.add_argument("--samples", type=int, help="number of characters or sequences of the test split")
    parser.add_argument(
        "--calibration-samples", type=int, default=128, help="number of sequences, or of rows of 256 tokens"
    )
    parser.add_argument(
        "--seeds", type=int, default=3, help="number of draws of calibration samples, starting at seed 0"
    )
    parser.add_argument("--write", metavar="DOC.md", help="put the table between the markers of this document")
    return parser.parse_args()


def shortened(data, count):
    """Return the first samples of a data set, or all of it."""
    if count is None:
        return data
    if isinstance(data, TextData):
        return TextData(name=f"{data.name}, first {count}", text=data.text[:count])
    return data.subset(range(min(count, len(data))), name=f"{data.name}, first {count}")


def measured(
    data: bytes, calibrations: list[Calibration], judge: Judge, arguments: argparse.Namespace
) -> Iterator[Row]:
    """Quantize and evaluate: plain int8, then int4 with every combination of the steps, the plain one first."""
    int4 = parse_scheme("int4", block=arguments.block, symmetric=not arguments.zero_points)
    choices = sorted(itertools.product((False, True), repeat=3), key=sum)
    for scheme, parts in [(parse_scheme("int8"), choices[0]), *((int4, choice) for choice in choices)]:
        scales, clipping, compensation = parts
        reports = []
        for calibration in calibrations if any(parts) else calibrations[:1]:
            rounder = calibrated_rounder(calibration, search_scales=scales, clip=clipping, compensate=compensation)
            reports.append(judge.judge(quantize_bytes(data, scheme=scheme, rounder=rounder).data, max_drop="100%"))
        yield Row(scheme=scheme, parts=parts, reports=tuple(reports))


def table(rows: list[Row], calibration: Calibration, arguments: argparse.Namespace) -> str:
    """Return the rows as Markdown; losses are means over the draws, with the lowest and the highest."""
    first = rows[0].reports[0]
    plain = next(fmean(row.losses) for row in rows if row.scheme.kind == "int4")
    lines = [
        f"`{Path(arguments.model).name}` on {first.data} ({first.samples:,} {first.samples_are}): {first.metric} in "
        f"float32 {first.reference:.4f}. Calibrated on {arguments.calibration_samples} samples of the training split "
        f"(at least {calibration.rows:,} rows of activations per matrix), drawn {arguments.seeds} times.\n",
        f"| scheme | scales | clipping | compensation | {first.metric} | lost (lowest to highest) | of plain int4's "
        "loss | outputs, dB |",
        "|---|---|---|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        marks = " | ".join("yes" if part else "–" for part in row.parts)
        value = fmean(report.candidate for report in row.reports)
        loss, snr = fmean(row.losses), fmean(report.snr_db or 0.0 for report in row.reports)
        spread = f" ({min(row.losses):.2%} to {max(row.losses):.2%})" if len(row.losses) > 1 else ""
        share = f"{loss / plain:.2f}" if row.scheme.kind == "int4" and plain else ""
        lines.append(f"| {row.scheme} | {marks} | {value:.4f} | {loss:.2%}{spread} | {share} | {snr:.1f} |")
    return "\n".join(lines) + "\n"


def fill(path: Path, content: str) -> None:
    """Put the content between the markers of a document; create a missing document, refuse one without markers."""
    text = path.read_text(encoding="utf-8") if path.exists() else f"{HEADING}{BEGIN}{END}"
    before, found, rest = text.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise ValueError(f"{path}: the markers are missing: expected {BEGIN.strip()} and {END.strip()}")
    path.write_text(f"{before}{BEGIN}\n{content}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
