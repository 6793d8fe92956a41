"""`lstm-edge export`: export a checkpoint or a factory to one verified file; optionally quantize and validate it."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lstm_edge.cli._arguments import add_command
from lstm_edge.cli._frame import print_json, print_table, progress
from lstm_edge.cli._options import (
    AllowUnquantized,
    AsJson,
    BatchAxis,
    ColumnSpec,
    Confidence,
    Example,
    Labels,
    MaxDrop,
    MetricName,
    MissingName,
    MissingRule,
    StatePairs,
    StepEvery,
    Targets,
    TaskOfModel,
    Threads,
    TimeAxis,
    arguments,
)
from lstm_edge.cli._outputs import exported_name, take_default
from lstm_edge.refusals import refuse_export
from lstm_edge_runtime.cli.definition import notice_old_name

__all__ = ["add_to"]

HELP = """Export a PyTorch or Keras model to one verified .onnx file; --scheme also quantizes it.

SOURCE is a checkpoint of `lstm-edge train`, a Keras file (.keras, .h5, .json), or `package.module:factory`: a callable
without arguments, in the current folder or installed, that returns the module. A factory needs an --input for
each argument of forward.

The file is written only if onnxruntime agrees with PyTorch over a grid of shapes and, with --scheme and --data, if the
quantized model stays within --max-drop. Exit code 1: one of these checks failed; 2: wrong usage or input.

Examples:

    lstm-edge export model.safetensors -o model.onnx

    lstm-edge export model.safetensors -o int8.onnx --scheme int8 \\
        --data japanese-vowels --metric accuracy --max-drop 0.5pt

    lstm-edge export model.keras -o int8.onnx --scheme int8

    lstm-edge export my_package.models:make_vad --weights vad.pt \\
        --input "x: float32[batch, time, 40]" --lengths -o vad.onnx

    lstm-edge export my_package.models:make_spotter --weights kws.pt \\
        --input "x: float32[batch, time, 40]" --task classification --labels yes,no,other -o kws.onnx

    lstm-edge export keywords:Spotter --weights last.ckpt --front-end log-mel:40 \\
        --input "x: float32[batch, time, 40]" -o keywords.onnx
"""


class States(StrEnum):
    """What `--states` takes."""

    EXPLICIT = "explicit"
    HIDDEN = "hidden"


class Scheme(StrEnum):
    """What `--scheme` takes."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"
    INT4 = "int4"


def add_to(app: typer.Typer) -> None:
    """Add the command `export`."""
    add_command(app, "export", export, help=HELP)


def export(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Checkpoint (.safetensors), Keras file or package.module:factory.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The .onnx file to write. By default SOURCE.onnx, or with a scheme SOURCE.int8.onnx.",
        ),
    ] = None,
    *,
    weights: Annotated[
        Path | None,
        typer.Option(help="Weights for a factory: a .safetensors file, or one of torch.save (.pt, .pth, .ckpt, .bin)."),
    ] = None,
    weights_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Key of the weights in a checkpoint, such as state_dict.")
    ] = None,
    weights_prefix: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Prefix to remove from the weights' names, such as model.")
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="SPEC",
            help='An input of forward, as "x: float32[batch, time, 40]": names are dynamic axes, numbers fixed. '
            "'... in [0, 10]' behind it is the range of its values. Repeatable, in order.",
        ),
    ] = None,
    example: Example = None,
    batch_axis: BatchAxis = None,
    time_axis: TimeAxis = None,
    output_names: Annotated[
        list[str] | None,
        typer.Option("--output-name", metavar="NAME", help="Name of an output. Repeatable, in order."),
    ] = None,
    task: TaskOfModel = None,
    labels: Labels = None,
    front_end: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="Let the file take samples and compute features itself: log-mel:40, mfcc:13 or log-mel:40,rate=8000.",
        ),
    ] = None,
    states: Annotated[
        States,
        typer.Option(
            help="explicit: states are inputs and outputs, for streaming; hidden: states start at zero inside."
        ),
    ] = States.EXPLICIT,
    state: StatePairs = None,
    lengths: Annotated[bool, typer.Option("--lengths", help="Add an input for the valid length of each row.")] = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="Inline the lstm_edge functions, for tools without local functions.")
    ] = False,
    scheme: Annotated[Scheme | None, typer.Option(help="Quantize to this scheme.")] = None,
    allow_unquantized: AllowUnquantized = False,
    data: Annotated[
        str | None, typer.Option(help="Data to validate the quantized model on, as for `validate`.")
    ] = None,
    targets: Targets = None,
    columns: ColumnSpec = None,
    step_every: StepEvery = None,
    missing: MissingRule = MissingName.REFUSE,
    metric: MetricName = None,
    max_drop: MaxDrop = None,
    confidence: Confidence = None,
    threads: Threads = 1,
    as_json: AsJson = False,
) -> None:
    """Parse, call the library, print."""
    if set(state or ()) & set(States):
        notice_old_name("--state", "states")
        states = next(States(text) for text in reversed(state or ()) if text in set(States))
        state = [text for text in state or () if text not in set(States)]
    default = exported_name(source, scheme and scheme.value)
    values = arguments({name: value for name, value in locals().items() if name not in ("as_json", "default")})
    values.setdefault("output", default)
    refuse_export(values)
    take_default(output, default)
    from lstm_edge.commands.export import export as run

    report = run(**values, progress=progress)
    if as_json:
        print_json(report.to_json())
    else:
        print_table(("export", ""), report.rows())
    report.check()
