"""`lstm-edge quantize --scheme auto`: runs the search with a bar, prints and writes its report."""

import shlex
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lstm_edge.cli._bar import progress_bar
from lstm_edge.cli._frame import print_error, print_json, print_table, printable, progress, shortened

if TYPE_CHECKING:
    from lstm_edge.precision_search import BudgetReport, Evaluation

__all__ = ["Auto", "quantize_automatically"]

# An interrupted search is a result that is not there, not one over the budget (1): a script may call it with --resume.
INTERRUPTED = 2


@dataclass(frozen=True, kw_only=True)
class Auto:
    """What the command was given: fields of ``BudgetRequest``, and where the report goes.

    ``force``: overwrite a ``.json`` beside the report without asking.
    """

    options: dict[str, Any]
    columns: str | None
    report: Path | None
    force: bool
    as_json: bool


def quantize_automatically(auto: Auto, context: typer.Context) -> None:
    """Search, print, write the report; exit 1 where nothing keeps within the budget, 2 when interrupted."""
    from lstm_edge.data import parse_columns
    from lstm_edge.precision_search import BudgetRequest, quantize_to_budget
    from lstm_edge.validation.judge import default_metric, load_data

    named = None if auto.columns is None else parse_columns(auto.columns)
    metric = auto.options["metric"] or default_metric(load_data(auto.options["data"], None, columns=named))
    request = BudgetRequest(**(auto.options | {"metric": metric}), columns=named, command=command_line(context))
    _check_report(auto.report, force=auto.force)
    try:
        with progress_bar("searching", request.max_evaluations) as update:

            def on_evaluation(found: "Evaluation") -> None:
                update(found.number, f"{found.stage}, {found.bytes:,} bytes")

            report = quantize_to_budget(request, progress=progress, on_evaluation=on_evaluation)
    except KeyboardInterrupt:
        kept = f"{request.journal} keeps what was measured; go on from it with --resume"
        print_error(f"interrupted: {kept if request.journal.exists() else 'nothing was measured yet'}")
        raise typer.Exit(INTERRUPTED) from None
    _write(report, auto.report)
    if auto.as_json:
        print_json(report.to_json())
    else:
        _print(report)
    report.check()


def command_line(context: typer.Context) -> str:
    """Return how to do it again: the options that were given, without ``--resume`` and ``--force``."""
    words = ["lstm-edge", context.info_name or ""]
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        value = context.params.get(name)
        if source is None or source.name != "COMMANDLINE" or name in ("resume", "force"):
            continue
        flag = [parameter.opts[0]] if parameter.param_type_name == "option" else []
        if value is False:
            words += parameter.secondary_opts
            continue
        if value is True:
            words += flag
            continue
        for entry in value if isinstance(value, list | tuple) else [value]:
            words += [*flag, str(entry.value if isinstance(entry, Enum) else entry)]
    return shlex.join(words)


def _check_report(path: Path | None, *, force: bool) -> None:
    """Refuse a report that cannot be written, and ask before a ``.json`` that nobody named is overwritten."""
    from lstm_edge_runtime.errors import InputError, OutputError
    from lstm_edge_runtime.writing import check_target

    if path is None:
        if force:
            raise InputError("--force goes with --report; leave it out")
        return
    if path.suffix != ".html":
        raise OutputError(f"{path}: the name of a report must end in .html")
    figures = path.with_suffix(".json")
    for target in (path, figures):
        check_target(target)
    if figures.exists() and not force and not _may_overwrite(figures):
        raise OutputError(
            f"{figures}: this file exists, and --report writes the report's figures under that name; give the report "
            "another name, or overwrite the file with --force"
        )
    # Not after an hour of searching: the extra that draws may be missing.
    from lstm_edge.html_report import render_report  # noqa: F401


def _may_overwrite(path: Path) -> bool:
    """Ask on a terminal. Without one, return False."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    # typer.confirm would print a space on standard output, which is for results.
    typer.echo(f"{printable(str(path))} exists. Overwrite it? [y/N] ", nl=False, err=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _write(report: "BudgetReport", path: Path | None) -> None:
    import json

    from lstm_edge_runtime.writing import write_atomically

    if path is None:
        return
    from lstm_edge.html_report import render_report

    text = json.dumps(report.to_json(), ensure_ascii=False, indent=1, allow_nan=False)
    write_atomically(path.with_suffix(".json"), text.encode())
    write_atomically(path, render_report(report).encode())
    progress(f"wrote {path} and {path.with_suffix('.json').name}")


def _print(report: "BudgetReport") -> None:
    alone = report.sensitivity_rows()
    names = shortened([row[0] for row in alone])
    print_table(
        ("part alone", "scheme", "bytes", "drop", "signal to noise"),
        [(name, *row[1:]) for name, row in zip(names, alone, strict=True)],
    )
    if report.passed:
        rows = report.layer_rows()
        names = shortened([row[0] for row in rows])
        print_table(
            ("layer", "scheme", "bytes before", "after"),
            [(name, *row[1:]) for name, row in zip(names, rows, strict=True)],
        )
    print_table(("budget", ""), report.rows())
