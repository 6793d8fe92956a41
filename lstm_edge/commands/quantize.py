"""``lstm-edge quantize``: quantize to one scheme, or to the smallest assignment of schemes within a budget."""

import inspect
import json
import os
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lstm_edge.commands.old_names import accept_old_names
from lstm_edge.data import Columns, Missing, TableOptions, table_options
from lstm_edge.refusals import check_auto
from lstm_edge.refused_options import check_report_name, check_scheme
from lstm_edge_exporters.quantize import Convolutions, MatrixRounder, QuantizationReport, Scheme, parse_scheme
from lstm_edge_exporters.quantize import quantize as quantize_file
from lstm_edge_runtime.errors import ArtifactError, InputError
from lstm_edge_runtime.reference_data import ReferenceData
from lstm_edge_runtime.writing import write_atomically

if TYPE_CHECKING:
    from lstm_edge.precision_search import BudgetReport, Evaluation
    from lstm_edge.precision_search.compose import Calibrated

__all__ = ["quantize"]

AnyPath = str | os.PathLike[str]
Say = Callable[[str], None]
Parts = Mapping[str, Scheme | str] | Sequence[str]

# Options that the report's command leaves out: the command repeats the search from the start.
# The result does not depend on workers and storage; and a storage may have a password.
_NOT_REPEATED = (
    *("source", "output", "resume", "force", "workers", "storage"),
    *("rounder", "calibration_sha256", "progress", "on_evaluation", "on_workers"),
)


