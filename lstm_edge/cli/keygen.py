"""``lstm-edge keygen``: make a pair of keys for signing."""

from pathlib import Path
from typing import Annotated

import typer

from lstm_edge.cli._arguments import add_command
from lstm_edge.cli._options import AsJson, SignatureForm, SignatureName

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    add_command(app, "keygen", keygen)


def keygen(
    key: Annotated[Path, typer.Argument(metavar="KEY", help="File to write the private key to; KEY.pub beside it.")],
    *,
    format: SignatureForm = SignatureName.LSTM_EDGE,  # noqa: A002  # the option's name
    as_json: AsJson = False,
) -> None:
    """Make a pair of keys: KEY, which signs and has the mode 0600, and KEY.pub, which devices trust.

    Both are PEM files. Neither may exist yet. The private key is not encrypted: keep it where only you can read it.

    For example:

        lstm-edge keygen fleet

        lstm-edge sign model.onnx --key fleet --name kws --version 1.4.2
    """
    from lstm_edge.cli._frame import print_json, printable
    from lstm_edge.fleet.keys import keygen as make

    report = make(key, format=format.value)
    if as_json:
        print_json(report.to_json())
    else:
        typer.echo(printable(f"{report.private}: private key, keep it secret"))
        typer.echo(printable(f"{report.public}: public key {report.id[:16]}, for the devices"))
