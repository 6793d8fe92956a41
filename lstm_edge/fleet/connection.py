"""An SSH connection to a device: the only file that knows asyncssh. Host keys are always verified."""

import asyncio
import os
import secrets
import shlex
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lstm_edge._imports import extra_named
from lstm_edge.fleet.hosts import Host
from lstm_edge.fleet.scripts import script
from lstm_edge_runtime.errors import DeployError, InputError, first_line

__all__ = ["Access", "Answer", "Connection", "Job", "Pipe", "Said", "connect", "last_line", "read_access"]

# Bytes of a command's output that are kept: what ends it explains a failure, and a report of `bench` has 2 KiB.
_KEPT = 1 << 20
_CHUNK = 1 << 16
_CONNECT_SECONDS = 20
# A device that is gone is noticed after this many seconds times three.
_KEEPALIVE_SECONDS = 10


@dataclass(frozen=True, kw_only=True)
class Access:
    """How devices are reached. ``known_hosts``: asyncssh's object; ``identity``: a private key's file, or None."""

    known_hosts: Any
    known_hosts_files: str
    identity: str | None


class Said(NamedTuple):
    """A line of our scripts: a word, the rest, and the last line that a command printed before it."""

    word: str
    rest: str
    before: str = ""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command on a device gave; ``said`` has the lines that our scripts said."""

    status: int
    said: tuple[Said, ...]
    out: str
    err: str


def read_access(known_hosts: str | os.PathLike[str] | None, identity: str | os.PathLike[str] | None) -> Access:
    """Read the trusted host keys.

    Args:
        known_hosts: a file in OpenSSH's format; None for ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts.
        identity: a private key's file; None for the keys that ~/.ssh/config names, the agent and the default files.

    Raises:
        InputError: a named file cannot be read.
        MissingExtraError: asyncssh is not installed.
    """
    with extra_named("a connection over SSH"):
        import asyncssh

    files = [os.fspath(known_hosts)] if known_hosts is not None else []
    if known_hosts is None:
        usual = (Path("~/.ssh/known_hosts").expanduser(), Path("/etc/ssh/ssh_known_hosts"))
        files = [str(path) for path in usual if path.is_file()]
    try:
        keys = asyncssh.read_known_hosts(files)
    except (OSError, ValueError, UnicodeError) as error:
        raise InputError(f"known hosts {', '.join(files)}: cannot be read: {first_line(error)}") from error
    if identity is not None:
        try:
            asyncssh.read_private_key(os.fspath(identity))
        except (OSError, ValueError, asyncssh.KeyEncryptionError) as error:
            raise InputError(
                f"identity {os.fspath(identity)}: not a private key that can be read: {first_line(error)}. Give a key "
                "with a passphrase to ssh-agent"
            ) from error
    return Access(
        known_hosts=keys,
        known_hosts_files=" and ".join(files) or "~/.ssh/known_hosts",
        identity=None if identity is None else os.fspath(identity),
    )


@asynccontextmanager
async def connect(host: Host, access: Access) -> "AsyncIterator[Connection]":
    """Connect to a device and close the connection at the end of the block.

    Raises:
        DeployError: the device cannot be reached, its host key is unknown or another one, or it refuses the login.
    """
    import asyncssh

    options: dict[str, Any] = {"client_keys": [access.identity]} if access.identity else {}
    options |= {} if host.user is None else {"username": host.user}
    options |= {} if host.port is None else {"port": host.port}
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            connection = await asyncssh.connect(
                host.name,
                known_hosts=access.known_hosts,
                preferred_auth="publickey",
                keepalive_interval=_KEEPALIVE_SECONDS,
                **options,
            )
    except asyncssh.HostKeyNotVerifiable as error:
        raise DeployError(_host_key(host, access)) from error
    except asyncssh.PermissionDenied as error:
        raise DeployError("the device refuses the login: none of the keys is in its authorized_keys") from error
    except TimeoutError as error:
        raise DeployError(f"the device did not answer within {_CONNECT_SECONDS} s") from error
    except (OSError, asyncssh.Error, ValueError) as error:
        raise DeployError(f"the device cannot be reached: {first_line(error)}") from error
    try:
        yield Connection(connection)
    finally:
        # What is still running over there sees the end of its input, and ends.
        connection.abort()
        with suppress(Exception):
            await connection.wait_closed()


def _host_key(host: Host, access: Access) -> str:
    """Return the sentence about a host key that is not trusted."""
    trusted = access.known_hosts.match(host.name, "", host.port if host.port not in (None, 22) else None)
    if any(trusted[:2]):
        return (
            f"its host key differs from the one in {access.known_hosts_files}: the device was set up again, or another "
            "one answers in its place; find out which before you change the file"
        )
    return (
        f"its host key is not in {access.known_hosts_files}: compare the fingerprint on the device "
        "(ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub) and connect once with ssh"
    )


def _command(text: str, token: str, root: str, arguments: Sequence[object]) -> str:
    """Return the command line that runs a script on the device."""
    return shlex.join(["sh", "-c", text, "lstm-edge", token, root, *map(str, arguments)])


class Connection:
    """Runs the scripts of ``lstm_edge.fleet.scripts`` on a device."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def run(
        self,
        name: str,
        root: str,
        *arguments: object,
        seconds: float,
        data: bytes | None = None,
        on_sent: Callable[[int], None] | None = None,
    ) -> Answer:
        """Run a script to its end.

        Args:
            name: of the script.
            root: folder of the device.
            arguments: of the script.
            seconds: time that it may take without an answer; each piece of ``data`` that is taken starts it again.
            data: its standard input.
            on_sent: called with the number of bytes that were sent.

        Raises:
            DeployError: the connection was lost, or the time is over.
        """
        job = await self.start(name, root, *arguments, seconds=seconds)
        try:
            if data is not None:
                # A command that ended early says why on its standard error.
                with suppress(BrokenPipeError, ConnectionError, DeployError):
                    for start in range(0, len(data), _CHUNK):
                        await job.write(data[start : start + _CHUNK], seconds)
                        if on_sent is not None:
                            on_sent(min(start + _CHUNK, len(data)))
            job.end_input()
            return await job.finish(seconds)
        finally:
            job.close()

    async def start(self, name: str, root: str, *arguments: object, seconds: float) -> "Job":
        """Start a script; its lines are read with ``Job.next``.

        Raises:
            DeployError: the connection was lost, or the device starts no command.
        """
        token = f"lstm-edge-{secrets.token_hex(8)}"
        return Job(await self._create(name, token, root, arguments, seconds), token)

    async def open(self, name: str, root: str, *arguments: object, seconds: float) -> "Pipe":
        """Start a script whose input and output are the caller's.

        Raises:
            DeployError: the connection was lost, or the device starts no command.
        """
        return Pipe(await self._create(name, "none", root, arguments, seconds))

    async def _create(self, name: str, token: str, root: str, arguments: Sequence[object], seconds: float) -> Any:
        import asyncssh

        try:
            async with asyncio.timeout(seconds):
                return await self._connection.create_process(
                    _command(script(name), token, root, arguments), encoding=None
                )
        except TimeoutError as error:
            raise DeployError(f"the device started no command within {seconds:g} s") from error
        except (OSError, asyncssh.Error) as error:
            raise DeployError(f"the connection was lost: {first_line(error)}") from error


