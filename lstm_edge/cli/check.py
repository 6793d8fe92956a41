"""``lstm-edge check``: run a file's golden vectors on this device."""

from typing import TYPE_CHECKING, cast

import typer

from lstm_edge.cli._arguments import Command
from lstm_edge.cli._options import (
    AsJson,
    Kernels,
    MinimumVersion,
    Model,
    Provider,
    RequireClock,
    Signature,
    SignatureForm,
    SignatureName,
    SignedName,
    Threads,
    TrustedKeys,
)

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
    trusted_keys: TrustedKeys = None,
    signature: Signature = None,
    signed_name: SignedName = None,
    minimum_version: MinimumVersion = None,
    require_clock: RequireClock = False,
    format: SignatureForm = SignatureName.LSTM_EDGE,  # noqa: A002  # the option's name
    as_json: AsJson = False,
) -> None:
    """Run the file's golden vectors on this device and compare the outputs with the stored ones.

    With --trusted-key the file is refused before it is parsed, unless one of the keys signed it.

    Exit code 1: the worst difference is over the file's tolerance, the file is damaged, or its signature is refused.
    Exit code 2: the file cannot be read, or has no golden vectors.

    For example:

        lstm-edge check model.onnx

        lstm-edge check model.onnx --json

        lstm-edge check model.onnx --trusted-key fleet.pub --minimum-version 1.4
    """
    from lstm_edge.cli._frame import print_json
    from lstm_edge.commands.device import check as run

    report = run(
        model,
        provider=provider,
        threads=threads,
        kernels=cast("KernelChoice", kernels),
        trusted_keys=trusted_keys,
        signature=signature,
        signed_name=signed_name,
        minimum_version=minimum_version,
        require_clock=require_clock,
        format=format.value,
    )
    if as_json:
        print_json(report.to_json())
    else:
        print_report(report.test, report.notes)
        if report.signature is not None:
            typer.echo(report.signature.sentence())
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
