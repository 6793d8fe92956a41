"""What happened on each device, as rows of a table and as JSON."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from lstm_edge_runtime.errors import DeployError

__all__ = ["DeviceStatus", "Event", "FleetReport", "HostResult", "Result", "StatusReport", "short"]

Result = Literal["deployed", "unchanged", "rolled back", "pruned", "failed", "not tried"]
_DONE = ("deployed", "unchanged", "rolled back", "pruned")


@dataclass(frozen=True, kw_only=True)
class Event:
    """A step that begins on a device; ``sent_bytes`` of ``total_bytes`` while a file is sent, else 0."""

    host: str
    step: str
    sent_bytes: int = 0
    total_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class HostResult:
    """What a command did on a device.

    ``before``, ``after``: what the link ``current`` named, a SHA-256 for a file of ours; None for nothing or unknown.
    ``sentence``: why it failed or was not tried, else empty. ``sent_bytes``: 0 if the file was there. ``p99_us``: what
    the device's ``bench`` measured, None if it was not asked. ``removed``: digests that ``prune`` removed.
    """

    host: str
    result: Result
    before: str | None = None
    after: str | None = None
    sentence: str = ""
    sent_bytes: int = 0
    p99_us: float | None = None
    removed: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class FleetReport:
    """The results of all hosts, in the order in which they were given. ``model``: SHA-256 of the file, or None."""

    command: str
    model: str | None
    hosts: tuple[HostResult, ...]

    @property
    def passed(self) -> bool:
        """Whether every host did what was asked."""
        return all(host.result in _DONE for host in self.hosts)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {**asdict(self), "passed": self.passed}

    def columns(self) -> tuple[str, ...]:
        """Return the titles of the table."""
        return ("host", "result", "before", "after", "s")

    def rows(self) -> list[tuple[str, ...]]:
        """Return the report as the rows of a table."""
        return [(h.host, h.result, short(h.before), short(h.after), f"{h.seconds:.1f}") for h in self.hosts]

    def sentences(self) -> list[str]:
        """Return a sentence for each host that failed or was not tried."""
        return [f"{host.host}: {host.sentence}" for host in self.hosts if host.result not in _DONE]

    def check(self) -> None:
        """Raise where a host did not do what was asked.

        Raises:
            DeployError: with the hosts' number.
        """
        if not self.passed:
            failed = sum(host.result == "failed" for host in self.hosts)
            left = sum(host.result == "not tried" for host in self.hosts)
            also = f", and {left} were not tried" if left else ""
            raise DeployError(f"{self.command}: {failed} of {len(self.hosts)} hosts failed{also}; see their sentences")


@dataclass(frozen=True, kw_only=True)
class DeviceStatus:
    """What a device has.

    ``current``, ``previous``: SHA-256 of the models that the links name; the link's text for a file that is not ours;
    None for no link. ``whole``: whether the current file has the digest of its name; None without one. ``models``:
    digests of the files. ``state``: ``idle``, ``busy`` (a command works on it), ``interrupted`` (a deploy ended before
    it was confirmed: the next command puts the old model back), or ``unreachable`` with a ``sentence``.
    """

    host: str
    state: Literal["idle", "busy", "interrupted", "unreachable"]
    current: str | None = None
    previous: str | None = None
    whole: bool | None = None
    models: tuple[str, ...] = ()
    sentence: str = ""


@dataclass(frozen=True, kw_only=True)
class StatusReport:
    """The status of all hosts."""

    hosts: tuple[DeviceStatus, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)

    def columns(self) -> tuple[str, ...]:
        """Return the titles of the table."""
        return ("host", "state", "current", "whole", "previous", "models")

    def rows(self) -> list[tuple[str, ...]]:
        """Return the report as the rows of a table."""
        whole = {True: "yes", False: "NO", None: "-"}
        return [
            (h.host, h.state, short(h.current), whole[h.whole], short(h.previous), str(len(h.models)))
            for h in self.hosts
        ]

    def sentences(self) -> list[str]:
        """Return a sentence for each host that is not in order."""
        return [f"{host.host}: {host.sentence}" for host in self.hosts if host.sentence]

    def check(self) -> None:
        """Raise where a device cannot be reached, or its current file is damaged.

        Raises:
            DeployError: with the hosts' number.
        """
        bad = len(self.sentences())
        if bad:
            raise DeployError(f"status: {bad} of {len(self.hosts)} hosts are not in order; see their sentences")


def short(model: str | None) -> str:
    """Return the first twelve digits of a digest, for tables."""
    return "-" if model is None else model[:12]
