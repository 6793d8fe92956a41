"""OpenSSH servers on the loopback interface, each a device of its own: own port, host key, folder and log."""

import getpass
import importlib.util
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["ROOT", "SSHD", "Device", "Fleet", "device_program", "missing_sshd"]

ROOT = Path(__file__).parents[2]
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def missing_sshd():
    """Why no server can be started here, or nothing."""
    if SSHD is None:
        return "Debian's openssh-server is not installed"
    if shutil.which("ssh-keygen") is None:
        return "there is no ssh-keygen"
    if importlib.util.find_spec("asyncssh") is None:
        return "asyncssh is not installed: pip install 'lstm-edge[deploy]'"
    return ""


def make_key(path):
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)],
        check=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


def device_program(path):
    """Write a program `lstm-edge` that runs this checkout, as a device would have it."""
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("", "exporters", "runtime"))
    path.write_text(
        f'#!/bin/sh\nPYTHONPATH={shlex.quote(paths)} exec {shlex.quote(sys.executable)} -m lstm_edge "$@"\n'
    )
    path.chmod(0o755)
    return path


class Device:
    """A server, and the folder that it keeps models in. The name of the folder has a space and quotes.

    ``root``: the folder as this machine names it; ``path``: as the device does.
    """

    def __init__(self, fleet, index):
        self.folder = fleet.folder / f"device{index}"
        self.folder.mkdir()
        self.root = self.folder / 'it\'s "kws" $HOME'
        self.path = str(self.root)
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir()
        self.fleet, self.process = fleet, None
        # Reserved by the server itself; another process could take it before, then the start fails and says so.
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.to = f"{getpass.getuser()}@127.0.0.1:{self.port}"
        self.host_key = self.folder / "host_key"
        make_key(self.host_key)

    @property
    def known_hosts_line(self):
        return f"[127.0.0.1]:{self.port} {self.host_key.with_suffix('.pub').read_text()}"

    def start(self, *, wrapper=None):
        """Start the server; ``wrapper`` is a program that gets each command in SSH_ORIGINAL_COMMAND."""
        lines = [
            "ListenAddress 127.0.0.1",
            f"Port {self.port}",
            f"HostKey {self.host_key}",
            f"AuthorizedKeysFile {self.fleet.key}.pub",
            "PidFile none",
            "StrictModes no",
            "UsePAM no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "MaxStartups 100",
            "LogLevel VERBOSE",
            # The home of a device: a start-up file of the person who runs the tests must not run.
            f"SetEnv HOME={self.folder} TMPDIR={self.temporary}",
        ]
        if wrapper is not None:
            lines.append(f"ForceCommand {wrapper}")
        config = self.folder / "sshd_config"
        config.write_text("\n".join(lines) + "\n")
        self.log = self.folder / "log"
        # A shell that holds the server ends it with the end of its input: also when the tests themselves are killed.
        command = shlex.join([SSHD, "-D", "-e", "-f", str(config)])
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["sh", "-c", f"{command} </dev/null & cat; kill $!; wait"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"sshd did not start: {self.log.read_text()}")

    def stop(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait(timeout=30)
            self.process = None

    def current(self):
        """The bytes that a service on the device would read now; nothing without a link."""
        link = self.root / "current"
        return link.read_bytes() if link.is_symlink() else None

    def names(self):
        """The digests of `current`, `previous` and `trial`; None where there is no link."""
        links = [self.root / name for name in ("current", "previous", "trial")]
        return tuple(os.readlink(link)[7:-5] if link.is_symlink() else None for link in links)


class Fleet:
    """Servers that share a key to log in with, and a file of known hosts."""

    def __init__(self, folder, count, kind=Device):
        self.folder = Path(folder)
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        self.key = self.folder / "key"
        make_key(self.key)
        self.devices = [kind(self, index) for index in range(count)]
        self.known_hosts = self.folder / "known_hosts"
        self.known_hosts.write_text("".join(device.known_hosts_line for device in self.devices))
        self.program = device_program(self.folder / "lstm-edge")

    def __enter__(self):
        try:
            for device in self.devices:
                device.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error):
        self.stop()

    def stop(self):
        for device in self.devices:
            device.stop()

    def options(self, *devices, **more):
        """Return the keyword arguments that the functions of `lstm_edge` need for these devices, all of one root."""
        chosen = devices or self.devices
        hosts = self.folder / f"fleet-{len(list(self.folder.iterdir()))}.toml"
        tables = (f"[[host]]\nto = '{device.to}'\npath = {_toml(device.path)}\n" for device in chosen)
        hosts.write_text("\n".join(tables))
        values = {"hosts": hosts, "known_hosts": self.known_hosts, "identity": self.key}
        return values | more


def _toml(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
