"""`lstm-edge quantize`: quantize to one scheme, or to the smallest assignment of schemes that keeps the metric."""

from collections.abc import Sequence
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lstm_edge.cli._arguments import add_command
from lstm_edge.cli._bar import progress_bar
from lstm_edge.cli._frame import print_error, printable, progress, shortened
from lstm_edge.cli._options import (
    AllowUnquantized,
    AsJson,
    ColumnSpec,
    MissingName,
    MissingRule,
    StepEvery,
    Targets,
    arguments,
)
from lstm_edge.cli._outputs import quantized_name, take_default
from lstm_edge.cli._quantized import may_overwrite, print_quantization, print_search
from lstm_edge.cli._renamed import with_old_names
from lstm_edge.refusals import refuse_quantize

if TYPE_CHECKING:
    from lstm_edge.precision_search import Evaluation

__all__ = ["add_to"]

HELP = """Quantize any .onnx file that has LSTM, GRU or RNN layers; the input file is never changed.

Recurrent and linear layers get int8 or four-bit weights, and activation scales per row and step, so an answer does
not depend on the batch, on the chunks of a sequence, or on threads. Embeddings become int8 rows. With --data,
convolutions may become int8 with fixed activation scales. The coverage is printed. Exit code 1: a recurrent layer
stayed float32 without --allow-unquantized. `lstm-edge validate` measures the loss.

--scheme float32 rounds nothing: LSTM and GRU layers call operators that have a float32 kernel. Without kernels they are
the same ONNX nodes as before.

--scheme auto searches the smallest assignment of schemes whose --metric stays within --max-drop, on one part of
--data, and verifies it on another part. Plain int8 and float16 are verified as well, so the result is never larger
than one of them that keeps within the budget. Exit code 1: none was found, and nothing was written. --workers uses
several cores, --storage several machines.

Examples:

    lstm-edge quantize model.onnx -o model.int8.onnx --scheme int8

    lstm-edge quantize model.onnx -o model.fast.onnx --scheme float32

    lstm-edge quantize model.onnx -o int4.onnx --scheme int4 --data train.npz

    lstm-edge quantize model.onnx -o mixed.onnx --part lstm.R=int4:128

    lstm-edge quantize pruned.onnx -o sparse.onnx --sparse required

    lstm-edge quantize model.onnx -o small.onnx --scheme auto \\
        --data japanese-vowels --metric accuracy --max-drop 0.5pt \\
        --report small.html

    lstm-edge quantize lm.onnx -o lm.small.onnx --scheme auto \\
        --data king-james --metric perplexity --max-drop 0.5%
"""

# As a shell gives for Ctrl-C; 1 would mean over the budget.
INTERRUPTED = 130
# Repeats the default of BudgetRequest: it is the length of the progress bar.
MOST_EVALUATIONS = 200

CALIBRATION, BUDGET = "Calibration", "With --scheme auto"


