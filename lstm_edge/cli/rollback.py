"""``lstm-edge rollback``: let devices serve their previous model again."""

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
from lstm_edge.cli._options import AsJson

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    add_command(app, "rollback", rollback)


def rollback(
    *,
    to: To = None,
    hosts: Hosts = None,
    path: DevicePath = None,
    known_hosts: KnownHosts = None,
    identity: Identity = None,
    device_command: DeviceCommand = None,
    device_trusted_key: DeviceTrustedKey = None,
    reload: Reload = None,
    health: Health = None,
    watch_seconds: WatchSeconds = None,
    step_seconds: StepSeconds = 120,
    health_seconds: HealthSeconds = 10,
    as_json: AsJson = False,
) -> None:
    """Let devices serve their previous model again: check there, swing the link `current`, reload, watch.

    The current model becomes the previous one: a second rollback goes forward again. Where a deploy was interrupted
    before it was confirmed, its model is taken back and nothing else happens.

    For example:

        lstm-edge rollback --to pi@board1 --path /srv/kws --reload "systemctl reload kws"

        lstm-edge rollback --hosts fleet.toml
    """
    from lstm_edge.commands.fleet import rollback as run

    with show_events() as on_event:
        report = run(
            to=to or (),
            hosts=hosts,
            path=path,
            known_hosts=known_hosts,
            identity=identity,
            device_command=device_command,
            device_trusted_key=device_trusted_key,
            reload=reload,
            health=health,
            watch_seconds=watch_seconds,
            step_seconds=step_seconds,
            health_seconds=health_seconds,
            on_event=on_event,
        )
    print_report(report, as_json=as_json)
