"""``lstm-edge status``: which models devices have."""

import typer

from lstm_edge.cli._arguments import add_command
from lstm_edge.cli._fleet import DevicePath, Hosts, Identity, KnownHosts, To, print_report
from lstm_edge.cli._options import AsJson

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    add_command(app, "status", status)


def status(
    *,
    to: To = None,
    hosts: Hosts = None,
    path: DevicePath = None,
    known_hosts: KnownHosts = None,
    identity: Identity = None,
    as_json: AsJson = False,
) -> None:
    """Print which models devices have, and whether the current file has the digest of its name.

    Exit code 1: a device cannot be reached, or its current file is missing or damaged.

    For example:

        lstm-edge status --hosts fleet.toml

        lstm-edge status --to pi@board1 --path /srv/kws --json
    """
    from lstm_edge.commands.fleet import status as run

    report = run(to=to or (), hosts=hosts, path=path, known_hosts=known_hosts, identity=identity)
    print_report(report, as_json=as_json)
