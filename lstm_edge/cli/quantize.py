"""`lstm-edge quantize`: a new file in one scheme, or in the mix that keeps the task's metric; and what was covered."""

from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lstm_edge.cli._bar import progress_bar
from lstm_edge.cli._frame import print_error, progress
from lstm_edge.cli._options import AllowUnquantized, AsJson, arguments
from lstm_edge.cli._quantized import may_overwrite, print_quantization, print_search
from lstm_edge.cli._renamed import with_old_names

if TYPE_CHECKING:
    from lstm_edge.precision_search import Evaluation

__all__ = ["add_to"]

HELP = """Quantize any .onnx file that has LSTM or GRU layers; the input file is never changed.

Recurrent and linear layers get int8 or four-bit weights, and activation scales per row and step, so that an answer does
not depend on the batch, on how a sequence is cut, or on threads; embeddings become int8 rows. Prints what was covered,
and exits 1 when a recurrent layer stayed float32 without --allow-unquantized. `lstm-edge validate` says what it cost.

With --scheme auto it finds the smallest mix of schemes whose --metric keeps within --max-drop, tuned on one part of
--data and verified on another; exit code 1: there is none, and nothing was written.

Examples:

    lstm-edge quantize model.onnx -o model.int8.onnx --scheme int8

    lstm-edge quantize model.onnx -o int4.onnx --scheme int4 --data train.npz

    lstm-edge quantize model.onnx -o mixed.onnx --part lstm.R=int4:128

    lstm-edge quantize model.onnx -o small.onnx --scheme auto \\
        --data japanese-vowels --metric accuracy --max-drop 0.5pt \\
        --report small.html

    lstm-edge quantize lm.onnx -o lm.small.onnx --scheme auto \\
        --data king-james --metric perplexity --max-drop 0.5%
"""

# An interrupted search is a result that is not there, not one over the budget (1): a script may call it with --resume.
INTERRUPTED = 2
# Repeats the default of BudgetRequest, for the length of the bar.
MOST_EVALUATIONS = 200

CALIBRATION, BUDGET = "Rounding that knows the data", "With --scheme auto"


class SchemeName(StrEnum):
    """What `--scheme` takes."""

    FLOAT16 = "float16"
    INT8 = "int8"
    INT4 = "int4"
    AUTO = "auto"


class PreferName(StrEnum):
    """What `--prefer` takes."""

    SIZE = "size"
    LATENCY = "latency"


def add_to(app: typer.Typer) -> None:
    """Add the command `quantize`."""
    app.command("quantize", help=HELP, no_args_is_help=True)(with_old_names(quantize, "quantize"))


