"""``lstm-edge deploy``: bring a model to devices over SSH."""

from typing import Annotated

import typer

from lstm_edge.cli._arguments import add_command
from lstm_edge.cli._fleet import (
    DeviceCommand,
    DevicePath,
    DeviceTrustedKey,
    Health,
    HealthSeconds,
    Hosts,
    Identity,
    KnownHosts,
    Reload,
    StepSeconds,
    To,
    WatchSeconds,
    print_report,
    show_events,
)
from lstm_edge.cli._options import AsJson, Model

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    add_command(app, "deploy", deploy)


def deploy(
    model: Model,
    *,
    to: To = None,
    hosts: Hosts = None,
    path: DevicePath = None,
    known_hosts: KnownHosts = None,
    identity: Identity = None,
    device_command: DeviceCommand = None,
    device_trusted_key: DeviceTrustedKey = None,
    max_p99_us: Annotated[
        float | None,
        typer.Option(help="Largest 99th percentile of a step on the device, in us. By default it is not measured."),
    ] = None,
    reload: Reload = None,
    health: Health = None,
    watch_seconds: WatchSeconds = None,
    step_seconds: StepSeconds = 120,
    health_seconds: HealthSeconds = 10,
    canary: Annotated[
        int, typer.Option(min=0, help="Devices that go first; the others begin only if all of these succeeded.")
    ] = 1,
    max_failures: Annotated[
        int, typer.Option(min=0, help="Begin no further device after more than so many failed.")
    ] = 0,
    parallel: Annotated[int, typer.Option(min=1, max=32, metavar="N", help="Devices side by side.")] = 32,
    as_json: AsJson = False,
) -> None:
    """Bring a model to devices over SSH: copy, check there, swing the link `current`, reload, watch.

    On each device the file becomes PATH/models/SHA256.onnx, its digest is compared, and the device's own `check
    --kernels required` runs it. Then the link PATH/current is swung to it, the reload command runs, and the health
    command must succeed. If anything fails, or the connection is lost, the old model is put back (docs/deploy.md).

    Exit code 1: a device failed or was not tried; 2: wrong usage or input.

    For example:

        lstm-edge deploy m.onnx --to pi@board1 --to pi@board2:2222 --path /srv/kws --reload "systemctl reload kws"

        lstm-edge deploy m.onnx --hosts fleet.toml --max-p99-us 500 --health "systemctl is-active kws"
    """
    from lstm_edge.commands.fleet import deploy as run

    with show_events() as on_event:
        report = run(
            model,
            to=to or (),
            hosts=hosts,
            path=path,
            known_hosts=known_hosts,
            identity=identity,
            device_command=device_command,
            device_trusted_key=device_trusted_key,
            max_p99_us=max_p99_us,
            reload=reload,
            health=health,
            watch_seconds=watch_seconds,
            step_seconds=step_seconds,
            health_seconds=health_seconds,
            canary=canary,
            max_failures=max_failures,
            parallel=parallel,
            on_event=on_event,
        )
    print_report(report, as_json=as_json)
