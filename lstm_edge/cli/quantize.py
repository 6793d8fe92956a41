"""`lstm-edge quantize`: a new file with int8 or int4 weights, and what was covered."""

from pathlib import Path
from typing import Annotated

import typer

from lstm_edge.cli._frame import print_json, print_table, progress, shortened
from lstm_edge.cli.export import Scheme

__all__ = ["add_to"]

HELP = """Quantize any .onnx file that has LSTM or GRU layers; the input file is never changed.

Recurrent and linear layers get int8 or four-bit weights, and activation scales per row and step, so that an answer does
not depend on the batch, on how a sequence is cut, or on threads; embeddings become int8 rows. Prints what was covered,
and exits 1 when a recurrent layer stayed float32 without --allow-unquantized. `lstm-edge validate` says what it cost.

Examples:

    lstm-edge quantize model.onnx -o model.int8.onnx --scheme int8

    lstm-edge quantize model.onnx -o model.int4.onnx --scheme int4 --block 128

    lstm-edge quantize model.onnx -o model.int8.onnx --layers recurrent

    lstm-edge quantize model.onnx -o model.int8.onnx --json
"""


def add_to(app: typer.Typer) -> None:
    """Add the command `quantize`."""
    app.command("quantize", help=HELP, no_args_is_help=True)(quantize)


def quantize(
    source: Annotated[Path, typer.Argument(metavar="IN.onnx", help="The file to quantize.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .onnx file to write.")],
    *,
    scheme: Annotated[Scheme, typer.Option(help="How to quantize.")] = Scheme.INT8,
    block: Annotated[int, typer.Option(help="int4: inputs that share a scale, 32 or 128.")] = 32,
    zero_points: Annotated[
        bool, typer.Option("--zero-points", help="int4: give each block a zero point (not symmetric).")
    ] = False,
    layers: Annotated[str, typer.Option(help="all, or recurrent: leave linear layers and embeddings float32.")] = "all",
    allow_unquantized: Annotated[
        bool, typer.Option("--allow-unquantized", help="Accept recurrent layers that stay float32.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Parse, call the library, print."""
    from dataclasses import asdict

    from lstm_edge_exporters.quantize import parse_scheme
    from lstm_edge_exporters.quantize import quantize as run
    from lstm_edge_runtime.errors import ArtifactError

    chosen = parse_scheme(scheme.value, block=block, symmetric=not zero_points)
    try:
        report = run(
            source,
            output,
            scheme=chosen,
            layers=layers,
            allow_unquantized=allow_unquantized,
            progress=progress,
        )
    except ArtifactError as error:
        # What parses the bytes does not know which file they came from.
        raise error if str(error).startswith(str(source)) else type(error)(f"{source}: {error}") from error
    if as_json:
        print_json(asdict(report))
        return
    rows = [
        (name, row.operator, row.scheme, f"{row.bytes_before:,}", f"{row.bytes_after:,}")
        for name, row in zip(shortened([row.layer for row in report.coverage]), report.coverage, strict=True)
    ]
    rows.append(("file", "", "", f"{report.parent_bytes:,}", f"{report.size_bytes:,}"))
    print_table(("layer", "operator", "scheme", "bytes before", "after"), rows)
    typer.echo(f"worst difference to the float32 file on random inputs: {report.max_abs_difference:.2g}")
