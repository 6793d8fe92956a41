"""Models opened on a device for a validation: a temporary folder there, the files, a program for each."""

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

from lstm_edge.fleet.connection import Access, Connection, Job, Pipe, connect
from lstm_edge.fleet.hosts import Host
from lstm_edge.fleet.programs import CallsProgram, LinesProgram, Program
from lstm_edge.fleet.protocol import Device, Limits
from lstm_edge.fleet.remote_session import RemoteSession
from lstm_edge_runtime.artifact import read_model_bytes
from lstm_edge_runtime.errors import DeployError, DeviceError, InputError, LstmEdgeError
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.stepping import is_one_to_one

__all__ = ["RemoteModels", "with_device"]

_BEAT_SECONDS = 5
_SILENCE_SECONDS = 60
_CLEAN_SECONDS = 10

Source = str | os.PathLike[str] | bytes
Result = TypeVar("Result")


class RemoteModels:
    """Opens models on a connected device. ``facts``: of the program, by the SHA-256 of the file."""

    def __init__(self, connection: Connection, device: Device, command: str, options: str) -> None:
        self._connection, self._device, self._command, self._options = connection, device, command, options
        self._loop = asyncio.get_running_loop()
        self._programs: list[Program] = []
        self._sent: set[str] = set()
        self.facts: dict[str, dict[str, Any]] = {}
        self.program = ""

    def open(self, source: Source) -> Session:
        """Send a model and open it there; called from another thread than the connection's.

        Raises:
            ArtifactError, IntegrityError, CardError: the file cannot be read here.
            DeployError: the device refuses it, or the connection was lost.
        """
        data = source if isinstance(source, bytes) else read_model_bytes(source)
        sha256 = hashlib.sha256(data).hexdigest()
        opened: list[Program] = []
        session = RemoteSession(
            data if isinstance(source, bytes) else os.fspath(source),
            lambda arrays, continued: self._wait(opened[0].call(arrays, continued=continued)),
        )
        opened.append(self._wait(self._open(sha256, data, session)))
        return session

    def _wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except InputError as error:
            raise InputError(f"{self._device.host.label}: {error}") from error

    async def _open(self, sha256: str, data: bytes, session: Session) -> Program:
        """Send a file unless it is there, and start a program for this session: each keeps one state."""
        if sha256 not in self._sent:
            await self._device.send(f"{sha256}.onnx", data, _ignore)
            await self._device.finish(f"{sha256}.onnx", sha256)
            self._sent.add(sha256)
        seconds = self._device.limits.step_seconds

        async def start(options: str) -> Pipe:
            command = f"exec {self._command} run {options}{self._options} {self._device.file(sha256)}"
            return await self._connection.open("serve", "", self._device.host.path, command, seconds=seconds)

        program: Program | None = None
        if self.program != "lstm-edge-device":
            program = calls = CallsProgram(start, seconds)
            self._programs.append(program)
            try:
                await calls.begin()
            except DeployError:
                # Which program it is is asked only now: a start of Python takes seconds on a board.
                if self.program or await self._name_program() == "lstm-edge":
                    raise
            else:
                self.program = "lstm-edge"
        if self.program == "lstm-edge-device":
            if session.card is None or not is_one_to_one(session.card.streaming):
                raise DeployError(
                    "lstm-edge-device runs models that give an output step for each input step; install lstm-edge from "
                    "Python on the device for this one"
                )
            program = LinesProgram(start, seconds, session.inputs, session.outputs)
            program.facts = await self._facts(sha256)
            self._programs.append(program)
        assert program is not None  # one of the two programs
        self.facts[sha256] = program.facts
        return program

    async def _name_program(self) -> str:
        """Find out whether the device has lstm-edge or lstm-edge-device."""
        text = await self._device.help_of_run(self._command)
        self.program = "lstm-edge" if "--calls" in text else "lstm-edge-device" if "lstm-edge-device" in text else ""
        if not self.program:
            raise DeployError(
                f"the device's program {self._command} has no run --calls: install a newer lstm-edge there"
            )
        return self.program

    async def _facts(self, sha256: str) -> dict[str, Any]:
        text = await self._device.inspect(self._command, sha256, self._options)
        try:
            return dict(json.loads(text))
        except ValueError as error:
            raise DeployError(f"inspect printed no JSON: {text[:80]!r}") from error

    def close(self) -> None:
        """End the programs."""
        for program in self._programs:
            program.close()


@asynccontextmanager
async def _sandbox(connection: Connection, seconds: float) -> AsyncIterator[str]:
    """Hold a temporary folder on the device during the block; it is removed there also if the connection ends."""
    job = await connection.start("sandbox", "", _SILENCE_SECONDS, seconds=seconds)

    async def beat() -> None:
        with suppress(OSError, DeployError):
            while True:
                await asyncio.sleep(_BEAT_SECONDS)
                await job.write(b"beat\n", seconds)

    beats = asyncio.create_task(beat())
    try:
        said = await job.next(seconds)
        if said is None or said.word != "folder":
            raise DeployError(said.rest if said else job.last_error() or "no temporary folder can be made")
        try:
            yield said.rest
        except LstmEdgeError:
            with suppress(DeployError):  # the first error is the one to tell
                await _remove(job)
            raise
        await _remove(job)
    finally:
        beats.cancel()
        job.close()


async def _remove(job: Job) -> None:
    job.end_input()
    said = await job.next(_CLEAN_SECONDS)
    if said is None or said.word != "removed":
        raise DeployError(f"the temporary folder on the device could not be removed: {job.last_error()}")


def with_device(
    host: Host,
    access: Access,
    limits: Limits,
    options: str,
    work: Callable[[RemoteModels], Result],
) -> Result:
    """Do a piece of work with models that are open on a device; all that was made there is removed.

    Args:
        host: the device.
        access: how it is reached.
        limits: ``step_seconds`` bounds each answer.
        options: of ``run``, each with a space before it.
        work: called in another thread.

    Raises:
        DeviceError: the device cannot be reached or used; the sentence begins with the host.
    """

    async def connected() -> Result:
        try:
            async with connect(host, access) as connection, _sandbox(connection, limits.step_seconds) as folder:
                device = Device(connection, replace(host, path=folder), limits)
                models = RemoteModels(connection, device, await device.command(), options)
                try:
                    return await asyncio.to_thread(work, models)
                finally:
                    models.close()
        except DeployError as error:
            raise DeviceError(f"{host.label}: {error}") from error

    return asyncio.run(connected())


def _ignore(sent: int) -> None:
    """Ignore progress."""
    del sent