class SchemeName(StrEnum):
    """What `--scheme` takes."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"
    INT4 = "int4"
    AUTO = "auto"


class SparseName(StrEnum):
    """What `--sparse` takes."""

    AUTO = "auto"
    OFF = "off"
    REQUIRED = "required"


class PreferName(StrEnum):
    """What `--prefer` takes."""

    SIZE = "size"
    LATENCY = "latency"


class ConvolutionsName(StrEnum):
    """What `--convolutions` takes."""

    AUTO = "auto"
    OFF = "off"
    REQUIRED = "required"


class LayerKinds(StrEnum):
    """What `--layer-kinds` takes."""

    ALL = "all"
    RECURRENT = "recurrent"


def add_to(app: typer.Typer) -> None:
    """Add the command `quantize`."""
    add_command(app, "quantize", with_old_names(quantize, "quantize"), help=HELP)


def quantize(
    source: Annotated[Path, typer.Argument(metavar="IN.onnx", help="The file to quantize.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The .onnx file to write. By default IN.SCHEME.onnx: IN.int8.onnx."),
    ] = None,
    *,
    scheme: Annotated[SchemeName, typer.Option(help="Weight scheme.")] = SchemeName.INT8,
    parts: Annotated[
        list[str] | None,
        typer.Option(
            "--part",
            metavar="PART=SCHEME",
            help="Scheme of one part: LAYER, LAYER.W, LAYER.R, or in an LSTM one gate (LAYER.R.f); float32, "
            "float16, int8, int8:sparse, int8:static (convolutions, with --data), int4:32, int4:128 (or int4), "
            "int4:32:zero, int4:128:zero. Repeatable.",
        ),
    ] = None,
    block: Annotated[
        int | None, typer.Option(help="int4: number of inputs that share a scale, 32 or 128 (the default).")
    ] = None,
    zero_points: Annotated[
        bool, typer.Option("--zero-points", help="int4: give each block a zero point (asymmetric).")
    ] = False,
    sparse: Annotated[
        SparseName,
        typer.Option(
            help="int8: what becomes of zero blocks of recurrent weights. auto leaves them out where that pays, "
            "required fails if a recurrent layer has none that pay."
        ),
    ] = SparseName.AUTO,
    layer_kinds: Annotated[
        LayerKinds,
        typer.Option(help="Layers to quantize; with recurrent, linear layers and embeddings stay float32."),
    ] = LayerKinds.ALL,
    allow_unquantized: AllowUnquantized = False,
    data: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=CALIBRATION,
            help="Calibration data, and the tuning data of `--scheme auto`: `japanese-vowels` (training split), "
            "`king-james`, or a file as for `validate`.",
        ),
    ] = None,
    targets: Targets = None,
    columns: ColumnSpec = None,
    step_every: StepEvery = None,
    missing: MissingRule = MissingName.REFUSE,
    calibration_samples: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=CALIBRATION, min=1, help="Number of sequences, or of chunks of 256 tokens. [default: 128]"
        ),
    ] = None,
    reference_data: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=CALIBRATION,
            help="Data whose distribution the card records, against which `run --metrics` measures drift. "
            "[default: `--data`]",
        ),
    ] = None,
    compensate: Annotated[
        bool,
        typer.Option(
            "--compensate/--no-compensate",
            rich_help_panel=CALIBRATION,
            help="Compensate the rounding errors of earlier weights.",
        ),
    ] = True,
    scale_search: Annotated[
        bool,
        typer.Option(
            "--scale-search/--no-scale-search",
            rich_help_panel=CALIBRATION,
            help="Search the scales instead of taking the extremes.",
        ),
    ] = True,
    clip: Annotated[
        bool, typer.Option("--clip/--no-clip", rich_help_panel=CALIBRATION, help="Clip outlier weights.")
    ] = True,
    convolutions: Annotated[
        ConvolutionsName,
        typer.Option(
            rich_help_panel=CALIBRATION,
            help="Convolutions in int8 with calibrated activation scales: auto (`--scheme int8`: where it is faster by "
            "shape and costs little), off, or required (all).",
        ),
    ] = ConvolutionsName.AUTO,
    seed: Annotated[
        int | None,
        typer.Option(rich_help_panel=CALIBRATION, min=0, help="Random seed. [default: 0]"),
    ] = None,
    held_out_data: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=BUDGET,
            help="Data that verifies the result and is never used for tuning. By default the test part of a bundled "
            "set, or one half of a file.",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(rich_help_panel=BUDGET, help="Metric, as for `validate`. By default that of `validate`."),
    ] = None,
    max_drop: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=BUDGET, help="Budget: `0.5pt` in points, `0.5dB`, or `0.5%` of the source's value."
        ),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=BUDGET,
            help="Confidence level of the upper bound that must stay within the budget. [default: 0.95]",
        ),
    ] = None,
    prefer: Annotated[
        PreferName | None,
        typer.Option(
            rich_help_panel=BUDGET,
            help="Prefer the smallest file, or the lowest step time measured on this machine. [default: size]",
        ),
    ] = None,
    gates: Annotated[
        bool, typer.Option("--gates", rich_help_panel=BUDGET, help="Allow a different scheme for each gate of an LSTM.")
    ] = False,
    max_evaluations: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=BUDGET,
            min=1,
            help="Largest number of candidate files to build and evaluate. [default: 200]",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(rich_help_panel=BUDGET, min=1, help="Number of compute threads. [default: 1]")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=BUDGET,
            min=1,
            help="Number of processes that evaluate candidate files at the same time. The result is the same. "
            "[default: 1]",
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=BUDGET,
            metavar="URL",
            help="Database through which the same command shares its evaluations on several machines, such as "
            "sqlite:///evaluations.sqlite3 or postgresql://user@host/database.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(rich_help_panel=BUDGET, help="Write a report to FILE.html, and its figures to FILE.json."),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", rich_help_panel=BUDGET, help="Overwrite the FILE.json of --report."),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", rich_help_panel=BUDGET, help="Continue the interrupted search of this OUTPUT."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Parse, call the library, print."""
    given = {name: value for name, value in locals().items() if name != "as_json"}
    if report is not None and not force and may_overwrite(report.with_suffix(".json")):
        given["force"] = True
    values = arguments(given)
    default = quantized_name(source, scheme.value)
    target = values.setdefault("output", default)
    refuse_quantize(values, quantize)
    take_default(output, default)
    from lstm_edge.commands.quantize import quantize as run
    from lstm_edge_exporters.quantize import QuantizationReport
    from lstm_edge_runtime.writing import beside

    with ExitStack() as stack:
        bar: list[Any] = []
        shown: dict[str, Any] = {"done": 0, "note": "", "workers": ""}

        def show(**changes: Any) -> None:
            shown.update(changes)
            if not bar:
                bar.append(stack.enter_context(progress_bar("searching", max_evaluations or MOST_EVALUATIONS)))
            bar[0](shown["done"], "; ".join(filter(None, (shown["note"], shown["workers"]))))

        def on_evaluation(found: "Evaluation") -> None:
            show(done=found.number, note=f"{found.stage}, {found.bytes:,} bytes")

        def on_workers(activities: Sequence[str]) -> None:
            show(workers=printable(f"workers {', '.join(shortened(activities))}"))

        try:
            result = run(**values, on_evaluation=on_evaluation, on_workers=on_workers, progress=progress)
        except KeyboardInterrupt:
            if scheme is not SchemeName.AUTO:
                raise
            journal = beside(target, ".search")
            kept = f"{journal} keeps the measurements; continue with --resume"
            print_error(f"interrupted: {kept if journal.exists() else 'nothing was measured yet'}")
            raise typer.Exit(INTERRUPTED) from None
    if isinstance(result, QuantizationReport):
        print_quantization(result, target, as_json=as_json)
    else:
        print_search(result, target, as_json=as_json)
        result.check()