class Pipe:
    """A program on a device with its standard input and output."""

    def __init__(self, process: Any) -> None:
        self._process = process
        self._buffer = bytearray()
        self._err = bytearray()
        self._reader = asyncio.create_task(self._read_err())

    async def _read_err(self) -> None:
        with suppress(Exception):  # a connection that breaks is the end of the output
            while piece := await self._process.stderr.read(_CHUNK):
                self._err += piece
                del self._err[:-_KEPT]

    async def write(self, data: bytes) -> None:
        """Write to the program.

        Raises:
            BrokenPipeError, ConnectionError: the program or the connection has ended.
        """
        for start in range(0, len(data), _CHUNK):
            self._process.stdin.write(data[start : start + _CHUNK])
            await self._process.stdin.drain()

    async def read_line(self) -> bytes:
        """Return the next line without its end; at the end of the output nothing."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if not await self._fill():
                return b""
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    async def read_bytes(self, size: int) -> bytes:
        """Return so many bytes; fewer at the end of the output."""
        while len(self._buffer) < size and await self._fill():
            pass
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    async def _fill(self) -> bool:
        piece = b""
        with suppress(Exception):  # a connection that breaks is the end of the output
            piece = await self._process.stdout.read(_CHUNK)
        self._buffer += piece
        return bool(piece)

    async def why(self, seconds: float) -> tuple[int | None, str]:
        """Wait for the end of the program; return its status, None for a lost connection, and its last error."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._process.wait_closed()
                await self._reader
        return self._process.returncode, last_line(self._err.decode("utf-8", "replace"))

    def close(self) -> None:
        """Close the channel; the program sees the end of its input."""
        self._process.close()
        self._reader.cancel()