@accept_old_names(path="output", layers="layer_kinds")
def quantize(
    source: AnyPath,
    output: AnyPath,
    *,
    scheme: str | Scheme = "int8",
    parts: Parts = (),
    block: int | None = None,
    zero_points: bool = False,
    sparse: Literal["auto", "off", "required"] = "auto",
    layer_kinds: str = "all",
    allow_unquantized: bool = False,
    data: str | None = None,
    targets: str | None = None,
    columns: Columns | str | None = None,
    step_every: str | float | None = None,
    missing: Missing = "refuse",
    calibration_samples: int | None = None,
    reference_data: str | None = None,
    compensate: bool = True,
    scale_search: bool = True,
    clip: bool = True,
    convolutions: Literal["auto", "off", "required"] = "auto",
    seed: int | None = None,
    held_out_data: str | None = None,
    metric: str | None = None,
    max_drop: str | None = None,
    confidence: float | None = None,
    prefer: Literal["size", "latency"] | None = None,
    gates: bool = False,
    max_evaluations: int | None = None,
    threads: int | None = None,
    workers: int | None = None,
    storage: str | None = None,
    report: AnyPath | None = None,
    force: bool = False,
    resume: bool = False,
    rounder: MatrixRounder | None = None,
    calibration_sha256: str | None = None,
    on_evaluation: "Callable[[Evaluation], None] | None" = None,
    on_workers: Callable[[Sequence[str]], None] | None = None,
    progress: Say | None = None,
) -> "QuantizationReport | BudgetReport":
    """Quantize a file that has LSTM, GRU or RNN layers; implements ``lstm-edge quantize``. The source is never changed.

    Args:
        source: any ONNX file with recurrent layers; external data files are read with it.
        output: the ``.onnx`` file to write; must differ from ``source``.
        scheme: ``"int8"``, ``"int4"`` (blocks of 128; or a text such as ``"int4:32"``), ``"float16"``; ``"float32"``:
            with ``parts`` only these change; without, LSTM and GRU layers call the float32 operators that have kernels,
            and no number changes; ``"auto"``: the smallest assignment of schemes whose metric keeps ``max_drop``.
        parts: schemes of layers, or of the matrices and gates of an LSTM: ``{"lstm.R": "int4:128"}`` or
            ``["lstm.R=int4:128"]``.
        block: for int4: number of inputs that share a scale, 32 or 128; 128 by default.
        zero_points: for int4: give each block a zero point.
        sparse: for int8: zero blocks of recurrent weights (docs/sparse.md): ``"auto"`` leaves them out where that makes
            the file smaller and no step slower, ``"off"`` stores them, ``"required"`` fails if a recurrent layer has no
            matrix that becomes smaller without them.
        layer_kinds: ``"all"``, or ``"recurrent"`` to keep linear layers and embeddings unchanged.
        allow_unquantized: accept recurrent layers that stay float32.
        data: calibration data of any form that fits the model, and with ``"auto"`` the tuning data; a bundled name or a
            file (docs/data.md).
        targets: for data that are an ``.npy`` file of the input: the ``.npy`` file of the targets.
        columns: roles of the columns of a table.
        step_every: expected spacing of the steps of a table: ``"1s"``, ``"100ms"``, ``0.5``, or ``"any"``; None: 1 for
            integers, any even spacing otherwise.
        missing: what becomes of missing cells and steps of a table: ``"refuse"``, ``"ffill"`` or ``"drop"``.
        calibration_samples: number of sequences, or of chunks of 256 tokens; 128 by default.
        reference_data: data whose distribution the card records, so that ``Metrics`` can tell drift on a device (with a
            fixed scheme); ``data`` by default.
        compensate: with data: compensate the rounding errors of earlier weights.
        scale_search: with data: search scales instead of taking the extremes.
        clip: with data: allow scales that clip outlier weights.
        convolutions: with data: ``"auto"``: with int8, convolutions become int8 with fixed activation scales where that
            is faster by their shapes and costs the outputs little; ``"off"``: they stay float32; ``"required"``: all
            become int8, or the call raises. ``parts`` override it: ``"conv=int8:static"``, ``"conv=float32"``.
        seed: random seed, 0 by default.
        held_out_data: with ``"auto"``: data that verifies the result; by default the test part of a bundled set, or one
            half of a file.
        metric: with ``"auto"``: see ``lstm_edge.validate``.
        max_drop: with ``"auto"``: the budget, ``"0.5pt"`` in points or ``"0.5%"`` of the source's value.
        confidence: with ``"auto"``: confidence level of the upper bound that must stay within the budget, 0.95 by
            default.
        prefer: with ``"auto"``: ``"size"`` (the default), or ``"latency"``.
        gates: with ``"auto"``: allow a different scheme for each gate of an LSTM.
        max_evaluations: with ``"auto"``: largest number of candidate files to build and evaluate, 200 by default.
        threads: with ``"auto"``: onnxruntime's threads, 1 by default.
        workers: with ``"auto"``: processes that evaluate candidate files at the same time, 1 by default; the result is
            the same (docs/scale.md).
        storage: with ``"auto"``: URL of a database, through which calls with the same arguments share their
            evaluations, also on other machines: ``sqlite:///FILE`` or ``postgresql://USER@HOST/NAME``.
        report: with ``"auto"``: an ``.html`` file to write a report to, and its figures as ``.json`` beside it.
        force: overwrite that ``.json``.
        resume: with ``"auto"``: continue the interrupted search of this ``output``.
        rounder: rounds the matrices; replaces ``data``; see ``lstm_edge_exporters.quantize``.
        calibration_sha256: SHA-256 of the data that the rounder was made with.
        on_evaluation: with ``"auto"``: called after each evaluation of a candidate file.
        on_workers: with ``"auto"`` and ``workers`` or ``storage``: called with what each worker process does, whenever
            that changes.
        progress: called with one line for each step of the work.

    Returns:
        A ``QuantizationReport``; with ``"auto"`` a ``BudgetReport``, whose ``check()`` raises if no assignment of
        schemes stays within the budget. Nothing is written then.

    Raises:
        InputError: an option is out of its range, or belongs to another scheme.
        CoverageError: a recurrent layer stayed float32, and ``allow_unquantized`` is False; or it did not become sparse
            where that is required.
        QuantizationError: unknown scheme, part or kind of layers, or nothing in the file to quantize.
        DataError: the data cannot be loaded, or has too few samples.
        ArtifactError, IntegrityError: the file cannot be read.
        OutputError: a file cannot be written, or is the source.
        WorkerError: an evaluation ended two worker processes.
    """
    # This must stay the first statement: locals() then holds the arguments and nothing else.
    given = dict(locals())
    schemes = _parse_parts(parts)
    table = table_options(columns, step_every, missing, targets)
    check_scheme(given, quantize)
    if scheme == "auto":
        request = _search_request(given, schemes, table)
        watch = {"on_evaluation": on_evaluation, "on_workers": on_workers}
        return _search(request, report, watch, force=force, progress=progress)
    if data is not None and rounder is not None:
        raise InputError("got both rounder and data, which makes another rounder: leave one of them out")
    chosen = parse_scheme(scheme, block=block, symmetric=not zero_points)
    _check_sparse(sparse, {chosen.kind, *(parse_scheme(part).kind for part in schemes.values())})
    if chosen.kind == "float32" and not schemes and (data is not None or rounder is not None):
        raise InputError("--scheme float32 rounds nothing, so that it takes no calibration data: leave --data out")
    options: dict[str, Any] = {}
    if data is not None:
        calibrated = _calibrate(given, table, progress)
        rounder, calibration_sha256 = calibrated.rounder, calibrated.sha256
        options["convolutions"] = Convolutions(gathered=calibrated.gathered, take=convolutions)
        options["reference"] = calibrated.reference
    if reference_data is not None:
        options["reference"] = _reference(given, table, progress)
    if rounder is not None:
        options["rounder"] = rounder
    try:
        return quantize_file(
            source,
            output,
            scheme=chosen,
            layers=layer_kinds,
            parts={name: parse_scheme(part) for name, part in schemes.items()},
            sparse=sparse,
            calibration_sha256=calibration_sha256,
            allow_unquantized=allow_unquantized,
            progress=progress,
            **options,
        )
    except ArtifactError as error:
        # The parser sees only bytes, so the message gets the path here.
        raise error if str(error).startswith(str(source)) else type(error)(f"{source}: {error}") from error


