"""A real PostgreSQL server for tests, where one is installed."""

import glob
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

__all__ = ["PATIENCE_S", "postgresql_folder", "server", "wait_for"]

# Nothing is decided by it: what takes so long hangs, on a loaded machine too.
PATIENCE_S = 600


def wait_for(condition):
    """Wait until a function without arguments is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def postgresql_folder():
    """Where the server's programs are, or None: Debian keeps them off the path."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    path = found[-1] if found else shutil.which("initdb")
    return None if path is None else Path(path).parent


@contextmanager
def server(programs):
    """A server of its own on a loopback port, run by an unprivileged user, stopped by its own process id."""
    as_user = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="lstm-edge-postgresql-"))
    if as_user:
        shutil.chown(folder, "nobody")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {"PATH": os.defpath, "LC_ALL": "C"}
    options = {"cwd": folder, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        setup = [programs / "initdb", "-D", folder / "data", "-U", "me", "-A", "trust", "-N"]
        subprocess.run(setup, check=True, **options, **as_user)
        settings = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off"]
        command = [programs / "postgres", "-D", folder / "data", "-p", str(port), *settings]
        process = subprocess.Popen(command, **options, **as_user)
        try:
            wait_for(lambda: accepts(port) or process.poll() is not None)
            assert process.poll() is None, "the server did not start"
            yield f"postgresql://me@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=PATIENCE_S)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def accepts(port):
    import psycopg

    try:
        psycopg.connect(f"host=127.0.0.1 port={port} user=me dbname=postgres", connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
