"""``lstm-edge quantize``: a new file with int8 weights, and what was covered."""

from pathlib import Path
from typing import Annotated

import typer

from lstm_edge.cli._frame import print_json, print_table, progress

__all__ = ["add_to"]

HELP = """Quantize any .onnx file that has LSTM layers; the input file is never changed.

Recurrent and linear layers become int8 with activation scales per row and step, so that an answer does not depend on
the batch, on how a sequence is cut, or on threads; embeddings become int8 rows. Prints what was covered, and exits 1
when a recurrent layer stayed float32 without --allow-unquantized. What it cost is for `lstm-edge validate` to say.

Examples:

    lstm-edge quantize model.onnx -o model.int8.onnx --scheme int8

    lstm-edge quantize model.onnx -o model.int8.onnx --json | jq '.coverage[].scheme'
"""


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("quantize", help=HELP, no_args_is_help=True)(quantize)


def quantize(
    source: Annotated[Path, typer.Argument(metavar="IN.onnx", help="The file to quantize.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .onnx file to write.")],
    scheme: Annotated[str, typer.Option(help="int8.")] = "int8",
    allow_unquantized: Annotated[
        bool, typer.Option("--allow-unquantized", help="Accept recurrent layers that stay float32.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Parse, call the library, print."""
    from dataclasses import asdict

    from lstm_edge_exporters.quantize import quantize as run

    report = run(source, output, scheme=scheme, allow_unquantized=allow_unquantized, progress=progress)
    if json:
        print_json(asdict(report))
        return
    rows = [
        (row.layer, row.operator, row.scheme, f"{row.bytes_before:,}", f"{row.bytes_after:,}")
        for row in report.coverage
    ]
    rows.append(("file", "", "", f"{report.parent_bytes:,}", f"{report.size_bytes:,}"))
    print_table(("layer", "operator", "scheme", "bytes before", "after"), rows)
