"""The protocol of a device: the steps of a deploy, one function each. docs/deploy.md describes it."""

import asyncio
import hashlib
import json
import re
import shlex
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from lstm_edge.fleet.connection import Answer, Connection, Job, Said, last_line
from lstm_edge.fleet.hosts import Host
from lstm_edge.fleet.reports import DeviceStatus
from lstm_edge.fleet.scripts import script
from lstm_edge_runtime.errors import DeployError

__all__ = ["Agent", "Device", "Limits", "Package", "link_of", "model_of", "read_package"]

# The agent on the device ends a deploy after so many seconds without a beat.
_BEAT_SECONDS = 5
_SILENCE_SECONDS = 60
# What a connection and a slow device add to a limit that the device itself keeps.
_GRACE_SECONDS = 20
_LINK = re.compile(r"models/([0-9a-f]{64})\.onnx")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of the steps. ``max_p99_us``: None does not measure."""

    step_seconds: int = 120
    health_seconds: int = 10
    max_p99_us: float | None = None


@dataclass(frozen=True, kw_only=True)
class Package:
    """The file that is sent, and its signature file; None without one."""

    sha256: str
    data: bytes = field(repr=False)
    signature: bytes | None = field(repr=False, default=None)


def read_package(path: Path) -> Package:
    """Read the file that is sent, and ``MODEL.onnx.sig`` if there is one.

    Raises:
        ArtifactError: it is missing, is not an ONNX model, or is damaged.
    """
    from lstm_edge_runtime.artifact import check_integrity, read_model_bytes
    from lstm_edge_runtime.errors import ArtifactError
    from lstm_edge_runtime.model_reading import read_model
    from lstm_edge_runtime.signature import signature_path

    data = read_model_bytes(path)
    try:
        read_model(data)
        if not check_integrity(data):
            raise ArtifactError("the file has no integrity trailer: export, adopt or quantize it with lstm-edge")
    except ArtifactError as error:
        raise type(error)(f"{path}: {error}") from error
    signature = Path(signature_path(path))
    return Package(
        sha256=hashlib.sha256(data).hexdigest(),
        data=data,
        signature=signature.read_bytes() if signature.exists() else None,
    )


def link_of(sha256: str) -> str:
    """Return the target of the link ``current`` for a model."""
    return f"models/{sha256}.onnx"


def model_of(link: str) -> str | None:
    """Return the digest that a link names; the text for a file that is not ours, None for no link."""
    if link == "none":
        return None
    found = _LINK.fullmatch(link)
    return found[1] if found else link


class Device:
    """A connected device."""

    def __init__(self, connection: Connection, host: Host, limits: Limits) -> None:
        self._connection, self.host, self.limits = connection, host, limits

    async def _ask(self, name: str, *arguments: object, **options: object) -> Answer:
        """Run a script; raise what it says that failed."""
        seconds = self.limits.step_seconds + _GRACE_SECONDS
        answer = await self._connection.run(name, self.host.path, *arguments, seconds=seconds, **options)  # type: ignore[arg-type]
        for line in answer.said:
            if line.word == "failed":
                raise DeployError(_with_reason(line.rest, last_line(answer.err)))
        if answer.status != 0 and name != "step":
            raise DeployError(f"{name} ended with exit code {answer.status}: {last_line(answer.err) or 'no message'}")
        return answer

    async def _words(self, name: str, *arguments: object) -> dict[str, str]:
        """Run a script; return what it says by word."""
        return {line.word: line.rest for line in (await self._ask(name, *arguments)).said}

    async def has(self, name: str, sha256: str) -> bool:
        """Return whether ``models/NAME`` is there with a digest."""
        return "present" in (await self._words("examine", name, sha256))

    async def send(self, name: str, data: bytes, on_sent: Callable[[int], None]) -> None:
        """Write ``models/NAME.part``."""
        await self._ask("receive", name, data=data, on_sent=on_sent)

    async def finish(self, name: str, sha256: str) -> None:
        """Compare the digest of ``models/NAME.part`` and give it its name."""
        await self._ask("finish", name, sha256)

    async def command(self) -> str:
        """Return the command line that runs models on the device: the host's, or the one that is found."""
        if self.host.device_command:
            return self.host.device_command
        return shlex.quote((await self._words("locate"))["found"])

    async def help_of_run(self, command: str) -> str:
        """Return what ``run --help`` of the device's program prints."""
        return (await self._step("program", f"{command} run --help")).out

    async def inspect(self, command: str, sha256: str, options: str) -> str:
        """Return what ``inspect --json`` of the device's program prints."""
        return (await self._step("inspection", f"{command} inspect --json{options} {self.file(sha256)}")).out

    async def _step(self, name: str, command: str) -> Answer:
        """Run a step of the device's program."""
        seconds = self.limits.step_seconds
        answer = await self._ask("step", seconds, command)
        if answer.status == 124:
            raise DeployError(f"the {name} took longer than {seconds} s and was killed")
        if answer.status in (126, 127):
            raise DeployError(f"the {name} cannot run: {last_line(answer.err) or 'the program is not there'}")
        if answer.status != 0:
            reason = last_line(answer.err) or last_line(answer.out)
            raise DeployError(_with_reason(f"the {name} failed (exit code {answer.status})", reason))
        return answer

    def file(self, sha256: str, ending: str = "") -> str:
        """Return the path of a model on the device, quoted for its shell."""
        return shlex.quote(f"{self.host.path}/{link_of(sha256)}{ending}")

    async def check(self, command: str, sha256: str, *, new_signature: bool = False) -> None:
        """Run the golden vectors of a file on the device, with its kernels; verify its signature if the host has a key.

        Args:
            command: command line of the device's program.
            sha256: digest of the file.
            new_signature: the signature that counts is ``models/SHA256.onnx.sig.part``.
        """
        trust = ""
        if self.host.device_trusted_key:
            trust = f" --trusted-key {shlex.quote(self.host.device_trusted_key)}"
            trust += f" --signature {self.file(sha256, '.sig.part')}" if new_signature else ""
        await self._step("check", f"{command} check --kernels required{trust} {self.file(sha256)}")

    async def bench(self, command: str, sha256: str) -> float:
        """Return p99 of a step in microseconds, or of a sequence for a model that cannot be streamed."""
        answer = await self._step("bench", f"{command} bench --kernels required --json {self.file(sha256)}")
        try:
            values = json.loads(answer.out)
            timing = values if "p99_us" in values else values["step"] or values["sequence"]
            return float(timing["p99_us"])
        except (ValueError, KeyError, TypeError) as error:
            raise DeployError(f"the bench printed no p99: {last_line(answer.out)!r}") from error

    async def status(self) -> DeviceStatus:
        """Return what the device has."""
        said = (await self._ask("status")).said
        words = {line.word: line.rest for line in said}
        current = model_of(words["current"])
        digest = words.get("digest")
        whole = None if current is None else digest == current
        sentence = ""
        if whole is False:
            sentence = (
                "the current file is missing" if digest is None else "the current file is not the one of its name"
            )
        return DeviceStatus(
            host=self.host.label,
            state="busy" if "busy" in words else "interrupted" if "trial" in words else "idle",
            current=current,
            previous=model_of(words["previous"]),
            whole=whole,
            models=tuple(line.rest.removesuffix(".onnx") for line in said if line.word == "model"),
            sentence=sentence,
        )

    async def prune(self, keep: int) -> tuple[str, ...]:
        """Remove models, oldest first, until ``keep`` are left; return the digests of the removed ones."""
        return tuple(line.rest for line in (await self._ask("prune", keep)).said if line.word == "removed")

    @asynccontextmanager
    async def agent(self) -> "AsyncIterator[Agent]":
        """Hold the device's lock during the block. An unfinished trial is put back at its end."""
        host, limits = self.host, self.limits
        job = await self._connection.start(
            "agent",
            host.path,
            host.reload,
            host.health,
            host.watch_seconds,
            limits.step_seconds,
            limits.health_seconds,
            _SILENCE_SECONDS,
            script("trial"),
            seconds=limits.step_seconds,
        )
        agent = Agent(job, host, limits)
        try:
            await agent.begin()
            yield agent
            await agent.end()
        finally:
            agent.close()


