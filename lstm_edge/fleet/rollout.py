"""Many devices side by side: canaries first, and an end when too many fail."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from lstm_edge.fleet.connection import Access, connect
from lstm_edge.fleet.hosts import Host
from lstm_edge.fleet.protocol import Agent, Device, Limits, Package, link_of
from lstm_edge.fleet.reports import DeviceStatus, Event, HostResult
from lstm_edge_runtime.errors import DeployError, LstmEdgeError

__all__ = ["SIDE_BY_SIDE", "Rollout", "ask_all", "deploy_one", "prune_one", "roll_back_one", "run_all"]

SIDE_BY_SIDE = 32

Notify = Callable[[Event], None]


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """How many hosts at once. ``canary``: hosts that go first, 0 for none; one that fails ends the rollout."""

    canary: int = 0
    max_failures: int = 0
    parallel: int = SIDE_BY_SIDE


async def run_all(
    hosts: Sequence[Host], work: Callable[[Host], Awaitable[HostResult]], rollout: Rollout
) -> tuple[HostResult, ...]:
    """Do a piece of work on every host; returns the results in the order of the hosts.

    A host that has begun is finished. None is begun after a canary has failed, or after more than
    ``rollout.max_failures`` hosts have failed.
    """
    results: dict[int, HostResult] = {}
    slots = asyncio.Semaphore(rollout.parallel)

    def stopped(allowed: int) -> bool:
        return sum(result.result == "failed" for result in results.values()) > allowed

    async def one(index: int, allowed: int) -> None:
        async with slots:
            if not stopped(allowed):
                results[index] = await work(hosts[index])

    canaries = min(rollout.canary, len(hosts))
    await asyncio.gather(*(one(index, 0) for index in range(canaries)))
    why = "a canary failed" if stopped(0) else f"more than {rollout.max_failures} hosts failed"
    if not stopped(0):
        await asyncio.gather(*(one(index, rollout.max_failures) for index in range(canaries, len(hosts))))
    return tuple(
        results.get(index, HostResult(host=host.label, result="not tried", sentence=f"not tried, because {why}"))
        for index, host in enumerate(hosts)
    )


async def ask_all(hosts: Sequence[Host], access: Access) -> tuple[DeviceStatus, ...]:
    """Return the status of every host."""
    slots = asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(host: Host) -> DeviceStatus:
        async with slots:
            try:
                async with connect(host, access) as connection:
                    return await Device(connection, host, Limits()).status()
            except LstmEdgeError as error:
                return DeviceStatus(host=host.label, state="unreachable", sentence=str(error))

    return tuple(await asyncio.gather(*map(one, hosts)))


async def deploy_one(host: Host, package: Package, access: Access, limits: Limits, notify: Notify) -> HostResult:
    """Bring a model to a device; a failure is a result, never an exception."""

    async def work(device: Device, agent: Agent, result: HostResult) -> HostResult:
        def say(step: str) -> None:
            notify(Event(host=host.label, step=step))

        sha256, sent = package.sha256, 0
        name = f"{sha256}.onnx"
        if not await device.has(name, sha256):
            sent = len(package.data)
            await device.send(
                name,
                package.data,
                lambda done: notify(Event(host=host.label, step="sending", sent_bytes=done, total_bytes=sent)),
            )
            say("sent")
            await device.finish(name, sha256)
        say("complete")
        signature = await _send_signature(device, package)
        result = replace(result, sent_bytes=sent)
        command = await device.command()
        say("checking")
        await device.check(command, sha256, new_signature=bool(signature))
        say("checked")
        if signature:
            # Only now: the signature of a file that is already current must not be replaced by one that is refused.
            await device.finish(f"{name}.sig", signature)
        if limits.max_p99_us is not None:
            result = replace(result, p99_us=await _measure(device, command, sha256, limits.max_p99_us))
            say("measured")
        if agent.current == sha256:
            return replace(result, result="unchanged")
        await _switch(agent, link_of(sha256), say)
        return replace(result, result="deployed", after=sha256)

    return await _on_device(host, access, limits, notify, work)


async def _send_signature(device: Device, package: Package) -> str:
    """Send the signature file to ``models/SHA256.onnx.sig.part``; return its digest, or nothing if none was sent."""
    if package.signature is None:
        return ""
    name, digest = f"{package.sha256}.onnx.sig", hashlib.sha256(package.signature).hexdigest()
    if await device.has(name, digest):
        return ""
    await device.send(name, package.signature, lambda _: None)
    return digest


async def _measure(device: Device, command: str, sha256: str, limit_us: float) -> float:
    p99_us = await device.bench(command, sha256)
    if not p99_us <= limit_us:
        raise DeployError(f"the bench is too slow: p99 is {p99_us:.1f} us, the limit is {limit_us:g} us")
    return p99_us


async def _switch(agent: Agent, link: str, say: Callable[[str], None]) -> None:
    say("swinging")
    await agent.swing(link, say)
    say("committing")
    await agent.commit()
    say("committed")


async def roll_back_one(host: Host, access: Access, limits: Limits, notify: Notify) -> HostResult:
    """Swap the current model and the previous one of a device; a failure is a result, never an exception."""

    async def work(device: Device, agent: Agent, result: HostResult) -> HostResult:
        if agent.recovered:
            # A deploy was interrupted before it was confirmed: the agent has put the old model back.
            return replace(result, result="rolled back")
        previous = agent.previous
        if previous is None:
            raise DeployError("there is no previous model to go back to")
        if previous == agent.current:
            raise DeployError("the previous model is the current one")
        if link_of(previous) != agent.previous_link or not await device.has(f"{previous}.onnx", previous):
            raise DeployError(f"the previous model {agent.previous_link} is missing or is not the file of its name")
        command = await device.command()
        notify(Event(host=host.label, step="checking"))
        await device.check(command, previous)
        await _switch(agent, agent.previous_link, lambda step: notify(Event(host=host.label, step=step)))
        return replace(result, result="rolled back", after=previous)

    return await _on_device(host, access, limits, notify, work)


async def prune_one(host: Host, keep: int, access: Access) -> HostResult:
    """Remove old models of a device; a failure is a result, never an exception."""
    began = time.monotonic()
    try:
        async with connect(host, access) as connection:
            device = Device(connection, host, Limits())
            removed = await device.prune(keep)
            result = HostResult(host=host.label, result="pruned", removed=removed)
    except LstmEdgeError as error:
        result = HostResult(host=host.label, result="failed", sentence=str(error))
    return replace(result, seconds=time.monotonic() - began)


async def _on_device(
    host: Host,
    access: Access,
    limits: Limits,
    notify: Notify,
    work: Callable[[Device, Agent, HostResult], Awaitable[HostResult]],
) -> HostResult:
    """Connect, take the lock, work; an error of ours becomes a failed result."""
    began = time.monotonic()
    result = HostResult(host=host.label, result="failed")
    notify(Event(host=host.label, step="connecting"))
    try:
        async with connect(host, access) as connection:
            notify(Event(host=host.label, step="connected"))
            device = Device(connection, host, limits)
            async with device.agent() as agent:
                notify(Event(host=host.label, step="locked"))
                result = replace(result, before=agent.current, after=agent.current)
                result = await work(device, agent, result)
    except LstmEdgeError as error:
        result = replace(result, result="failed", sentence=str(error))
    result = replace(result, seconds=time.monotonic() - began)
    notify(Event(host=host.label, step=result.result))
    return result
