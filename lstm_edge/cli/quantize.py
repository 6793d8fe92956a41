"""`lstm-edge quantize`: a new file in one scheme, or in the mix that keeps the task's metric; and what was covered."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lstm_edge.cli._auto import Auto, quantize_automatically
from lstm_edge.cli._frame import print_json, print_table, progress, shortened
from lstm_edge.cli._options import AllowUnquantized, AsJson
from lstm_edge.cli._renamed import with_old_names

if TYPE_CHECKING:
    from lstm_edge_exporters.quantize import Scheme

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
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="IN.onnx", help="The file to quantize.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .onnx file to write.")],
    *,
    scheme: Annotated[SchemeName, typer.Option(help="How to quantize.")] = SchemeName.INT8,
    part: Annotated[
        list[str] | None,
        typer.Option(
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
    automatic = {
        "--held-out-data": held_out_data,
        "--metric": metric,
        "--max-drop": max_drop,
        "--confidence": confidence,
        "--prefer": prefer,
        "--gates": gates,
        "--max-evaluations": max_evaluations,
        "--threads": threads,
        "--report": report,
        "--force": force,
        "--resume": resume,
    }
    calibrated = {
        "--columns": columns,
        "--calibration-samples": calibration_samples,
        "--no-compensate": not compensate,
        "--no-scale-search": not scale_search,
        "--no-clip": not clip,
        "--seed": seed,
    }
    parts = _parts(part or [])
    rounding = {"compensate": compensate, "search_scales": scale_search, "clip": clip} | _given(seed=seed)
    if scheme is SchemeName.AUTO:
        fixed = {"--block": block != 32, "--zero-points": zero_points, "--allow-unquantized": allow_unquantized}
        _refuse(fixed, "goes with a scheme of its own, not with --scheme auto")
        _require({"--data": data, "--max-drop": max_drop})
        options = rounding | _given(
            held_out=held_out_data,
            threads=threads,
            confidence=confidence,
            prefer=None if prefer is None else prefer.value,
            max_evaluations=max_evaluations,
            calibration_samples=calibration_samples,
        )
        required = {"source": source, "output": output, "data": data, "metric": metric, "max_drop": max_drop}
        options |= required | {"gates": gates, "layers": layer_kinds, "parts": parts, "resume": resume}
        quantize_automatically(
            Auto(options=options, columns=columns, report=report, force=force, as_json=as_json), context
        )
        return
    _refuse(automatic, "goes with --scheme auto")
    if data is None:
        _refuse(calibrated, "is about rounding that knows the data: say with --data which")
    else:
        rounding |= _given(samples=calibration_samples)
    from lstm_edge_exporters.quantize import parse_scheme

    chosen = parse_scheme(scheme.value, block=block, symmetric=not zero_points)
    more = {"layers": layer_kinds, "allow_unquantized": allow_unquantized, "parts": parts}
    if data is not None:
        more |= _calibrated(source, data, columns, rounding)
    _quantize_plainly(source, output, chosen, more, as_json=as_json)


def _quantize_plainly(source: Path, output: Path, scheme: "Scheme", more: dict[str, Any], *, as_json: bool) -> None:
    from dataclasses import asdict

    from lstm_edge_exporters.quantize import Scheme, quantize
    from lstm_edge_runtime.errors import ArtifactError

    parts = {name: Scheme.parse(text) for name, text in more.pop("parts").items()}
    try:
        report = quantize(source, output, scheme=scheme, parts=parts, progress=progress, **more)
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


def _calibrated(source: Path, data: str, columns: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """Return the rounder and the hash of what it was calibrated on, as keywords of ``quantize``."""
    from lstm_edge.data import parse_columns
    from lstm_edge.precision_search.compose import rounder_for

    named = None if columns is None else parse_columns(columns)
    rounder, sha256 = rounder_for(source, data, columns=named, say=progress, **options)
    return {"rounder": rounder, "calibration_sha256": sha256}


def _parts(texts: list[str]) -> dict[str, str]:
    """Read ``PART=SCHEME``; a part's name may hold an equals sign, a scheme's does not."""
    from lstm_edge_runtime.errors import InputError

    parts: dict[str, str] = {}
    for text in texts:
        part, equals, scheme = text.rpartition("=")
        if not (part and equals and scheme):
            raise InputError(f"--part {text!r}: expected PART=SCHEME, such as lstm.R=int4:128")
        if part in parts:
            raise InputError(f"--part {text!r}: {part} was given a scheme before ({parts[part]}); name it once")
        parts[part] = scheme
    return parts


def _given(**values: Any) -> dict[str, Any]:
    """Return the options that were given; the library has the defaults of the others."""
    return {name: value for name, value in values.items() if value is not None}


def _refuse(options: dict[str, Any], reason: str) -> None:
    from lstm_edge_runtime.errors import InputError

    for option, value in options.items():
        if value not in (None, False):
            raise InputError(f"{option} {reason}; leave it out")


def _require(options: dict[str, Any]) -> None:
    from lstm_edge_runtime.errors import InputError

    missing = [option for option, value in options.items() if value is None]
    if missing:
        raise InputError(
            f"--scheme auto needs {', '.join(missing)}: what to tune on, and how much of the metric may be lost"
        )
