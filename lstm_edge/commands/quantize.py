"""``lstm-edge quantize``: one scheme, with or without data, or the smallest mix that keeps the task's metric."""

import inspect
import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lstm_edge.commands.old_names import accept_old_names
from lstm_edge.data import Columns, parse_columns
from lstm_edge_exporters.quantize import MatrixRounder, QuantizationReport, Scheme, parse_scheme
from lstm_edge_exporters.quantize import quantize as quantize_file
from lstm_edge_runtime.errors import ArtifactError, InputError, OutputError
from lstm_edge_runtime.writing import check_target, write_atomically

if TYPE_CHECKING:
    from lstm_edge.precision_search import BudgetReport, Evaluation

__all__ = ["quantize"]

AnyPath = str | os.PathLike[str]
Say = Callable[[str], None]
Parts = Mapping[str, Scheme | str] | Sequence[str]

# What is left out of the command that a report shows: it says how to do it again, not how to go on.
_NOT_REPEATED = ("source", "output", "resume", "force", "rounder", "calibration_sha256", "progress", "on_evaluation")


@accept_old_names(path="output", layers="layer_kinds")
def quantize(
    source: AnyPath,
    output: AnyPath,
    *,
    scheme: str | Scheme = "int8",
    parts: Parts = (),
    block: int = 32,
    zero_points: bool = False,
    layer_kinds: str = "all",
    allow_unquantized: bool = False,
    data: str | None = None,
    columns: Columns | str | None = None,
    calibration_samples: int | None = None,
    compensate: bool = True,
    scale_search: bool = True,
    clip: bool = True,
    seed: int | None = None,
    held_out_data: str | None = None,
    metric: str | None = None,
    max_drop: str | None = None,
    confidence: float | None = None,
    prefer: Literal["size", "latency"] | None = None,
    gates: bool = False,
    max_evaluations: int | None = None,
    threads: int | None = None,
    report: AnyPath | None = None,
    force: bool = False,
    resume: bool = False,
    rounder: MatrixRounder | None = None,
    calibration_sha256: str | None = None,
    on_evaluation: "Callable[[Evaluation], None] | None" = None,
    progress: Say | None = None,
) -> "QuantizationReport | BudgetReport":
    """Quantize a file that has LSTM or GRU layers; what ``lstm-edge quantize`` does. The source is never changed.

    Args:
        source: any ONNX file with recurrent layers; weights in a file beside it are read with it.
        output: the ``.onnx`` file to write; another one than ``source``.
        scheme: ``"int8"``, ``"int4"`` (or a text such as ``"int4:128"``), ``"float16"``; ``"float32"``: only what
            ``parts`` names changes; ``"auto"``: the smallest mix whose metric keeps within ``max_drop``.
        parts: schemes of layers, or of the matrices and gates of an LSTM: ``{"lstm.R": "int4:128"}`` or
            ``["lstm.R=int4:128"]``.
        block: of int4: inputs that share a scale, 32 or 128.
        zero_points: of int4: give each block a zero point.
        layer_kinds: ``"all"``, or ``"recurrent"`` to leave linear layers and embeddings as they are.
        allow_unquantized: accept recurrent layers that stay float32.
        data: what activations are collected on (``x`` float32 ``[steps, features]``, or a text), and with ``"auto"``
            what the mix is tuned on; a bundled name or a file (docs/data.md).
        columns: for a CSV file, which columns mean what.
        calibration_samples: sequences, or stretches of 256 tokens; 128 by default.
        compensate: with data: let rounding make up for the errors of other weights.
        scale_search: with data: search scales instead of taking the extremes.
        clip: with data: let scales cut outlier weights off.
        seed: of the random draws, 0 by default.
        held_out_data: with ``"auto"``: what the result is verified on; by default the test part of a bundled set, one
            half of a file.
        metric: with ``"auto"``: see ``lstm_edge.validate``.
        max_drop: with ``"auto"``: the budget, ``"0.5pt"`` in points or ``"0.5%"`` of the source's value.
        confidence: with ``"auto"``: of the bound that must keep within the budget, 0.95 by default.
        prefer: with ``"auto"``: ``"size"`` (the default), or ``"latency"``.
        gates: with ``"auto"``: let the four gates of an LSTM have different schemes.
        max_evaluations: with ``"auto"``: files that are built and judged at most, 200 by default.
        threads: with ``"auto"``: onnxruntime's threads, 1 by default.
        report: with ``"auto"``: an ``.html`` file to write a report to, and its figures as ``.json`` beside it.
        force: overwrite that ``.json``.
        resume: with ``"auto"``: go on with the interrupted search of this ``output``.
        rounder: rounds the matrices, instead of ``data``; see ``lstm_edge_exporters.quantize``.
        calibration_sha256: of the data that the rounder was made with.
        on_evaluation: with ``"auto"``: called after each file that was built and judged.
        progress: called with one line for each thing that is being done.

    Returns:
        A ``QuantizationReport``; with ``"auto"`` a ``BudgetReport``, whose ``check()`` raises where no mix keeps
        within the budget (nothing is written then).

    Raises:
        InputError: an option is out of its range, or goes with another scheme.
        CoverageError: a recurrent layer stayed float32, and ``allow_unquantized`` is False.
        QuantizationError: unknown scheme, part or kind of layers, or nothing in the file to quantize.
        DataError: the data cannot be loaded, or there are too few.
        ArtifactError, IntegrityError: the file cannot be read.
        OutputError: a file cannot be written, or is the source.
    """
    # First of all: these are the arguments and nothing else.
    given = dict(locals())
    schemes = _parse_parts(parts)
    named = parse_columns(columns) if isinstance(columns, str) else columns
    if scheme == "auto":
        request = _search_request(given, schemes, named)
        return _search(request, report, force=force, on_evaluation=on_evaluation, progress=progress)
    _check_plain(given)
    chosen = parse_scheme(scheme, block=block, symmetric=not zero_points)
    if data is not None:
        rounder, calibration_sha256 = _calibrate(given, named, progress)
    options: dict[str, Any] = {} if rounder is None else {"rounder": rounder}
    try:
        return quantize_file(
            source,
            output,
            scheme=chosen,
            layers=layer_kinds,
            parts={name: Scheme.parse(text) if isinstance(text, str) else text for name, text in schemes.items()},
            calibration_sha256=calibration_sha256,
            allow_unquantized=allow_unquantized,
            progress=progress,
            **options,
        )
    except ArtifactError as error:
        # What parses the bytes does not know which file they came from.
        raise error if str(error).startswith(str(source)) else type(error)(f"{source}: {error}") from error


