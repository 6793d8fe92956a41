"""``lstm-edge bundle``: pack a model for an update system."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lstm_edge.cli._arguments import add_command
from lstm_edge.cli._fleet import DeviceCommand, DeviceTrustedKey, Health, HealthSeconds, Reload, StepSeconds
from lstm_edge.cli._options import AsJson, MinimumVersion, Model, SignedName

__all__ = ["add_to"]

_RAUC, _MENDER = "RAUC", "Mender"


class FormatName(StrEnum):
    """What `--format` takes."""

    RAUC = "rauc"
    MENDER = "mender"
    TAR = "tar"


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    add_command(app, "bundle", bundle)


def bundle(
    model: Model,
    *,
    format: Annotated[FormatName, typer.Option("--format", help="Format of the bundle.")],  # noqa: A002  # the option's name
    path: Annotated[str, typer.Option(metavar="FOLDER", help="Folder on the devices that has the models.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Bundle file. By default NAME-VERSION.tar (.raucb, .mender)."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the model. By default the signed one, or the file's.")
    ] = None,
    version: Annotated[
        str | None,
        typer.Option(help="Version: one to four numbers with dots, such as 1.4.2. By default the signed one."),
    ] = None,
    device_command: DeviceCommand = None,
    reload: Reload = None,
    health: Health = None,
    watch_seconds: Annotated[int, typer.Option(min=0, help="Time to watch, in seconds.")] = 10,
    step_seconds: StepSeconds = 120,
    health_seconds: HealthSeconds = 10,
    device_trusted_key: DeviceTrustedKey = None,
    signed_name: SignedName = None,
    minimum_version: MinimumVersion = None,
    compatible: Annotated[
        str | None,
        typer.Option(metavar="TEXT", rich_help_panel=_RAUC, help="Compatible of the devices, as system.conf has it."),
    ] = None,
    cert: Annotated[
        Path | None,
        typer.Option(metavar="PEM", rich_help_panel=_RAUC, help="Signer's certificate, a file or a PKCS#11 URL."),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="PEM",
            rich_help_panel=f"{_RAUC} and {_MENDER}",
            help="Private key that signs the bundle: required by RAUC, optional for Mender.",
        ),
    ] = None,
    device_type: Annotated[
        list[str] | None,
        typer.Option(
            "--device-type", metavar="TYPE", rich_help_panel=_MENDER, help="Type of device that takes it. Repeatable."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Pack a model for an update system: a RAUC bundle, a Mender artifact, or a tar archive with install.sh.

    On a device its script does what `deploy` does: copy, compare the digest, run `check --kernels required`, swing the
    link `current`, reload, watch. If anything fails, the old model is put back (docs/handover.md). A signature file
    MODEL.onnx.sig is packed too.

    For example:

        lstm-edge bundle m.onnx --format tar --path /srv/kws --reload "systemctl reload kws"

        lstm-edge bundle m.onnx --format rauc --path /srv/kws --compatible board --cert cert.pem --key key.pem

        lstm-edge bundle m.onnx --format mender --path /srv/kws --device-type raspberrypi4
    """
    from lstm_edge.cli._frame import print_json, printable
    from lstm_edge.commands.bundle import bundle as pack

    report = pack(
        model,
        format=format.value,
        path=path,
        output=output,
        name=name,
        version=version,
        device_command=device_command,
        reload=reload,
        health=health,
        watch_seconds=watch_seconds,
        step_seconds=step_seconds,
        health_seconds=health_seconds,
        device_trusted_key=device_trusted_key,
        signed_name=signed_name,
        minimum_version=minimum_version,
        compatible=compatible,
        cert=cert,
        key=key,
        device_type=device_type,
    )
    if as_json:
        print_json(report.to_json())
    else:
        for sentence in report.sentences():
            typer.echo(printable(sentence))
