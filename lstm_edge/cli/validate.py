"""`lstm-edge validate`: compare a candidate with a reference on the task's metric."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from lstm_edge.cli._arguments import add_command
from lstm_edge.cli._bar import progress_bar
from lstm_edge.cli._fleet import DeviceCommand, Identity, KnownHosts, StepSeconds
from lstm_edge.cli._frame import print_json, print_table, progress
from lstm_edge.cli._options import (
    AsJson,
    ColumnSpec,
    Confidence,
    Kernels,
    KernelsName,
    MaxDrop,
    MetricName,
    MissingName,
    MissingRule,
    StepEvery,
    Targets,
    Threads,
    TrustedKeys,
    arguments,
)
from lstm_edge.refusals import refuse_validate

__all__ = ["add_to"]

EPILOG = """
Exit code 0: within the budget; 1: over the budget; 2: wrong usage or input.

Examples:

`lstm-edge validate int8.onnx --against f32.onnx --data japanese-vowels`

`lstm-edge validate int8.onnx --against f32.onnx --data my.npz --max-drop 2%`

`lstm-edge validate int8.onnx --against f32.onnx --data x.npy --targets y.npy`

`lstm-edge validate int8.onnx --against f32.onnx --data episodes.npz --metric mse:output=action --max-drop 1%`

`lstm-edge validate int8.onnx --against f32.onnx --data my.csv --metric macro-f1 --max-drop 1pt --confidence 0.95`

`lstm-edge validate int8.onnx --against f32.onnx --data speech.jsonl --metric word-error-rate --max-drop 0.2pt`

`lstm-edge validate int8.onnx --against f32.onnx --data my.npz --metric mine.metrics:cost:less --max-drop 1%`

`lstm-edge validate int8.onnx --against f32.onnx --data my.npz --max-drop 1% --on pi@board1`

`lstm-edge validate lm.int8.onnx --against lm.onnx --data king-james --metric perplexity --max-drop 0.3%`
"""


def add_to(app: typer.Typer) -> None:
    """Add the command `validate`."""
    add_command(app, "validate", validate, epilog=EPILOG)


def validate(
    *,
    candidate: Annotated[
        Path, typer.Argument(metavar="CANDIDATE.onnx", help="The `.onnx` file to evaluate.", show_default=False)
    ],
    against: Annotated[Path, typer.Option(help="Reference `.onnx` file.")],
    data: Annotated[
        str,
        typer.Option(
            help="Data: `japanese-vowels` (its test split), or a file of sequences: `.csv`, `.tsv`, `.jsonl`, "
            "`.parquet`, `.npy` (with --targets), or `.npz` (with a key for each input and target) (docs/data.md), "
            "or a folder of WAV files (docs/audio.md). For a language model "
            "`king-james` (its test part) or a text file (`.txt`, `.xz`, `.gz`; `:test` means its last 5 %). For error "
            "rates a `.jsonl` file with `x` and `text`."
        ),
    ],
    targets: Targets = None,
    columns: ColumnSpec = None,
    step_every: StepEvery = None,
    missing: MissingRule = MissingName.REFUSE,
    metric: MetricName = None,
    max_drop: MaxDrop = None,
    confidence: Confidence = None,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.", min=0)] = 0,
    threads: Threads = 1,
    on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[USER@]HOST[:PORT]",
            help="Device that runs both files; its answers are judged here (docs/deploy.md). By default this machine.",
        ),
    ] = None,
    known_hosts: KnownHosts = None,
    identity: Identity = None,
    device_command: DeviceCommand = None,
    kernels: Kernels = KernelsName.AUTO,
    step_seconds: StepSeconds = 120,
    trusted_keys: TrustedKeys = None,
    as_json: AsJson = False,
) -> None:
    """Compare a candidate with a reference on the task's metric; exit code 1 if the loss is over the budget.

    With --trusted-key both files are refused before they are parsed, unless one of the keys signed each of them.
    """
    values = arguments({name: value for name, value in locals().items() if name != "as_json"})
    refuse_validate(values)
    from lstm_edge.commands.validate import validate as run

    with ExitStack() as stack:
        bar: list[Any] = []

        def on_progress(done: int, total: int) -> None:
            if not bar:
                bar.append(stack.enter_context(progress_bar("validating", total)))
            bar[0](done)

        report = run(**values, on_progress=on_progress, progress=progress)
    if as_json:
        print_json(report.to_json())
    else:
        print_table(("validation", ""), report.rows())
    report.check()
