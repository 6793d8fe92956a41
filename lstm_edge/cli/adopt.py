"""`lstm-edge adopt`: rewrite any ONNX file with recurrent layers as a file with a model card."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lstm_edge.amounts import beside_scale
from lstm_edge.cli._arguments import add_command
from lstm_edge.cli._options import AsJson, BatchAxis, Example, Labels, StatePairs, TaskOfModel, TimeAxis
from lstm_edge.cli._outputs import adopted_name, take_default
from lstm_edge.refusals import refuse_adopt

if TYPE_CHECKING:
    from lstm_edge_exporters.adopt import AdoptReport, FoundLayer

__all__ = ["add_to"]

HELP = """Adopt an .onnx file that another tool made: find its recurrent layers, states and axes, and verify the result.

Layers in nested If, Loop and Scan bodies are found too. Weights that other nodes compute become constants, older
opsets become 18, and decomposed cells become one node where the match is exact. The new file has a model card and
golden vectors, and gave the original's answers over a grid of shapes. IN.onnx is never changed. What could not be
found is listed. Exit code 1: the answers differ; 2: wrong usage, or a file that cannot be adopted, with the reason.

Examples:

    lstm-edge adopt model.onnx -o adopted.onnx

    lstm-edge adopt hidden.onnx -o streaming.onnx --stateful

    lstm-edge adopt vad.onnx -o vad16k.onnx --fix sr=16000 \\
        --input "input: float32[batch, 576]"

    lstm-edge adopt spotter.onnx -o kws.onnx --labels yes,no,other

    lstm-edge adopt other.onnx -o out.onnx --state context=context_out --json
"""


def add_to(app: typer.Typer) -> None:
    """Add the command `adopt`."""
    add_command(app, "adopt", adopt, help=HELP)


def adopt(
    source: Annotated[Path, typer.Argument(metavar="IN.onnx", help="The file to adopt.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The .onnx file to write. By default IN.adopted.onnx.")
    ] = None,
    *,
    stateful: Annotated[
        bool, typer.Option("--stateful", help="Make hidden zero states explicit inputs and outputs.")
    ] = False,
    sequence: Annotated[
        bool, typer.Option("--sequence", help="Loop over time: a file of one step per call takes a whole sequence.")
    ] = False,
    fix: Annotated[
        list[str] | None,
        typer.Option("--fix", metavar="NAME=VALUE", help="Make an input a constant, such as sr=16000. Repeatable."),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="SPEC",
            help='Declare an input, as "x: float32[batch, time, 64]": names are dynamic axes, numbers fixed. '
            "Repeatable.",
        ),
    ] = None,
    example: Example = None,
    batch_axis: BatchAxis = None,
    time_axis: TimeAxis = None,
    task: TaskOfModel = None,
    labels: Labels = None,
    axes: Annotated[list[str] | None, typer.Option(hidden=True)] = None,
    state: StatePairs = None,
    as_json: AsJson = False,
) -> None:
    """Parse, call the library, print."""
    from lstm_edge.cli._frame import print_json, progress

    default = adopted_name(source)
    target = output or default
    refuse_adopt(source, target, example, labels)
    take_default(output, default)
    from lstm_edge.commands.adopt import adopt as run
    from lstm_edge_exporters.adopt.axes import parse_axes

    if axes:
        progress('--axes "x=batch,time,64" is the old form of --input "x: float32[batch, time, 64]"')
    report = run(
        source,
        target,
        stateful=stateful,
        sequence=sequence,
        fix=fix or (),
        inputs=inputs or (),
        example=example,
        batch_axis=batch_axis,
        time_axis=time_axis,
        state=state or (),
        task=None if task is None else task.value,
        labels=labels,
        axes=parse_axes(axes or []),
        progress=progress,
    )
    if as_json:
        print_json(report.to_json())
    else:
        _print(report)


def _print(report: "AdoptReport") -> None:
    import textwrap

    from lstm_edge.cli._frame import print_table, printable, shortened

    card = report.card
    if report.layers:
        names = shortened([layer.name for layer in report.layers])
        rows = [(name, *_row(layer)) for name, layer in zip(names, report.layers, strict=True)]
        print_table(("layer", "operator", "features", "weights", "initial state"), rows)
    for layer in report.layers:
        if layer.where:
            typer.echo(printable(f"{layer.name} is in {layer.where}"))
    if card.states:
        print_table(("state", "output", "kind"), [(spec.input, spec.output, spec.kind) for spec in card.states])
    streaming = f"streaming: {card.streaming.verdict}" + f" ({card.streaming.reason})" * bool(card.streaming.reason)
    lines = [*(f"note: {note}" for note in report.notes), streaming]
    lines += [f"undetermined: {sentence}" for sentence in card.undetermined]
    if card.parity is not None:
        lines += [f"the original refuses {shape}" for shape in card.parity.refused]
        lines.append(
            f"parity: worst difference {beside_scale(card.parity.max_abs_difference, report.output_scale)}, against "
            f"{card.parity.against}, tolerance {card.parity.tolerance:.1g}, over {len(card.parity.shapes)} shapes"
        )
    lines.append(f"wrote {report.path}, {report.size_bytes:,} bytes")
    for line in lines:
        shown = printable(line)
        typer.echo(textwrap.fill(shown, 80, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False))


def _row(layer: "FoundLayer") -> tuple[str, str, str, str]:
    operator = layer.operator if layer.direction == "forward" else f"{layer.operator}, {layer.direction}"
    initial = ", ".join(f"{kind} {how}" for kind, how in layer.initial.items())
    return operator, f"{layer.input_size or '?'} > {layer.hidden_size or '?'}", layer.weights, initial