def _parse_parts(parts: Parts) -> dict[str, Scheme | str]:
    """Read ``PART=SCHEME``; a part's name may hold an equals sign, a scheme's does not."""
    if isinstance(parts, Mapping):
        return dict(parts)
    found: dict[str, Scheme | str] = {}
    for text in parts:
        part, equals, scheme = text.rpartition("=")
        if not (part and equals and scheme):
            raise InputError(f"--part {text!r}: expected PART=SCHEME, such as lstm.R=int4:128")
        if part in found:
            raise InputError(f"--part {text!r}: {part} was given a scheme before ({found[part]}); name it once")
        found[part] = scheme
    return found


def _texts(parts: Mapping[str, Scheme | str]) -> dict[str, str]:
    return {name: scheme.text if isinstance(scheme, Scheme) else scheme for name, scheme in parts.items()}


def _refuse(given: Mapping[str, Any], names: Sequence[str], reason: str) -> None:
    """Refuse options that were given though they do nothing here."""
    defaults = inspect.signature(quantize).parameters
    for name in names:
        if given[name] != defaults[name].default:
            flag = f"no_{name}" if defaults[name].default is True else name
            raise InputError(f"--{flag.replace('_', '-')} {reason}; leave it out")


def _check_plain(given: Mapping[str, Any]) -> None:
    searched = ("held_out_data", "metric", "max_drop", "confidence", "prefer", "gates", "max_evaluations", "threads")
    _refuse(given, (*searched, "report", "force", "resume"), "goes with --scheme auto")
    if given["data"] is None:
        about_data = ("columns", "calibration_samples", "compensate", "scale_search", "clip", "seed")
        _refuse(given, about_data, "is about rounding that knows the data: say with --data which")
    elif given["rounder"] is not None:
        raise InputError("rounder is given, and data would make another one: leave one of the two out")


