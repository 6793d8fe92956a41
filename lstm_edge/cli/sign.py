"""``lstm-edge sign``: sign a model file."""

from pathlib import Path
from typing import Annotated

import typer

from lstm_edge.cli._arguments import add_command
from lstm_edge.cli._options import AsJson, Model, SignatureForm, SignatureName

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    add_command(app, "sign", sign)


def sign(
    model: Model,
    *,
    key: Annotated[Path, typer.Option(metavar="KEY", help="Private key, a file that only its owner may read.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Signature file. By default MODEL.onnx.sig (.sigstore.json)."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the model that is signed: letters, digits and . _ + -")
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Version that is signed: one to four numbers with dots, such as 1.4.2.")
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="End of the signature's validity: a day or time in UTC, or a span such as 90d or 12h."
        ),
    ] = None,
    format: SignatureForm = SignatureName.LSTM_EDGE,  # noqa: A002  # the option's name
    as_json: AsJson = False,
) -> None:
    """Sign a model file: its digest, name, version and expiry, in a file beside it (docs/signing.md).

    A device refuses other files with `check --trusted-key KEY.pub`, and so do `run`, `bench` and `Session`.

    For example:

        lstm-edge sign model.onnx --key fleet --name kws --version 1.4.2 --expires 365d

        lstm-edge check model.onnx --trusted-key fleet.pub --signed-name kws --minimum-version 1.4
    """
    from lstm_edge.cli._frame import print_json, printable
    from lstm_edge.fleet.signing import sign as write

    report = write(model, key=key, output=output, name=name, version=version, expires=expires, format=format.value)
    if as_json:
        print_json(report.to_json())
    else:
        typer.echo(printable(f"{report.output}: {report.signature.sentence()}"))