def _parse_parts(parts: Parts) -> dict[str, Scheme | str]:
    """Parse ``PART=SCHEME``; a part's name may contain an equals sign, a scheme's cannot."""
    if isinstance(parts, Mapping):
        return dict(parts)
    found: dict[str, Scheme | str] = {}
    for text in parts:
        part, equals, scheme = text.rpartition("=")
        if not (part and equals and scheme):
            raise InputError(f"--part {text!r}: expected PART=SCHEME, such as lstm.R=int4:128")
        if part in found:
            raise InputError(f"--part {text!r}: {part} already has the scheme {found[part]}; give each part once")
        found[part] = scheme
    return found


def _texts(parts: Mapping[str, Scheme | str]) -> dict[str, str]:
    """Return schemes as texts that have the block: the journal of a search is found again by them."""
    return {name: parse_scheme(scheme).text for name, scheme in parts.items()}


def _check_sparse(sparse: str, kinds: Collection[str]) -> None:
    """Refuse a choice about zero blocks where no layer becomes int8."""
    if sparse != "auto" and "int8" not in kinds:
        raise InputError(f"--sparse {sparse} is for int8 weights, and no layer becomes int8; leave it out")


def _drawn(given: Mapping[str, Any], say: Say | None) -> dict[str, Any]:
    """Return how many samples are drawn and how, where that was given."""
    more = {"samples": given["calibration_samples"], "seed": given["seed"], "say": say}
    return {name: value for name, value in more.items() if value is not None}


def _reference(given: Mapping[str, Any], table: TableOptions | None, say: Say | None) -> ReferenceData:
    from lstm_edge.precision_search.reference import reference_for

    return reference_for(given["source"], given["reference_data"], table=table, **_drawn(given, say))


def _calibrate(given: Mapping[str, Any], table: TableOptions | None, say: Say | None) -> "Calibrated":
    from lstm_edge.precision_search.compose import rounder_for

    return rounder_for(
        given["source"],
        given["data"],
        table=table,
        compensate=given["compensate"],
        search_scales=given["scale_search"],
        clip=given["clip"],
        **_drawn(given, say),
    )


def _search_request(given: Mapping[str, Any], parts: Mapping[str, Scheme | str], table: TableOptions | None) -> Any:
    from lstm_edge.precision_search import BudgetRequest
    from lstm_edge.validation.judge import default_metric, load_data

    check_auto(given)
    same = ("data", "max_drop", "compensate", "clip", "gates", "resume", "sparse")
    asked = ("confidence", "prefer", "max_evaluations", "calibration_samples", "seed", "threads", "workers", "storage")
    values = {name: given[name] for name in (*same, *asked) if given[name] is not None}
    return BudgetRequest(
        **values,
        source=Path(given["source"]),
        output=Path(given["output"]),
        held_out=given["held_out_data"],
        metric=given["metric"] or default_metric(load_data(given["data"], None, table=table), given["source"]),
        search_scales=given["scale_search"],
        layers=given["layer_kinds"],
        parts=_texts(parts),
        table=table,
        command=_command_line(given, parts),
    )


def _command_line(given: Mapping[str, Any], parts: Mapping[str, Scheme | str]) -> str:
    """Return the command line that repeats the call: the options that differ from their defaults."""
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
    watch: Mapping[str, Any],
    *,
    force: bool,
    progress: Say | None,
) -> "BudgetReport":
    from lstm_edge.precision_search import quantize_to_budget

    page = None if report is None else Path(report)
    _check_report(page, force=force)
    found = quantize_to_budget(request, progress=progress, **watch)
    if page is not None:
        from lstm_edge.html_report import render_report

        text = json.dumps(found.to_json(), ensure_ascii=False, indent=1, allow_nan=False)
        write_atomically(page.with_suffix(".json"), text.encode())
        write_atomically(page, render_report(found).encode())
        if progress is not None:
            progress(f"wrote {page} and {page.with_suffix('.json').name}")
    return found


def _check_report(path: Path | None, *, force: bool) -> None:
    """Refuse a report that cannot be written, or whose ``.json`` file already exists."""
    check_report_name(path, force=force)
    if path is None:
        return
    # Checked before the search, which may take an hour: the extra for reports may be missing.
    from lstm_edge.html_report import render_report  # noqa: F401