def _calibrate(given: Mapping[str, Any], columns: Columns | None, say: Say | None) -> tuple[MatrixRounder, str]:
    from lstm_edge.precision_search.compose import rounder_for

    more = {"samples": given["calibration_samples"], "seed": given["seed"], "say": say}
    return rounder_for(
        given["source"],
        given["data"],
        columns=columns,
        compensate=given["compensate"],
        search_scales=given["scale_search"],
        clip=given["clip"],
        **{name: value for name, value in more.items() if value is not None},
    )


def _search_request(given: Mapping[str, Any], parts: Mapping[str, Scheme | str], columns: Columns | None) -> Any:
    from lstm_edge.precision_search import BudgetRequest
    from lstm_edge.validation.judge import default_metric, load_data

    own = ("block", "zero_points", "allow_unquantized", "rounder", "calibration_sha256")
    _refuse(given, own, "goes with a scheme of its own, not with --scheme auto")
    missing = [f"--{name.replace('_', '-')}" for name in ("data", "max_drop") if given[name] is None]
    if missing:
        raise InputError(
            f"--scheme auto needs {', '.join(missing)}: what to tune on, and how much of the metric may be lost"
        )
    same = ("data", "max_drop", "compensate", "clip", "gates", "resume")
    asked = ("confidence", "prefer", "max_evaluations", "calibration_samples", "seed", "threads")
    values = {name: given[name] for name in (*same, *asked) if given[name] is not None}
    return BudgetRequest(
        **values,
        source=Path(given["source"]),
        output=Path(given["output"]),
        held_out=given["held_out_data"],
        metric=given["metric"] or default_metric(load_data(given["data"], None, columns=columns)),
        search_scales=given["scale_search"],
        layers=given["layer_kinds"],
        parts=_texts(parts),
        columns=columns,
        command=_command_line(given, parts),
    )


def _command_line(given: Mapping[str, Any], parts: Mapping[str, Scheme | str]) -> str:
    """Return how to do it again on the command line: the options that differ from their defaults."""
    words = ["lstm-edge", "quantize", os.fspath(given["source"]), "--output", os.fspath(given["output"])]
    for name, parameter in inspect.signature(quantize).parameters.items():
        value = given[name]
        if name in _NOT_REPEATED or value == parameter.default:
            continue
        flag = "--" + name.replace("_", "-")
        if name == "parts":
            words += [word for part, scheme in _texts(parts).items() for word in ("--part", f"{part}={scheme}")]
        elif isinstance(value, bool):
            words.append(flag if value else f"--no-{flag.removeprefix('--')}")
        else:
            words += [flag, os.fspath(value) if isinstance(value, os.PathLike) else str(value)]
    return shlex.join(words)


def _search(
    request: Any,
    report: AnyPath | None,
    *,
    force: bool,
    on_evaluation: "Callable[[Evaluation], None] | None",
    progress: Say | None,
) -> "BudgetReport":
    from lstm_edge.precision_search import quantize_to_budget

    page = None if report is None else Path(report)
    _check_report(page, force=force)
    found = quantize_to_budget(request, progress=progress, on_evaluation=on_evaluation)
    if page is not None:
        from lstm_edge.html_report import render_report

        text = json.dumps(found.to_json(), ensure_ascii=False, indent=1, allow_nan=False)
        write_atomically(page.with_suffix(".json"), text.encode())
        write_atomically(page, render_report(found).encode())
        if progress is not None:
            progress(f"wrote {page} and {page.with_suffix('.json').name}")
    return found


def _check_report(path: Path | None, *, force: bool) -> None:
    """Refuse a report that cannot be written, or whose ``.json``, which nobody named, would be overwritten."""
    if path is None:
        if force:
            raise InputError("--force goes with --report; leave it out")
        return
    if path.suffix != ".html":
        raise OutputError(f"{path}: the name of a report must end in .html")
    figures = path.with_suffix(".json")
    for target in (path, figures):
        check_target(target)
    if figures.exists() and not force:
        raise OutputError(
            f"{figures}: this file exists, and --report writes the report's figures under that name; give the report "
            "another name, or overwrite the file with --force"
        )
    # Not after an hour of searching: the extra that draws may be missing.
    from lstm_edge.html_report import render_report  # noqa: F401
