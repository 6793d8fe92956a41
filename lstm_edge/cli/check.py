"""``lstm-edge check``: run a file's golden vectors on this device."""

from typing import TYPE_CHECKING, cast

import typer

from lstm_edge.cli._arguments import Command
from lstm_edge.cli._options import AsJson, Kernels, Model, Provider, Threads

if TYPE_CHECKING:
    from lstm_edge_runtime.library import KernelChoice
    from lstm_edge_runtime.selftest import SelfTestReport

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("check", no_args_is_help=True, cls=Command)(check)


def check(
    model: Model,
    *,
    provider: Provider = "cpu",
    threads: Threads = 1,
    kernels: Kernels = "auto",
    as_json: AsJson = False,
) -> None:
    """Run the file's golden vectors on this device and compare the outputs with the stored ones.

    Exit code 1: the worst difference is over the file's tolerance, or the file is damaged. Exit code 2: the file cannot
    be read, or has no golden vectors.

    For example:

        lstm-edge check model.onnx

        lstm-edge check model.onnx --json
    """
    from lstm_edge.cli._frame import print_json
    from lstm_edge.commands.device import check as run

    report = run(model, provider=provider, threads=threads, kernels=cast("KernelChoice", kernels))
    if as_json:
        print_json(report.to_json())
    else:
        print_report(report.test, report.notes)
    report.check()


def print_report(report: "SelfTestReport", notes: tuple[str, ...]) -> None:
    """Print the report as a table and one sentence, then the notes."""
    from lstm_edge.cli._frame import print_table
    from lstm_edge.cli.inspect import print_notes

    rows = [(o.name, f"{o.max_abs_difference:.3g}", str(o.vector), str(o.index)) for o in report.outputs]
    print_table(("output", "worst difference", "vector", "element"), rows)
    verdict = "passed" if report.passed else "FAILED"
    verified = "verified" if report.verified else "unverified"
    typer.echo(
        f"{verdict}: {report.vectors} golden vectors, worst difference {report.worst:.3g}, "
        f"tolerance {report.tolerance:.3g} ({report.kind}); file {verified}"
    )
    print_notes(notes)
