"""``lstm-edge prune``: remove old models from devices."""

from typing import Annotated

import typer

from lstm_edge.cli._arguments import add_command
from lstm_edge.cli._fleet import DevicePath, Hosts, Identity, KnownHosts, To, print_report
from lstm_edge.cli._options import AsJson

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    add_command(app, "prune", prune)


def prune(
    *,
    to: To = None,
    hosts: Hosts = None,
    path: DevicePath = None,
    known_hosts: KnownHosts = None,
    identity: Identity = None,
    keep: Annotated[
        int, typer.Option(min=1, help="Models that stay, the newest first; the current and the previous one count.")
    ] = 3,
    as_json: AsJson = False,
) -> None:
    """Remove old models from devices. The current and the previous one always stay.

    For example:

        lstm-edge prune --hosts fleet.toml --keep 3

        lstm-edge prune --to pi@board1 --path /srv/kws
    """
    from lstm_edge.commands.fleet import prune as run

    report = run(to=to or (), hosts=hosts, path=path, known_hosts=known_hosts, identity=identity, keep=keep)
    print_report(report, as_json=as_json)
