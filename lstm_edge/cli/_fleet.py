"""What the commands about many devices share: their options, the progress of each host, the report."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lstm_edge.cli._frame import print_json, print_table, printable, progress
from lstm_edge_runtime.cli.verbosity import current_verbosity

if TYPE_CHECKING:
    from lstm_edge.fleet.reports import Event, FleetReport, StatusReport

__all__ = [
    "DeviceCommand",
    "DevicePath",
    "DeviceTrustedKey",
    "Health",
    "HealthSeconds",
    "Hosts",
    "Identity",
    "KnownHosts",
    "Reload",
    "StepSeconds",
    "To",
    "WatchSeconds",
    "print_report",
    "show_events",
]

To = Annotated[
    list[str] | None, typer.Option(metavar="[USER@]HOST[:PORT]", help="A device. May be given several times.")
]
Hosts = Annotated[Path | None, typer.Option(metavar="FILE.toml", help="File of devices (docs/deploy.md).")]
DevicePath = Annotated[
    str | None, typer.Option("--path", metavar="FOLDER", help="Folder on the devices that has the models.")
]
KnownHosts = Annotated[
    Path | None,
    typer.Option(help="File of trusted host keys. By default ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts."),
]
Identity = Annotated[
    Path | None,
    typer.Option(help="Private key to log in with. By default those of ~/.ssh/config, ssh-agent and ~/.ssh."),
]
DeviceCommand = Annotated[
    str | None,
    typer.Option(
        metavar="COMMAND",
        help="Command line of lstm-edge or lstm-edge-device on the devices. By default it is found there.",
    ),
]
DeviceTrustedKey = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Public key's file on the devices; their check refuses what it did not sign."),
]
Reload = Annotated[
    str | None,
    typer.Option(metavar="COMMAND", help="Command line that makes the service load the model, after each swing."),
]
Health = Annotated[
    str | None,
    typer.Option(metavar="COMMAND", help="Command line that must succeed once a second while the device is watched."),
]
WatchSeconds = Annotated[
    int | None, typer.Option(min=0, help="Time to watch, in seconds. [default: the file's, or 10]")
]
StepSeconds = Annotated[int, typer.Option(min=1, help="Limit of each step on a device, in seconds.")]
HealthSeconds = Annotated[int, typer.Option(min=1, help="Limit of one run of the health command, in seconds.")]


@contextmanager
def show_events() -> "Iterator[Callable[[Event], None]]":
    """Show the steps of each host while the block runs: a line for each on a terminal, else a line when one ends.

    Yields:
        what is called with each event.
    """
    from rich.console import Console
    from rich.progress import Progress, TaskID, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    tasks: dict[str, TaskID] = {}
    ends = ("deployed", "unchanged", "rolled back", "failed")
    columns = (TextColumn("{task.fields[host]}"), TextColumn("{task.fields[step]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal or current_verbosity().quiet) as live:

        def show(event: "Event") -> None:
            host, step = printable(event.host), event.step
            if not console.is_terminal:
                if step in ends:
                    progress(f"{host}: {step}")
                return
            if event.total_bytes:
                step = f"{step} {event.sent_bytes * 100 // event.total_bytes} %"
            if event.host not in tasks:
                tasks[event.host] = live.add_task("", total=1, host=host, step=step)
            live.update(tasks[event.host], step=step, completed=int(event.step in ends))

        yield show


def print_report(report: "FleetReport | StatusReport", *, as_json: bool) -> None:
    """Print the table and the sentences, or one JSON object; then raise where a host failed."""
    if as_json:
        print_json(report.to_json())
    else:
        print_table(report.columns(), report.rows())
        for sentence in report.sentences():
            typer.echo(printable(" ".join(sentence.split())))
    report.check()
