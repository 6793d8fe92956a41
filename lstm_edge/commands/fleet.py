"""``lstm-edge deploy``, ``status``, ``rollback`` and ``prune``: a model on many devices over SSH."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from lstm_edge.fleet.connection import read_access
from lstm_edge.fleet.hosts import Host, find_hosts
from lstm_edge.fleet.protocol import Limits, read_package
from lstm_edge.fleet.reports import Event, FleetReport, HostResult, StatusReport
from lstm_edge.fleet.rollout import (
    SIDE_BY_SIDE,
    Rollout,
    ask_all,
    deploy_one,
    prune_one,
    roll_back_one,
    run_all,
)
from lstm_edge_runtime.errors import InputError

__all__ = ["deploy", "prune", "rollback", "status"]

AnyPath = str | os.PathLike[str]


def deploy(
    model: AnyPath,
    *,
    to: Sequence[str] = (),
    hosts: AnyPath | None = None,
    path: str | None = None,
    known_hosts: AnyPath | None = None,
    identity: AnyPath | None = None,
    device_command: str | None = None,
    device_trusted_key: str | None = None,
    max_p99_us: float | None = None,
    reload: str | None = None,
    health: str | None = None,
    watch_seconds: int | None = None,
    step_seconds: int = 120,
    health_seconds: int = 10,
    canary: int = 1,
    max_failures: int = 0,
    parallel: int = SIDE_BY_SIDE,
    on_event: Callable[[Event], None] | None = None,
) -> FleetReport:
    """Bring a model to devices; implements ``lstm-edge deploy``. The report's ``check()`` raises.

    On each device the file is copied, with ``MODEL.onnx.sig`` if there is one. Its digest is compared, the device's own
    ``check`` runs it, the link ``current`` is swung to it, the service reloads, and the health command is watched. A
    failure puts the old model back.

    Args:
        model: the ``.onnx`` file.
        to: hosts, such as ``pi@board2:2222``.
        hosts: a TOML file of hosts (docs/deploy.md).
        path: folder on the devices; None is what the file says.
        known_hosts: file of trusted host keys; None for ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts.
        identity: a private key's file; None for those of ~/.ssh/config, the agent and the default files.
        device_command: command line of lstm-edge or lstm-edge-device on the devices; None finds it.
        device_trusted_key: file of a public key on the devices, which must have signed the model; None does not ask.
        max_p99_us: largest 99th percentile of a step on the device, in microseconds; None does not measure.
        reload: command line that makes the service load ``current``.
        health: command line that must succeed, once a second, after the reload.
        watch_seconds: how long; None is what the file says, or 10.
        step_seconds: limit of each step on the device.
        health_seconds: limit of one run of the health command.
        canary: number of hosts that go first; the others begin only if all of these succeeded.
        max_failures: no host is begun after more than so many have failed.
        parallel: hosts side by side, 1 to 32.
        on_event: called at each step of each host.

    Raises:
        InputError: a host, a setting or a number is not valid.
        ArtifactError, IntegrityError: the file is missing, is not a model of lstm-edge, or is damaged.
        MissingExtraError: asyncssh is not installed.
    """
    for name, value, least in (
        ("step_seconds", step_seconds, 1),
        ("health_seconds", health_seconds, 1),
        ("canary", canary, 0),
        ("max_failures", max_failures, 0),
        ("parallel", parallel, 1),
    ):
        if value < least:
            raise InputError(f"{name} is {value}, expected {least} or more")
    if parallel > SIDE_BY_SIDE:
        raise InputError(f"parallel is {parallel}, expected {SIDE_BY_SIDE} at most")
    package = read_package(Path(model))
    found = find_hosts(
        to,
        hosts,
        path=path,
        reload=reload,
        health=health,
        watch_seconds=watch_seconds,
        device_command=device_command,
        device_trusted_key=device_trusted_key,
    )
    if package.signature is None and any(host.device_trusted_key for host in found):
        raise InputError(f"{model}.sig: no such file; a trusted key is asked for: sign the model with lstm-edge sign")
    access = read_access(known_hosts, identity)
    limits = Limits(step_seconds=step_seconds, health_seconds=health_seconds, max_p99_us=max_p99_us)
    notify = on_event or _nothing
    rollout = Rollout(canary=canary, max_failures=max_failures, parallel=parallel)
    results = _run(found, lambda host: deploy_one(host, package, access, limits, notify), rollout)
    return FleetReport(command="deploy", model=package.sha256, hosts=results)


def rollback(
    *,
    to: Sequence[str] = (),
    hosts: AnyPath | None = None,
    path: str | None = None,
    known_hosts: AnyPath | None = None,
    identity: AnyPath | None = None,
    device_command: str | None = None,
    device_trusted_key: str | None = None,
    reload: str | None = None,
    health: str | None = None,
    watch_seconds: int | None = None,
    step_seconds: int = 120,
    health_seconds: int = 10,
    on_event: Callable[[Event], None] | None = None,
) -> FleetReport:
    """Let devices serve their previous model again; implements ``lstm-edge rollback``. The report's ``check()`` raises.

    The current model becomes the previous one, so a second rollback goes forward again. Where a deploy was interrupted,
    its model is taken back and nothing else happens. The hosts do not wait for each other.

    Args:
        to: hosts, such as ``pi@board2:2222``.
        hosts: a TOML file of hosts (docs/deploy.md).
        path: folder on the devices; None is what the file says.
        known_hosts: file of trusted host keys; None for ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts.
        identity: a private key's file; None for those of ~/.ssh/config, the agent and the default files.
        device_command: command line of lstm-edge or lstm-edge-device on the devices; None finds it.
        device_trusted_key: file of a public key on the devices, which must have signed the model; None does not ask.
        reload: command line that makes the service load ``current``.
        health: command line that must succeed, once a second, after the reload.
        watch_seconds: how long; None is what the file says, or 10.
        step_seconds: limit of each step on the device.
        health_seconds: limit of one run of the health command.
        on_event: called at each step of each host.

    Raises:
        InputError: a host or a setting is not valid.
        MissingExtraError: asyncssh is not installed.
    """
    found = find_hosts(
        to,
        hosts,
        path=path,
        reload=reload,
        health=health,
        watch_seconds=watch_seconds,
        device_command=device_command,
        device_trusted_key=device_trusted_key,
    )
    access = read_access(known_hosts, identity)
    limits = Limits(step_seconds=step_seconds, health_seconds=health_seconds)
    everywhere = Rollout(max_failures=len(found))
    results = _run(found, lambda host: roll_back_one(host, access, limits, on_event or _nothing), everywhere)
    return FleetReport(command="rollback", model=None, hosts=results)


def status(
    *,
    to: Sequence[str] = (),
    hosts: AnyPath | None = None,
    path: str | None = None,
    known_hosts: AnyPath | None = None,
    identity: AnyPath | None = None,
) -> StatusReport:
    """Return which models devices have; implements ``lstm-edge status``. The report's ``check()`` raises.

    Args:
        to: hosts, such as ``pi@board2:2222``.
        hosts: a TOML file of hosts (docs/deploy.md).
        path: folder on the devices; None is what the file says.
        known_hosts: file of trusted host keys; None for ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts.
        identity: a private key's file; None for those of ~/.ssh/config, the agent and the default files.

    Raises:
        InputError: a host or a setting is not valid.
        MissingExtraError: asyncssh is not installed.
    """
    found = find_hosts(to, hosts, path=path)
    return StatusReport(hosts=asyncio.run(ask_all(found, read_access(known_hosts, identity))))


def prune(
    *,
    to: Sequence[str] = (),
    hosts: AnyPath | None = None,
    path: str | None = None,
    known_hosts: AnyPath | None = None,
    identity: AnyPath | None = None,
    keep: int = 3,
) -> FleetReport:
    """Remove old models from devices; implements ``lstm-edge prune``. The report's ``check()`` raises.

    Args:
        to: hosts, such as ``pi@board2:2222``.
        hosts: a TOML file of hosts (docs/deploy.md).
        path: folder on the devices; None is what the file says.
        known_hosts: file of trusted host keys; None for ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts.
        identity: a private key's file; None for those of ~/.ssh/config, the agent and the default files.
        keep: models that are kept, the newest first. The current and the previous one count, and always stay.

    Raises:
        InputError: a host, a setting or the number is not valid.
        MissingExtraError: asyncssh is not installed.
    """
    if keep < 1:
        raise InputError(f"keep is {keep}, expected 1 or more")
    found = find_hosts(to, hosts, path=path)
    access = read_access(known_hosts, identity)
    results = _run(found, lambda host: prune_one(host, keep, access), Rollout(max_failures=len(found)))
    return FleetReport(command="prune", model=None, hosts=results)


def _run(
    hosts: Sequence[Host], work: Callable[[Host], Awaitable[HostResult]], rollout: Rollout
) -> tuple[HostResult, ...]:
    return asyncio.run(run_all(hosts, work, rollout))


def _nothing(event: Event) -> None:
    """Ignore an event."""
    del event
