"""`lstm-edge validate`: a candidate against a reference, on the task's own metric."""

from pathlib import Path
from typing import Annotated

import typer

from lstm_edge.cli._bar import progress_bar
from lstm_edge.cli._frame import print_json, print_table, progress
from lstm_edge.cli._options import AsJson, ColumnSpec, Confidence, MaxDrop, MetricName, Threads

__all__ = ["add_to"]

EPILOG = """
Exit code 0: within the budget; 1: the budget is broken; 2: wrong usage or input.

Examples:

`lstm-edge validate int8.onnx --against f32.onnx --data japanese-vowels`

`lstm-edge validate int8.onnx --against f32.onnx --data my.npz --max-drop 2%`

`lstm-edge validate int8.onnx --against f32.onnx --data my.csv --metric macro-f1 --max-drop 1pt --confidence 0.95`

`lstm-edge validate int8.onnx --against f32.onnx --data speech.jsonl --metric word-error-rate --max-drop 0.2pt`

`lstm-edge validate int8.onnx --against f32.onnx --data my.npz --metric mine.metrics:cost:less --max-drop 1%`

`lstm-edge validate lm.int8.onnx --against lm.onnx --data king-james --metric perplexity --max-drop 0.3%`
"""


def add_to(app: typer.Typer) -> None:
    """Add the command `validate`."""
    app.command("validate", epilog=EPILOG, no_args_is_help=True)(validate)


def validate(
    *,
    candidate: Annotated[
        Path, typer.Argument(metavar="CANDIDATE.onnx", help="The `.onnx` file to judge.", show_default=False)
    ],
    against: Annotated[Path, typer.Option(help="The reference, an `.onnx` file.")],
    data: Annotated[
        str,
        typer.Option(
            help="`japanese-vowels` (its test split), or a file of sequences: `.npz`, `.csv`, `.jsonl` "
            "(docs/data.md says what they hold). For a language model `king-james` (its test part) or a text file "
            "(`.txt`, `.xz`, `.gz`; with `:test` its last 5 %). For error rates a `.jsonl` file with `x` and `text`."
        ),
    ],
    columns: ColumnSpec = None,
    metric: MetricName = None,
    max_drop: MaxDrop = None,
    confidence: Confidence = None,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.", min=0)] = 0,
    threads: Threads = 1,
    as_json: AsJson = False,
) -> None:
    """Compare a candidate with a reference on the task's own metric; exit 1 when it loses too much."""
    from lstm_edge.data import parse_columns
    from lstm_edge.data.text import TextData
    from lstm_edge.validation.judge import load_data
    from lstm_edge.validation.judge import validate as compare

    dataset = load_data(data, metric, columns=None if columns is None else parse_columns(columns))
    unit = "characters" if isinstance(dataset, TextData) else "sequences"
    progress(f"validating on {dataset.name}: {len(dataset):,} {unit}, seed {seed}")
    with progress_bar("validating", 2 * len(dataset)) as update:
        report = compare(
            candidate,
            against,
            dataset,
            metric=metric,
            max_drop=max_drop,
            confidence=confidence,
            seed=seed,
            threads=threads,
            on_progress=lambda done, total: update(done * 2 * len(dataset) // total),
        )
    if as_json:
        print_json(report.to_json())
    else:
        print_table(("validation", ""), report.rows())
    report.check()
