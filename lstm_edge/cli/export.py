"""``lstm-edge export``: from a checkpoint or a factory to one verified file, quantized and validated if asked."""

from pathlib import Path
from typing import Annotated

import typer

from lstm_edge.cli._frame import print_json, print_table, progress

__all__ = ["add_to"]

HELP = """Export a PyTorch model to one verified .onnx file; with --scheme, quantize and validate it too.

SOURCE is a checkpoint that `lstm-edge train` wrote (.safetensors), or `package.module:factory`, a callable without
arguments that returns the module; give its weights with --weights and each of its inputs with --input.

The file appears only when onnxruntime agreed with PyTorch over a grid of shapes and, with --scheme and --data, when
the quantized model kept within --max-drop.

Examples:

    lstm-edge export model.safetensors -o model.onnx

    lstm-edge export my_package.models:make_vad -o vad.onnx --weights vad.pt --input "x: float32[batch, time, 40]"

    lstm-edge export model.safetensors -o int8.onnx --scheme int8 --data japanese-vowels --max-drop 0.5pt
"""


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("export", help=HELP, no_args_is_help=True)(export)


def export(
    source: Annotated[str, typer.Argument(help="Checkpoint (.safetensors) or package.module:factory.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .onnx file to write.")],
    weights: Annotated[
        Path | None, typer.Option(help="Weights for a factory: .safetensors, or .pt (read with weights_only).")
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", help='An input of forward, in order: "x: float32[batch, time, 40]". Repeatable.'),
    ] = None,
    output_names: Annotated[
        list[str] | None, typer.Option("--output-name", help="Name of an output. Repeatable.")
    ] = None,
    state: Annotated[
        str, typer.Option(help="explicit: states are inputs and outputs; hidden: zeros inside.")
    ] = "explicit",
    lengths: Annotated[bool, typer.Option("--lengths", help="Add an input for the valid length of each row.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Inline the lstm_edge functions.")] = False,
    scheme: Annotated[str | None, typer.Option(help="Quantize: int8.")] = None,
    data: Annotated[str | None, typer.Option(help="Validate on: a bundled name or an .npz file.")] = None,
    metric: Annotated[str, typer.Option(help="The task's metric for --data.")] = "accuracy",
    max_drop: Annotated[str, typer.Option(help="What quantization may cost: 0.5pt absolute, 0.5% relative.")] = "0.5pt",
    confidence: Annotated[
        float | None, typer.Option(help="Hold the budget at this bound of a paired bootstrap, for example 0.95.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Parse, call the library, print."""
    from lstm_edge.pipeline import ExportRequest, run_export

    request = ExportRequest(
        source=source,
        output=output,
        weights=weights,
        inputs=tuple(inputs or ()),
        output_names=tuple(output_names or ()),
        state=state,
        lengths=lengths,
        plain=plain,
        scheme=scheme,
        data=data,
        metric=metric,
        max_drop=max_drop,
        confidence=confidence,
    )
    report = run_export(request, progress)
    if json:
        print_json(report.to_json())
    else:
        print_table(("", output.name), report.rows())
    if not report.passed:
        raise typer.Exit(1)
