"""``lstm-edge check``: run a file's golden vectors on this device."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from lstm_edge_runtime.cli.definition import CommandDefinition
from lstm_edge_runtime.cli.inspect import print_notes
from lstm_edge_runtime.cli.options import AS_JSON, KERNELS, MODEL, PROVIDER, SIGNATURE_FORMAT, THREADS, TRUST
from lstm_edge_runtime.cli.printing import print_json, say
from lstm_edge_runtime.cli.refusals import refuse_check
from lstm_edge_runtime.cli.tables import print_table

if TYPE_CHECKING:
    from lstm_edge_runtime.library import KernelChoice
    from lstm_edge_runtime.selftest import SelfTestReport
    from lstm_edge_runtime.signature import SignatureFormat

__all__ = ["COMMAND"]

# Why a tolerance is what it is: "golden" in the table of docs/numerics.md.
_REASON = (
    "tolerance: 1e-05 for float32, since processors sum in other orders; 0.01 with integers, since a value near a half "
    "may round to either side; times the largest value of the output if that is above 1 (docs/numerics.md)"
)


def check(
    model: str,
    *,
    provider: str,
    threads: int,
    kernels: "KernelChoice",
    trusted_keys: list[Path] | None,
    signature: Path | None,
    signed_name: str | None,
    minimum_version: str | None,
    require_clock: bool,
    format: "SignatureFormat",  # noqa: A002  # the option's name
    as_json: bool,
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
    given = {name: value for name, value in locals().items() if name != "as_json"}
    refuse_check(given)
    from lstm_edge_runtime.commands.device import check as run

    report = run(**given)
    if as_json:
        print_json(report.to_json())
    else:
        print_report(report.test, report.notes)
        if report.signature is not None:
            say(report.signature.sentence())
    report.check()


def print_report(report: "SelfTestReport", notes: tuple[str, ...]) -> None:
    """Print the report as a table and one sentence, then the notes."""
    rows = [
        (o.name, f"{o.max_abs_difference:.3g}", f"{o.tolerance:.3g}", str(o.vector), str(o.index))
        for o in report.outputs
    ]
    print_table(("output", "worst difference", "tolerance", "vector", "element"), rows)
    verdict = "passed" if report.passed else "FAILED"
    verified = "verified" if report.verified else "unverified"
    say(
        f"{verdict}: {report.vectors} golden vectors, worst difference {report.worst:.3g}, "
        f"tolerance {report.tolerance:.3g} ({report.kind}); file {verified}"
    )
    say(textwrap.fill(_REASON, 80, subsequent_indent="  ", break_on_hyphens=False))
    print_notes(notes)


COMMAND = CommandDefinition(
    name="check", run=check, options=(MODEL, PROVIDER, THREADS, KERNELS, *TRUST, SIGNATURE_FORMAT, AS_JSON)
)