class Job:
    """A script that runs on a device."""

    def __init__(self, process: Any, token: str) -> None:
        self._process, self._token = process, token.encode()
        self._said: asyncio.Queue[Said | None] = asyncio.Queue()
        self._all: list[Said] = []
        self.out, self.err = bytearray(), bytearray()
        self._before = ""
        self._readers = [asyncio.create_task(self._read_out()), asyncio.create_task(self._read_err())]

    async def _read_out(self) -> None:
        rest = b""
        with suppress(Exception):  # a connection that breaks is the end of the output
            while piece := await self._process.stdout.read(_CHUNK):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    self._take(line)
        if rest:
            self._take(rest)
        self._said.put_nowait(None)

    def _take(self, line: bytes) -> None:
        before, found, after = line.partition(self._token + b" ")
        if before or not found:
            self.out += before + b"\n"
            del self.out[:-_KEPT]
            self._before = last_line(before.decode("utf-8", "replace")) or self._before
        if found:
            word, _, rest = after.decode("utf-8", "replace").partition(" ")
            self._all.append(Said(word, rest, self._before))
            self._said.put_nowait(self._all[-1])
            self._before = ""

    async def _read_err(self) -> None:
        with suppress(Exception):
            while piece := await self._process.stderr.read(_CHUNK):
                self.err += piece
                del self.err[:-_KEPT]

    async def write(self, data: bytes, seconds: float) -> None:
        """Write to the script's standard input.

        Raises:
            DeployError: the device takes nothing for so many seconds.
            BrokenPipeError, ConnectionError: the script or the connection has ended.
        """
        self._process.stdin.write(data)
        try:
            async with asyncio.timeout(seconds):
                await self._process.stdin.drain()
        except TimeoutError as error:
            raise DeployError(f"the device took no byte for {seconds:g} s") from error

    def end_input(self) -> None:
        """Close the script's standard input."""
        with suppress(OSError):
            self._process.stdin.write_eof()

    async def next(self, seconds: float) -> Said | None:
        """Return the next line that the script says; None at the end of its output.

        Raises:
            DeployError: it says nothing for so many seconds.
        """
        try:
            async with asyncio.timeout(seconds):
                return await self._said.get()
        except TimeoutError as error:
            raise DeployError(f"the device gave no answer within {seconds:g} s") from error

    async def finish(self, seconds: float) -> Answer:
        """Wait for the end of the script.

        Raises:
            DeployError: it takes longer than so many seconds, or the connection is lost.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._process.wait_closed()
                await asyncio.gather(*self._readers)
        except TimeoutError as error:
            raise DeployError(f"the device gave no answer within {seconds:g} s") from error
        status = self._process.returncode
        if status is None:
            raise DeployError("the connection was lost")
        return Answer(
            status=status,
            said=tuple(self._all),
            out=self.out.decode("utf-8", "replace"),
            err=self.err.decode("utf-8", "replace"),
        )

    def last_error(self) -> str:
        """Return the last line of the standard error: it explains a failure."""
        return last_line(self.err.decode("utf-8", "replace"))

    def close(self) -> None:
        """Close the channel; the script sees the end of its input."""
        self._process.close()
        for reader in self._readers:
            reader.cancel()


def last_line(text: str) -> str:
    """Return the last line that is not blank, at most 300 characters of it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