def quantize(
    source: Annotated[Path, typer.Argument(metavar="IN.onnx", help="The file to quantize.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .onnx file to write.")],
    *,
    scheme: Annotated[SchemeName, typer.Option(help="How to quantize.")] = SchemeName.INT8,
    parts: Annotated[
        list[str] | None,
        typer.Option(
            "--part",
            metavar="PART=SCHEME",
            help="A scheme for a part: LAYER, of an LSTM also LAYER.W, LAYER.R and their gates (LAYER.R.f); float32, "
            "float16, int8, int4, int4:128, int4:32:zero, int4:128:zero. May be given several times.",
        ),
    ] = None,
    block: Annotated[int, typer.Option(help="int4: inputs that share a scale, 32 or 128.")] = 32,
    zero_points: Annotated[
        bool, typer.Option("--zero-points", help="int4: give each block a zero point (not symmetric).")
    ] = False,
    layer_kinds: Annotated[
        str, typer.Option(help="all, or recurrent: leave linear layers and embeddings float32.")
    ] = "all",
    allow_unquantized: AllowUnquantized = False,
    data: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=CALIBRATION,
            help="What activations are collected on, and with `--scheme auto` what the mix is tuned on: "
            "`japanese-vowels` (training split), `king-james`, or a file as for `validate`.",
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(rich_help_panel=CALIBRATION, help="Which columns of a CSV mean what, as for `validate`."),
    ] = None,
    calibration_samples: Annotated[
        int | None,
        typer.Option(rich_help_panel=CALIBRATION, min=1, help="Sequences, or stretches of 256 tokens. [default: 128]"),
    ] = None,
    compensate: Annotated[
        bool,
        typer.Option(
            "--compensate/--no-compensate", rich_help_panel=CALIBRATION, help="Make up for the errors of other weights."
        ),
    ] = True,
    scale_search: Annotated[
        bool,
        typer.Option(
            "--scale-search/--no-scale-search", rich_help_panel=CALIBRATION, help="Search scales, not extremes alone."
        ),
    ] = True,
    clip: Annotated[
        bool, typer.Option("--clip/--no-clip", rich_help_panel=CALIBRATION, help="Cut outlier weights off.")
    ] = True,
    seed: Annotated[
        int | None,
        typer.Option(rich_help_panel=CALIBRATION, min=0, help="Of every draw. [default: 0]"),
    ] = None,
    held_out_data: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=BUDGET,
            help="What the result is verified on, never tuned on. By default the test part of a bundled set, of a file "
            "one half.",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(rich_help_panel=BUDGET, help="As for `validate`; by default the one that `validate` takes."),
    ] = None,
    max_drop: Annotated[
        str | None,
        typer.Option(rich_help_panel=BUDGET, help="The budget: `0.5pt` in points, `0.5%` of the source's value."),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=BUDGET, help="Of the bootstrap's bound that must keep within the budget. [default: 0.95]"
        ),
    ] = None,
    prefer: Annotated[
        PreferName | None,
        typer.Option(
            rich_help_panel=BUDGET,
            help="The smallest file, or the lowest measured time of a step on this machine. [default: size]",
        ),
    ] = None,
    gates: Annotated[
        bool, typer.Option("--gates", rich_help_panel=BUDGET, help="Let the four gates of an LSTM differ.")
    ] = False,
    max_evaluations: Annotated[
        int | None,
        typer.Option(rich_help_panel=BUDGET, min=1, help="Files that are built and judged at most. [default: 200]"),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(rich_help_panel=BUDGET, min=1, help="Threads that compute. [default: 1]")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(rich_help_panel=BUDGET, help="Write a report, FILE.html, and FILE.json beside it."),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", rich_help_panel=BUDGET, help="Overwrite the FILE.json of --report without asking."),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", rich_help_panel=BUDGET, help="Go on with the interrupted search of this OUTPUT."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Parse, call the library, print."""
    given = {name: value for name, value in locals().items() if name != "as_json"}
    if report is not None and not force and may_overwrite(report.with_suffix(".json")):
        given["force"] = True
    from lstm_edge.commands.quantize import quantize as run
    from lstm_edge_exporters.quantize import QuantizationReport
    from lstm_edge_runtime.writing import beside

    values = arguments(given)
    with ExitStack() as stack:
        bar: list[Any] = []

        def on_evaluation(found: "Evaluation") -> None:
            if not bar:
                bar.append(stack.enter_context(progress_bar("searching", max_evaluations or MOST_EVALUATIONS)))
            bar[0](found.number, f"{found.stage}, {found.bytes:,} bytes")

        try:
            result = run(**values, on_evaluation=on_evaluation, progress=progress)
        except KeyboardInterrupt:
            if scheme is not SchemeName.AUTO:
                raise
            journal = beside(output, ".search")
            kept = f"{journal} keeps what was measured; go on from it with --resume"
            print_error(f"interrupted: {kept if journal.exists() else 'nothing was measured yet'}")
            raise typer.Exit(INTERRUPTED) from None
    if isinstance(result, QuantizationReport):
        print_quantization(result, as_json=as_json)
    else:
        print_search(result, as_json=as_json)
        result.check()
