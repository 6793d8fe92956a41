"""`lstm-edge data check`: print what a file of data is understood to be."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from lstm_edge.cli._arguments import add_command
from lstm_edge.cli._frame import CommandGroup
from lstm_edge.cli._options import (
    AsJson,
    ColumnSpec,
    MissingName,
    MissingRule,
    StepEvery,
    Targets,
    TaskChoice,
    arguments,
)
from lstm_edge.refusals import refuse_data

if TYPE_CHECKING:
    from lstm_edge.data.report import DataReport

__all__ = ["SUBCOMMANDS", "add_to"]

SUBCOMMANDS = ("check",)
HELP = "Look at data before training, calibration or validation."
# Rows of each printed table; --json prints all.
MOST_ROWS = 20

EPILOG = """
Exit code 0: the other commands take the file with these options; 1: they refuse it for gaps, repeated steps or missing
values; 2: the file cannot be read, or wrong usage.

Examples:

`lstm-edge data check sensors.csv --columns step=time,target=state`

`lstm-edge data check sensors.parquet --step-every 100ms --missing ffill --json`
"""


def add_to(app: typer.Typer) -> None:
    """Add the group `data`."""
    group = typer.Typer(
        cls=CommandGroup, no_args_is_help=True, help="Look at data before training, calibration or validation."
    )

    @group.callback()
    def _group() -> None:
        """Keep `check` a word of its own: typer folds a group of one command."""

    add_command(group, "check", check, epilog=EPILOG)
    app.add_typer(group, name="data", help=HELP)


def check(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A table, `.npz`, `.npy`, `.jsonl` or text file, or a bundled name.")
    ],
    *,
    columns: ColumnSpec = None,
    step_every: StepEvery = None,
    missing: MissingRule = MissingName.REFUSE,
    targets: Targets = None,
    task: TaskChoice = None,
    as_json: AsJson = False,
) -> None:
    """Print what a file is understood to be: sequences, columns, classes, gaps, missing values, first values."""
    values = arguments({name: value for name, value in locals().items() if name != "as_json"})
    refuse_data(file)
    from lstm_edge.cli._frame import print_error, print_json
    from lstm_edge.commands.data import check_data as run

    report = run(**values)
    if as_json:
        print_json(report.to_json())
    else:
        print_report(report)
    for problem in report.problems:
        print_error(problem)
    if not report.passed:
        raise typer.Exit(1)


def print_report(report: "DataReport") -> None:
    """Print the report as tables that fit 80 columns."""
    from lstm_edge.cli._frame import print_table

    rows = [("kind", report.kind), ("task", report.task or "-")]
    if report.kind == "text":
        rows = [("kind", report.kind), ("characters", f"{report.steps:,}")]
    else:
        # Arrays of no stated layout have their time axis where the model's is.
        steps = f"{report.steps:,}" if report.lengths is not None else "as the model's axes say"
        rows += [("sequences", f"{report.sequences:,}"), ("steps", steps)]
    if report.lengths is not None:
        lengths = report.lengths
        rows.append(("steps of a sequence", f"{lengths.least:,} to {lengths.most:,}, median {lengths.median:g}"))
    if report.spacing:
        gaps = f"{report.gap_count:,}, {report.missing_steps:,} steps missing" if report.gap_count else "none"
        if report.spacing.endswith("expected any"):
            gaps = "not looked for: --step-every any"
        rows += [("spacing", report.spacing), ("gaps", gaps), ("repeated steps", f"{report.repeat_count:,}")]
    if any(column.role in ("step", "sequence") for column in report.columns):
        rows.append(("missing cells", f"{report.missing_cells:,}"))
    print_table(("data", report.name), rows)
    facts = [(c.name, c.role, c.values, f"{c.missing:,}" if c.missing else "") for c in report.columns]
    print_table(("column", "role", "values", "missing"), _cut(facts))
    shown = max((len(column.first) for column in report.columns), default=0)
    first = [(column.name, *column.first, *[""] * (shown - len(column.first))) for column in report.columns]
    print_table(("first values", *map(str, range(1, shown + 1))), _cut(first))
    if report.classes:
        print_table(("class", report.classes_of), _cut([(name, f"{n:,}") for name, n in report.classes.items()]))
    if report.gaps:
        found = [(g.sequence, g.before, g.after, f"{g.missing:,}", f"{g.line_before}, {g.line}") for g in report.gaps]
        print_table(("gap in", "from step", "to step", "missing", "rows"), found)
    if report.repeats:
        repeats = [(r.sequence, r.step, f"{r.first_line}, {r.line}") for r in report.repeats]
        print_table(("repeated in", "step", "rows"), repeats)
    for note in report.notes:
        typer.echo(f"note: {note}")


def _cut(rows: Sequence[tuple[str, ...]]) -> Sequence[tuple[str, ...]]:
    """Return at most 20 rows; a last one counts the others."""
    if len(rows) <= MOST_ROWS:
        return rows
    more = (f"... {len(rows) - MOST_ROWS + 1:,} more", *[""] * (len(rows[0]) - 1))
    return [*rows[: MOST_ROWS - 1], more]