class Agent:
    """The process on the device that holds its lock and swings the links."""

    def __init__(self, job: Job, host: Host, limits: Limits) -> None:
        self._job, self._host, self._limits = job, host, limits
        self.current: str | None = None
        self.previous: str | None = None
        self.current_link = self.previous_link = "none"
        self.recovered = False
        self._stopped = self._reload_failed = ""
        self._beats: asyncio.Task[None] | None = None

    async def _expect(self, word: str, *, during: str, more_seconds: float = 0) -> None:
        """Wait until the agent says a word.

        Raises:
            DeployError: it says that the step failed, says nothing for too long, or ends.
        """
        seconds = self._limits.step_seconds + _GRACE_SECONDS + more_seconds
        while (line := await self._job.next(seconds)) is not None:
            if line.word == word:
                return
            self._note(line)
        raise DeployError(
            f"the connection was lost while {during}; the device puts the old model back by itself unless it had "
            "committed (lstm-edge status says)"
        )

    def _note(self, line: Said) -> None:
        """Keep what a line says; raise where it says that the step failed."""
        word, rest, before = line
        if word == "current":
            self.current_link, self.current = rest, model_of(rest)
        elif word == "previous":
            self.previous_link, self.previous = rest, model_of(rest)
        elif word == "recovered":
            self.recovered = True
        elif word == "failed":
            raise DeployError(_with_reason(rest, self._job.last_error()))
        elif word == "stopped":
            self._stopped = _with_reason(rest, before)
        elif word == "reload-failed":
            self._reload_failed = rest
        elif word == "returned":
            now = "no model is current, as before" if self.current_link == "none" else "the old model is back"
            sentence = f"{self._stopped}; {now}"
            if self._reload_failed:
                sentence += f", but its reload failed too (exit code {self._reload_failed})"
            raise DeployError(sentence)

    async def begin(self) -> None:
        """Wait for the lock.

        Raises:
            DeployError: another deploy has it, or the folder cannot be written.
        """
        await self._expect("ready", during="locking")
        self._beats = asyncio.create_task(self._beat())

    async def _beat(self) -> None:
        with suppress(OSError, DeployError):
            while True:
                await asyncio.sleep(_BEAT_SECONDS)
                await self._order("beat")

    async def _order(self, text: str) -> None:
        try:
            await self._job.write(f"{text}\n".encode(), self._limits.step_seconds)
        except OSError as error:
            raise DeployError("the connection was lost; the device puts the old model back by itself") from error

    async def swing(self, link: str, notify: Callable[[str], None]) -> None:
        """Swing ``current`` to a link, reload, and watch the health command.

        Raises:
            DeployError: one of them failed; the old model is back.
        """
        await self._order(f"try {link}")
        await self._expect("swung", during="swinging")
        notify("swung")
        if self._host.reload:
            await self._expect("reloaded", during="reloading")
            notify("reloaded")
        if self._host.health:
            notify("watching")
        more = self._host.watch_seconds + self._limits.health_seconds
        await self._expect("watched", during="watching", more_seconds=more)
        notify("watched")

    async def commit(self) -> None:
        """Keep what ``current`` names, and let ``previous`` name the old model.

        Raises:
            DeployError: the device did not confirm it.
        """
        await self._order("commit")
        await self._expect("committed", during="committing")

    async def end(self) -> None:
        """Give the lock back."""
        with suppress(OSError, DeployError):
            await self._order("end")
            await self._expect("ended", during="ending")

    def close(self) -> None:
        """Close the channel; the agent sees the end of its input."""
        if self._beats is not None:
            self._beats.cancel()
        self._job.close()


def _with_reason(sentence: str, reason: str) -> str:
    return f"{sentence}: {reason}" if reason else sentence
