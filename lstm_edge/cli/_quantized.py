"""Prints the reports of `lstm-edge quantize`, and asks before a file is overwritten."""

import sys
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lstm_edge.amounts import beside_scale
from lstm_edge.cli._frame import print_json, print_table, printable, shortened
from lstm_edge_runtime.cli.inspect import density_of

if TYPE_CHECKING:
    from lstm_edge.precision_search import BudgetReport
    from lstm_edge_exporters.quantize import QuantizationReport

__all__ = ["may_overwrite", "print_quantization", "print_search"]


def may_overwrite(path: Path) -> bool:
    """Ask on a terminal whether an existing file may be overwritten. Without a terminal, return False."""
    # A stream that is closed is None.
    if not path.exists() or not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr)):
        return False
    # typer.confirm prints a space on standard output, which is reserved for results.
    typer.echo(f"{printable(str(path))} exists. Overwrite it? [y/N] ", nl=False, err=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def print_quantization(report: "QuantizationReport", output: Path, *, as_json: bool) -> None:
    """Print the coverage table of one scheme, and which file was written."""
    if as_json:
        print_json(asdict(report))
        return
    names = shortened([row.layer for row in report.coverage])
    densities = [density_of(row) for row in report.coverage]
    rows: list[tuple[str, ...]] = [
        (name, row.operator, row.scheme, density, f"{row.bytes_before:,}", f"{row.bytes_after:,}")
        for name, density, row in zip(names, densities, report.coverage, strict=True)
    ]
    rows.append(("file", "", "", "", f"{report.parent_bytes:,}", f"{report.size_bytes:,}"))
    titles: tuple[str, ...] = ("layer", "operator", "scheme", "density", "bytes before", "after")
    if not any(densities):
        titles, rows = (*titles[:3], *titles[4:]), [(*row[:3], *row[4:]) for row in rows]
    print_table(titles, rows)
    shown = beside_scale(report.max_abs_difference, report.output_scale)
    typer.echo(textwrap.fill(f"worst difference to the float32 file on random inputs: {shown}", 80))
    typer.echo(printable(f"wrote {output}, {report.size_bytes:,} bytes"))


def print_search(report: "BudgetReport", output: Path, *, as_json: bool) -> None:
    """Print what a search found: each part alone, the layers of the result, the summary, and the file."""
    if as_json:
        print_json(report.to_json())
        return
    alone = report.sensitivity_rows()
    names = shortened([row[0] for row in alone])
    print_table(
        ("part alone", "scheme", "bytes", "drop", "signal to noise"),
        [(name, *row[1:]) for name, row in zip(names, alone, strict=True)],
    )
    if report.passed:
        rows = report.layer_rows()
        names = shortened([row[0] for row in rows])
        print_table(
            ("layer", "scheme", "bytes before", "after"),
            [(name, *row[1:]) for name, row in zip(names, rows, strict=True)],
        )
    print_table(("budget", ""), report.rows())
    if report.passed:
        sentences = [sentence for sentence in (report.tuning_note, report.conclusion) if sentence]
        typer.echo(textwrap.fill(f"{printable('. '.join(sentences))}.", 80, break_long_words=False))
        typer.echo(printable(f"wrote {output}, {output.stat().st_size:,} bytes"))
